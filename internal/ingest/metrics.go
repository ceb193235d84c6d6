package ingest

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rollcall-dev/rollcall/streams"
)

// Metrics of ingest.
type Metrics struct {
	requests    *prometheus.CounterVec // clerk_instance, code
	rejected    *prometheus.CounterVec // clerk_instance, reason
	accepted    *prometheus.CounterVec // clerk_instance
	duplicates  *prometheus.CounterVec // clerk_instance
	seconds     prometheus.Histogram
	shed        prometheus.Counter
	DeadLetters prometheus.Counter
}

// NewMetrics registers them. deadLetters is the counter that all sinks share,
// by sink.
func NewMetrics(r prometheus.Registerer, deadLetters *prometheus.CounterVec) *Metrics {
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "rollcall_ingest_" + name, Help: help}, labels)
		r.MustRegister(v)
		return v
	}
	m := &Metrics{
		requests:   counters("requests_total", "Requests to the webhook endpoint, by the status they were answered with.", "clerk_instance", "code"),
		rejected:   counters("rejected_total", "Requests that were refused, by the error's code.", "clerk_instance", "reason"),
		accepted:   counters("accepted_total", "Events stored in the log.", "clerk_instance"),
		duplicates: counters("duplicates_total", "Events that were stored already.", "clerk_instance"),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "rollcall_ingest_request_seconds", Help: "From a request's first byte to its answer: for a 2xx, to the event being stored.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 15),
		}),
		shed:        prometheus.NewCounter(prometheus.CounterOpts{Name: "rollcall_ingest_shed_total", Help: "Requests answered with 503 because too much was being received."}),
		DeadLetters: deadLetters.WithLabelValues(streams.SinkIngest),
	}
	r.MustRegister(m.seconds, m.shed)
	return m
}

// HeldBytes registers the gauge of what requests hold in memory.
func (h *Handler) HeldBytes(r prometheus.Registerer) {
	r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "rollcall_ingest_body_bytes", Help: "Memory held for requests just now.",
	}, func() float64 { return float64(h.memory.used.Load()) }))
}

func (m *Metrics) answered(instance string, a *answer, took time.Duration) {
	m.seconds.Observe(took.Seconds())
	m.requests.WithLabelValues(instance, strconv.Itoa(a.status)).Inc()
	switch {
	case a == stored:
		m.accepted.WithLabelValues(instance).Inc()
	case a == again:
		m.duplicates.WithLabelValues(instance).Inc()
	case a.status == http.StatusAccepted:
	default:
		m.rejected.WithLabelValues(instance, a.code).Inc()
		if a.code == "overloaded" {
			m.shed.Inc()
		}
	}
}
