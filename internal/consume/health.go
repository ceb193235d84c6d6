package consume

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// reading is which of a sink's readings of the log is meant.
type reading int

const (
	live   reading = iota // goes on for ever
	second                // of a range, to fill what came late
)

// health is a sink's, made of what both readings say of themselves.
type health struct {
	status  Status
	gauge   prometheus.Gauge
	mu      sync.Mutex
	trouble [2]string // by reading; "" where all is well
}

func (h *health) set(r reading, trouble string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.trouble[r] = trouble
	switch {
	case h.trouble[live] != "":
		trouble = h.trouble[live]
	case h.trouble[second] != "":
		trouble = "filling: " + h.trouble[second]
	default:
		h.gauge.Set(0)
		h.status.OK()
		return
	}
	h.gauge.Set(1)
	h.status.Degraded(trouble)
}
