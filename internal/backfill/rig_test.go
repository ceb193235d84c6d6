package backfill

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

func TestMain(m *testing.M) { stacktest.Main(m) }

const patience = time.Minute

// rig is an emulated Clerk, a log, and a store that follows it.
type rig struct {
	t         *testing.T
	env       map[string]string // of the emulated Clerk
	js        jetstream.JetStream
	publisher *publish.Publisher
	db        stacktest.DB
	store     *store.Store
	transport http.RoundTripper // nil: as it is
	names     streams.Names
}

// newRig starts them. The emulated Clerk sends its webhooks to an ingest.
func newRig(t *testing.T, o emulator.Options) *rig {
	t.Helper()
	log := zaptest.NewLogger(t, zaptest.Level(zap.ErrorLevel))
	ns, registry := stacktest.NATS(t), prometheus.NewRegistry()
	conn, err := broker.Dial(broker.Options{Name: "test", URL: ns.URL, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	r := &rig{t: t, env: map[string]string{}, db: stacktest.Database(t)}
	if r.js, err = conn.JetStream(); err != nil {
		t.Fatal(err)
	}
	if _, err := streams.Apply(t.Context(), r.js, r.names.Definitions(streams.Options{})); err != nil {
		t.Fatal(err)
	}
	r.publisher = publish.New(conn, log, publish.NewMetrics(registry), func() {})
	r.store, err = store.New(store.Options{
		Name: "app", DatabaseURL: r.db.URL, MigrateDatabaseURL: r.db.OwnerURL, Migrate: store.MigrateAuto, Schema: "clerk",
		Names: r.names, Log: log, Metrics: store.NewMetrics(registry),
	})
	if err != nil {
		t.Fatal(err)
	}
	letters := consume.NewDeadLetters(registry)
	runner := consume.New(r.store, consume.Options{
		Broker: conn, Names: r.names, Log: log, Metrics: consume.NewMetrics(registry, letters), Status: silent{}, NoStream: func() {},
	})
	const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	handler, err := ingest.New(ingest.Options{
		Instances: []ingest.Instance{{Secrets: []string{secret}}}, Names: r.names, MaxBody: 1 << 20, MaxMemory: 32 << 20, Codes: ingest.CodesRedact,
		Publisher: r.publisher, Log: log, Metrics: ingest.NewMetrics(registry, letters), Shedding: func(bool) {},
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
		r.env[v.Name] = v.Value
	}
	r.background(server.Run)
	r.background(r.publisher.Run)
	r.background(runner.Run)
	t.Cleanup(r.store.Close)
	return r
}

type silent struct{}

func (silent) OK()             {}
func (silent) Degraded(string) {}

// background runs until the test ends, or stop is called.
func (r *rig) background(run func(context.Context) error) (stop func()) {
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

// options of a backfill, at a rate that doesn't hold a test up.
func (r *rig) options(change ...func(*Options)) Options {
	o := Options{
		Client:    r.client(func(*backend.Options) {}),
		JetStream: r.js, Publisher: r.publisher, Names: r.names, Stores: []Store{r.store}, By: "ada@laptop",
	}
	for _, c := range change {
		c(&o)
	}
	return o
}

func (r *rig) client(change func(*backend.Options)) *backend.Client {
	o := backend.Options{URL: r.env["CLERK_API_URL"], SecretKey: r.env["CLERK_SECRET_KEY"], Rate: 500, Timeout: 2 * time.Second, Transport: r.transport}
	change(&o)
	return backend.New(o)
}

func (r *rig) backfill(change ...func(*Options)) *Report {
	r.t.Helper()
	report, err := Run(r.t.Context(), r.options(change...))
	if err != nil {
		r.t.Fatal(err)
	}
	return report
}

// ask calls the emulated Clerk: its control API, or its Backend API.
func (r *rig) ask(method, path, body string) []byte {
	r.t.Helper()
	for {
		req, err := http.NewRequestWithContext(r.t.Context(), method, r.env["CLERK_API_URL"]+path, strings.NewReader(body))
		if err != nil {
			r.t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+r.env["CLERK_SECRET_KEY"])
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			r.t.Fatal(err)
		}
		answer, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusTooManyRequests {
			continue
		}
		if err != nil || resp.StatusCode >= 300 {
			r.t.Fatalf("%s %s: %d %s (%v)", method, path, resp.StatusCode, answer, err)
		}
		return answer
	}
}

// equal waits until all is applied, and wants the store to be as Clerk is, in
// these tables; by default in all that Clerk lists.
func (r *rig) equal(tables ...string) {
	r.t.Helper()
	r.ask("GET", "/_emu/settled?timeout=30s", "")
	stacktest.Eventually(r.t, patience, func() error {
		stream, err := r.js.Stream(r.t.Context(), r.names.Stream())
		if err != nil {
			return err
		}
		at, err := r.store.Position(r.t.Context())
		if end := stream.CachedInfo().State.LastSeq; err == nil && at.Sequence < end {
			err = fmt.Errorf("the store is at %d of %d", at.Sequence, end)
		}
		return err
	})
	db, err := pgx.Connect(r.t.Context(), r.db.OwnerURL)
	if err != nil {
		r.t.Fatal(err)
	}
	defer db.Close(context.Background())
	report, err := truth.Compare(r.t.Context(), bytes.NewReader(r.ask("GET", "/_emu/state", "")), db, truth.Options{Resources: sorted(tables)})
	if err != nil {
		r.t.Fatal(err)
	}
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

// logged are the messages of a subject in the log.
func (r *rig) logged(subject string) (all []jetstream.Msg) {
	r.t.Helper()
	consumer, err := r.js.OrderedConsumer(r.t.Context(), r.names.Stream(), jetstream.OrderedConsumerConfig{FilterSubjects: []string{subject}})
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

// asked is a transport that shows each request to the Backend API before it is
// made, and its answer before it is read.
type asked struct {
	before func(n int, path string, query url.Values)
	after  func(n int, path string, resp *http.Response)

	mu sync.Mutex
	n  int // requests so far
}

func (a *asked) RoundTrip(req *http.Request) (*http.Response, error) {
	a.mu.Lock()
	a.n++
	n := a.n
	a.mu.Unlock()
	path := strings.TrimPrefix(req.URL.Path, "/v1")
	if a.before != nil {
		a.before(n, path, req.URL.Query())
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err == nil && a.after != nil {
		a.after(n, path, resp)
	}
	return resp, err
}

// unlimited is no rate limit.
var unlimited = &backendapi.RateLimit{}

func mustJSON[T any](t *testing.T, text []byte) (v T) {
	t.Helper()
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	return v
}
