package revocation

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/rollcall-dev/rollcall/internal/bucket"
	"github.com/rollcall-dev/rollcall/streams"
	"github.com/rollcall-dev/rollcall/streams/auth"
)

// Broker is the connection to NATS.
type Broker = bucket.Connection

// Status shows whether a list is fresh.
type Status interface {
	OK()
	Degraded(reason string)
}

// ListOptions of a List.
type ListOptions struct {
	Broker Broker
	Names  streams.Names
	Life   time.Duration // of a token, at most
	Log    *zap.Logger
	Status Status
}

// List is what a gateway holds of the bucket. It answers from memory, also while
// the bucket is out of reach; Fresh says whether that is all there is. Safe for
// concurrent use.
type List struct {
	ListOptions
	table atomic.Pointer[table] // nil until a first one is complete
	mark  atomic.Int64          // when the last watermark came: since begun
	begun time.Time             // of the monotonic clock
	why   atomic.Pointer[string]
}

const (
	// staleAfter is the age of a watermark at which the list isn't fresh any more.
	staleAfter = 5 * time.Second
	// A watch that brings no watermark for so long is begun anew.
	watchAgain = 10 * time.Second
	ageEvery   = time.Second // a 64th of the table
)

// NewList makes one; it is empty and not fresh until it runs.
func NewList(o ListOptions) *List {
	l := &List{ListOptions: o, begun: time.Now()}
	l.because("the list of revocations isn't read yet")
	return l
}

func (l *List) because(why string) { l.why.Store(&why) }

// Refuse says whether, and why, a token doesn't count any more. A list that isn't
// fresh answers with what it has.
func (l *List) Refuse(c *auth.Claims) (reason string, refused bool) {
	t := l.table.Load()
	if t == nil {
		return "", false
	}
	made := c.IssuedAt.UnixMilli()
	refuses := func(n named) bool {
		e, ok := t.get(n)
		return ok && (made <= e.notBefore || e.denyUntil > 0 && time.Now().UnixMilli() < e.denyUntil)
	}
	switch org := c.Organization; {
	case refuses(named{User, c.UserID, ""}):
		return "the user is banned, deleted or denied", true
	case c.SessionID != "" && refuses(named{Session, c.SessionID, ""}):
		return "the session has ended", true
	case org.ID == "":
		return "", false
	case refuses(named{Organization, org.ID, ""}):
		return "the organization is deleted or denied", true
	case refuses(named{Member, c.UserID, org.ID}):
		return "the membership has ended or changed", true
	case org.Role != "" && refuses(named{Role, org.Role, ""}):
		return "the role has changed", true
	}
	return "", false
}

// Fresh is an error while the list may lack something: it isn't complete, or no
// watermark has come for five seconds.
func (l *List) Fresh() error {
	if l.age() < staleAfter {
		return nil
	}
	return errors.New(*l.why.Load())
}

// age of the last watermark; very great before the first.
func (l *List) age() time.Duration {
	at := l.mark.Load()
	if at == 0 {
		return time.Hour
	}
	return time.Since(l.begun) - time.Duration(at)
}

// Run keeps the list until the context ends; it returns only then. What was known
// stays in force until a new table is complete.
func (l *List) Run(ctx context.Context) error {
	w := bucket.Watcher{
		Broker: l.Broker, Name: l.Names.RevocationBucket(), Every: ageEvery,
		Begin: func(uint64) bucket.Reader { return l.Reader() },
		Failed: func(err error) {
			l.because("the list of revocations can't be read: " + err.Error())
			l.show()
		},
	}
	return w.Run(ctx)
}

// Reader takes one watch of the bucket; what it has takes effect once the watch is
// complete.
func (l *List) Reader() bucket.Reader {
	return &reading{List: l, table: newTable(), heard: time.Now()}
}

// reading is one watch.
type reading struct {
	*List
	table    *table
	complete bool
	heard    time.Time // of what was there: a long list takes long to read
	aged     int       // parts of the table so far
}

// Tick is part of [bucket.Reader].
func (r *reading) Tick() error {
	r.show()
	if r.complete {
		r.table.age(r.aged, time.Now(), r.Life)
		r.aged++
	}
	if r.age() > watchAgain && time.Since(r.heard) > watchAgain {
		return errors.New("no watermark has come for 10 seconds; does a `rollcall run revoke` run, and does it keep up?")
	}
	return nil
}

// Take is part of [bucket.Reader].
func (r *reading) Take(u jetstream.KeyValueEntry) {
	if !r.complete {
		r.heard = time.Now()
	}
	switch {
	case u == nil: // all that was there
		r.complete = true
		r.List.table.Store(r.table)
	case u.Key() == WatermarkKey:
		// One that was there says nothing of now.
		if r.complete && u.Operation() == jetstream.KeyValuePut {
			r.mark.Store(int64(time.Since(r.List.begun)))
			r.because("no watermark has come for 5 seconds; does a `rollcall run revoke` run, and does it keep up?")
			r.show()
		}
	default:
		r.entry(u)
	}
}

// entry changes the table. One that can't be read is written by a later release, or
// by hand.
func (r *reading) entry(u jetstream.KeyValueEntry) {
	kind, ids, err := ParseKey(u.Key())
	if err != nil {
		r.Log.Warn("an entry of the list of revocations is passed over", zap.Error(err))
		return
	}
	n := named{kind: kind, id: ids[0]}
	if kind == Member {
		n.id, n.in = ids[1], ids[0]
	}
	n.id, n.in = strings.Clone(n.id), strings.Clone(n.in)
	if u.Operation() != jetstream.KeyValuePut {
		r.table.remove(n)
		return
	}
	e, err := Parse(u.Value())
	if err != nil {
		r.Log.Warn("an entry of the list of revocations is passed over", zap.String("key", u.Key()), zap.Error(err))
		return
	}
	if e.Ends(r.Life).After(time.Now()) {
		r.table.set(n, cut{e.NotBefore, e.DenyUntil})
	}
}

func (l *List) show() {
	if err := l.Fresh(); err != nil {
		l.Status.Degraded(err.Error())
		return
	}
	l.Status.OK()
}

// Describe is part of prometheus.Collector.
func (l *List) Describe(to chan<- *prometheus.Desc) { to <- entriesDesc; to <- watermarkDesc }

// Collect is part of prometheus.Collector.
func (l *List) Collect(to chan<- prometheus.Metric) {
	n := 0
	if t := l.table.Load(); t != nil {
		n = t.len()
	}
	to <- prometheus.MustNewConstMetric(entriesDesc, prometheus.GaugeValue, float64(n))
	to <- prometheus.MustNewConstMetric(watermarkDesc, prometheus.GaugeValue, l.age().Seconds())
}

var (
	entriesDesc   = prometheus.NewDesc("rollcall_revocation_entries", "Entries of the list of revocations that the gateway holds.", nil, nil)
	watermarkDesc = prometheus.NewDesc("rollcall_revocation_watermark_age_seconds", "Since when the gateway has not heard that its list of revocations is complete; from 5 on it fails closed, or open where configured; 3600 before the first time.", nil, nil)
)
