package auth_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/internal/emulator/token"
	"github.com/rollcall-dev/rollcall/streams/auth"
)

const (
	instanceID = "ins_2g7np7Hrk0SN6kj5EDMLDaKNL0S"
	host       = "clerk.emulated.example"
	origin     = "https://app.example"
)

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// watch is a clock that tests set.
type watch struct{ at atomic.Int64 }

func newWatch() *watch {
	w := &watch{}
	w.at.Store(time.Now().UnixNano())
	return w
}

func (w *watch) now() time.Time          { return time.Unix(0, w.at.Load()) }
func (w *watch) forward(d time.Duration) { w.at.Add(int64(d)) }

// sharedKeys saves making one for each test. Tests that rotate make their own.
var sharedKeys = sync.OnceValue(func() []token.SigningKey {
	keys, err := token.NewKeys(instanceID, time.Now)
	if err != nil {
		panic(err)
	}
	saved, err := keys.Save()
	if err != nil {
		panic(err)
	}
	return saved
})

func newMinter(t testing.TB, clock func() time.Time) *token.Minter {
	t.Helper()
	keys := must[*token.Keys](t)(token.LoadKeys(sharedKeys(), clock))
	return &token.Minter{Keys: keys, Issuer: token.IssuerOf(host), Clock: clock}
}

// verifier has the instance's key as PEM, unless change says otherwise.
func verifier(t testing.TB, m *token.Minter, change func(*auth.Options)) *auth.Verifier {
	t.Helper()
	o := auth.Options{
		Instances: []auth.Instance{{PublishableKey: token.PublishableKey(host), JWTKey: must[string](t)(m.Keys.PublicPEM())}},
		Clock:     m.Clock,
	}
	if change != nil {
		change(&o)
	}
	v := must[*auth.Verifier](t)(auth.New(o))
	t.Cleanup(v.Close)
	return v
}

func session() token.SessionClaims {
	return token.SessionClaims{
		UserID: "user_1", SessionID: "sess_1", AuthorizedParty: origin,
		Organization: &token.Organization{ID: "org_1", Slug: "acme", Role: "org:admin", Permissions: []string{"org:invoices:read", "org:invoices:manage", "org:teams:read"}},
	}
}

// mint makes a session token, changed.
func mint(t testing.TB, m *token.Minter, change func(*token.SessionClaims)) string {
	t.Helper()
	c := session()
	if change != nil {
		change(&c)
	}
	return must[string](t)(m.Session(c))
}

// sign signs any header and payload, as no minter would make them.
func sign(t testing.TB, m *token.Minter, header, payload string) string {
	t.Helper()
	block, _ := pem.Decode([]byte(must[[]token.SigningKey](t)(m.Keys.Save())[0].PEM))
	private := must[any](t)(x509.ParsePKCS8PrivateKey(block.Bytes)).(*rsa.PrivateKey)
	text := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(payload))
	digest := sha256.Sum256([]byte(text))
	signature := must[[]byte](t)(rsa.SignPKCS1v15(rand.Reader, private, crypto.SHA256, digest[:]))
	return text + "." + base64.RawURLEncoding.EncodeToString(signature)
}

const goodHeader = `{"alg":"RS256","typ":"JWT","kid":"` + instanceID + `","cat":"cl_B7d4PD111AAA"}`

// claims are a session token's, as JSON, with some replaced; nil takes one away.
func claims(t testing.TB, m *token.Minter, change map[string]any) string {
	t.Helper()
	now := m.Clock().Unix()
	all := map[string]any{"iss": m.Issuer, "sub": "user_1", "sid": "sess_1", "azp": origin, "v": 2, "sts": "active", "iat": now, "nbf": now - 10, "exp": now + 60}
	for name, value := range change {
		if all[name] = value; value == nil {
			delete(all, name)
		}
	}
	return string(must[[]byte](t)(json.Marshal(all)))
}

// keyServer publishes keys, counts who asks, and can be made to misbehave.
type keyServer struct {
	*httptest.Server
	keys    *token.Keys
	fetches atomic.Int64
	instead atomic.Pointer[http.HandlerFunc]
}

func newKeyServer(t testing.TB, keys *token.Keys) *keyServer {
	t.Helper()
	s := &keyServer{keys: keys}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *keyServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.fetches.Add(1)
	if instead := s.instead.Load(); instead != nil {
		(*instead)(w, r)
		return
	}
	body, err := s.keys.JWKS()
	if err != nil {
		panic(err)
	}
	_, _ = w.Write(body)
}

// misbehave answers otherwise; nil: well again.
func (s *keyServer) misbehave(f http.HandlerFunc) {
	if f == nil {
		s.instead.Store(nil)
		return
	}
	s.instead.Store(&f)
}

func (s *keyServer) option(o *auth.Options) {
	o.Instances[0].JWTKey, o.Instances[0].JWKSURL = "", s.URL
}

// code asserts why a token is refused; "" that it isn't.
func code(t testing.TB, what string, err error, want auth.Code) {
	t.Helper()
	if got := auth.CodeOf(err); got != want || (err == nil) != (want == "") {
		t.Errorf("%s: %q (%v), want %q", what, got, err, want)
	}
}

func public(t testing.TB, m *token.Minter) *rsa.PublicKey {
	t.Helper()
	block, _ := pem.Decode([]byte(must[string](t)(m.Keys.PublicPEM())))
	return must[any](t)(x509.ParsePKIXPublicKey(block.Bytes)).(*rsa.PublicKey)
}

// signedBy checks RS256 with nothing of a JOSE library.
func signedBy(key *rsa.PublicKey, text string) bool {
	dot := strings.LastIndexByte(text, '.')
	signature, err := base64.RawURLEncoding.DecodeString(text[dot+1:])
	digest := sha256.Sum256([]byte(text[:max(dot, 0)]))
	return dot > 0 && err == nil && rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], signature) == nil
}
