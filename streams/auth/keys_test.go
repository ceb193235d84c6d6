package auth_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/internal/emulator/token"
	"github.com/rollcall-dev/rollcall/streams/auth"
)

type keyRig struct {
	*watch
	*token.Minter
	server   *keyServer
	verifier *auth.Verifier
}

func newKeyRig(t *testing.T) *keyRig {
	t.Helper()
	at := newWatch()
	m := newMinter(t, at.now)
	s := newKeyServer(t, m.Keys)
	return &keyRig{at, m, s, verifier(t, m, func(o *auth.Options) { s.option(o); o.CacheSize = -1 })}
}

// verify asserts how a token of now is answered, and how often the keys have
// been fetched by then.
func (r *keyRig) verify(t *testing.T, what string, flaw token.Flaw, want auth.Code, fetches int64) {
	t.Helper()
	_, err := r.verifier.Verify(t.Context(), mint(t, r.Minter, flawed(flaw)))
	code(t, what, err, want)
	if got := r.server.fetches.Load(); got != fetches {
		t.Errorf("%s: %d fetches, want %d", what, got, fetches)
	}
}

// behind waits for a fetch that no token waits for.
func (r *keyRig) behind(t *testing.T, fetches int64) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); r.server.fetches.Load() < fetches; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d fetches, want %d", r.server.fetches.Load(), fetches)
		}
	}
	r.verifier.Close() // waits for it to end; no more are begun
}

func TestOneFetch(t *testing.T) {
	t.Parallel()
	r := newKeyRig(t)
	text := mint(t, r.Minter, nil)
	unknown := mint(t, r.Minter, flawed(token.UnknownKID))
	release := make(chan struct{})
	r.server.misbehave(func(w http.ResponseWriter, _ *http.Request) {
		<-release
		body, _ := r.Keys.JWKS()
		_, _ = w.Write(body)
	})
	time.AfterFunc(50*time.Millisecond, func() { close(release) })
	var all sync.WaitGroup
	for i := range 1000 {
		all.Go(func() {
			if i%10 == 0 {
				_, err := r.verifier.Verify(t.Context(), unknown)
				code(t, "unknown key", err, auth.CodeKeyUnknown)
				return
			}
			_, err := r.verifier.Verify(t.Context(), text)
			code(t, "at once", err, "")
		})
	}
	all.Wait()
	if n := r.server.fetches.Load(); n != 1 {
		t.Errorf("1000 tokens at once caused %d fetches", n)
	}
}

func TestKeysAge(t *testing.T) {
	t.Parallel()
	r := newKeyRig(t)
	r.verify(t, "first", "", "", 1)
	r.forward(5*time.Minute - time.Second)
	r.verify(t, "fresh", "", "", 1)
	r.forward(2 * time.Minute)
	r.verify(t, "nobody asked for long: waits", "", "", 2)
	r.server.misbehave(func(_ http.ResponseWriter, req *http.Request) { <-req.Context().Done() }) // waiting would show
	r.forward(5 * time.Minute)
	if _, err := r.verifier.Verify(t.Context(), mint(t, r.Minter, nil)); err != nil {
		t.Errorf("fetched behind: %v", err)
	}
	r.behind(t, 3)
}

// Unknown keys, and known ones under which a signature fails, cause one fetch in
// ten seconds; the first brings a key that is new.
func TestKeysRotate(t *testing.T) {
	t.Parallel()
	r := newKeyRig(t)
	r.verify(t, "first", "", "", 1)
	r.verify(t, "too early for another fetch", token.UnknownKID, auth.CodeKeyUnknown, 1)
	r.forward(10 * time.Second)
	r.verify(t, "unknown", token.UnknownKID, auth.CodeKeyUnknown, 2)
	r.verify(t, "unknown again", token.UnknownKID, auth.CodeKeyUnknown, 2)
	r.verify(t, "somebody else's key", token.WrongKey, auth.CodeTokenInvalidSignature, 2)
	old := mint(t, r.Minter, nil)
	if err := r.Keys.Rotate(true, time.Hour); err != nil {
		t.Fatal(err)
	}
	r.forward(10 * time.Second)
	r.verify(t, "a new key", "", "", 3)
	_, err := r.verifier.Verify(t.Context(), old)
	code(t, "the retired key", err, "")
	if err := r.Keys.Rotate(false, 0); err != nil {
		t.Fatal(err)
	}
	r.verify(t, "another key under its id, too early", "", auth.CodeTokenInvalidSignature, 3)
	r.forward(10 * time.Second)
	r.verify(t, "another key under its id", "", "", 4)
}

func TestKeysDown(t *testing.T) {
	t.Parallel()
	r := newKeyRig(t)
	down := func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "down", http.StatusBadGateway) }
	r.server.misbehave(down)
	r.verify(t, "down at start", "", auth.CodeKeysUnavailable, 1)
	r.verify(t, "not asked again at once", "", auth.CodeKeysUnavailable, 1)
	r.server.misbehave(nil)
	r.forward(time.Second)
	r.verify(t, "up", "", "", 2)
	r.server.misbehave(down)
	for hours, fetches := 1, int64(3); hours < 24; hours++ {
		r.forward(time.Hour)
		eventually(t, func() bool { // the fetch is behind the token, and a running one is joined
			_, err := r.verifier.Verify(t.Context(), mint(t, r.Minter, nil))
			code(t, "down since", err, "")
			return r.server.fetches.Load() == fetches
		})
		fetches++
	}
	_, err := r.verifier.Verify(t.Context(), mint(t, r.Minter, flawed(token.UnknownKID)))
	code(t, "unknown, and nobody to ask", err, auth.CodeKeysUnavailable)
	r.forward(time.Hour)
	_, err = r.verifier.Verify(t.Context(), mint(t, r.Minter, nil))
	code(t, "down for a day", err, auth.CodeKeysUnavailable)
	r.server.misbehave(nil)
	r.forward(10 * time.Second)
	_, err = r.verifier.Verify(t.Context(), mint(t, r.Minter, nil))
	code(t, "up again", err, "")
}

func eventually(t *testing.T, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it never came")
		}
	}
}

func TestKeyServerMisbehaves(t *testing.T) {
	t.Parallel()
	m := newMinter(t, time.Now)
	good := string(must[[]byte](t)(m.Keys.JWKS()))
	key := strings.TrimSuffix(strings.TrimPrefix(good, `{"keys":[`), `]}`)
	say := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }
	}
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		code   auth.Code
		says   string
	}{
		"beside others": {say(`{"keys":[{"kty":"oct","k":"AA"},{"kty":"?"},7,` + strings.Replace(key, instanceID, "other", 1) + `,` + key + `]}`), "", ""},
		"encryption":    {say(strings.Replace(good, `"sig"`, `"enc"`, 1)), auth.CodeKeysUnavailable, "none of the 1 keys"},
		"another alg":   {say(strings.Replace(good, `RS256`, `RS512`, 1)), auth.CodeKeysUnavailable, "none of the 1 keys"},
		"empty":         {say(`{"keys":[]}`), auth.CodeKeysUnavailable, "none of the 0 keys"},
		"HTML":          {say("<!doctype html><h1>Hello</h1>"), auth.CodeKeysUnavailable, "no key set"},
		"a list":        {say("[]"), auth.CodeKeysUnavailable, "no key set"},
		"1 GB": {func(w http.ResponseWriter, r *http.Request) {
			for chunk := strings.Repeat(" ", 1<<16); r.Context().Err() == nil; {
				if _, err := io.WriteString(w, chunk); err != nil {
					return
				}
			}
		}, auth.CodeKeysUnavailable, "longer than 256 KiB"},
		"401": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }, auth.CodeKeysUnavailable, "401"},
		"cut short": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, "{")
		}, auth.CodeKeysUnavailable, "unexpected EOF"},
		"in a loop": {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/", http.StatusFound) }, auth.CodeKeysUnavailable, "redirects"},
	} {
		s := newKeyServer(t, m.Keys)
		s.misbehave(c.answer)
		v := verifier(t, m, s.option)
		_, err := v.Verify(t.Context(), mint(t, m, nil))
		if code(t, name, err, c.code); err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
		w := httptest.NewRecorder()
		auth.WriteError(w, err)
		if err != nil && (w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" || strings.Contains(w.Body.String(), "127.0.0.1")) {
			t.Errorf("%s: answered %d %v %s", name, w.Code, w.Header(), w.Body)
		}
	}
}

// A server that never answers holds a request no longer than it wants to wait,
// and no fetch longer than five seconds.
func TestKeyServerHangs(t *testing.T) {
	t.Parallel()
	r := newKeyRig(t)
	r.server.misbehave(func(_ http.ResponseWriter, req *http.Request) { <-req.Context().Done() })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := r.verifier.Verify(ctx, mint(t, r.Minter, nil)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the request's end: %v", err)
	}
	began := time.Now()
	_, err := r.verifier.Verify(t.Context(), mint(t, r.Minter, nil))
	code(t, "hangs", err, auth.CodeKeysUnavailable)
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("took %s", took)
	}
}

// With a secret key the Backend API is asked, under that key.
func TestKeysOfBackendAPI(t *testing.T) {
	t.Parallel()
	m := newMinter(t, time.Now)
	s := newKeyServer(t, m.Keys)
	s.misbehave(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/jwks" || r.Header.Get("Authorization") != "Bearer sk_live_x" {
			t.Errorf("asked %s as %q", r.URL, r.Header.Get("Authorization"))
		}
		body, _ := m.Keys.JWKS()
		_, _ = w.Write(body)
	})
	v := verifier(t, m, func(o *auth.Options) { o.Instances = []auth.Instance{{SecretKey: "sk_live_x", APIURL: s.URL + "/"}} })
	_, err := v.Verify(t.Context(), mint(t, m, nil))
	code(t, "by the Backend API's keys", err, "")
	if s.fetches.Load() != 1 {
		t.Error("not asked")
	}
}
