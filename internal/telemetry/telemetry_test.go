package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestLogger(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := func(console, colour bool, level string) string {
		t.Helper()
		out.Reset()
		l, err := newLogger(zapcore.AddSync(&out), console, colour, level)
		if err != nil {
			t.Fatal(err)
		}
		l.Debug("hidden")
		l.Error("broker gone", zap.String("part", "nats"), zap.Duration("after", time.Second))
		return out.String()
	}
	var line struct{ Time, Level, Message, Part, After string }
	if err := json.Unmarshal([]byte(log(false, false, "info")), &line); err != nil {
		t.Fatalf("%v: %s", err, &out)
	}
	at, err := time.Parse(time.RFC3339Nano, line.Time)
	if err != nil || !strings.HasSuffix(line.Time, "Z") || time.Since(at).Abs() > time.Minute {
		t.Errorf("time is %q; want now, in UTC", line.Time)
	}
	if line.Level != "error" || line.Message != "broker gone" || line.Part != "nats" || line.After != "1s" {
		t.Errorf("line is %+v", line)
	}
	if s := log(true, false, "info"); strings.Contains(s, "\x1b") || !strings.Contains(s, `ERROR  broker gone  {"part": "nats"`) || strings.Count(s, "\n") != 1 {
		t.Errorf("console: %q", s)
	}
	if s := log(true, true, "debug"); !strings.Contains(s, "\x1b") || !strings.Contains(s, "hidden") {
		t.Errorf("console in colour, from debug up: %q", s)
	}
	if _, err := NewLogger(true, "loud"); err == nil || !strings.Contains(err.Error(), "debug, info, warn or error") {
		t.Errorf("unknown level: %v", err)
	}
}

// request asks a real server; the body is "" for other than GET.
func request(t *testing.T, method, url string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestReady(t *testing.T) {
	t.Parallel()
	h := NewHealth(zap.NewNop())
	s := httptest.NewServer(Handler(NewRegistry("v1.2.3"), h))
	t.Cleanup(s.Close)
	ready := func(wantCode int, wantStatus, wantReason string) report {
		t.Helper()
		code, body := request(t, http.MethodGet, s.URL+"/readyz")
		var r report
		if err := json.Unmarshal([]byte(body), &r); err != nil {
			t.Fatalf("%v: %s", err, body)
		}
		if code != wantCode || r.Status != wantStatus || r.Reason != wantReason || r.Taking != (code == http.StatusOK) {
			t.Errorf("%d %s; want %d, %s, reason %q", code, body, wantCode, wantStatus, wantReason)
		}
		return r
	}
	ready(503, "ok", "starting")
	h.SetTaking(true, "")
	ready(200, "ok", "")

	nats, store := h.Part("nats"), h.Part("store-orders")
	store.OK()
	if p := ready(200, "degraded", "").Parts["nats"]; p.Status != "degraded" || p.Reason != "starting" {
		t.Errorf("a part before its first report is %+v", p)
	}
	nats.OK()
	ready(200, "ok", "")
	before := time.Now().Truncate(time.Millisecond)
	h.Part("nats").Degraded("no servers")
	nats.Degraded("timed out")
	r := ready(200, "degraded", "")
	if p := r.Parts["nats"]; p.Status != "degraded" || p.Reason != "timed out" || p.Since.Before(before) {
		t.Errorf("degraded part is %+v", p)
	}
	if p := r.Parts["store-orders"]; p.Status != "ok" || p.Reason != "" {
		t.Errorf("its neighbour is %+v", p)
	}
	store.Filling([]string{"users.private_metadata"})
	if p := ready(200, "degraded", "").Parts["store-orders"]; p.Status != "ok" || len(p.Incomplete) != 1 {
		t.Errorf("a part that fills is %+v", p)
	}
	store.Filling(nil)
	if p := ready(200, "degraded", "").Parts["store-orders"]; p.Incomplete != nil {
		t.Errorf("a part that has filled is %+v", p)
	}
	h.SetTaking(false, "draining")
	ready(503, "degraded", "draining")

	if code, body := request(t, http.MethodGet, s.URL+"/healthz"); code != 200 || body != "{\"status\":\"ok\"}\n" {
		t.Errorf("healthz while draining: %d %s", code, body)
	}
	for _, path := range []string{"/healthz", "/readyz", "/metrics"} {
		for _, method := range []string{http.MethodPost, http.MethodDelete} {
			if code, _ := request(t, method, s.URL+path); code != http.StatusMethodNotAllowed {
				t.Errorf("%s %s: %d; want 405", method, path, code)
			}
		}
	}
}

func TestChangesAreLoggedOnce(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zapcore.InfoLevel)
	h := NewHealth(zap.New(core))
	p := h.Part("nats")
	for range 3 {
		p.OK()
	}
	for range 3 {
		p.Degraded("no servers")
	}
	p.Degraded("timed out")
	for range 3 {
		p.OK()
		h.SetTaking(true, "")
	}
	h.SetTaking(false, "draining")
	h.Part("store").Degraded("refused") // never was ready
	var got []string
	for _, e := range logs.All() {
		line := e.Message
		for _, key := range []string{"part", "reason"} {
			if v, ok := e.ContextMap()[key].(string); ok {
				line += " " + v
			}
		}
		got = append(got, line)
	}
	want := "ready nats|degraded nats no servers|recovered nats|taking traffic|taking no traffic draining|degraded store refused"
	if strings.Join(got, "|") != want {
		t.Errorf("logged %q; want %q", got, want)
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	h, reg := NewHealth(zap.NewNop()), NewRegistry("v1.2.3")
	reg.MustRegister(h)
	h.Part("nats").Degraded("gone")
	h.Part("store").OK()
	h.SetTaking(true, "")
	s := httptest.NewServer(Handler(reg, h))
	t.Cleanup(s.Close)
	code, body := request(t, http.MethodGet, s.URL+"/metrics")
	for _, want := range []string{
		"\nrollcall_build_info{version=\"v1.2.3\"} 1\n", "\ngo_goroutines ", "\nprocess_resident_memory_bytes ",
		"\nrollcall_telemetry_degraded{part=\"nats\"} 1\n", "\nrollcall_telemetry_degraded{part=\"store\"} 0\n", "\nrollcall_telemetry_taking 1\n",
	} {
		if code != 200 || !strings.Contains(body, want) {
			t.Errorf("%d; no %q in:\n%s", code, want, body)
		}
	}
}

// TestServeDrains: a request in flight is answered after ctx ends, and then
// Serve returns.
func TestServeDrains(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	arrived, release := make(chan struct{}), make(chan struct{})
	done := make(chan error, 1)
	go func() {
		done <- serve(ctx, l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			close(arrived)
			<-release
			w.WriteHeader(http.StatusNoContent)
		}))
	}()
	answered := make(chan int, 1)
	go func() {
		code, _ := request(t, http.MethodGet, "http://"+l.Addr().String())
		answered <- code
	}()
	<-arrived
	cancel()
	select {
	case err := <-done:
		t.Fatalf("returned %v with a request in flight", err)
	default:
	}
	close(release)
	if code := <-answered; code != http.StatusNoContent {
		t.Errorf("the request in flight got %d", code)
	}
	if err := <-done; err != nil {
		t.Errorf("Serve: %v", err)
	}
}

func TestServePortInUse(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	err = Serve(t.Context(), l.Addr().String(), http.NotFoundHandler())
	if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), "ROLLCALL_HEALTH_ADDR") {
		t.Errorf("Serve: %v; want EADDRINUSE and the setting's name", err)
	}
}
