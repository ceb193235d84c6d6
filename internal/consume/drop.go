package consume

import (
	"context"
	"regexp"
	"slices"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/rollcall-dev/rollcall/streams"
)

// Drop gives letters up. The log says so of each before it is deleted. It
// returns how many were deleted.
func (d *DeadLetters) Drop(ctx context.Context, letters []Letter) (int, error) {
	var dropped atomic.Int64
	g, work := errgroup.WithContext(ctx)
	g.SetLimit(fetches)
	for _, l := range letters {
		g.Go(func() error {
			if work.Err() != nil {
				return work.Err()
			}
			if err := d.drop(work, &l); err != nil {
				return err
			}
			dropped.Add(1)
			d.Done(1)
			return nil
		})
	}
	err := g.Wait()
	for _, sink := range d.Sinks {
		if slices.ContainsFunc(letters, func(l Letter) bool { return l.Sink == sink.Name() }) {
			d.recount(ctx, sink)
		}
	}
	return int(dropped.Load()), err
}

func (d *DeadLetters) drop(ctx context.Context, l *Letter) error {
	instance := l.instanceID
	if instance == "" {
		instance = d.InstanceID
	}
	err := d.note(ctx, instance, streams.ActionLetterDropped, l.ID, func(id string) any {
		return streams.LetterDropped{ID: id, Sink: l.Sink, Reason: impersonal(l.Reason), EventType: l.Type, EntityID: l.EntityID, By: d.By}
	})
	if err != nil {
		return err
	}
	return d.delete(ctx, l)
}

var sqlState = regexp.MustCompile(`SQLSTATE [0-9A-Z]{5}`)

// impersonal is a reason without what a database may quote of a row. Our own
// reasons quote nothing personal.
func impersonal(reason string) string {
	if state := sqlState.FindString(reason); state != "" {
		return state
	}
	return reason
}
