// Package replay reads a range of the log once more, from one end to the other,
// and hands it to a store, a subject or a file. Nothing of the log changes, and
// no sink's position. Memory is one batch, however long the range is.
package replay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/rollcall-dev/rollcall/streams"
)

const (
	maxBatch      = 1024
	maxBatchBytes = 4 << 20
	readAhead     = 4 << 20 // bytes that JetStream may send before they are asked for
	askEvery      = 2 * time.Second
)

// Target is where events go.
type Target interface {
	// Put is done with events, in order, when it returns without an error: those
	// aren't repeated. After an error they may have been put in part.
	Put(ctx context.Context, events []streams.Message) error
}

// Options of a replay.
type Options struct {
	JetStream jetstream.JetStream
	Names     streams.Names
	Selection Selection
	Target    Target // nil: they are only counted
	// Progress is told how many events have been read since the last time, and
	// how many are left at most. May be nil.
	Progress func(read int, left uint64)
}

// Result of a replay.
type Result struct {
	Events int64            `json:"events"`
	Types  map[string]int64 `json:"types"` // events by type
	First  uint64           `json:"first"` // sequence of the first event; 0 without one
	Last   uint64           `json:"last"`  // and of the last
	// Next is the sequence to go on from: all that is selected before it is done.
	Next uint64 `json:"next"`
}

// Run replays what is selected and is in the log when it begins. The result is
// what was done, also beside an error.
func Run(ctx context.Context, o Options) (*Result, error) {
	r := &run{Options: o, result: &Result{Types: map[string]int64{}}}
	if r.Progress == nil {
		r.Progress = func(int, uint64) {}
	}
	err := r.open(ctx)
	if err == nil {
		err = r.all(ctx)
	}
	return r.result, err
}

type run struct {
	Options
	result   *Result
	epoch    int64
	end      uint64 // the last sequence to read
	stream   jetstream.Stream
	consumer jetstream.Consumer
	reader   string // name of the consumer that the client reads with

	batch []streams.Message
	size  int
	read  uint64 // the last sequence that was read
}

// open finds the range and begins to read it.
func (r *run) open(ctx context.Context) error {
	var err error
	if r.stream, err = r.JetStream.Stream(ctx, r.Names.Stream()); err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	info := r.stream.CachedInfo()
	r.epoch, r.end = info.Created.UnixNano(), info.State.LastSeq
	from := max(r.Selection.From.Sequence, 1)
	r.result.Next = from
	if to := r.Selection.To.Sequence; to > 0 {
		r.end = min(r.end, to)
	}
	config := jetstream.OrderedConsumerConfig{
		NamePrefix:     "replay-" + nuid.Next()[16:],
		FilterSubjects: r.Selection.subjects(r.Names),
		HeadersOnly:    r.Target == nil && !r.Selection.needsBody(),
		DeliverPolicy:  jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:    from,
	}
	if t := r.Selection.From.Time; !t.IsZero() {
		config.DeliverPolicy, config.OptStartSeq, config.OptStartTime = jetstream.DeliverByStartTimePolicy, 0, &t
	}
	r.consumer, err = r.JetStream.OrderedConsumer(ctx, r.Names.Stream(), config)
	if err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	return nil
}

// all reads to the range's end. What ends it in between leaves the batch in hand.
func (r *run) all(ctx context.Context) error {
	info := r.consumer.CachedInfo()
	r.reader = info.Name
	defer func() { // one that is left ends by itself, minutes later
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = r.JetStream.DeleteConsumer(end, r.Names.Stream(), r.reader)
	}()
	if info.NumPending == 0 {
		return r.finish(ctx)
	}
	messages, err := r.consumer.Messages(jetstream.PullMaxBytes(readAhead))
	if err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	defer messages.Stop()
	for {
		m, err := r.next(ctx, messages)
		if err != nil {
			return err
		}
		if m == nil || m.Sequence > r.end || !r.Selection.until(m.Time) {
			return r.finish(ctx)
		}
		if err := r.take(ctx, *m); err != nil {
			return err
		}
		if m.Pending == 0 || m.Sequence == r.end {
			return r.finish(ctx)
		}
	}
}

// next waits for a message; nil where there is none any more.
func (r *run) next(ctx context.Context, messages jetstream.MessagesContext) (*streams.Message, error) {
	for {
		waiting, cancel := context.WithTimeout(ctx, askEvery)
		m, err := messages.Next(jetstream.NextContext(waiting))
		cancel()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if errors.Is(err, context.DeadlineExceeded) {
			// The rest may have gone meanwhile, expired or erased. Or NATS is away:
			// then there is no answer, and the client goes on when it is back.
			if gone, err := r.nothingLeft(ctx); err == nil && gone {
				return nil, nil
			}
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read the log: %w", err)
		}
		return r.message(ctx, m)
	}
}

// nothingLeft reports whether the stream holds nothing of the range any more. The
// consumer's own numbers don't tell what is on its way from what has gone.
func (r *run) nothingLeft(ctx context.Context) (bool, error) {
	asking, cancel := context.WithTimeout(ctx, askEvery)
	defer cancel()
	for _, subject := range r.Selection.subjects(r.Names) {
		last, err := r.stream.GetLastMsgForSubject(asking, subject)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil || last.Sequence > r.read && !last.Time.Before(r.Selection.From.Time) {
			return false, err // what is behind the range comes, and ends it
		}
	}
	return true, nil
}

func (r *run) message(ctx context.Context, m jetstream.Msg) (*streams.Message, error) {
	meta, err := m.Metadata()
	if err != nil {
		return nil, fmt.Errorf("message without metadata: %w", err)
	}
	if meta.Consumer != r.reader { // the client has made it anew: maybe in another stream
		r.reader = meta.Consumer
		stream, err := r.JetStream.Stream(ctx, r.Names.Stream())
		if err != nil {
			return nil, fmt.Errorf("read the log: %w", err)
		}
		if stream.CachedInfo().Created.UnixNano() != r.epoch {
			return nil, errors.New("the stream was made anew meanwhile: its sequences are other events")
		}
	}
	return &streams.Message{
		Subject: m.Subject(), Header: m.Headers(), Data: m.Data(), Epoch: r.epoch,
		Sequence: meta.Sequence.Stream, Time: meta.Timestamp, Pending: meta.NumPending,
	}, nil
}

// take adds a message to the batch, if it is selected, and puts a full one.
func (r *run) take(ctx context.Context, m streams.Message) error {
	if r.Selection.matches(r.Names, m) {
		r.batch = append(r.batch, m)
		r.size += len(m.Data)
	}
	r.read = m.Sequence
	r.Progress(1, m.Pending)
	if len(r.batch) == maxBatch || r.size >= maxBatchBytes {
		return r.put(ctx)
	}
	return nil
}

// put hands over the batch; then all that was read is done.
func (r *run) put(ctx context.Context) error {
	if len(r.batch) > 0 && r.Target != nil {
		if err := r.Target.Put(ctx, r.batch); err != nil {
			return err
		}
	}
	for _, m := range r.batch {
		r.result.Types[typeOf(r.Names, m)]++
	}
	if n := len(r.batch); n > 0 {
		if r.result.First == 0 {
			r.result.First = r.batch[0].Sequence
		}
		r.result.Last = r.batch[n-1].Sequence
		r.result.Events += int64(n)
	}
	clear(r.batch)
	r.batch, r.size = r.batch[:0], 0
	if r.read > 0 {
		r.result.Next = r.read + 1
	}
	return nil
}

func (r *run) finish(ctx context.Context) error {
	if err := r.put(ctx); err != nil {
		return err
	}
	if r.Selection.To.Time.IsZero() { // else it isn't known where in the log that is
		r.result.Next = max(r.result.Next, r.end+1)
	}
	return nil
}

func typeOf(n streams.Names, m streams.Message) string {
	s, err := n.ParseSubject(m.Subject)
	if err != nil {
		return "unknown"
	}
	return s.Type()
}
