package consume

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/rollcall-dev/rollcall/streams"
)

const (
	maxBatch      = 1024    // messages a transaction
	maxFillBatch  = 256     // the same of a fill: what goes on waits for it
	maxBatchBytes = 4 << 20 // bytes of messages a transaction
	readAhead     = 4 << 20 // bytes that JetStream may send before they are asked for
	watchEvery    = time.Second
	ackWait       = 5 * time.Second // for an answer of JetStream's
	commitLimit   = time.Minute     // for a transaction: a network may swallow an answer
	graceOfStop   = 5 * time.Second // for the batch in hand, once the process stops
)

// session reads from the position until something says to start over. Reading
// ends with work; the batch in hand is finished within the outer context's end.
func (r *Runner) session(ctx, outer context.Context, fine func()) error {
	generation := r.Broker.Generation()
	js, err := r.Broker.JetStream()
	if err != nil {
		return err
	}
	at, err := r.start(ctx, js)
	if err != nil {
		return err
	}
	s := &session{Runner: r, js: js, generation: generation, at: at}
	s.batch, s.batchBytes = batchLimits(r.sink)
	if err := s.open(ctx); err != nil {
		return err
	}
	defer r.forget(js, s.consumer)
	r.hint.set(at) // the one that is written may be ahead: the sink was rewound, or restored
	fine()
	r.well()

	g, ctx := errgroup.WithContext(ctx)
	s.work(ctx, g)
	g.Go(func() error { return r.hint.write(ctx, r.Broker, r.Names.StateBucket()) })
	if f, ok := r.sink.(Filler); ok {
		g.Go(func() error { return s.fill(ctx, f) })
	}
	if t, ok := r.sink.(Tidier); ok {
		g.Go(func() error { return r.tidy(ctx, t) })
	}
	err = g.Wait()
	if outer.Err() != nil {
		r.hint.flush(r.Broker, r.Names.StateBucket())
	}
	return err
}

type session struct {
	*Runner
	js         jetstream.JetStream
	consumer   jetstream.Consumer
	generation uint64
	batch      int    // messages a transaction, at most
	batchBytes int    // of their bodies
	end        uint64 // the sequence at which reading ends; 0 for never

	delivered, committed atomic.Uint64 // messages

	mu      sync.Mutex
	at      streams.Position // written by the committer only
	failing bool             // the committer's own
}

// open begins to read behind the position.
func (s *session) open(ctx context.Context) (err error) {
	s.consumer, err = s.js.OrderedConsumer(ctx, s.Names.Stream(), jetstream.OrderedConsumerConfig{
		NamePrefix:     s.sink.Name() + "-" + nuid.Next()[16:], // replicas may overlap for a moment
		FilterSubjects: s.sink.Subjects(),
		DeliverPolicy:  jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:    s.at.Sequence + 1,
	})
	if err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	return nil
}

// work reads, prepares and commits, in goroutines of the group.
func (s *session) work(ctx context.Context, g *errgroup.Group) {
	arrived := make(chan streams.Message, s.batch)
	prepared := make(chan batch, 1)
	idle := make(chan streams.Position, 1)
	g.Go(func() error { return s.read(ctx, arrived) })
	g.Go(func() error { return s.prepare(ctx, arrived, prepared) })
	g.Go(func() error { return s.commitAll(ctx, prepared, idle) })
	g.Go(func() error { return s.watch(ctx, idle) })
}

func (s *session) position() streams.Position {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.at
}

// batchLimits are those of a transaction: a sink may want more of a backlog at
// a time than others.
func batchLimits(s Sink) (messages, bytes int) {
	if own, ok := s.(interface{ Batch() (messages, bytes int) }); ok {
		return own.Batch()
	}
	return maxBatch, maxBatchBytes
}

// batch is messages with what Prepare made of them.
type batch struct {
	messages []streams.Message
	work     any
	rejected map[int]error
}

// read passes on what JetStream delivers.
func (s *session) read(ctx context.Context, arrived chan<- streams.Message) error {
	failed := make(chan error, 1)
	fail := func(err error) {
		select {
		case failed <- err:
		default:
		}
	}
	first, epoch := s.consumer.CachedInfo().Name, s.position().Epoch
	consuming, err := s.consumer.Consume(func(m jetstream.Msg) {
		meta, err := m.Metadata()
		if err != nil {
			fail(fmt.Errorf("message without metadata: %w", err))
			return
		}
		// After a reconnect the client reads on with a consumer made anew, maybe in
		// a stream restored meanwhile, whose sequences are other messages. Only
		// start may decide that.
		if meta.Consumer != first {
			fail(errReadAgain)
			return
		}
		s.delivered.Add(1)
		select {
		case arrived <- streams.Message{
			Subject: m.Subject(), Header: m.Headers(), Data: m.Data(),
			Epoch: epoch, Sequence: meta.Sequence.Stream, Time: meta.Timestamp, Pending: meta.NumPending,
		}:
		case <-ctx.Done():
		}
	}, jetstream.PullMaxBytes(readAhead), jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) {
		// The client mends what it can by itself; the watch finds out the rest.
		s.Log.Debug("reading the log", zap.Error(err))
	}))
	if err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	defer func() {
		consuming.Stop()
		<-consuming.Closed()
	}()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// prepare forms batches of what has arrived, while the batch before is being
// committed: a batch grows with the backlog, and a lone message doesn't wait.
func (s *session) prepare(ctx context.Context, arrived <-chan streams.Message, prepared chan<- batch) error {
	for {
		var b batch
		select {
		case m := <-arrived:
			b.messages = append(make([]streams.Message, 0, min(len(arrived)+1, s.batch)), m)
		case <-ctx.Done():
			return ctx.Err()
		}
		size := len(b.messages[0].Data)
	fill:
		for len(b.messages) < s.batch && size < s.batchBytes {
			select {
			case m := <-arrived:
				b.messages = append(b.messages, m)
				size += len(m.Data)
			default:
				break fill
			}
		}
		b.work, b.rejected = s.sink.Prepare(b.messages)
		select {
		case prepared <- b:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// commitAll commits batch after batch; with none in sight it moves the position
// past what the sink's subjects don't match.
func (s *session) commitAll(ctx context.Context, prepared <-chan batch, idle <-chan streams.Position) error {
	for {
		var err error
		select {
		case <-ctx.Done():
			return ctx.Err()
		case b := <-prepared:
			err = s.commitBatch(ctx, b)
		case to := <-idle:
			if to.Sequence > s.at.Sequence {
				err = s.move(ctx, nil, to, 0, 0)
			}
		}
		if err != nil {
			return err
		}
		if s.end > 0 && s.at.Sequence >= s.end {
			return errEnd
		}
	}
}
