package truth_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/rollcall-dev/rollcall/internal/emulator/truth"
	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
)

func TestMain(m *testing.M) { stacktest.Main(m) }

// fixture is a database that holds testdata/store.sql. Every change of it is rolled
// back.
type fixture struct {
	t  testing.TB
	db *pgx.Conn
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	s := &fixture{t, connect(t, stacktest.Database(t).OwnerURL)}
	sql, err := os.ReadFile("testdata/store.sql")
	if err != nil {
		t.Fatal(err)
	}
	s.exec(string(sql))
	return s
}

func connect(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return conn
}

// nested is a transaction in which Compare's is a savepoint.
type nested struct{ pgx.Tx }

func (n nested) BeginTx(ctx context.Context, _ pgx.TxOptions) (pgx.Tx, error) { return n.Begin(ctx) }

// exec runs statements in whatever transaction there is.
func (s *fixture) exec(sql string) {
	s.t.Helper()
	if _, err := s.db.PgConn().Exec(s.t.Context(), sql).ReadAll(); err != nil {
		s.t.Fatalf("%s: %v", sql, err)
	}
}

// after compares once the SQL has run, and undoes it.
func (s *fixture) after(sql, state string, o truth.Options) (truth.Report, error) {
	s.t.Helper()
	tx, err := s.db.Begin(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	defer tx.Rollback(context.Background()) //nolint:errcheck // meant
	if sql != "" {
		s.exec(sql)
	}
	return truth.Compare(s.t.Context(), strings.NewReader(state), nested{tx}, o)
}

// want says which differences there have to be after the SQL, a line each.
func (s *fixture) want(sql, state string, want ...string) truth.Report {
	s.t.Helper()
	report, err := s.after(sql, state, truth.Options{})
	if err != nil {
		s.t.Fatalf("%s: %v", sql, err)
	}
	var got []string
	for _, d := range report.Differences {
		got = append(got, d.String())
	}
	if d := cmp.Diff(want, got); d != "" {
		s.t.Errorf("%s\nwant -, got +\n%s", sql, d)
	}
	return report
}

func state(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile("testdata/state.json")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// changed is the state with words replaced, each exactly once.
func changed(t testing.TB, pairs ...string) string {
	t.Helper()
	text := state(t)
	for i := 0; i < len(pairs); i += 2 {
		if n := strings.Count(text, pairs[i]); n != 1 {
			t.Fatalf("the state has %q %d times", pairs[i], n)
		}
		text = strings.Replace(text, pairs[i], pairs[i+1], 1)
	}
	return text
}

func TestEqual(t *testing.T) {
	t.Parallel()
	report := newFixture(t).want("", state(t))
	if !report.Equal() {
		t.Error("not equal without a difference")
	}
	for _, s := range report.Resources {
		compared := 1
		if s.Resource == "users" {
			compared = 2
		}
		if want := (truth.Summary{Resource: s.Resource, Kept: true, Compared: compared}); !cmp.Equal(s, want) {
			t.Errorf("%+v, want %+v", s, want)
		}
	}
	if len(report.Resources) != 12 {
		t.Errorf("%d resources", len(report.Resources))
	}
}

// Each column of each table, made null and made something else: the change is
// found and nothing else is, but for columns that take part in no comparison.
func TestEveryColumn(t *testing.T) {
	t.Parallel()
	s := newFixture(t)
	rows, err := s.db.Query(t.Context(), `select table_name, column_name, data_type from information_schema.columns
		where table_schema = 'clerk' and column_name not in ('id', 'instance_id', 'deleted_at', 'source') order by 1, 2`)
	if err != nil {
		t.Fatal(err)
	}
	columns, err := pgx.CollectRows(rows, pgx.RowToStructByPos[struct{ Table, Name, Type string }])
	if err != nil {
		t.Fatal(err)
	}
	other := map[string]string{
		"text": `coalesce(COLUMN, '') || 'x'`, "boolean": `COLUMN is not true`, "bigint": `coalesce(COLUMN, 0) + 1`, "integer": `COLUMN + 1`, "bytea": `'\x01'`,
		"timestamp with time zone": `coalesce(COLUMN, now()) + interval '1 microsecond'`, "jsonb": `jsonb_build_array(COLUMN)`, "ARRAY": `array_append(COLUMN, null)`,
	}
	aside := strings.Fields("version synced_at stream_epoch stream_seq last_sign_in_at last_active_at latest_activity members_count pending_invitations_count total_pending_invitations plan")
	for _, c := range columns {
		table, column := "clerk."+c.Table, pgx.Identifier{c.Name}.Sanitize()
		where := fmt.Sprintf(" where id = (select min(id) from %s)", table)
		for _, value := range []string{"null", strings.ReplaceAll(other[c.Type], "COLUMN", column)} {
			var same bool
			if err := s.db.QueryRow(t.Context(), "select "+column+" is not distinct from ("+value+") from "+table+where).Scan(&same); err != nil {
				t.Fatal(err)
			}
			sql := "update " + table + " set " + column + " = " + value + where
			report, err := s.after(sql, state(t), truth.Options{})
			if err != nil {
				t.Fatal(err)
			}
			found := len(report.Differences) == 1 && report.Differences[0].Resource == c.Table && report.Differences[0].Field == c.Name &&
				report.Differences[0].Kind == truth.Different && report.Differences[0].Clerk != report.Differences[0].Store
			if want := !same && !slices.Contains(aside, c.Name); found != want || !want && !report.Equal() {
				t.Errorf("%s: %v", sql, report.Differences)
			}
		}
	}
}

func TestDifferences(t *testing.T) {
	t.Parallel()
	s := newFixture(t)
	base := state(t)
	for sql, want := range map[string][]string{
		`update clerk.users set email = 'x@a.example', created_at = '2023-11-14T22:13:20.0025Z', public_metadata = '{"n": 9007199254740993}' where id = 'user_1'`: {
			`users user_1 created_at: 1700000000001 in Clerk, 1700000000002.5 in the store`,
			`users user_1 email: "ann@a.example" in Clerk, "x@a.example" in the store`,
			`users user_1 public_metadata: {"a":{"x":9007199254740993123,"y":[1,2]},"n":1000,"odd":"��","�":0.5} in Clerk, {"n":9007199254740993} in the store`,
		},
		`delete from clerk.users where id = 'user_2'`:                                                                      {`users user_2: missing: no row`},
		`update clerk.users set deleted_at = now() where id = 'user_2'`:                                                    {`users user_2: missing: deleted in the store only`},
		`update clerk.users set source = 'stub' where id = 'user_2'`:                                                       {`users user_2: missing: only a stub`},
		`update clerk.roles set id = 'role_0'`:                                                                             {`roles role_0: extra: Clerk doesn't know it`, `roles role_1: missing: no row`},
		`update clerk.permissions set instance_id = 'ins_9'`:                                                               {`permissions perm_1: extra: of instance "ins_9", which the state doesn't have`, `permissions perm_1: missing: no row`},
		`insert into clerk.users (id, instance_id, source) values ('user_gone', 'ins_1', 'webhook')`:                       {`users user_gone: extra: deleted in Clerk at 1700000000500`},
		`insert into clerk.users (id, instance_id, source) values ('user_gone', 'ins_1', 'stub')`:                          {`users user_gone: extra: deleted in Clerk at 1700000000500`},
		`insert into clerk.users (id, instance_id, source) values ('user_made_up', 'ins_1', 'stub')`:                       nil,
		`insert into clerk.users (id, instance_id, source, deleted_at) values ('user_gone', 'ins_1', 'webhook', now())`:    nil,
		`insert into clerk.users (id, instance_id, source, deleted_at) values ('user_unknown', 'ins_9', 'webhook', now())`: nil,
	} {
		s.want(sql, base, want...)
	}
}

func TestUnverifiedEmail(t *testing.T) {
	t.Parallel()
	report := newFixture(t).want(`update clerk.users set email_addresses = jsonb_set(email_addresses, '{1,verification,status}', '"unverified"') where id = 'user_1'`,
		changed(t, `{"expire_at": null, "status": "verified"}`, `{"expire_at": null, "status": "unverified"}`),
		`users user_1 email_verified: false in Clerk, true in the store`)
	if report.Equal() {
		t.Error("equal with a difference")
	}
}

// More rows that differ than are read again at once.
func TestManyDifferences(t *testing.T) {
	t.Parallel()
	var users, want []string
	for i := range 1201 {
		users = append(users, fmt.Sprintf(`{"id":"user_%04d","username":"a"}`, i))
		want = append(want, fmt.Sprintf(`users user_%04d username: "a" in Clerk, "b" in the store`, i))
	}
	report, err := newFixture(t).after(`truncate clerk.users; insert into clerk.users (id, username, instance_id, source)
		select 'user_' || lpad(i::text, 4, '0'), 'b', 'ins_1', 'webhook' from generate_series(0, 1200) i`,
		`{"version":1,"instances":[{"id":"ins_1","users":[`+strings.Join(users, ",")+`]}]}`, truth.Options{Resources: []string{"users"}})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range report.Differences {
		got = append(got, d.String())
	}
	if d := cmp.Diff(want, got); d != "" || report.Resources[0].Different != 1201 {
		t.Errorf("%+v, want -, got +\n%s", report.Resources[0], d)
	}
}

// A membership that Clerk still lists although its user is deleted.
func TestOrphans(t *testing.T) {
	t.Parallel()
	s := newFixture(t)
	gone := changed(t, `"public_user_data": {"user_id": "user_1"}`, `"public_user_data": {"user_id": "user_gone"}`)
	s.want("", gone, `organization_memberships orgmem_1: extra: user_gone doesn't live in Clerk`)
	s.want(`update clerk.organization_memberships set deleted_at = now()`, gone)
	s.want(`delete from clerk.organization_memberships`, gone)

	// Whether a deleted payer takes the subscription along is open.
	payer := changed(t, `"payer": {"user_id": "user_1", "organization_id": ""}`, `"payer": {"user_id": "user_gone"}`)
	s.want(`update clerk.subscriptions set user_id = 'user_gone'`, payer)
	s.want(`delete from clerk.subscriptions`, payer)
}

// Clerk shows a membership with the role as it is now, and sends nothing.
func TestRoleChangedSince(t *testing.T) {
	t.Parallel()
	s := newFixture(t)
	stale := `update clerk.organization_memberships set permissions = '{}', role_name = 'Boss'`
	s.want(stale, state(t),
		`organization_memberships orgmem_1 permissions: ["org:posts:read","org:a \"b\":c"] in Clerk, [] in the store`,
		`organization_memberships orgmem_1 role_name: "Admin" in Clerk, "Boss" in the store`)
	later := changed(t, `"permissions": [], "created_at": 1700000000000, "updated_at": 1700000000000`, `"permissions": [], "created_at": 1700000000000, "updated_at": 1700000000001`)
	role := `update clerk.roles set updated_at = '2023-11-14T22:13:20.001Z';`
	s.want(role+stale, later)
	s.want(role+`update clerk.organization_memberships set role = 'org:member'`, later,
		`organization_memberships orgmem_1 role: "org:admin" in Clerk, "org:member" in the store`)
}

// Members of the state in alphabetical order, children before their parents and
// the version last, as some tools write them.
func TestAnyOrderOfMembers(t *testing.T) {
	t.Parallel()
	var sorted any
	d := json.NewDecoder(strings.NewReader(state(t)))
	d.UseNumber()
	if err := d.Decode(&sorted); err != nil {
		t.Fatal(err)
	}
	text, err := json.MarshalIndent(sorted, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	s := newFixture(t)
	s.want("", string(text))
	s.want(`update clerk.sessions set status = 'ended'; insert into clerk.sessions (id, instance_id, source) values ('sess_2', 'ins_1', 'webhook')`, string(text),
		`sessions sess_1 status: "active" in Clerk, "ended" in the store`, `sessions sess_2: extra: Clerk doesn't know it`)
}

func TestInstances(t *testing.T) {
	t.Parallel()
	s := newFixture(t)
	both := strings.TrimSuffix(strings.TrimSpace(state(t)), "]}") + `,{"id": "ins_2", "users": [{"id": "user_8"}, {"id": "user_9"}], "deleted": {"users": {"user_7": 5}}}]}`
	two := `insert into clerk.users (id, instance_id, source) values ('user_9', 'ins_2', 'webhook'), ('user_7', 'ins_2', 'webhook');
		insert into clerk.roles (id, instance_id, source) values ('role_9', 'ins_2', 'webhook')`
	differences := []string{`users user_7: extra: deleted in Clerk at 5`, `users user_8: missing: no row`, `roles role_9: extra: Clerk doesn't know it`}
	s.want(two, both, differences...)
	for id, want := range map[string]int{"ins_1": 0, "ins_2": 3} {
		report, err := s.after(two, both, truth.Options{InstanceID: id})
		if err != nil || len(report.Differences) != want {
			t.Errorf("%s: %v, %v", id, report.Differences, err)
		}
	}
	if _, err := s.after("", both, truth.Options{InstanceID: "ins_3"}); err == nil || err.Error() != "the state has no instance ins_3: it has ins_1, ins_2" {
		t.Error(err)
	}
	s.want("", `{"version": 1, "instances": []}`, extraAll(s)...)
}

// extraAll are the differences of a store where Clerk has nothing.
func extraAll(s *fixture) []string {
	report, err := s.after("", `{"version": 1, "instances": [{"id": "ins_1"}]}`, truth.Options{})
	if err != nil || len(report.Differences) != 13 {
		s.t.Fatalf("%v, %v", report.Differences, err)
	}
	var all []string
	for _, d := range report.Differences {
		all = append(all, fmt.Sprintf(`%s %s: extra: of instance "ins_1", which the state doesn't have`, d.Resource, d.ID))
	}
	return all
}

func TestWhatAStoreKeeps(t *testing.T) {
	t.Parallel()
	s := newFixture(t)
	report := s.want(`drop table clerk.roles; alter table clerk.users drop email, drop public_metadata, add shoe_size int`, state(t))
	var b strings.Builder
	if err := report.Write(&b); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"roles                     not kept by this store\n", "users                     2         0        0      0          not compared: shoe_size\n"} {
		if !strings.Contains(b.String(), line) {
			t.Errorf("no line %q in\n%s", line, b.String())
		}
	}
	only, err := s.after(`delete from clerk.users; delete from clerk.roles`, state(t), truth.Options{Resources: []string{"roles"}})
	if err != nil || len(only.Resources) != 1 || len(only.Differences) != 1 || only.Resources[0].Missing != 1 {
		t.Errorf("%+v, %v", only, err)
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	s := newFixture(t)
	for want, c := range map[string]struct {
		sql, state string
		o          truth.Options
	}{
		`no resource is called "user": there are users, organizations,`:   {state: state(t), o: truth.Options{Resources: []string{"user"}}},
		`schema nowhere of the database has none of the tables users,`:    {state: state(t), o: truth.Options{Schema: "nowhere"}},
		`table "clerk"."roles" has no column source: a store's table has`: {state: state(t), sql: `alter table clerk.roles drop source`},
		`column key of table "clerk"."roles" has a type that can't`:       {state: state(t), sql: `alter table clerk.roles drop key, add key point`},
		`the state ends in the middle, after`:                             {state: state(t)[:3000]},
		`the state has version 2, this clerkemu knows 1`:                  {state: changed(t, `"version": 1`, `"version": 2`)},
		`the state has version 0`:                                         {state: `{}`},
		`no saved state of clerkemu: byte 1 should be {`:                  {state: `[]`},
		`invalid character '<'`:                                           {state: `<html>`},
		`users, element 1: an object without an id`:                       {state: changed(t, `"id": "user_2"`, `"ID": "user_2"`)},
		`users, element 1: user_1 stands twice in the state`:              {state: changed(t, `"id": "user_2"`, `"id": "user_1"`)},
		`an instance's id has to stand before its users`:                  {state: `{"version":1,"instances":[{"users":[]}]}`},
		`the state holds an instance without an id`:                       {state: `{"version":1,"instances":[{}]}`},
	} {
		if _, err := s.after(c.sql, c.state, c.o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nwant %s…", err, want)
		}
	}
}
