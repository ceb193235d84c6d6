package store

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
)

// problems are the findings that aren't notes, without what other tests' roles
// are: the server is shared.
func problems(t *testing.T, url string, q TenancyQuestion) (lines []string) {
	t.Helper()
	q.Schema = "clerk"
	found, err := CheckTenancy(t.Context(), connect(t, url), q)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		if !f.Note && (f.Check != "roles" || !strings.Contains(f.What, "no policy binds it") && !strings.Contains(f.What, "may become")) {
			lines = append(lines, f.Check+": "+f.Object+": "+f.What+": "+f.Run)
		}
	}
	return lines
}

func TestCheckTenancy(t *testing.T) {
	t.Parallel()
	f, app, role := newTenancy(t)
	reader := app.Config().ConnString()
	execute(t, f.db, `create table public.orders (id text primary key, organization_id text)`, `create table public.notes (id text, owned_by text references clerk.organizations)`, `create table public.plain (id text)`,
		`create table public.days (org_id text) partition by list (org_id)`, `create table public.day partition of public.days default`)
	service := TenancyQuestion{Application: true}
	want := func(lines ...string) {
		t.Helper()
		got := problems(t, reader, service)
		for _, l := range lines {
			if i := slices.IndexFunc(got, func(g string) bool { return strings.HasPrefix(g, l) }); i < 0 {
				t.Errorf("no %s", l)
			} else {
				got = slices.Delete(got, i, i+1)
			}
		}
		if len(got) > 0 {
			t.Errorf("also %s", strings.Join(got, "\n"))
		}
	}
	want(`tables: orders: has the column organization_id and no row-level security: select clerk.isolate('orders', 'organization_id');`,
		`tables: notes: has the column owned_by and no row-level security: select clerk.isolate('notes', 'owned_by');`,
		`tables: days: has the column org_id and no row-level security: select clerk.isolate('days', 'org_id');`)
	execute(t, f.db, `select clerk.isolate('orders', 'organization_id'), clerk.isolate('notes', 'owned_by'), clerk.isolate('days', 'org_id')`)
	want()

	execute(t, f.db, `create table public.later partition of public.days for values in ('org_x')`, `alter table public.notes no force row level security`,
		`create policy staff on public.orders using (true)`, `create policy none on public.notes as restrictive using (true)`,
		`create view public.all_orders as select * from public.orders`, `create view public.again with (security_invoker = on) as select * from public.all_orders`,
		`create materialized view public.kept as select * from public.orders`, `create view public.users as select id from clerk.users`,
		`create function public.sneak() returns bigint language sql security definer as 'select count(*) from clerk.users'`,
		`create function public.fine() returns bigint language sql as 'select count(*) from clerk.users'`,
		`grant all on public.orders to `+role, `grant truncate on public.notes to public`)
	want(`tables: later: has the column org_id and no row-level security: select clerk.isolate('days', 'org_id');`,
		`tables: notes: row-level security isn't forced: its owner`, `policies: orders: policy staff lets everybody read and write every row: drop policy staff on orders;`,
		`views: all_orders: reads orders with the rights of its owner`, `views: users: reads clerk.users with`, `views: kept: keeps rows of orders`,
		`functions: sneak(): runs with the rights of`, `privileges: orders: `+role+` may TRIGGER and TRUNCATE, which no policy guards: revoke trigger, truncate on orders from`,
		`privileges: notes: everybody may TRUNCATE`)
}

// Whom the policies don't bind, as far as it is the database URL's role; and
// others that log in.
func TestCheckTenancyRoles(t *testing.T) {
	t.Parallel()
	other := stacktest.Database(t)
	d := stacktest.Database(t)
	writer, _ := asRole(t, d, other)
	if err := newStore(t, d, func(o *Options) { o.DatabaseURL, o.Tenancy = writer, true }).Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	owner, admin := connect(t, d.OwnerURL), connect(t, d.AdminURL)
	execute(t, owner, `create table public.orders (organization_id text)`, `select clerk.isolate('public.orders', 'organization_id')`)
	bypass, member := owner.Config().User+"_bypass", owner.Config().User+"_member"
	execute(t, admin, `create role `+bypass+` nologin bypassrls`, `create role `+member+` login in role `+bypass)
	t.Cleanup(func() {
		if _, err := admin.Exec(context.Background(), `drop role `+bypass+`, `+member); err != nil {
			t.Error(err)
		}
	})
	find := func(url, object string, q TenancyQuestion) (said string) {
		t.Helper()
		q.Schema = "clerk"
		found, err := CheckTenancy(t.Context(), connect(t, url), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			if f.Check == "roles" && f.Object == object {
				if f.Note {
					said += "note: "
				}
				said += f.What + "\n"
			}
		}
		return said
	}
	service := TenancyQuestion{Application: true}
	superuser := admin.Config().User
	for _, c := range []struct {
		url, object string
		q           TenancyQuestion
		want        string
	}{
		{d.AdminURL, superuser, service, "is a superuser, and is who this database URL logs in as: no policy binds the application\n"},
		{d.OwnerURL, superuser, service, "note: is a superuser: no policy binds it\n"},
		{d.OwnerURL, bypass, service, ""}, // can't log in
		{d.OwnerURL, member, service, "may become " + bypass + ", whom policies don't bind: no policy binds it\n"},
		{d.OwnerURL, member, TenancyQuestion{IgnoredRoles: []string{member}}, ""},
		{d.OwnerURL, owner.Config().User, service, "is who this database URL logs in as, and owns orders: it can take the policies away\nis who this database URL logs in as, and the writer of schema clerk: its policies don't bind it\n"},
		{d.OwnerURL, owner.Config().User, TenancyQuestion{}, ""},
		{writer, connect(t, writer).Config().User, service, "is who this database URL logs in as, and the writer of schema clerk: its policies don't bind it\n"},
	} {
		if got := find(c.url, c.object, c.q); got != c.want {
			t.Errorf("%s as %s: %q, want %q", c.object, c.url, got, c.want)
		}
	}
	execute(t, admin, `alter role `+bypass+` login`)
	execute(t, admin, `alter role `+member+` in database `+owner.Config().Database+` set clerk.organization_id = 'org_b'`)
	if got := problems(t, d.OwnerURL, TenancyQuestion{}); len(got) != 1 || !strings.HasPrefix(got[0], "settings: "+member+": its sessions begin with clerk.organization_id=org_b") {
		t.Error(got)
	}
	if got := find(d.OwnerURL, bypass, service); got != "has BYPASSRLS: no policy binds it\n" {
		t.Error(got)
	}
}
