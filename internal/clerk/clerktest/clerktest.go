// Package clerktest runs an emulated Clerk, an ingest, a log and a store for tests
// of what reads Clerk's Backend API.
package clerktest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/rollcall-dev/rollcall/internal/broker"
	"github.com/rollcall-dev/rollcall/internal/clerk/backend"
	"github.com/rollcall-dev/rollcall/internal/consume"
	"github.com/rollcall-dev/rollcall/internal/emulator"
	"github.com/rollcall-dev/rollcall/internal/emulator/backendapi"
	"github.com/rollcall-dev/rollcall/internal/emulator/truth"
	"github.com/rollcall-dev/rollcall/internal/ingest"
	"github.com/rollcall-dev/rollcall/internal/publish"
	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/streams"
)

const patience = time.Minute

// Rig is an emulated Clerk, a log, and a store that follows it.
type Rig struct {
	Env       map[string]string // of the emulated Clerk
	JS        jetstream.JetStream
	Publisher *publish.Publisher
	DB        stacktest.DB
	Store     *store.Store
	Transport http.RoundTripper // to Clerk's Backend API; nil: as it is
	Names     streams.Names

	t    *testing.T
	stop func() // the store
}

// StopStore ends the store's following the log.
func (r *Rig) StopStore() { r.stop() }

// New starts them. The emulated Clerk sends its webhooks to an ingest.
func New(t *testing.T, o emulator.Options) *Rig {
	t.Helper()
	log := zaptest.NewLogger(t, zaptest.Level(zap.ErrorLevel))
	ns, registry := stacktest.NATS(t), prometheus.NewRegistry()
	conn, err := broker.Dial(broker.Options{Name: "test", URL: ns.URL, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	r := &Rig{t: t, Env: map[string]string{}, DB: stacktest.Database(t)}
	if r.JS, err = conn.JetStream(); err != nil {
		t.Fatal(err)
	}
	if _, err := streams.Apply(t.Context(), r.JS, r.Names.Definitions(streams.Options{})); err != nil {
		t.Fatal(err)
	}
	r.Publisher = publish.New(conn, log, publish.NewMetrics(registry), func() {})
	r.Store, err = store.New(store.Options{
		Name: "app", DatabaseURL: r.DB.URL, MigrateDatabaseURL: r.DB.OwnerURL, Migrate: store.MigrateAuto, Schema: "clerk",
		Names: r.Names, Log: log, Metrics: store.NewMetrics(registry),
	})
	if err != nil {
		t.Fatal(err)
	}
	letters := consume.NewDeadLetters(registry)
	runner := consume.New(r.Store, consume.Options{
		Broker: conn, Names: r.Names, Log: log, Metrics: consume.NewMetrics(registry, letters), Status: silent{}, NoStream: func() {},
	})
	const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	handler, err := ingest.New(ingest.Options{
		Instances: []ingest.Instance{{Secrets: []string{secret}}}, Names: r.Names, MaxBody: 1 << 20, MaxMemory: 32 << 20, Codes: ingest.CodesRedact,
		Publisher: r.Publisher, Log: log, Metrics: ingest.NewMetrics(registry, letters), Shedding: func(bool) {},
	})
	if err != nil {
		t.Fatal(err)
	}
	hook := httptest.NewServer(handler)
	t.Cleanup(hook.Close)
	o.WebhookURLs, o.WebhookSecret = []string{hook.URL + ingest.Path}, secret
	server, err := emulator.New(o)
	if err != nil {
		t.Fatal(err)
	}
	vars, err := server.Environment()
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range vars {
		r.Env[v.Name] = v.Value
	}
	r.Background(server.Run)
	r.Background(r.Publisher.Run)
	r.stop = r.Background(runner.Run)
	t.Cleanup(r.Store.Close)
	return r
}

type silent struct{}

func (silent) OK()             {}
func (silent) Degraded(string) {}

// Background runs until the test ends, or stop is called.
func (r *Rig) Background(run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			r.t.Error(err)
		}
	})
	r.t.Cleanup(stop)
	return stop
}

// Client asks the emulated Clerk, at a rate that doesn't hold a test up.
func (r *Rig) Client(change func(*backend.Options)) *backend.Client {
	o := backend.Options{URL: r.Env["CLERK_API_URL"], SecretKey: r.Env["CLERK_SECRET_KEY"], Rate: 500, Timeout: 2 * time.Second, Transport: r.Transport}
	change(&o)
	return backend.New(o)
}

// Ask calls the emulated Clerk: its control API, or its Backend API.
func (r *Rig) Ask(method, path, body string) []byte {
	r.t.Helper()
	for {
		req, err := http.NewRequestWithContext(r.t.Context(), method, r.Env["CLERK_API_URL"]+path, strings.NewReader(body))
		if err != nil {
			r.t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+r.Env["CLERK_SECRET_KEY"])
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			r.t.Fatal(err)
		}
		answer, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		switch resp.StatusCode {
		case http.StatusTooManyRequests:
			continue
		case http.StatusGatewayTimeout: // of what waits for a moment that hasn't come
			return nil
		}
		if err != nil || resp.StatusCode >= 300 {
			r.t.Fatalf("%s %s: %d %s (%v)", method, path, resp.StatusCode, answer, err)
		}
		return answer
	}
}

// CaughtUp waits until the webhooks are delivered or given up, and all is applied.
func (r *Rig) CaughtUp() {
	r.t.Helper()
	for r.Ask("GET", "/_emu/settled?timeout=30s", "") == nil { // many are under way
	}
	stacktest.Eventually(r.t, patience, func() error {
		stream, err := r.JS.Stream(r.t.Context(), r.Names.Stream())
		if err != nil {
			return err
		}
		at, _, err := r.Store.Progress(r.t.Context())
		if end := stream.CachedInfo().State.LastSeq; err == nil && at.Sequence < end {
			err = fmt.Errorf("the store is at %d of %d", at.Sequence, end)
		}
		return err
	})
}

// Compare compares the store with the emulated Clerk's own state, in some tables.
func (r *Rig) Compare(tables []string) truth.Report {
	r.t.Helper()
	db, err := pgx.Connect(r.t.Context(), r.DB.OwnerURL)
	if err != nil {
		r.t.Fatal(err)
	}
	defer db.Close(context.Background())
	report, err := truth.Compare(r.t.Context(), bytes.NewReader(r.Ask("GET", "/_emu/state", "")), db, truth.Options{Resources: tables})
	if err != nil {
		r.t.Fatal(err)
	}
	return report
}

// Equal waits until all is applied, and wants the store to be as Clerk is, in
// these tables.
func (r *Rig) Equal(tables []string) {
	r.t.Helper()
	r.CaughtUp()
	report := r.Compare(tables)
	for i, d := range report.Differences {
		if i == 20 {
			break
		}
		r.t.Error(d)
	}
	for _, s := range report.Resources {
		if s.Compared == 0 {
			r.t.Logf("nothing to compare: %s", s.Resource)
		}
	}
}

// Logged are the messages of a subject in the log.
func (r *Rig) Logged(subject string) (all []jetstream.Msg) {
	r.t.Helper()
	consumer, err := r.JS.OrderedConsumer(r.t.Context(), r.Names.Stream(), jetstream.OrderedConsumerConfig{FilterSubjects: []string{subject}})
	if err != nil {
		r.t.Fatal(err)
	}
	for more := consumer.CachedInfo().NumPending; more > 0; more-- {
		m, err := consumer.Next(jetstream.FetchMaxWait(5 * time.Second))
		if err != nil {
			r.t.Fatal(err)
		}
		all = append(all, m)
	}
	return all
}

// Asked is a transport that shows each request to the Backend API before it is
// made, and its answer before it is read.
type Asked struct {
	Before func(n int, path string, query url.Values)
	After  func(n int, path string, resp *http.Response)

	mu sync.Mutex
	n  int // requests so far
}

func (a *Asked) RoundTrip(req *http.Request) (*http.Response, error) {
	a.mu.Lock()
	a.n++
	n := a.n
	a.mu.Unlock()
	path := strings.TrimPrefix(req.URL.Path, "/v1")
	if a.Before != nil {
		a.Before(n, path, req.URL.Query())
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err == nil && a.After != nil {
		a.After(n, path, resp)
	}
	return resp, err
}

// Unlimited is no rate limit.
func Unlimited() *backendapi.RateLimit { return &backendapi.RateLimit{} }

// JSON reads an answer.
func JSON[T any](t *testing.T, text []byte) (v T) {
	t.Helper()
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	return v
}
