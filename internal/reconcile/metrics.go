package reconcile

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics of passes.
type Metrics struct {
	drift    *prometheus.GaugeVec   // pass, store, resource, kind
	mended   *prometheus.CounterVec // store, resource
	held     *prometheus.GaugeVec   // store, resource
	ended    *prometheus.GaugeVec   // pass
	failures *prometheus.CounterVec // pass
	requests *prometheus.CounterVec // pass
}

// NewMetrics registers them.
func NewMetrics(r prometheus.Registerer) *Metrics {
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "rollcall_reconcile_" + name, Help: help}, labels)
		r.MustRegister(v)
		return v
	}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "rollcall_reconcile_" + name, Help: help}, labels)
		r.MustRegister(v)
		return v
	}
	m := &Metrics{
		drift:    gauge("drift_rows", "Rows that differed from Clerk's when a pass last ended: missing, stale or extra.", "pass", "store", "resource", "kind"),
		mended:   counter("mended_rows_total", "Rows that differed and were mended.", "store", "resource"),
		held:     gauge("left_alone", "1 where the last pass left something alone: deletions above the breaker's bound, or a list that can't be relied on.", "store", "resource"),
		ended:    gauge("last_success_timestamp_seconds", "When a pass last ended well.", "pass"),
		failures: counter("failures_total", "Passes that could not be made.", "pass"),
		requests: counter("requests_total", "Requests to Clerk's Backend API.", "pass"),
	}
	return m
}

// failed counts a pass that wasn't made; "" where it wasn't known yet which.
func (m *Metrics) failed(pass string) {
	if pass == "" {
		pass = "unknown"
	}
	m.failures.WithLabelValues(pass).Inc()
}

func (m *Metrics) made(r *Report, whole bool) {
	m.requests.WithLabelValues(r.Pass).Add(float64(r.Requests.Requests))
	for _, res := range r.Resources {
		m.mended.WithLabelValues(res.Store, res.Resource).Add(float64(res.Mended))
	}
	if !whole {
		return
	}
	m.ended.WithLabelValues(r.Pass).Set(float64(time.Now().Unix()))
	for _, res := range r.Resources {
		for kind, n := range res.left {
			m.drift.WithLabelValues(r.Pass, res.Store, res.Resource, kind).Set(float64(n))
		}
		held := 0.0
		if res.Left != "" {
			held = 1
		}
		m.held.WithLabelValues(res.Store, res.Resource).Set(held)
	}
}

// forget takes back what this process found in a pass that another has made since.
func (m *Metrics) forget(pass string) {
	m.drift.DeletePartialMatch(prometheus.Labels{"pass": pass})
}
