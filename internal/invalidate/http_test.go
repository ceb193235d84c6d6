package invalidate

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	svix "github.com/svix/svix-webhooks/go"

	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
	"github.com/rollcall-dev/rollcall/streams"
)

const purgeSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// endpoint takes purges; answer, if set, answers in its place.
type endpoint struct {
	*httptest.Server
	mu     sync.Mutex
	keys   []string
	sizes  []int
	asked  []time.Time
	answer http.HandlerFunc
}

func newEndpoint(t *testing.T) *endpoint {
	t.Helper()
	wh, err := svix.NewWebhook(purgeSecret)
	if err != nil {
		t.Fatal(err)
	}
	e := &endpoint{}
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var sent struct{ Keys []string }
		if err != nil || r.Method != http.MethodPost || wh.Verify(body, r.Header) != nil || json.Unmarshal(body, &sent) != nil {
			t.Errorf("%s with %v is no signed purge: %s", r.Method, r.Header, body)
		}
		e.mu.Lock()
		answer := e.answer
		e.asked = append(e.asked, time.Now())
		if answer == nil {
			e.keys, e.sizes = append(e.keys, sent.Keys...), append(e.sizes, len(sent.Keys))
		}
		e.mu.Unlock()
		if answer != nil {
			answer(w, r)
		}
	}))
	t.Cleanup(e.Close)
	return e
}

func (e *endpoint) answers(h http.HandlerFunc) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.answer, e.asked = h, nil
}

func (e *endpoint) look(read func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	read()
}

func (e *endpoint) purge(t *testing.T) *Purge {
	t.Helper()
	p, err := NewPurge(e.URL+"/purge", purgeSecret)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func code(status int, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
	}
}

// Whatever the endpoint answers but 2xx, it is asked again, and nobody else
// waits with it.
func TestPurgeInTrouble(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		says   string
	}{
		"400":  {code(400), "400 Bad Request, and will be asked again"},
		"401":  {code(401), "the same secret"},
		"410":  {code(410), "410 Gone, and will be asked again"},
		"302":  {code(302, "Location", "/elsewhere"), "redirects aren't followed"},
		"500":  {code(500), "the server answers 500"},
		"429":  {code(429), "the server answers 429"},
		"hang": {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "Client.Timeout"},
		"cut":  {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, e, other := newLog(t), newEndpoint(t), &recorder{name: "other"}
			target := e.purge(t)
			target.client.Timeout = time.Second
			e.answers(c.answer)
			p := l.run(Options{}, target, other)
			last := l.user("user_1", "a@b.c")
			l.passed("other", last)
			stacktest.Eventually(t, patience, func() error {
				asked := 0
				e.look(func() { asked = len(e.asked) })
				if got := p.status[target.Name()].now(); !strings.Contains(got, c.says) || asked < 2 {
					return fmt.Errorf("asked %d times, it is %q, want %q", asked, got, c.says)
				}
				return nil
			})
			e.answers(nil)
			l.passed(target.Name(), last)
			e.look(func() { same(t, "keys", e.keys, "user:user_1", "user:email:a@b.c") })
		})
	}
}

func TestPurgeRetryAfter(t *testing.T) {
	t.Parallel()
	l, e := newLog(t), newEndpoint(t)
	target := e.purge(t)
	e.answers(code(503, "Retry-After", "2"))
	l.run(Options{}, target)
	last := l.user("user_1", "a@b.c")
	stacktest.Eventually(t, patience, func() error {
		var asked []time.Time
		e.look(func() { asked = slices.Clone(e.asked) })
		if len(asked) < 2 {
			return fmt.Errorf("asked %d times", len(asked))
		}
		if waited := asked[1].Sub(asked[0]); waited < 1900*time.Millisecond {
			t.Errorf("asked again after %s", waited)
		}
		return nil
	})
	e.answers(nil)
	l.passed(target.Name(), last)
	for value, want := range map[string]time.Duration{
		"": 0, "x": 0, "-1": 0, "7": 7 * time.Second, "999999999": 24 * time.Hour,
		time.Now().Add(time.Hour).UTC().Format(http.TimeFormat): time.Hour,
	} {
		if got := retryAfter(value); (got - want).Abs() > 2*time.Second {
			t.Errorf("Retry-After: %s is %s", value, got)
		}
	}
}

// A batch's keys go once, and not too many at a time.
func TestPurgeBatches(t *testing.T) {
	t.Parallel()
	e := newEndpoint(t)
	target := e.purge(t)
	defer target.Close() //nolint:errcheck // returns nil
	var stale []streams.Invalidation
	for i := range 1200 {
		stale = append(stale, streams.Invalidation{Keys: []string{fmt.Sprintf("user:%d", i), fmt.Sprintf("org:%d", i%10)}})
	}
	if err := target.Send(t.Context(), stale); err != nil {
		t.Fatal(err)
	}
	if len(e.keys) != 1210 || !slices.Equal(e.sizes, []int{500, 500, 210}) {
		t.Errorf("%d keys in %v", len(e.keys), e.sizes)
	}
}

// The name is where the progress is kept: it tells URLs apart and shows none.
func TestPurgeName(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	for _, address := range []string{"https://u:secret@a.example/x", "https://u:secret@a.example/y", "https://b.example"} {
		p, err := NewPurge(address, purgeSecret)
		if err != nil {
			t.Fatal(err)
		}
		if names[p.Name()] || strings.Contains(p.Name(), "secret") || !strings.HasPrefix(p.Name(), "http-") || strings.ContainsAny(p.Name(), ".: ") {
			t.Errorf("%s is named %s", address, p.Name())
		}
		names[p.Name()] = true
	}
}
