package store

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/streams"
)

// What is applied beside the log is a join like all else: it has its message's
// origin, the position stays, and a newer content isn't undone.
func TestApply(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	letter := func(sequence uint64, at int64, name string) streams.Message {
		m := event(sequence, "msg_"+name, "user.updated", at, map[string]any{"id": "user_" + name[:1], "first_name": name, "updated_at": at})
		m.Epoch = 7
		return m
	}
	f.apply(event(5, "msg_5", "user.updated", t0+5, map[string]any{"id": "user_b", "first_name": "new", "updated_at": t0 + 5}))
	for range 2 {
		work, rejected := f.Prepare([]streams.Message{letter(2, t0, "a"), letter(3, t0, "b")})
		if len(rejected) > 0 {
			t.Fatal(rejected)
		}
		if err := f.Apply(t.Context(), work); err != nil {
			t.Fatal(err)
		}
		f.want("user_a|a|7|2\nuser_b|new|1|5", `select id, first_name, stream_epoch, stream_seq from clerk.users order by 1`)
	}
	f.want("1|5|0", `select epoch, position, dead_letters from clerk.sync_status`)
	f.apply(event(6, "msg_6", "user.deleted", t0, map[string]any{"id": "user_b"})) // the next batch finds the position

	for _, nothing := range []any{nil, &Work{}} {
		if err := f.Apply(t.Context(), nothing); err != nil {
			t.Error(err)
		}
	}
}

// It takes the writer lock, and what the database refuses is poison.
func TestApplyFails(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.lockTimeout, f.idleTimeout = 200*time.Millisecond, time.Minute
	execute(t, f.db, `alter table clerk.users add constraint no_eve check (first_name <> 'Eve')`)
	work, _ := f.Prepare([]streams.Message{event(1, "msg_1", "user.created", t0, map[string]any{"id": "user_1", "first_name": "Eve"})})
	other, _ := f.holder(t)
	refused(t, f.Apply(t.Context(), work), "writer lock")
	if _, err := other.Exec(t.Context(), "rollback").ReadAll(); err != nil {
		t.Fatal(err)
	}
	err := f.Apply(t.Context(), work)
	if e := (*Error)(nil); !errors.As(err, &e) || !e.Poison() {
		t.Fatalf("%v, want Poison", err)
	}
	execute(t, f.db, `alter table clerk.users drop constraint no_eve`)
	if err := f.Apply(t.Context(), work); err != nil { // the same work again
		t.Fatal(err)
	}
	f.want("Eve", `select first_name from clerk.users`)
}

// The number of letters is what is counted, also where the sink adds one
// meanwhile.
func TestCountLetters(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	if err := f.Commit(t.Context(), nil, f.at, streams.Position{Epoch: 1, Sequence: 1}, 0, 5); err != nil {
		t.Fatal(err)
	}
	letters, asked := uint64(3), 0
	err := f.CountLetters(t.Context(), func(ctx context.Context) (uint64, error) {
		n := letters
		if asked++; asked == 1 { // another comes after the look
			letters++
			return n, f.Commit(ctx, nil, streams.Position{Epoch: 1, Sequence: 1}, streams.Position{Epoch: 1, Sequence: 2}, 0, 1)
		}
		return n, nil
	})
	if err != nil || asked != 2 {
		t.Errorf("%v, asked %d times", err, asked)
	}
	f.want("4|2", `select dead_letters, position from clerk.sync_status`)
	execute(t, f.db, `drop schema clerk cascade`)
	if err := f.CountLetters(t.Context(), nil); err != nil {
		t.Errorf("without a schema: %v", err)
	}
}
