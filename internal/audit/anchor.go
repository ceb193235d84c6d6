package audit

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/rollcall-dev/rollcall/streams"
)

// The kinds of anchors.
const (
	anchorHead  = "head"  // the chain had this row as its last
	anchorPrune = "prune" // the chain begins behind this row
)

// anchor is a message of the anchors' stream. Who may write the database can
// write any chain; who can't write the stream can't make it fit.
type anchor struct {
	Kind      string    `json:"kind"`
	Seq       int64     `json:"seq"`
	Hash      string    `json:"hash"`                 // of the row seq, hexadecimal
	Epoch     int64     `json:"epoch,omitempty"`      // of the log, as far as it is in the row
	StreamSeq uint64    `json:"stream_seq,omitempty"` // the log's sequence
	Holes     int64     `json:"holes,omitempty"`      // of a prune: rows that it took from behind seq
	HolesHash string    `json:"holes_hash,omitempty"` // SHA-256 over each one's number, in eight bytes, and hash
	At        time.Time `json:"at"`
}

// Broker is the connection to NATS.
type Broker interface {
	JetStream() (jetstream.JetStream, error)
}

const (
	anchorRows  = 1000        // rows between anchors, at the most
	anchorEvery = time.Minute // time between anchors, while there are new rows
	anchorWait  = 5 * time.Second
)

// Anchors writes where the chain ends to the anchors' stream, behind the
// commits: one that a crash swallows is made up for by the next.
type Anchors struct {
	broker  Broker
	names   streams.Names
	metrics *Metrics
	log     *zap.Logger
	every   time.Duration

	mu      sync.Mutex
	head    Head
	written int64         // rows up to this one are anchored
	last    time.Time     // when they were
	due     chan struct{} // an anchor needn't wait for the tick
}

// NewAnchors makes a writer of anchors.
func NewAnchors(b Broker, names streams.Names, m *Metrics, log *zap.Logger) *Anchors {
	return &Anchors{broker: b, names: names, metrics: m, log: log, every: anchorEvery, due: make(chan struct{}, 1)}
}

// Committed is for [Options].Committed.
func (a *Anchors) Committed(h Head) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.head = h
	if h.Seq >= a.written+anchorRows || time.Since(a.last) >= a.every {
		select {
		case a.due <- struct{}{}:
		default:
		}
	}
}

// Run writes anchors until the context ends, and the last one then.
func (a *Anchors) Run(ctx context.Context) {
	tick := time.NewTicker(a.every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			a.write(context.WithoutCancel(ctx))
			return
		case <-tick.C:
		case <-a.due:
		}
		a.write(ctx)
	}
}

// write anchors the chain's end, unless it is anchored. What fails is tried
// again with the next rows or at the next tick.
func (a *Anchors) write(ctx context.Context) {
	a.mu.Lock()
	h, written := a.head, a.written
	a.mu.Unlock()
	if h.Seq == written {
		return
	}
	err := publishAnchor(ctx, a.broker, a.names, anchor{
		Kind: anchorHead, Seq: h.Seq, Hash: hex.EncodeToString(h.Hash[:]),
		Epoch: h.Position.Epoch, StreamSeq: h.Position.Sequence, At: time.Now().UTC().Truncate(time.Millisecond),
	})
	if err != nil {
		a.metrics.anchors.WithLabelValues("failed").Inc()
		a.log.Debug("anchor not written", zap.Error(err)) // the metric alerts
		return
	}
	a.metrics.anchors.WithLabelValues("ok").Inc()
	a.mu.Lock()
	a.written, a.last = h.Seq, time.Now()
	a.mu.Unlock()
}

// publishAnchor returns when the anchor is on disk.
func publishAnchor(ctx context.Context, b Broker, names streams.Names, v anchor) error {
	js, err := b.JetStream()
	if err != nil {
		return err
	}
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, anchorWait)
	defer cancel()
	m := nats.NewMsg(names.AnchorSubject())
	m.Data = data
	m.Header.Set(streams.HeaderMsgID, fmt.Sprintf("%s:%d:%s", v.Kind, v.Seq, v.Hash))
	if _, err := js.PublishMsg(ctx, m); err != nil {
		return fmt.Errorf("write an anchor to %s: %w", names.AnchorStream(), err)
	}
	return nil
}

// pruneKey is what an anchor of a prune vouches for.
func (a *anchor) pruneKey() string {
	return fmt.Sprintf("%d %s %d %s", a.Seq, a.Hash, a.Holes, a.HolesHash)
}

// anchorReader reads the anchors in the order in which they were written, up to
// the last that there was at the beginning.
type anchorReader struct {
	messages jetstream.MessagesContext // nil: there are none
	left     uint64                    // messages
	ahead    *anchor
	prunes   map[string]bool // of the prunes passed, by pruneKey
}

func readAnchors(ctx context.Context, b Broker, names streams.Names) (*anchorReader, error) {
	fail := func(err error) (*anchorReader, error) {
		return nil, fmt.Errorf("read the anchors in %s: %w", names.AnchorStream(), err)
	}
	js, err := b.JetStream()
	if err != nil {
		return fail(err)
	}
	stream, err := js.Stream(ctx, names.AnchorStream())
	if err != nil {
		return fail(err)
	}
	r := &anchorReader{prunes: map[string]bool{}, left: stream.CachedInfo().State.Msgs}
	if r.left == 0 {
		return r, nil
	}
	consumer, err := js.OrderedConsumer(ctx, names.AnchorStream(), jetstream.OrderedConsumerConfig{})
	if err != nil {
		return fail(err)
	}
	if r.messages, err = consumer.Messages(); err != nil {
		return fail(err)
	}
	return r, nil
}

func (r *anchorReader) stop() {
	if r.messages != nil {
		r.messages.Stop()
	}
}

// peek is the next anchor, nil at the end. What isn't an anchor is passed over:
// it vouches for nothing.
func (r *anchorReader) peek() (*anchor, error) {
	for r.ahead == nil && r.left > 0 {
		m, err := r.messages.Next(jetstream.NextMaxWait(anchorWait))
		if err != nil {
			return nil, fmt.Errorf("read the anchors: %w", err)
		}
		r.left--
		var a anchor
		if json.Unmarshal(m.Data(), &a) != nil {
			continue
		}
		if a.Kind == anchorPrune {
			r.prunes[a.pruneKey()] = true
		}
		r.ahead = &a
	}
	return r.ahead, nil
}

func (r *anchorReader) drop() { r.ahead = nil }
