package consume

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/rollcall-dev/rollcall/internal/lease"
)

// acquire waits until the sink's lease is free and takes it.
func (r *Runner) acquire(ctx context.Context) (*lease.Lease, error) {
	for {
		js, err := r.Broker.JetStream()
		if err != nil {
			return nil, err
		}
		held, err := lease.Take(ctx, js, r.Names.StateBucket(), r.sink.Name(), r.Lease, func(err error) { r.Log.Info("lease lost", zap.Error(err)) })
		var other *lease.HeldError
		if !errors.As(err, &other) {
			return held, err
		}
		r.well() // a standby is well
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(r.Lease / 6):
		}
	}
}
