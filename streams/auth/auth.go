package auth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Defaults of [Options].
const (
	DefaultLeeway       = 5 * time.Second
	DefaultMaxTokenLife = 10 * time.Minute
	DefaultCacheSize    = 16_384
)

// DefaultAPIURL is Clerk's Backend API.
const DefaultAPIURL = "https://api.clerk.com"

// Options of a [Verifier]. The zero value of each but Instances is its default.
type Options struct {
	Instances []Instance // at least one; a token is of the one that issued it
	// Leeway is by how much clocks may differ.
	Leeway time.Duration
	// MaxTokenLife is the longest life, from iat to exp, of what is still taken for
	// a session token. Clerk's live a minute.
	MaxTokenLife time.Duration
	// CacheSize is about how many verified tokens are remembered until they
	// expire, at 1 to 3 kB each; negative: none.
	CacheSize int
	// Revoked is asked about each token that is valid, remembered or not; an error
	// refuses it, and is what Verify returns. Let it be an [*Error]. It is called
	// for each request, by many goroutines at once.
	Revoked func(*Claims) error
	// HTTPClient fetches key sets, within 5 s each.
	HTTPClient *http.Client
	Clock      func() time.Time // for tests
}

// Instance is one Clerk instance. Its keys are, by the first that is given:
// JWTKey, JWKSURL, the Backend API's with SecretKey, those at the issuer.
type Instance struct {
	Name string // for [Claims.Instance]; any
	// PublishableKey (pk_live_…) says the issuer, and the cookies' suffix.
	PublishableKey string
	// Issuer is iss, https://clerk.example.com; "": from the publishable key. Where
	// neither is given the keys alone decide; that needs one of the other sources
	// of keys, and a single instance.
	Issuer string
	// JWTKey is the public key, PEM, from Clerk's dashboard: no network is needed,
	// but a rotation needs a restart. A backslash and an n may stand for a line
	// break.
	JWTKey  string
	JWKSURL string
	// SecretKey (sk_live_…) fetches the keys from the Backend API at APIURL, which
	// is without /v1; "" is DefaultAPIURL.
	SecretKey, APIURL string
	// AuthorizedParties are the origins, https://app.example.com, that tokens may
	// be made for (azp); none: all.
	AuthorizedParties []string
	// AllowNoParty accepts, beside AuthorizedParties, tokens without azp: those of
	// some top-level navigations have none.
	AllowNoParty bool
}

// instance is an Instance that is ready.
type instance struct {
	name, issuer, suffix string // suffix of cookies' names; "": none known
	parties              []string
	allowNoParty         bool
	source               keySource
}

// Verifier verifies session tokens. Safe for concurrent use.
type Verifier struct {
	instances []*instance
	leeway    time.Duration
	maxLife   time.Duration
	revoked   func(*Claims) error
	clock     func() time.Time
	verified  *cache[*Claims] // nil: nothing is remembered
}

// New makes a Verifier. It fetches nothing: keys come with the first token.
func New(o Options) (*Verifier, error) {
	if len(o.Instances) == 0 {
		return nil, errors.New("auth: no instance: give Options.Instances one, with its PublishableKey")
	}
	if o.Leeway < 0 || o.MaxTokenLife < 0 {
		return nil, errors.New("auth: Leeway and MaxTokenLife can't be negative")
	}
	v := &Verifier{leeway: orDefault(o.Leeway, DefaultLeeway), maxLife: orDefault(o.MaxTokenLife, DefaultMaxTokenLife), revoked: o.Revoked, clock: o.Clock}
	if v.clock == nil {
		v.clock = time.Now
	}
	if o.HTTPClient == nil {
		o.HTTPClient = http.DefaultClient
	}
	if o.CacheSize >= 0 {
		v.verified = newCache[*Claims](orDefault(o.CacheSize, DefaultCacheSize))
	}
	for i, given := range o.Instances {
		in, err := given.ready(o.HTTPClient, v.clock)
		if err != nil {
			return nil, fmt.Errorf("auth: instance %d (%q): %w", i+1, given.Name, err)
		}
		same := func(other *instance) bool { return other.issuer == in.issuer }
		if slices.ContainsFunc(v.instances, same) || in.issuer == "" && len(o.Instances) > 1 {
			return nil, fmt.Errorf("auth: instance %d (%q): of several instances each needs an issuer of its own: give its PublishableKey or Issuer", i+1, given.Name)
		}
		v.instances = append(v.instances, in)
	}
	return v, nil
}

func orDefault[T comparable](value, otherwise T) T {
	var zero T
	if value == zero {
		return otherwise
	}
	return value
}

// Close ends a fetch of keys in progress, and waits for it.
func (v *Verifier) Close() {
	for _, in := range v.instances {
		in.source.close()
	}
}

func (given Instance) ready(client *http.Client, clock func() time.Time) (*instance, error) {
	in := &instance{name: given.Name, issuer: strings.TrimRight(given.Issuer, "/"), parties: given.AuthorizedParties, allowNoParty: given.AllowNoParty}
	if given.PublishableKey != "" {
		host, err := frontendHost(given.PublishableKey)
		if err != nil {
			return nil, err
		}
		in.suffix = cookieSuffix(given.PublishableKey)
		if in.issuer == "" {
			in.issuer = "https://" + host
		}
	}
	for _, party := range given.AuthorizedParties {
		if u, err := url.Parse(party); err != nil || u.Scheme == "" || u.Host == "" || u.Path != "" {
			return nil, fmt.Errorf("authorized party %q is no origin: https://app.example.com, without a path", party)
		}
	}
	var err error
	in.source, err = given.keys(in.issuer, client, clock)
	return in, err
}

func (given Instance) keys(issuer string, client *http.Client, clock func() time.Time) (keySource, error) {
	jwksURL, bearer := given.JWKSURL, ""
	switch {
	case given.JWTKey != "":
		key, err := readPEM(given.JWTKey)
		if err != nil {
			return nil, fmt.Errorf("read JWTKey: %w", err)
		}
		return fixedKey{key}, nil
	case jwksURL != "":
	case given.SecretKey != "":
		jwksURL, bearer = strings.TrimRight(orDefault(given.APIURL, DefaultAPIURL), "/")+"/v1/jwks", given.SecretKey
	case issuer != "":
		jwksURL = issuer + "/.well-known/jwks.json"
	default:
		return nil, errors.New("no keys: give PublishableKey, Issuer, JWTKey, JWKSURL or SecretKey")
	}
	if err := checkURL(jwksURL); err != nil {
		return nil, err
	}
	return newKeySet(jwksURL, bearer, jose.RS256, client, clock), nil
}

func checkURL(text string) error {
	if u, err := url.Parse(text); err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
		return fmt.Errorf("keys can't be fetched from %q: not a URL with http or https", text)
	}
	return nil
}

// Verify returns what a session token says, or why it is refused: an [*Error],
// the error of Options.Revoked, or that of ctx, which bounds waiting for keys.
func (v *Verifier) Verify(ctx context.Context, token string) (*Claims, error) {
	claims, err := v.remembered(ctx, token)
	if err == nil && v.revoked != nil {
		err = v.revoked(claims)
	}
	if err != nil {
		return nil, err
	}
	return claims, nil
}

func (v *Verifier) remembered(ctx context.Context, token string) (*Claims, error) {
	if v.verified == nil || len(token) > maxToken {
		return v.check(ctx, token)
	}
	hash := hashOf(token)
	if claims, ok := v.verified.get(hash, v.clock()); ok {
		return claims, nil
	}
	claims, err := v.check(ctx, token)
	if err == nil {
		v.verified.put(hash, claims, claims.Expires.Add(v.leeway))
	}
	return claims, err
}

func (v *Verifier) check(ctx context.Context, token string) (*Claims, error) {
	s, err := parse(token, jose.RS256)
	if err != nil {
		return nil, err
	}
	if err := s.isSession(); err != nil {
		return nil, err
	}
	p, err := readPayload(s.text)
	if err != nil {
		return nil, err
	}
	in := v.issuedBy(p.Issuer)
	if in == nil {
		return nil, refuse(CodeTokenInvalidIssuer, "the token is of a Clerk instance that isn't configured here")
	}
	if err := s.verify(ctx, in.source); err != nil {
		return nil, err
	}
	if err := v.checkClaims(p, in); err != nil {
		return nil, err
	}
	return p.claims(in, s.text)
}

func (v *Verifier) issuedBy(issuer string) *instance {
	for _, in := range v.instances {
		if in.issuer == issuer || in.issuer == "" {
			return in
		}
	}
	return nil
}

// The header cat of the tokens that may be a session's.
const (
	categorySession = "cl_B7d4PD111AAA"
	categoryIgnored = "cl_I7d4PD111III"
)

// isSession looks at the header: of a session token typ is JWT or absent, and cat
// the session's or absent.
func (s *signed) isSession() error {
	if s.category != nil && s.category != categorySession && s.category != categoryIgnored {
		return refuse(CodeTokenType, "the token is of another class than a session's (cat)")
	}
	switch s.typ {
	case "JWT", "":
		return nil
	case "at+jwt", "application/at+jwt":
		return refuse(CodeTokenType, "the token is an OAuth client's, not a session's (typ)")
	}
	return refuse(CodeTokenInvalid, "the token's header has another typ than JWT")
}

// checkClaims is about a token that its instance has signed.
func (v *Verifier) checkClaims(p *payload, in *instance) error {
	switch {
	case p.Subject == nil || *p.Subject == "":
		return refuse(CodeTokenClaims, "the token names no user (sub)")
	case strings.HasPrefix(*p.Subject, "mch_"):
		return refuse(CodeTokenType, "the token is a machine's, not a session's")
	case p.SessionID == "":
		return refuse(CodeTokenClaims, "the token names no session (sid): not a session token")
	case !p.timesAreSound():
		return refuse(CodeTokenClaims, "the token's times (iat, nbf, exp) are absent, or no Unix seconds")
	case !in.forUs(p.AuthorizedParty):
		return refuse(CodeTokenInvalidParty, "the token was made for another origin (azp) than the authorized parties")
	}
	now := v.clock()
	issued, expires := unix(*p.IssuedAt), unix(*p.Expires)
	switch {
	case !now.Before(expires.Add(v.leeway)):
		return refuse(CodeTokenExpired, "the token has expired")
	case p.NotBefore != nil && unix(*p.NotBefore).After(now.Add(v.leeway)):
		return refuse(CodeTokenNotActiveYet, "the token isn't valid yet (nbf): do the clocks agree?")
	case issued.After(now.Add(v.leeway)):
		return refuse(CodeTokenIssuedInTheFuture, "the token is issued in the future (iat): do the clocks agree?")
	case expires.Sub(issued) > v.maxLife:
		return refuse(CodeTokenLivesTooLong, "the token lives longer than a session token")
	case p.Status == "pending":
		return refuse(CodeSessionPending, "the session is pending: the user has a task to complete first")
	}
	return nil
}

func (in *instance) forUs(party string) bool {
	return len(in.parties) == 0 || party == "" && in.allowNoParty || slices.Contains(in.parties, party)
}
