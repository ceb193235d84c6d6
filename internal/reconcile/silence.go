package reconcile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rollcall-dev/rollcall/internal/bucket"
	"github.com/rollcall-dev/rollcall/streams"
)

// lookBack is how far the first pass reads the log for webhooks.
const lookBack = 24 * time.Hour

// silencePrefix begins the keys in CLERK_STATE of instances whose webhooks have
// gone silent; an id follows.
const silencePrefix = "silence."

// Silence is that Clerk has changes and no webhook came.
type Silence struct {
	InstanceID string `json:"instance_id"`
	// Since is the last webhook, or the beginning of the day before the first pass;
	// milliseconds since 1970.
	Since   int64 `json:"since"`
	Changes int   `json:"changes"` // found by the pass that noticed it
	Found   int64 `json:"found"`   // when it was noticed, by our clock, milliseconds since 1970
}

func (s Silence) String() string {
	at := func(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339) }
	return fmt.Sprintf("no webhook of %s since %s, and Clerk has changes (%d found at %s): is the endpoint enabled in Clerk's dashboard? rollcall doctor --canary tries it",
		s.InstanceID, at(s.Since), s.Changes, at(s.Found))
}

// heard is how far the log was read for webhooks.
type heard struct {
	Epoch    int64  `json:"epoch"`
	Sequence uint64 `json:"sequence"`
	Last     int64  `json:"last"` // when the last webhook was stored, milliseconds since 1970
}

// listen finds out whether Clerk has changed what no webhook told. A silence
// lasts until one comes.
func (r *run) listen(ctx context.Context) error {
	if err := r.hear(ctx); err != nil {
		return fmt.Errorf("look for the last webhook in the log: %w", err)
	}
	last := r.state.Heard.Last
	changes := 0
	for _, changed := range r.unheard {
		if changed > last {
			changes++
		}
	}
	key := silencePrefix + streams.Key(r.instanceID)
	before, err := readSilence(ctx, r.kv, key)
	switch {
	case err != nil:
		return err
	case before != nil && last > before.Since:
		return r.kv.Delete(ctx, key)
	case before != nil:
		r.report.Silence = before
		return nil
	case changes == 0:
		return nil
	}
	r.report.Silence = &Silence{r.instanceID, last, changes, r.Now().UnixMilli()}
	value, err := json.Marshal(r.report.Silence)
	if err != nil {
		return err
	}
	_, err = r.kv.Put(ctx, key, value)
	return err
}

func readSilence(ctx context.Context, kv jetstream.KeyValue, key string) (*Silence, error) {
	entry, err := kv.Get(ctx, key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	s := &Silence{}
	return s, json.Unmarshal(entry.Value(), s)
}

// hear reads the headers of what the log has got since the last pass.
func (r *run) hear(ctx context.Context) error {
	stream, err := r.JetStream.Stream(ctx, r.Names.Stream())
	if err != nil {
		return err
	}
	info, h := stream.CachedInfo(), &r.state.Heard
	from := jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{r.Names.InstanceSubjects(r.instanceID)}, HeadersOnly: true,
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: h.Sequence + 1,
	}
	if h.Epoch != info.Created.UnixNano() || h.Sequence > info.State.LastSeq {
		start := r.Now().Add(-lookBack)
		*h = heard{Epoch: info.Created.UnixNano(), Last: max(h.Last, start.UnixMilli())}
		from.DeliverPolicy, from.OptStartSeq, from.OptStartTime = jetstream.DeliverByStartTimePolicy, 0, &start
	}
	consumer, err := stream.OrderedConsumer(ctx, from)
	if err != nil {
		return err
	}
	more := consumer.CachedInfo().NumPending
	messages, err := consumer.Messages()
	if err != nil {
		return err
	}
	defer messages.Stop()
	for ; more > 0; more-- {
		m, err := messages.Next(jetstream.NextMaxWait(10 * time.Second))
		if err != nil {
			return err
		}
		if m.Headers().Get(streams.HeaderSource) != string(streams.SourceWebhook) {
			continue
		}
		if meta, err := m.Metadata(); err == nil {
			h.Last = max(h.Last, meta.Timestamp.UnixMilli())
		}
	}
	h.Sequence = info.State.LastSeq
	return nil
}

// Listener tells what passes find out about webhooks that no longer come, whoever
// makes them.
type Listener struct {
	Broker    bucket.Connection
	Names     streams.Names
	Instances []string // ids; "" is any
	// Tell is told whenever that changes; "" where nothing is wrong.
	Tell func(reason string)

	since atomic.Int64 // milliseconds since 1970; 0: not silent
}

// Register registers the gauge.
func (l *Listener) Register(r prometheus.Registerer) {
	r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "rollcall_reconcile_silence_seconds", Help: "Since the last webhook, where Clerk has changes that none told; else 0.",
	}, func() float64 {
		if since := l.since.Load(); since != 0 {
			return time.Since(time.UnixMilli(since)).Seconds()
		}
		return 0
	}))
}

// Run watches CLERK_STATE until the context ends; it returns only then. A broker
// that can't be reached is for others to report.
func (l *Listener) Run(ctx context.Context) error {
	w := &bucket.Watcher{
		Broker: l.Broker, Name: l.Names.StateBucket(), Keys: []string{silencePrefix + "*"}, Every: time.Second,
		Begin:  func(uint64) bucket.Reader { return &silences{listener: l, silent: map[string]Silence{}} },
		Failed: func(error) {},
	}
	return w.Run(ctx)
}

// silences are those that one watch has shown.
type silences struct {
	listener *Listener
	silent   map[string]Silence // by key
	whole    bool
}

func (s *silences) Take(e jetstream.KeyValueEntry) {
	if e == nil {
		s.whole = true
	} else {
		var is Silence
		delete(s.silent, e.Key())
		if json.Unmarshal(e.Value(), &is) == nil && (slices.Contains(s.listener.Instances, is.InstanceID) || slices.Contains(s.listener.Instances, "")) {
			s.silent[e.Key()] = is
		}
	}
	if !s.whole {
		return
	}
	var reasons []string
	since := int64(0)
	for _, key := range slices.Sorted(maps.Keys(s.silent)) {
		is := s.silent[key]
		reasons = append(reasons, is.String())
		if since == 0 || is.Since < since {
			since = is.Since
		}
	}
	s.listener.since.Store(since)
	s.listener.Tell(strings.Join(reasons, "; "))
}

func (s *silences) Tick() error { return nil }
