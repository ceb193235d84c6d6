package consume

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
	"go.uber.org/zap"

	"github.com/rollcall-dev/rollcall/streams"
)

// lease is a key that ends by itself unless its holder renews it.
type lease struct {
	ctx    context.Context // ends when the lease is lost
	cancel context.CancelFunc
	done   chan struct{}
	key    string
	js     jetstream.JetStream
	bucket string
	seq    uint64
}

func leaseKey(sink string) string { return "lease." + streams.Key(sink) }

// acquire waits until the lease is free and takes it.
func (r *Runner) acquire(ctx context.Context) (*lease, error) {
	key := leaseKey(r.sink.Name())
	host, _ := os.Hostname()
	holder, err := json.Marshal(map[string]any{"host": host, "pid": os.Getpid(), "since": time.Now().UnixMilli(), "id": nuid.Next()})
	if err != nil {
		return nil, err
	}
	for {
		js, err := r.Broker.JetStream()
		if err != nil {
			return nil, err
		}
		kv, err := js.KeyValue(ctx, r.Names.StateBucket())
		if err != nil {
			return nil, err
		}
		seq, err := kv.Create(ctx, key, holder, jetstream.KeyTTL(r.Lease))
		if err == nil {
			return r.hold(ctx, js, key, holder, seq), nil
		}
		if !errors.Is(err, jetstream.ErrKeyExists) {
			return nil, err
		}
		r.well() // a standby is well
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(r.Lease / 6):
		}
	}
}

// hold renews the lease until it is released or lost.
func (r *Runner) hold(ctx context.Context, js jetstream.JetStream, key string, holder []byte, seq uint64) *lease {
	l := &lease{done: make(chan struct{}), key: key, js: js, bucket: r.Names.StateBucket(), seq: seq}
	l.ctx, l.cancel = context.WithCancel(ctx)
	go func() {
		defer close(l.done)
		defer l.cancel()
		until := time.Now().Add(r.Lease)
		for {
			select {
			case <-l.ctx.Done():
				return
			case <-time.After(r.Lease / 3):
			}
			err := l.renew(holder, r.Lease)
			switch {
			case err == nil:
				until = time.Now().Add(r.Lease)
			case isWrongSequence(err) || time.Now().After(until):
				r.Log.Info("lease lost", zap.Error(err))
				return
			}
		}
	}()
	return l
}

// renew writes the key again, if it is still as this holder left it. The
// client's own Update can't set a TTL.
func (l *lease) renew(holder []byte, ttl time.Duration) error {
	ctx, cancel := context.WithTimeout(l.ctx, ttl/3)
	defer cancel()
	ack, err := l.js.PublishMsg(ctx, &nats.Msg{
		Subject: l.subject(),
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

func (l *lease) subject() string { return "$KV." + l.bucket + "." + l.key }

// release lets a standby take over at once.
func (l *lease) release() {
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
