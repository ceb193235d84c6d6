// Package lease says which of several processes works: a key in a bucket that
// ends by itself unless its holder renews it. It is an optimisation; what makes
// a holder harmless that was frozen and comes back is a compare-and-set of the
// work itself.
package lease

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/rollcall-dev/rollcall/streams"
)

// Holder is who has a lease.
type Holder struct {
	Host  string `json:"host"`
	PID   int    `json:"pid"`
	Since int64  `json:"since"` // milliseconds since 1970
	ID    string `json:"id"`    // of this one taking
}

// HeldError says that somebody else has the lease.
type HeldError struct{ Holder }

func (e *HeldError) Error() string {
	return fmt.Sprintf("process %d on %s has the lease, since %s", e.PID, e.Host, time.UnixMilli(e.Since).Format(time.RFC3339))
}

// Lease is held until it is released or lost.
type Lease struct {
	ctx    context.Context // ends when the lease is lost
	cancel context.CancelFunc
	done   chan struct{}
	key    string
	js     jetstream.JetStream
	bucket string
	seq    uint64
}

// Key of the lease of that name, in CLERK_STATE.
func Key(name string) string { return "lease." + streams.Key(name) }

// Take takes the lease of that name, and renews it until it is released or ctx
// ends. It is free again after ttl if the process vanishes. The error is a
// *HeldError where somebody else has it. lost, unless nil, is told why it was lost.
func Take(ctx context.Context, js jetstream.JetStream, bucket, name string, ttl time.Duration, lost func(error)) (*Lease, error) {
	kv, err := js.KeyValue(ctx, bucket)
	if err != nil {
		return nil, err
	}
	host, _ := os.Hostname()
	holder, err := json.Marshal(Holder{Host: host, PID: os.Getpid(), Since: time.Now().UnixMilli(), ID: nuid.Next()})
	if err != nil {
		return nil, err
	}
	l := &Lease{done: make(chan struct{}), key: Key(name), js: js, bucket: bucket}
	if l.seq, err = kv.Create(ctx, l.key, holder, jetstream.KeyTTL(ttl)); err != nil {
		if errors.Is(err, jetstream.ErrKeyExists) {
			err = heldBy(ctx, kv, l.key)
		}
		return nil, err
	}
	l.ctx, l.cancel = context.WithCancel(ctx)
	go l.hold(holder, ttl, lost)
	return l, nil
}

func heldBy(ctx context.Context, kv jetstream.KeyValue, key string) error {
	held := &HeldError{}
	if entry, err := kv.Get(ctx, key); err == nil { // it may have ended meanwhile
		_ = json.Unmarshal(entry.Value(), &held.Holder) // another release's: nobody we know
	}
	return held
}

// Context ends with the lease.
func (l *Lease) Context() context.Context { return l.ctx }

func (l *Lease) hold(holder []byte, ttl time.Duration, lost func(error)) {
	defer close(l.done)
	defer l.cancel()
	until := time.Now().Add(ttl)
	for {
		select {
		case <-l.ctx.Done():
			return
		case <-time.After(ttl / 3):
		}
		err := l.renew(holder, ttl)
		switch {
		case err == nil:
			until = time.Now().Add(ttl)
		case isWrongSequence(err) || time.Now().After(until):
			if lost != nil {
				lost(err)
			}
			return
		}
	}
}

// renew writes the key again, if it is still as this holder left it. The
// client's own Update can't set a TTL.
func (l *Lease) renew(holder []byte, ttl time.Duration) error {
	ctx, cancel := context.WithTimeout(l.ctx, ttl/3)
	defer cancel()
	ack, err := l.js.PublishMsg(ctx, &nats.Msg{
		Subject: "$KV." + l.bucket + "." + l.key,
		Data:    holder,
		Header: nats.Header{
			jetstream.MsgTTLHeader:              {ttl.String()},
			jetstream.ExpectedLastSubjSeqHeader: {strconv.FormatUint(l.seq, 10)},
		},
	})
	if err == nil {
		l.seq = ack.Sequence
	}
	return err
}

// Release lets another take it at once.
func (l *Lease) Release() {
	l.cancel()
	<-l.done
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	kv, err := l.js.KeyValue(ctx, l.bucket)
	if err == nil {
		_ = kv.Delete(ctx, l.key, jetstream.LastRevision(l.seq)) // else it ends by itself
	}
}

func isWrongSequence(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence
}
