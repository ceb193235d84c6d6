package auth_test

import (
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/rollcall-dev/rollcall/internal/emulator/token"
	"github.com/rollcall-dev/rollcall/streams/auth"
)

// naive reads permissions by the letter of Clerk's documentation: mask i is of
// feature i of all, bit j, lowest first, is action j.
func naive(fea, per, fpm string) []string {
	var out []string
	features, actions, masks := strings.Split(fea, ","), strings.Split(per, ","), strings.Split(fpm, ",")
	for i := 0; i < len(features) && i < len(masks); i++ {
		parts := strings.SplitN(features[i], ":", 2)
		if len(parts) != 2 || parts[1] == "" || !slices.Contains([]string{"o", "ou", "uo"}, parts[0]) {
			continue
		}
		n, digits := new(big.Int), masks[i] != ""
		for _, c := range masks[i] {
			digits = digits && c >= '0' && c <= '9'
			n.Add(n.Mul(n, big.NewInt(10)), big.NewInt(int64(c-'0')))
		}
		for j := 0; digits && j < len(actions) && n.Sign() > 0; j++ {
			var bit big.Int
			if n.DivMod(n, big.NewInt(2), &bit); bit.Sign() > 0 && actions[j] != "" {
				out = append(out, "org:"+parts[1]+":"+actions[j])
			}
		}
	}
	return out
}

func TestDocumentedPermissions(t *testing.T) {
	t.Parallel()
	want := []string{"org:dashboard:manage", "org:dashboard:read", "org:teams:read"}
	if got := naive("o:dashboard,o:teams", "manage,read", "3,2"); !slices.Equal(got, want) {
		t.Fatalf("the naive reading has %q", got)
	}
}

// The verifier's reading is the naive one, whatever a token has.
func FuzzPermissions(f *testing.F) {
	m := newMinter(f, newWatch().now)
	v := verifier(f, m, func(o *auth.Options) { o.CacheSize = -1 })
	f.Add("o:dashboard,o:teams", "manage,read", "3,2")
	f.Add("u:a,o:b,uo:c,x:d,o:,e", "r,,w", "7,7,7,7,7,7,7")
	f.Add("o:a", strings.Repeat("x,", 70)+"y", new(big.Int).Lsh(big.NewInt(3), 69).String())
	f.Add("o:a,o:b", "r", "-1,0x1")
	f.Add("o:a,o:b,o:c,o:d", "r,w", ",1_1,18446744073709551617,00000000000000000000000000001")
	f.Fuzz(func(t *testing.T, fea, per, fpm string) {
		if strings.ContainsFunc(fea+per+fpm, func(c rune) bool { return c <= ' ' || c > '~' }) || len(fea+per+fpm) > 4000 {
			t.Skip("Clerk's names are ASCII without spaces")
		}
		text := sign(t, m, goodHeader, claims(t, m, map[string]any{"fea": fea, "o": map[string]any{"id": "org_1", "per": per, "fpm": fpm}}))
		c := must[*auth.Claims](t)(v.Verify(t.Context(), text))
		if want := naive(fea, per, fpm); !slices.Equal(c.Organization.Permissions, want) {
			t.Errorf("read %q, naively %q", c.Organization.Permissions, want)
		}
	})
}

// What the emulator was asked to put into a token comes out.
func TestManyPermissions(t *testing.T) {
	t.Parallel()
	m := newMinter(t, newWatch().now)
	v := verifier(t, m, nil)
	var asked []string
	for i := range 70 {
		asked = append(asked, fmt.Sprintf("org:f%02d:a%02d", i, i), fmt.Sprintf("org:f%02d:a%02d", i, (i+7)%70))
	}
	slices.Sort(asked)
	text := mint(t, m, func(c *token.SessionClaims) {
		c.Organization.Permissions = asked
		c.Features = []string{"o:f00", "u:mine", "ou:f01"}
	})
	got := must[*auth.Claims](t)(v.Verify(t.Context(), text)).Organization.Permissions
	if slices.Sort(got); !slices.Equal(got, asked) {
		t.Errorf("read %q", got)
	}
}

func TestScoped(t *testing.T) {
	t.Parallel()
	s := auth.Scoped{Organization: []string{"pro"}, User: []string{"free"}}
	for name, want := range map[string]bool{
		"pro": true, "free": true, "org:pro": true, "o:pro": true, "organization:pro": true, "user:free": true, "u:free": true,
		"user:pro": false, "org:free": false, "": false, "x:pro": false, "org:": false, "none": false,
	} {
		if s.Has(name) != want {
			t.Errorf("Has(%q) is %t", name, !want)
		}
	}
}

// What Verify accepts was signed by the key; what panics fails the test.
func FuzzVerify(f *testing.F) {
	m := newMinter(f, newWatch().now)
	v := verifier(f, m, nil)
	genuine := []string{mint(f, m, nil), mint(f, m, func(c *token.SessionClaims) { c.Version = 1 }), sign(f, m, goodHeader, claims(f, m, nil))}
	for _, text := range genuine {
		f.Add(text)
	}
	for _, flaw := range token.Flaws() {
		f.Add(mint(f, m, flawed(flaw)))
	}
	f.Add(sign(f, m, `{"alg":"RS256","typ":"JWT","crit":["b64"],"b64":false}`, `[[[[`))
	f.Add("e30.e30.e30")
	f.Add("..")
	pub := public(f, m)
	f.Fuzz(func(t *testing.T, text string) {
		c, err := v.Verify(t.Context(), text)
		if err != nil {
			if auth.CodeOf(err) == "" || c != nil {
				t.Errorf("%v with %v", err, c)
			}
			return
		}
		if !signedBy(pub, text) || c.UserID == "" || !json.Valid(c.Payload) {
			t.Errorf("accepted %q", text)
		}
	})
}
