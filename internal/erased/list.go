// Package erased is what all that publishes events knows of erased people: their
// ids, from the bucket CLERK_ERASED, and what stays of an event that names one.
package erased

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rollcall-dev/rollcall/internal/bucket"
	"github.com/rollcall-dev/rollcall/streams"
)

// Broker is the connection to NATS.
type Broker = bucket.Connection

// Status shows whether the list is complete.
type Status interface {
	OK()
	Degraded(reason string)
}

const lookEvery = 250 * time.Millisecond // whether the connection is still the same

// List is the erased ids, as the bucket has them. Safe for concurrent use.
type List struct {
	broker Broker
	bucket string
	status Status

	mu         sync.RWMutex
	ids        *IDs
	complete   bool
	generation uint64 // of the connection that it was completed on
}

// NewList makes one; it is empty and not complete until it runs. status may be nil.
func NewList(b Broker, n streams.Names, status Status) *List {
	if status == nil {
		status = silent{}
	}
	return &List{broker: b, bucket: n.ErasedBucket(), status: status, ids: NewIDs()}
}

type silent struct{}

func (silent) OK()             {}
func (silent) Degraded(string) {}

// Complete reports whether the list has all that the bucket has: until then
// nothing may be published. After a connection was lost it isn't, until it has
// been read again.
func (l *List) Complete() bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.complete && l.generation == l.broker.Generation()
}

// Cut is what is to be published of an event: see [IDs.Cut].
func (l *List) Cut(body []byte) (cut []byte, paths []string) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.ids.Cut(body)
}

// Run keeps the list until the context ends; it returns only then.
func (l *List) Run(ctx context.Context) error {
	w := bucket.Watcher{
		Broker: l.broker, Name: l.bucket, Options: []jetstream.WatchOpt{jetstream.MetaOnly()}, Every: lookEvery,
		Begin: func(generation uint64) bucket.Reader { return reading{l, generation} },
		Failed: func(err error) {
			l.status.Degraded("the list of erased people can't be read: " + err.Error())
		},
	}
	return w.Run(ctx)
}

// Wait returns once the list is complete.
func (l *List) Wait(ctx context.Context) error {
	for !l.Complete() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("the list of erased people (bucket %s) isn't read: %w", l.bucket, ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}

// reading is one watch. Nobody is taken off the list while a process lives but by
// a key that is deleted.
type reading struct {
	list       *List
	generation uint64
}

// Tick is part of [bucket.Reader].
func (reading) Tick() error { return nil }

// Take is part of [bucket.Reader].
func (r reading) Take(u jetstream.KeyValueEntry) {
	l := r.list
	l.mu.Lock()
	defer l.mu.Unlock()
	if u == nil { // all that was there
		l.complete, l.generation = true, r.generation
		l.status.OK()
		return
	}
	id, err := streams.ParseKey(u.Key())
	switch {
	case err != nil: // none of ours
	case u.Operation() == jetstream.KeyValuePut:
		l.ids.Add(id)
	default:
		l.ids.remove(id)
	}
}
