package gateway_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/internal/emulator/token"
	"github.com/rollcall-dev/rollcall/internal/gateway"
	"github.com/rollcall-dev/rollcall/streams/auth"
)

// keyed is a gateway whose keys come from a server that behaves as it is told.
type keyed struct {
	*rig
	clock  atomic.Int64 // of the verifier, in nanoseconds
	keys   *token.Keys
	answer atomic.Pointer[http.HandlerFunc]
}

func newKeyed(t *testing.T, answer http.HandlerFunc) *keyed {
	t.Helper()
	k := &keyed{}
	k.clock.Store(time.Now().UnixNano())
	now := func() time.Time { return time.Unix(0, k.clock.Load()) }
	k.answer.Store(&answer)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*k.answer.Load())(w, r) }))
	t.Cleanup(server.Close)
	k.keys = must[*token.Keys](t)(token.LoadKeys(sharedKeys(), now))
	k.rig = newRig(t, routes(), func(o *gateway.Options) {
		v := must[*auth.Verifier](t)(auth.New(auth.Options{Clock: now, CacheSize: -1, Instances: []auth.Instance{{
			PublishableKey: token.PublishableKey(host), JWKSURL: server.URL, AuthorizedParties: []string{origin},
		}}}))
		t.Cleanup(v.Close)
		o.Verifier = v
	})
	k.minter = &token.Minter{Keys: k.keys, Issuer: token.IssuerOf(host), Clock: now}
	return k
}

func (k *keyed) serves(w http.ResponseWriter, _ *http.Request) {
	body, err := k.keys.JWKS()
	if err != nil {
		panic(err)
	}
	_, _ = w.Write(body)
}

func (k *keyed) answers(h http.HandlerFunc, after time.Duration) {
	k.answer.Store(&h)
	k.clock.Add(int64(after))
}

// ask expects that the upstream sees a request only if it is let through.
func (k *keyed) ask(what, bearer string, status int, code auth.Code) {
	k.t.Helper()
	got := k.rig.ask(http.MethodGet, "/api/x", bearer)
	k.expect(what, got, status, code)
	if seen := k.upstream.take(); len(seen) > 0 != (status == 200) {
		k.t.Errorf("%s: the upstream saw %v", what, seen)
	}
	if status == 503 && got.header.Get("Retry-After") == "" {
		k.t.Errorf("%s: 503 without Retry-After", what)
	}
}

// troubles are what a server of keys may do instead of serving them.
func troubles() map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{
		"down": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) },
		"gone": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"HTML": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "<!doctype html><h1>Hello</h1>")
		},
		"1 GB": func(w http.ResponseWriter, r *http.Request) {
			for chunk := strings.Repeat(" ", 1<<16); r.Context().Err() == nil; {
				if _, err := io.WriteString(w, chunk); err != nil {
					return
				}
			}
		},
		"hangs": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
	}
}

// Whatever is the matter with the keys: at start nobody passes, and everybody does once it
// is over; later those pass whose key is known.
func TestKeyTroubles(t *testing.T) {
	t.Parallel()
	for what, trouble := range troubles() {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			k := newKeyed(t, trouble)
			k.ask("at start", k.token(nil), 503, auth.CodeKeysUnavailable)
			k.expect("at start, public", k.rig.ask(http.MethodGet, "/public/", k.token(nil)), 200, "")
			k.upstream.take()
			k.answers(k.serves, 10*time.Second)
			k.ask("over", k.token(nil), 200, "")
			k.answers(trouble, time.Hour)
			k.ask("later", k.token(nil), 200, "")
		})
	}
}

// A key that is new is fetched; the one that was taken away counts no more once the
// keys are old.
func TestKeysRotate(t *testing.T) {
	t.Parallel()
	k := newKeyed(t, func(http.ResponseWriter, *http.Request) {})
	k.answers(k.serves, 0)
	k.ask("first", k.token(nil), 200, "")
	if err := k.keys.Rotate(false, 0); err != nil {
		t.Fatal(err)
	}
	k.ask("too early for another fetch", k.token(nil), 401, auth.CodeTokenInvalidSignature)
	k.answers(k.serves, 10*time.Second)
	k.ask("another key under the same id", k.token(nil), 200, "")
	old := must[*token.Keys](t)(token.LoadKeys(sharedKeys(), k.minter.Clock))
	stolen := token.Minter{Keys: old, Issuer: k.minter.Issuer, Clock: k.minter.Clock}
	k.ask("the key of before", must[string](t)(stolen.Session(ada())), 401, auth.CodeTokenInvalidSignature)
}
