package emulator_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	svix "github.com/svix/svix-webhooks/go"
	"go.uber.org/goleak"

	"github.com/rollcall-dev/rollcall/internal/emulator"
	"github.com/rollcall-dev/rollcall/internal/emulator/state"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 30 * time.Second // for what has to come; a busy machine is slow

// A rig is a server that runs, and a client of it.
type rig struct {
	t      *testing.T
	server *emulator.Server
	client *http.Client
	end    func() error // stops the server; may be called twice
}

// start runs a server of 20 users until the test ends. It must end without an error.
func start(t *testing.T, o emulator.Options) *rig {
	t.Helper()
	if o.Population == (state.SeedOptions{}) {
		o.Population = state.SeedOptions{Users: 20, Organizations: 3, Memberships: 30}
	}
	server, err := emulator.New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	r := &rig{t: t, server: server, client: &http.Client{Transport: &http.Transport{}}}
	r.end = sync.OnceValue(func() error {
		cancel()
		r.client.CloseIdleConnections()
		return <-ended
	})
	t.Cleanup(func() {
		if err := r.end(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// do sends a request and wants a status; headers are "Name: value".
func (r *rig) do(want int, method, path, body string, headers ...string) []byte {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), method, r.server.URL()+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		if req.Header.Set(name, value); name == "Host" {
			req.Host = value
		}
	}
	resp, err := r.client.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	if resp.StatusCode != want {
		r.t.Fatalf("%s %s: %d, want %d: %s", method, path, resp.StatusCode, want, answer)
	}
	return answer
}

// api calls the Backend API with an instance's key, the first's by default.
func (r *rig) api(want int, method, path, body string, instance ...string) map[string]any {
	r.t.Helper()
	key := ask[instances](r, "GET", "/_emu/instances?instance="+strings.Join(instance, ""), "").Data[0].SecretKey
	var v map[string]any
	decode(r.t, r.do(want, method, path, body, "Authorization: Bearer "+key, "Content-Type: application/json"), &v)
	return v
}

// ask calls the control API and wants a 200.
func ask[T any](r *rig, method, path, body string) (v T) {
	r.t.Helper()
	decode(r.t, r.do(http.StatusOK, method, path, body), &v)
	return v
}

func decode(t *testing.T, text []byte, v any) {
	t.Helper()
	if err := json.Unmarshal(text, v); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
}

type instances struct {
	Data []struct {
		ID          string
		Name        string
		Users       int
		SecretKey   string `json:"secret_key"`
		Environment map[string]string
	}
}

type counts struct {
	Settled                                    bool
	Messages, Delivered, Failed, Dropped, Open int
}

type deliveries struct {
	Data []struct {
		MessageID  string `json:"message_id"`
		EndpointID string `json:"endpoint_id"`
		Type       string
		EntityID   string `json:"entity_id"`
		State      string
		Attempts   []struct{ Status int }
	}
	NextCursor string `json:"next_cursor"`
}

type endpoint struct {
	ID           string
	URL          string
	Secrets      []string
	Events       []string
	Disabled     bool
	HeaderFamily string `json:"header_family"`
}

// A receiver takes webhooks.
type receiver struct {
	*httptest.Server
	status func(n int) int // of the answer to the n-th request; nil: 204

	mu       sync.Mutex
	requests []received
}

type received struct {
	header http.Header
	body   []byte
}

func receive(t *testing.T, status func(n int) int) *receiver {
	r := &receiver{status: status}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		r.mu.Lock()
		r.requests = append(r.requests, received{req.Header.Clone(), body})
		n := len(r.requests)
		r.mu.Unlock()
		code := http.StatusNoContent
		if r.status != nil {
			code = r.status(n)
		}
		w.WriteHeader(code)
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) got() []received {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.requests)
}

// verified says whether the secret verifies a delivery, by Svix's own library.
func (d received) verified(t *testing.T, secret string) bool {
	t.Helper()
	w, err := svix.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	return w.Verify(d.body, d.header) == nil
}

func (d received) kind(t *testing.T) string {
	var head struct{ Type string }
	decode(t, bytes.TrimSpace(d.body), &head)
	return head.Type
}
