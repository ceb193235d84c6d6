package gateway_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/rollcall-dev/rollcall/internal/emulator/token"
	"github.com/rollcall-dev/rollcall/internal/gateway"
	"github.com/rollcall-dev/rollcall/streams/auth"
)

func routes() []gateway.Route {
	return []gateway.Route{
		{Path: "/api/", Audience: "orders"},
		{Path: "/api/invoices", Require: auth.Requirements{Permission: "org:invoices:read"}},
		{Path: "/api/admin", Require: auth.Requirements{Role: "org:owner"}},
		{Path: "/api/reports", Require: auth.Requirements{Feature: "reports"}},
		{Path: "/team/", Require: auth.Requirements{Organization: true}, StripPrefix: "/team"},
		{Path: "/public/", Public: true},
		{Host: "other.example", Path: "/api", Public: true},
	}
}

func TestRoutes(t *testing.T) {
	t.Parallel()
	r := newRig(t, routes(), nil)
	member := r.token(nil)
	loner := r.token(func(c *token.SessionClaims) { c.Organization = nil })
	for _, c := range []struct {
		path, bearer string
		status       int
		code         auth.Code
		seen         string // by the upstream
	}{
		{"/api/orders?x=1;y=%zz", member, 200, "", "/api/orders?x=1;y=%zz"},
		{"/api", member, 200, "", "/api"},
		{"/api/orders", "", 401, auth.CodeTokenMissing, ""},
		{"/api/orders", "x.y.z", 401, auth.CodeTokenInvalid, ""},
		{"/api/invoices", member, 200, "", "/api/invoices"},
		{"/api/invoices/", loner, 403, auth.CodeOrganizationRequired, ""},
		{"/api/invoices-old", loner, 200, "", "/api/invoices-old"},
		{"/api/admin/x", member, 403, auth.CodeRoleRequired, ""},
		{"/api/reports", member, 403, auth.CodeFeatureRequired, ""},
		{"/team/a%20b?q", member, 200, "", "/a%20b?q"},
		{"/team", member, 200, "", "/"},
		{"/%74eam/a%20b", member, 200, "", "/a%20b"},
		{"/team/", loner, 403, auth.CodeOrganizationRequired, ""},
		{"/public/", "", 200, "", "/public/"},
		{"/public/x", member, 200, "", "/public/x"},
		{"/public/x", "x.y.z", 200, "", "/public/x"},
		{"/elsewhere", member, 404, gateway.CodeNoRoute, ""},
		{"/publican", member, 404, gateway.CodeNoRoute, ""},
		{"/", "", 404, gateway.CodeNoRoute, ""},
	} {
		r.expect(c.path, r.ask(http.MethodGet, c.path, c.bearer), c.status, c.code)
		got := r.upstream.take()
		if (len(got) > 0) != (c.seen != "") || len(got) > 0 && got[0].uri != c.seen {
			t.Errorf("%s: the upstream saw %v, want %q", c.path, got, c.seen)
		}
	}
	for _, name := range []string{"other.example", "OTHER.example.", "other.example:80"} {
		r.expect(name, r.ask(http.MethodGet, "/api/x", "", "Host", name), 200, "")
	}
	r.expect("TRACE", r.ask(http.MethodTrace, "/public/", ""), 405, gateway.CodeMethod)
}

// Who a request is from, as the service reads it, whatever the client says.
func TestIdentity(t *testing.T) {
	t.Parallel()
	r := newRig(t, routes(), nil)
	forged := []string{
		"X-Clerk-User-Id", "user_evil", "X-Clerk-User-Id", "user_evil", "x-clerk-user-id", "user_evil", "X_Clerk_User_Id", "user_evil", "x_clerk-user_id", "user_evil", "X.CLERK.USER.ID", "user_evil",
		"X-Clerk-Session-Id", "evil", "X-Clerk-Org-Id", "evil", "X-CLERK-ORG-SLUG", "evil", "X-Clerk_Org_Role", "org:admin", "X-Clerk-Org-Permissions", "org:evil:all",
		"X-Clerk-Actor-Id", "evil", "X-Clerk-Platform", "evil", "X-Rollcall-Identity", "evil", "X-Rollcall_Identity", "evil",
		"Connection", "X-Clerk-User-Id, X-Rollcall-Identity, X-Clerk-Actor-Id, close", "X-Clerk-Other", "mine", "X-Request-Id", "1",
	}
	from := func(path, bearer string, more ...string) http.Header {
		t.Helper()
		r.expect(path, r.ask(http.MethodGet, path, bearer, append(more, forged...)...), 200, "")
		got := r.upstream.take()
		if len(got) != 1 {
			t.Fatalf("%s: the upstream saw %d requests", path, len(got))
		}
		h := got[0].header
		if h.Get("X-Clerk-Other") != "mine" || h.Get("X-Request-Id") != "1" {
			t.Errorf("%s: other headers are gone: %v", path, h)
		}
		said := http.Header{}
		for name, values := range h {
			if folded := strings.NewReplacer("_", "-", ".", "-").Replace(strings.ToLower(name)); strings.HasPrefix(folded, "x-clerk-") && folded != "x-clerk-other" || folded == "x-rollcall-identity" {
				said[name] = values
			}
		}
		return said
	}
	ada := r.token(func(c *token.SessionClaims) { c.Actor = map[string]any{"sub": "user_support"} })
	got := from("/api/orders", ada)
	identity := got.Get(auth.HeaderIdentity)
	got.Del(auth.HeaderIdentity)
	want := http.Header{
		"X-Clerk-User-Id": {"user_ada"}, "X-Clerk-Session-Id": {"sess_1"}, "X-Clerk-Org-Id": {"org_1"}, "X-Clerk-Org-Slug": {"acme"}, "X-Clerk-Org-Role": {"org:admin"},
		"X-Clerk-Org-Permissions": {"org:invoices:read,org:teams:read"}, "X-Clerk-Actor-Id": {"user_support"}, "X-Clerk-Platform": {"unknown"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if id := r.identityOf(identity, "orders"); id.UserID != "user_ada" || id.ActorID != "user_support" || id.Organization.Role != "org:admin" {
		t.Errorf("the identity token says %+v", id)
	}
	r.identityOf(from("/public/", ada).Get(auth.HeaderIdentity), "127.0.0.1") // the upstream's host
	for _, bearer := range []string{"", "x.y.z"} {
		if got := from("/public/", bearer); len(got) > 0 {
			t.Errorf("with the token %q it is from %v", bearer, got)
		}
	}
	nameless := r.token(func(c *token.SessionClaims) { c.Actor = map[string]any{"iss": "x"} })
	if got := from("/api/orders", nameless).Get(auth.HeaderActorID); got != "unknown" {
		t.Errorf("an unnamed actor is %q", got)
	}
}

// A claim that would be two headers, or another permission, is refused.
func TestClaimsInHeaders(t *testing.T) {
	t.Parallel()
	r := newRig(t, routes(), nil)
	for what, change := range map[string]func(*token.SessionClaims){
		"a line break":   func(c *token.SessionClaims) { c.Organization.Slug = "acme\r\nX-Clerk-Org-Role: org:owner" },
		"a zero":         func(c *token.SessionClaims) { c.UserID = "user\x00" },
		"a space at end": func(c *token.SessionClaims) { c.SessionID = "sess " },
		"a comma": func(c *token.SessionClaims) {
			c.Version, c.Organization.Permissions = 1, []string{"org:a:b,org:invoices:read"}
		},
	} {
		r.expect(what, r.ask(http.MethodGet, "/api/x", r.token(change)), 401, auth.CodeTokenClaims)
	}
	if got := r.upstream.take(); len(got) > 0 {
		t.Errorf("the upstream saw %v", got)
	}
}

func TestBadTokens(t *testing.T) {
	t.Parallel()
	r := newRig(t, routes(), nil)
	good := r.token(nil)
	now := time.Now()
	type request struct {
		headers []string
		status  int
		code    auth.Code
	}
	bearer := func(text string, code auth.Code) request {
		return request{[]string{"Authorization", "Bearer " + text}, 401, code}
	}
	changed := func(code auth.Code, change func(*token.SessionClaims)) request {
		return bearer(r.token(change), code)
	}
	all := map[string]request{
		"expired":       changed(auth.CodeTokenExpired, func(c *token.SessionClaims) { c.IssuedAt = now.Add(-time.Hour) }),
		"not yet valid": changed(auth.CodeTokenNotActiveYet, func(c *token.SessionClaims) { c.NotBefore = now.Add(time.Minute) }),
		"skewed clock": changed(auth.CodeTokenIssuedInTheFuture, func(c *token.SessionClaims) {
			c.IssuedAt, c.NotBefore = now.Add(time.Minute), now
		}),
		"pending":        changed(auth.CodeSessionPending, func(c *token.SessionClaims) { c.Status = "pending" }),
		"another origin": changed(auth.CodeTokenInvalidParty, func(c *token.SessionClaims) { c.AuthorizedParty = "https://evil.example" }),
		"an hour":        changed(auth.CodeTokenLivesTooLong, func(c *token.SessionClaims) { c.Lifetime = time.Hour }),
		"100 kB":         bearer(good+strings.Repeat("x", 100<<10), auth.CodeTokenInvalid),
		"broken base64":  bearer("a!b.c.d", auth.CodeTokenInvalid),
		"template":       bearer(must[string](t)(r.minter.Template(token.TemplateClaims{UserID: "user_ada"})), auth.CodeTokenType),
		"machine":        bearer(must[string](t)(r.minter.Machine(token.MachineClaims{MachineID: "mch_1"})), auth.CodeTokenType),
		"API key":        bearer("ak_1", auth.CodeTokenType),
		"two headers":    {[]string{"Authorization", "Bearer " + good, "Authorization", "Bearer " + good}, 400, auth.CodeAuthorizationTwice},
		"two cookies":    {[]string{"Cookie", "__session=" + good + "; __session=x"}, 400, auth.CodeCookieTwice},
		"signed out":     {[]string{"Cookie", "__session=" + good + "; __client_uat=0"}, 401, auth.CodeSessionSignedOut},
	}
	for flaw, code := range map[token.Flaw]auth.Code{
		token.WrongKey: auth.CodeTokenInvalidSignature, token.BadSignature: auth.CodeTokenInvalidSignature, token.AlgNone: auth.CodeTokenInvalidAlgorithm,
		token.AlgHS256: auth.CodeTokenInvalidAlgorithm, token.WrongCategory: auth.CodeTokenType, token.WrongIssuer: auth.CodeTokenInvalidIssuer,
	} {
		all[string(flaw)] = changed(code, func(c *token.SessionClaims) { c.Flaw = flaw })
	}
	for what, c := range all {
		r.expect(what, r.ask(http.MethodPost, "/api/x", "", c.headers...), c.status, c.code)
		r.expect(what+", asked by a proxy", r.ask(http.MethodPost, gateway.VerifyPath, "", c.headers...), c.status, c.code)
	}
	if got := r.upstream.take(); len(got) > 0 {
		t.Errorf("the upstream saw %v", got)
	}
	r.expect("cookie", r.ask(http.MethodGet, "/api/x", "", "Cookie", "__session="+good), 200, "")
}

func TestKeysThatCannotBeHad(t *testing.T) {
	t.Parallel()
	r := newRig(t, routes(), func(o *gateway.Options) {
		v := must[*auth.Verifier](t)(auth.New(auth.Options{Instances: []auth.Instance{{PublishableKey: token.PublishableKey(host), JWKSURL: "http://127.0.0.1:1/"}}}))
		t.Cleanup(v.Close)
		o.Verifier = v
	})
	got := r.ask(http.MethodGet, "/api/x", r.token(nil))
	r.expect("no keys", got, 503, auth.CodeKeysUnavailable)
	if got.header.Get("Retry-After") == "" {
		t.Error("503 without Retry-After")
	}
	r.expect("no keys, asked by a proxy", r.ask(http.MethodGet, gateway.VerifyPath, r.token(nil)), 503, auth.CodeKeysUnavailable)
	r.expect("no keys, public", r.ask(http.MethodGet, "/public/", r.token(nil)), 200, "")
}

func TestBrowsers(t *testing.T) {
	t.Parallel()
	r := newRig(t, routes(), func(o *gateway.Options) {
		o.SignInURL, o.SelectOrganizationURL = "https://app.example/sign-in?a=b", "/select"
	})
	loner := r.token(func(c *token.SessionClaims) { c.Organization = nil })
	page := []string{"Accept", "text/html,*/*", "Host", "shop.example"}
	for _, c := range []struct{ what, path, bearer, accept, want string }{
		{"a page", "/api/x?y=1", "", "text/html", "https://app.example/sign-in?a=b&redirect_url=" + url.QueryEscape("http://shop.example/api/x?y=1")},
		{"a page of an organization", "/team/", loner, "text/html", "/select?redirect_url=" + url.QueryEscape("http://shop.example/team/")},
		{"a script", "/api/x", "", "application/json", ""},
		{"a page for another role", "/api/admin", r.token(nil), "text/html", ""},
	} {
		got := r.ask(http.MethodGet, c.path, c.bearer, "Accept", c.accept, "Host", "shop.example")
		if got.header.Get("Location") != c.want || (got.status == http.StatusFound) != (c.want != "") {
			t.Errorf("%s: %d to %q, want %q", c.what, got.status, got.header.Get("Location"), c.want)
		}
	}
	forwarded := append(page, "X-Forwarded-Uri", "/api/x", "X-Forwarded-Host", "shop.example", "X-Forwarded-Method", "GET", "X-Forwarded-Proto", "https")
	r.expect("a proxy that wants no redirects", r.ask(http.MethodPost, gateway.VerifyPath, "", forwarded...), 401, auth.CodeTokenMissing)
	got := r.ask(http.MethodPost, gateway.VerifyPath+"?redirect=true", "", forwarded...)
	if want := "redirect_url=" + url.QueryEscape("https://shop.example/api/x"); got.status != http.StatusFound || !strings.Contains(got.header.Get("Location"), want) {
		t.Errorf("a proxy that passes redirects on: %d to %q, want %s", got.status, got.header.Get("Location"), want)
	}
}

func TestVerify(t *testing.T) {
	t.Parallel()
	r := newRig(t, append(routes(), gateway.Route{Path: "/café", Public: true}), nil)
	ada, loner := r.token(nil), r.token(func(c *token.SessionClaims) { c.Organization = nil })
	for _, c := range []struct {
		what, path, bearer string
		headers            []string
		status             int
		code               auth.Code
		audience           string
	}{
		{"no path", "", ada, nil, 200, "", "127.0.0.1"},
		{"no path, no token", "", "", nil, 401, auth.CodeTokenMissing, ""},
		{"audience", "?audience=billing", ada, nil, 200, "", "billing"},
		{"its host", "", ada, []string{"X-Forwarded-Host", "shop.example"}, 200, "", "shop.example"},
		{"Traefik", "", ada, []string{"X-Forwarded-Uri", "/api/invoices?x", "X-Forwarded-Host", "shop.example", "X-Forwarded-Method", "DELETE"}, 200, "", "127.0.0.1"},
		{"the route's audience", "", ada, []string{"X-Forwarded-Uri", "/api/x"}, 200, "", "orders"},
		{"the proxy's audience", "?audience=billing", ada, []string{"X-Forwarded-Uri", "/api/x"}, 200, "", "billing"},
		{"requirement", "", loner, []string{"X-Forwarded-Uri", "/api/invoices"}, 403, auth.CodeOrganizationRequired, ""},
		{"nginx", "", loner, []string{"X-Original-Uri", "/api/invoices"}, 403, auth.CodeOrganizationRequired, ""},
		{"ingress-nginx", "", loner, []string{"X-Original-Url", "https://shop.example/api/invoices"}, 403, auth.CodeOrganizationRequired, ""},
		{"Envoy", "/api/invoices", loner, nil, 403, auth.CodeOrganizationRequired, ""},
		{"Envoy's query is the client's", "/api/x?audience=billing", ada, nil, 200, "", "orders"},
		{"public", "/public/x", "", nil, 200, "", ""},
		{"public, forwarded", "", "x.y.z", []string{"X-Forwarded-Uri", "/public/x"}, 200, "", ""},
		{"no route", "/elsewhere", ada, nil, 200, "", "127.0.0.1"},
		{"no route, no token", "/elsewhere", "", nil, 401, auth.CodeTokenMissing, ""},
		{"another host", "", "", []string{"X-Forwarded-Uri", "/api/x", "X-Forwarded-Host", "other.example"}, 200, "", ""},
		{"names that disagree", "", "", []string{"X-Forwarded-Uri", "/api/x", "X-Original-Uri", "/public/x"}, 400, gateway.CodePathAmbiguous, ""},
		{"a path that disagrees", "/api/x", "", []string{"X-Forwarded-Uri", "/public/x"}, 400, gateway.CodePathAmbiguous, ""},
		{"a name twice", "", "", []string{"X-Forwarded-Uri", "/api/x", "X-Forwarded-Uri", "/public/x"}, 400, gateway.CodePathAmbiguous, ""},
		{"another spelling", "", "", []string{"X-Forwarded-Uri", "/api/x", "X_forwarded_uri", "/public/x"}, 400, gateway.CodePathAmbiguous, ""},
		{"a trick", "/public/..%2fapi/x", "", nil, 400, gateway.CodePathAmbiguous, ""},
		{"a trick, forwarded", "", "", []string{"X-Forwarded-Uri", "/public/..;/api/x"}, 400, gateway.CodePathAmbiguous, ""},
		{"two hosts", "", "", []string{"X-Forwarded-Uri", "/api/x", "X-Forwarded-Host", "other.example, shop.example"}, 400, gateway.CodePathAmbiguous, ""},
		{"no path at all", "", "", []string{"X-Forwarded-Uri", "public"}, 400, gateway.CodePathAmbiguous, ""},
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodOptions} {
			got := r.ask(method, gateway.VerifyPath+c.path, c.bearer, c.headers...)
			r.expect(c.what, got, c.status, c.code)
			if text := got.header.Get(auth.HeaderIdentity); (text != "") != (c.audience != "") {
				t.Errorf("%s: identity %q", c.what, text)
			} else if text != "" {
				r.identityOf(text, c.audience)
				if got.header.Get(auth.HeaderUserID) != "user_ada" {
					t.Errorf("%s: %v", c.what, got.header)
				}
			}
		}
	}
	if got := r.upstream.take(); len(got) > 0 {
		t.Errorf("the upstream saw %v", got)
	}
}

// A proxy that can't tell an absent header from its own placeholder asks for
// blank ones.
func TestBlank(t *testing.T) {
	t.Parallel()
	r := newRig(t, routes(), nil)
	for bearer, want := range map[string]string{"": "", r.token(func(c *token.SessionClaims) { c.Organization = nil }): "user_ada"} {
		got := r.ask(http.MethodGet, gateway.VerifyPath+"?blank=true", bearer, "X-Forwarded-Uri", "/public/")
		r.expect("blank", got, 200, "")
		if user, org := got.header[auth.HeaderUserID], got.header[auth.HeaderOrgID]; len(user) != 1 || user[0] != want || len(org) != 1 || org[0] != "" {
			t.Errorf("user %q, organization %q", user, org)
		}
	}
}

// fakeRevocations are what package revocation keeps.
type fakeRevocations struct{ refuse, stale func() bool }

func (f fakeRevocations) Refuse(*auth.Claims) (string, bool) { return "banned", f.refuse() }
func (f fakeRevocations) Fresh() error {
	if f.stale() {
		return fmt.Errorf("nothing was heard for 5 s")
	}
	return nil
}

func TestRevocations(t *testing.T) {
	t.Parallel()
	yes, no := func() bool { return true }, func() bool { return false }
	for _, c := range []struct {
		refuse, stale func() bool
		open          bool
		status        int
		code          auth.Code
	}{
		{no, no, false, 200, ""},
		{yes, no, false, 401, gateway.CodeRevoked},
		{no, yes, false, 503, gateway.CodeRevocationsUnknown},
		{no, yes, true, 200, ""},
		{yes, yes, true, 401, gateway.CodeRevoked},
	} {
		r := newRig(t, routes(), func(o *gateway.Options) {
			o.Revocations, o.OpenWhenStale = fakeRevocations{c.refuse, c.stale}, c.open
		})
		ada := r.token(nil)
		for range 2 { // a token that is remembered is refused too
			r.expect("proxied", r.ask(http.MethodGet, "/api/x", ada), c.status, c.code)
		}
		r.expect("asked by a proxy", r.ask(http.MethodGet, gateway.VerifyPath, ada), c.status, c.code)
		r.upstream.take()
		r.expect("public", r.ask(http.MethodGet, "/public/", ada), 200, "")
		if got := r.upstream.take()[0].header.Get(auth.HeaderUserID); (got != "") != (c.status == 200) {
			t.Errorf("a public path is asked for by %q", got)
		}
	}
}

func TestLogAndMetrics(t *testing.T) {
	t.Parallel()
	all := routes()
	all[5].LogOneIn = 3
	r := newRig(t, all, nil)
	ada := r.token(func(c *token.SessionClaims) { c.Actor = map[string]any{"sub": "user_support"} })
	r.ask(http.MethodGet, "/api/x/ada@example.com?secret=1", ada)
	r.ask(http.MethodPost, "/api/admin", ada)
	r.ask(http.MethodGet, "/api/x", "x.y.z")
	for range 6 {
		r.ask(http.MethodGet, "/public/", "")
	}
	var lines []string
	for _, e := range r.logs.All() {
		f := e.ContextMap()
		lines = append(lines, fmt.Sprint(f["route"], " ", f["decision"], " ", f["reason"], " ", f["status"], " ", f["user"], " ", f["organization"], " ", f["actor"]))
		if text := fmt.Sprint(f); strings.Contains(text, ada) || strings.Contains(text, "secret") || strings.Contains(text, "@") || strings.Contains(text, "x.y.z") {
			t.Errorf("the log says %s", text)
		}
	}
	want := []string{
		"/api/ allowed ok 200 user_ada org_1 user_support",
		"/api/admin refused role-required 403 user_ada org_1 user_support",
		"/api/ refused token-invalid 401 <nil> <nil> <nil>",
		"/public/ allowed anonymous 200 <nil> <nil> <nil>",
		"/public/ allowed anonymous 200 <nil> <nil> <nil>",
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := testutil.GatherAndCompare(r.metrics, strings.NewReader(`
# HELP rollcall_gateway_requests_total Requests by route (host and path as configured, none where there is none), decision (allowed, refused, failed) and reason (ok, anonymous, client-gone, broken-off, or the error's code).
# TYPE rollcall_gateway_requests_total counter
rollcall_gateway_requests_total{decision="allowed",reason="anonymous",route="/public/"} 6
rollcall_gateway_requests_total{decision="allowed",reason="ok",route="/api/"} 1
rollcall_gateway_requests_total{decision="refused",reason="role-required",route="/api/admin"} 1
rollcall_gateway_requests_total{decision="refused",reason="token-invalid",route="/api/"} 1
`), "rollcall_gateway_requests_total"); err != nil {
		t.Error(err)
	}
}

func TestRoutesThatCannotWork(t *testing.T) {
	t.Parallel()
	for want, route := range map[string]gateway.Route{
		"public, and with requirements": {Path: "/", Public: true, Require: auth.Requirements{Role: "admin"}},
		"no permission":                 {Path: "/", Require: auth.Requirements{Permission: "x"}},
		"slash":                         {Path: "api"},
	} {
		if _, err := gateway.New(gateway.Options{Routes: []gateway.Route{route}, Metrics: gateway.NewMetrics(prometheus.NewRegistry())}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
