package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"

	"github.com/rollcall-dev/rollcall/deploy/examples/exampletest"
	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
)

func TestMain(m *testing.M) { stacktest.Main(m) }

// story is the example as it runs, with two organizations: of acme ada is admin
// and mel a member, of globex bob is admin and mel a member.
type story struct {
	*testing.T
	*exampletest.Stack
	postgres      *stacktest.Server
	app           *exampletest.Process
	gateway, own  string // addresses: Rollcall's and the application's
	ada, bob, mel string
	acme, globex  string
}

func TestSaaS(t *testing.T) {
	t.Parallel()
	s := start(t)
	for _, step := range []struct {
		name string
		run  func(*story)
	}{
		{"who may", (*story).whoMay},
		{"tenants", (*story).tenants},
		{"single sign-on", (*story).singleSignOn},
		{"policies", (*story).policies},
		{"a role changes", (*story).roleChanges},
		{"no calls to Clerk", (*story).noCalls},
		{"banned", (*story).banned},
		{"Postgres is down", (*story).postgresDown},
		{"Rollcall is down", (*story).rollcallDown},
	} {
		if !t.Run(step.name, func(t *testing.T) { s.T = t; step.run(s) }) {
			return // later steps build on it
		}
	}
}

func start(t *testing.T) *story {
	s := &story{T: t, postgres: stacktest.Postgres(t)}
	db := s.postgres.Database(t).AdminURL
	addr := func() string { return fmt.Sprintf("127.0.0.1:%d", stacktest.FreePort(t)) }
	gateway, own := addr(), addr()
	s.gateway, s.own = "http://"+gateway, "http://"+own
	s.Stack = exampletest.Dev(t, "rollcall.yaml", []string{"127.0.0.1:9000", own}, "DATABASE_URL="+db, "ROLLCALL_GATEWAY_ADDR="+gateway)
	var env []string
	for key, value := range s.Env {
		env = append(env, key+"="+value)
	}
	s.ada, s.bob, s.mel = s.SignUp("Ada"), s.SignUp("Bob"), s.SignUp("Mel")
	s.acme, s.globex = s.organization("Acme", s.ada), s.organization("Globex", s.bob)
	s.Clerk("GET", "/_emu/settled", nil, nil)
	s.app = exampletest.Start(t, ".", append(env, "SAAS_ADDR="+own), exampletest.Build(t, "github.com/rollcall-dev/rollcall/deploy/examples/saas"))
	s.eventually(func() error {
		if a := s.as(s.ada, s.acme, "GET", "/api/projects", ""); a.Status != 200 {
			return errors.New(a.String())
		}
		return nil
	})
	return s
}

func (s *story) organization(name, admin string) string {
	s.Helper()
	var o struct{ ID string }
	s.Clerk("POST", "/v1/organizations", map[string]any{"name": name, "created_by": admin}, &o)
	s.Clerk("POST", "/v1/organizations/"+o.ID+"/memberships", map[string]any{"user_id": s.mel, "role": "org:member"}, nil)
	s.Clerk("POST", "/v1/organizations/"+o.ID+"/invitations", map[string]any{"email_address": "new@" + strings.ToLower(name) + ".example", "role": "org:member"}, nil)
	s.Clerk("POST", "/v1/organizations/"+o.ID+"/domains", map[string]any{"name": strings.ToLower(name) + ".example", "enrollment_mode": "manual_invitation"}, nil)
	return o.ID
}

// as asks the application through the gateway.
func (s *story) as(user, organization, method, path, body string) exampletest.Answer {
	s.Helper()
	return exampletest.Ask(s.T, method, s.gateway+path, body, "Authorization", "Bearer "+s.Token(user, organization))
}

func (s *story) is(a exampletest.Answer, status int, says string) {
	s.Helper()
	if a.Status != status || !strings.Contains(a.Body, says) {
		s.Errorf("%v, want %d with %q", a, status, says)
	}
	for _, inside := range []string{"goroutine", "SQLSTATE", ".go:", "pgx", "127.0.0.1:"} {
		if strings.Contains(a.Body, inside) {
			s.Errorf("the user sees %q: %v", inside, a)
		}
	}
}

func (s *story) eventually(ask func() error) {
	s.Helper()
	stacktest.Eventually(s.T, exampletest.Patience, ask)
}

func (s *story) whoMay() {
	for _, page := range []struct{ token, to string }{{"", "/sign-in"}, {s.Token(s.ada, ""), "/select-organization"}} {
		headers := []string{"Accept", "text/html"}
		if page.token != "" {
			headers = append(headers, "Authorization", "Bearer "+page.token)
		}
		a := exampletest.Ask(s.T, "GET", s.gateway+"/app", "", headers...)
		if to, err := url.Parse(a.Header.Get("Location")); a.Status != http.StatusFound || err != nil || to.Path != page.to {
			s.Errorf("%v to %v, want %s", a, to, page.to)
		}
	}
	s.is(exampletest.Ask(s.T, "GET", s.gateway+"/api/projects", ""), 401, "session-token-missing")
	s.is(s.as(s.ada, "", "GET", "/api/projects", ""), 403, "organization-required")
	s.is(s.as(s.mel, s.acme, "GET", "/app/settings", ""), 403, "role-required")
	s.is(s.as(s.mel, s.acme, "POST", "/api/invoices", `{"project_id":"00000000-0000-0000-0000-000000000000","cents":1}`), 403, "Your role")

	// Past the gateway, headers say nothing.
	s.is(exampletest.Ask(s.T, "GET", s.own+"/api/projects", "", "X-Clerk-User-Id", s.ada, "X-Clerk-Org-Id", s.acme), 401, "errors")
}

// tenants makes a project and an invoice in each organization, by the API.
func (s *story) tenants() {
	project := map[string]string{}
	for admin, organization := range map[string]string{s.ada: s.acme, s.bob: s.globex} {
		a := s.as(admin, organization, "POST", "/api/projects", `{"name":"of `+organization+`"}`)
		s.is(a, 200, `"id"`)
		project[organization] = strings.Split(a.Body, `"`)[3]
		s.is(s.as(admin, organization, "POST", "/api/invoices", `{"project_id":"`+project[organization]+`","cents":100}`), 200, `"id"`)
	}
	s.is(s.as(s.bob, s.globex, "POST", "/api/invoices", `{"project_id":"`+project[s.acme]+`","cents":1}`), 422, "That can't be")
	s.is(s.as(s.bob, s.globex, "POST", "/api/projects", `{"name":""}`), 422, "That can't be")

	// One who is in both sees each by itself.
	for organization, other := range map[string]string{s.acme: s.globex, s.globex: s.acme} {
		for _, path := range []string{"/app", "/api/projects"} {
			a := s.as(s.mel, organization, "GET", path, "")
			s.is(a, 200, "of "+organization)
			if strings.Contains(a.Body, other) || strings.Contains(a.Body, project[other]) {
				s.Errorf("%s shows what is %s's: %v", path, other, a)
			}
		}
	}
}

// singleSignOn gives mel an account at acme's and globex's identity provider.
func (s *story) singleSignOn() {
	var user map[string]any
	s.Clerk("GET", "/v1/users/"+s.mel, nil, &user)
	user["updated_at"] = user["updated_at"].(float64) + 1
	user["enterprise_accounts"] = []any{map[string]any{
		"object": "enterprise_account", "id": "eac_1", "protocol": "saml", "provider": "saml_okta", "active": true,
		"email_address": "mel@example.com", "enterprise_connection_id": "entconn_1",
		"enterprise_connection": map[string]any{"id": "entconn_1", "provider": "saml_okta", "protocol": "saml", "active": true},
	}}
	s.Clerk("POST", "/_emu/events", map[string]any{"type": "user.updated", "data": user}, nil)
	s.eventually(func() error {
		if a := s.as(s.ada, s.acme, "GET", "/app/settings", ""); a.Status != 200 || !strings.Contains(a.Body, "entconn_1 (saml, saml_okta): 1 members") {
			return errors.New(a.String())
		}
		return nil
	})
}

// browser keeps cookies and follows redirects.
func (s *story) browser() func(path string, form url.Values) exampletest.Answer {
	jar, err := cookiejar.New(nil)
	if err != nil {
		s.Fatal(err)
	}
	client := &http.Client{Jar: jar}
	return func(path string, form url.Values) exampletest.Answer {
		s.Helper()
		method, body := "GET", ""
		if form != nil {
			method, body = "POST", form.Encode()
		}
		req, err := http.NewRequestWithContext(s.Context(), method, s.gateway+path, strings.NewReader(body))
		if err != nil {
			s.Fatal(err)
		}
		req.Header.Set("Accept", "text/html")
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		return exampletest.Do(client, req)
	}
}

// roleChanges: mel is made an admin, and it counts with the session that she has.
func (s *story) roleChanges() {
	browse := s.browser()
	s.is(browse("/app", nil), 200, "Sign in as")
	s.is(browse("/sign-in?redirect_url=/app", url.Values{"id": {s.mel}}), 200, "Select an organization")
	s.is(browse("/select-organization", url.Values{"id": {s.globex}}), 200, "<h1>Globex</h1>")
	s.is(browse("/select-organization", url.Values{"id": {s.acme}}), 200, "<h1>Acme</h1>")
	s.is(browse("/app/settings", nil), 403, "role-required")

	old := s.Token(s.mel, s.acme)
	membership := "/v1/organizations/" + s.acme + "/memberships/" + s.mel
	s.Clerk("PATCH", membership, map[string]any{"role": "org:admin"}, nil)
	s.eventually(func() error { // by way of /sign-in, which asks for nothing
		if a := browse("/app/settings", nil); a.Status != 200 || !strings.Contains(a.Body, "Mel, org:admin") {
			return errors.New(a.String())
		}
		return nil
	})
	s.eventually(func() error {
		if a := exampletest.Ask(s.T, "GET", s.gateway+"/api/projects", "", "Authorization", "Bearer "+old); a.Status != 401 || !strings.Contains(a.Body, "session-revoked") {
			return errors.New(a.String())
		}
		return nil
	})

	// And back: the token in the browser is an admin's, and opens nothing more.
	s.Clerk("PATCH", membership, map[string]any{"role": "org:member"}, nil)
	s.eventually(func() error {
		if a := browse("/app/settings", nil); a.Status != 403 {
			return errors.New(a.String())
		}
		return nil
	})
}

// noCalls counts what 1,000 requests ask of Clerk.
func (s *story) noCalls() {
	var before, after struct {
		API  int `json:"backend_api"`
		Keys int `json:"jwks"`
	}
	token := s.Token(s.ada, s.acme)
	s.Clerk("GET", "/_emu/requests", nil, &before)
	for i := range 1000 {
		path := []string{"/app", "/app/settings", "/api/projects", "/api/invoices"}[i%4]
		if a := exampletest.Ask(s.T, "GET", s.gateway+path, "", "Authorization", "Bearer "+token); a.Status != 200 {
			s.Fatal(path, a)
		}
	}
	if s.Clerk("GET", "/_emu/requests", nil, &after); after != before {
		s.Errorf("1,000 requests asked Clerk: %+v, then %+v", before, after)
	}
}

func (s *story) banned() {
	browse := s.browser()
	s.eventually(func() error { // not in the second in which the role changed
		browse("/sign-in", url.Values{"id": {s.mel}})
		if a := browse("/select-organization", url.Values{"id": {s.acme}}); !strings.Contains(a.Body, "<h1>Acme</h1>") {
			return errors.New(a.String())
		}
		return nil
	})
	s.Clerk("POST", "/v1/users/"+s.mel+"/ban", nil, nil)
	s.eventually(func() error { // no way back in by the session
		if a := browse("/app", nil); !strings.Contains(a.Body, "Sign in as") {
			return errors.New(a.String())
		}
		return nil
	})
	s.is(browse("/sign-in", url.Values{"id": {s.mel}}), 403, "can&#39;t sign in")
}

func (s *story) postgresDown() {
	s.postgres.Stop()
	s.is(s.as(s.ada, s.acme, "GET", "/app", ""), 503, "Not just now")
	s.is(s.as(s.ada, s.acme, "GET", "/api/invoices", ""), 503, "Not just now")
	s.postgres.Start()
	s.recovers()
}

func (s *story) rollcallDown() {
	token := s.Token(s.ada, s.acme)
	s.Stop()
	if a := exampletest.Ask(s.T, "GET", s.gateway+"/app", "", "Authorization", "Bearer "+token); a.Status != 0 {
		s.Errorf("without a gateway: %v", a)
	}
	s.is(exampletest.Ask(s.T, "GET", s.own+"/app", "", "Authorization", "Bearer "+token), 401, "errors")
	s.Start()
	s.Ready()
	s.recovers()
}

func (s *story) recovers() {
	s.Helper()
	s.eventually(func() error {
		if a := s.as(s.ada, s.acme, "GET", "/app", ""); a.Status != 200 || !strings.Contains(a.Body, "of "+s.acme) {
			return errors.New(a.String())
		}
		return nil
	})
}
