package consume

import (
	"context"
	"fmt"
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
	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
	"github.com/rollcall-dev/rollcall/streams"
)

func TestMain(m *testing.M) { stacktest.MainNoLeaks(m) }

const patience = 30 * time.Second

// memory is a sink that keeps ids of events: a database of one process.
type memory struct {
	mu      sync.Mutex
	at      streams.Position
	applied []string          // ids in the order of their effects
	beside  []streams.Message // by Apply, as often as it was called
	counted uint64            // letters, as CountLetters found
	rewinds int
	letters int // as Commit was told
	refused int // commits from another position

	reject func(streams.Message) error   // in Prepare
	fail   func([]streams.Message) error // in Commit
	before func()                        // Commit, without the lock
}

var errPoison = poisonError{}

type poisonError struct{}

func (poisonError) Error() string { return "this event\ncan't be applied" }
func (poisonError) Poison() bool  { return true }

type movedError struct{}

func (movedError) Error() string { return "moved" }
func (movedError) Moved() bool   { return true }

func (s *memory) Name() string       { return "store-test" }
func (s *memory) Subjects() []string { return []string{"clerk.*.user.*.*", "clerk.*.organization.*.*"} }

func (s *memory) Position(context.Context) (streams.Position, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.at, nil
}

func (s *memory) Prepare(messages []streams.Message) (any, map[int]error) {
	var work []streams.Message
	rejected := map[int]error{}
	for i, m := range messages {
		if s.reject != nil && s.reject(m) != nil {
			rejected[i] = s.reject(m)
		} else {
			work = append(work, m)
		}
	}
	return work, rejected
}

func (s *memory) Commit(_ context.Context, work any, from, to streams.Position, _ uint64, deadLetters int) error {
	if s.before != nil {
		s.before()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at.Epoch != from.Epoch || s.at.Sequence != from.Sequence {
		s.refused++
		return movedError{}
	}
	messages, _ := work.([]streams.Message)
	if s.fail != nil {
		if err := s.fail(messages); err != nil {
			return err
		}
	}
	for _, m := range messages {
		if m.Epoch != from.Epoch {
			return fmt.Errorf("message of epoch %d, position of %d", m.Epoch, from.Epoch)
		}
		s.applied = append(s.applied, m.Header.Get(streams.HeaderMsgID))
	}
	if to.Sequence == 0 && from.Epoch != 0 {
		s.rewinds++
	}
	s.at, s.letters = to, s.letters+deadLetters
	s.at.Time = to.Time.Truncate(time.Microsecond) // as Postgres would
	return nil
}

// Apply makes it a Redriver.
func (s *memory) Apply(_ context.Context, work any) error {
	if s.before != nil {
		s.before()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	messages := work.([]streams.Message)
	if s.fail != nil {
		if err := s.fail(messages); err != nil {
			return err
		}
	}
	s.beside = append(s.beside, messages...)
	return nil
}

func (s *memory) CountLetters(ctx context.Context, count func(context.Context) (uint64, error)) error {
	n, err := count(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counted = n
	return err
}

// look reads the sink under its lock.
func (s *memory) look(read func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	read()
}

// log is a stream to write to.
type log struct {
	t      *testing.T
	server *stacktest.NATSServer
	js     jetstream.JetStream
}

func newLog(t *testing.T, opts ...stacktest.NATSOption) *log {
	t.Helper()
	server := stacktest.NATS(t, opts...)
	js, err := jetstream.New(server.Connect(t), jetstream.WithPublishAsyncMaxPending(1<<20))
	if err != nil {
		t.Fatal(err)
	}
	l := &log{t, server, js}
	l.create()
	return l
}

func (l *log) create() {
	l.t.Helper()
	if _, err := streams.Apply(l.t.Context(), l.js, streams.Names{}.Definitions(streams.Options{})); err != nil {
		l.t.Fatal(err)
	}
}

// add stores events prefix0, prefix1, … of a resource and returns their ids.
func (l *log) add(resource, prefix string, n int) (ids []string) {
	l.t.Helper()
	for i := range n {
		id := fmt.Sprint(prefix, i)
		ids = append(ids, id)
		m := nats.NewMsg("clerk.ins_1." + resource + ".created." + id)
		m.Header.Set(streams.HeaderMsgID, id)
		m.Header.Set(streams.HeaderSvixID, id)
		m.Header.Set("traceparent", "00-"+id)
		m.Data = []byte(`{"id":"` + id + `"}`)
		if _, err := l.js.PublishMsgAsync(m); err != nil {
			l.t.Fatal(err)
		}
	}
	select {
	case <-l.js.PublishAsyncComplete():
	case <-time.After(patience):
		l.t.Fatal("the log takes no events")
	}
	return ids
}

func (l *log) info(stream string) *jetstream.StreamInfo {
	l.t.Helper()
	s, err := l.js.Stream(l.t.Context(), stream)
	if err != nil {
		l.t.Fatal(err)
	}
	return s.CachedInfo()
}

// status remembers what it was told.
type status struct {
	mu       sync.Mutex
	degraded []string
	well     bool
	filling  []string
}

func (s *status) OK() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.well = true
}

func (s *status) Degraded(reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.degraded, s.well = append(s.degraded, reason), false
}

func (s *status) fills(what []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.filling = what
}

func (s *status) now() (well bool, reasons string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.well, strings.Join(s.degraded, "\n")
}

// process is a runner with a connection of its own.
type process struct {
	*Runner
	status   *status
	conn     *broker.Conn
	noStream chan struct{}
	stop     func() // as SIGTERM, and waits
}

// run starts a runner; it is stopped at the test's end at the latest.
func (l *log) run(s Sink, change ...func(*Options)) *process {
	l.t.Helper()
	logger := zaptest.NewLogger(l.t, zaptest.Level(zap.WarnLevel))
	conn, err := broker.Dial(broker.Options{Name: "test", URL: l.server.URL, Log: logger})
	if err != nil {
		l.t.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	p := &process{status: &status{}, conn: conn, noStream: make(chan struct{}, 1)}
	o := Options{
		Broker: conn, Log: logger, Metrics: NewMetrics(registry, NewDeadLetters(registry)), Status: p.status, Filling: p.status.fills, Lease: 2 * time.Second,
		NoStream: func() {
			select {
			case p.noStream <- struct{}{}:
			default:
			}
		},
	}
	for _, c := range change {
		c(&o)
	}
	p.Runner = New(s, o)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	p.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				l.t.Errorf("Run: %v", err)
			}
		case <-time.After(patience):
			l.t.Error("the runner doesn't stop")
		}
		conn.Close()
	})
	l.t.Cleanup(p.stop)
	return p
}

// awaits waits until exactly these are the effects, in order, and the position
// is the log's end.
func (l *log) awaits(s *memory, want ...[]string) {
	l.t.Helper()
	var all []string
	for _, ids := range want {
		all = append(all, ids...)
	}
	stacktest.Eventually(l.t, patience, func() error {
		end := l.info("CLERK")
		s.mu.Lock()
		defer s.mu.Unlock()
		if at := s.at; at.Epoch != end.Created.UnixNano() || at.Sequence != end.State.LastSeq || len(s.applied) < len(all) {
			return fmt.Errorf("%d of %d applied, position %d, the log ends at %d", len(s.applied), len(all), at.Sequence, end.State.LastSeq)
		}
		return nil
	})
	s.look(func() {
		if len(s.applied) != len(all) {
			l.t.Fatalf("%d effects, want %d", len(s.applied), len(all))
		}
		for i := range all {
			if s.applied[i] != all[i] {
				l.t.Fatalf("effect %d is of %s, want %s", i, s.applied[i], all[i])
			}
		}
	})
}

// hint reads the position that other processes see.
func (l *log) hint() (string, error) {
	kv, err := l.js.KeyValue(l.t.Context(), "CLERK_STATE")
	if err != nil {
		return "", err
	}
	e, err := kv.Get(l.t.Context(), PositionKey("store-test"))
	if err != nil {
		return "", err
	}
	return string(e.Value()), nil
}

func (l *log) awaitHint(s *memory) {
	l.t.Helper()
	stacktest.Eventually(l.t, patience, func() error {
		hint, err := l.hint()
		at, _ := s.Position(l.t.Context())
		if want := fmt.Sprintf(`{"epoch":%d,"sequence":%d}`, at.Epoch, at.Sequence); err != nil || hint != want {
			return fmt.Errorf("hint %s, %v, want %s", hint, err, want)
		}
		return nil
	})
}
