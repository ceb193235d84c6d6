package delivery

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	svix "github.com/svix/svix-webhooks/go"
	"go.uber.org/goleak"
)

const (
	secretA = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	secretB = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// request is one that a receiver got.
type request struct {
	at     time.Time
	path   string
	id     string
	header http.Header
	body   []byte
	over   <-chan struct{} // closed when the test ends, for those who hang
}

func (r request) verifies(t testing.TB, secret string) bool {
	t.Helper()
	w, err := svix.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	return w.Verify(r.body, r.header) == nil
}

// receiver is an application's server: it remembers what it got and answers as
// it is told, or 204.
type receiver struct {
	url    string
	answer func(w http.ResponseWriter, nth int, r request)
	over   chan struct{}

	mu  sync.Mutex
	got []request
}

func (rc *receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // cut by the sender
	}
	req := request{time.Now(), r.URL.Path, r.Header.Get("svix-id"), r.Header.Clone(), body, rc.over}
	rc.mu.Lock()
	rc.got = append(rc.got, req)
	nth := len(rc.got)
	rc.mu.Unlock()
	if rc.answer == nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	rc.answer(w, nth, req)
}

func (rc *receiver) requests() []request {
	rc.mu.Lock()
	defer rc.mu.Unlock()
	return append([]request{}, rc.got...)
}

// ids are those of the requests, in their order.
func (rc *receiver) ids() []string {
	var ids []string
	for _, r := range rc.requests() {
		ids = append(ids, r.id)
	}
	return ids
}

func newReceiver(t testing.TB, answer func(w http.ResponseWriter, nth int, r request)) *receiver {
	t.Helper()
	rc := &receiver{answer: answer, over: make(chan struct{})}
	server := httptest.NewServer(rc)
	t.Cleanup(func() {
		close(rc.over)
		server.CloseClientConnections()
		server.Close()
	})
	rc.url = server.URL
	return rc
}

// pipedReceiver is a real HTTP server whose connections are pipes in memory, so
// that both sides live in a synctest bubble. The sender needs its dial.
func pipedReceiver(t testing.TB, answer func(w http.ResponseWriter, nth int, r request)) (*receiver, func(context.Context, string, string) (net.Conn, error)) {
	t.Helper()
	rc := &receiver{answer: answer, url: "http://receiver.test"}
	p := pipes{make(chan net.Conn), make(chan struct{})}
	server := &http.Server{Handler: rc}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		server.Serve(p)
	}()
	t.Cleanup(func() {
		server.Close()
		<-stopped
	})
	return rc, func(ctx context.Context, _, _ string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		select {
		case p.conns <- theirs:
			return ours, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (p pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}
func (p pipes) Close() error   { close(p.closed); return nil }
func (p pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

func newSender(t testing.TB, cfg Config) *Sender {
	t.Helper()
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		s.Close(ctx) // what a test left open is cut
	})
	return s
}

func add(t testing.TB, s *Sender, e Endpoint) Endpoint {
	t.Helper()
	e, err := s.Add(e)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// send sends n messages of a type and returns their ids.
func send(t testing.TB, s *Sender, n int, eventType string) []string {
	t.Helper()
	var ids []string
	for i := range n {
		id, err := s.Send(Message{Type: eventType, Body: fmt.Appendf(nil, `{"type":%q,"n":%d,"name":"Zoë 🦊"}`, eventType, i)})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	return ids
}

func settle(t testing.TB, s *Sender) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := s.Settled(ctx); err != nil {
		t.Fatalf("%v: %+v", err, s.Counts())
	}
}

// logged is the whole log that a filter selects.
func logged(t testing.TB, s *Sender, f Filter) []Delivery {
	t.Helper()
	var all []Delivery
	for {
		page, cursor, err := s.Deliveries(f)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, page...)
		if cursor == "" {
			return all
		}
		f.Cursor = cursor
	}
}

// one is the log of the only delivery that a filter selects.
func one(t testing.TB, s *Sender, f Filter) Delivery {
	t.Helper()
	all := logged(t, s, f)
	if len(all) != 1 {
		t.Fatalf("%d deliveries, want one: %+v", len(all), all)
	}
	return all[0]
}

func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 20 s", what)
		}
	}
}
