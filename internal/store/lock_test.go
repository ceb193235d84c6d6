package store

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"
	"pgregory.net/rapid"

	"github.com/rollcall-dev/rollcall/internal/projection"
	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
	"github.com/rollcall-dev/rollcall/streams"
)

// holder is a session that has taken the writer lock and says nothing more.
func (f *fixture) holder(t *testing.T) (session *pgconn.PgConn, pid uint32) {
	t.Helper()
	c := connect(t, f.o.MigrateDatabaseURL).PgConn()
	if _, err := c.Exec(t.Context(), "begin; "+f.lockSQL()).ReadAll(); err != nil {
		t.Fatal(err)
	}
	return c, c.PID()
}

func (f *fixture) try(t *testing.T, sequence uint64) error {
	work, _ := f.Prepare([]streams.Message{event(sequence, "msg", "user.created", t0, map[string]any{"id": "user_1"})})
	err := f.Commit(t.Context(), work, f.at, streams.Position{Epoch: 1, Sequence: sequence}, 0, 0)
	if err == nil {
		f.at = streams.Position{Epoch: 1, Sequence: sequence}
	}
	return err
}

// A writer waits for another, and the error names who holds the lock; nothing
// was written, and it is no poison.
func TestWritersSerialise(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.lockTimeout, f.idleTimeout = 200*time.Millisecond, time.Minute
	other, pid := f.holder(t)
	err := f.try(t, 1)
	refused(t, err, fmt.Sprintf("pid %d", pid), "writer lock")
	if p := (interface{ Poison() bool })(nil); errors.As(err, &p) && p.Poison() {
		t.Error("waiting is poison")
	}
	f.want("0", `select count(*) from clerk.users`)

	f.lockTimeout = time.Minute
	var g errgroup.Group
	g.Go(func() error { return f.try(t, 1) })
	stacktest.Eventually(t, 10*time.Second, func() error {
		if n := scan[int](t, f.db, `select count(*) from pg_locks where locktype = 'advisory' and not granted and database = (select oid from pg_database where datname = current_database())`); n != 1 {
			return fmt.Errorf("%d wait for the lock", n)
		}
		return nil
	})
	if _, err := other.Exec(t.Context(), "commit").ReadAll(); err != nil {
		t.Fatal(err)
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
	f.want("1", `select count(*) from clerk.users`)
}

// Many writers from one position: one of them moves it.
func TestOneOfManyMovesThePosition(t *testing.T) {
	t.Parallel()
	d := stacktest.Database(t)
	results, start := make(chan error, 6), make(chan struct{})
	for range cap(results) {
		s := newStore(t, d)
		from, err := s.Position(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		work, _ := s.Prepare([]streams.Message{event(1, "msg_1", "user.created", t0, map[string]any{"id": "user_1"})})
		go func() {
			<-start
			results <- s.Commit(t.Context(), work, from, streams.Position{Epoch: 1, Sequence: 1}, 0, 1)
		}()
	}
	close(start)
	done := 0
	for range cap(results) {
		err := <-results
		switch m := (interface{ Moved() bool })(nil); {
		case err == nil:
			done++
		case !errors.As(err, &m) || !m.Moved():
			t.Errorf("%v, want Moved", err)
		}
	}
	if n := scan[int](t, connect(t, d.OwnerURL), `select dead_letters from clerk.sync_status`); done != 1 || n != 1 {
		t.Errorf("%d moved the position, %d letters counted, want 1 and 1", done, n)
	}
}

// A delete and a child's insert at the same time: whichever comes first, the
// child is deleted.
func TestDeleteMeetsInsert(t *testing.T) {
	t.Parallel()
	d := stacktest.Database(t)
	delete, insert := newStore(t, d), newStore(t, d)
	at, err := delete.Position(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		user, member := fmt.Sprint("user_", i), fmt.Sprint("orgmem_", i)
		buried, _ := delete.Prepare([]streams.Message{event(1, "msg_1", "user.deleted", t0, map[string]any{"id": user})})
		child, _ := insert.Prepare([]streams.Message{event(2, "msg_2", "organizationMembership.created", t0, map[string]any{"id": member, "public_user_data": map[string]any{"user_id": user}})})
		// Each in a transaction of its own, from the same position, until it is through.
		var g errgroup.Group
		for s, work := range map[*Store]any{delete: buried, insert: child} {
			g.Go(func() error {
				for {
					from, err := s.Position(t.Context())
					if err != nil {
						return err
					}
					err = s.Commit(t.Context(), work, from, streams.Position{Epoch: 1, Sequence: from.Sequence + 1}, 0, 0)
					if !isMoved(err) {
						return err
					}
				}
			})
		}
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	if now, err := delete.Position(t.Context()); err != nil || now.Sequence != at.Sequence+40 {
		t.Errorf("position %+v, %v, want 40 on", now, err)
	}
	if n := scan[int](t, connect(t, d.OwnerURL), `select count(*) from clerk.organization_memberships_live`); n != 0 {
		t.Errorf("%d members of deleted users live", n)
	}
}

// A session that holds the lock idle is cut by the server, and the next gets through.
func TestIdleHolderIsCut(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.lockTimeout, f.idleTimeout = 20*time.Second, 300*time.Millisecond
	other, _ := f.holder(t)
	if err := f.try(t, 1); err != nil {
		t.Fatal(err)
	}
	if _, err := other.Exec(t.Context(), "commit").ReadAll(); err == nil {
		t.Error("the session that was idle committed")
	}
}

// A session that holds the lock and is frozen amid sending a statement isn't
// idle for the server: whoever waits ends it.
func TestFrozenHolderIsEnded(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.lockTimeout, f.idleTimeout = 100*time.Millisecond, 300*time.Millisecond
	other, pid := f.holder(t)
	half := []byte{'P', 0, 0, 1, 0, 'x'} // Parse, 256 bytes long, of which one comes
	if _, err := other.Conn().Write(half); err != nil {
		t.Fatal(err)
	}
	first := f.try(t, 1)
	refused(t, first, fmt.Sprintf("pid %d", pid))
	var last error
	stacktest.Eventually(t, 20*time.Second, func() error {
		if last = f.try(t, 1); last != nil && !strings.Contains(last.Error(), "ended") {
			return last
		}
		return nil
	})
	stacktest.Eventually(t, 10*time.Second, func() error { return f.try(t, f.at.Sequence+1) })
	_ = other.Conn().SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := other.Conn().Read(make([]byte, 1<<10)); errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed) {
		t.Errorf("the frozen session lives on: %v", err)
	}
}

// One that works for long, with the time-outs behind it, is left alone.
func TestBusyHolderIsNotEnded(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.lockTimeout, f.idleTimeout = 50*time.Millisecond, 200*time.Millisecond
	other, pid := f.holder(t)
	for began := time.Now(); time.Since(began) < 10*f.idleTimeout; {
		if _, err := other.Exec(t.Context(), `select pg_sleep(0.02)`).ReadAll(); err != nil {
			t.Fatalf("after %s: %v", time.Since(began), err)
		}
		if _, ended, err := f.endFrozen(t.Context()); err != nil || ended {
			t.Fatalf("ended %t, %v, after %s of work", ended, err, time.Since(began))
		}
	}
	refused(t, f.try(t, 1), fmt.Sprintf("pid %d", pid))
}

// Postgres compares versions as Go does.
func TestVersionsCompareInPostgres(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	version := rapid.Custom(func(t *rapid.T) projection.Version {
		times := rapid.OneOf(rapid.Int64Range(-1, 1), rapid.Int64())
		return projection.NewVersion(projection.Class(rapid.ByteRange(0, 2).Draw(t, "class")), rapid.Bool().Draw(t, "terminal"), times.Draw(t, "updated_at"), times.Draw(t, "at"),
			rapid.ByteRange(0, 2).Draw(t, "rank"), rapid.SampledFrom([]string{"", "m", "M", "ma", "m\x00", "é", "\xff"}).Draw(t, "id"))
	})
	rapid.Check(t, func(rt *rapid.T) {
		versions := append(rapid.SliceOfN(version, 2, 20).Draw(rt, "versions"), "")
		var bytes [][]byte
		for _, v := range versions {
			bytes = append(bytes, []byte(v))
		}
		rows, err := f.db.Query(t.Context(), `select a.n, b.n, a.v > b.v, a.v = b.v from unnest($1::bytea[]) with ordinality a(v, n), unnest($1::bytea[]) with ordinality b(v, n)`, bytes)
		if err != nil {
			rt.Fatal(err)
		}
		for rows.Next() {
			var a, b int
			var greater, equal bool
			if err := rows.Scan(&a, &b, &greater, &equal); err != nil {
				rt.Fatal(err)
			}
			if a, b := versions[a-1], versions[b-1]; greater != (a > b) || equal != (a == b) {
				rt.Fatalf("%x > %x is %t, equal %t in Postgres", a, b, greater, equal)
			}
		}
		if rows.Err() != nil {
			rt.Fatal(rows.Err())
		}
	})
}
