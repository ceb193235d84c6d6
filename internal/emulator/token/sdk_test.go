package token_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/clerk/clerk-sdk-go/v2"
	"github.com/clerk/clerk-sdk-go/v2/jwks"
	"github.com/clerk/clerk-sdk-go/v2/jwt"
	"pgregory.net/rapid"

	"github.com/rollcall-dev/rollcall/internal/emulator/token"
)

// sdk verifies with Clerk's library for Go, which fetches the keys each time.
func sdk(t *testing.T, keys *token.Keys) func(string) (*clerk.SessionClaims, error) {
	t.Helper()
	client := jwks.NewClient(&clerk.ClientConfig{BackendConfig: clerk.BackendConfig{
		HTTPClient: http.DefaultClient,
		URL:        clerk.String(serveKeys(t, keys) + "/v1"),
		Key:        clerk.String("sk_live_x"),
	}})
	return func(text string) (*clerk.SessionClaims, error) {
		return jwt.Verify(context.Background(), &jwt.VerifyParams{Token: text, JWKSClient: client})
	}
}

func TestGoSDKAccepts(t *testing.T) {
	t.Parallel()
	m := newMinter(t)
	verify := sdk(t, m.Keys)
	asked := []string{"org:dashboard:manage", "org:teams:read"}
	for _, version := range []int{1, 2} {
		c := session(append(asked, "org:sys_profile:manage")...)
		c.Version, c.AuthorizedParty, c.FactorAges = version, "https://app.example", &[2]int{3, -1}
		c.Actor = map[string]any{"sub": "user_2"}
		text, err := m.Session(c)
		if err != nil {
			t.Fatal(err)
		}
		got, err := verify(text)
		if err != nil {
			t.Fatalf("version %d: %v", version, err)
		}
		slices.Sort(got.ActiveOrganizationPermissions)
		said := fmt.Sprint(got.Version, got.Subject, got.SessionID, got.ActiveOrganizationID, got.ActiveOrganizationSlug, got.ActiveOrganizationRole,
			got.ActiveOrganizationPermissions, got.AuthorizedParty, got.FactorVerificationAge, string(got.Actor))
		want := fmt.Sprint(version, "user_1", "sess_1", "org_1", "acme", "org:admin", asked, "https://app.example", [2]int{3, -1}, `{"sub":"user_2"}`)
		if said != want {
			t.Errorf("got  %s\nwant %s", said, want)
		}
	}
}

// What was asked for is what the library reads, for any features and
// permissions. It keeps a mask in an int: up to 63 actions.
func TestGoSDKReadsPermissions(t *testing.T) {
	t.Parallel()
	m := newMinter(t)
	verify := sdk(t, m.Keys)
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringMatching(`[a-z_]{1,8}`)
		features := rapid.SliceOfNDistinct(name, 0, 90, rapid.ID).Draw(t, "features")
		actions := rapid.SliceOfNDistinct(name, 0, 63, rapid.ID).Draw(t, "actions")
		var scoped, asked []string
		for _, f := range features {
			if f == "sys_" || strings.HasPrefix(f, "sys_") {
				continue
			}
			if scope := rapid.SampledFrom([]string{"o", "u", "ou", "uo", ""}).Draw(t, "scope"); scope != "" {
				scoped = append(scoped, scope+":"+f)
			}
			for _, a := range actions {
				if rapid.IntRange(0, 9).Draw(t, "granted") == 0 {
					asked = append(asked, "org:"+f+":"+a)
				}
			}
		}
		c := session(asked...)
		c.Features = scoped
		text, err := m.Session(c)
		if err != nil {
			t.Fatal(err)
		}
		got, err := verify(text)
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(asked)
		slices.Sort(got.ActiveOrganizationPermissions)
		if !slices.Equal(asked, got.ActiveOrganizationPermissions) {
			t.Fatalf("asked for %q\nand read %q", asked, got.ActiveOrganizationPermissions)
		}
	})
}

func TestGoSDKRefuses(t *testing.T) {
	t.Parallel()
	m := newMinter(t)
	verify := sdk(t, m.Keys)
	now := time.Now()
	refused := map[string]token.Options{
		"expired":       {IssuedAt: now.Add(-time.Hour)},
		"not yet valid": {NotBefore: now.Add(time.Hour), Lifetime: 2 * time.Hour},
		"issued later":  {IssuedAt: now.Add(time.Hour)},
	}
	for _, flaw := range token.Flaws() {
		// Of an issuer it reads the beginning only, and the category not at all.
		if flaw != token.WrongCategory && flaw != token.WrongIssuer {
			refused[string(flaw)] = token.Options{Flaw: flaw}
		}
	}
	for name, o := range refused {
		text, err := m.Session(token.SessionClaims{UserID: "user_1", SessionID: "sess_1", Options: o})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := verify(text); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	long, err := m.Session(token.SessionClaims{UserID: "user_1", Options: token.Options{IssuedAt: now.Add(-time.Hour), Lifetime: 24 * time.Hour}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := verify(long); err != nil {
		t.Errorf("long-lived: %v", err)
	}
}

func TestGoSDKFollowsRotation(t *testing.T) {
	t.Parallel()
	m := newMinter(t)
	verify := sdk(t, m.Keys)
	mint := func() string {
		text, err := m.Session(session())
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	rotate := func(newKID bool, keep time.Duration) {
		if err := m.Keys.Rotate(newKID, keep); err != nil {
			t.Fatal(err)
		}
	}
	first := mint()
	rotate(true, time.Hour)
	if _, err := verify(first); err != nil {
		t.Errorf("a retired key that stays: %v", err)
	}
	second := mint()
	rotate(false, time.Hour)
	if _, err := verify(second); err == nil {
		t.Error("a token of the key that was replaced under its kid is accepted")
	}
	third := mint()
	rotate(true, 0)
	if _, err := verify(third); err == nil {
		t.Error("a token of a key that is gone is accepted")
	}
	if _, err := verify(mint()); err != nil {
		t.Error(err)
	}
}
