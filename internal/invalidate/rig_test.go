package invalidate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/rollcall-dev/rollcall/internal/broker"
	"github.com/rollcall-dev/rollcall/internal/consume"
	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
	"github.com/rollcall-dev/rollcall/streams"
)

func TestMain(m *testing.M) { stacktest.MainNoLeaks(m) }

const patience = time.Minute // a busy machine is slow

// keys are templates of each kind: by the id, by another field, by a parent's id.
func keys() map[string][]string {
	return map[string][]string{
		"users":                    {"user:{id}", "user:email:{email}"},
		"organizations":            {"org:{id}", "org:slug:{slug}"},
		"organization_memberships": {"org:{organization_id}:members", "user:{user_id}:orgs"},
	}
}

// log is a stream to write events to.
type log struct {
	t      *testing.T
	server *stacktest.NATSServer
	nc     *nats.Conn
	js     jetstream.JetStream
	n      int
}

func newLog(t *testing.T, opts ...stacktest.NATSOption) *log {
	t.Helper()
	server := stacktest.NATS(t, opts...)
	nc := server.Connect(t)
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(1<<16))
	if err != nil {
		t.Fatal(err)
	}
	l := &log{t: t, server: server, nc: nc, js: js}
	if _, err := streams.Apply(t.Context(), js, streams.Names{}.Definitions(streams.Options{})); err != nil {
		t.Fatal(err)
	}
	return l
}

// message of an event as ingest stores it, one after another in Clerk's time.
func (l *log) message(eventType, id string, data map[string]any) *nats.Msg {
	l.t.Helper()
	l.n++
	data["id"] = id
	at := 1_700_000_000_000 + int64(l.n)
	if data["deleted"] != true && data["updated_at"] == nil {
		data["updated_at"] = at
	}
	body, err := json.Marshal(map[string]any{"type": eventType, "object": "event", "timestamp": at, "instance_id": "ins_1", "data": data})
	if err != nil {
		l.t.Fatal(err)
	}
	resource, action, _ := streams.SplitType(eventType)
	m := nats.NewMsg(streams.Names{}.Subject(streams.Subject{InstanceID: "ins_1", Resource: resource, Action: action, EntityID: id}))
	m.Header.Set(streams.HeaderMsgID, fmt.Sprintf("msg_%d", l.n))
	m.Header.Set(streams.HeaderSvixID, fmt.Sprintf("msg_%d", l.n))
	m.Header.Set(streams.HeaderSource, string(streams.SourceWebhook))
	m.Data = body
	return m
}

func (l *log) add(eventType, id string, data map[string]any) (sequence uint64) {
	l.t.Helper()
	return l.publish(l.message(eventType, id, data))
}

func (l *log) publish(m *nats.Msg) uint64 {
	l.t.Helper()
	ack, err := l.js.PublishMsg(l.t.Context(), m)
	if err != nil {
		l.t.Fatal(err)
	}
	return ack.Sequence
}

func (l *log) user(id, email string) uint64 {
	return l.add("user.updated", id, map[string]any{
		"primary_email_address_id": "e", "email_addresses": []any{map[string]any{"id": "e", "email_address": email}},
	})
}

func (l *log) member(id, org, user string) uint64 {
	return l.add("organizationMembership.created", id, map[string]any{
		"organization": map[string]any{"id": org}, "public_user_data": map[string]any{"user_id": user},
	})
}

func (l *log) deleted(object, id string) uint64 {
	return l.add(object+".deleted", id, map[string]any{"deleted": true})
}

// recorder is a target that keeps what it is sent.
type recorder struct {
	name string
	mu   sync.Mutex
	sent []streams.Invalidation
	fail func(stale []streams.Invalidation) error
}

func (r *recorder) Name() string { return r.name }
func (r *recorder) Close() error { return nil }

func (r *recorder) Send(_ context.Context, stale []streams.Invalidation) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fail != nil {
		if err := r.fail(stale); err != nil {
			return err
		}
	}
	r.sent = append(r.sent, stale...)
	return nil
}

// keys are those of all that was sent, each once.
func (r *recorder) keys() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return distinct(r.sent)
}

func (r *recorder) breaks(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fail = func([]streams.Invalidation) error { return err }
}

func (r *recorder) reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sent = nil
}

// process is an invalidate role, with a connection of its own.
type process struct {
	*Invalidator
	status  map[string]*status
	metrics *prometheus.Registry
	stop    func()
}

// age of the oldest change that waits for a target, in seconds.
func (p *process) age(target string) float64 {
	families, err := p.metrics.Gather()
	if err != nil {
		panic(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "rollcall_invalidate_oldest_waiting_seconds" && m.GetLabel()[0].GetValue() == target {
				return m.GetGauge().GetValue()
			}
		}
	}
	return -1
}

type status struct {
	mu     sync.Mutex
	reason string // "" when well
	all    []string
}

func (s *status) OK() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reason = ""
}

func (s *status) Degraded(reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reason, s.all = reason, append(s.all, reason)
}

func (s *status) now() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reason
}

// run starts the role; it is stopped at the test's end at the latest.
func (l *log) run(o Options, targets ...Target) *process {
	l.t.Helper()
	o.Log = zaptest.NewLogger(l.t, zaptest.Level(zap.WarnLevel))
	conn, err := broker.Dial(broker.Options{Name: "test", URL: l.server.URL, Log: o.Log})
	if err != nil {
		l.t.Fatal(err)
	}
	if o.Keys == nil {
		o.Keys = keys()
	}
	registry := prometheus.NewRegistry()
	o.Broker, o.Targets, o.Metrics = conn, targets, NewMetrics(registry)
	for i, target := range targets {
		if target == nil {
			targets[i] = NewPublisher(conn, o.Names)
		}
	}
	v, err := New(o)
	if err != nil {
		l.t.Fatal(err)
	}
	p := &process{Invalidator: v, status: map[string]*status{}, metrics: registry}
	metrics := consume.NewMetrics(registry, consume.NewDeadLetters(registry))
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for _, s := range v.Sinks() {
		status := &status{}
		p.status[s.target.Name()] = status
		r := consume.New(s, consume.Options{Broker: conn, Names: o.Names, Log: o.Log, Metrics: metrics, Status: status, NoStream: func() {}, Lease: 2 * time.Second})
		all.Go(func() {
			if err := r.Run(ctx); err != nil {
				l.t.Errorf("Run: %v", err)
			}
		})
	}
	p.stop = sync.OnceFunc(func() {
		cancel()
		all.Wait()
		conn.Close()
		for _, t := range targets {
			if err := t.Close(); err != nil {
				l.t.Errorf("close: %v", err)
			}
		}
	})
	l.t.Cleanup(p.stop)
	return p
}

// passed waits until a target has dealt with an event.
func (l *log) passed(target string, sequence uint64) {
	l.t.Helper()
	stacktest.Eventually(l.t, patience, func() error {
		at, err := l.position(target)
		if err != nil || at.Sequence < sequence {
			return fmt.Errorf("%s is at %+v, %v, before %d", target, at, err, sequence)
		}
		return nil
	})
}

func (l *log) position(target string) (at position, err error) {
	value, err := l.value("invalidate.position." + target)
	if err == nil {
		err = json.Unmarshal([]byte(value), &at)
	}
	return at, err
}

// value of a key in the bucket, as any client reads it.
func (l *log) value(key string) (string, error) {
	kv, err := l.js.KeyValue(context.Background(), "CLERK_STATE")
	if err != nil {
		return "", err
	}
	e, err := kv.Get(context.Background(), key)
	if err != nil {
		return "", err
	}
	return string(e.Value()), nil
}

// remembered are the bucket's keys of entities.
func (l *log) remembered() (list []string) {
	l.t.Helper()
	stream, err := l.js.Stream(l.t.Context(), "KV_CLERK_STATE")
	if err != nil {
		l.t.Fatal(err)
	}
	info, err := stream.Info(l.t.Context(), jetstream.WithSubjectFilter("$KV.CLERK_STATE.invalidate.>"))
	if err != nil {
		l.t.Fatal(err)
	}
	var keys []string
	for subject := range info.State.Subjects {
		if key := strings.TrimPrefix(subject, "$KV.CLERK_STATE."); !strings.HasPrefix(key, positionPrefix) {
			keys = append(keys, key)
		}
	}
	found, err := l.sink(&recorder{}).v.memory.state.Get(l.t.Context(), keys)
	if err != nil {
		l.t.Fatal(err)
	}
	for key, e := range found {
		if e.Value != nil {
			list = append(list, key)
		}
	}
	slices.Sort(list)
	return list
}

func same(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	got, want = slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))
	if !slices.Equal(got, want) {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

var errDown = errors.New("the target is down")

func words(s string) []string { return strings.Fields(s) }

func redisAt(t *testing.T, s *stacktest.RedisServer) *Redis {
	t.Helper()
	r, err := NewRedis(s.URL, "rollcall.invalidate", s.CA)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// sink is one that nobody runs.
func (l *log) sink(target Target) *Sink {
	l.t.Helper()
	conn, err := broker.Dial(broker.Options{Name: "test", URL: l.server.URL, Log: zap.NewNop()})
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(conn.Close)
	v, err := New(Options{Broker: conn, Keys: keys(), Targets: []Target{target}, Log: zap.NewNop(), Metrics: NewMetrics(prometheus.NewRegistry())})
	if err != nil {
		l.t.Fatal(err)
	}
	return v.Sinks()[0]
}
