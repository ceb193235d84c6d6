package auth_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rollcall-dev/rollcall/internal/emulator/token"
	"github.com/rollcall-dev/rollcall/streams/auth"
)

func TestClaims(t *testing.T) {
	t.Parallel()
	m := newMinter(t, newWatch().now)
	v := verifier(t, m, func(o *auth.Options) { o.Instances[0].Name = "shop" })
	issued := time.Unix(m.Clock().Unix(), 0)
	for version := 1; version <= 2; version++ {
		text := mint(t, m, func(c *token.SessionClaims) {
			c.Version, c.FactorAges, c.Actor = version, &[2]int{3, -1}, map[string]any{"sub": "user_2"}
			c.Features, c.Plans = []string{"u:search", "ou:export", "o:invoices", "o:teams"}, []string{"u:free", "o:pro"}
			c.Claims = map[string]any{"metadata": map[string]any{"platform": "mobile"}, "tier": "gold", "jti": "one"}
		})
		got := must[*auth.Claims](t)(v.Verify(t.Context(), text))
		want := &auth.Claims{
			Instance: "shop", Issuer: "https://" + host, UserID: "user_1", SessionID: "sess_1",
			Organization: auth.Organization{ID: "org_1", Slug: "acme", Role: "org:admin", Permissions: []string{"org:invoices:manage", "org:invoices:read", "org:teams:read"}},
			ActorID:      "user_2", Actor: json.RawMessage(`{"sub":"user_2"}`), FactorAges: &[2]int{3, -1},
			AuthorizedParty: origin, Platform: "mobile", TokenID: "one", Version: version, IssuedAt: issued, Expires: issued.Add(time.Minute),
		}
		if version == 2 {
			want.Features = auth.Scoped{Organization: []string{"export", "invoices", "teams"}, User: []string{"search", "export"}}
			want.Plans = auth.Scoped{Organization: []string{"pro"}, User: []string{"free"}}
		}
		var custom struct{ Tier string }
		if err := got.Decode(&custom); err != nil || custom.Tier != "gold" {
			t.Errorf("custom claims %+v, %v", custom, err)
		}
		got.Payload = nil
		slices.Sort(got.Organization.Permissions)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("version %d (- want, + got):\n%s", version, diff)
		}
	}
}

// What customers may put into metadata, act and fva must neither lock out nor
// reach a header.
func TestClaimsOfAnyForm(t *testing.T) {
	t.Parallel()
	m := newMinter(t, newWatch().now)
	v := verifier(t, m, nil)
	for _, free := range []any{"text", 1, []any{}, nil, map[string]any{}, map[string]any{"platform": "a\r\nb"}, map[string]any{"platform": 7}, map[string]any{"sub": 5}} {
		text := sign(t, m, goodHeader, claims(t, m, map[string]any{"metadata": free, "fva": free, "act": free}))
		c, err := v.Verify(t.Context(), text)
		if err != nil || c.Platform != auth.PlatformUnknown || c.FactorAges != nil || c.ActorID != "" || c.Impersonated() != (free != nil) {
			t.Errorf("%v: %+v, %v", free, c, err)
		}
	}
}

// One thing wrong each.
func TestRefuses(t *testing.T) {
	t.Parallel()
	m := newMinter(t, newWatch().now)
	v := verifier(t, m, func(o *auth.Options) { o.Instances[0].AuthorizedParties = []string{"https://other.example", origin} })
	now := m.Clock().Unix()
	good := mint(t, m, nil)
	dot := strings.LastIndex(good, ".")
	body := claims(t, m, nil)
	with := func(name string, value any) string {
		return sign(t, m, goodHeader, claims(t, m, map[string]any{name: value}))
	}
	header := func(text string) string { return sign(t, m, text, body) }
	for name, c := range map[string]struct {
		token string
		code  auth.Code
	}{
		"good":                     {good, ""},
		"by hand":                  {sign(t, m, goodHeader, body), ""},
		"no cat":                   {header(`{"alg":"RS256","typ":"JWT","kid":"x"}`), ""},
		"cat to be ignored":        {header(`{"alg":"RS256","typ":"JWT","cat":"cl_I7d4PD111III","oiat":5}`), ""},
		"template's cat":           {header(`{"alg":"RS256","typ":"JWT","cat":"cl_B7d4PD222AAA"}`), auth.CodeTokenType},
		"machine's cat":            {header(`{"alg":"RS256","typ":"JWT","cat":"cl_B7d4PD333AAA"}`), auth.CodeTokenType},
		"cat of a number":          {header(`{"alg":"RS256","typ":"JWT","cat":1}`), auth.CodeTokenType},
		"OAuth":                    {header(`{"alg":"RS256","typ":"at+jwt"}`), auth.CodeTokenType},
		"no typ":                   {header(`{"alg":"RS256"}`), ""},
		"another typ":              {header(`{"alg":"RS256","typ":"jwt"}`), auth.CodeTokenInvalid},
		"typ of a number":          {header(`{"alg":"RS256","typ":1}`), auth.CodeTokenInvalid},
		"crit":                     {header(`{"alg":"RS256","typ":"JWT","crit":["b64"],"b64":true}`), auth.CodeTokenInvalid},
		"alg twice":                {header(`{"alg":"none","typ":"JWT","alg":"RS256"}`), auth.CodeTokenInvalid},
		"PS256":                    {header(`{"alg":"PS256","typ":"JWT"}`), auth.CodeTokenInvalidAlgorithm},
		"a key of its own":         {header(`{"alg":"RS256","typ":"JWT","jwk":{"kty":"oct","k":"AA"}}`), auth.CodeTokenInvalid},
		"sub twice":                {sign(t, m, goodHeader, body[:len(body)-1]+`,"sub":"user_2"}`), auth.CodeTokenInvalid},
		"o.id twice":               {sign(t, m, goodHeader, body[:len(body)-1]+`,"o":{"id":"org_1","id":"org_2"}}`), auth.CodeTokenInvalid},
		"SUB for sub":              {sign(t, m, goodHeader, strings.Replace(body, `"sub"`, `"SUB"`, 1)), auth.CodeTokenClaims},
		"claims of a list":         {sign(t, m, goodHeader, `[]`), auth.CodeTokenClaims},
		"no JSON":                  {sign(t, m, goodHeader, `{"iss"`), auth.CodeTokenInvalid},
		"no sub":                   {with("sub", nil), auth.CodeTokenClaims},
		"empty sub":                {with("sub", ""), auth.CodeTokenClaims},
		"sub of a number":          {with("sub", 1), auth.CodeTokenClaims},
		"machine's sub":            {with("sub", "mch_1"), auth.CodeTokenType},
		"no sid":                   {with("sid", nil), auth.CodeTokenClaims},
		"no iat":                   {with("iat", nil), auth.CodeTokenClaims},
		"no exp":                   {with("exp", nil), auth.CodeTokenClaims},
		"exp of text":              {with("exp", "1"), auth.CodeTokenClaims},
		"exp in milliseconds":      {with("exp", now*1000), auth.CodeTokenClaims},
		"exp for ever":             {with("exp", 1e300), auth.CodeTokenClaims},
		"no nbf":                   {with("nbf", nil), ""},
		"version 3":                {with("v", 3), auth.CodeTokenClaims},
		"pending":                  {with("sts", "pending"), auth.CodeSessionPending},
		"just expired":             {with("exp", now-4), ""},
		"expired":                  {with("exp", now-6), auth.CodeTokenExpired},
		"soon":                     {with("nbf", now+4), ""},
		"too soon":                 {with("nbf", now+7), auth.CodeTokenNotActiveYet},
		"fast clock":               {with("iat", now+4), ""},
		"too fast a clock":         {with("iat", now+7), auth.CodeTokenIssuedInTheFuture},
		"ten minutes":              {with("exp", now+600), ""},
		"longer":                   {with("exp", now+601), auth.CodeTokenLivesTooLong},
		"another origin":           {with("azp", "https://evil.example"), auth.CodeTokenInvalidParty},
		"no origin":                {with("azp", nil), auth.CodeTokenInvalidParty},
		"wrong issuer":             {with("iss", "https://clerk.other.example"), auth.CodeTokenInvalidIssuer},
		"no issuer":                {with("iss", nil), auth.CodeTokenInvalidIssuer},
		"100 kB":                   {with("pad", strings.Repeat("x", 100<<10)), auth.CodeTokenInvalid},
		"nothing":                  {"", auth.CodeTokenInvalid},
		"two parts":                {good[:dot], auth.CodeTokenInvalid},
		"four parts":               {good + ".", auth.CodeTokenInvalid},
		"no signature":             {good[:dot+1], auth.CodeTokenInvalidSignature},
		"padding":                  {good + "=", auth.CodeTokenInvalid},
		"line break":               {good[:dot+5] + "\n" + good[dot+5:], auth.CodeTokenInvalid},
		"broken base64":            {good[:dot+2], auth.CodeTokenInvalid},
		"another payload":          {good[:strings.Index(good, ".")] + sign(t, m, "", body)[:dot/4], auth.CodeTokenInvalid},
		"JWS as JSON":              {`{"payload":"e30","signatures":[]}`, auth.CodeTokenInvalid},
		"API key":                  {"ak_123", auth.CodeTokenType},
		"machine token":            {"mt_123", auth.CodeTokenType},
		"OAuth token":              {"oat_123", auth.CodeTokenType},
		string(token.WrongKey):     {mint(t, m, flawed(token.WrongKey)), auth.CodeTokenInvalidSignature},
		string(token.BadSignature): {mint(t, m, flawed(token.BadSignature)), auth.CodeTokenInvalidSignature},
		string(token.AlgNone):      {mint(t, m, flawed(token.AlgNone)), auth.CodeTokenInvalidAlgorithm},
		string(token.AlgHS256):     {mint(t, m, flawed(token.AlgHS256)), auth.CodeTokenInvalidAlgorithm},
		"template":                 {must[string](t)(m.Template(token.TemplateClaims{UserID: "user_1"})), auth.CodeTokenType},
		"machine":                  {must[string](t)(m.Machine(token.MachineClaims{MachineID: "mch_1"})), auth.CodeTokenType},
	} {
		_, err := v.Verify(t.Context(), c.token)
		code(t, name, err, c.code)
		var e *auth.Error
		if errors.As(err, &e) && (e.Status != http.StatusUnauthorized || len(c.token) > 20 && strings.Contains(e.Error(), c.token[:20])) {
			t.Errorf("%s: status %d, %v", name, e.Status, e)
		}
	}
}

func flawed(f token.Flaw) func(*token.SessionClaims) {
	return func(c *token.SessionClaims) { c.Flaw = f }
}

// A token is of the instance that issued it: neither's key opens the other.
func TestInstances(t *testing.T) {
	t.Parallel()
	clock := newWatch().now
	one := newMinter(t, clock)
	keys := must[*token.Keys](t)(token.NewKeys(instanceID, clock))
	two := &token.Minter{Keys: keys, Issuer: "https://clerk.two.example", Clock: clock}
	v := verifier(t, one, func(o *auth.Options) {
		o.Instances = append(o.Instances, auth.Instance{Name: "two", Issuer: two.Issuer, JWTKey: must[string](t)(keys.PublicPEM())})
	})
	if c := must[*auth.Claims](t)(v.Verify(t.Context(), mint(t, two, nil))); c.Instance != "two" {
		t.Errorf("of instance %q", c.Instance)
	}
	_, err := v.Verify(t.Context(), mint(t, one, nil))
	code(t, "the first", err, "")
	two.Issuer = one.Issuer
	_, err = v.Verify(t.Context(), mint(t, two, nil))
	code(t, "two's key, one's name", err, auth.CodeTokenInvalidSignature)
}

// A remembered token is refused once it has expired, and as soon as the hook
// says so.
func TestRemembered(t *testing.T) {
	t.Parallel()
	at := newWatch()
	m := newMinter(t, at.now)
	revoked := &auth.Error{Code: "session-revoked", Status: http.StatusUnauthorized, Message: "signed out"}
	var refusing error
	asked := 0
	v := verifier(t, m, func(o *auth.Options) {
		o.Revoked = func(c *auth.Claims) error {
			asked++
			if c.UserID != "user_1" {
				t.Errorf("asked about %q", c.UserID)
			}
			return refusing
		}
	})
	text := mint(t, m, nil)
	first := must[*auth.Claims](t)(v.Verify(t.Context(), text))
	if again := must[*auth.Claims](t)(v.Verify(t.Context(), text)); again != first || asked != 2 {
		t.Errorf("verified again, or the hook was asked %d times", asked)
	}
	refusing = revoked
	c, err := v.Verify(t.Context(), text)
	if code(t, "revoked", err, "session-revoked"); c != nil {
		t.Error("claims of a revoked token")
	}
	refusing = nil
	_, err = v.Verify(t.Context(), text)
	code(t, "lifted", err, "")
	at.forward(64 * time.Second) // the seconds of exp are whole
	_, err = v.Verify(t.Context(), text)
	code(t, "within the leeway", err, "")
	at.forward(time.Second)
	_, err = v.Verify(t.Context(), text)
	code(t, "remembered and expired", err, auth.CodeTokenExpired)
}

func TestOptions(t *testing.T) {
	t.Parallel()
	m := newMinter(t, newWatch().now)
	pem := must[string](t)(m.Keys.PublicPEM())
	for want, o := range map[string]auth.Options{
		"no instance":      {},
		"no keys":          {Instances: []auth.Instance{{}}},
		"neither pk_live_": {Instances: []auth.Instance{{PublishableKey: "sk_live_x"}}},
		"holds no host":    {Instances: []auth.Instance{{PublishableKey: "pk_live_Y2xlcms="}}},
		"read JWTKey":      {Instances: []auth.Instance{{JWTKey: "?"}}},
		"not a URL":        {Instances: []auth.Instance{{Issuer: "clerk.example.com"}}},
		"no origin":        {Instances: []auth.Instance{{JWTKey: pem, AuthorizedParties: []string{"https://app.example/"}}}},
		"of several":       {Instances: []auth.Instance{{JWTKey: pem}, {Issuer: "https://a.example"}}},
		`instance 2 ("b")`: {Instances: []auth.Instance{{Issuer: "https://a.example"}, {Name: "b", Issuer: "https://a.example/"}}},
		"negative":         {Instances: []auth.Instance{{JWTKey: pem}}, Leeway: -1},
	} {
		if _, err := auth.New(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	// As a line of an environment file, and without any issuer.
	v := must[*auth.Verifier](t)(auth.New(auth.Options{Instances: []auth.Instance{{JWTKey: strings.ReplaceAll(pem, "\n", `\n`)}}, Clock: m.Clock}))
	_, err := v.Verify(t.Context(), mint(t, m, nil))
	code(t, "the key alone", err, "")
}
