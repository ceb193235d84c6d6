package invalidate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
	"golang.org/x/sync/errgroup"

	"github.com/rollcall-dev/rollcall/streams"
)

// state is the bucket CLERK_STATE, read and written many keys at a time, which
// the client library can't.
type state struct {
	broker Broker
	bucket string
}

func newState(b Broker, n streams.Names) *state { return &state{b, n.StateBucket()} }

// stored is a key's value; revision 0 where it has none. A key that was deleted
// has a revision and no value.
type stored struct {
	value    []byte
	revision uint64
}

const (
	maxGet   = 1000 // keys that one request may ask for; the server's limit is 1,024
	maxBatch = 1000 // messages of an atomic batch: the server's limit
	// From how many on an atomic batch is cheaper than as many singles, with one
	// replica and a server that syncs.
	worthBatch = 12

	headerKVOperation  = "KV-Operation"
	headerMarkerReason = "Nats-Marker-Reason"
)

func (s *state) subject(key string) string { return "$KV." + s.bucket + "." + key }

// get reads keys; those that aren't there are missing from the answer. With
// several replicas it may be an old one that answers.
func (s *state) get(ctx context.Context, keys []string) (map[string]stored, error) {
	found := make(map[string]stored, len(keys))
	for part := range slices.Chunk(keys, maxGet) {
		if err := s.getPart(ctx, part, found); err != nil {
			return nil, fmt.Errorf("read %s: %w", s.bucket, err)
		}
	}
	return found, nil
}

func (s *state) getPart(ctx context.Context, keys []string, into map[string]stored) error {
	js, err := s.broker.JetStream()
	if err != nil {
		return err
	}
	subjects := make([]string, len(keys))
	for i, k := range keys {
		subjects[i] = s.subject(k)
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
	if err := nc.PublishRequest(api(js)+"DIRECT.GET.KV_"+s.bucket, inbox, request); err != nil {
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
			if err := s.take(m, into); err != nil {
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

func (s *state) take(m *nats.Msg, into map[string]stored) error {
	revision, err := strconv.ParseUint(m.Header.Get("Nats-Sequence"), 10, 64)
	if err != nil {
		return errors.New("an answer has no sequence")
	}
	e := stored{value: m.Data, revision: revision}
	if m.Header.Get(headerKVOperation) != "" || m.Header.Get(headerMarkerReason) != "" {
		e.value = nil
	}
	into[strings.TrimPrefix(m.Header.Get("Nats-Subject"), s.subject(""))] = e
	return nil
}

// list is the last tokens of all keys that begin with a prefix.
func (s *state) list(ctx context.Context, prefix string) ([]string, error) {
	js, err := s.broker.JetStream()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	stream, err := js.Stream(ctx, "KV_"+s.bucket)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", s.bucket, err)
	}
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(s.subject(prefix)+"*"))
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", s.bucket, err)
	}
	var tokens []string
	for _, subject := range slices.Sorted(maps.Keys(info.State.Subjects)) {
		tokens = append(tokens, subject[strings.LastIndexByte(subject, '.')+1:])
	}
	return tokens, nil
}

// put is one key to write.
type put struct {
	key   string
	value []byte
	// over is the revision that is written over, 0 for none; anyRevision for any.
	over    uint64
	deleted bool
	ttl     string // how long it stays; "" for ever
}

const anyRevision = ^uint64(0)

func (s *state) message(p put) *nats.Msg {
	m := nats.NewMsg(s.subject(p.key))
	m.Data = p.value
	if p.over != anyRevision {
		m.Header.Set(jetstream.ExpectedLastSubjSeqHeader, strconv.FormatUint(p.over, 10))
	}
	if p.deleted {
		m.Header.Set(headerKVOperation, "DEL")
	}
	if p.ttl != "" {
		m.Header.Set(jetstream.MsgTTLHeader, p.ttl)
	}
	return m
}

// errConflict: a key isn't at the revision that was to be written over.
var errConflict = errors.New("another process has written it meanwhile")

// write writes keys, the last one after all others, and returns their
// revisions. A conflict leaves some of the others written, where they were many
// or the server has no atomic batches.
func (s *state) write(ctx context.Context, puts []put) (revisions []uint64, err error) {
	js, err := s.broker.JetStream()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, writeWait)
	defer cancel()
	atomic := false
	if len(puts) >= worthBatch {
		stream, err := js.Stream(ctx, "KV_"+s.bucket)
		if err != nil {
			return nil, fmt.Errorf("write %s: %w", s.bucket, err)
		}
		atomic = stream.CachedInfo().Config.AllowAtomicPublish
	}
	if atomic {
		revisions, err = s.batches(ctx, js, puts)
	} else {
		revisions, err = s.singles(ctx, js, puts)
	}
	var refused *jetstream.APIError
	if errors.As(err, &refused) && refused.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence {
		return nil, errConflict
	}
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", s.bucket, err)
	}
	return revisions, nil
}

func (s *state) singles(ctx context.Context, js jetstream.JetStream, puts []put) ([]uint64, error) {
	revisions := make([]uint64, len(puts))
	one := func(ctx context.Context, i int) error {
		ack, err := js.PublishMsg(ctx, s.message(puts[i]))
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

func (s *state) batches(ctx context.Context, js jetstream.JetStream, puts []put) (revisions []uint64, err error) {
	for part := range slices.Chunk(puts, maxBatch) {
		last, err := s.batch(ctx, js, part)
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
func (s *state) batch(ctx context.Context, js jetstream.JetStream, puts []put) (last uint64, err error) {
	id, nc := nuid.Next(), js.Conn()
	for i, p := range puts {
		m := s.message(p)
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
