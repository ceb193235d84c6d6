package consume

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rollcall-dev/rollcall/streams"
)

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
