package ingest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	svix "github.com/svix/svix-webhooks/go"
	"go.uber.org/zap"

	"github.com/rollcall-dev/rollcall/internal/broker"
	"github.com/rollcall-dev/rollcall/internal/ingest"
	"github.com/rollcall-dev/rollcall/internal/publish"
	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
	"github.com/rollcall-dev/rollcall/streams"
)

func TestMain(m *testing.M) { stacktest.MainNoLeaks(m) }

const (
	secretA = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	secretB = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
	foreign = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	mebi    = 1 << 20
)

// rig is the whole way of an event: HTTP over TCP, ingest, publish, JetStream.
type rig struct {
	t       testing.TB
	addr    string
	client  *http.Client
	js      jetstream.JetStream
	streams streams.Options
	metrics prometheus.Gatherer
	stop    context.CancelFunc // of Serve, as SIGTERM does
	served  chan error
}

// settings are what a test changes before the rig starts.
type settings struct {
	ingest.Options
	streams     streams.Options
	readTimeout time.Duration
}

func newRig(t testing.TB, ns *stacktest.NATSServer, change ...func(*settings)) *rig {
	t.Helper()
	registry := prometheus.NewRegistry()
	letters := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "letters"}, []string{"sink"})
	s := settings{
		Options: ingest.Options{
			Instances: []ingest.Instance{{ID: "ins_1", Secrets: []string{secretA, secretB}}},
			MaxBody:   mebi, MaxMemory: 32 * mebi, Codes: ingest.CodesRedact,
			SessionTTL: 90 * 24 * time.Hour, MessageTTL: 7 * 24 * time.Hour,
			Log: zap.NewNop(), Metrics: ingest.NewMetrics(registry, letters),
		},
		readTimeout: 10 * time.Second,
	}
	for _, c := range change {
		c(&s)
	}
	conn, err := broker.Dial(broker.Options{URL: ns.URL, Log: zap.NewNop()})
	must(t, err)
	publisher := publish.New(conn, zap.NewNop(), publish.NewMetrics(registry), func() {})
	s.Publisher = publisher
	handler, err := ingest.New(s.Options)
	must(t, err)
	handler.HeldBytes(registry)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)

	r := &rig{t: t, addr: ln.Addr().String(), client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}, served: make(chan error, 1), streams: s.streams, metrics: registry}
	r.js, err = jetstream.New(ns.Connect(t))
	must(t, err)
	r.makeStreams()
	serving, stop := context.WithCancel(context.Background())
	publishing, stopPublishing := context.WithCancel(context.Background())
	r.stop = stop
	published, ended := make(chan error, 1), make(chan struct{})
	go func() { published <- publisher.Run(publishing) }()
	go func() {
		defer close(ended)
		r.served <- ingest.Serve(serving, ln, handler, s.readTimeout, zap.NewNop())
	}()
	t.Cleanup(func() {
		stop()
		<-ended
		stopPublishing()
		must(t, <-published)
		conn.Close()
		r.client.CloseIdleConnections()
	})
	return r
}

func (r *rig) makeStreams() {
	r.t.Helper()
	_, err := streams.Apply(context.Background(), r.js, streams.Names{}.Definitions(r.streams))
	must(r.t, err)
}

// reply is what a sender sees.
type reply struct {
	status  int
	code    string // of the error body
	message string
	header  http.Header
}

// do sends a request as it is.
func (r *rig) do(method, path string, h http.Header, body io.Reader) reply {
	r.t.Helper()
	got, err := r.try(method, path, h, body)
	must(r.t, err)
	return got
}

func (r *rig) try(method, path string, h http.Header, body io.Reader) (reply, error) {
	req, err := http.NewRequestWithContext(context.Background(), method, "http://"+r.addr+path, body)
	if err != nil {
		return reply{}, err
	}
	req.Header = h
	resp, err := r.client.Do(req)
	if err != nil {
		return reply{}, err
	}
	return readReply(resp)
}

func readReply(resp *http.Response) (reply, error) {
	defer resp.Body.Close() //nolint:errcheck // read to the end
	text, err := io.ReadAll(resp.Body)
	got := reply{status: resp.StatusCode, header: resp.Header}
	if err != nil || len(text) == 0 {
		return got, err
	}
	var b struct {
		Errors []struct{ Code, Message string }
	}
	if err := json.Unmarshal(text, &b); err != nil || len(b.Errors) != 1 {
		return got, errors.Join(errors.New("not an error body: "+string(text)), err)
	}
	got.code, got.message = b.Errors[0].Code, b.Errors[0].Message
	return got, nil
}

// send posts a body signed with secretA.
func (r *rig) send(id, body string) reply {
	r.t.Helper()
	return r.do(http.MethodPost, ingest.Path, signed(r.t, secretA, id, body), strings.NewReader(body))
}

func signed(t testing.TB, secret, id, body string) http.Header {
	t.Helper()
	return signedAt(t, secret, "svix", id, time.Now(), body)
}

func signedAt(t testing.TB, secret, family, id string, at time.Time, body string) http.Header {
	t.Helper()
	w, err := svix.NewWebhook(secret)
	must(t, err)
	signature, err := w.Sign(id, at, []byte(body))
	must(t, err)
	h := http.Header{}
	h.Set(family+"-id", id)
	h.Set(family+"-timestamp", strconv.FormatInt(at.Unix(), 10))
	h.Set(family+"-signature", signature)
	return h
}

func with(h http.Header, key, value string) http.Header {
	h.Set(key, value)
	return h
}

// event is a user.updated of ins_1, with more members of data.
func event(id, more string) string {
	name, _ := json.Marshal(id)
	return `{"data":{"id":` + string(name) + more + `},"instance_id":"ins_1","object":"event","timestamp":1716883200000,"type":"user.updated"}`
}

// last is a stream's newest message, and how many it has.
func (r *rig) last(stream string) (*jetstream.RawStreamMsg, uint64) {
	r.t.Helper()
	s, err := r.js.Stream(context.Background(), stream)
	must(r.t, err)
	state := s.CachedInfo().State
	if state.Msgs == 0 {
		return nil, 0
	}
	m, err := s.GetMsg(context.Background(), state.LastSeq)
	must(r.t, err)
	return m, state.Msgs
}

// stored checks the newest message of a stream.
func (r *rig) stored(stream, subject, svixID, body string) *jetstream.RawStreamMsg {
	r.t.Helper()
	m, _ := r.last(stream)
	if m == nil {
		r.t.Fatalf("nothing in %s", stream)
	}
	if subject != "" && m.Subject != subject {
		r.t.Errorf("subject %s, want %s", m.Subject, subject)
	}
	if got := m.Header.Get("Svix-Id"); got != svixID {
		r.t.Errorf("Svix-Id %q, want %q", got, svixID)
	}
	if !bytes.Equal(m.Data, []byte(body)) {
		r.t.Errorf("body %.300q, want %.300q", m.Data, body)
	}
	return m
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
