package deploy_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.yaml.in/yaml/v3"

	"github.com/rollcall-dev/rollcall/internal/emulator/token"
	"github.com/rollcall-dev/rollcall/internal/gateway"
	"github.com/rollcall-dev/rollcall/internal/identity"
	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
	"github.com/rollcall-dev/rollcall/streams/auth"
)

// behind is a gateway, and a service, that a proxy stands before.
type behind struct {
	gateway, service *httptest.Server
	minter           *token.Minter

	mu   sync.Mutex
	seen []*http.Request // by the service
}

func newBehind(t *testing.T) *behind {
	t.Helper()
	b := &behind{}
	keys, err := token.NewKeys("ins_1", time.Now)
	if err != nil {
		t.Fatal(err)
	}
	b.minter = &token.Minter{Keys: keys, Issuer: token.IssuerOf("clerk.app.example"), Clock: time.Now}
	key, err := keys.PublicPEM()
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := auth.New(auth.Options{Instances: []auth.Instance{{Issuer: b.minter.Issuer, JWTKey: key}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(verifier.Close)
	issuer, err := identity.New(bytes.Repeat([]byte("s"), identity.MinSeed), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	g, err := gateway.New(gateway.Options{
		Verifier: verifier, Signer: issuer, Log: zap.NewNop(), Metrics: gateway.NewMetrics(prometheus.NewRegistry()), SignInURL: "https://app.example/sign-in",
		Routes: []gateway.Route{{Path: "/"}, {Path: "/public", Public: true}, {Path: "/admin", Require: auth.Requirements{Role: "admin"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	b.gateway = httptest.NewServer(g)
	t.Cleanup(b.gateway.Close)
	b.service = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.seen = append(b.seen, r)
		_, _ = io.WriteString(w, "hello")
	}))
	t.Cleanup(b.service.Close)
	return b
}

// configuration is a file of deploy/gateway with the test's addresses in it.
func (b *behind) configuration(t *testing.T, name string, port int) string {
	t.Helper()
	text := read(t, filepath.Join("gateway", name))
	for from, to := range map[string]string{
		"gateway:8082": b.gateway.Listener.Addr().String(), "orders:9000": b.service.Listener.Addr().String(),
		"listen 8000": fmt.Sprintf("listen 127.0.0.1:%d", port), ":8000 {": fmt.Sprintf("http://127.0.0.1:%d, http://shop.example:%[1]d {", port),
	} {
		text = strings.ReplaceAll(text, from, to)
	}
	return text
}

// startProxy runs a proxy, and returns its address once it answers.
func startProxy(t *testing.T, port int, dir, program string, args ...string) string {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s said:\n%s", program, said.String())
		}
	})
	base := fmt.Sprintf("http://127.0.0.1:%d", port)
	stacktest.Eventually(t, 20*time.Second, func() error {
		resp, err := http.Get(base + "/public")
		if err == nil {
			err = resp.Body.Close()
		}
		return err
	})
	return base
}

func (b *behind) ask(t *testing.T, base, path, bearer string, header http.Header) (*http.Response, []*http.Request) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.URL.Opaque = path
	for name, values := range header {
		req.Header[name] = values
	}
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	b.mu.Lock()
	b.seen = nil
	b.mu.Unlock()
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		t.Fatal(err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return resp, b.seen
}

// judge is what holds behind every proxy; odd is how it answers an ambiguous path.
func (b *behind) judge(t *testing.T, base string, odd int) {
	t.Helper()
	session := token.SessionClaims{UserID: "user_ada", SessionID: "sess_1", Organization: &token.Organization{ID: "org_1", Slug: "acme", Role: "org:member", Permissions: []string{"org:invoices:read"}}}
	ada, err := b.minter.Session(session)
	if err != nil {
		t.Fatal(err)
	}
	forged := http.Header{}
	for _, name := range []string{"X-Clerk-User-Id", "x-clerk-user-id", "X_Clerk_User_Id", "X-Clerk-Org-Id", "X-Clerk-Actor-Id", "X-Clerk-Org_Role", "X-Rollcall-Identity", "X_Rollcall_Identity"} {
		forged[name] = []string{"evil"}
	}
	named := http.Header{"X-Forwarded-Uri": {"/public"}, "X-Original-Uri": {"/public"}, "X-Original-Url": {"/public"}, "X-Forwarded-Method": {"GET"}}
	for _, c := range []struct {
		what, path, bearer string
		header             http.Header
		status             int
		user               string // as the service has it; "" with 200: nobody's
	}{
		{"signed in", "/orders?x=1", ada, nil, 200, "user_ada"},
		{"signed in, forging", "/orders", ada, forged, 200, "user_ada"},
		{"nobody", "/orders", "", nil, 401, ""},
		{"nobody, forging", "/orders", "", forged, 401, ""},
		{"another role", "/admin", ada, nil, 403, ""},
		{"another role, below", "/admin/x", ada, nil, 403, ""},
		{"public", "/public/x", "", nil, 200, ""},
		{"public, forging", "/public/x", "", forged, 200, ""},
		{"public, signed in", "/public/x", ada, forged, 200, "user_ada"},
		{"a broken token", "/orders", "x.y.z", nil, 401, ""},
		{"dots", "/public/../admin", ada, nil, odd, ""},
		{"encoded slashes", "/public/..%2fadmin", ada, nil, odd, ""},
		{"a semicolon", "/public/..;/admin", ada, nil, odd, ""},
		{"another case", "/ADMIN", ada, nil, odd, ""},
	} {
		resp, seen := b.ask(t, base, c.path, c.bearer, c.header)
		if resp.StatusCode != c.status || (len(seen) == 1) != (c.status == 200) {
			t.Errorf("%s: %s; the service saw %d requests", c.what, resp.Status, len(seen))
		}
		if resp.Header.Get(auth.HeaderIdentity) != "" {
			t.Errorf("%s: the client sees its identity token", c.what)
		}
		for _, r := range seen {
			b.from(t, c.what, r, c.user)
		}
	}
	// A client can't say itself which path it asks for.
	if resp, seen := b.ask(t, base, "/admin", "", named); resp.StatusCode < 400 || len(seen) > 0 {
		t.Errorf("naming another path: %s", resp.Status)
	}
}

// from holds what the service reads against who the request is from.
func (b *behind) from(t *testing.T, what string, r *http.Request, user string) {
	t.Helper()
	for name, values := range r.Header {
		if text := strings.Join(values, ","); strings.Contains(text, "evil") || strings.Contains(text, "{") {
			t.Errorf("%s: the service sees %s: %s", what, name, values)
		}
	}
	identity := r.Header.Get(auth.HeaderIdentity)
	if got := r.Header.Get(auth.HeaderUserID); got != user || (identity != "") != (user != "") {
		t.Errorf("%s: from %q with identity %q, want %q", what, got, identity, user)
	}
	if user == "" {
		return
	}
	if got := r.Header.Get(auth.HeaderActorID); got != "" {
		t.Errorf("%s: actor %q", what, got)
	}
	if got := r.Header.Get(auth.HeaderOrgPermissions); got != "org:invoices:read" {
		t.Errorf("%s: permissions %q", what, got)
	}
	v, err := auth.NewIdentityVerifier(auth.IdentityOptions{JWKSURL: b.gateway.URL + auth.IdentityJWKSPath, Audience: "orders"})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	if _, err := v.Verify(t.Context(), identity); err != nil {
		t.Errorf("%s: %v", what, err)
	}
}

// program finds one, also where only root's PATH has it; else the test is skipped.
func program(t *testing.T, name string) string {
	t.Helper()
	for _, path := range []string{name, "/usr/sbin/" + name} {
		if found, err := exec.LookPath(path); err == nil {
			return found
		}
	}
	if os.Getenv("ROLLCALL_TEST_PROXIES") != "" {
		t.Fatalf("there is no %s", name)
	}
	t.Skipf("NOT TESTED: there is no %s here; make test installs it", name)
	return ""
}

func TestNginx(t *testing.T) {
	t.Parallel()
	nginx := program(t, "nginx")
	b, dir, port := newBehind(t), t.TempDir(), stacktest.FreePort(t)
	file := filepath.Join(dir, "nginx.conf")
	// What a packaged nginx has compiled in belongs to root.
	own := fmt.Sprintf("daemon off; master_process off; pid %s/pid; error_log stderr;\n", dir)
	text := strings.Replace(b.configuration(t, "nginx.conf", port), "http {", "http {\n  access_log off;\n"+temporary(dir), 1)
	if err := os.WriteFile(file, []byte(own+text), 0o600); err != nil {
		t.Fatal(err)
	}
	b.judge(t, startProxy(t, port, dir, nginx, "-p", dir, "-c", file, "-e", "stderr"), 500)
}

func temporary(dir string) (directives string) {
	for _, of := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		directives += fmt.Sprintf("  %s_temp_path %s/%[1]s;\n", of, dir)
	}
	return directives
}

func TestCaddy(t *testing.T) {
	t.Parallel()
	caddy := program(t, "caddy")
	b, dir, port := newBehind(t), t.TempDir(), stacktest.FreePort(t)
	file := filepath.Join(dir, "Caddyfile")
	text := "{\n\tadmin off\n\tauto_https off\n}\n" + b.configuration(t, "Caddyfile", port)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	base := startProxy(t, port, dir, caddy, "run", "--adapter", "caddyfile", "--config", file)
	b.judge(t, base, 400)
	resp, _ := b.ask(t, base, "/orders?x", "", http.Header{"Accept": {"text/html"}})
	if want := "https://app.example/sign-in?redirect_url="; resp.StatusCode != http.StatusFound || !strings.HasPrefix(resp.Header.Get("Location"), want) {
		t.Errorf("a browser is sent to %q (%s)", resp.Header.Get("Location"), resp.Status)
	}
}

// The others aren't run; they name every identity header all the same.
func TestOtherProxies(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"traefik.yml", "envoy.yaml"} {
		text := strings.ToLower(read(t, filepath.Join("gateway", name)))
		var document map[string]any
		if err := yaml.Unmarshal([]byte(text), &document); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, header := range []string{auth.HeaderUserID, auth.HeaderSessionID, auth.HeaderOrgID, auth.HeaderOrgSlug, auth.HeaderOrgRole, auth.HeaderOrgPermissions, auth.HeaderActorID, auth.HeaderPlatform, auth.HeaderIdentity} {
			if !strings.Contains(text, strings.ToLower(header)) {
				t.Errorf("%s doesn't name %s", name, header)
			}
		}
		if !strings.Contains(text, "http://gateway:8082") || !strings.Contains(text, gateway.VerifyPath) {
			t.Errorf("%s asks somewhere else", name)
		}
	}
}
