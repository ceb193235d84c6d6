package invalidate

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rollcall-dev/rollcall/internal/bucket"
	"github.com/rollcall-dev/rollcall/internal/consume"
	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
	"github.com/rollcall-dev/rollcall/streams"
)

// Whatever fails and dies in between, a key goes for each change that makes it
// stale, at every target, and nothing is remembered of the deleted in the end.
func TestNothingIsOverlooked(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	const seed = 5
	random := rand.New(rand.NewPCG(seed, 1))
	t.Logf("seed %d", seed)
	flaky := func(name string, seed uint64) *recorder {
		random := rand.New(rand.NewPCG(seed, 2))
		return &recorder{name: name, fail: func([]streams.Invalidation) error {
			if random.IntN(3) == 0 {
				return errDown
			}
			return nil
		}}
	}
	targets := []*recorder{flaky("a", 1), flaky("b", 2)}
	run := func() *process { return l.run(Options{}, targets[0], targets[1]) }
	processes := []*process{run(), run()} // replicas: one target's work may be with either

	const users = 8
	had := map[string]map[string]uint64{} // by user, each key with the last event that makes it stale
	var last uint64
	for i := range 300 {
		user, email := fmt.Sprintf("user_%d", random.IntN(users)), fmt.Sprintf("%d@b.c", i)
		if had[user] == nil {
			had[user] = map[string]uint64{}
		}
		m := l.message("user.updated", user, map[string]any{
			"updated_at":               1_700_000_000_000 + random.Int64N(1000), // in any order
			"primary_email_address_id": "e", "email_addresses": []any{map[string]any{"id": "e", "email_address": email}},
		})
		last = l.publish(m)
		had[user]["user:email:"+email], had[user]["user:"+user] = 0, 0
		for key := range had[user] {
			had[user][key] = last
		}
		if i%60 == 59 {
			n := random.IntN(2)
			processes[n].stop()
			processes[n] = run()
		}
	}
	for i := range users {
		user := fmt.Sprintf("user_%d", i)
		last = l.deleted("user", user)
		for key := range had[user] {
			had[user][key] = last
		}
	}
	for _, target := range targets {
		l.passed(target.name, last)
		target.mu.Lock()
		when := map[string]int{} // each key with the last event that it went for
		for _, i := range target.sent {
			var n int
			if _, err := fmt.Sscanf(i.EventID, "msg_%d", &n); err != nil {
				t.Fatal(err)
			}
			for _, k := range i.Keys {
				when[k] = max(when[k], n)
			}
		}
		target.mu.Unlock()
		for user, keys := range had {
			for key, want := range keys {
				if uint64(when[key]) < want { // the log's sequences are the events' numbers
					t.Errorf("%s: %s of %s went for event %d, not for %d", target.name, key, user, when[key], want)
				}
			}
		}
	}
	for _, key := range l.remembered() {
		if value, err := l.value(key); err != nil || value != `{"deleted":true}` {
			t.Errorf("%s is %s, %v", key, value, err)
		}
	}
}

// The later rendering of a key is the last to be forgotten, and what is written
// is only what is news.
func TestLearn(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var e entry
		var order []string // the model: keys by when they were last made
		for range rapid.IntRange(1, 200).Draw(t, "events") {
			made := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-z]{2}`), 1, 3, rapid.ID).Draw(t, "keys")
			before := slices.Clone(e.Keys)
			changed := e.learn(&change{remember: made})
			order = append(slices.DeleteFunc(order, func(k string) bool { return slices.Contains(made, k) }), made...)
			want := order[max(0, len(order)-maxKeys):]
			if !slices.Equal(slices.Sorted(slices.Values(e.Keys)), slices.Sorted(slices.Values(want))) {
				t.Fatalf("%v, want %v", e.Keys, want)
			}
			if !changed && !slices.Equal(before, e.Keys) {
				t.Fatalf("%v became %v without a word", before, e.Keys)
			}
		}
	})
}

func TestPrerequisites(t *testing.T) {
	t.Parallel()
	l, target := newLog(t), &recorder{name: "redis"}
	key := consume.PositionKey("store-app")
	kv, err := l.js.KeyValue(t.Context(), "CLERK_STATE")
	if err != nil {
		t.Fatal(err)
	}
	stream, err := l.js.Stream(t.Context(), "CLERK")
	if err != nil {
		t.Fatal(err)
	}
	epoch := stream.CachedInfo().Created.UnixNano()
	store := func(epoch int64, at uint64) {
		t.Helper()
		if _, err := kv.Put(t.Context(), key, fmt.Appendf(nil, `{"epoch":%d,"sequence":%d}`, epoch, at)); err != nil {
			t.Fatal(err)
		}
	}
	holds := func(why string) {
		t.Helper()
		time.Sleep(300 * time.Millisecond) // nothing tells that nothing happens
		if got := target.keys(); len(got) > 0 {
			t.Errorf("%s: %v went", why, got)
		}
	}
	l.run(Options{After: []Prerequisite{{"store app", key}}}, target)

	first := l.user("user_1", "a@b.c")
	holds("the store has no position")
	store(epoch-1, 1000)
	holds("the store is in another log")
	store(epoch, first-1)
	holds("the store is before the event")
	store(epoch, first)
	l.passed("redis", first)
	same(t, "after the store", target.keys(), "user:user_1", "user:email:a@b.c")

	// It filters the event out, and passes it all the same once it is idle.
	target.reset()
	second := l.user("user_1", "a@b.c")
	other := l.add("session.created", "sess_1", map[string]any{})
	holds("the store has not passed what it doesn't want")
	store(epoch, other)
	l.passed("redis", second)

	// It was rewound, and reads the log from the start.
	target.reset()
	store(epoch, 0)
	third := l.user("user_1", "a@b.c")
	holds("the store was rewound")
	store(epoch, second)
	holds("the store isn't back yet")
	store(epoch, third)
	l.passed("redis", third)
}

// Other templates need keys that were not remembered: the log has them.
func TestOtherTemplates(t *testing.T) {
	t.Parallel()
	l, target := newLog(t), &recorder{name: "redis"}
	p := l.run(Options{Keys: map[string][]string{"users": {"user:{id}"}}}, target)
	l.passed("redis", l.user("user_1", "a@b.c"))
	same(t, "what the id says is not remembered", l.remembered())
	p.stop()
	p = l.run(Options{Keys: map[string][]string{"users": {"u:{id}", "mail:{email}"}}}, target)
	stacktest.Eventually(t, patience, func() error {
		if _, err := l.value("invalidate.keys.users.user_1"); err != nil {
			return err
		}
		return nil
	})
	target.reset()
	l.passed("redis", l.deleted("user", "user_1"))
	same(t, "keys", target.keys(), "u:user_1", "mail:a@b.c")
	p.stop()
	at, err := l.position("redis")
	if err != nil {
		t.Fatal(err)
	}
	p = l.run(Options{Keys: map[string][]string{"users": {"other:{id}", "mail:{email}"}}}, target)
	l.passed("redis", l.user("user_2", "c@d.e"))
	if again, err := l.position("redis"); err != nil || again.Keys != at.Keys {
		t.Errorf("%+v became %+v, %v", at, again, err)
	}
	if slices.Contains(target.keys(), "other:user_1") {
		t.Error("a template that needs no memory had the log read again")
	}
	p.stop()
}

// An organization of more members than one request or one batch can name.
func TestLargeOrganization(t *testing.T) {
	t.Parallel()
	l, target := newLog(t), &recorder{name: "redis"}
	l.run(Options{}, target)
	const members = 5000
	var last uint64
	for i := range members {
		m := l.message("organizationMembership.created", fmt.Sprintf("orgmem_%d", i), map[string]any{
			"organization": map[string]any{"id": "org:1 "}, "public_user_data": map[string]any{"user_id": fmt.Sprintf("user_%d", i)},
		})
		if _, err := l.js.PublishMsgAsync(m); err != nil {
			t.Fatal(err)
		}
	}
	<-l.js.PublishAsyncComplete()
	last = l.user("user_1", "a@b.c")
	l.passed("redis", last)
	target.reset()
	l.passed("redis", l.deleted("organization", "org:1 "))
	if got := target.keys(); len(got) != members+2 || !slices.Contains(got, "user:user_4999:orgs") || !slices.Contains(got, "org:org:1 :members") {
		t.Errorf("%d keys went, want %d", len(got), members+2)
	}
	for _, key := range l.remembered() {
		if strings.HasPrefix(key, "invalidate.of.") {
			t.Fatalf("%s is left", key)
		}
	}
}

// A deletion that somebody concluded may be wrong: what comes later is
// remembered as before.
func TestInferredDeletion(t *testing.T) {
	t.Parallel()
	l, target := newLog(t), &recorder{name: "redis"}
	l.run(Options{}, target)
	l.user("user_1", "a@b.c")
	inferred := l.message("user.deleted", "user_1", map[string]any{"deleted": true})
	inferred.Header.Set(streams.HeaderSource, string(streams.SourceReconcile))
	l.publish(inferred)
	l.passed("redis", l.user("user_1", "d@e.f"))
	target.reset()
	l.passed("redis", l.deleted("user", "user_1"))
	if !slices.Contains(target.keys(), "user:email:d@e.f") {
		t.Errorf("only %v went", target.keys())
	}
}

// A process that still takes itself for the worker moves nothing.
func TestZombie(t *testing.T) {
	t.Parallel()
	l, target := newLog(t), &recorder{name: "redis"}
	p := l.run(Options{}, target)
	l.passed("redis", l.user("user_1", "a@b.c"))
	p.stop()
	worker, zombie := l.sink(target), l.sink(target)
	from, err := worker.Position(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := zombie.Position(t.Context()); err != nil {
		t.Fatal(err)
	}
	to := from
	to.Sequence++
	if err := worker.Commit(t.Context(), nil, from, to, 0, 0); err != nil {
		t.Fatal(err)
	}
	m := l.message("user.updated", "user_2", map[string]any{})
	prepared, _ := zombie.Prepare([]streams.Message{{Subject: m.Subject, Header: m.Header, Data: m.Data, Sequence: to.Sequence}})
	for name, work := range map[string]any{"nothing": nil, "something": prepared} {
		var moved interface{ Moved() bool }
		err := zombie.Commit(context.Background(), work, from, to, 0, 0)
		if moved, _ = err.(interface{ Moved() bool }); moved == nil || !moved.Moved() { //nolint:errorlint // as it is returned
			t.Errorf("with %s to do: %v", name, err)
		}
	}
}

// A letter goes to all targets, and leaves their positions.
func TestApply(t *testing.T) {
	t.Parallel()
	l, a, b := newLog(t), &recorder{name: "a"}, &recorder{name: "b"}
	p := l.run(Options{}, a, b)
	last := l.user("user_1", "a@b.c")
	l.passed("a", last)
	l.passed("b", last)
	a.reset()
	m := l.message("user.deleted", "user_1", map[string]any{"deleted": true})
	prepared, rejected := p.Prepare([]streams.Message{{Subject: m.Subject, Header: m.Header, Data: m.Data, Sequence: 1}})
	if len(rejected) > 0 {
		t.Fatal(rejected)
	}
	b.breaks(errDown)
	if err := p.Apply(t.Context(), prepared); err == nil || !strings.Contains(err.Error(), "b: "+errDown.Error()) {
		t.Errorf("with a target down: %v", err)
	}
	same(t, "keys", a.keys(), "user:user_1", "user:user_1:orgs", "user:email:a@b.c")
	at, err := l.position("a")
	if err != nil || at.Sequence != last {
		t.Errorf("a is at %d, %v", at.Sequence, err)
	}
}

// What is no event of its type goes to the dead letters of all targets, once.
func TestDeadLetter(t *testing.T) {
	t.Parallel()
	l, a, b := newLog(t), &recorder{name: "a"}, &recorder{name: "b"}
	l.run(Options{}, a, b)
	m := l.message("user.updated", "user_1", map[string]any{})
	m.Data = []byte(`{"type":"user.updated","data":{"id":"user_1\u0000"}}`)
	bad := l.publish(m)
	last := l.user("user_2", "a@b.c")
	l.passed("a", last)
	l.passed("b", last)
	stream, err := l.js.Stream(t.Context(), "CLERK_DEAD")
	if err != nil {
		t.Fatal(err)
	}
	letter, err := stream.GetLastMsgForSubject(t.Context(), "rollcall.dead.invalidate.user.updated.user_1")
	if err != nil || letter.Header.Get(streams.HeaderSequence) != fmt.Sprint(bad) || stream.CachedInfo().State.Msgs != 1 {
		t.Errorf("%d letters, %v", stream.CachedInfo().State.Msgs, err)
	}
}

func TestParseKey(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.String().Draw(t, "id")
		if got, err := streams.ParseKey(streams.Key(id)); err != nil || got != id {
			t.Fatalf("%q is %q, %v", id, got, err)
		}
	})
	for _, bad := range []string{"a=", "a=4", "=ZZ"} {
		if got, err := streams.ParseKey(bad); err == nil {
			t.Errorf("%s is %q", bad, got)
		}
	}
}

// Before nats-server 2.12 there are no atomic batches.
func TestWithoutBatches(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	s := l.sink(&recorder{name: "redis"}).v.memory.state
	for _, atomic := range []bool{true, false} {
		stream, err := l.js.Stream(t.Context(), "KV_CLERK_STATE")
		if err != nil {
			t.Fatal(err)
		}
		config := stream.CachedInfo().Config
		if config.AllowAtomicPublish = atomic; true {
			if _, err := l.js.UpdateStream(t.Context(), config); err != nil {
				t.Fatal(err)
			}
		}
		var puts []bucket.Put
		for i := range 2345 {
			puts = append(puts, bucket.Put{Key: fmt.Sprintf("x.%t.%d", atomic, i), Value: fmt.Appendf(nil, `%d`, i)})
		}
		revisions, err := s.Write(t.Context(), puts)
		if err != nil {
			t.Fatal(err)
		}
		var keys []string
		for i := range puts {
			keys = append(keys, puts[i].Key)
		}
		found, err := s.Get(t.Context(), append(keys, "x.none"))
		if err != nil || len(found) != len(puts) {
			t.Fatalf("%d of %d found, %v", len(found), len(puts), err)
		}
		for i, p := range puts {
			var n int
			if e := found[p.Key]; json.Unmarshal(e.Value, &n) != nil || n != i || e.Revision != revisions[i] {
				t.Fatalf("%s is %s at %d, want %d at %d", p.Key, e.Value, e.Revision, i, revisions[i])
			}
		}
		if _, err := s.Write(t.Context(), puts[:20]); err != bucket.ErrConflict { //nolint:errorlint // as it is returned
			t.Errorf("over what is there: %v", err)
		}
	}
}

func TestErase(t *testing.T) {
	t.Parallel()
	l, target := newLog(t), &recorder{name: "redis"}
	p := l.run(Options{Keys: map[string][]string{
		"users": {"user:email:{email}"}, "organization_memberships": {"org:{organization_id}:members"},
		"organization_invitations": {"invited:{email_address}"},
	}}, target)
	l.user("user_1", `ada"<x>@b.c`)
	l.user("user_2", "grace@b.c")
	l.member("m1", "org_1", "user_1")
	l.member("m2", "org_1", "user_2")
	last := l.add("organizationInvitation.created", "inv_1", map[string]any{"organization_id": "org_1", "email_address": `ada"<x>@b.c`})
	stream, err := l.js.Stream(t.Context(), "CLERK")
	if err != nil {
		t.Fatal(err)
	}
	at := streams.Position{Epoch: stream.CachedInfo().Created.UnixNano(), Sequence: last}
	if err := p.Wait(t.Context(), at); err != nil {
		t.Fatal(err)
	}
	if n, err := p.Erase(t.Context(), "user_1", []string{`ada"<x>@b.c`}); n != 4 || err != nil {
		t.Errorf("%d erased, %v", n, err)
	}
	same(t, "left", l.remembered(), "invalidate.keys.users.user_2", "invalidate.of.organizations.org_1.organization_invitations.inv_1",
		"invalidate.keys.organization_memberships.m2", "invalidate.of.users.user_2.organization_memberships.m2")
	at.Sequence++
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if err := p.Wait(ctx, at); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("invalidate-redis is at event %d, before %d", last, at.Sequence)) {
		t.Errorf("with a target behind: %v", err)
	}
}
