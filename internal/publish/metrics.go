package publish

import "github.com/prometheus/client_golang/prometheus"

// Metrics of the publisher.
type Metrics struct {
	BatchSize prometheus.Histogram
	Seconds   *prometheus.HistogramVec // kind: single, batch
	Errors    *prometheus.CounterVec   // reason
	Refused   prometheus.Counter
}

// NewMetrics registers them.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		BatchSize: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "rollcall_publish_batch_size", Help: "Events that left for the log in one atomic batch; 1 for rounds without one.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 9),
		}),
		Seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "rollcall_publish_seconds", Help: "From publishing a batch, or a round of singles, to its acknowledgement.",
			Buckets: prometheus.ExponentialBuckets(0.0002, 2, 15),
		}, []string{"kind"}),
		Errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rollcall_publish_errors_total", Help: "Failed attempts to publish, retried ones included.",
		}, []string{"reason"}),
		Refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "rollcall_publish_batches_refused_total", Help: "Batches that went out again singly: one member was a duplicate, or no acknowledgement came.",
		}),
	}
	r.MustRegister(m.BatchSize, m.Seconds, m.Errors, m.Refused)
	return m
}
