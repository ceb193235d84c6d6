package gateway_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/rollcall-dev/rollcall/internal/emulator/token"
	"github.com/rollcall-dev/rollcall/internal/gateway"
	"github.com/rollcall-dev/rollcall/internal/identity"
	"github.com/rollcall-dev/rollcall/streams/auth"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreTopFunction("net/http.(*persistConn).writeLoop"), // upstreams' idle connections
		goleak.IgnoreTopFunction("internal/poll.runtime_pollWait"))
}

const (
	host   = "clerk.emulated.example"
	origin = "https://app.example"
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

var sharedKeys = sync.OnceValue(func() []token.SigningKey {
	keys, err := token.NewKeys("ins_1", time.Now)
	if err != nil {
		panic(err)
	}
	saved, err := keys.Save()
	if err != nil {
		panic(err)
	}
	return saved
})

// seen is a request as an upstream got it.
type seen struct {
	method, uri, host, body string
	header                  http.Header
}

// upstream notes what it gets.
type upstream struct {
	*httptest.Server
	mu   sync.Mutex
	seen []seen
}

func (u *upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	for name := range r.Trailer {
		r.Header["Trailer/"+name] = r.Trailer[name]
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.seen = append(u.seen, seen{r.Method, r.RequestURI, r.Host, string(body), r.Header})
	_, _ = io.WriteString(w, "hello from upstream")
}

// take returns what it got since the last time.
func (u *upstream) take() []seen {
	u.mu.Lock()
	defer u.mu.Unlock()
	got := u.seen
	u.seen = nil
	return got
}

// rig is a gateway before upstreams.
type rig struct {
	t        testing.TB
	minter   *token.Minter
	upstream *upstream
	server   *httptest.Server
	addr     string // of the gateway
	logs     *observer.ObservedLogs
	metrics  *prometheus.Registry
	issuer   *identity.Issuer
}

// newRig has the routes given, to the upstream where they name none.
func newRig(t testing.TB, routes []gateway.Route, change func(*gateway.Options)) *rig {
	t.Helper()
	r := &rig{t: t, upstream: &upstream{}, metrics: prometheus.NewRegistry()}
	keys := must[*token.Keys](t)(token.LoadKeys(sharedKeys(), time.Now))
	r.minter = &token.Minter{Keys: keys, Issuer: token.IssuerOf(host), Clock: time.Now}
	r.upstream.Server = httptest.NewServer(r.upstream)
	t.Cleanup(r.upstream.Close)
	verifier := must[*auth.Verifier](t)(auth.New(auth.Options{Instances: []auth.Instance{{
		PublishableKey: token.PublishableKey(host), JWTKey: must[string](t)(keys.PublicPEM()), AuthorizedParties: []string{origin},
	}}}))
	t.Cleanup(verifier.Close)
	r.issuer = must[*identity.Issuer](t)(identity.New(bytes.Repeat([]byte("s"), identity.MinSeed), time.Now))
	core, logs := observer.New(zapcore.InfoLevel)
	r.logs = logs
	o := gateway.Options{Verifier: verifier, Signer: r.issuer, Log: zap.New(core), Metrics: gateway.NewMetrics(r.metrics)}
	for _, route := range routes {
		if route.Upstream == nil {
			route.Upstream = must[*url.URL](t)(url.Parse(r.upstream.URL))
		}
		if route.Timeout == 0 {
			route.Timeout = 10 * time.Second
		}
		if route.LogOneIn == 0 {
			route.LogOneIn = 1
		}
		o.Routes = append(o.Routes, route)
	}
	if change != nil {
		change(&o)
	}
	g := must[*gateway.Gateway](t)(gateway.New(o))
	r.server = httptest.NewUnstartedServer(g)
	r.server.Config.Protocols = new(http.Protocols)
	r.server.Config.Protocols.SetHTTP1(true)
	r.server.Config.Protocols.SetUnencryptedHTTP2(true)
	r.server.Config.MaxHeaderBytes = 128 << 10
	r.server.Start()
	r.addr = r.server.Listener.Addr().String()
	t.Cleanup(r.server.Close)
	return r
}

func ada() token.SessionClaims {
	return token.SessionClaims{
		UserID: "user_ada", SessionID: "sess_1", AuthorizedParty: origin,
		Organization: &token.Organization{ID: "org_1", Slug: "acme", Role: "org:admin", Permissions: []string{"org:invoices:read", "org:teams:read"}},
	}
}

// token is ada's, changed.
func (r *rig) token(change func(*token.SessionClaims)) string {
	r.t.Helper()
	c := ada()
	if change != nil {
		change(&c)
	}
	return must[string](r.t)(r.minter.Session(c))
}

// answer is what a client gets.
type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) code() string {
	var body struct {
		Errors []struct{ Code, Message string }
	}
	if json.Unmarshal([]byte(a.body), &body) != nil || len(body.Errors) != 1 || body.Errors[0].Message == "" {
		return ""
	}
	return body.Errors[0].Code
}

// ask sends a request with a bearer token, "" for none. Headers are name, value, …
func (r *rig) ask(method, path, bearer string, headers ...string) answer {
	r.t.Helper()
	req := must[*http.Request](r.t)(http.NewRequestWithContext(r.t.Context(), method, r.server.URL, nil))
	req.URL.Opaque = path // as it is
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	for pair := range slices.Chunk(headers, 2) {
		if pair[0] == "Host" {
			req.Host = pair[1]
			continue
		}
		req.Header[pair[0]] = append(req.Header[pair[0]], pair[1])
	}
	return r.do(req)
}

func (r *rig) do(req *http.Request) answer {
	r.t.Helper()
	transport := &http.Transport{DisableKeepAlives: true}
	resp := must[*http.Response](r.t)(transport.RoundTrip(req))
	defer func() { _ = resp.Body.Close() }()
	body := must[[]byte](r.t)(io.ReadAll(resp.Body))
	return answer{resp.StatusCode, resp.Header, string(body)}
}

// expect compares an answer's status and code, "" for none.
func (r *rig) expect(what string, got answer, status int, code auth.Code) {
	r.t.Helper()
	if got.status != status || got.code() != string(code) {
		r.t.Errorf("%s: %d %s %q, want %d %s", what, got.status, got.code(), strings.TrimSpace(got.body), status, code)
	}
}

// identityOf verifies an identity token.
func (r *rig) identityOf(text, audience string) *auth.Identity {
	r.t.Helper()
	v := must[*auth.IdentityVerifier](r.t)(auth.NewIdentityVerifier(auth.IdentityOptions{JWKSURL: r.server.URL + auth.IdentityJWKSPath, Audience: audience}))
	defer v.Close()
	return must[*auth.Identity](r.t)(v.Verify(r.t.Context(), text))
}
