package token

import (
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// The classes of tokens that Clerk marks in the header's cat.
const (
	categorySession  = "cl_B7d4PD111AAA"
	categoryTemplate = "cl_B7d4PD222AAA"
	categoryMachine  = "cl_B7d4PD333AAA"
	categoryUnknown  = "cl_X0d0XX000XXX" // no class of Clerk's
)

// A Flaw is one thing wrong with a token.
type Flaw string

// The flaws. Each leaves all else as it should be.
const (
	NoFlaw        Flaw = ""
	WrongKey      Flaw = "wrong_key"      // signed by a key of nobody's, under the right kid
	UnknownKID    Flaw = "unknown_kid"    // the right key under a kid that no set holds
	BadSignature  Flaw = "bad_signature"  // a bit of the signature flipped
	AlgNone       Flaw = "alg_none"       // alg none, no signature
	AlgHS256      Flaw = "alg_hs256"      // HMAC with the public key's PEM as the secret
	WrongCategory Flaw = "wrong_category" // a cat that Clerk doesn't have
	WrongIssuer   Flaw = "wrong_issuer"   // another instance's iss
)

// Flaws are all of them, for people to choose from.
func Flaws() []Flaw {
	return []Flaw{WrongKey, UnknownKID, BadSignature, AlgNone, AlgHS256, WrongCategory, WrongIssuer}
}

// Options are what any token may have.
type Options struct {
	// IssuedAt is iat; zero is now.
	IssuedAt time.Time
	// NotBefore is nbf; zero is ten seconds before IssuedAt, as Clerk has it.
	NotBefore time.Time
	// Lifetime is from iat to exp; 0 is the class's own.
	Lifetime time.Duration
	// OriginIssuedAt is oiat in the header; zero leaves it out.
	OriginIssuedAt time.Time
	// Claims are added, in place of claims of the same name; nil takes one away.
	Claims map[string]any
	Flaw   Flaw
}

// Minter makes the tokens of one instance. Safe for concurrent use.
type Minter struct {
	Keys   *Keys
	Issuer string
	Clock  func() time.Time
}

// TemplateClaims are of a token made from a JWT template. Of the template itself
// a token shows its claims only: put them into Options.Claims.
type TemplateClaims struct {
	Options
	UserID          string
	AuthorizedParty string // azp; "" leaves it out
}

// MachineClaims are of a machine's token.
type MachineClaims struct {
	Options
	MachineID string   // mch_…
	Scopes    []string // the machines it may talk to
}

// Template makes a token of a JWT template. It lives for a minute.
func (m *Minter) Template(c TemplateClaims) (string, error) {
	claims := m.registered(c.Options, c.UserID, time.Minute)
	claims["jti"] = rand.Text()
	put(claims, "azp", c.AuthorizedParty)
	return m.mint(categoryTemplate, claims, c.Options)
}

// Machine makes a machine's token. It lives for an hour.
func (m *Minter) Machine(c MachineClaims) (string, error) {
	claims := m.registered(c.Options, c.MachineID, time.Hour)
	claims["jti"] = "mt_" + rand.Text()
	if len(c.Scopes) > 0 {
		claims["aud"] = c.Scopes
	}
	return m.mint(categoryMachine, claims, c.Options)
}

// registered are the claims that every class has.
func (m *Minter) registered(o Options, subject string, lifetime time.Duration) map[string]any {
	iat := o.IssuedAt
	if iat.IsZero() {
		iat = m.Clock()
	}
	nbf := o.NotBefore
	if nbf.IsZero() {
		nbf = iat.Add(-10 * time.Second)
	}
	if o.Lifetime != 0 {
		lifetime = o.Lifetime
	}
	return map[string]any{"iss": m.Issuer, "sub": subject, "iat": iat.Unix(), "nbf": nbf.Unix(), "exp": iat.Add(lifetime).Unix()}
}

func put(claims map[string]any, name, value string) {
	if value != "" {
		claims[name] = value
	}
}

// mint signs the claims, with the flaw that was asked for.
func (m *Minter) mint(category string, claims map[string]any, o Options) (string, error) {
	for name, value := range o.Claims {
		if value == nil {
			delete(claims, name)
		} else {
			claims[name] = value
		}
	}
	signer := m.Keys.current()
	header := map[string]any{"alg": "RS256", "typ": "JWT", "kid": signer.kid, "cat": category}
	if !o.OriginIssuedAt.IsZero() {
		header["oiat"] = o.OriginIssuedAt.Unix()
	}
	switch o.Flaw {
	case WrongCategory:
		header["cat"] = categoryUnknown
	case WrongIssuer:
		claims["iss"] = "https://clerk.another-instance.example"
	case UnknownKID:
		header["kid"] = "ins_unknown"
	case AlgNone:
		header["alg"] = "none"
	case AlgHS256:
		header["alg"] = "HS256"
	default:
		if o.Flaw != NoFlaw && !slices.Contains(Flaws(), o.Flaw) {
			return "", fmt.Errorf("no flaw is called %q: there are %q", o.Flaw, Flaws())
		}
	}
	signed, err := signingInput(header, claims)
	if err != nil {
		return "", err
	}
	signature, err := m.sign(signer.private, signed, o.Flaw)
	if err != nil {
		return "", fmt.Errorf("sign the token: %w", err)
	}
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature), nil
}

func signingInput(header, claims map[string]any) (string, error) {
	h, err := json.Marshal(header)
	if err != nil {
		return "", fmt.Errorf("write the token's header: %w", err)
	}
	c, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("write the token's claims: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(h) + "." + base64.RawURLEncoding.EncodeToString(c), nil
}

func (m *Minter) sign(private *rsa.PrivateKey, signed string, flaw Flaw) ([]byte, error) {
	switch flaw {
	case AlgNone:
		return nil, nil
	case AlgHS256:
		secret, err := m.Keys.PublicPEM()
		if err != nil {
			return nil, err
		}
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write([]byte(signed))
		return mac.Sum(nil), nil
	case WrongKey:
		var err error
		if private, err = m.Keys.stranger(); err != nil {
			return nil, err
		}
	}
	digest := sha256.Sum256([]byte(signed))
	signature, err := rsa.SignPKCS1v15(rand.Reader, private, crypto.SHA256, digest[:])
	if err == nil && flaw == BadSignature {
		signature[len(signature)/2] ^= 1
	}
	return signature, err
}
