package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/internal/emulator/token"
	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
	"github.com/rollcall-dev/rollcall/streams/auth"
)

// get is the status and body of an answer, or the error in place of the body.
func get(ctx context.Context, url, bearer string) (status int, body string, header http.Header) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err.Error(), nil
	}
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		return 0, err.Error(), nil
	}
	text, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return 0, err.Error(), nil
	}
	return resp.StatusCode, string(text), resp.Header
}

// The role by rollcall.yaml: a proxy, its metrics and its log.
func TestRunGateway(t *testing.T) {
	t.Parallel()
	keys, err := token.NewKeys("ins_1", time.Now)
	if err != nil {
		t.Fatal(err)
	}
	key, err := keys.PublicPEM()
	if err != nil {
		t.Fatal(err)
	}
	minter := token.Minter{Keys: keys, Issuer: token.IssuerOf("clerk.app.example"), Clock: time.Now}
	ada, err := minter.Session(token.SessionClaims{UserID: "user_ada", SessionID: "sess_1", Organization: &token.Organization{ID: "org_1", Role: "org:admin", Permissions: []string{"org:invoices:read"}}})
	if err != nil {
		t.Fatal(err)
	}
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, "%s for %s in %s", r.URL, r.Header.Get(auth.HeaderUserID), r.Header.Get(auth.HeaderOrgID))
	}))
	t.Cleanup(service.Close)
	file := filepath.Join(t.TempDir(), "rollcall.yaml")
	text := fmt.Sprintf(`
gateway:
  routes:
    - {path: /api/invoices, upstream: %[1]q, strip_prefix: /api, require: {organization: true, permission: "org:invoices:read"}}
    - {path: /api/, upstream: %[1]q, audience: orders, require: {role: owner}}
    - {path: /public/, upstream: %[1]q, public: true}
`, service.URL)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ns := stacktest.NATS(t)
	health, addr := fmt.Sprintf("127.0.0.1:%d", stacktest.FreePort(t)), fmt.Sprintf("127.0.0.1:%d", stacktest.FreePort(t))
	p := newProc(t, health, []string{"run", "gateway", "revoke", "--config", file}, "NATS_URL="+ns.URL, "ROLLCALL_HEALTH_ADDR="+health, "ROLLCALL_GATEWAY_ADDR="+addr,
		"ROLLCALL_IDENTITY_SEED="+strings.Repeat("s", 32), "CLERK_PUBLISHABLE_KEY="+token.PublishableKey("clerk.app.example"), "CLERK_JWT_KEY="+strings.ReplaceAll(key, "\n", `\n`)).start()
	p.is("ok")
	for path, want := range map[string]string{
		"/api/invoices/1": "200 /invoices/1 for user_ada in org_1", "/public/x": "200 /public/x for user_ada in org_1",
		"/api/orders": `403 {"errors":[{"code":"role-required","message":"the role org:owner is needed"}]}` + "\n",
	} {
		if status, body, _ := get(t.Context(), "http://"+addr+path, ada); fmt.Sprint(status, " ", body) != want {
			t.Errorf("%s: %d %s, want %s", path, status, body, want)
		}
	}
	if status, _, header := get(t.Context(), "http://"+addr+"/auth/verify/api/invoices", ada); status != 200 || header.Get(auth.HeaderUserID) != "user_ada" {
		t.Errorf("/auth/verify: %d %v", status, header)
	}
	if n := p.metric(`rollcall_gateway_requests_total{decision="refused",reason="role-required",route="/api/"}`); n != 1 {
		t.Errorf("%v requests are counted as refused", n)
	}
	if said := p.said(); !strings.Contains(said, `"reason":"role-required"`) || strings.Contains(said, ada) {
		t.Errorf("it says %s", said)
	}
	p.stops()
}

// A dev stack's gateway needs no configuration; one that knows no Clerk says so.
func TestDevGateway(t *testing.T) {
	t.Parallel()
	dev, dir := devProc(t)
	url := dev.start().ready(dir)["ROLLCALL_GATEWAY_URL"]
	for bearer, want := range map[string]int{"": 401, "x.y.z": 503} {
		if status, body, _ := get(t.Context(), url+"/auth/verify", bearer); status != want || !strings.Contains(body, `{"errors":[{"code":`) {
			t.Errorf("with the token %q: %d %s, want %d", bearer, status, body, want)
		}
	}
	_, before, _ := get(t.Context(), url+auth.IdentityJWKSPath, "")
	dev.stops()
	url = dev.start().ready(dir)["ROLLCALL_GATEWAY_URL"]
	if _, after, _ := get(t.Context(), url+auth.IdentityJWKSPath, ""); after != before || !strings.Contains(after, "Ed25519") {
		t.Errorf("its keys were %s, and are %s", before, after)
	}
	dev.stops()
}
