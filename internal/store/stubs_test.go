package store

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"

	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
	"github.com/rollcall-dev/rollcall/streams"
)

func sqlState(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return fmt.Sprint(err)
}

// A service's foreign key accepts a user before the webhook; the event completes
// the row.
func TestEnsureUser(t *testing.T) {
	t.Parallel()
	other := stacktest.Database(t)
	d := stacktest.Database(t)
	f := &fixture{Store: newStore(t, d), t: t, db: connect(t, d.OwnerURL)}
	f.at, _ = f.Position(t.Context())
	reader, role := asRole(t, d, other)
	execute(t, f.db, `grant usage on schema clerk to `+role, `create table public.orders (user_id text references clerk.users, organization_id text references clerk.organizations)`,
		`grant insert on public.orders to `+role)
	service := connect(t, reader) // may read no table of ours
	for range 2 {
		execute(t, service, `insert into public.orders values (clerk.ensure_user('user_1'), clerk.ensure_organization('org_1'))`)
	}
	f.want("user_1|stub||<nil>|", `select id, source, instance_id, created_at, encode(version, 'hex') from clerk.users_live`)
	f.want("org_1|stub", `select id, source from clerk.organizations`)
	f.event("user.created", 0, `{"id":"user_1","first_name":"Ada"}`)
	f.want("user_1|webhook|ins_1|Ada", `select id, source, instance_id, first_name from clerk.users`)
	execute(t, service, `select clerk.ensure_user('user_1')`)
	f.want("user_1|webhook|Ada", `select id, source, first_name from clerk.users`)
	// A stub that is deleted has its instance from the event.
	f.event("organization.deleted", 0, `{"id":"org_1"}`)
	f.want("ins_1|true", `select instance_id, deleted_at is not null from clerk.organizations`)

	for call, state := range map[string]string{
		`select clerk.ensure_organization('org_1')`: "RC410", `select clerk.ensure_user('')`: "22023", `select clerk.ensure_user(null)`: "22023",
		`select clerk.ensure('sessions', 'sess_1')`: "42501", // only the two are for others
	} {
		if _, err := service.Exec(t.Context(), call); sqlState(err) != state {
			t.Errorf("%s: %v, want %s", call, err, state)
		}
	}
}

// The id's search path can't be the caller's.
func TestEnsureUserIsNotMisled(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	execute(t, f.db, `create schema evil`, `create function evil.coalesce(boolean, boolean) returns boolean language sql as 'select 1/0 = 1'`,
		`create table evil.users (id text)`, `set search_path = evil, clerk, public`, `select clerk.ensure_user('user_1')`)
	f.want("1", `select count(*) from clerk.users`)
}

// What a call has returned stays until the caller's transaction ends, so that a
// foreign key to it holds.
func TestEnsuredRowStays(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(o *Options) { o.OnDelete = OnDeleteHard })
	execute(t, f.db, `create table public.orders (user_id text references clerk.users)`)
	f.event("user.created", 0, `{"id":"user_1"}`)
	service := connect(t, f.o.MigrateDatabaseURL)
	execute(t, service, `begin`, `select clerk.ensure_user('user_1')`)
	f.event("user.deleted", 1, `{"id":"user_1"}`)
	execute(t, service, `insert into public.orders values ('user_1')`, `commit`)
	f.want("user_1|true", `select id, deleted_at is not null from clerk.users`)
}

// Deletions in flight and calls in flight wait for each other, whichever was
// first, under each on_delete and isolation: in the end nobody holds a user
// that lives though deleted.
func TestEnsureMeetsDelete(t *testing.T) {
	t.Parallel()
	for _, onDelete := range []string{OnDeleteTombstone, OnDeleteHard} {
		for _, level := range []string{"read committed", "repeatable read", "serializable"} {
			t.Run(onDelete+" "+level, func(t *testing.T) {
				t.Parallel()
				f := newFixture(t, func(o *Options) { o.OnDelete = onDelete })
				service := connect(t, f.o.MigrateDatabaseURL)

				// The stub first, uncommitted: the delete waits for it.
				execute(t, service, `begin isolation level `+level, `select clerk.ensure_user('user_1')`)
				var g errgroup.Group
				g.Go(func() error { return f.deleteUser("user_1") })
				f.waitForALock(t)
				execute(t, service, `commit`)
				if err := g.Wait(); err != nil {
					t.Fatal(err)
				}
				f.want("0", `select count(*) from clerk.users_live`)

				// The delete after the service's snapshot, and before its call.
				execute(t, service, `begin isolation level `+level, `select 1 from clerk.sync_status`)
				if err := f.deleteUser("user_2"); err != nil {
					t.Fatal(err)
				}
				_, err := service.Exec(t.Context(), `select clerk.ensure_user('user_2')`)
				if state := sqlState(err); state != "RC410" && (level == "read committed" || state != "40001") {
					t.Errorf("%v", err)
				}
				execute(t, service, `rollback`)

				// Both at once, many times.
				for i := range 10 {
					id := fmt.Sprint("both_", i)
					var g errgroup.Group
					g.Go(func() error { return f.deleteUser(id) })
					g.Go(func() error {
						err := pgx.BeginFunc(t.Context(), service, func(tx pgx.Tx) error {
							_, err := tx.Exec(t.Context(), `set transaction isolation level `+level)
							if err == nil {
								_, err = tx.Exec(t.Context(), `select clerk.ensure_user($1)`, id)
							}
							return err
						})
						if state := sqlState(err); err != nil && state != "RC410" && state != "40001" && state != "40P01" {
							return err
						}
						return nil
					})
					if err := g.Wait(); err != nil {
						t.Fatal(err)
					}
				}
				f.want("0", `select count(*) from clerk.users_live`)
			})
		}
	}
}

// deleteUser as the consumer would: what is transient is tried again.
func (f *fixture) deleteUser(id string) error {
	f.next++
	var err error
	for range 5 {
		if err = f.tryDelete(id); err == nil {
			return nil
		}
		if p := (*Error)(nil); errors.As(err, &p) && p.Poison() {
			return err
		}
	}
	return err
}

func (f *fixture) tryDelete(id string) error {
	ctx := context.Background()
	work, _ := f.Prepare([]streams.Message{event(f.next, fmt.Sprint("msg_", f.next), "user.deleted", t0, map[string]any{"id": id})})
	to := streams.Position{Epoch: 1, Sequence: f.next}
	err := f.Commit(ctx, work, f.at, to, 0, 0)
	if err == nil {
		f.at = to
	}
	return err
}

func (f *fixture) waitForALock(t *testing.T) {
	t.Helper()
	stacktest.Eventually(t, 10*time.Second, func() error {
		if scan[int](t, f.db, `select count(*) from pg_locks where not granted and pid in (select pid from pg_stat_activity where datname = current_database())`) == 0 {
			return errors.New("nobody waits")
		}
		return nil
	})
}

// Concurrent calls for one id make one row, and all return.
func TestEnsureAtOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var g errgroup.Group
	for range 6 {
		c := connect(t, f.o.MigrateDatabaseURL)
		g.Go(func() error {
			for i := range 20 {
				var id string
				if err := c.QueryRow(context.Background(), `select clerk.ensure_user($1)`, fmt.Sprint("user_", i)).Scan(&id); err != nil {
					return err
				}
			}
			return nil
		})
	}
	g.Go(func() error { // among them the events
		for i := range 20 {
			f.event("user.created", 0, fmt.Sprintf(`{"id":"user_%d","first_name":"Ada"}`, i))
		}
		return nil
	})
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	f.want("20|20", `select count(*), count(*) filter (where first_name = 'Ada') from clerk.users`)
}
