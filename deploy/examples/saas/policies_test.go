package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// attempt is a statement of one organization's member. It does something to so
// many rows, or is refused with a SQLSTATE.
type attempt struct {
	permissions string // of the member, comma-separated
	sql         string // $acme and $globex stand for ids, $theirs for globex's project
	want        string
}

const (
	reader  = "org:invoices:read"
	manager = "org:invoices:read,org:invoices:manage"
	denied  = "42501"
)

// attempts are acme's, in every way that there is to another's rows; and to its
// own, so that a policy that lets nobody through isn't taken for a good one.
var attempts = []attempt{
	{manager, `select from projects`, "1"},
	{manager, `select from projects where id = '$theirs'`, "0"},
	{manager, `select from projects where organization_id = '$globex'`, "0"},
	{manager, `update projects set name = 'x'`, "1"},
	{manager, `update projects set name = 'x' where organization_id = '$globex'`, "0"},
	{manager, `update projects set organization_id = '$globex'`, denied},
	{manager, `insert into projects (organization_id, name, created_by) values ('$globex', 'x', '$user')`, denied},
	{manager, `insert into projects (id, name, created_by) values ('$theirs', 'x', '$user') on conflict (id) do update set name = 'x'`, denied},
	{manager, `delete from projects where organization_id = '$globex'`, "0"},
	{manager, `truncate projects cascade`, denied},
	{manager, `alter table projects disable row level security`, denied},
	{"", `select from projects`, "1"},

	{manager, `select from invoices`, "1"},
	{manager, `select from invoices i join projects p on p.id = i.project_id where p.id = '$theirs' or i.project_id = '$theirs'`, "0"},
	{manager, `insert into invoices (project_id, cents) values ('$theirs', 1)`, "23503"},
	{manager, `insert into invoices (organization_id, project_id, cents) values ('$globex', '$theirs', 1)`, denied},
	{manager, `insert into invoices (project_id, cents) select id, 1 from projects`, "1"},
	{manager, `update invoices set cents = 2`, "1"},
	{manager, `update invoices set organization_id = '$globex', project_id = '$theirs'`, denied},
	{manager, `delete from invoices`, "1"},
	{reader, `select from invoices`, "1"},
	{reader, `insert into invoices (project_id, cents) select id, 1 from projects`, denied},
	{reader, `update invoices set cents = 2`, "0"},
	{reader, `delete from invoices`, "0"},
	{"", `select from invoices`, "0"},

	{"", `select from clerk.organizations`, "1"},
	{"", `select from clerk.organization_memberships`, "2"},
	{"", `select from clerk.organization_invitations`, "1"},
	{"", `select from clerk.organization_domains`, "1"},
	{"", `select from clerk.users`, "2"},
	{"", `select from clerk.roles where key = 'org:kept'`, "1"},
	{"", `select from clerk.permissions where key = 'org:reports:read'`, "1"},
	{"", `select from clerk.tombstones`, "1"},
	{"", `update clerk.users set name = 'x'`, denied},
}

// policies expects that all attempts end as they should, and that some doesn't
// once any one policy is gone, or a table's row-level security is off.
func (s *story) policies() {
	// Of roles and permissions Clerk's webhooks say what changes.
	var role struct{ ID string }
	s.Clerk("POST", "/v1/organization_permissions", map[string]any{"name": "Read reports", "key": "org:reports:read", "description": "Read reports"}, nil)
	for _, name := range []string{"Kept", "Gone"} {
		s.Clerk("POST", "/v1/organization_roles", map[string]any{"name": name, "key": "org:" + strings.ToLower(name), "description": name, "permissions": []string{}}, &role)
	}
	s.Clerk("DELETE", "/v1/organization_roles/"+role.ID, nil, nil)
	s.Clerk("DELETE", "/v1/users/"+s.SignUp("Eve"), nil, nil)
	ctx := s.Context()
	conn, err := pgx.Connect(ctx, s.Env["DATABASE_URL"])
	if err != nil {
		s.Fatal(err)
	}
	defer conn.Close(context.Background())
	s.eventually(func() error { return s.breach(conn, "") })

	// The writer's policy admits Rollcall only; roles and permissions are for all.
	rows, err := conn.Query(ctx, `
		select format('drop policy %I on %I.%I', policyname, schemaname, tablename) from pg_policies where schemaname in ('public', 'clerk') and policyname <> 'rollcall_writer'
		union all select format('alter table %s disable row level security', oid::regclass) from pg_class where relrowsecurity and relnamespace in ('public'::regnamespace, 'clerk'::regnamespace)
			and relname not in ('roles', 'permissions')`)
	if err != nil {
		s.Fatal(err)
	}
	mutations, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(mutations) < 20 {
		s.Fatalf("%d policies and tables: %v, %v", len(mutations), mutations, err)
	}
	for _, mutation := range mutations {
		if err := s.breach(conn, mutation); err == nil {
			s.Errorf("%s: no attempt notices", mutation)
		} else if pg := new(pgconn.PgError); errors.As(err, &pg) {
			s.Errorf("%s: %v", mutation, err)
		}
	}
}

// breach is what goes otherwise than it should after a mutation, which it takes back.
func (s *story) breach(conn *pgx.Conn, mutation string) error {
	ctx := s.Context()
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(context.Background()) //nolint:errcheck // nothing is kept
	var theirs string
	if err := tx.QueryRow(ctx, `select id::text from projects where organization_id = $1`, s.globex).Scan(&theirs); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, mutation+`; set local role saas_app`); err != nil {
		return err
	}
	here := strings.NewReplacer("$acme", s.acme, "$globex", s.globex, "$theirs", theirs, "$user", s.ada)
	for _, a := range attempts {
		if got := try(ctx, tx, s.ada, s.acme, a.permissions, here.Replace(a.sql)); got != a.want {
			return fmt.Errorf("with permissions %q: %s: %s, want %s", a.permissions, a.sql, got, a.want)
		}
	}
	for _, table := range []string{"projects", "invoices", "clerk.organizations", "clerk.organization_memberships", "clerk.users"} {
		if got := try(ctx, tx, "", "", manager, `select from `+table); got != "0" {
			return fmt.Errorf("nobody sees %s rows of %s", got, table)
		}
	}
	return nil
}

// try runs a statement and undoes it: how many rows, or the SQLSTATE.
func try(ctx context.Context, tx pgx.Tx, user, organization, permissions, sql string) string {
	savepoint, err := tx.Begin(ctx)
	if err != nil {
		return err.Error()
	}
	defer savepoint.Rollback(ctx) //nolint:errcheck // the next attempt says so
	if _, err := savepoint.Exec(ctx, `select clerk.act_as($1, $2, string_to_array($3, ','))`, user, organization, permissions); err != nil {
		return err.Error()
	}
	tag, err := savepoint.Exec(ctx, sql)
	if pg := new(pgconn.PgError); errors.As(err, &pg) {
		return pg.Code
	} else if err != nil {
		return err.Error()
	}
	return fmt.Sprint(tag.RowsAffected())
}
