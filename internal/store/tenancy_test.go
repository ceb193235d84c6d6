package store

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rollcall-dev/rollcall/internal/projection"
	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
)

// newTenancy is a store with policies, written by a role that owns nothing, and
// a connection of an ordinary role with no more than a reader's grants.
func newTenancy(t *testing.T, change ...func(*Options)) (f *fixture, app *pgx.Conn, role string) {
	t.Helper()
	other := stacktest.Database(t)
	f = newFixture(t, append(change, otherWriter(t), func(o *Options) { o.Tenancy = true })...)
	url, role := asRole(t, stacktest.DB{URL: f.o.DatabaseURL}, other)
	execute(t, f.db, `grant usage on schema clerk to `+role, `grant select on all tables in schema clerk to `+role)
	return f, connect(t, url), role
}

// fillTenants makes org_a of user_1 and user_2, org_b of user_2 and user_3, who
// has left org_a; user_4 is in neither.
func (f *fixture) fillTenants() {
	for i := 1; i <= 4; i++ {
		f.event("user.created", 0, fmt.Sprintf(`{"id":"user_%d","first_name":"Ada","primary_email_address_id":"i","email_addresses":[{"id":"i","email_address":"%d@x.org"}],"enterprise_accounts":[{"id":"acc_%d"}]}`, i, i, i))
		f.event("session.created", 0, fmt.Sprintf(`{"id":"sess_%d","user_id":"user_%d","status":"active"}`, i, i))
		f.event("subscription.created", 0, fmt.Sprintf(`{"id":"csub_user_%d","payer":{"user_id":"user_%d"},"items":[{"id":"item_user_%d"}]}`, i, i, i))
	}
	for _, org := range []string{"org_a", "org_b"} {
		f.event("organization.created", 0, fmt.Sprintf(`{"id":%q,"name":"Acme"}`, org))
		f.event("organizationInvitation.created", 0, fmt.Sprintf(`{"id":"inv_%s","organization_id":%[1]q,"user_id":"user_1"}`, org))
		f.event("organizationDomain.created", 0, fmt.Sprintf(`{"id":"dom_%s","organization_id":%[1]q}`, org))
		f.event("subscription.created", 0, fmt.Sprintf(`{"id":"csub_%s","payer":{"organization_id":%[1]q},"items":[{"id":"item_%[1]s"}]}`, org))
		f.event("paymentAttempt.created", 0, fmt.Sprintf(`{"id":"pay_%s","payer":{"organization_id":%[1]q}}`, org))
	}
	for id, of := range map[string]string{"m1": "org_a user_1", "m2": "org_a user_2", "m3": "org_a user_3", "m4": "org_b user_2", "m5": "org_b user_3"} {
		org, user, _ := strings.Cut(of, " ")
		f.event("organizationMembership.created", 0, fmt.Sprintf(`{"id":%q,"role":"org:admin","organization":{"id":%q},"public_user_data":{"user_id":%q}}`, id, org, user))
	}
	f.event("organizationMembership.deleted", 1, `{"id":"m3","organization":{"id":"org_a"},"public_user_data":{"user_id":"user_3"}}`)
	f.event("role.created", 0, `{"id":"role_1","key":"org:admin","permissions":[{"id":"perm_1","key":"org:a"},{"id":"perm_2","key":"org:b"}]}`)
	f.event("permission.created", 0, `{"id":"perm_1","key":"org:a"}`)
	f.event("permission.deleted", 0, `{"id":"perm_2"}`)
	f.event("waitlistEntry.created", 0, `{"id":"wle_1","email_address":"w@x.org"}`)
	f.event("user.created", 0, `{"id":"user_5"}`)
	f.event("user.deleted", 0, `{"id":"user_5"}`)
}

// seen are the ids that a transaction reads, by table or view.
func seen(t *testing.T, app *pgx.Conn, user, org string) map[string]string {
	t.Helper()
	execute(t, app, `begin`)
	defer execute(t, app, `commit`)
	if _, err := app.Exec(t.Context(), `select clerk.act_as($1, $2)`, user, org); err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, of := range []string{"users id", "users_live id", "user_enterprise_accounts user_id", "sessions id", "organizations id", "organization_memberships id", "organization_memberships_live id",
		"member_permissions membership_id||permission", "organization_invitations id", "organization_domains id", "subscriptions id", "subscription_items id", "payment_attempts id",
		"roles id", "permissions id", "role_permissions_live permission_id", "tombstones id", "waitlist_entries id", "sync_status store"} {
		table, id, _ := strings.Cut(of, " ")
		all[table] = scan[string](t, app, fmt.Sprintf(`select coalesce(string_agg(%[1]s, ' ' order by %[1]s), '') from clerk.%[2]s`, id, table))
	}
	return all
}

func TestTenancy(t *testing.T) {
	t.Parallel()
	f, app, _ := newTenancy(t)
	f.fillTenants()
	everybodys := map[string]string{"roles": "role_1", "permissions": "perm_1 perm_2", "role_permissions_live": "perm_1", "tombstones": "perm_2", "sync_status": "app"}
	for _, c := range []struct {
		user, org string
		want      map[string]string
	}{
		{"", "", nil},
		{"user_9", "org_9", nil},
		{"user_4", "", map[string]string{"users": "user_4", "users_live": "user_4", "user_enterprise_accounts": "user_4", "sessions": "sess_4", "subscriptions": "csub_user_4", "subscription_items": "item_user_4"}},
		{"user_1", "org_a", map[string]string{"users": "user_1 user_2", "users_live": "user_1 user_2", "user_enterprise_accounts": "user_1 user_2", "sessions": "sess_1",
			"organizations": "org_a", "organization_memberships": "m1 m2 m3", "organization_memberships_live": "m1 m2", "member_permissions": "m1org:a m2org:a",
			"organization_invitations": "inv_org_a", "organization_domains": "dom_org_a", "subscriptions": "csub_org_a csub_user_1", "subscription_items": "item_org_a item_user_1", "payment_attempts": "pay_org_a"}},
		{"", "org_b", map[string]string{"users": "user_2 user_3", "users_live": "user_2 user_3", "user_enterprise_accounts": "user_2 user_3",
			"organizations": "org_b", "organization_memberships": "m4 m5", "organization_memberships_live": "m4 m5", "member_permissions": "m4org:a m5org:a",
			"organization_invitations": "inv_org_b", "organization_domains": "dom_org_b", "subscriptions": "csub_org_b", "subscription_items": "item_org_b", "payment_attempts": "pay_org_b"}},
	} {
		for table, got := range seen(t, app, c.user, c.org) {
			if want := c.want[table] + everybodys[table]; got != want {
				t.Errorf("%s as %q of %q: %q, want %q", table, c.user, c.org, got, want)
			}
		}
	}
}

// Grants of more than reading give an ordinary role nothing to write.
func TestTenancyIsReadOnly(t *testing.T) {
	t.Parallel()
	f, app, role := newTenancy(t)
	f.fillTenants()
	execute(t, f.db, `grant insert, update, delete on all tables in schema clerk to `+role)
	for _, table := range f.guarded(&catalog{}) {
		execute(t, app, `begin`, `select clerk.act_as('user_1', 'org_a')`, `savepoint s`)
		for _, statement := range []string{`update clerk.%s set source = 'foisted'`, `delete from clerk.%s`} {
			if tag, err := app.Exec(t.Context(), fmt.Sprintf(statement, table)); err != nil || tag.RowsAffected() != 0 {
				t.Errorf(statement+": %d rows, %v", table, tag.RowsAffected(), err)
			}
		}
		columns := `(id, instance_id, synced_at, stream_epoch, stream_seq, source, version) values ('x', '', now(), 0, 0, '', '')`
		if table == "tombstones" {
			columns = `(resource, id, deleted_at, source, stream_epoch, stream_seq) values ('roles', 'x', now(), '', 0, 0)`
		}
		_, err := app.Exec(t.Context(), `insert into clerk.`+table+columns)
		refused(t, err, "42501")
		execute(t, app, `rollback`)
	}
	// The rows that a foreign key needs it can still make.
	execute(t, app, `select clerk.ensure_user('user_new'), clerk.ensure_organization('org_new')`)
	if _, err := app.Exec(t.Context(), `select clerk.ensure_user('user_5')`); sqlState(err) != "RC410" {
		t.Error(err)
	}
	f.want("stub|stub", `select u.source, o.source from clerk.users u, clerk.organizations o where u.id = 'user_new' and o.id = 'org_new'`)
}

// Switched on and off on a store that runs, by a configuration; with tables that
// come later, and under another writer.
func TestTenancySwitched(t *testing.T) {
	t.Parallel()
	f, app, role := newTenancy(t, func(o *Options) { o.Resources = []string{"users"} })
	f.event("user.created", 0, `{"id":"user_1"}`)
	const state = `select string_agg(concat_ws(' ', c.relname, c.relrowsecurity, c.relforcerowsecurity, p.polname), E'\n' order by c.relname, p.polname)
from pg_class c left join pg_policy p on p.polrelid = c.oid where c.relnamespace = 'clerk'::regnamespace and c.relkind = 'r'`
	again := func(change func(*Options)) {
		t.Helper()
		o := f.o
		change(&o)
		s, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		for range 2 { // the second time there is nothing to do
			if err := s.Migrate(t.Context()); err != nil {
				t.Fatal(err)
			}
			s.o.Migrate = MigrateOff
		}
	}
	again(func(*Options) {})
	f.want("schema_version f f\nsync_status f f\ntombstones t t rollcall_tenant\ntombstones t t rollcall_writer\nusers t t rollcall_tenant\nusers t t rollcall_writer", state)
	// Without memberships there are no fellows: oneself.
	if got := seenUsers(t, app, "user_1", "org_a"); got != "user_1" {
		t.Error(got)
	}
	again(func(o *Options) { o.Resources = nil })
	f.want("0", `select count(*) from pg_class c where c.relnamespace = 'clerk'::regnamespace and relkind = 'r' and relname not in ('sync_status', 'schema_version') and not (relrowsecurity and relforcerowsecurity)`)
	f.want("13", `select count(*) from pg_policy where polname = 'rollcall_writer'`)
	f.event("user.updated", 1, `{"id":"user_1","first_name":"Ada"}`) // the running one isn't hindered
	// Another writer is admitted beside the one that may still run.
	again(func(o *Options) { o.Resources, o.DatabaseURL = nil, app.Config().ConnString() })
	f.want("2", `select min(cardinality(polroles)) - 1 from pg_policy where polname = 'rollcall_writer'`)
	if got := seenUsers(t, app, "", ""); got != "user_1" {
		t.Errorf("the new writer sees %q", got)
	}
	execute(t, f.db, `create policy theirs on clerk.users to `+pgx.Identifier{role}.Sanitize()+` using (false)`)
	again(func(o *Options) { o.Resources, o.Tenancy = nil, false })
	f.want("users t t rollcall_writer\nusers t t theirs", `select l from regexp_split_to_table((`+state+`), '\n') as l where l not like '% f f'`)
	f.want("0", `select count(*) from pg_class where relname = '`+fellowsIndex+`'`)
	f.event("user.updated", 2, `{"id":"user_1","first_name":"Grace"}`)
	f.want("Grace", `select first_name from clerk.users`)
}

// Memberships that the configuration leaves out say no more who is a fellow, and
// their table can go. With migrate off the plan is the owner's to run.
func TestTenancyPlan(t *testing.T) {
	t.Parallel()
	f, app, _ := newTenancy(t)
	f.fillTenants()
	o := f.o
	o.Resources, o.Migrate = []string{"users"}, MigrateOff
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	refused(t, s.Migrate(t.Context()), "migrate is off", "create policy rollcall_tenant on \"clerk\".users")
	if _, left, err := s.ApplySchema(t.Context(), false); err != nil || len(left) == 0 {
		t.Fatal(left, err)
	}
	if got := seenUsers(t, app, "user_1", "org_a"); got != "user_1" {
		t.Error(got)
	}
	if _, _, err := s.ApplySchema(t.Context(), true); err != nil {
		t.Fatal(err)
	}

	// Nothing is there yet, and the writer owns nothing.
	writer := otherWriter(t)
	d := stacktest.Database(t)
	fresh := newStore(t, d, writer, func(o *Options) { o.Tenancy, o.Migrate, o.MigrateDatabaseURL = true, MigrateOff, o.DatabaseURL })
	plan, err := fresh.PlanSchema(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	owner := connect(t, d.OwnerURL)
	execute(t, owner, fresh.Script(plan), `select clerk.ensure_user('user_1')`)
	if err := fresh.Migrate(t.Context()); err != nil {
		t.Error(err)
	}
	writeOne(t, fresh, "user_1")
}

func seenUsers(t *testing.T, app *pgx.Conn, user, org string) string {
	t.Helper()
	execute(t, app, `begin`, fmt.Sprintf(`select clerk.act_as('%s', '%s')`, user, org))
	defer execute(t, app, `commit`)
	return scan[string](t, app, `select coalesce(string_agg(id, ' ' order by id), '') from clerk.users`)
}

// Each resource's table has a condition, or is meant to have none.
func TestTenancyKnowsEachTable(t *testing.T) {
	t.Parallel()
	nobodys := []string{"waitlist_entries"}
	for _, r := range projection.Declared() {
		if visible[r.Table] == "" && !slices.Contains(nobodys, r.Table) {
			t.Errorf("%s: who may see it with tenancy?", r.Table)
		}
	}
}

// A user is found, and asked for membership, by keys.
func TestTenancyPlans(t *testing.T) {
	t.Parallel()
	f, app, _ := newTenancy(t)
	execute(t, f.db,
		`insert into clerk.organization_memberships (id, organization_id, user_id, instance_id, synced_at, stream_epoch, stream_seq, source, version)
select 'm_' || i, 'org_' || i % 200, 'user_' || i, '', now(), 1, i, '', '' from generate_series(1, 20000) i`,
		`insert into clerk.users (id, email, instance_id, synced_at, stream_epoch, stream_seq, source, version) select 'user_' || i, i, '', now(), 1, i, '', '' from generate_series(1, 20000) i`, `analyze`)
	execute(t, app, `begin`, `select clerk.act_as('user_1', 'org_1')`)
	for _, query := range []string{
		`select * from clerk.users where id = 'user_201'`, `select * from clerk.users_live where email = '201'`,
		`select u.name from clerk.organization_memberships_live m join clerk.users_live u on u.id = m.user_id`,
		`select * from clerk.organization_memberships`, `select * from clerk.member_permissions where user_id = 'user_1'`,
	} {
		rows, _ := app.Query(t.Context(), `explain (costs off) `+query)
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if plan := strings.Join(lines, "\n"); err != nil || strings.Contains(plan, "Seq Scan on users") || strings.Contains(plan, "Seq Scan on organization_memberships") {
			t.Errorf("%v %s\n%s", err, query, plan)
		}
	}
}
