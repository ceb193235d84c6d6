package auth_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall-dev/rollcall/internal/emulator/nodetest"
	"github.com/rollcall-dev/rollcall/internal/emulator/token"
	"github.com/rollcall-dev/rollcall/streams/auth"
)

// request is judged by Clerk's library for JavaScript and by ours. Where the
// verdicts differ on purpose, but says why, and is in deploy/docs/auth.md.
type request struct {
	Name    string            `json:"name"`
	Headers map[string]string `json:"headers"`
	but     string
}

// verdict is who is signed in; "" nobody.
type verdict struct {
	Reason                                            string
	UserID, SessionID, OrgID, OrgSlug, OrgRole, Actor string
	OrgPermissions                                    []string
	Has                                               map[string]bool
}

const (
	stricterClass   = "stricter: a session has a session's claims"
	stricterLife    = "stricter: session tokens live a minute"
	stricterIssuer  = "stricter: the issuer is checked"
	stricterJSON    = "stricter: a text that reads in two ways"
	stricterLength  = "stricter: no token of Clerk's is that long"
	stricterVersion = "stricter: an unknown version isn't guessed at"
	stricterCookie  = "stricter: two values of one cookie"
	laxerScheme     = "laxer: a scheme's case is of no meaning (RFC 9110)"
	laxerClient     = "laxer: without __client_uat there is nothing to contradict the token"
)

// What each makes of the same requests, and that a gateway says over HTTP what ours does.
func TestSameVerdicts(t *testing.T) {
	t.Parallel()
	m := newMinter(t, time.Now)
	v := verifier(t, m, func(o *auth.Options) { o.Instances[0].AuthorizedParties = []string{origin} })
	requests := slices.Concat(tokenRequests(t, m), cookieRequests(t, m))
	theirs, ask := judge(t, m, requests), newEdge(t, v)
	differ := map[string]int{}
	for _, c := range requests {
		their, our := theirs[c.Name], ours(t, v, c)
		if got := ask(c); got.UserID != our.UserID || got.OrgID != our.OrgID || got.Reason != our.Reason {
			t.Errorf("%s: the gateway lets %q of %q pass (%s), ours %q of %q (%s)", c.Name, got.UserID, got.OrgID, got.Reason, our.UserID, our.OrgID, our.Reason)
		}
		their.Reason = strings.Replace(their.Reason, "session-token-expired", "token-expired", 1)
		differs := their.UserID != our.UserID
		switch {
		case !differs && our.UserID != "":
			our.Reason, their.Reason = "", ""
			if diff := cmp.Diff(their, our); diff != "" {
				t.Errorf("%s (- theirs, + ours):\n%s", c.Name, diff)
			}
		case differs != (c.but != "") || differs && (our.UserID == "") != strings.HasPrefix(c.but, "stricter"):
			t.Errorf("%s: theirs %q (%s), ours %q (%s); expected difference: %q", c.Name, their.UserID, their.Reason, our.UserID, our.Reason, c.but)
		}
		if differs {
			differ[c.but]++
		}
	}
	t.Logf("%d requests; differences: %v", len(requests), differ)
}

func ours(t *testing.T, v *auth.Verifier, c request) (out verdict) {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	for name, value := range c.Headers {
		r.Header.Set(name, value)
	}
	out = verdict{OrgPermissions: []string{}, Has: map[string]bool{}}
	claims, err := v.VerifyRequest(r)
	if err != nil {
		out.Reason = string(auth.CodeOf(err))
		return out
	}
	o := claims.Organization
	out.UserID, out.SessionID, out.OrgID, out.OrgSlug, out.OrgRole, out.Actor = claims.UserID, claims.SessionID, o.ID, o.Slug, o.Role, claims.ActorID
	out.OrgPermissions = append(out.OrgPermissions, o.Permissions...)
	for name, need := range map[string]auth.Requirements{
		"role": {Role: "org:admin"}, "permission": {Permission: "org:invoices:read"}, "feature": {Feature: "search"}, "plan": {Plan: "org:pro"},
		"strict": {Reverification: "strict"}, "strict_mfa": {Reverification: "strict_mfa"}, "lax": {Reverification: "lax"},
	} {
		out.Has[name] = need.Check(claims) == nil
	}
	return out
}

func judge(t *testing.T, m *token.Minter, requests []request) map[string]verdict {
	t.Helper()
	input := must[[]byte](t)(json.Marshal(map[string]any{
		"publishableKey": token.PublishableKey(host), "secretKey": "sk_live_x", "jwtKey": must[string](t)(m.Keys.PublicPEM()),
		"authorizedParties": []string{origin}, "cases": requests,
	}))
	output := nodetest.Run(t, "verdicts.mjs", input)
	var verdicts map[string]verdict
	if err := json.Unmarshal(output, &verdicts); err != nil {
		t.Fatalf("verdicts.mjs printed %s: %v", output, err)
	}
	if len(verdicts) != len(requests) {
		t.Fatalf("%d verdicts on %d requests: a name twice?", len(verdicts), len(requests))
	}
	return verdicts
}

// tokenRequests have one in the header.
func tokenRequests(t *testing.T, m *token.Minter) (all []request) {
	t.Helper()
	add := func(name, authorization, but string) {
		all = append(all, request{name, map[string]string{"Authorization": authorization}, but})
	}
	now := m.Clock()
	good := mint(t, m, nil)
	for name, change := range map[string]func(*token.SessionClaims){
		"v2":              nil,
		"v1":              func(c *token.SessionClaims) { c.Version = 1 },
		"no organization": func(c *token.SessionClaims) { c.Organization = nil },
		"v1, none":        func(c *token.SessionClaims) { c.Organization, c.Version = nil, 1 },
		"impersonated":    func(c *token.SessionClaims) { c.Actor = map[string]any{"sub": "user_2"} },
		"v1 impersonated": func(c *token.SessionClaims) { c.Actor, c.Version = map[string]any{"sub": "user_2"}, 1 },
		"features": func(c *token.SessionClaims) {
			c.Features, c.Plans = []string{"o:invoices", "o:teams", "u:search"}, []string{"o:pro", "u:free"}
		},
		"other features": func(c *token.SessionClaims) {
			c.Features, c.Plans = []string{"o:invoices", "ou:teams", "o:x"}, []string{"u:pro"}
		},
		"two factors":     func(c *token.SessionClaims) { c.FactorAges = &[2]int{20, 5} },
		"old factors":     func(c *token.SessionClaims) { c.FactorAges = &[2]int{2000, 30} },
		"pending":         func(c *token.SessionClaims) { c.Status = "pending" },
		"v1 pending":      func(c *token.SessionClaims) { c.Status, c.Version = "pending", 1 },
		"expired":         func(c *token.SessionClaims) { c.IssuedAt = now.Add(-time.Hour) },
		"just expired":    func(c *token.SessionClaims) { c.IssuedAt = now.Add(-62 * time.Second) },
		"not yet valid":   func(c *token.SessionClaims) { c.NotBefore = now.Add(30 * time.Second) },
		"almost valid":    func(c *token.SessionClaims) { c.NotBefore = now.Add(3 * time.Second) },
		"issued later":    func(c *token.SessionClaims) { c.IssuedAt, c.NotBefore = now.Add(time.Minute), now },
		"issued just now": func(c *token.SessionClaims) { c.IssuedAt = now.Add(3 * time.Second) },
		"another origin":  func(c *token.SessionClaims) { c.AuthorizedParty = "https://evil.example" },
		"no origin":       func(c *token.SessionClaims) { c.AuthorizedParty = "" },
	} {
		add(name, "Bearer "+mint(t, m, change), "")
	}
	for _, flaw := range token.Flaws() {
		but := ""
		if flaw == token.WrongIssuer {
			but = stricterIssuer
		}
		add(string(flaw), "Bearer "+mint(t, m, flawed(flaw)), but) // a PEM goes with any kid
	}
	long := mint(t, m, func(c *token.SessionClaims) { c.Lifetime = time.Hour })
	add("an hour", "Bearer "+long, stricterLife)
	add("template", "Bearer "+must[string](t)(m.Template(token.TemplateClaims{UserID: "user_1", AuthorizedParty: origin})), "")
	add("machine", "Bearer "+must[string](t)(m.Machine(token.MachineClaims{MachineID: "mch_1"})), "")

	body := claims(t, m, nil)
	for name, c := range map[string][2]string{
		"no cat":          {`{"alg":"RS256","typ":"JWT","kid":"x"}`, ""},
		"cat ignored":     {`{"alg":"RS256","typ":"JWT","cat":"cl_I7d4PD111III"}`, ""},
		"cat of a number": {`{"alg":"RS256","typ":"JWT","cat":1}`, ""},
		"OAuth":           {`{"alg":"RS256","typ":"at+jwt"}`, ""},
		"no typ":          {`{"alg":"RS256"}`, ""},
		"RS512":           {`{"alg":"RS512","typ":"JWT"}`, ""},
		"alg twice":       {`{"alg":"RS256","typ":"JWT","alg":"RS256"}`, stricterJSON},
		"crit":            {`{"alg":"RS256","typ":"JWT","crit":["x"],"x":1}`, stricterJSON},
	} {
		add("header: "+name, "Bearer "+sign(t, m, c[0], body), c[1])
	}
	for name, c := range map[string]struct {
		change map[string]any
		but    string
	}{
		"no sub":          {map[string]any{"sub": nil}, ""},
		"sub of a number": {map[string]any{"sub": 1}, ""},
		"machine's sub":   {map[string]any{"sub": "mch_1"}, ""},
		"no sid":          {map[string]any{"sid": nil}, stricterClass},
		"no iat":          {map[string]any{"iat": nil}, stricterClass},
		"no exp":          {map[string]any{"exp": nil}, ""},
		"exp of text":     {map[string]any{"exp": "1"}, ""},
		"no nbf":          {map[string]any{"nbf": nil}, ""},
		"iat in ms":       {map[string]any{"iat": now.UnixMilli()}, ""},
		"no azp":          {map[string]any{"azp": nil}, ""},
		"version 3":       {map[string]any{"v": 3}, stricterVersion},
		"100 kB":          {map[string]any{"pad": strings.Repeat("x", 100<<10)}, stricterLength},
	} {
		add("claims: "+name, "Bearer "+sign(t, m, goodHeader, claims(t, m, c.change)), c.but)
	}
	add("claims: sub twice", "Bearer "+sign(t, m, goodHeader, body[:len(body)-1]+`,"sub":"user_2"}`), stricterJSON)
	add("claims: a list", "Bearer "+sign(t, m, goodHeader, `[]`), "")

	add("no scheme", good, "")
	add("lower case", "bearer "+good, laxerScheme)
	add("basic", "Basic eDp5", "")
	add("nothing", "Bearer x", "")
	add("API key", "Bearer ak_1", "")
	add("two parts", "Bearer a.b", "")
	add("cut", "Bearer "+good[:len(good)-4], "")
	add("padding", "Bearer "+good+"==", stricterJSON)
	return all
}

// cookieRequests have each combination of the four cookies that matter: absent,
// of the same time, older, newer, somebody else's.
func cookieRequests(t *testing.T, m *token.Minter) (all []request) {
	t.Helper()
	now := m.Clock().Truncate(time.Second)
	at := func(user string, ago time.Duration) string {
		return mint(t, m, func(c *token.SessionClaims) { c.UserID, c.IssuedAt = user, now.Add(-ago) })
	}
	foreign := *m
	foreign.Issuer = "https://clerk.other.example"
	shared := map[string]string{
		"none": "", "old": at("user_old", 30*time.Second), "new": at("user_new", 2*time.Second),
		"foreign": mint(t, &foreign, nil), "garbage": "x.y.z",
	}
	own := map[string]string{"none": "", "middle": at("user_middle", 10*time.Second)}
	clients := map[string]string{"none": "", "out": "0", "before": fmt.Sprint(now.Add(-time.Minute).Unix()), "between": fmt.Sprint(now.Add(-20 * time.Second).Unix()), "after": fmt.Sprint(now.Unix())}
	suffix := "_" + token.CookieSuffix(token.PublishableKey(host))
	for sharedName, sharedToken := range shared {
		for ownName, ownToken := range own {
			for sharedClient, sharedUAT := range clients {
				for ownClient, ownUAT := range clients {
					var cookies []string
					for _, c := range [][2]string{{"__session", sharedToken}, {"__session" + suffix, ownToken}, {"__client_uat", sharedUAT}, {"__client_uat" + suffix, ownUAT}} {
						if c[1] != "" {
							cookies = append(cookies, c[0]+"="+c[1])
						}
					}
					if len(cookies) == 0 {
						continue
					}
					all = append(all, request{
						Name:    fmt.Sprintf("cookies: %s/%s, own %s/%s", sharedName, sharedClient, ownName, ownClient),
						Headers: map[string]string{"Cookie": strings.Join(cookies, "; ")},
						but:     cookieDifference(sharedName, sharedClient, ownName, ownClient),
					})
				}
			}
		}
	}
	twice := "__session=" + shared["new"] + "; __session=" + shared["old"] + "; __client_uat=" + clients["before"]
	return append(all, request{"two cookies", map[string]string{"Cookie": twice}, stricterCookie})
}

// cookieDifference is where ours signs in without __client_uat.
func cookieDifference(shared, sharedClient, own, ownClient string) string {
	switch {
	case (shared == "old" || shared == "new") && sharedClient == "none" && (own == "none" || ownClient == "none" || ownClient == "out" || shared == "new"):
		return laxerClient
	case (shared == "none" || shared == "foreign") && own == "middle" && ownClient == "none":
		return laxerClient
	}
	return ""
}
