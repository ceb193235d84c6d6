package deploy_test

import (
	"context"
	"errors"
	"net/url"
	"os"
	"os/exec"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
)

// What the owner makes, the app role may fill and read, and nothing more.
func TestRoles(t *testing.T) {
	t.Parallel()
	psql, err := exec.LookPath("psql")
	if err != nil {
		t.Skip("psql is not in PATH")
	}
	// A server of its own: roles belong to all of its databases.
	admin := stacktest.Postgres(t).AdminURL()
	run := exec.Command(psql, "--no-psqlrc", "--file", "postgres/roles.sql", admin)
	if out, err := run.CombinedOutput(); err == nil {
		t.Errorf("roles.sql made roles without passwords:\n%s", out)
	}
	run = exec.Command(psql, "--no-psqlrc", "--file", "postgres/roles.sql", admin)
	run.Env = append(os.Environ(), "ROLLCALL_OWNER_PASSWORD=p1", "ROLLCALL_APP_PASSWORD=p2")
	if out, err := run.CombinedOutput(); err != nil {
		t.Fatalf("roles.sql: %v\n%s", err, out)
	}

	owner := login(t, admin, url.UserPassword("rollcall_owner", "p1"))
	for _, sql := range []string{
		`create schema clerk`,
		`create table clerk.users (id text primary key, n bigserial)`,
		`create view clerk.users_live as select * from clerk.users`,
	} {
		if _, err := owner.Exec(t.Context(), sql); err != nil {
			t.Fatalf("as the owner, %s: %v", sql, err)
		}
	}
	app := login(t, admin, url.UserPassword("rollcall_app", "p2"))
	for _, sql := range []string{
		`insert into clerk.users (id) values ('user_1')`,
		`update clerk.users set id = 'user_2'`,
		`select * from clerk.users_live`,
		`delete from clerk.users`,
	} {
		if _, err := app.Exec(t.Context(), sql); err != nil {
			t.Errorf("as the app role, %s: %v", sql, err)
		}
	}
	for _, sql := range []string{
		`create schema other`,
		`create table clerk.other ()`,
		`drop table clerk.users`,
		`truncate clerk.users`,
		`set role rollcall_owner`,
	} {
		_, err := app.Exec(t.Context(), sql)
		var refused *pgconn.PgError
		if !errors.As(err, &refused) || refused.Code != "42501" { // insufficient_privilege
			t.Errorf("as the app role, %s: %v", sql, err)
		}
	}
}

func login(t *testing.T, address string, user *url.Userinfo) *pgx.Conn {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	u.User = user
	conn, err := pgx.Connect(t.Context(), u.String())
	if err != nil {
		t.Fatalf("connect as %s: %v", user.Username(), err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}
