package consume

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rollcall-dev/rollcall/streams"
)

// Metrics of all sinks in the process.
type Metrics struct {
	lagEvents, lagSeconds, degraded, working *prometheus.GaugeVec
	fillPosition, fillEnd                    *prometheus.GaugeVec
	events, rewinds                          *prometheus.CounterVec
	batch, visible                           *prometheus.HistogramVec
	deadLetters                              *prometheus.CounterVec
}

// NewMetrics registers them. deadLetters is shared with ingest.
func NewMetrics(r prometheus.Registerer, deadLetters *prometheus.CounterVec) *Metrics {
	sink := []string{"sink"}
	gauge := func(name, help string) *prometheus.GaugeVec {
		v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "rollcall_consume_" + name, Help: help}, sink)
		r.MustRegister(v)
		return v
	}
	counter := func(name, help string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "rollcall_consume_" + name, Help: help}, sink)
		r.MustRegister(v)
		return v
	}
	histogram := func(name, help string, buckets []float64) *prometheus.HistogramVec {
		v := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "rollcall_consume_" + name, Help: help, Buckets: buckets}, sink)
		r.MustRegister(v)
		return v
	}
	return &Metrics{
		lagEvents:    gauge("lag_events", "Events of the sink's subjects that are stored and not applied yet."),
		lagSeconds:   gauge("lag_seconds", "Age of the last applied event while others wait; 0 where none do."),
		degraded:     gauge("degraded", "1 while the sink is in trouble and retries."),
		working:      gauge("working", "1 while this process holds the sink's lease; 0 on a standby."),
		fillPosition: gauge("fill_position", "While columns or tables that came late are filled: the sequence up to which the log was read again."),
		fillEnd:      gauge("fill_end", "While columns or tables that came late are filled: the sequence at which that ends; 0 while nothing is filled."),
		events:       counter("events_total", "Events applied."),
		rewinds:      counter("rewinds_total", "Times that the sink began the log anew because the stream wasn't the one it knew."),
		batch:        histogram("batch_size", "Events applied in one transaction.", prometheus.ExponentialBuckets(1, 2, 10)),
		visible:      histogram("visible_seconds", "From an event's receipt to its effect being visible.", prometheus.ExponentialBuckets(0.001, 2, 18)),
		deadLetters:  deadLetters,
	}
}

// NewDeadLetters registers the counter of dead letters that ingest and all
// sinks share.
func NewDeadLetters(r prometheus.Registerer) *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "rollcall_dead_letters_total", Help: "Events that this process put into the dead letters."}, []string{"sink"})
	r.MustRegister(v)
	return v
}

type sinkMetrics struct {
	lagEvents, lagSeconds, degraded, working prometheus.Gauge
	events, rewinds, deadLetters             prometheus.Counter
	batch, visible                           prometheus.Observer
	fillPosition, fillEnd                    prometheus.Gauge
	quiet                                    bool // a second reading: its events were counted when they were read first
}

func (m *Metrics) of(sink string) sinkMetrics {
	return sinkMetrics{
		m.lagEvents.WithLabelValues(sink), m.lagSeconds.WithLabelValues(sink), m.degraded.WithLabelValues(sink), m.working.WithLabelValues(sink),
		m.events.WithLabelValues(sink), m.rewinds.WithLabelValues(sink), m.deadLetters.WithLabelValues(sink),
		m.batch.WithLabelValues(sink), m.visible.WithLabelValues(sink),
		m.fillPosition.WithLabelValues(sink), m.fillEnd.WithLabelValues(sink), false,
	}
}

func (m *sinkMetrics) lag(events uint64, applied time.Time) {
	if m.quiet {
		return
	}
	m.lagEvents.Set(float64(events))
	if events == 0 || applied.IsZero() {
		m.lagSeconds.Set(0)
		return
	}
	m.lagSeconds.Set(time.Since(applied).Seconds())
}

func (m *sinkMetrics) committed(messages []streams.Message) {
	if m.quiet {
		return
	}
	m.events.Add(float64(len(messages)))
	m.batch.Observe(float64(len(messages)))
	now := time.Now()
	for i := range messages {
		if ms, err := strconv.ParseInt(messages[i].Header.Get(streams.HeaderReceivedAt), 10, 64); err == nil {
			m.visible.Observe(now.Sub(time.UnixMilli(ms)).Seconds())
		}
	}
	last := messages[len(messages)-1]
	m.lag(last.Pending, last.Time)
}

func (m *sinkMetrics) buried() { m.deadLetters.Inc() }
