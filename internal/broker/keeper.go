package broker

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rollcall-dev/rollcall/streams"
)

const (
	lookEvery  = 5 * time.Second
	retryAfter = time.Second
	nearlyFull = 0.95
)

// Status shows whether a part of the process is well.
type Status interface {
	OK()
	Degraded(reason string)
}

// KeeperOptions of a Keeper.
type KeeperOptions struct {
	Broker     *Conn
	Names      streams.Names
	Streams    streams.Options
	Create     bool   // make and change streams; else leave them to an admin
	Durability string // as declared: fsync, majority, unknown
	MonitorURL string // where Durability is checked; "" for nowhere
	// Embedded is the server's health where it runs in this process, which makes
	// it sync always; nil for a server elsewhere.
	Embedded func() error
	// Check looks at the connection: whether it offers what the process needs.
	// It may be nil.
	Check   func(*nats.Conn) error
	Status  Status // of the streams
	Metrics *Metrics
}

// Keeper looks after the streams for a process: it makes them where it may, and
// measures how full the log is and how safe.
type Keeper struct {
	o    KeeperOptions
	kick chan struct{}
	once chan struct{} // closed when the streams were first found or made
	full float64       // share of the log's size limit that is used, as last measured
	log  logState      // as last measured
}

// logState tells one log from another: its epoch, and how far it goes.
type logState struct {
	epoch time.Time
	last  uint64
}

// NewKeeper makes a keeper.
func NewKeeper(o KeeperOptions) *Keeper {
	return &Keeper{o: o, kick: make(chan struct{}, 1), once: make(chan struct{})}
}

// Look makes Run look at once: somebody missed a stream. It doesn't block.
func (k *Keeper) Look() {
	select {
	case k.kick <- struct{}{}:
	default:
	}
}

// Kept is closed once the streams have been found or made.
func (k *Keeper) Kept() <-chan struct{} { return k.once }

// Run looks after the streams until the context ends.
func (k *Keeper) Run(ctx context.Context) error {
	generation, pause := uint64(0), time.Duration(0)
	kept, first := false, sync.OnceFunc(func() { close(k.once) })
	for {
		if now := k.o.Broker.Generation(); now != generation || !kept {
			generation = now
			if err := k.apply(ctx); err != nil {
				kept, pause = false, retryAfter
				k.o.Status.Degraded(err.Error())
			} else {
				kept, pause = true, lookEvery
				first()
			}
		}
		if kept {
			k.measure(ctx)
			err := k.durability(ctx)
			if err == nil {
				err = k.healthy(ctx)
			}
			if err != nil {
				k.o.Status.Degraded(err.Error())
			} else {
				k.o.Status.OK()
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-k.kick:
			kept = false
			// A stream that is missing makes whoever needs it ask again and again.
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(retryAfter / 10):
			}
		case <-time.After(pause):
		}
	}
}

func (k *Keeper) apply(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if nc, err := k.o.Broker.NATS(); err != nil || !nc.IsConnected() {
		return reason("no connection to NATS", err)
	}
	js, err := k.o.Broker.JetStream()
	if err != nil {
		return err
	}
	definitions := k.o.Names.Definitions(k.limited(ctx, js))
	if !k.o.Create {
		return check(ctx, js, definitions)
	}
	found, err := streams.Apply(ctx, js, definitions)
	if err != nil {
		return err
	}
	for _, d := range found {
		if d.Action == streams.Refuse {
			return fmt.Errorf("%s; see rollcall streams plan", d)
		}
	}
	return nil
}

// check says what an admin has to put right. A user that may not ask isn't
// told: a denied request looks like one that takes too long.
func check(ctx context.Context, js jetstream.JetStream, d streams.Definitions) error {
	ctx, cancel := context.WithTimeout(ctx, lookEvery)
	defer cancel()
	found, err := streams.Plan(ctx, js, d)
	if err != nil {
		return nil //nolint:nilerr // as said
	}
	for _, d := range found {
		if d.Action != streams.Keep {
			return fmt.Errorf("%s; nats.create is false: have an admin run rollcall streams apply", d)
		}
	}
	return nil
}

// limited is the log's size limit where none is configured: half of what the
// account may store, which leaves room for dead letters and state.
func (k *Keeper) limited(ctx context.Context, js jetstream.JetStream) streams.Options {
	o := k.o.Streams
	if o.MaxBytes > 0 {
		return o
	}
	if account, err := js.AccountInfo(ctx); err == nil && account.Limits.MaxStore > 0 {
		o.MaxBytes = account.Limits.MaxStore / 2
	}
	return o
}

// durability declares what an acknowledgement means, and checks it where it can.
func (k *Keeper) durability(ctx context.Context) error {
	checked := k.o.Embedded != nil
	defer func() { k.o.Metrics.declare(k.o.Durability, checked) }()
	if k.o.MonitorURL != "" && k.o.Durability == "fsync" {
		always, err := SyncsAlways(ctx, k.o.MonitorURL)
		if err != nil {
			return err
		}
		if !always {
			return fmt.Errorf("nats.durability is fsync, but the server acknowledges before it syncs: set sync_interval: always in its jetstream section, or declare majority or unknown")
		}
		checked = true
	}
	return nil
}

// healthy asks the server how it is, where it can be asked: a stream that met a
// write error, a full disk among them, answers publishers with silence.
func (k *Keeper) healthy(ctx context.Context) error {
	switch {
	case k.o.Embedded != nil:
		if err := k.o.Embedded(); err != nil {
			return fmt.Errorf("the embedded NATS server is unwell: %w", err)
		}
	case k.o.MonitorURL != "":
		if err := Healthy(ctx, k.o.MonitorURL); err != nil {
			return err
		}
	}
	if nc, err := k.o.Broker.NATS(); k.o.Check != nil && err == nil {
		if err := k.o.Check(nc); err != nil {
			return err
		}
	}
	if k.full >= nearlyFull {
		return fmt.Errorf("the log is %.0f%% full, and refuses events at its limit: raise nats.max_bytes, or give it a larger disk", 100*k.full)
	}
	return nil
}

// measure is best effort: a user that may only publish isn't told.
func (k *Keeper) measure(ctx context.Context) {
	js, err := k.o.Broker.JetStream()
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, lookEvery)
	defer cancel()
	info, err := state(ctx, js, k.o.Names.Stream())
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		k.Look() // deleted, and nobody has missed it yet
	}
	if info != nil {
		k.compare(logState{info.Created, info.State.LastSeq})
		k.o.Metrics.bytes.Set(float64(info.State.Bytes))
		k.o.Metrics.messages.Set(float64(info.State.Msgs))
		k.o.Metrics.limit.Set(float64(max(info.Config.MaxBytes, 0)))
		k.full = 0
		if info.Config.MaxBytes > 0 {
			k.full = float64(info.State.Bytes) / float64(info.Config.MaxBytes)
		}
	}
	if info, _ := state(ctx, js, k.o.Names.DeadStream()); info != nil {
		k.o.Metrics.letters.Set(float64(info.State.Msgs))
	}
}

// compare doubts what is remembered of the log where it is another now, or was
// restored from a shorter copy.
func (k *Keeper) compare(now logState) {
	if was := k.log; !was.epoch.IsZero() && (!now.epoch.Equal(was.epoch) || now.last < was.last) {
		k.o.Broker.Doubt()
	}
	k.log = now
}

func state(ctx context.Context, js jetstream.JetStream, name string) (*jetstream.StreamInfo, error) {
	s, err := js.Stream(ctx, name)
	if err != nil {
		return nil, err
	}
	return s.CachedInfo(), nil
}

// Metrics of the log.
type Metrics struct {
	bytes, limit, messages, letters prometheus.Gauge
	durability                      *prometheus.GaugeVec
}

// NewMetrics registers them.
func NewMetrics(r prometheus.Registerer) *Metrics {
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
		r.MustRegister(g)
		return g
	}
	m := &Metrics{
		bytes:    gauge("rollcall_log_bytes", "Size of the log, before compression."),
		limit:    gauge("rollcall_log_limit_bytes", "Size at which the log refuses events; 0 for the server's limit only."),
		messages: gauge("rollcall_log_messages", "Events in the log."),
		letters:  gauge("rollcall_dead_letters", "Dead letters that wait for somebody."),
		durability: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "rollcall_log_durability", Help: "What an acknowledgement means: as declared, and whether it was checked.",
		}, []string{"declared", "checked"}),
	}
	r.MustRegister(m.durability)
	return m
}

func (m *Metrics) declare(declared string, checked bool) {
	m.durability.WithLabelValues(declared, strconv.FormatBool(checked)).Set(1)
	m.durability.DeleteLabelValues(declared, strconv.FormatBool(!checked))
}
