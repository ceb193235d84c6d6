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
	maxBatchBytes = 4 << 20 // bytes of messages a transaction
	readAhead     = 8 << 20 // bytes that JetStream may send before they are asked for
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
	consumer, err := js.OrderedConsumer(ctx, r.Names.Stream(), jetstream.OrderedConsumerConfig{
		NamePrefix:     r.sink.Name() + "-" + nuid.Next()[16:], // replicas may overlap for a moment
		FilterSubjects: r.sink.Subjects(),
		DeliverPolicy:  jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:    at.Sequence + 1,
	})
	if err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	r.hint.set(at) // the one that is written may be ahead: the sink was rewound, or restored
	fine()
	r.well()

	s := &session{Runner: r, js: js, consumer: consumer, generation: generation, at: at}
	g, ctx := errgroup.WithContext(ctx)
	arrived := make(chan streams.Message, maxBatch)
	prepared := make(chan batch, 1)
	idle := make(chan streams.Position, 1)
	g.Go(func() error { return s.read(ctx, arrived) })
	g.Go(func() error { return s.prepare(ctx, arrived, prepared) })
	g.Go(func() error { return s.commitAll(ctx, prepared, idle) })
	g.Go(func() error { return s.watch(ctx, idle) })
	g.Go(func() error { return r.hint.write(ctx, r.Broker, r.Names.StateBucket()) })
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

	delivered, committed atomic.Uint64 // messages

	mu      sync.Mutex
	at      streams.Position // written by the committer only
	failing bool             // the committer's own
}

func (s *session) position() streams.Position {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.at
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
	first := s.consumer.CachedInfo().Name
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
			Sequence: meta.Sequence.Stream, Time: meta.Timestamp, Pending: meta.NumPending,
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
			b.messages = append(make([]streams.Message, 0, min(len(arrived)+1, maxBatch)), m)
		case <-ctx.Done():
			return ctx.Err()
		}
		size := len(b.messages[0].Data)
	fill:
		for len(b.messages) < maxBatch && size < maxBatchBytes {
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
	}
}

// watch notices what no message tells: a connection made anew, a stream made
// anew or restored. It measures the lag, also while commits fail, and tells the
// committer when nothing is pending.
func (s *session) watch(ctx context.Context, idle chan<- streams.Position) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		if err := s.look(ctx, idle); err != nil {
			return err
		}
	}
}

func (s *session) look(ctx context.Context, idle chan<- streams.Position) error {
	if s.Broker.Generation() != s.generation {
		return errReadAgain
	}
	at := s.position()
	// In this order: what is stored later than the stream's state may be pending
	// without having been seen.
	info, err := streamInfo(ctx, s.js, s.Names.Stream())
	if err != nil {
		return err
	}
	if misfit(at, info) != "" {
		return errReadAgain
	}
	ctx, cancel := context.WithTimeout(ctx, ackWait)
	defer cancel()
	consumer, err := s.consumer.Info(ctx)
	if err != nil {
		return fmt.Errorf("consumer: %w", err)
	}
	behind := consumer.NumPending + s.delivered.Load() - s.committed.Load()
	if consumer.Delivered.Stream > at.Sequence && behind == 0 {
		behind = 1 // on its way here
	}
	s.metrics.lag(behind, at.Time)
	if behind == 0 && info.State.LastSeq > at.Sequence {
		select {
		case idle <- streams.Position{Epoch: at.Epoch, Sequence: info.State.LastSeq, Time: info.State.LastTime}:
		default:
		}
	}
	return nil
}

func streamInfo(ctx context.Context, js jetstream.JetStream, name string) (*jetstream.StreamInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, ackWait)
	defer cancel()
	stream, err := js.Stream(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", name, err)
	}
	return stream.CachedInfo(), nil
}

// move commits work and position, and retries until it is done or somebody
// else has moved the position.
func (s *session) move(ctx context.Context, work any, to streams.Position, pending uint64, deadLetters int) error {
	pause := newBackoff()
	for {
		err := s.commit(ctx, work, to, pending, deadLetters)
		if err == nil || isMoved(err) && s.cameThrough(ctx, to) {
			s.arrived(to)
			return nil
		}
		if isMoved(err) {
			s.Log.Info("reading again", zap.Error(err))
			return errReadAgain
		}
		if isPoison(err) || ctx.Err() != nil {
			return err
		}
		s.failing = true
		s.degraded(err)
		pause.wait(ctx)
	}
}

// commit outlives the context for a while: a stop finishes the batch in hand.
func (s *session) commit(ctx context.Context, work any, to streams.Position, pending uint64, deadLetters int) error {
	commit, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitLimit)
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(graceOfStop, cancel) })()
	return s.sink.Commit(commit, work, s.at, to, pending, deadLetters)
}

// cameThrough tells the commit whose answer was lost from another replica's.
func (s *session) cameThrough(ctx context.Context, to streams.Position) bool {
	now, err := s.sink.Position(ctx)
	return err == nil && s.failing && now.Epoch == to.Epoch && now.Sequence == to.Sequence
}

func (s *session) arrived(to streams.Position) {
	s.mu.Lock()
	s.at = to
	s.mu.Unlock()
	s.hint.set(to)
	if s.failing {
		s.failing = false
		s.well()
	}
}

// commitBatch applies a batch; poison in it is bisected out.
func (s *session) commitBatch(ctx context.Context, b batch) error {
	if len(b.rejected) > 0 {
		return s.commitAround(ctx, b)
	}
	err := s.commitPart(ctx, b.messages, b.work)
	if isPoison(err) {
		return s.bisect(ctx, b.messages, err)
	}
	return err
}

func (s *session) commitPart(ctx context.Context, messages []streams.Message, work any) error {
	last := messages[len(messages)-1]
	to := streams.Position{Epoch: s.at.Epoch, Sequence: last.Sequence, Time: last.Time}
	if err := s.move(ctx, work, to, last.Pending, 0); err != nil {
		return err
	}
	s.committed.Add(uint64(len(messages)))
	s.metrics.committed(messages)
	return nil
}

// commitAround commits what stands between the rejected messages.
func (s *session) commitAround(ctx context.Context, b batch) error {
	from := 0
	for i := range b.messages {
		reason, rejected := b.rejected[i]
		if !rejected {
			continue
		}
		if err := s.again(ctx, b.messages[from:i]); err != nil {
			return err
		}
		if err := s.bury(ctx, b.messages[i], reason); err != nil {
			return err
		}
		from = i + 1
	}
	return s.again(ctx, b.messages[from:])
}

// again prepares and commits messages anew.
func (s *session) again(ctx context.Context, messages []streams.Message) error {
	if len(messages) == 0 {
		return nil
	}
	work, rejected := s.sink.Prepare(messages)
	return s.commitBatch(ctx, batch{messages, work, rejected})
}

// bisect finds the messages that can't be applied, and applies all others.
func (s *session) bisect(ctx context.Context, messages []streams.Message, reason error) error {
	if len(messages) == 1 {
		return s.bury(ctx, messages[0], reason)
	}
	half := len(messages) / 2
	if err := s.again(ctx, messages[:half]); err != nil {
		return err
	}
	return s.again(ctx, messages[half:])
}

// bury puts a message into the dead letters and moves past it. The letter is
// there before the position moves; a crash between the two repeats it under
// the same id.
func (s *session) bury(ctx context.Context, m streams.Message, reason error) error {
	pause := newBackoff()
	for {
		err := s.sendLetter(ctx, m, reason)
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s.failing = true
		s.degraded(fmt.Errorf("store a dead letter: %w", err))
		if isNoStream(err) {
			s.NoStream()
		}
		pause.wait(ctx)
	}
	to := streams.Position{Epoch: s.at.Epoch, Sequence: m.Sequence, Time: m.Time}
	if err := s.move(ctx, nil, to, m.Pending, 1); err != nil {
		return err
	}
	s.committed.Add(1)
	s.metrics.buried()
	s.Log.Warn("event went to the dead letters", zap.String("type", typeOf(s.Names, m)), zap.Uint64("sequence", m.Sequence)) // the reason may quote a value: rollcall dlq show has it
	return nil
}
