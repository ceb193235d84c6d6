package consume

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
	"go.uber.org/zap"

	"github.com/rollcall-dev/rollcall/streams"
)

// start is the position to read from: the sink's, or the log's beginning where
// the log isn't the one that the position speaks of.
func (r *Runner) start(ctx context.Context, js jetstream.JetStream) (streams.Position, error) {
	at, err := r.sink.Position(ctx)
	if err != nil {
		return at, fmt.Errorf("position: %w", err)
	}
	info, err := streamInfo(ctx, js, r.Names.Stream())
	if err != nil {
		return at, err
	}
	why := misfit(at, info)
	if why == "" {
		if why, err = r.otherMessage(ctx, js, at, info); err != nil {
			return at, err
		}
	}
	if why == "" {
		return at, nil
	}
	begin := streams.Position{Epoch: epochOf(info)}
	first := at.Epoch == 0
	err = r.sink.Commit(ctx, nil, at, begin, info.State.Msgs, 0)
	switch {
	case isMoved(err):
		return at, errReadAgain
	case err != nil:
		return at, fmt.Errorf("rewind: %w", err)
	}
	if !first {
		r.metrics.rewinds.Inc()
		r.Log.Warn("rewound: reading the log from its start", zap.String("reason", why))
	}
	return begin, nil
}

func epochOf(info *jetstream.StreamInfo) int64 { return info.Created.UnixNano() }

// misfit says why a position isn't of this stream, as far as the stream's
// state tells; "" where it may be.
func misfit(at streams.Position, info *jetstream.StreamInfo) string {
	switch {
	case at.Epoch != epochOf(info):
		return "the stream was made anew"
	case at.Sequence > info.State.LastSeq:
		return "the stream ends before the position"
	case at.Sequence > 0 && stored(info.State.LastTime).Before(stored(at.Time)):
		return "the stream's last message is older than the position's"
	}
	return ""
}

// stored is a message's time as a sink may have kept it: Postgres has
// microseconds.
func stored(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

// forget deletes a consumer of ours; one that is left ends by itself, minutes
// later.
func (r *Runner) forget(js jetstream.JetStream, c jetstream.Consumer) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = js.DeleteConsumer(ctx, r.Names.Stream(), c.CachedInfo().Name)
}

// otherMessage compares the time of the message at the position, by reading
// it: a stream that was restored from an older copy and has grown since shows
// no other sign.
func (r *Runner) otherMessage(ctx context.Context, js jetstream.JetStream, at streams.Position, info *jetstream.StreamInfo) (string, error) {
	if at.Sequence == 0 || at.Sequence < info.State.FirstSeq {
		return "", nil
	}
	consumer, err := js.OrderedConsumer(ctx, r.Names.Stream(), jetstream.OrderedConsumerConfig{
		NamePrefix:    r.sink.Name() + "-check-" + nuid.Next()[16:],
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:   at.Sequence,
		HeadersOnly:   true,
	})
	if err != nil {
		return "", fmt.Errorf("read the position's message: %w", err)
	}
	defer func() {
		_ = js.DeleteConsumer(context.WithoutCancel(ctx), r.Names.Stream(), consumer.CachedInfo().Name)
	}() // else it ends by itself
	if consumer.CachedInfo().NumPending == 0 {
		return "", nil // that message and all behind it are gone: expired, or erased
	}
	m, err := consumer.Next(jetstream.FetchMaxWait(ackWait))
	if err != nil {
		return "", fmt.Errorf("read the position's message: %w", err)
	}
	meta, err := m.Metadata()
	if err != nil {
		return "", errors.Join(errors.New("read the position's message"), err)
	}
	t := stored(meta.Timestamp)
	if meta.Sequence.Stream == at.Sequence && !t.Equal(stored(at.Time)) || t.Before(stored(at.Time)) {
		return "the position's sequence holds another message", nil
	}
	return "", nil
}
