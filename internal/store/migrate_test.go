package store

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap/zaptest"
	"golang.org/x/sync/errgroup"

	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
	"github.com/rollcall-dev/rollcall/streams"
)

// newStore makes a store that hasn't connected yet.
func newStore(t testing.TB, d stacktest.DB, change ...func(*Options)) *Store {
	t.Helper()
	o := Options{
		Name: "app", DatabaseURL: d.URL, MigrateDatabaseURL: d.OwnerURL, Migrate: MigrateAuto, Schema: "clerk",
		Log: zaptest.NewLogger(t), Metrics: NewMetrics(prometheus.NewRegistry()),
	}
	for _, c := range change {
		c(&o)
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func connect(t testing.TB, databaseURL string) *pgx.Conn {
	t.Helper()
	c, err := pgx.Connect(t.Context(), databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(context.Background()) })
	return c
}

func execute(t *testing.T, c *pgx.Conn, statements ...string) {
	t.Helper()
	for _, s := range statements {
		if _, err := c.Exec(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

func scan[V any](t *testing.T, c *pgx.Conn, query string, args ...any) (v V) {
	t.Helper()
	if err := c.QueryRow(t.Context(), query, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return v
}

// writeOne applies an event, from wherever the store is.
func writeOne(t *testing.T, s *Store, id string) {
	t.Helper()
	from, err := s.Position(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	work, rejected := s.Prepare([]streams.Message{event(1, "msg_"+id, "user.created", t0, map[string]any{"id": id, "updated_at": t0})})
	if len(rejected) > 0 {
		t.Fatal(rejected)
	}
	if err := s.Commit(t.Context(), work, from, streams.Position{Epoch: 1, Sequence: from.Sequence + 1}, 0, 0); err != nil {
		t.Fatal(err)
	}
}

func refused(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("not refused")
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q does not say %q", err, w)
		}
	}
}

// shape is what a migration could change.
const shape = `select string_agg(x, E'\n' order by x) from (
select c.oid || ' ' || c.relname || ' ' || c.relfilenode || ' ' || coalesce(a.attname || ' ' || a.attnum || ' ' || a.atttypid::regtype, '') || coalesce(c.relacl::text, '')
from pg_class c left join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 where c.relnamespace = 'clerk'::regnamespace) as s(x)`

func TestMigrateTwiceChangesNothing(t *testing.T) {
	t.Parallel()
	d := stacktest.Database(t)
	s, db := newStore(t, d), connect(t, d.OwnerURL)
	for range 2 {
		if err := s.Migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	before := scan[string](t, db, shape)
	if err := newStore(t, d, func(o *Options) { o.Migrate = MigrateOff }).Migrate(t.Context()); err != nil {
		t.Errorf("migrate off with all there: %v", err)
	}
	if after := scan[string](t, db, shape); after != before {
		t.Errorf("changed from\n%s\nto\n%s", before, after)
	}
	for _, table := range []string{"users", "organizations", "organization_memberships", "tombstones", "sync_status"} {
		if !strings.Contains(before, " "+table+" ") {
			t.Errorf("no table %s", table)
		}
	}
	writeOne(t, s, "user_1")
}

func TestMigrateAtOnce(t *testing.T) {
	t.Parallel()
	d := stacktest.Database(t)
	g, ctx := errgroup.WithContext(t.Context())
	for range 4 {
		s := newStore(t, d)
		g.Go(func() error { return s.Migrate(ctx) })
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
	if n := scan[int](t, connect(t, d.OwnerURL), `select count(*) from clerk.sync_status`); n != 1 {
		t.Errorf("%d status rows, want 1", n)
	}
}

// asRole is the URL of d's database for the role that owns other's.
func asRole(t *testing.T, d, other stacktest.DB) (databaseURL, role string) {
	t.Helper()
	u, err := url.Parse(d.URL)
	if err != nil {
		t.Fatal(err)
	}
	o, err := url.Parse(other.OwnerURL)
	if err != nil {
		t.Fatal(err)
	}
	u.User = o.User
	return u.String(), o.User.Username()
}

// otherWriter lets a store write as a role that owns nothing.
func otherWriter(t *testing.T) func(*Options) {
	t.Helper()
	other := stacktest.Database(t) // before the store's, so that its role goes last
	return func(o *Options) { o.DatabaseURL, _ = asRole(t, stacktest.DB{URL: o.DatabaseURL}, other) }
}

// The owner migrates; the service's role has no right to change a schema, and
// gets what it needs to write and no more.
func TestMigrateAsAnotherRole(t *testing.T) {
	t.Parallel()
	other := stacktest.Database(t) // first, so that its role goes last
	d := stacktest.Database(t)
	app, role := asRole(t, d, other)
	s := newStore(t, d, func(o *Options) { o.DatabaseURL = app })
	writeOne(t, s, "user_1")
	writer, owner := connect(t, app), connect(t, d.OwnerURL)
	if id := scan[string](t, writer, `select id from clerk.users_live`); id != "user_1" {
		t.Errorf("the role reads %q", id)
	}
	if _, err := writer.Exec(t.Context(), `alter table clerk.users add column x int`); err == nil {
		t.Error("the role may change the schema")
	}
	// What a service's own people add is none of ours.
	execute(t, connect(t, d.AdminURL), `create view clerk.theirs as select 1`)
	// A grant that was lost, on a table or a view, comes back at the next start.
	for _, object := range []string{"tombstones", "users_live"} {
		execute(t, owner, fmt.Sprintf(`revoke all on clerk.%s from %s`, object, role))
		if err := newStore(t, d, func(o *Options) { o.DatabaseURL = app }).Migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !scan[bool](t, owner, `select has_table_privilege($1, 'clerk.`+object+`', 'select')`, role) {
			t.Errorf("no grant on %s", object)
		}
	}
	// Without the owner's URL the error says what to set.
	execute(t, owner, `alter table clerk.users drop column banned cascade`)
	err := newStore(t, d, func(o *Options) { o.DatabaseURL, o.MigrateDatabaseURL = app, app }).Migrate(t.Context())
	refused(t, err, "migrate_database_url")
}

func TestMigrateRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fresh   bool     // nothing of Rollcall's is there yet
		prepare []string // as the owner
		store   string
		says    []string
	}{
		"another's tables":                {true, []string{`create schema clerk`, `create table clerk.users (id text primary key)`}, "app", []string{"clerk", "users", "app"}},
		"another's view":                  {true, []string{`create schema clerk`, `create view clerk.v as select 1`}, "app", []string{"clerk"}},
		"another's schema_version":        {true, []string{`create schema clerk`, `create table clerk.schema_version (v text)`}, "app", []string{"clerk.schema_version"}},
		"another store's":                 {false, nil, "billing", []string{"clerk", "belongs to store app", "store billing"}},
		"a column of another type":        {false, []string{`drop view clerk.users_live`, `alter table clerk.users alter column banned type text`}, "app", []string{"clerk.users.banned is text", "boolean"}},
		"a table of ours that isn't":      {false, []string{`drop table clerk.organizations cascade`, `create table clerk.organizations (id text primary key)`}, "app", []string{"clerk.organizations isn't Rollcall's"}},
		"a schema that needs a newer one": {false, []string{`update clerk.schema_version set version = 99, needs = 99`}, "app", []string{"newer", "99"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := stacktest.Database(t)
			if !c.fresh {
				if err := newStore(t, d).Migrate(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			db := connect(t, d.OwnerURL)
			execute(t, db, c.prepare...)
			before := scan[string](t, db, shape)
			err := newStore(t, d, func(o *Options) { o.Name = c.store }).Migrate(t.Context())
			refused(t, err, c.says...)
			if after := scan[string](t, db, shape); after != before {
				t.Errorf("changed from\n%s\nto\n%s", before, after)
			}
		})
	}
}

// A schema of a newer release that this one can still run on is left alone.
func TestMigrateToleratesNewer(t *testing.T) {
	t.Parallel()
	d := stacktest.Database(t)
	if err := newStore(t, d).Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	db := connect(t, d.OwnerURL)
	execute(t, db, `update clerk.schema_version set version = 99`,
		`alter table clerk.users add column new_thing text`, `create table clerk.new_table (id text)`)
	s := newStore(t, d)
	writeOne(t, s, "user_1")
	if v := scan[int](t, db, `select version from clerk.schema_version`); v != 99 {
		t.Errorf("version %d, want 99", v)
	}
}

// A store on a table of an older release: the column comes, with its index, in
// the table and in the view, and what reads the view goes on.
func TestMigrateAddsColumns(t *testing.T) {
	t.Parallel()
	d := stacktest.Database(t)
	s := newStore(t, d)
	writeOne(t, s, "user_1")
	db := connect(t, d.OwnerURL)
	execute(t, db, `drop view clerk.users_live`, `alter table clerk.users drop column email`,
		`create view clerk.users_live with (security_invoker = true) as select t.* from clerk.users t where t.deleted_at is null`,
		`create view public.mine as select id from clerk.users_live`)
	if err := newStore(t, d, func(o *Options) { o.Migrate = MigrateOff }).Migrate(t.Context()); true {
		refused(t, err, "migrate is off", "alter table", "email")
	}
	if err := newStore(t, d).Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	scan[*string](t, db, `select email from clerk.users_live`)
	if !scan[bool](t, db, `select exists (select from pg_indexes where schemaname = 'clerk' and indexname = 'users_email')`) {
		t.Error("no index on email")
	}
	if id := scan[string](t, db, `select id from public.mine`); id != "user_1" {
		t.Errorf("the service's view shows %q", id)
	}
	writeOne(t, s, "user_2")
}

func TestMigrateOff(t *testing.T) {
	t.Parallel()
	d := stacktest.Database(t)
	err := newStore(t, d, func(o *Options) { o.Migrate = MigrateOff }).Migrate(t.Context())
	refused(t, err, "migrate is off", `create schema "clerk"`)
	if scan[bool](t, connect(t, d.OwnerURL), `select exists (select from pg_namespace where nspname = 'clerk')`) {
		t.Error("it made the schema")
	}
}

// A schema that vanishes is made again, from the log's start.
func TestDroppedSchema(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	execute(t, f.db, `drop schema clerk cascade`)
	stacktest.Eventually(t, 0, func() error { // the first answer says so, the second is whole again
		_, _ = f.Position(t.Context())
		at, err := f.Position(t.Context())
		if err == nil && at != (streams.Position{}) {
			return fmt.Errorf("position %+v", at)
		}
		return err
	})
}

// The statements that every batch runs find their rows by keys, however many
// others there are.
func TestPlans(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	execute(t, f.db,
		`insert into clerk.tombstones (resource, id, deleted_at, source, stream_epoch, stream_seq)
select r, r || i, now(), 'webhook', 1, i from generate_series(1, 20000) i, unnest(array['users', 'organizations', 'organization_memberships']) r`,
	)
	for _, r := range f.layout().resources {
		columns, values := "", ""
		for _, p := range r.Parents {
			columns, values = columns+", "+p.Column, values+", "+literal(p.Column)+" || i"
		}
		execute(t, f.db, fmt.Sprintf(`insert into clerk.%s (id, instance_id, synced_at, stream_epoch, stream_seq, source, version%s)
select 'x_' || i, '', now(), 1, i, '', ''%s from generate_series(1, 20000) i`, r.Table, columns, values))
	}
	execute(t, f.db, `analyze`)
	for _, n := range []int{1, maxRowsOfABatch} {
		var messages []streams.Message
		for i := range n {
			messages = append(messages, event(uint64(3*i+1), fmt.Sprint("msg_", 3*i), "user.updated", t0, map[string]any{"id": fmt.Sprint("user_", i)}),
				event(uint64(3*i+2), fmt.Sprint("msg_", 3*i+1), "organizationMembership.updated", t0, map[string]any{
					"id": fmt.Sprint("orgmem_", i), "organization": map[string]any{"id": fmt.Sprint("org_", i)}, "public_user_data": map[string]any{"user_id": fmt.Sprint("user_", i)}}),
				event(uint64(3*i+3), fmt.Sprint("msg_", 3*i+2), "user.deleted", t0, map[string]any{"id": fmt.Sprint("user_", i)}))
		}
		prepared, _ := f.Prepare(messages)
		w := prepared.(*Work)
		for _, table := range w.contents {
			f.wantNoScan(t, table.writer.contents, table)
		}
		for _, table := range w.deletions {
			f.wantNoScan(t, table.writer.bury, table)
			f.wantNoScan(t, table.writer.remove, table)
			for _, c := range table.writer.cascades {
				if n == 1 { // of many, a hash join may be the better plan
					f.wantNoScan(t, c.sql, table)
				}
			}
		}
	}
}

// maxRowsOfABatch is consume's bound of a transaction.
const maxRowsOfABatch = 1024

func (f *fixture) wantNoScan(t *testing.T, statement string, w tableWork) {
	t.Helper()
	p := f.db.PgConn().StartPipeline(t.Context())
	sendParams(p, "explain "+statement, w.params, 1)
	if err := p.Sync(); err != nil {
		t.Fatal(err)
	}
	results, err := p.GetResults()
	if err != nil {
		t.Fatal(err)
	}
	var plan strings.Builder
	r := results.(interface {
		NextRow() bool
		Values() [][]byte
	})
	for r.NextRow() {
		plan.Write(append(r.Values()[0], '\n'))
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(plan.String(), "Seq Scan") {
		t.Errorf("%d rows: %s\n%s", w.rows, statement, plan.String())
	}
}

// What a service asks most, and what a store with on_delete hard asks after each
// batch, doesn't read whole tables.
func TestPlansOfLookUps(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(o *Options) { o.OnDelete = OnDeleteHard })
	execute(t, f.db,
		`insert into clerk.organization_memberships (id, organization_id, user_id, role, permissions, instance_id, synced_at, stream_epoch, stream_seq, source, version)
select 'orgmem_' || i, 'org_' || i / 10, 'user_' || i, 'org:admin', '{org:a}', 'ins_1', now(), 1, i, '', '' from generate_series(1, 20000) i`,
		`insert into clerk.users (id, email, external_id, instance_id, synced_at, stream_epoch, stream_seq, source, version) select 'user_' || i, i, i, '', now(), 1, i, '', '' from generate_series(1, 20000) i`,
		`insert into clerk.roles (id, key, permissions, instance_id, synced_at, stream_epoch, stream_seq, source, version) select 'role_' || i, 'org:' || i, '[{"id":"perm_1","key":"org:a"}]', 'ins_1', now(), 1, i, '', '' from generate_series(1, 20) i`,
		`analyze`)
	for _, query := range []string{
		`select * from clerk.member_permissions where user_id = 'user_1'`, `select * from clerk.member_permissions where organization_id = 'org_1' and permission = 'org:a'`,
		`select * from clerk.users_live where email = '1'`, `select * from clerk.users_live where external_id = '1'`, `select * from clerk.user_enterprise_accounts where user_id = 'user_1'`,
		`select id from clerk.users where deleted_at is not null and synced_at = now()`,
	} {
		plan := f.one(`explain ` + query)
		for _, table := range []string{"organization_memberships", "users"} {
			if strings.Contains(plan, "Seq Scan on "+table) {
				t.Errorf("%s\n%s", query, plan)
			}
		}
	}
}
