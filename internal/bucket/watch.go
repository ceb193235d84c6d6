package bucket

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Connection is a Broker that tells one connection from the next.
type Connection interface {
	Broker
	Generation() uint64
}

// Reader takes one watch of a bucket.
type Reader interface {
	// Take takes what a key has; nil once all that was there has been taken.
	Take(jetstream.KeyValueEntry)
	// Tick is called every so often; an error begins the watch anew.
	Tick() error
}

// Watcher follows a bucket: all that it has, then what is written to it, and all
// of it once more after a connection was lost.
type Watcher struct {
	Broker  Connection
	Name    string
	Keys    []string // with wildcards; none means all
	Options []jetstream.WatchOpt
	Every   time.Duration                  // between ticks, and looks at the connection
	Begin   func(generation uint64) Reader // makes that of the next watch, on this connection
	Failed  func(error)                    // is told why a watch ended
}

const watchPause = 200 * time.Millisecond // before the next watch

// Run watches until the context ends; it returns only then.
func (w *Watcher) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := w.watch(ctx); ctx.Err() == nil {
			w.Failed(err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(watchPause):
		}
	}
	return nil
}

func (w *Watcher) watch(ctx context.Context) error {
	generation := w.Broker.Generation()
	js, err := w.Broker.JetStream()
	if err != nil {
		return err
	}
	opening, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	kv, err := js.KeyValue(opening, w.Name)
	if err != nil {
		return fmt.Errorf("bucket %s: %w", w.Name, err)
	}
	watching, stop := context.WithCancel(ctx)
	defer stop()
	keys := w.Keys
	if keys == nil {
		keys = []string{">"}
	}
	updates, err := kv.WatchFiltered(watching, keys, w.Options...)
	if err != nil {
		return fmt.Errorf("watch %s: %w", w.Name, err)
	}
	defer updates.Stop() //nolint:errcheck // a connection that is gone has no subscriptions
	reader := w.Begin(generation)
	tick := time.NewTicker(w.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case u, open := <-updates.Updates():
			if !open {
				return errors.New("the watch has ended")
			}
			reader.Take(u)
		case <-tick.C:
			if w.Broker.Generation() != generation {
				return errors.New("the connection was lost")
			}
			if err := reader.Tick(); err != nil {
				return err
			}
		}
	}
}
