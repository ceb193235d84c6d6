package tenant_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
	"github.com/rollcall-dev/rollcall/streams/tenant"
)

func TestMain(m *testing.M) { stacktest.Main(m) }

// orders is a database with an isolated table: two rows of org_a, one of org_b.
// Its owner is bound as any other role is.
func orders(t testing.TB) *pgxpool.Pool {
	t.Helper()
	config, err := pgxpool.ParseConfig(stacktest.Database(t).URL)
	if err != nil {
		t.Fatal(err)
	}
	config.MaxConns = 1 // each transaction finds a used connection
	if os.Getenv("ROLLCALL_TEST_PGBOUNCER") == "1" {
		config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec
	}
	pool, err := pgxpool.NewWithConfig(context.Background(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	file, err := filepath.Glob("../../internal/store/sql/*_tenancy.sql")
	if err != nil || len(file) != 1 {
		t.Fatal(file, err)
	}
	functions, err := os.ReadFile(file[0])
	if err != nil {
		t.Fatal(err)
	}
	_, err = pool.Exec(t.Context(), "create schema clerk;"+strings.ReplaceAll(string(functions), "{schema}", "clerk")+`;
create table orders (id text primary key, organization_id text not null);
insert into orders values ('o1', 'org_a'), ('o2', 'org_a'), ('o3', 'org_b');
select clerk.isolate('orders', 'organization_id')`)
	if err != nil {
		t.Fatal(err)
	}
	return pool
}

func ids(ctx context.Context, tx pgx.Tx) ([]string, error) {
	rows, err := tx.Query(ctx, `select id from orders order by id`) // one prepared statement for all
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

func TestTx(t *testing.T) {
	t.Parallel()
	pool, ctx := orders(t), t.Context()
	a, b := tenant.Identity{UserID: "user_1", OrganizationID: "org_a", Permissions: []string{"org:x", "org:y"}}, tenant.Identity{OrganizationID: "org_b"}
	for range 10 { // beyond the executions after which Postgres keeps a plan
		for _, c := range []struct {
			id   tenant.Identity
			want []string
		}{{a, []string{"o1", "o2"}}, {b, []string{"o3"}}, {tenant.Identity{UserID: "user_1"}, nil}} {
			err := tenant.Tx(ctx, pool, c.id, func(tx pgx.Tx) error {
				if got, err := ids(ctx, tx); err != nil || !slices.Equal(got, c.want) {
					t.Errorf("%+v: %v, %v", c.id, got, err)
				}
				var user *string
				var may bool
				err := tx.QueryRow(ctx, `select clerk.user_id(), clerk.has_permission('org:y')`).Scan(&user, &may)
				if err != nil || may != (len(c.id.Permissions) > 0) || (user == nil) != (c.id.UserID == "") {
					t.Errorf("%+v: %v %t, %v", c.id, user, may, err)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		tx, err := pool.Begin(ctx) // without an identity
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ids(ctx, tx); err != nil || len(got) != 0 {
			t.Errorf("nobody sees %v, %v", got, err)
		}
		if err := tx.Rollback(ctx); err != nil {
			t.Fatal(err)
		}
	}
}

// An error rolls back, and a row can't go to another.
func TestTxRollsBack(t *testing.T) {
	t.Parallel()
	pool, ctx := orders(t), t.Context()
	id, stop := tenant.Identity{OrganizationID: "org_a"}, errors.New("stop")
	err := tenant.Tx(ctx, pool, id, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `delete from orders`); err != nil {
			return err
		}
		return stop
	})
	if !errors.Is(err, stop) {
		t.Fatal(err)
	}
	err = tenant.Tx(ctx, pool, id, func(tx pgx.Tx) error {
		if got, err := ids(ctx, tx); err != nil || len(got) != 2 {
			t.Errorf("%v, %v", got, err)
		}
		_, err := tx.Exec(ctx, `update orders set organization_id = $1`, "org_b")
		return err
	})
	if err == nil || !strings.Contains(err.Error(), "row-level security") {
		t.Errorf("a row moved: %v", err)
	}
}

func TestTxOptions(t *testing.T) {
	t.Parallel()
	pool, ctx := orders(t), t.Context()
	options, err := tenant.Identity{OrganizationID: "org_b"}.TxOptions(pgx.TxOptions{IsoLevel: pgx.Serializable, AccessMode: pgx.ReadOnly, DeferrableMode: pgx.Deferrable})
	if err != nil {
		t.Fatal(err)
	}
	err = pgx.BeginTxFunc(ctx, pool, options, func(tx pgx.Tx) error {
		var how string
		if err := tx.QueryRow(ctx, `select concat_ws(' ', current_setting('transaction_isolation'), current_setting('transaction_read_only'), current_setting('transaction_deferrable'), (select count(*) from orders))`).Scan(&how); err != nil {
			return err
		}
		if how != "serializable on on 1" {
			t.Error(how)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// The example, on a database such as it speaks of.
func TestExample(t *testing.T) {
	t.Setenv("ORDERS_DATABASE_URL", orders(t).Config().ConnString())
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout := os.Stdout
	os.Stdout = write
	ExampleTx()
	os.Stdout = stdout
	write.Close()
	if said, err := io.ReadAll(read); err != nil || string(said) != "2 orders of org_a\n" {
		t.Errorf("%q, %v", said, err)
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	if _, err := (tenant.Identity{Permissions: []string{"org:x"}}).TxOptions(pgx.TxOptions{}); !errors.Is(err, tenant.ErrNobody) {
		t.Errorf("%v", err)
	}
	for _, id := range []tenant.Identity{
		{UserID: "user_1'"}, {OrganizationID: `org_\`}, {UserID: "user_1", OrganizationID: "org_a\x00"}, {UserID: "user_é"}, {OrganizationID: " org_a"}, {OrganizationID: "org\n"},
		{UserID: "user_1", Permissions: []string{"org:x,org:y"}}, {UserID: "user_1", Permissions: []string{"org:x'"}},
	} {
		if o, err := id.TxOptions(pgx.TxOptions{}); err == nil {
			t.Errorf("%+v: %s", id, o.BeginQuery)
		}
	}
}
