package auth_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/internal/emulator/token"
	"github.com/rollcall-dev/rollcall/streams/auth"
)

func TestRequirements(t *testing.T) {
	t.Parallel()
	member := auth.Claims{
		UserID: "user_1", FactorAges: &[2]int{5, 30},
		Organization: auth.Organization{ID: "org_1", Role: "org:admin", Permissions: []string{"org:invoices:read"}},
		Features:     auth.Scoped{User: []string{"search"}}, Plans: auth.Scoped{Organization: []string{"pro"}},
	}
	alone, oneFactor, unknownAges := member, member, member
	alone.Organization, oneFactor.FactorAges, unknownAges.FactorAges = auth.Organization{}, &[2]int{9, -1}, nil
	for _, c := range []struct {
		claims  *auth.Claims
		require auth.Requirements
		code    auth.Code
	}{
		{nil, auth.Requirements{}, ""},
		{nil, auth.Requirements{SignedIn: true}, auth.CodeTokenMissing},
		{nil, auth.Requirements{Plan: "pro"}, auth.CodeTokenMissing},
		{&member, auth.Requirements{SignedIn: true, Organization: true, Role: "admin", Permission: "invoices:read", Feature: "search", Plan: "org:pro", Reverification: "moderate"}, ""},
		{&alone, auth.Requirements{SignedIn: true}, ""},
		{&alone, auth.Requirements{Organization: true}, auth.CodeOrganizationRequired},
		{&alone, auth.Requirements{Role: "org:admin"}, auth.CodeOrganizationRequired},
		{&alone, auth.Requirements{Permission: "org:invoices:read"}, auth.CodeOrganizationRequired},
		{&member, auth.Requirements{Role: "org:member"}, auth.CodeRoleRequired},
		{&member, auth.Requirements{Permission: "org:invoices:manage"}, auth.CodePermissionRequired},
		{&member, auth.Requirements{Feature: "org:search"}, auth.CodeFeatureRequired},
		{&member, auth.Requirements{Plan: "free"}, auth.CodePlanRequired},
		{&member, auth.Requirements{Reverification: "strict"}, auth.CodeReverificationRequired},
		{&member, auth.Requirements{Reverification: "first_factor:6m"}, ""},
		{&member, auth.Requirements{Reverification: "first_factor:5m"}, auth.CodeReverificationRequired},
		{&member, auth.Requirements{Reverification: "second_factor:31m"}, ""},
		{&member, auth.Requirements{Reverification: "multi_factor:31m"}, ""},
		{&member, auth.Requirements{Reverification: "strict_mfa"}, auth.CodeReverificationRequired},
		{&oneFactor, auth.Requirements{Reverification: "strict_mfa"}, ""},
		{&oneFactor, auth.Requirements{Reverification: "strict"}, ""},
		{&unknownAges, auth.Requirements{Reverification: "lax"}, auth.CodeReverificationRequired},
	} {
		if err := c.require.Validate(); err != nil {
			t.Error(err)
		}
		err := c.require.Check(c.claims)
		code(t, strings.TrimSpace(c.require.Reverification+" "+string(c.code)), err, c.code)
	}
	for _, bad := range []auth.Requirements{
		{Feature: "team:x"}, {Plan: "org:"}, {Permission: "read"}, {Permission: "org:sys_memberships:read"},
		{Reverification: "loose"}, {Reverification: "second_factor"}, {Reverification: "second_factor:90s"}, {Reverification: "third_factor:5m"},
	} {
		if bad.Validate() == nil {
			t.Errorf("%+v is fine", bad)
		}
	}
}

func TestMiddleware(t *testing.T) {
	t.Parallel()
	m := newMinter(t, newWatch().now)
	v := verifier(t, m, nil)
	served := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, ok := auth.FromContext(r.Context()); ok {
			w.Header().Set("User", c.UserID)
		}
	})
	admin := auth.Middleware(v, auth.Requirements{Role: "org:admin"}, auth.RedirectTo("https://accounts.example/sign-in?a=1", "/select"))(served)
	anyone := auth.Middleware(v, auth.Requirements{}, auth.AllowAnonymous())(served)
	someone := auth.Middleware(v, auth.Requirements{})(served)
	recent := auth.Middleware(v, auth.Requirements{Reverification: "strict"})(served)
	good, bad := "Bearer "+mint(t, m, nil), "Bearer x"
	alone := "Bearer " + mint(t, m, func(c *token.SessionClaims) { c.Organization = nil })
	stale := "Bearer " + mint(t, m, func(c *token.SessionClaims) { c.FactorAges = &[2]int{11, -1} })
	for _, c := range []struct {
		name          string
		handler       http.Handler
		header        map[string]string
		status        int
		user, says    string
		authenticates bool
	}{
		{"good", admin, map[string]string{"Authorization": good}, 200, "user_1", "", false},
		{"none", admin, nil, 401, "", `{"errors":[{"code":"session-token-missing","message":"no session token: send it as Authorization: Bearer, or in Clerk's cookie __session"}]}`, true},
		{"bad", admin, map[string]string{"Authorization": bad}, 401, "", `{"errors":[{"code":"token-invalid",`, true},
		{"no organization", admin, map[string]string{"Authorization": alone}, 403, "", `{"errors":[{"code":"organization-required",`, false},
		{"page, none", admin, map[string]string{"Accept": "text/html,*/*"}, 302, "", "https://accounts.example/sign-in?a=1&redirect_url=http%3A%2F%2Fexample.com%2Fp%3Fq%3D1", false},
		{"page over TLS", admin, map[string]string{"Sec-Fetch-Dest": "document", "X-Forwarded-Proto": "https"}, 302, "", "https://accounts.example/sign-in?a=1&redirect_url=https%3A%2F%2Fexample.com%2Fp%3Fq%3D1", false},
		{"page, no organization", admin, map[string]string{"Accept": "text/html", "Authorization": alone}, 302, "", "/select?redirect_url=http%3A%2F%2Fexample.com%2Fp%3Fq%3D1", false},
		{"script", admin, map[string]string{"Accept": "text/html", "Sec-Fetch-Dest": "empty"}, 401, "", "session-token-missing", true},
		{"page, no pages", someone, map[string]string{"Accept": "text/html"}, 401, "", "session-token-missing", true},
		{"nothing required, none", someone, nil, 401, "", "session-token-missing", true},
		{"nothing required, good", someone, map[string]string{"Authorization": good}, 200, "user_1", "", false},
		{"anonymous", anyone, nil, 200, "", "", false},
		{"anonymous, bad", anyone, map[string]string{"Authorization": bad}, 200, "", "", false},
		{"anonymous, good", anyone, map[string]string{"Authorization": good}, 200, "user_1", "", false},
		{"long ago", recent, map[string]string{"Authorization": stale}, 403, "", `"clerk_error":{"type":"forbidden","reason":"reverification-error","metadata":{"reverification":{"level":"second_factor","afterMinutes":10}}}}`, false},
	} {
		r := httptest.NewRequest(http.MethodGet, "/p?q=1", nil)
		for name, value := range c.header {
			r.Header.Set(name, value)
		}
		w := httptest.NewRecorder()
		c.handler.ServeHTTP(w, r)
		said := w.Body.String()
		if c.status == http.StatusFound {
			said = w.Header().Get("Location")
		}
		if w.Code != c.status || w.Header().Get("User") != c.user || !strings.Contains(said, c.says) || (w.Header().Get("WWW-Authenticate") != "") != c.authenticates {
			t.Errorf("%s: %d %v %s", c.name, w.Code, w.Header(), said)
		}
		if w.Code == 200 == (w.Header().Get("Cache-Control") == "no-store") {
			t.Errorf("%s: Cache-Control %q", c.name, w.Header().Get("Cache-Control"))
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("a requirement that nobody can meet is taken")
		}
	}()
	auth.Middleware(v, auth.Requirements{Permission: "read"})
}

func TestTokenOfRequest(t *testing.T) {
	t.Parallel()
	m := newMinter(t, newWatch().now)
	v := verifier(t, m, nil)
	good := mint(t, m, nil)
	other := mint(t, m, func(c *token.SessionClaims) { c.UserID = "user_2" })
	signedIn, later := m.Clock().Add(-time.Hour), m.Clock().Add(2*time.Second)
	own := "__session_" + token.CookieSuffix(token.PublishableKey(host))
	both := ""
	for _, c := range token.Cookies(token.PublishableKey(host), good, signedIn) {
		both += c.Name + "=" + c.Value + "; "
	}
	uat := func(at time.Time) string {
		all := token.Cookies(token.PublishableKey(host), good, at)
		return url.PathEscape(all[2].Name) + "=" + all[2].Value
	}
	for _, c := range []struct {
		name   string
		header http.Header
		code   auth.Code
		user   string
	}{
		{"nothing", http.Header{}, auth.CodeTokenMissing, ""},
		{"empty header", http.Header{"Authorization": {""}}, auth.CodeTokenMissing, ""},
		{"scheme alone", http.Header{"Authorization": {"Bearer"}}, auth.CodeTokenInvalid, ""},
		{"header", http.Header{"Authorization": {"Bearer " + good}}, "", "user_1"},
		{"scheme in lower case", http.Header{"Authorization": {"bearer  " + good + " "}}, "", "user_1"},
		{"no scheme", http.Header{"Authorization": {good}}, "", "user_1"},
		{"other scheme", http.Header{"Authorization": {"Basic eDp5"}}, auth.CodeTokenMissing, ""},
		{"other scheme, cookie", http.Header{"Authorization": {"Basic eDp5"}, "Cookie": {"__session=" + good}}, "", "user_1"},
		{"header wins", http.Header{"Authorization": {"Bearer " + other}, "Cookie": {"__session=" + good}}, "", "user_2"},
		{"bad header wins", http.Header{"Authorization": {"Bearer x"}, "Cookie": {"__session=" + good}}, auth.CodeTokenInvalid, ""},
		{"two headers", http.Header{"Authorization": {"Bearer " + good, "Bearer " + good}}, auth.CodeAuthorizationTwice, ""},
		{"two in one", http.Header{"Authorization": {"Bearer " + good + ", Bearer " + good}}, auth.CodeTokenInvalid, ""},
		{"cookie", http.Header{"Cookie": {"a=b; __session=" + good}}, "", "user_1"},
		{"own cookie", http.Header{"Cookie": {own + "=" + good}}, "", "user_1"},
		{"all cookies", http.Header{"Cookie": {both}}, "", "user_1"},
		{"cookie of another instance's name", http.Header{"Cookie": {"__session_AAAAAAAA=" + good}}, auth.CodeTokenMissing, ""},
		{"one cookie twice", http.Header{"Cookie": {"__session=" + good + "; __session=" + good}}, "", "user_1"},
		{"two cookies", http.Header{"Cookie": {"__session=" + good + "; __session=" + other}}, auth.CodeCookieTwice, ""},
		{"two cookies in two headers", http.Header{"Cookie": {own + "=" + good, own + "=" + other}}, auth.CodeCookieTwice, ""},
		{"signed out", http.Header{"Cookie": {"__session=" + good + "; __client_uat=0"}}, auth.CodeSessionSignedOut, ""},
		{"older than the sign-in", http.Header{"Cookie": {"__session=" + good + "; " + uat(later)}}, auth.CodeSessionStale, ""},
		{"signed out, by header", http.Header{"Authorization": {"Bearer " + good}, "Cookie": {"__client_uat=0"}}, "", "user_1"},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header = c.header
		claims, err := v.VerifyRequest(r)
		code(t, c.name, err, c.code)
		if got := (&auth.Claims{}); err == nil {
			if got = claims; got.UserID != c.user {
				t.Errorf("%s: %s, want %s", c.name, got.UserID, c.user)
			}
		} else if claims != nil {
			t.Errorf("%s: claims beside an error", c.name)
		}
	}
}
