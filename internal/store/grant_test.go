package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
)

// roleToMake is a name that is free; what is made of it goes with the test.
func roleToMake(t *testing.T) string {
	t.Helper()
	admin := stacktest.Database(t).AdminURL // its cleanup comes last
	role := "app_" + strings.ToLower(rand.Text()[:10])
	t.Cleanup(func() {
		db, err := pgx.Connect(context.Background(), admin)
		if err != nil {
			t.Error(err)
			return
		}
		defer db.Close(context.Background())
		if _, err := db.Exec(context.Background(), `drop role if exists `+role); err != nil {
			t.Error(err)
		}
	})
	return role
}

// as is a connection as the role, which gets a password for it.
func as(t *testing.T, d stacktest.DB, role string) *pgx.Conn {
	t.Helper()
	execute(t, connect(t, d.AdminURL), fmt.Sprintf(`alter role %s password 'x'`, role))
	u, err := url.Parse(d.OwnerURL)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(role, "x")
	return connect(t, u.String())
}

// The role that is made reads all there is and all that comes, writes nothing,
// and gives its own tables users to refer to.
func TestGrant(t *testing.T) {
	t.Parallel()
	role := roleToMake(t)
	f, d := onDatabase(t, func(o *Options) { o.Resources = []string{"users", "roles"} }, without("users", "phone"))
	admin := connect(t, d.AdminURL)
	execute(t, admin, fmt.Sprintf(`alter role %s createrole`, f.one(`select current_user`)))
	for i := range 2 {
		g, err := f.Grant(t.Context(), role)
		if err != nil || g.Role != role || g.Made != (i == 0) {
			t.Fatalf("%d: %+v, %v", i, g, err)
		}
	}
	service := as(t, d, role)
	execute(t, admin, `grant create on schema public to `+role)
	execute(t, service, `create table public.orders (user_id text references clerk.users, organization_id text)`,
		`insert into public.orders values (clerk.ensure_user('user_1'), null)`)
	f.event("user.created", 0, `{"id":"user_1","first_name":"Ada"}`)
	if name := scan[string](t, service, `select u.name from public.orders o join clerk.users_live u on u.id = o.user_id`); name != "Ada" {
		t.Errorf("the service reads %q", name)
	}
	wantReader(t, f, service)

	whole := f.again(d) // tables, views and a column more
	wantReader(t, whole, service)
	execute(t, service, `select phone from clerk.users`)
	if _, _, err := whole.again(d, without("users", "locale")).ApplySchema(t.Context(), true); err != nil { // a view made anew
		t.Fatal(err)
	}
	wantReader(t, whole.again(d), service)
	// Stubs of organizations came with the table; references to it with the next grant.
	execute(t, service, `select clerk.ensure_organization('org_1')`)
	if _, err := whole.Grant(t.Context(), role); err != nil {
		t.Fatal(err)
	}
	execute(t, service, `alter table public.orders add foreign key (organization_id) references clerk.organizations`)
	if _, err := service.Exec(t.Context(), `create table public.t (id text references clerk.sessions)`); sqlState(err) != "42501" {
		t.Errorf("a foreign key on what has no stubs: %v", err)
	}
}

// wantReader expects that all relations can be read, and none written.
func wantReader(t *testing.T, f *fixture, service *pgx.Conn) {
	t.Helper()
	for _, r := range f.Relations() {
		if _, err := service.Exec(t.Context(), `select * from clerk.`+r.Name); err != nil {
			t.Errorf("read %s: %v", r.Name, err)
		}
		for _, write := range []string{"insert into clerk.%s default values", "update clerk.%s set source = ''", "delete from clerk.%s", "truncate clerk.%s", "drop table clerk.%s", "select * from clerk.%s for update"} {
			if r.Name == "sync_status" {
				write = strings.Replace(write, "source = ''", "lag = 0", 1)
			}
			switch _, err := service.Exec(t.Context(), fmt.Sprintf(write, r.Name)); sqlState(err) {
			case "42501":
			case "42809", "42703", "55000": // a view of several tables, or of other columns
				if !r.View {
					t.Errorf("%s: %v", fmt.Sprintf(write, r.Name), err)
				}
			default:
				t.Errorf("%s: %v, want 42501", fmt.Sprintf(write, r.Name), err)
			}
		}
	}
	for _, other := range []string{`create table clerk.t ()`, `select clerk.sweep('users')`, `select clerk.ensure('users', 'user_9')`, `update clerk.schema_version set needs = 99`} {
		if _, err := service.Exec(t.Context(), other); sqlState(err) != "42501" {
			t.Errorf("%s: %v, want 42501", other, err)
		}
	}
}

// Where no role may be made, the SQL is for somebody who may.
func TestGrantOfARoleThatCantBeMade(t *testing.T) {
	t.Parallel()
	role := roleToMake(t)
	f, d := onDatabase(t)
	g, err := f.Grant(t.Context(), role)
	if none := (*NoRoleError)(nil); !errors.As(err, &none) {
		t.Fatalf("%v, want NoRoleError", err)
	}
	refused(t, err, "there is no role "+role, "have an administrator run create role")
	planned, err := f.PlanGrant(t.Context(), role)
	if err != nil || !slices.Equal(planned.SQL, g.SQL) {
		t.Errorf("planned %v, %v, want %v", planned.SQL, err, g.SQL)
	}
	f.want("0", `select count(*) from pg_roles where rolname = $1`, role)
	execute(t, connect(t, d.AdminURL), strings.Join(g.SQL, ";"))
	wantReader(t, f, as(t, d, role))
}

func TestGrantRefuses(t *testing.T) {
	t.Parallel()
	other := stacktest.Database(t)
	d := stacktest.Database(t)
	app, role := asRole(t, d, other)
	s := newStore(t, d, func(o *Options) { o.DatabaseURL = app })
	_, err := s.Grant(t.Context(), "orders_app")
	refused(t, err, "isn't there yet", "rollcall store apply app")
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, writer := range []string{role, scan[string](t, connect(t, d.OwnerURL), `select current_user`)} {
		_, err := s.Grant(t.Context(), writer)
		refused(t, err, "writes the store")
	}
}
