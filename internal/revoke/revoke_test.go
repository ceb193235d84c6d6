package revoke

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"pgregory.net/rapid"

	"github.com/rollcall-dev/rollcall/internal/broker"
	"github.com/rollcall-dev/rollcall/internal/consume"
	"github.com/rollcall-dev/rollcall/internal/revocation"
	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
	"github.com/rollcall-dev/rollcall/streams"
	"github.com/rollcall-dev/rollcall/streams/auth"
)

func TestMain(m *testing.M) { stacktest.MainNoLeaks(m) }

const (
	patience = time.Minute // a busy machine is slow
	life     = 10 * time.Minute
)

// rig is a log with a sink and a gateway's list.
type rig struct {
	t      *testing.T
	server *stacktest.NATSServer
	names  streams.Names
	js     jetstream.JetStream
	list   *revocation.List
	n      int
}

type anyStatus struct{}

func (anyStatus) OK()             {}
func (anyStatus) Degraded(string) {}

func newRig(t *testing.T) *rig {
	t.Helper()
	return newRigOn(t, stacktest.NATS(t), streams.Names{})
}

// newRigOn shares a server with those of other names.
func newRigOn(t *testing.T, server *stacktest.NATSServer, names streams.Names) *rig {
	t.Helper()
	r := &rig{t: t, server: server, names: names}
	js, err := jetstream.New(r.server.Connect(t))
	if err != nil {
		t.Fatal(err)
	}
	r.js = js
	if _, err := streams.Apply(t.Context(), js, names.Definitions(streams.Options{})); err != nil {
		t.Fatal(err)
	}
	r.list = r.newList()
	return r
}

func (r *rig) dial() *broker.Conn {
	r.t.Helper()
	conn, err := broker.Dial(broker.Options{Name: "test", URL: r.server.URL, Log: zap.NewNop()})
	if err != nil {
		r.t.Fatal(err)
	}
	return conn
}

// background runs until the test's end, or until it is stopped.
func (r *rig) background(conn *broker.Conn, run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() {
		if err := run(ctx); err != nil {
			r.t.Errorf("Run: %v", err)
		}
	})
	stop = sync.OnceFunc(func() { cancel(); all.Wait(); conn.Close() })
	r.t.Cleanup(stop)
	return stop
}

func (r *rig) newList() *revocation.List {
	r.t.Helper()
	conn := r.dial()
	l := revocation.NewList(revocation.ListOptions{Broker: conn, Names: r.names, Life: life, Log: zap.NewNop(), Status: anyStatus{}})
	r.background(conn, l.Run)
	return l
}

// sink starts the role.
func (r *rig) sink(o Options) (stop func()) {
	r.t.Helper()
	conn := r.dial()
	o.Broker, o.Names, o.Life = conn, r.names, life
	registry := prometheus.NewRegistry()
	runner := consume.New(New(o), consume.Options{
		Broker: conn, Names: r.names, Log: zap.NewNop(), Metrics: consume.NewMetrics(registry, consume.NewDeadLetters(registry)), Status: anyStatus{},
		NoStream: func() {}, TidyEvery: WatermarkEvery, Lease: 2 * time.Second,
	})
	return r.background(conn, runner.Run)
}

func (r *rig) eventually(what string, holds func() bool) {
	r.t.Helper()
	stacktest.Eventually(r.t, patience, func() error {
		if !holds() {
			return errors.New(what)
		}
		return nil
	})
}

func (r *rig) fresh() {
	r.t.Helper()
	r.eventually("the list isn't fresh", func() bool { return r.list.Fresh() == nil })
}

// add publishes an event as ingest does.
func (r *rig) add(eventType, id string, at time.Time, data map[string]any) (sequence uint64) {
	r.t.Helper()
	r.n++
	ack, err := r.js.PublishMsg(r.t.Context(), r.message(eventType, id, fmt.Sprintf("msg_%d", r.n), at, data))
	if err != nil {
		r.t.Fatal(err)
	}
	return ack.Sequence
}

func (r *rig) message(eventType, id, msgID string, at time.Time, data map[string]any) *nats.Msg {
	if data == nil {
		data = map[string]any{"deleted": true}
	}
	data["id"] = id
	body, err := json.Marshal(map[string]any{"type": eventType, "timestamp": at.UnixMilli(), "data": data})
	if err != nil {
		panic(err)
	}
	resource, action, _ := streams.SplitType(eventType)
	m := nats.NewMsg(r.names.Subject(streams.Subject{InstanceID: "ins_1", Resource: resource, Action: action, EntityID: id}))
	m.Header.Set(streams.HeaderMsgID, msgID)
	m.Header.Set(streams.HeaderSvixID, msgID)
	m.Data = body
	return m
}

func member(role string, permissions ...string) map[string]any {
	return map[string]any{
		"role": role, "permissions": permissions,
		"organization": map[string]any{"id": "org_1"}, "public_user_data": map[string]any{"user_id": "user_1"},
	}
}

func token(at time.Time, role string) *auth.Claims {
	return &auth.Claims{UserID: "user_1", SessionID: "sess_1", IssuedAt: at, Organization: auth.Organization{ID: "org_1", Role: role}}
}

func (r *rig) refused(c *auth.Claims) bool { _, refused := r.list.Refuse(c); return refused }

// passed waits until the sink has applied an event and the list has heard of it.
func (r *rig) passed(sequence uint64) {
	r.t.Helper()
	kv, err := r.js.KeyValue(r.t.Context(), r.names.RevocationBucket())
	if err != nil {
		r.t.Fatal(err)
	}
	r.eventually("no watermark so far", func() bool {
		var at struct{ Sequence uint64 }
		e, err := kv.Get(r.t.Context(), revocation.WatermarkKey)
		return err == nil && json.Unmarshal(e.Value(), &at) == nil && at.Sequence >= sequence
	})
}

// Each kind of event refuses tokens from before it, and lets those after it in.
func TestKinds(t *testing.T) {
	t.Parallel()
	now := time.Now().Add(-time.Minute).Truncate(time.Millisecond)
	role := func(permissions ...string) map[string]any {
		list := []any{}
		for _, p := range permissions {
			list = append(list, map[string]any{"id": p, "key": p})
		}
		return map[string]any{"key": "org:admin", "permissions": list}
	}
	type step struct {
		eventType, id string
		data          map[string]any
	}
	cases := map[string]struct {
		before []step
		last   step
		on     bool
		lock   bool
	}{
		"ban":              {last: step{"user.updated", "user_1", map[string]any{"banned": true}}, on: true},
		"deprovisioned":    {last: step{"user.updated", "user_1", map[string]any{"deprovisioned": true}}, on: true},
		"deletion":         {last: step{"user.deleted", "user_1", nil}, on: true},
		"change":           {last: step{"user.updated", "user_1", map[string]any{"first_name": "Ada"}}},
		"lock":             {last: step{"user.updated", "user_1", map[string]any{"locked": true}}},
		"lock, configured": {last: step{"user.updated", "user_1", map[string]any{"locked": true}}, on: true, lock: true},
		"ended":            {last: step{"session.ended", "sess_1", map[string]any{"status": "ended"}}, on: true},
		"removed session":  {last: step{"session.removed", "sess_1", map[string]any{"status": "removed"}}, on: true},
		"revoked":          {last: step{"session.revoked", "sess_1", map[string]any{"status": "revoked"}}, on: true},
		"begun":            {last: step{"session.created", "sess_1", map[string]any{"status": "active"}}},
		"organization":     {last: step{"organization.deleted", "org_1", nil}, on: true},
		"other":            {last: step{"organization.deleted", "org_2", nil}},
		"removed member":   {last: step{"organizationMembership.deleted", "m_1", member("org:admin")}, on: true},
		"joined":           {last: step{"organizationMembership.created", "m_1", member("org:admin")}},
		"backfilled":       {last: step{"organizationMembership.snapshot", "m_1", member("org:admin")}},
		"unknown before":   {last: step{"organizationMembership.updated", "m_1", member("org:admin")}, on: true},
		"demoted":          {before: []step{{"organizationMembership.created", "m_1", member("org:admin")}}, last: step{"organizationMembership.updated", "m_1", member("org:member")}, on: true},
		"metadata":         {before: []step{{"organizationMembership.created", "m_1", member("org:admin", "a", "b")}}, last: step{"organizationMembership.updated", "m_1", member("org:admin", "b", "a")}},
		"lost a right":     {before: []step{{"organizationMembership.created", "m_1", member("org:admin", "a", "b")}}, last: step{"organizationMembership.updated", "m_1", member("org:admin", "a")}, on: true},
		"role's rights":    {before: []step{{"role.created", "role_1", role("a", "b")}}, last: step{"role.updated", "role_1", role("a")}, on: true},
		"role's name":      {before: []step{{"role.created", "role_1", role("a", "b")}}, last: step{"role.updated", "role_1", role("b", "a")}},
		"role deleted":     {before: []step{{"role.created", "role_1", role("a")}}, last: step{"role.deleted", "role_1", nil}, on: true},
	}
	server, rigs, ends := stacktest.NATS(t), map[string]*rig{}, map[string]uint64{}
	for name, c := range cases { // all of them at once: the watermark is what takes long
		r := newRigOn(t, server, streams.Names{Prefix: fmt.Sprintf("case%d", len(rigs))})
		r.sink(Options{OnLock: c.lock})
		for i, s := range c.before {
			r.add(s.eventType, s.id, now.Add(time.Duration(i-len(c.before))*time.Second), s.data)
		}
		rigs[name], ends[name] = r, r.add(c.last.eventType, c.last.id, now, c.last.data)
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := rigs[name]
			r.passed(ends[name])
			r.fresh()
			if got := r.refused(token(now, "org:admin")); got != c.on {
				t.Errorf("a token made then is refused: %t", got)
			}
			if r.refused(token(now.Add(time.Second), "org:admin")) {
				t.Error("a token made later is refused")
			}
			if other := token(now, "org:admin"); c.last.eventType != "user.updated" {
				other.UserID, other.SessionID, other.Organization = "user_2", "sess_2", auth.Organization{ID: "org_3", Role: "org:other"}
				if r.refused(other) {
					t.Error("somebody else is refused")
				}
			}
		})
	}
}

// An event that comes again long after, or is old, writes nothing; a late one is
// no later than it was.
func TestLateBan(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.sink(Options{})
	old := time.Now().Add(-30 * time.Minute)
	r.add("user.updated", "user_1", old.Add(time.Minute), map[string]any{"banned": false})
	r.passed(r.add("user.updated", "user_1", old, map[string]any{"banned": true}))
	kv, err := r.js.KeyValue(t.Context(), "CLERK_REVOCATIONS")
	if err != nil {
		t.Fatal(err)
	}
	if e, err := kv.Get(t.Context(), "user.user_1"); !errors.Is(err, jetstream.ErrKeyNotFound) {
		t.Errorf("written: %v, %v", e, err)
	}
	r.fresh()
	if r.refused(token(old.Add(2*time.Minute), "")) {
		t.Error("a token from after the un-ban is refused")
	}
}

// Whatever the order and however often: a token from before a change is refused,
// one from after all of them isn't; in order it is exactly as the rules say.
func TestMemoryInAnyOrder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		roles := rapid.SliceOfN(rapid.SampledFrom([]string{"org:a", "org:b"}), 1, 8).Draw(t, "roles")
		changed := int64(0) // when the role was last another
		for i := 1; i < len(roles); i++ {
			if roles[i] != roles[i-1] {
				changed = int64(i + 1)
			}
		}
		deliver := func(order []int) (cut int64) {
			var m memory
			for _, i := range order {
				action := "updated"
				if i == 0 {
					action = "created"
				}
				cuts, _ := m.learn(&fact{key: memoryPrefix + "member.m", at: int64(i + 1), action: action, role: roles[i], entries: []string{"member.o.u"}})
				for _, c := range cuts {
					cut = max(cut, c.at)
				}
			}
			return cut
		}
		var order []int
		for i := range roles {
			order = append(order, i)
		}
		if cut := deliver(order); cut != changed {
			t.Fatalf("in order: cut off at %d, want %d", cut, changed)
		}
		again := rapid.SliceOfN(rapid.IntRange(0, len(roles)-1), 0, 8).Draw(t, "again")
		if cut := deliver(rapid.Permutation(append(order, again...)).Draw(t, "order")); cut < changed || cut > int64(len(roles)) {
			t.Fatalf("out of order: cut off at %d, last change %d", cut, changed)
		}
	})
}

// A sink that ends in the middle misses nothing; the list says so meanwhile, and
// goes on refusing.
func TestStandstill(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	stop := r.sink(Options{})
	now := time.Now().Truncate(time.Millisecond)
	r.passed(r.add("session.revoked", "sess_1", now, map[string]any{"status": "revoked"}))
	r.fresh()
	stop()
	r.add("user.deleted", "user_2", now, nil)
	began := time.Now()
	r.eventually("still taken for fresh", func() bool { return r.list.Fresh() != nil })
	if took := time.Since(began); took > 6*time.Second {
		t.Errorf("it took %s to show", took)
	}
	if !r.refused(token(now, "")) {
		t.Error("what was known is forgotten")
	}
	r.sink(Options{})
	r.fresh()
	if _, refused := r.list.Refuse(&auth.Claims{UserID: "user_2", IssuedAt: now}); !refused {
		t.Error("an event of the time in between is missed")
	}
	r.server.Stop()
	r.eventually("NATS is gone, and the list is taken for fresh", func() bool { return r.list.Fresh() != nil })
	r.server.Start()
	r.fresh()
	if !r.refused(token(now, "")) {
		t.Error("what was known before is forgotten")
	}
}

// By hand: every token, also a later one, until it is lifted; what the log cuts off
// meanwhile stays.
func TestDeny(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.sink(Options{})
	r.fresh()
	conn := r.dial()
	defer conn.Close()
	d := &revocation.Denier{Broker: conn, Life: life, By: "ada@host"}
	later := token(time.Now().Add(time.Minute), "")
	if err := d.Deny(t.Context(), revocation.User, "user_1", time.Now().Add(time.Hour), "stolen laptop"); err != nil {
		t.Fatal(err)
	}
	r.eventually("not refused", func() bool { return r.refused(later) })
	now := time.Now().Truncate(time.Millisecond)
	r.passed(r.add("user.updated", "user_1", now, map[string]any{"banned": true}))
	if list, err := d.List(t.Context(), true); err != nil || len(list) != 1 || list[0].DenyReason != "stolen laptop" || list[0].NotBefore != now.UnixMilli() {
		t.Errorf("%+v, %v", list, err)
	}
	if lifted, err := d.Lift(t.Context(), revocation.User, "user_1", ""); err != nil || !lifted {
		t.Errorf("lifted: %t, %v", lifted, err)
	}
	r.eventually("still refused", func() bool { return !r.refused(later) })
	if !r.refused(token(now, "")) {
		t.Error("the ban went with the denial")
	}
	if lifted, err := d.Lift(t.Context(), revocation.User, "user_2", ""); err != nil || lifted {
		t.Errorf("lifted what wasn't there: %t, %v", lifted, err)
	}
}
