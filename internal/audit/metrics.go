package audit

import "github.com/prometheus/client_golang/prometheus"

// Metrics of the audit log.
type Metrics struct {
	rows    prometheus.Counter
	skipped *prometheus.CounterVec
	anchors *prometheus.CounterVec
}

// NewMetrics registers them.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		rows:    prometheus.NewCounter(prometheus.CounterOpts{Name: "rollcall_audit_rows_total", Help: "Rows appended."}),
		skipped: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "rollcall_audit_skipped_total", Help: "Messages that are no row: an event that is there already (duplicate), one of a backfill's snapshots (snapshot), one received before a prune (pruned)."}, []string{"reason"}),
		anchors: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "rollcall_audit_anchors_total", Help: "Anchors written to CLERK_ANCHORS, by result: ok or failed, which is tried again."}, []string{"result"}),
	}
	r.MustRegister(m.rows, m.skipped, m.anchors)
	for _, reason := range []string{"duplicate", "snapshot", "pruned"} {
		m.skipped.WithLabelValues(reason)
	}
	for _, result := range []string{"ok", "failed"} {
		m.anchors.WithLabelValues(result)
	}
	return m
}
