package store

import (
	"context"
	"errors"

	"fmt"
	"maps"
	"os"

	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rollcall-dev/rollcall/streams"
)

// sibling is another configuration of the same store.
func (f *fixture) sibling(t *testing.T, change func(*Options)) *Store {
	t.Helper()
	o := f.o
	change(&o)
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// older is a writer of fewer columns that began before the others were added: it
// doesn't know of them.
func (f *fixture) older(t *testing.T, change func(*Options)) *Store {
	t.Helper()
	s := f.sibling(t, change)
	s.prepared = true
	return s
}

// startAgain makes a new process of the store, which migrates and takes over.
func (f *fixture) startAgain() {
	f.t.Helper()
	f.Store = f.sibling(f.t.(*testing.T), func(*Options) {})
	if _, err := f.Position(f.t.Context()); err != nil {
		f.t.Fatal(err)
	}
}

// matches reports whether one of the subjects, with wildcards, is meant.
func matches(subjects []string, subject string) bool {
	tokens := strings.Split(subject, ".")
	return slices.ContainsFunc(subjects, func(pattern string) bool {
		want := strings.Split(pattern, ".")
		for i, w := range want {
			if w == ">" {
				return true
			}
			if i >= len(tokens) || w != "*" && w != tokens[i] {
				return false
			}
		}
		return len(want) == len(tokens)
	})
}

// fillSome fills from a log, at most n messages, as the runner does; done says
// that nothing is lacking.
func fillSome(ctx context.Context, s *Store, log []streams.Message, n int) (done bool, err error) {
	what, from, to, err := s.Filling(ctx)
	if err != nil || len(what) == 0 {
		return err == nil, err
	}
	if last := log[len(log)-1]; from.Epoch != 1 { // as a whole
		from, to = streams.Position{Epoch: 1}, streams.Position{Epoch: 1, Sequence: last.Sequence, Time: last.Time}
		if err := s.Refill(ctx, from, to); err != nil {
			return false, err
		}
	}
	var batch []streams.Message
	upTo, subjects := to, s.FillSubjects(what)
	for _, m := range log {
		if m.Sequence > from.Sequence && m.Sequence <= to.Sequence && matches(subjects, m.Subject) {
			batch = append(batch, m)
		}
		if len(batch) == n {
			upTo = streams.Position{Epoch: 1, Sequence: m.Sequence, Time: m.Time}
			break
		}
	}
	work, rejected := s.PrepareFill(what, batch)
	if len(rejected) > 0 {
		return false, fmt.Errorf("rejected: %v", rejected)
	}
	return false, s.Fill(ctx, work, from, upTo, 0)
}

// fill fills to the end.
func (f *fixture) fill(log []streams.Message, n int) {
	f.t.Helper()
	for done := false; !done; {
		var err error
		if done, err = fillSome(f.t.Context(), f.Store, log, n); err != nil {
			f.t.Fatal(err)
		}
	}
}

// users are events of ten users, each with a newer name.
func users(from, to int) (log []streams.Message) {
	for i := from; i <= to; i++ {
		log = append(log, event(uint64(i), fmt.Sprint("msg_", i), "user.updated", t0+int64(i), map[string]any{
			"id": fmt.Sprint("user_", i%10), "first_name": fmt.Sprint("name ", i), "updated_at": t0 + i}))
	}
	return log
}

// A column that came late has, once filled, what it would have had. The position
// stays, what goes on between the fill's batches is as it was, and who starts
// again goes on where it was.
func TestFillsAColumn(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	log := append(users(1, 30), event(31, "msg_31", "user.deleted", t0+31, map[string]any{"id": "user_3"}))
	f.apply(log...)
	execute(t, f.db, `alter table clerk.users drop column first_name cascade`)
	f.startAgain()
	f.want("[users.first_name]|0|31", `select incomplete, fill_position, fill_to from clerk.sync_status`)
	if done, err := fillSome(t.Context(), f.Store, log, 12); err != nil || done {
		t.Fatal(done, err)
	}
	f.startAgain()
	f.want("[users.first_name]|12|31|31", `select incomplete, fill_position, fill_to, position from clerk.sync_status`)
	f.apply(event(32, "msg_32", "user.updated", t0+32, map[string]any{"id": "user_4", "first_name": "newer", "updated_at": t0 + 32}))
	f.fill(log, 12)
	f.want("[]|32|true", `select incomplete, position, complete_since is not null from clerk.sync_status`)
	f.want("name 30|name 21|name 22||newer|name 25|name 26|name 27|name 28|name 29", `select string_agg(coalesce(first_name, ''), '|' order by id) from clerk.users`)
	f.want("user_3|22:13:20.031", `select id, deleted_at from clerk.users where deleted_at is not null`)
	if n, err := f.Unfilled(t.Context(), []string{"users.first_name"}); n != 0 || err != nil {
		t.Errorf("%d rows unfilled, %v", n, err)
	}
}

// A table that came late has its rows, without those that were deleted by events
// of before, its own and its parents'.
func TestFillsATable(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(o *Options) { o.Resources = []string{"organizations"} })
	session := func(n uint64, id, user string) streams.Message {
		return event(n, fmt.Sprint("msg_", n), "session.created", t0, map[string]any{"id": id, "user_id": user, "status": "active"})
	}
	log := []streams.Message{
		session(1, "sess_1", "user_1"), session(2, "sess_2", "user_2"), session(3, "sess_3", "user_1"),
		event(4, "msg_4", "user.deleted", t0, map[string]any{"id": "user_2"}),
		event(5, "msg_5", "session.deleted", t0, map[string]any{"id": "sess_3"}),
		event(6, "msg_6", "organization.created", t0, map[string]any{"id": "org_1"}),
	}
	f.apply(log[5])
	f.o.Resources = []string{"organizations", "sessions"}
	f.startAgain()
	f.want("[sessions]", `select incomplete from clerk.sync_status`)
	f.fill(log, 2)
	f.want("sess_1|false|user_1\nsess_2|true|user_2\nsess_3|true|user_1", `select id, deleted_at is not null, user_id from clerk.sessions order by 1`)
	f.want("[]", `select incomplete from clerk.sync_status`)
}

// Of two that fill, as a zombie and its successor, one's batch counts; and who
// writes other columns by now fills nothing of before.
func TestFillIsComparedAndSet(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	log := users(1, 20)
	f.apply(log...)
	execute(t, f.db, `alter table clerk.users drop column first_name cascade`)
	f.startAgain()
	what, from, to, err := f.Filling(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	work, _ := f.PrepareFill(what, log[:10])
	half := streams.Position{Epoch: 1, Sequence: 10, Time: log[9].Time}
	fewer := f.older(t, func(o *Options) { o.Resources = []string{"users"} })
	if _, err := fewer.Position(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := f.Fill(t.Context(), work, from, half, 0); !isMoved(err) {
		t.Errorf("filled for a successor with other columns: %v, want Moved", err)
	}
	if err := f.Commit(t.Context(), nil, f.at, to, 0, 0); !isMoved(err) {
		t.Errorf("committed for a successor with other columns: %v, want Moved", err)
	}
	for i, want := range []bool{false, true} {
		if err := fewer.Fill(t.Context(), nil, from, half, 0); isMoved(err) != want {
			t.Errorf("time %d: %v", i, err)
		}
	}
	f.want("[users.first_name]", `select incomplete from clerk.sync_status`)
}

// Rows whose events are gone stay as they are, and are counted.
func TestUnfilled(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	log := users(1, 20)
	f.apply(log...)
	execute(t, f.db, `select clerk.ensure_user('user_stub')`, `alter table clerk.users drop column first_name cascade`)
	f.startAgain()
	f.fill(slices.Concat(log[:10], log[14:]), 3)
	f.want("user_1,user_2,user_3,user_4,user_stub", `select string_agg(id, ',' order by id) from clerk.users where first_name is null`)
	if n, err := f.Unfilled(t.Context(), []string{"users.first_name"}); n != 4 || err != nil {
		t.Errorf("%d rows unfilled, %v; want 4", n, err)
	}
}

// silently emulates a release that says nothing of columns, and writes those of
// s: it moves the position, and leaves what sync_status has beyond it as it is.
func (f *fixture) silently(ctx context.Context, s *Store, write func() error) error {
	var columns []string
	var key, epoch, position int64
	var at *time.Time
	err := f.db.QueryRow(ctx, `select columns, columns_key, columns_epoch, columns_position, columns_time from clerk.sync_status`).Scan(&columns, &key, &epoch, &position, &at)
	if err == nil {
		_, err = f.db.Exec(ctx, `update clerk.sync_status set columns_key = $1`, s.layout().key)
	}
	if err == nil {
		err = write()
	}
	if err == nil {
		_, err = f.db.Exec(ctx, `update clerk.sync_status set columns = $1, columns_key = $2, columns_epoch = $3, columns_position = $4, columns_time = $5`, columns, key, epoch, position, at)
	}
	return err
}

// A release that knows nothing of a column runs again for a while after an
// upgrade: what it wrote is found and filled, from where it began, and what its
// deletes left of a person is cleared.
func TestRollBackAndUpgradeAgain(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	log := users(1, 25)
	f.apply(log[:20]...)
	if err := f.silently(t.Context(), f.Store, func() error {
		f.apply(log[20:]...)
		f.apply(event(26, "msg_26", "user.deleted", t0, map[string]any{"id": "user_7"}))
		execute(t, f.db, `update clerk.users set locale = 'en' where id = 'user_7'`)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	f.startAgain()
	f.want("true|26|20|26", `select 'users' = any(incomplete), position, fill_position, fill_to from clerk.sync_status`)
	f.want("<nil>", `select locale from clerk.users where id = 'user_7'`)
	execute(t, f.db, `update clerk.users set first_name = null`)
	f.fill(log, 4)
	f.want("user_1,user_2,user_3,user_4,user_5", `select string_agg(id, ',' order by id) from clerk.users where first_name is not null`)
	if n, err := f.Unfilled(t.Context(), []string{"users"}); n != 0 || err != nil {
		t.Errorf("%d rows unfilled, %v", n, err)
	}
	before := f.one(`select fill_position from clerk.sync_status`)
	f.startAgain() // nobody else wrote
	f.want("[]|"+before, `select incomplete, fill_position from clerk.sync_status`)
}

// history is a model's case in which writers of several configurations take
// turns at one schema.
type history struct {
	modelStore
	d       draw
	log     []streams.Message
	writers []*Store // the first writes all
	now     *Store   // whoever writes
}

// write applies messages. Another writer may take over before, maybe one of a
// release that says nothing of it, and some of what is lacking may be filled.
func (h *history) write(ctx context.Context, messages []streams.Message) error {
	if n := rapid.IntRange(-3, len(h.writers)-1).Draw(h.d.T, "writer"); n >= 0 {
		h.now = h.writers[n]
	}
	if rapid.IntRange(0, 5).Draw(h.d.T, "silent") == 5 {
		old := h.writers[len(h.writers)-1]
		return h.silently(ctx, old, func() error { return h.apply(ctx, old, messages) })
	}
	if _, err := h.now.Position(ctx); err != nil {
		return err
	}
	if rapid.Bool().Draw(h.d.T, "fill") && len(h.log) > 0 {
		if _, err := fillSome(ctx, h.now, h.log, rapid.IntRange(1, 5).Draw(h.d.T, "filled")); err != nil {
			return err
		}
	}
	return h.apply(ctx, h.now, messages)
}

func (h *history) apply(ctx context.Context, s *Store, messages []streams.Message) error {
	to := streams.Position{Epoch: 1, Sequence: messages[len(messages)-1].Sequence, Time: messages[len(messages)-1].Time}
	work, rejected := s.Prepare(messages)
	if len(rejected) > 0 {
		return fmt.Errorf("rejected: %v", rejected)
	}
	h.log = append(h.log, messages...)
	err := s.Commit(ctx, work, h.at, to, 0, 0)
	h.at = to
	return err
}

// finish lets the writer of everything fill to the end.
func (h *history) finish(ctx context.Context) error {
	h.now = h.writers[0]
	if _, err := h.now.Position(ctx); err != nil {
		return err
	}
	for range 1000 {
		if done, err := fillSome(ctx, h.now, h.log, 3); done || err != nil {
			return err
		}
	}
	return errors.New("filling doesn't end")
}

// Whoever wrote with whatever configuration before, once the store is filled
// its rows are those of the model. Run by make soak at full size.
func TestModelOfFillingSoak(t *testing.T) {
	t.Parallel()
	rounds := 1
	if os.Getenv("ROLLCALL_SOAK") == "1" {
		rounds = 20
	}
	for _, onDelete := range []string{OnDeleteTombstone, OnDeleteHard, OnDeleteKeep} {
		t.Run(onDelete, func(t *testing.T) {
			t.Parallel()
			m := newModelStore(t, onDelete)
			writers := []*Store{m.Store, m.older(t, func(o *Options) {
				o.Exclude = map[string][]string{"users": {"username", "public_metadata", "email"}, "organizations": {"name"}, "sessions": {"actor"}}
			})}
			for _, resources := range [][]string{{"organization_memberships"}, {"users", "organizations", "roles", "subscriptions"}, {"sessions", "subscription_items", "users"}} {
				writers = append(writers, m.older(t, func(o *Options) { o.Resources = resources }))
			}
			for range rounds {
				rapid.Check(t, func(rt *rapid.T) {
					h := &history{modelStore: m, d: draw{rt}, writers: writers, now: m.Store}
					h.run(t.Context(), slices.Sorted(maps.Keys(kinds)))
				})
			}
		})
	}
}

func (h *history) run(ctx context.Context, tables []string) {
	if err := h.empty(ctx); err != nil {
		h.d.Fatal(err)
	}
	var facts []*fact
	for i := range rapid.IntRange(1, 16).Draw(h.d.T, "events") {
		facts = append(facts, h.d.fact(i, tables))
	}
	for left := rapid.Permutation(facts).Draw(h.d.T, "order"); len(left) > 0; {
		n := rapid.IntRange(1, min(4, len(left))).Draw(h.d.T, "batch")
		var messages []streams.Message
		for _, f := range left[:n] {
			h.next++
			messages = append(messages, f.message(h.next))
		}
		if err := h.write(ctx, messages); err != nil {
			h.d.Fatal(err)
		}
		left = left[n:]
	}
	if err := h.finish(ctx); err != nil {
		h.d.Fatal(err)
	}
	diff, err := h.compare(ctx, facts)
	if err != nil {
		h.d.Fatal(err)
	}
	if diff != "" {
		h.d.Fatalf("rows differ (-model +store):\n%s", diff)
	}
}
