package telemetry

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// Health is how a process is: whether it takes traffic, and the state of each
// of its parts. A degraded part shows in /readyz, in the log and in metrics,
// but takes no instance out of a load balancer; not taking traffic does.
//
//	starting ──OK──▶ ok ──Degraded──▶ degraded ──OK──▶ ok …
//
// A part counts as degraded until its first OK. Each change is logged once.
// Health is a prometheus.Collector; all methods are safe for concurrent use.
type Health struct {
	log *zap.Logger

	mu     sync.Mutex
	taking bool
	reason string // why it takes no traffic
	parts  map[string]*Part
}

// starting is the reason until the first report.
const starting = "starting"

// NewHealth is a process that is starting: it takes no traffic yet.
func NewHealth(log *zap.Logger) *Health {
	return &Health{log: log, reason: starting, parts: map[string]*Part{}}
}

// Part is something a process depends on or does: NATS, a store, a listener.
type Part struct {
	health *Health
	name   string

	// Under health.mu.
	reported bool // OK or Degraded was called
	degraded bool
	reason   string // while degraded
	since    time.Time
	filling  []string
}

// Part is the part called name; the first call makes it.
func (h *Health) Part(name string) *Part {
	h.mu.Lock()
	defer h.mu.Unlock()
	p, ok := h.parts[name]
	if !ok {
		p = &Part{health: h, name: name, degraded: true, reason: starting, since: time.Now()}
		h.parts[name] = p
	}
	return p
}

// OK says that the part works.
func (p *Part) OK() {
	h := p.health
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case !p.degraded:
		return
	case !p.reported:
		h.log.Info("ready", zap.String("part", p.name))
	default:
		h.log.Info("recovered", zap.String("part", p.name), zap.Duration("after", time.Since(p.since).Round(time.Millisecond)))
	}
	p.reported, p.degraded, p.reason, p.since = true, false, "", time.Now()
}

// Degraded says that the part doesn't work, and why, in a sentence without
// personal data or secrets. While it lasts a new reason replaces the old one.
func (p *Part) Degraded(reason string) {
	h := p.health
	h.mu.Lock()
	defer h.mu.Unlock()
	if !p.degraded || !p.reported {
		h.log.Info("degraded", zap.String("part", p.name), zap.String("reason", reason))
		p.since = time.Now()
	}
	p.reported, p.degraded, p.reason = true, true, reason
}

// Filling says what the part still fills, as table or table.column; nothing once
// it is done. The part works meanwhile: what it has is right.
func (p *Part) Filling(what []string) {
	h := p.health
	h.mu.Lock()
	defer h.mu.Unlock()
	p.filling = what
}

// SetTaking says whether the process takes traffic: it listens, and neither
// sheds nor drains. reason says why not.
func (h *Health) SetTaking(taking bool, reason string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if taking {
		reason = ""
	}
	if taking != h.taking {
		if taking {
			h.log.Info("taking traffic")
		} else {
			h.log.Info("taking no traffic", zap.String("reason", reason))
		}
	}
	h.taking, h.reason = taking, reason
}

// Remind logs what is degraded, every so often, until the context ends: a
// change is logged once, and whoever looks later sees it still holds.
func (h *Health) Remind(ctx context.Context, every time.Duration) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			for name, part := range h.report().Parts {
				if part.Status != "ok" && time.Since(part.Since) >= every {
					h.log.Warn("still degraded", zap.String("part", name), zap.String("reason", part.Reason), zap.Duration("for", time.Since(part.Since).Round(time.Second)))
				}
			}
		}
	}
}

// report is the body of /readyz.
type report struct {
	Status string                `json:"status"` // ok or degraded
	Taking bool                  `json:"taking"`
	Reason string                `json:"reason,omitempty"`
	Parts  map[string]partReport `json:"parts"`
}

type partReport struct {
	Status string    `json:"status"`
	Since  time.Time `json:"since"`
	Reason string    `json:"reason,omitempty"`
	// Incomplete is what is still being filled.
	Incomplete []string `json:"incomplete,omitempty"`
}

func (h *Health) report() report {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := report{Status: "ok", Taking: h.taking, Reason: h.reason, Parts: map[string]partReport{}}
	for name, p := range h.parts {
		part := partReport{Status: "ok", Since: p.since.UTC().Truncate(time.Millisecond), Reason: p.reason, Incomplete: p.filling}
		if p.degraded {
			part.Status, r.Status = "degraded", "degraded"
		}
		r.Parts[name] = part
	}
	return r
}

// serveAlive answers /healthz: who can answer is alive.
func serveAlive(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
}

// serveReady answers /readyz: 200 while the process takes traffic, else 503.
func (h *Health) serveReady(w http.ResponseWriter, _ *http.Request) {
	r := h.report()
	status := http.StatusOK
	if !r.Taking {
		status = http.StatusServiceUnavailable
	}
	writeJSON(w, status, r)
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // who asked has gone
}

func takingDesc() *prometheus.Desc {
	return prometheus.NewDesc("rollcall_telemetry_taking", "1 while the process takes traffic, else 0.", nil, nil)
}

func degradedDesc() *prometheus.Desc {
	return prometheus.NewDesc("rollcall_telemetry_degraded", "1 while the part is degraded, else 0.", []string{"part"}, nil)
}

// Describe implements prometheus.Collector.
func (h *Health) Describe(out chan<- *prometheus.Desc) {
	out <- takingDesc()
	out <- degradedDesc()
}

// Collect implements prometheus.Collector.
func (h *Health) Collect(out chan<- prometheus.Metric) {
	r := h.report()
	out <- prometheus.MustNewConstMetric(takingDesc(), prometheus.GaugeValue, number(r.Taking))
	for name, p := range r.Parts {
		out <- prometheus.MustNewConstMetric(degradedDesc(), prometheus.GaugeValue, number(p.Status == "degraded"), name)
	}
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
