// Package consume is the log's back end: it reads the log from a position and
// applies it to a sink, in stream order, each message once in effect.
//
//	standby ──lease──▶ check position ──▶ read ─▶ prepare ─▶ commit ──┐
//	   ▲                    │ stream made anew,      ▲   effects and  │
//	   │                    │ or shorter: rewind     │   position     │
//	   └──lease lost, position moved, reconnect──────┴───◀────────────┘
//
// The position is kept where the effects are and moves with them, compare and
// set; JetStream's own consumer state decides nothing. A lease says which of
// several replicas works; it only saves work, since of two that believe they
// hold it one fails to move the position. What can't be applied because of
// one message is bisected until that message stands alone, and goes to the dead
// letters; every other failure is retried for ever, and shown.
package consume

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/rollcall-dev/rollcall/streams"
)

// Sink is what the log is applied to. One that has a method Batch() (messages,
// bytes int) says how much it takes at a time, at the most.
type Sink interface {
	// Name as in streams.HeaderSink, for example "store-app".
	Name() string
	// Subjects of the log that it wants.
	Subjects() []string
	// Position reads how far it has come.
	Position(context.Context) (streams.Position, error)
	// Prepare does what needs no I/O; it may run while an earlier batch is being
	// committed. Messages that can never be applied are rejected, by index.
	Prepare([]streams.Message) (work any, rejected map[int]error)
	// Commit applies prepared work, nil for none, and moves the position from
	// one to the other, in one transaction; to a sequence of 0 the sink begins the
	// log anew. Where the position is not from, it changes nothing and the error
	// answers Moved() true. An error that lies in the messages answers Poison()
	// true; any other is retried. Pending is how many messages of its subjects lie
	// behind the new position, deadLetters how many of this move were buried.
	Commit(ctx context.Context, work any, from, to streams.Position, pending uint64, deadLetters int) error
}

// Tidier is a Sink with work of its own that no message asks for.
type Tidier interface {
	// Tidy does it; it is called every so often, by the replica that works.
	Tidy(context.Context) error
}

func isMoved(err error) bool {
	var m interface{ Moved() bool }
	return errors.As(err, &m) && m.Moved()
}

func isPoison(err error) bool {
	var p interface{ Poison() bool }
	return errors.As(err, &p) && p.Poison()
}

// Broker is the connection to NATS.
type Broker interface {
	NATS() (*nats.Conn, error)
	JetStream() (jetstream.JetStream, error)
	Generation() uint64
}

// Status shows whether a sink is well.
type Status interface {
	OK()
	Degraded(reason string)
}

// Options of a Runner.
type Options struct {
	Broker  Broker
	Names   streams.Names
	Log     *zap.Logger
	Metrics *Metrics
	Status  Status
	// NoStream is called when the log isn't there; it must not block.
	NoStream func()
	// Lease is how long a worker that vanished keeps its replicas waiting;
	// 0 means 3 s.
	Lease time.Duration
	// Filling is told what a Filler lacks while it is being filled, and nothing once
	// it is done; nil tells nobody.
	Filling func(what []string)
	// TidyEvery is how often a Tidier tidies; 0 means every minute.
	TidyEvery time.Duration
}

// Runner applies the log to one sink.
type Runner struct {
	Options
	sink    Sink
	metrics sinkMetrics
	hint    *hint
	health  *health
	reading reading
}

// New makes a runner.
func New(s Sink, o Options) *Runner {
	if o.Lease == 0 {
		o.Lease = 3 * time.Second
	}
	if o.Filling == nil {
		o.Filling = func([]string) {}
	}
	if o.TidyEvery == 0 {
		o.TidyEvery = time.Minute
	}
	o.Log = o.Log.With(zap.String("sink", s.Name()))
	m := o.Metrics.of(s.Name())
	return &Runner{Options: o, sink: s, metrics: m, hint: newHint(s.Name()), health: &health{status: o.Status, gauge: m.degraded}}
}

// errReadAgain ends a session that can't go on as it is, without being trouble.
var errReadAgain = errors.New("read again from the position")

// Run applies the log until the context ends; then it finishes the batch in
// hand. It returns only then.
func (r *Runner) Run(ctx context.Context) error {
	pause := newBackoff()
	for ctx.Err() == nil {
		err := r.turn(ctx, pause.reset)
		if ctx.Err() != nil {
			break
		}
		if err != nil && !errors.Is(err, errReadAgain) {
			r.degraded(err)
			if isNoStream(err) {
				r.NoStream()
			}
		}
		pause.wait(ctx)
	}
	return nil
}

// turn waits for the lease and works as long as it holds.
func (r *Runner) turn(ctx context.Context, fine func()) error {
	held, err := r.acquire(ctx)
	if err != nil {
		return fmt.Errorf("lease: %w", err)
	}
	defer held.Release()
	r.metrics.working.Set(1)
	defer r.metrics.working.Set(0)
	err = r.session(held.Context(), ctx, fine)
	if held.Context().Err() != nil && ctx.Err() == nil {
		return errReadAgain // the lease is lost; wait for it again
	}
	return err
}

func (r *Runner) degraded(err error) { r.health.set(r.reading, err.Error()) }
func (r *Runner) well()              { r.health.set(r.reading, "") }

func isNoStream(err error) bool {
	return errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, jetstream.ErrBucketNotFound) ||
		errors.Is(err, nats.ErrNoResponders) || errors.Is(err, jetstream.ErrNoStreamResponse)
}

// backoff doubles from 50 ms to 5 s, with jitter so that replicas and sinks
// that failed together don't come back together.
type backoff struct{ next time.Duration }

const (
	firstPause   = 50 * time.Millisecond
	longestPause = 5 * time.Second
)

func newBackoff() *backoff { return &backoff{firstPause} }

func (b *backoff) reset() { b.next = firstPause }

func (b *backoff) wait(ctx context.Context) {
	d := b.next/2 + rand.N(b.next/2)
	b.next = min(2*b.next, longestPause)
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
