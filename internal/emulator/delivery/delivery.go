// Package delivery does what Svix does for Clerk: it carries each message to
// the endpoints of an instance, signed, at least once, in no promised order.
// And it can be told to do worse than Svix ever would (chaos.go).
//
//	Send ─▶ chaos ─┬▶ dropped
//	               ├▶ parked (delay, reorder, burst) ─┐
//	               └──────────────────────────────────┴▶ ready ─▶ attempt ─┬▶ delivered
//	                                                       ▲               ├▶ aborted
//	                                                       └── parked ◀────┼▶ (to be tried again)
//	                                                           (retry)     └▶ failed
//
// A delivery is one message for one endpoint. It is settled once it is
// delivered, aborted, failed (given up) or dropped; a replay opens it again.
// Each endpoint has its own queue and workers, so that one whose receiver hangs
// holds up nobody else. Messages are kept for the log and for replays, up to a
// budget of bytes (keep.go).
package delivery

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"net"
	"net/http"
	"sync"
	"time"
)

// ErrClosed: the sender was closed.
var ErrClosed = errors.New("the sender of webhooks has been closed")

// Config is what a sender needs to know. The zero value works.
type Config struct {
	// Seed and Instance (its id) decide message ids, made-up secrets and chaos.
	Seed     uint64
	Instance string
	// Clock says the time of signatures and of the log; nil is time.Now. Waiting
	// is done in the machine's own time.
	Clock func() time.Time
	// RetryScale multiplies every wait that Svix has: the retry schedule,
	// Retry-After, the 24 hours of a rotated secret, the 5 days until an endpoint is
	// disabled. 0 is 1: Svix's own times.
	RetryScale float64
	Jitter     bool          // vary each retry's wait by up to a fifth, as Svix may
	Timeout    time.Duration // for one attempt, answer included; 0 is 15 s; not scaled
	Workers    int           // attempts at once for one endpoint; 0 is 64
	KeepBytes  int64         // for settled messages and their log; 0 is 64 MiB
	Chaos      Chaos
	// Dial opens connections to receivers; nil is net.Dialer's.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

func (c Config) withDefaults() (Config, error) {
	if c.RetryScale < 0 || math.IsNaN(c.RetryScale) || math.IsInf(c.RetryScale, 0) {
		return c, fmt.Errorf("retry scale %v: must be a number above 0, such as 0.001", c.RetryScale)
	}
	if err := c.Chaos.Validate(); err != nil {
		return c, err
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Dial == nil {
		c.Dial = (&net.Dialer{Timeout: 10 * time.Second}).DialContext
	}
	c.RetryScale = orDefault(c.RetryScale, 1)
	c.Timeout = orDefault(c.Timeout, 15*time.Second)
	c.Workers = orDefault(c.Workers, 64)
	c.KeepBytes = orDefault(c.KeepBytes, 64<<20)
	return c, nil
}

func orDefault[T int | int64 | float64 | time.Duration](v, otherwise T) T {
	if v == 0 {
		return otherwise
	}
	return v
}

// Message is one event to be delivered.
type Message struct {
	Type     string // of the event, such as user.created
	EntityID string // whom it is about, for the log only
	At       int64  // when it happened, unix ms; 0 is now
	Body     []byte // the request's body; must not be changed afterwards
}

// Sender delivers the messages of one instance. Its methods may be called from
// many goroutines.
type Sender struct {
	cfg    Config
	seed   uint64
	client *http.Client
	cut    context.CancelFunc // ends every attempt under way
	life   context.Context
	work   sync.WaitGroup

	mu        sync.Mutex
	closed    bool
	chaos     Chaos
	sequence  uint64 // of the newest message
	made      uint64 // ids and secrets made up so far
	endpoints []*endpoint
	kept      keeper
	open      int           // jobs queued, parked or under way
	idle      chan struct{} // closed while open is 0
	counts    Counts
}

// New makes a sender without endpoints.
func New(cfg Config) (*Sender, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	h := fnv.New64a()
	h.Write([]byte(cfg.Instance))
	life, cut := context.WithCancel(context.Background())
	s := &Sender{
		cfg: cfg, seed: cfg.Seed ^ h.Sum64(), chaos: cfg.Chaos, client: newClient(cfg),
		life: life, cut: cut, kept: newKeeper(cfg.KeepBytes), idle: make(chan struct{}),
	}
	close(s.idle)
	return s, nil
}

// Send takes a message, gives it an id (msg_…, the header svix-id) and queues
// its delivery to every endpoint that wants its type. It never waits for a
// receiver. The only error is ErrClosed.
func (s *Sender) Send(in Message) (id string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return "", ErrClosed
	}
	if in.At == 0 {
		in.At = s.cfg.Clock().UnixMilli()
	}
	s.sequence++
	rng := randomFor(s.seed, s.sequence)
	m := &message{Message: in, id: "msg_" + ksuid(in.At, rng), sequence: s.sequence}
	fate := s.chaos.fate(rng)
	s.kept.add(m)
	s.counts.Messages++
	for _, e := range s.endpoints {
		if !e.Disabled && e.wants(m.Type) {
			s.begin(m.to(e), fate)
		}
	}
	if m.open == 0 {
		s.kept.settled(m)
	}
	return m.id, nil
}

// begin starts a delivery as fate has it.
func (s *Sender) begin(d *delivery, f fate) {
	s.counts.Pending++
	d.chaos = f.names()
	if f.drop {
		s.turn(d, Dropped, "dropped by chaos")
		return
	}
	j := &job{d: d, delay: f.delay, passes: f.passes, holdAtMost: f.holdAtMost, burst: f.burst, forge: f.forge}
	s.opened(d)
	if f.duplicate {
		s.opened(d)
	}
	s.dispatch(j)
	if f.duplicate {
		s.dispatch(&job{d: d, kind: Duplicate})
	}
}

// opened and finished count the jobs of a delivery's message and of all.
func (s *Sender) opened(d *delivery) {
	if s.open == 0 {
		s.idle = make(chan struct{})
	}
	s.open++
	d.m.open++
	if d.m.open == 1 {
		s.kept.reopened(d.m)
	}
}

func (s *Sender) finished(d *delivery) {
	s.open--
	d.m.open--
	if d.m.open == 0 {
		s.kept.settled(d.m)
	}
	if s.open == 0 {
		close(s.idle)
	}
}

// Why deliveries are given up before their last retry.
const (
	reasonStopped  = "the emulator stopped"
	reasonDeleted  = "the endpoint was deleted"
	reasonDisabled = "the endpoint is disabled"
)

// turn puts a delivery into a state.
func (s *Sender) turn(d *delivery, to State, reason string) {
	*s.counts.of(d.state)--
	*s.counts.of(to)++
	d.state, d.reason, d.due = to, reason, 0
}

// Counts says how far the deliveries are. The five states count every delivery
// since the start, in the state it is in or had when it was forgotten.
type Counts struct {
	Messages  int `json:"messages"`
	Pending   int `json:"pending"`
	Delivered int `json:"delivered"`
	Failed    int `json:"failed"`
	Aborted   int `json:"aborted"`
	Dropped   int `json:"dropped"`
	Open      int `json:"open"`      // queued, delayed or under way, duplicates included; 0: settled
	Attempts  int `json:"attempts"`  // requests made
	Forgotten int `json:"forgotten"` // messages no longer kept for log and replay
	// ForgedAccepted counts the answers 2xx to a wrong signature or a changed body:
	// anything but 0 is the receiver's fault.
	ForgedAccepted int `json:"forged_accepted"`
}

func (c *Counts) of(s State) *int {
	switch s {
	case Delivered:
		return &c.Delivered
	case Failed:
		return &c.Failed
	case Aborted:
		return &c.Aborted
	case Dropped:
		return &c.Dropped
	default:
		return &c.Pending
	}
}

// Counts says how far the deliveries are.
func (s *Sender) Counts() Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.counts
	c.Open, c.Forgotten = s.open, s.kept.forgotten
	return c
}

// Settled returns once no delivery is queued, delayed or under way, or with
// ctx's error.
func (s *Sender) Settled(ctx context.Context) error {
	s.mu.Lock()
	idle := s.idle
	s.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%d deliveries aren't settled: %w", s.Counts().Open, ctx.Err())
	}
}

// Close takes no more messages, makes the attempts that are queued (what chaos
// held back included), gives up those that wait for a retry, and returns when
// the last has been answered. When ctx ends first, it cuts what is left and says
// so. Nothing of the sender runs after it.
func (s *Sender) Close(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	for _, e := range s.endpoints {
		s.flush(e)
	}
	idle := s.idle
	s.mu.Unlock()

	var err error
	select {
	case <-idle:
	case <-ctx.Done():
		s.mu.Lock()
		err = fmt.Errorf("%d deliveries were cut: %w", s.open, ctx.Err())
		for _, e := range s.endpoints {
			s.halt(e, reasonStopped)
		}
		s.mu.Unlock()
	}
	s.cut()
	s.work.Wait()
	s.client.CloseIdleConnections()
	return err
}
