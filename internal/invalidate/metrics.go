package invalidate

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rollcall-dev/rollcall/streams"
)

// Metrics of all targets in the process.
type Metrics struct {
	keys, errors *prometheus.CounterVec
	oldest       *prometheus.Desc

	mu      sync.Mutex
	waiting map[string]time.Time // by target, when its oldest waiting change was stored
}

// NewMetrics registers them.
func NewMetrics(r prometheus.Registerer) *Metrics {
	target := []string{"target"}
	m := &Metrics{
		keys:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "rollcall_invalidate_keys_total", Help: "Stale keys that the target has dealt with."}, target),
		errors:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "rollcall_invalidate_errors_total", Help: "Attempts that failed; each is repeated."}, target),
		oldest:  prometheus.NewDesc("rollcall_invalidate_oldest_waiting_seconds", "Age of the oldest change whose keys the target hasn't dealt with; 0 where none waits.", target, nil),
		waiting: map[string]time.Time{},
	}
	r.MustRegister(m.keys, m.errors, m)
	return m
}

// Describe is part of prometheus.Collector.
func (m *Metrics) Describe(to chan<- *prometheus.Desc) { to <- m.oldest }

// Collect is part of prometheus.Collector: an age is as old as its reading.
func (m *Metrics) Collect(to chan<- prometheus.Metric) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for target, since := range m.waiting {
		age := 0.0
		if !since.IsZero() {
			age = max(0, time.Since(since).Seconds())
		}
		to <- prometheus.MustNewConstMetric(m.oldest, prometheus.GaugeValue, age, target)
	}
}

// targetMetrics are those of one target.
type targetMetrics struct {
	*Metrics
	target string
}

func (m *Metrics) of(target string) targetMetrics {
	m.keys.WithLabelValues(target)
	m.errors.WithLabelValues(target)
	t := targetMetrics{m, target}
	t.waits(time.Time{})
	return t
}

func (t targetMetrics) waits(since time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.waiting[t.target] = since
}

func (t targetMetrics) done() { t.waits(time.Time{}) }

func (t targetMetrics) failed() { t.errors.WithLabelValues(t.target).Inc() }

func (t targetMetrics) sent(stale []streams.Invalidation) {
	n := 0
	for _, i := range stale {
		n += len(i.Keys)
	}
	t.keys.WithLabelValues(t.target).Add(float64(n))
}
