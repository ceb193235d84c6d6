package gateway

import (
	"bufio"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/rollcall-dev/rollcall/streams/auth"
)

// What became of a request.
const (
	allowed = "allowed"
	refused = "refused" // for what the client sent, or didn't
	failing = "failed"  // for what we or the upstream couldn't do
)

// Reasons that are no codes of errors.
const (
	reasonOK        = "ok"
	reasonAnonymous = "anonymous"   // public, and nobody signed in
	reasonGone      = "client-gone" // before the upstream answered
	reasonBroke     = "broken-off"  // by the upstream or the client, in the middle of the answer
	reasonInternal  = "internal-error"
)

// exchange is a response on its way, with what the log says of it.
type exchange struct {
	http.ResponseWriter
	route  *route
	claims *auth.Claims
	err    error  // why it was refused
	reason string // where it isn't in err
	status int
	began  time.Time
	// bodyBroke is set by whoever reads the request's body.
	bodyBroke atomic.Bool
}

// Unwrap lets http.ResponseController reach the connection.
func (x *exchange) Unwrap() http.ResponseWriter { return x.ResponseWriter }

func (x *exchange) WriteHeader(status int) {
	if x.status == 0 && status >= http.StatusOK {
		x.status = status
	}
	x.ResponseWriter.WriteHeader(status)
}

func (x *exchange) Write(b []byte) (int, error) {
	if x.status == 0 {
		x.status = http.StatusOK
	}
	return x.ResponseWriter.Write(b)
}

// Hijack is how a WebSocket gets the connection.
func (x *exchange) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(x.ResponseWriter).Hijack()
	if err == nil {
		x.status = http.StatusSwitchingProtocols
	}
	return conn, rw, err
}

func (x *exchange) refuse(err error) {
	x.err = err
	auth.WriteError(x, err)
}

// outcome is bounded: metrics have it.
func (x *exchange) outcome() (decision, reason string) {
	code := auth.CodeOf(x.err)
	switch {
	case x.reason != "":
		return failing, x.reason
	case x.err == nil && x.claims == nil:
		return allowed, reasonAnonymous
	case x.err == nil:
		return allowed, reasonOK
	case code == "":
		return failing, reasonInternal
	case x.status >= http.StatusInternalServerError:
		return failing, string(code)
	}
	return refused, string(code)
}

// record counts and logs an exchange that has ended. Never a token, a query or
// a path, which may hold anything.
func (g *Gateway) record(x *exchange, r *http.Request) {
	decision, reason := x.outcome()
	took := g.Clock().Sub(x.began)
	x.route.counts.observe(decision, reason, took)
	if decision == allowed && !x.route.sample.take(x.route.LogOneIn) {
		return
	}
	fields := make([]zap.Field, 0, 12)
	fields = append(fields, zap.String("route", x.route.counts.name), zap.String("method", r.Method), zap.Int("status", x.status),
		zap.String("decision", decision), zap.String("reason", reason), zap.Duration("took", took.Round(time.Microsecond)))
	if c := x.claims; c != nil {
		fields = append(fields, zap.String("user", c.UserID), zap.String("session", c.SessionID))
		if c.Organization.ID != "" {
			fields = append(fields, zap.String("organization", c.Organization.ID))
		}
		if c.Impersonated() {
			fields = append(fields, zap.String("actor", orElse(c.ActorID, unknownActor)))
		}
	}
	if decision == failing && x.err != nil {
		fields = append(fields, zap.Error(x.err))
	}
	g.Log.Info("request", fields...)
}

// sampler takes the first of each so many.
type sampler struct{ n atomic.Uint64 }

func (s *sampler) take(oneIn int) bool {
	return oneIn > 0 && (s.n.Add(1)-1)%uint64(oneIn) == 0
}

// Metrics of gateways.
type Metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
}

// NewMetrics registers them.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rollcall_gateway_requests_total",
			Help: "Requests by route (host and path as configured, none where there is none), decision (allowed, refused, failed) and reason (ok, anonymous, client-gone, broken-off, or the error's code).",
		}, []string{"route", "decision", "reason"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "rollcall_gateway_request_seconds",
			Help:    "Time from a request's headers to the end of its answer, by route.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"route"}),
	}
	r.MustRegister(m.requests, m.seconds)
	return m
}

// routeMetrics are those of one route.
type routeMetrics struct {
	name     string
	seconds  prometheus.Observer
	requests func(decision, reason string) prometheus.Counter
}

func (m *Metrics) of(name string) *routeMetrics {
	var known sync.Map // looking a counter up by labels costs more than counting
	return &routeMetrics{name: name, seconds: m.seconds.WithLabelValues(name), requests: func(decision, reason string) prometheus.Counter {
		key := [2]string{decision, reason}
		if c, ok := known.Load(key); ok {
			return c.(prometheus.Counter)
		}
		c := m.requests.WithLabelValues(name, decision, reason)
		known.Store(key, c)
		return c
	}}
}

func (m *routeMetrics) observe(decision, reason string, took time.Duration) {
	m.requests(decision, reason).Inc()
	m.seconds.Observe(took.Seconds())
}
