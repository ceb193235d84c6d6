package identity_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall-dev/rollcall/internal/identity"
	"github.com/rollcall-dev/rollcall/streams/auth"
)

var seed = bytes.Repeat([]byte("s"), identity.MinSeed)

// noon is in the middle of a key's day.
var noon = time.Date(2026, 8, 1, 12, 0, 0, 500_000_000, time.UTC)

type rig struct {
	*identity.Issuer
	at       atomic.Int64
	fetches  atomic.Int64
	verifier *auth.IdentityVerifier
}

func (r *rig) now() time.Time   { return time.Unix(0, r.at.Load()) }
func (r *rig) set(at time.Time) { r.at.Store(at.UnixNano()) }
func (r *rig) token(t *testing.T) string {
	t.Helper()
	text, err := r.Sign(ada, "orders")
	if err != nil {
		t.Fatal(err)
	}
	return text
}

var ada = auth.Identity{
	UserID: "user_1", SessionID: "sess_1", ActorID: "user_2", Platform: "mobile",
	Organization: auth.Organization{ID: "org_1", Slug: "acme", Role: "org:admin", Permissions: []string{"org:invoices:read"}},
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{}
	r.set(noon)
	var err error
	if r.Issuer, err = identity.New(seed, r.now); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.fetches.Add(1)
		r.ServeHTTP(w, req)
	}))
	t.Cleanup(server.Close)
	r.verifier, err = auth.NewIdentityVerifier(auth.IdentityOptions{JWKSURL: server.URL + auth.IdentityJWKSPath, Audience: "orders", Clock: r.now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.verifier.Close)
	return r
}

func (r *rig) refused(t *testing.T, what, token string, want auth.Code) {
	t.Helper()
	id, err := r.verifier.Verify(t.Context(), token)
	if got := auth.CodeOf(err); got != want || (err == nil) != (want == "") || err != nil && id != nil {
		t.Errorf("%s: %q (%v), want %q", what, got, err, want)
	}
}

func TestIdentity(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	text := r.token(t)
	got, err := r.verifier.Verify(t.Context(), text)
	if err != nil {
		t.Fatal(err)
	}
	want := ada
	want.Audience, want.IssuedAt, want.Expires = "orders", time.Unix(noon.Unix(), 0), time.Unix(noon.Unix()+60, 0)
	if diff := cmp.Diff(&want, got); diff != "" {
		t.Error(diff)
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(text, ".")[1])
	if err != nil || string(payload) != `{"iss":"rollcall","aud":"orders","sub":"user_1","sid":"sess_1","org_id":"org_1","org_slug":"acme","org_role":"org:admin","org_permissions":["org:invoices:read"],"act":{"sub":"user_2"},"platform":"mobile","iat":1785585600,"exp":1785585660}` {
		t.Errorf("%s %v", payload, err)
	}
	r.set(noon.Add(64 * time.Second))
	r.refused(t, "within the leeway", text, "")
	r.set(noon.Add(65 * time.Second))
	r.refused(t, "remembered and expired", text, auth.CodeTokenExpired)
}

func TestIdentityRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	other, err := identity.New(bytes.Repeat([]byte("o"), identity.MinSeed), r.now)
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := other.Sign(ada, "orders")
	if err != nil {
		t.Fatal(err)
	}
	elsewhere, err := r.Sign(ada, "billing")
	if err != nil {
		t.Fatal(err)
	}
	good := r.token(t)
	parts := strings.Split(good, ".")
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	sameID := parts[0] + "." + parts[1]
	sameID += "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(private, []byte(sameID)))
	session := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"EdDSA","typ":"JWT"}`))
	hmac := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256","typ":"` + auth.IdentityType + `"}`))
	r.refused(t, "good", good, "")
	r.refused(t, "another seed", stranger, auth.CodeKeyUnknown)
	r.refused(t, "another key under the id", sameID, auth.CodeTokenInvalidSignature)
	r.refused(t, "another service", elsewhere, auth.CodeTokenInvalidAudience)
	r.refused(t, "another type", session+"."+parts[1]+"."+parts[2], auth.CodeTokenType)
	r.refused(t, "HS256", hmac+"."+parts[1]+"."+parts[2], auth.CodeTokenInvalidAlgorithm)
	r.refused(t, "nothing", "", auth.CodeTokenInvalid)
	r.set(noon.Add(-10 * time.Second))
	if _, err := r.verifier.Verify(t.Context(), good+"A"); err == nil {
		t.Error("a byte more is accepted")
	}
	fresh := newRig(t)
	fresh.set(noon.Add(-10 * time.Second))
	fresh.refused(t, "issued later", good, auth.CodeTokenIssuedInTheFuture)

	for want, o := range map[string]auth.IdentityOptions{"audience": {JWKSURL: "http://x"}, "not a URL": {Audience: "orders"}} {
		if _, err := auth.NewIdentityVerifier(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if _, err := identity.New([]byte("short"), time.Now); err == nil || !strings.Contains(err.Error(), "openssl") {
		t.Errorf("a short seed: %v", err)
	}
	if _, err := r.Sign(auth.Identity{}, "orders"); err == nil {
		t.Error("nobody is signed")
	}
}

// Gateways with one seed agree, and over midnight a verifier has each key before
// it meets it.
func TestRotation(t *testing.T) {
	t.Parallel()
	const from, steps, step = 23*time.Hour + 40*time.Minute, 120, 20 * time.Second
	r := newRig(t)
	r.set(noon.Truncate(24 * time.Hour).Add(from))
	for range steps {
		replica, err := identity.New(seed, r.now)
		if err != nil {
			t.Fatal(err)
		}
		text, err := replica.Sign(ada, "orders")
		if err != nil {
			t.Fatal(err)
		}
		r.refused(t, r.now().String(), text, "")
		r.set(r.now().Add(step))
	}
	// A set is fetched again when it is five minutes old. A key that wasn't
	// published ahead would cost one more.
	if n := r.fetches.Load(); n > int64(steps*step/(5*time.Minute))+1 {
		t.Errorf("%d fetches", n)
	}
}

func TestPublished(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	midnight := noon.Truncate(24 * time.Hour).Add(24 * time.Hour)
	for at, want := range map[time.Duration]int{-16 * time.Minute: 1, -15 * time.Minute: 2, -time.Second: 2, 0: 2, 4 * time.Minute: 2, 5 * time.Minute: 1} {
		r.set(midnight.Add(at))
		w := httptest.NewRecorder()
		r.ServeHTTP(w, httptest.NewRequest(http.MethodGet, auth.IdentityJWKSPath, nil))
		var set struct{ Keys []map[string]string }
		if err := json.Unmarshal(w.Body.Bytes(), &set); err != nil || len(set.Keys) != want {
			t.Errorf("%s from midnight: %d keys, want %d (%v)", at, len(set.Keys), want, err)
		}
		for _, k := range set.Keys {
			if k["kty"] != "OKP" || k["crv"] != "Ed25519" || k["alg"] != "EdDSA" || k["use"] != "sig" || k["kid"] == "" || k["d"] != "" {
				t.Errorf("published %v", k)
			}
		}
		if w.Header().Get("Cache-Control") != "public, max-age=300" {
			t.Errorf("Cache-Control %q", w.Header().Get("Cache-Control"))
		}
	}
	w := httptest.NewRecorder()
	if r.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", nil)); w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", w.Code)
	}
}

func TestMiddleware(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	handler := auth.IdentityMiddleware(r.verifier)(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		id, ok := auth.IdentityFromContext(req.Context())
		if !ok || id.UserID != "user_1" {
			t.Errorf("%+v, %t", id, ok)
		}
	}))
	good := r.token(t)
	for want, tokens := range map[int][]string{200: {good}, 401: nil, 400: {good, good}} {
		req := httptest.NewRequest(http.MethodGet, "/", nil)
		req.Header[auth.HeaderIdentity] = tokens
		w := httptest.NewRecorder()
		if handler.ServeHTTP(w, req); w.Code != want {
			t.Errorf("%d tokens: %d %s", len(tokens), w.Code, w.Body)
		}
	}
}
