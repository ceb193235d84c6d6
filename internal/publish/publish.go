// Package publish is the log's front end: group commit.
//
//	Publish ─▶ waiting ─▶ round ─┬▶ a few: singly, side by side ─▶ acknowledged
//	   ▲          │              └▶ many: one atomic batch ──────▶ acknowledged
//	   └──────────┴── what arrives while a round is under way forms the next
//
// A message is acknowledged only once JetStream has it, on disk where the
// server syncs always. One fsync then acknowledges a whole batch; no timer
// makes a lone message wait, but after a batch its senders are given a moment to
// come back together (gather.go). A batch that is refused (a duplicate refuses it
// whole, unnamed) or times out (unknown: it may be stored) goes out again
// singly, under the same ids.
package publish

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/rollcall-dev/rollcall/streams"
)

const (
	maxBatch      = 256             // messages; the server takes 1,000
	maxBatchBytes = 8 << 20         // what a round holds at the most
	attemptWait   = 2 * time.Second // for one acknowledgement
	giveUp        = 5 * time.Second // for a message, waiting included
	retryPause    = 50 * time.Millisecond
)

var (
	// ErrUnavailable: the broker can't be reached or has no leader just now.
	ErrUnavailable = errors.New("the broker can't store the event just now")
	// ErrFull: the log has reached its size limit, or the disk its end.
	ErrFull = errors.New("the log is full")
	// ErrTooLarge: the broker takes no message of that size (max_payload).
	ErrTooLarge = errors.New("the event is larger than the broker takes")
	// ErrStopped: the publisher was stopped.
	ErrStopped = errors.New("the publisher has stopped")
)

// Broker is the connection to publish on.
type Broker interface {
	NATS() (*nats.Conn, error)
	Generation() uint64
}

// Message is one to be stored. Its header has a Nats-Msg-Id.
type Message struct {
	*nats.Msg
	// Late marks one that is likely to be stored already: Svix's retries come 5
	// seconds after the event or later. One duplicate refuses a whole batch, so
	// such messages go singly as long as they turn out to be duplicates.
	Late bool
	// Single marks one that belongs to another stream than the log's. It goes by
	// itself: what ails that stream is not to hold up the log.
	Single bool
}

// Publisher publishes into the log. Run must be running.
type Publisher struct {
	broker  Broker
	log     *zap.Logger
	metrics *Metrics
	noLog   func() // told when no stream listens

	mu       sync.Mutex
	waiting  []*entry
	inflight map[string]*entry // waiting ones included, by message id
	stopped  bool
	wake     chan struct{}
	memory   memory

	// Run's own:
	line       line
	gather     gather
	late       float64 // moving share of duplicates among late messages
	noBatchTil time.Time
}

type entry struct {
	Message
	id         string
	since      time.Time
	generation uint64        // of the connection that it goes out on
	sequence   uint64        // in the log, where this publish put it there
	done       chan struct{} // closed once the two below are set
	dup        bool
	err        error
}

// New makes a publisher. noStream is called whenever the broker says
// that no stream takes the log's subjects; it must not block.
func New(b Broker, log *zap.Logger, m *Metrics, noStream func()) *Publisher {
	return &Publisher{
		broker: b, log: log, metrics: m, noLog: noStream,
		inflight: map[string]*entry{}, wake: make(chan struct{}, 1),
		memory: newMemory(), line: newLine(), late: 0.5,
	}
}

// Publish stores one message and returns when it is stored: duplicate says
// that it had been before. Two calls with one id share one message. It takes
// at most about 10 seconds; an error means that the message may or may not be
// stored, and sending it again is safe.
func (p *Publisher) Publish(m Message) (duplicate bool, err error) {
	id := m.Header.Get(streams.HeaderMsgID)
	e, first, known := p.enqueue(id, m)
	if known {
		return true, nil
	}
	if e == nil {
		return false, ErrStopped
	}
	if first && m.Single {
		p.alone(e)
	}
	<-e.done
	return e.dup || !first && e.err == nil, e.err
}

func (p *Publisher) enqueue(id string, m Message) (e *entry, first, known bool) {
	generation := p.broker.Generation()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return nil, false, false
	}
	if p.memory.has(generation, id) {
		return nil, false, true
	}
	if e := p.inflight[id]; e != nil {
		return e, false, false
	}
	e = &entry{Message: m, id: id, since: time.Now(), done: make(chan struct{})}
	p.inflight[id] = e
	if m.Single {
		return e, true, false
	}
	p.waiting = append(p.waiting, e)
	select {
	case p.wake <- struct{}{}:
	default:
	}
	return e, true, false
}

// Run publishes until the context ends; then it fails what still waits.
func (p *Publisher) Run(ctx context.Context) error {
	defer p.stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.wake:
		}
		for ctx.Err() == nil { // however many keep coming
			round := p.take(maxBatch)
			if len(round) == 0 {
				break
			}
			for n := p.publish(round); n > 0 && ctx.Err() == nil; {
				n = p.publishNext(n)
			}
		}
	}
}

func (p *Publisher) stop() {
	p.mu.Lock()
	waiting := p.waiting
	p.waiting, p.stopped = nil, true
	p.mu.Unlock()
	for _, e := range waiting {
		p.finish(e, false, ErrStopped)
	}
}

// take is what waits, within bounds, at the most so many. What has waited too
// long is given up.
func (p *Publisher) take(most int) []*entry {
	p.mu.Lock()
	n, size := 0, 0
	for n < len(p.waiting) && n < most && (n == 0 || size+len(p.waiting[n].Data) <= maxBatchBytes) {
		size += len(p.waiting[n].Data)
		n++
	}
	taken := p.waiting[:n:n]
	p.waiting = p.waiting[n:]
	if len(p.waiting) == 0 {
		p.waiting = nil // let the taken ones go
	}
	p.mu.Unlock()

	round := taken[:0]
	for _, e := range taken {
		if time.Since(e.since) > giveUp {
			p.finish(e, false, ErrUnavailable)
		} else {
			round = append(round, e)
		}
	}
	if n > 0 && len(round) == 0 {
		return p.take(most)
	}
	return round
}

// connection is the one that these entries go out on; where there is none they
// are finished.
func (p *Publisher) connection(entries ...*entry) *nats.Conn {
	generation := p.broker.Generation()
	nc, err := p.broker.NATS()
	if err != nil || !nc.IsConnected() {
		p.metrics.Errors.WithLabelValues("unavailable").Add(float64(len(entries)))
		for _, e := range entries {
			p.finish(e, false, ErrUnavailable)
		}
		return nil
	}
	for _, e := range entries {
		e.generation = generation
	}
	return nc
}

// alone publishes one that is in no round.
func (p *Publisher) alone(e *entry) {
	if nc := p.connection(e); nc != nil {
		p.single(nc, e)
	}
}

// publish publishes a round, and returns how many left in a batch.
func (p *Publisher) publish(round []*entry) int {
	p.mark()
	nc := p.connection(round...)
	if nc == nil {
		return 0
	}
	if len(round) < p.line.at() || !batches(nc) || time.Now().Before(p.noBatchTil) {
		return p.complete(nc, nil, round)
	}
	b := newBatch(nc)
	return p.complete(nc, b, p.board(b, nc, round))
}

// publishNext publishes the round after a batch of that many: its batch is
// begun with the first sender that comes back, so that the server has it
// staged when the last one does.
func (p *Publisher) publishNext(after int) int {
	p.mark()
	var b *batch
	var apart []*entry
	p.gatherAfter(after, func(arrived []*entry) {
		nc := p.connection(arrived...)
		if nc == nil {
			return
		}
		if b == nil {
			b = newBatch(nc)
		}
		apart = append(apart, p.board(b, nc, arrived)...)
	})
	if b == nil {
		return 0
	}
	return p.complete(b.nc, b, apart)
}

// board adds entries to a batch, but for those that have to leave apart from it:
// who would endanger it, and who goes out on another connection.
func (p *Publisher) board(b *batch, nc *nats.Conn, entries []*entry) (apart []*entry) {
	for _, e := range entries {
		if nc != b.nc || e.Late && p.late > 0.01 {
			apart = append(apart, e)
		} else {
			b.add(e)
		}
	}
	return apart
}

// mark begins a round.
func (p *Publisher) mark() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.memory.mark()
}

// complete commits a batch, publishes who leaves apart beside it, and returns
// how many the batch held.
func (p *Publisher) complete(nc *nats.Conn, b *batch, apart []*entry) (together int) {
	if b != nil && b.sent == 0 { // one alone is no batch
		apart, b = append(apart, b.entries...), nil
	}
	var wg sync.WaitGroup
	var took time.Duration
	if len(apart) > 0 {
		wg.Go(func() { took = p.singles(nc, apart) })
	}
	if b != nil {
		together = len(b.entries)
		p.batch(b)
	}
	wg.Wait()
	p.metrics.BatchSize.Observe(float64(max(together, 1)))
	if len(apart) > 0 {
		p.line.published(len(apart), took)
		p.learnLate(apart)
	}
	if b != nil {
		p.learnLate(b.entries)
	}
	return together
}

// batches reports whether the server knows atomic batches (2.12 and newer).
func batches(nc *nats.Conn) bool {
	parts := strings.SplitN(nc.ConnectedServerVersion(), ".", 3)
	if len(parts) < 3 {
		return false
	}
	major, _ := strconv.Atoi(parts[0])
	minor, _ := strconv.Atoi(parts[1])
	return major > 2 || major == 2 && minor >= 12
}

// batch commits a batch; where that fails its messages go singly.
func (p *Publisher) batch(b *batch) {
	start := time.Now()
	last, err := b.commit()
	if err == nil {
		for i, e := range b.entries {
			e.sequence = last - uint64(len(b.entries)-1-i) // i < len
			p.finish(e, false, nil)
		}
		p.metrics.Seconds.WithLabelValues("batch").Observe(time.Since(start).Seconds())
		p.line.batched(time.Since(start))
		return
	}
	p.metrics.Refused.Inc()
	var api *jetstream.APIError
	if errors.As(err, &api) && api.ErrorCode == errBatchesDisabled {
		p.noBatchTil = time.Now().Add(time.Minute) // the stream is an older release's
	}
	b.disband()
	p.line.published(len(b.entries), p.singles(b.nc, b.entries))
	p.line.batched(time.Since(start))
}

type pubAck struct {
	Stream    string              `json:"stream"`
	Sequence  uint64              `json:"seq"`
	Duplicate bool                `json:"duplicate"`
	Count     int                 `json:"count"`
	Error     *jetstream.APIError `json:"error"`
}

func request(nc *nats.Conn, m *nats.Msg) (pubAck, error) {
	var ack pubAck
	resp, err := nc.RequestMsg(m, attemptWait)
	if err != nil {
		return ack, err
	}
	if err := json.Unmarshal(resp.Data, &ack); err != nil {
		return ack, fmt.Errorf("decode acknowledgement: %w", err)
	}
	if ack.Error != nil {
		return ack, ack.Error
	}
	if ack.Stream == "" {
		return ack, errors.New("the answer is not an acknowledgement")
	}
	return ack, nil
}

// singles publishes each by itself, side by side, and returns how long it took.
func (p *Publisher) singles(nc *nats.Conn, apart []*entry) time.Duration {
	start := time.Now()
	if len(apart) == 1 {
		p.single(nc, apart[0])
	} else {
		var wg sync.WaitGroup
		for _, e := range apart {
			wg.Go(func() { p.single(nc, e) })
		}
		wg.Wait()
	}
	took := time.Since(start)
	p.metrics.Seconds.WithLabelValues("single").Observe(took.Seconds())
	return took
}

func (p *Publisher) single(nc *nats.Conn, e *entry) {
	for {
		ack, err := request(nc, e.Msg)
		if err == nil {
			if !ack.Duplicate && !e.Single {
				e.sequence = ack.Sequence
			}
			p.finish(e, ack.Duplicate, nil)
			return
		}
		reason, verdict := classify(err)
		p.metrics.Errors.WithLabelValues(reason).Inc()
		if reason == "no_stream" {
			p.doubt()
			p.noLog()
		}
		if verdict != nil || time.Since(e.since) > giveUp-attemptWait || !nc.IsConnected() {
			p.log.Debug("publish failed", zap.String("reason", reason), zap.Error(err))
			if verdict == nil {
				verdict = ErrUnavailable
			}
			p.finish(e, false, verdict)
			return
		}
		time.Sleep(retryPause)
	}
}

// classify names the reason of a failed publish; a verdict ends the attempts.
func classify(err error) (reason string, verdict error) {
	var api *jetstream.APIError
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return "no_stream", nil // or its leader is being elected
	case errors.Is(err, nats.ErrTimeout), errors.Is(err, context.DeadlineExceeded):
		return "timeout", nil
	case errors.As(err, &api):
		switch api.ErrorCode {
		case 10077, 10023, 10002, 10047: // maximum bytes; the server's, the account's, the disk's resources
			return "full", ErrFull
		}
		if api.Code == 503 || api.Code == 429 || api.ErrorCode == errDuplicateUnsettled {
			return "unavailable", nil
		}
		return "refused", fmt.Errorf("the broker refused the event: %w", err)
	case errors.Is(err, nats.ErrMaxPayload):
		return "too_large", ErrTooLarge
	}
	return "unavailable", nil
}

// errDuplicateUnsettled: the first message with this id is not stored yet.
const errDuplicateUnsettled jetstream.ErrorCode = 10158

func (p *Publisher) finish(e *entry, dup bool, err error) {
	e.dup, e.err = dup, err
	p.mu.Lock()
	delete(p.inflight, e.id)
	if err == nil {
		p.memory.stored(e.sequence)
		p.memory.add(e.generation, e.id)
	} else if errors.Is(err, ErrUnavailable) {
		p.memory.forget() // who knows what the log still has when it comes back
	}
	p.mu.Unlock()
	close(e.done)
}

// doubt forgets what was acknowledged: who comes again is asked of the broker.
func (p *Publisher) doubt() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.memory.forget()
}

func (p *Publisher) learnLate(round []*entry) {
	for _, e := range round {
		if e.Late && e.err == nil {
			hit := 0.0
			if e.dup {
				hit = 1
			}
			p.late += 0.02 * (hit - p.late)
		}
	}
}
