package store

import "github.com/prometheus/client_golang/prometheus"

// Metrics of all stores in the process.
type Metrics struct {
	rows, held, replacedChars, unknownTypes *prometheus.CounterVec
}

// NewMetrics registers them.
func NewMetrics(r prometheus.Registerer) *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "rollcall_store_" + name, Help: help}, labels)
		r.MustRegister(v)
		return v
	}
	return &Metrics{
		rows:          counter("rows_written_total", "Rows inserted or updated; an event that loses against a newer version writes none.", "store", "resource"),
		held:          counter("held_rows_total", "Rows of deleted entities that stay as tombstones under on_delete: hard, since a foreign key or another transaction holds them.", "store", "resource"),
		replacedChars: counter("replaced_characters_total", "Characters that Postgres can't store (U+0000, lone surrogates) and that became U+FFFD.", "store"),
		unknownTypes:  counter("unknown_types_total", "Events of a type that the store doesn't know, skipped.", "store"),
	}
}

func (m *Metrics) wrote(store, resource string, rows int64) {
	m.rows.WithLabelValues(store, resource).Add(float64(rows))
}

func (m *Metrics) heldRows(store, resource string, rows int64) {
	m.held.WithLabelValues(store, resource).Add(float64(rows))
}

func (m *Metrics) replaced(store string, n int) {
	if n > 0 {
		m.replacedChars.WithLabelValues(store).Add(float64(n))
	}
}

func (m *Metrics) unknown(store string, n int) {
	if n > 0 {
		m.unknownTypes.WithLabelValues(store).Add(float64(n))
	}
}
