// Package bucket reads and writes a key-value bucket many keys at a time, which
// the client library can't.
package bucket

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
	"golang.org/x/sync/errgroup"
)

// Broker is the connection to NATS.
type Broker interface {
	JetStream() (jetstream.JetStream, error)
}

// Bucket is one bucket. Safe for concurrent use.
type Bucket struct {
	Broker Broker
	Name   string
}

// Stored is a key's value; revision 0 where it has none. A key that was deleted
// has a revision and no value.
type Stored struct {
	Value    []byte
	Revision uint64
}

const (
	answerWait = 5 * time.Second
	writeWait  = 30 * time.Second

	pollEvery = 500 * time.Microsecond

	maxGet   = 1000 // keys that one request may ask for; the server's limit is 1,024
	maxBatch = 1000 // messages of an atomic batch: the server's limit
	// From how many on an atomic batch is cheaper than as many singles, with one
	// replica and a server that syncs.
	worthBatch = 12

	headerMarkerReason = "Nats-Marker-Reason"
)

// HeaderKVOperation is on a message that is no value.
const HeaderKVOperation = "KV-Operation"

// Subject is that of a key, or the beginning of those of several.
func (b *Bucket) Subject(key string) string { return "$KV." + b.Name + "." + key }

// Get reads keys; those that aren't there are missing from the answer. With
// several replicas it may be an old one that answers.
func (b *Bucket) Get(ctx context.Context, keys []string) (map[string]Stored, error) {
	found := make(map[string]Stored, len(keys))
	for part := range slices.Chunk(keys, maxGet) {
		if err := b.getPart(ctx, part, found); err != nil {
			return nil, fmt.Errorf("read %s: %w", b.Name, err)
		}
	}
	return found, nil
}

// GetSince reads keys from an answer that is no older than a mark's revision: a
// replica of the stream may lag. It returns the revision that the mark has now.
func (b *Bucket) GetSince(ctx context.Context, keys []string, mark string, revision uint64) (found map[string]Stored, now uint64, err error) {
	found = map[string]Stored{}
	for part := range slices.Chunk(keys, maxGet-1) {
		for {
			answer, err := b.Get(ctx, append(slices.Clip(part), mark))
			if err != nil {
				return nil, 0, err
			}
			at := answer[mark].Revision
			now = max(now, at)
			if at >= revision {
				maps.Copy(found, answer)
				break
			}
			select {
			case <-ctx.Done():
				return nil, 0, ctx.Err()
			case <-time.After(pollEvery):
			}
		}
	}
	return found, now, nil
}

func (b *Bucket) getPart(ctx context.Context, keys []string, into map[string]Stored) error {
	js, err := b.Broker.JetStream()
	if err != nil {
		return err
	}
	subjects := make([]string, len(keys))
	for i, k := range keys {
		subjects[i] = b.Subject(k)
	}
	request, err := json.Marshal(map[string]any{"multi_last": subjects})
	if err != nil {
		return err
	}
	nc := js.Conn()
	inbox := nc.NewInbox()
	answers, err := nc.SubscribeSync(inbox)
	if err != nil {
		return err
	}
	defer answers.Unsubscribe() //nolint:errcheck // a connection that is gone has no subscriptions
	if err := nc.PublishRequest(api(js)+"DIRECT.GET.KV_"+b.Name, inbox, request); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	for {
		m, err := answers.NextMsgWithContext(ctx)
		if err != nil {
			return err
		}
		switch status := m.Header.Get("Status"); status {
		case "":
			if err := b.take(m, into); err != nil {
				return err
			}
		case "204", "404": // the end; none at all
			return nil
		case "503":
			return nats.ErrNoResponders
		default:
			return fmt.Errorf("the server answers %s %s", status, m.Header.Get("Description"))
		}
	}
}

func api(js jetstream.JetStream) string {
	if domain := js.Options().Domain; domain != "" {
		return "$JS." + domain + ".API."
	}
	return "$JS.API."
}

func (b *Bucket) take(m *nats.Msg, into map[string]Stored) error {
	revision, err := strconv.ParseUint(m.Header.Get("Nats-Sequence"), 10, 64)
	if err != nil {
		return errors.New("an answer has no sequence")
	}
	e := Stored{Value: m.Data, Revision: revision}
	if m.Header.Get(HeaderKVOperation) != "" || m.Header.Get(headerMarkerReason) != "" {
		e.Value = nil
	}
	into[strings.TrimPrefix(m.Header.Get("Nats-Subject"), b.Subject(""))] = e
	return nil
}

// List is the last tokens of all keys that begin with a prefix.
func (b *Bucket) List(ctx context.Context, prefix string) ([]string, error) {
	js, err := b.Broker.JetStream()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	stream, err := js.Stream(ctx, "KV_"+b.Name)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", b.Name, err)
	}
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(b.Subject(prefix)+"*"))
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", b.Name, err)
	}
	var tokens []string
	for _, subject := range slices.Sorted(maps.Keys(info.State.Subjects)) {
		tokens = append(tokens, subject[strings.LastIndexByte(subject, '.')+1:])
	}
	return tokens, nil
}

// Put is one key to write.
type Put struct {
	Key   string
	Value []byte
	// Over is the revision that is written over, 0 for none; Any for any.
	Over    uint64
	Deleted bool
	TTL     string // how long it stays, at least a second; "" for ever
}

// Any is every revision.
const Any = ^uint64(0)

func (b *Bucket) message(p Put) *nats.Msg {
	m := nats.NewMsg(b.Subject(p.Key))
	m.Data = p.Value
	if p.Over != Any {
		m.Header.Set(jetstream.ExpectedLastSubjSeqHeader, strconv.FormatUint(p.Over, 10))
	}
	if p.Deleted {
		m.Header.Set(HeaderKVOperation, "DEL")
	}
	if p.TTL != "" {
		m.Header.Set(jetstream.MsgTTLHeader, p.TTL)
	}
	return m
}

// ErrConflict: a key isn't at the revision that was to be written over.
var ErrConflict = errors.New("another process has written it meanwhile")

// Write writes keys, the last one after all others, and returns their
// revisions. A conflict leaves some of the others written, where they were many
// or the server has no atomic batches.
func (b *Bucket) Write(ctx context.Context, puts []Put) (revisions []uint64, err error) {
	js, err := b.Broker.JetStream()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, writeWait)
	defer cancel()
	atomic := false
	if len(puts) >= worthBatch {
		stream, err := js.Stream(ctx, "KV_"+b.Name)
		if err != nil {
			return nil, fmt.Errorf("write %s: %w", b.Name, err)
		}
		atomic = stream.CachedInfo().Config.AllowAtomicPublish
	}
	if atomic {
		revisions, err = b.batches(ctx, js, puts)
	} else {
		revisions, err = b.singles(ctx, js, puts)
	}
	var refused *jetstream.APIError
	if errors.As(err, &refused) && refused.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence {
		return nil, ErrConflict
	}
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", b.Name, err)
	}
	return revisions, nil
}

func (b *Bucket) singles(ctx context.Context, js jetstream.JetStream, puts []Put) ([]uint64, error) {
	revisions := make([]uint64, len(puts))
	one := func(ctx context.Context, i int) error {
		ack, err := js.PublishMsg(ctx, b.message(puts[i]))
		if err == nil {
			revisions[i] = ack.Sequence
		}
		return err
	}
	last := len(puts) - 1
	g, parallel := errgroup.WithContext(ctx)
	g.SetLimit(64)
	for i := range last {
		g.Go(func() error { return one(parallel, i) })
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return revisions, one(ctx, last)
}

func (b *Bucket) batches(ctx context.Context, js jetstream.JetStream, puts []Put) (revisions []uint64, err error) {
	for part := range slices.Chunk(puts, maxBatch) {
		last, err := b.batch(ctx, js, part)
		if err != nil {
			return nil, err
		}
		for i := range part {
			revisions = append(revisions, last-uint64(len(part)-1-i))
		}
	}
	return revisions, nil
}

// batch returns the sequence of its last message; the others are right before it.
func (b *Bucket) batch(ctx context.Context, js jetstream.JetStream, puts []Put) (last uint64, err error) {
	id, nc := nuid.Next(), js.Conn()
	for i, p := range puts {
		m := b.message(p)
		m.Header.Set("Nats-Batch-Id", id)
		m.Header.Set("Nats-Batch-Sequence", strconv.Itoa(i+1))
		if i < len(puts)-1 {
			if err := nc.PublishMsg(m); err != nil {
				return 0, err
			}
			continue
		}
		m.Header.Set("Nats-Batch-Commit", "1")
		ack, err := js.PublishMsg(ctx, m, jetstream.WithRetryAttempts(0))
		if err != nil {
			return 0, err
		}
		last = ack.Sequence
	}
	return last, nil
}
