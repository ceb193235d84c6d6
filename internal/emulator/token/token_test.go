package token_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/internal/emulator/token"
)

const (
	instanceID = "ins_2g7np7Hrk0SN6kj5EDMLDaKNL0S"
	host       = "clerk.emulated.example"
)

func newMinter(t *testing.T) *token.Minter {
	t.Helper()
	keys, err := token.NewKeys(instanceID, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return &token.Minter{Keys: keys, Issuer: token.IssuerOf(host), Clock: time.Now}
}

// serveKeys is Clerk's Backend API as far as a verifier needs it.
func serveKeys(t *testing.T, keys *token.Keys) string {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/jwks" {
			http.NotFound(w, r)
			return
		}
		body, err := keys.JWKS()
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("Content-Type", "application/json")
		if _, err := w.Write(body); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

// parts are a token's header and claims, unverified.
func parts(t *testing.T, jwt string) (header, claims map[string]any) {
	t.Helper()
	words := strings.Split(jwt, ".")
	if len(words) != 3 {
		t.Fatalf("a token of %d parts: %s", len(words), jwt)
	}
	for i, into := range []*map[string]any{&header, &claims} {
		text, err := base64.RawURLEncoding.DecodeString(words[i])
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, into); err != nil {
			t.Fatal(err)
		}
	}
	return header, claims
}

func session(permissions ...string) token.SessionClaims {
	return token.SessionClaims{
		UserID: "user_1", SessionID: "sess_1",
		Organization: &token.Organization{ID: "org_1", Slug: "acme", Role: "org:admin", Permissions: permissions},
	}
}

// The documented example, each claim and nothing else.
func TestClaims(t *testing.T) {
	t.Parallel()
	m := newMinter(t)
	at := time.Unix(1_700_000_000, 0)
	both := session("org:dashboard:manage", "org:dashboard:read", "org:teams:read", "org:sys_memberships:manage")
	both.Options = token.Options{IssuedAt: at, OriginIssuedAt: at.Add(-time.Hour), Claims: map[string]any{"metadata": map[string]any{"platform": "mobile"}}}
	both.AuthorizedParty = "https://app.example"
	both.FactorAges = &[2]int{5, 7}
	both.Actor = map[string]any{"sub": "user_2"}
	both.Features = []string{"o:dashboard", "o:teams", "u:search"}
	both.Plans = []string{"u:free", "o:pro"}
	pending := both
	pending.Version, pending.Status, pending.Organization, pending.Features = 1, "pending", nil, nil

	common := `"azp":"https://app.example","exp":1700000060,"fva":[5,7],"iat":1700000000,"iss":"https://clerk.emulated.example","nbf":1699999990,"sid":"sess_1","sub":"user_1","act":{"sub":"user_2"},"metadata":{"platform":"mobile"}`
	for _, c := range []struct {
		name   string
		claims token.SessionClaims
		want   string
	}{
		{"v2", both, `{` + common + `,"v":2,"sts":"active","pla":"u:free,o:pro","fea":"o:dashboard,o:teams,u:search","o":{"id":"org_1","slg":"acme","rol":"admin","per":"manage,read","fpm":"3,2,0"}}`},
		{"v1", version1(both), `{` + common + `,"org_id":"org_1","org_slug":"acme","org_role":"org:admin","org_permissions":["org:dashboard:manage","org:dashboard:read","org:teams:read"]}`},
		{"v1 pending", pending, `{` + common + `,"sts":"pending"}`},
	} {
		jwt, err := m.Session(c.claims)
		if err != nil {
			t.Fatal(err)
		}
		header, claims := parts(t, jwt)
		if jti, _ := claims["jti"].(string); c.name == "v2" && jti == "" {
			t.Errorf("%s: no jti", c.name)
		}
		delete(claims, "jti")
		equalJSON(t, c.name, claims, c.want)
		equalJSON(t, c.name, header, `{"alg":"RS256","typ":"JWT","kid":"`+instanceID+`","cat":"cl_B7d4PD111AAA","oiat":1699996400}`)
	}
}

func version1(c token.SessionClaims) token.SessionClaims {
	c.Version = 1
	return c
}

func equalJSON(t *testing.T, name string, got map[string]any, want string) {
	t.Helper()
	var w map[string]any
	if err := json.Unmarshal([]byte(want), &w); err != nil {
		t.Fatal(err)
	}
	a, _ := json.Marshal(got) // read from JSON a moment ago
	b, _ := json.Marshal(w)
	if string(a) != string(b) {
		t.Errorf("%s:\n got %s\nwant %s", name, a, b)
	}
}

func TestAClaimTakenAway(t *testing.T) {
	t.Parallel()
	jwt, err := newMinter(t).Session(token.SessionClaims{UserID: "user_1", Options: token.Options{Claims: map[string]any{"exp": nil, "sub": "user_9"}}})
	if err != nil {
		t.Fatal(err)
	}
	_, claims := parts(t, jwt)
	if _, ok := claims["exp"]; ok || claims["sub"] != "user_9" {
		t.Errorf("exp %v, sub %v", claims["exp"], claims["sub"])
	}
}

func TestBadRequests(t *testing.T) {
	t.Parallel()
	m := newMinter(t)
	for want, claims := range map[string]token.SessionClaims{
		`permission "posts:read" isn't org:`:          session("posts:read"),
		`permission "org:posts:" isn't`:               session("org:posts:"),
		`permission "org:a,b:read" isn't`:             session("org:a,b:read"),
		`feature "posts" isn't <scope>:<name>`:        {Features: []string{"posts"}},
		`feature "x:posts" isn't`:                     {Features: []string{"x:posts"}},
		`session tokens have version 1 or 2, not 3`:   {Version: 3},
		`no flaw is called "rude": there are ["wrong`: {Options: token.Options{Flaw: "rude"}},
	} {
		if _, err := m.Session(claims); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s…", err, want)
		}
	}
	if _, err := token.LoadKeys(nil, time.Now); err == nil {
		t.Error("no keys are enough")
	}
	if _, err := token.LoadKeys([]token.SigningKey{{KID: "a", PEM: "?"}}, time.Now); err == nil || !strings.Contains(err.Error(), `signing key "a": not PEM`) {
		t.Errorf("bad PEM: %v", err)
	}
}

func TestKeysAreKept(t *testing.T) {
	t.Parallel()
	now := time.UnixMilli(1_700_000_000_000)
	keys, err := token.NewKeys(instanceID, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	if err := keys.Rotate(true, time.Hour); err != nil {
		t.Fatal(err)
	}
	saved, err := keys.Save()
	if err != nil {
		t.Fatal(err)
	}
	again, err := token.LoadKeys(saved, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	if a, b := published(t, keys), published(t, again); a != b || strings.Count(a, `"kid"`) != 2 {
		t.Errorf("saved:\n%s\nloaded:\n%s", a, b)
	}
	if keys.KID() != again.KID() || keys.KID() == instanceID {
		t.Errorf("%s signs, after loading %s", keys.KID(), again.KID())
	}
	now = now.Add(time.Hour)
	if strings.Contains(published(t, again), instanceID) {
		t.Error("the retired key is still published after its time")
	}
	before, kid := published(t, again), again.KID()
	if err := again.Rotate(false, time.Hour); err != nil {
		t.Fatal(err)
	}
	if after := published(t, again); again.KID() != kid || after == before || strings.Count(after, `"kid"`) != 1 {
		t.Errorf("the kid was to survive, alone:\n%s\n%s", before, after)
	}
}

func published(t *testing.T, keys *token.Keys) string {
	t.Helper()
	body, err := keys.JWKS()
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestPublishableKey(t *testing.T) {
	t.Parallel()
	pk := token.PublishableKey("clerk.example.com")
	if pk != "pk_live_Y2xlcmsuZXhhbXBsZS5jb20k" {
		t.Errorf("got %s", pk)
	}
	if h, err := token.FrontendHost(pk); err != nil || h != "clerk.example.com" {
		t.Errorf("host %q, %v", h, err)
	}
	if pk := token.PublishableKey("ab.dev"); pk != "pk_live_YWIuZGV2JA" {
		t.Errorf("got %s", pk)
	}
	for _, padded := range []string{"", "=="} {
		if h, err := token.FrontendHost("pk_live_YWIuZGV2JA" + padded); err != nil || h != "ab.dev" {
			t.Errorf("host %q, %v", h, err)
		}
	}
	for _, bad := range []string{"", "pk_test_Y2xlcmsuZXhhbXBsZS5jb20k", "pk_live_%", "pk_live_Y2xlcms=", "pk_live_JA=="} {
		if h, err := token.FrontendHost(bad); err == nil {
			t.Errorf("%q has host %q", bad, h)
		}
	}
}
