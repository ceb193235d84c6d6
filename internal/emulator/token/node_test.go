package token_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/internal/emulator/nodetest"
	"github.com/rollcall-dev/rollcall/internal/emulator/token"
)

type nodeCase struct {
	Name   string `json:"name"`
	Token  string `json:"token"`
	Cookie string `json:"cookie"`
}

// nodeResult is what tokens.mjs says of one case.
type nodeResult struct {
	ByPEM, ByJWKS string // why verifyToken refuses; "" where it accepts
	Header        nodeAuth
	Cookie        *nodeAuth
}

type nodeAuth struct {
	Authenticated                            bool
	Status, Reason                           string
	UserID, OrgID, OrgRole, Actor, MachineID string
	OrgPermissions, Scopes                   []string
}

// Clerk's library for JavaScript, from the outside: verifyToken, and
// authenticateRequest by header and by cookies.
func TestClerkBackend(t *testing.T) {
	t.Parallel()
	m := newMinter(t)
	cases, permissions := nodeCases(t, m)
	results := runNode(t, m, cases)

	for _, name := range []string{"v1", "v2", "long-lived", "v2 with a suffix", "v2 without"} {
		r := results[name]
		if r.ByPEM != "" || r.ByJWKS != "" {
			t.Errorf("%s: refused: %q by PEM, %q by JWKS", name, r.ByPEM, r.ByJWKS)
		}
		for by, auth := range map[string]nodeAuth{"header": r.Header, "cookies": *r.Cookie} {
			if !auth.Authenticated || auth.UserID != "user_1" || auth.OrgID != "org_1" || auth.OrgRole != "org:admin" || auth.Actor != "user_2" {
				t.Errorf("%s by %s: %+v", name, by, auth)
			}
			if slices.Sort(auth.OrgPermissions); !slices.Equal(auth.OrgPermissions, permissions) {
				t.Errorf("%s by %s: read %q\nasked for %q", name, by, auth.OrgPermissions, permissions)
			}
		}
	}
	for name, reason := range map[string]string{
		"expired":                  "token-expired",
		"not yet valid":            "token-not-active-yet",
		string(token.WrongKey):     "token-invalid-signature",
		string(token.BadSignature): "token-invalid-signature",
		string(token.AlgNone):      "token-invalid-algorithm",
		string(token.AlgHS256):     "token-invalid-algorithm",
	} {
		if r := results[name]; r.ByPEM != reason || r.ByJWKS != reason || r.Header.Authenticated || r.Cookie.Authenticated {
			t.Errorf("%s: not refused as %s: %+v", name, reason, r)
		}
	}
	if r := results[string(token.UnknownKID)]; r.ByJWKS != "jwk-kid-mismatch" || r.Header.Authenticated || r.Cookie.Authenticated {
		t.Errorf("unknown kid: %+v", r)
	}
	// A session token by verifyToken, which looks at no category but the machines';
	// not by a request.
	for _, name := range []string{string(token.WrongCategory), "template"} {
		if r := results[name]; r.ByPEM != "" || r.Header.Authenticated || r.Cookie.Authenticated {
			t.Errorf("%s: %+v", name, r)
		}
	}
	if r := results["pending"]; r.ByPEM != "" || r.Cookie.UserID != "" {
		t.Errorf("pending: %+v", r)
	}
	if r := results["machine"]; r.ByPEM != "token-invalid" || !r.Header.Authenticated || r.Header.MachineID != "mch_1" || !slices.Equal(r.Header.Scopes, []string{"mch_2", "mch_3"}) {
		t.Errorf("machine: %+v", r)
	}
}

// nodeCases are good and bad tokens, and the permissions that the good ones hold:
// 70 features with 70 actions, so masks of more than 64 bits.
func nodeCases(t *testing.T, m *token.Minter) (cases []nodeCase, permissions []string) {
	t.Helper()
	now := time.Now()
	good := session("org:sys_profile:manage")
	good.Actor = map[string]any{"sub": "user_2"}
	good.Features = []string{"o:f00", "ou:f01"}
	for i := range 70 {
		permissions = append(permissions, fmt.Sprintf("org:f%02d:a%02d", i, i), fmt.Sprintf("org:f%02d:a%02d", i, (i+7)%70))
	}
	slices.Sort(permissions)
	good.Organization.Permissions = append(good.Organization.Permissions, permissions...)
	add := func(name, jwt string, err error) {
		if err != nil {
			t.Fatal(err)
		}
		var pairs []string
		for _, c := range token.Cookies(token.PublishableKey(host), jwt, now.Add(-2*time.Hour)) {
			pairs = append(pairs, c.Name+"="+c.Value)
		}
		cases = append(cases, nodeCase{Name: name, Token: jwt, Cookie: strings.Join(pairs, "; ")})
	}
	addSession := func(name string, change func(*token.SessionClaims)) {
		c := good
		change(&c)
		jwt, err := m.Session(c)
		add(name, jwt, err)
	}
	// Either pair of cookies signs in by itself.
	addSession("v2", func(*token.SessionClaims) {})
	pairs := strings.Split(cases[0].Cookie, "; ")
	for i, name := range []string{"v2 without", "v2 with a suffix"} {
		cases = append(cases, nodeCase{Name: name, Token: cases[0].Token, Cookie: pairs[i] + "; " + pairs[i+2]})
	}
	addSession("v1", func(c *token.SessionClaims) { c.Version = 1 })
	addSession("long-lived", func(c *token.SessionClaims) { c.IssuedAt, c.Lifetime = now.Add(-time.Hour), 24*time.Hour })
	addSession("expired", func(c *token.SessionClaims) { c.IssuedAt = now.Add(-time.Hour) })
	addSession("not yet valid", func(c *token.SessionClaims) { c.NotBefore, c.Lifetime = now.Add(time.Hour), 2*time.Hour })
	addSession("pending", func(c *token.SessionClaims) { c.Status = "pending" })
	for _, flaw := range token.Flaws() {
		addSession(string(flaw), func(c *token.SessionClaims) { c.Flaw = flaw })
	}
	jwt, err := m.Template(token.TemplateClaims{UserID: "user_1", Options: token.Options{Claims: map[string]any{"role": "admin"}}})
	add("template", jwt, err)
	jwt, err = m.Machine(token.MachineClaims{MachineID: "mch_1", Scopes: []string{"mch_2", "mch_3"}})
	add("machine", jwt, err)
	return cases, permissions
}

func runNode(t *testing.T, m *token.Minter, cases []nodeCase) map[string]nodeResult {
	t.Helper()
	pem, err := m.Keys.PublicPEM()
	if err != nil {
		t.Fatal(err)
	}
	input, err := json.Marshal(map[string]any{
		"publishableKey": token.PublishableKey(host),
		"secretKey":      "sk_live_x",
		"jwtKey":         pem,
		"apiUrl":         serveKeys(t, m.Keys),
		"cases":          cases,
	})
	if err != nil {
		t.Fatal(err)
	}
	output := nodetest.Run(t, "tokens.mjs", input)
	var results map[string]nodeResult
	if err := json.Unmarshal(output, &results); err != nil {
		t.Fatalf("tokens.mjs printed %s: %v", output, err)
	}
	return results
}
