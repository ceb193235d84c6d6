// Package identity signs the tokens with which the gateway tells services who a
// request is from, and publishes the keys that verify them.
//
// Gateways that share a seed agree on the keys without talking: the key of a
// day is derived from the seed and the day. The next day's is published before
// its day begins, so that it is in every cache when it first signs:
//
//	published  ─────────╴day n╶─────────┬─5 min─┐
//	                       ┌─15 min─────┴╴day n+1╶───
package identity

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/rollcall-dev/rollcall/streams/auth"
)

const (
	period = 24 * time.Hour
	// ahead is longer than verifiers keep a key set, and than clocks differ.
	ahead = 15 * time.Minute
	// after is longer than the last token of a key lives.
	after = 5 * time.Minute
	// cacheLife is for verifiers that heed Cache-Control.
	cacheLife = 5 * time.Minute
)

// MinSeed is the length of the shortest seed, in bytes.
const MinSeed = 32

// Issuer signs identity tokens. Safe for concurrent use.
type Issuer struct {
	seed    []byte
	clock   func() time.Time
	current atomic.Pointer[key]
}

// key is that of one period.
type key struct {
	period  int64
	id      string
	private ed25519.PrivateKey
	header  string // of the tokens it signs, with the dot
}

// New makes an Issuer of a secret that gateways share. Any bytes will do that
// nobody can guess; what is shorter than MinSeed is refused.
func New(seed []byte, clock func() time.Time) (*Issuer, error) {
	if len(seed) < MinSeed {
		return nil, fmt.Errorf("the identity seed has %d bytes, and needs %d: make one with openssl rand -base64 32", len(seed), MinSeed)
	}
	return &Issuer{seed: seed, clock: clock}, nil
}

// Sign makes the identity token of id for audience, valid for a minute from now.
func (i *Issuer) Sign(id auth.Identity, audience string) (string, error) {
	if id.UserID == "" || audience == "" {
		return "", fmt.Errorf("an identity token needs a user (%q) and an audience (%q)", id.UserID, audience)
	}
	now := i.clock()
	k, err := i.key(now)
	if err != nil {
		return "", err
	}
	id.Audience, id.IssuedAt, id.Expires = audience, now, now.Truncate(time.Second).Add(auth.IdentityLife)
	payload, err := json.Marshal(id)
	if err != nil {
		return "", fmt.Errorf("write an identity: %w", err)
	}
	signed := k.header + base64.RawURLEncoding.EncodeToString(payload)
	return signed + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(k.private, []byte(signed))), nil
}

// JWKS is the set of the keys that sign now, have signed just now, or will soon.
func (i *Issuer) JWKS() ([]byte, error) {
	now := i.clock()
	set := jose.JSONWebKeySet{}
	for n := periodOf(now.Add(-after)); n <= periodOf(now.Add(ahead)); n++ {
		k, err := i.derive(n)
		if err != nil {
			return nil, err
		}
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: k.private.Public(), KeyID: k.id, Algorithm: string(jose.EdDSA), Use: "sig"})
	}
	body, err := json.Marshal(set)
	if err != nil {
		return nil, fmt.Errorf("write the key set: %w", err)
	}
	return body, nil
}

// ServeHTTP answers with the key set: at auth.IdentityJWKSPath.
func (i *Issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		auth.WriteError(w, &auth.Error{Code: "method-not-allowed", Message: "the key set can only be read", Status: http.StatusMethodNotAllowed})
		return
	}
	body, err := i.JWKS()
	if err != nil {
		auth.WriteError(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/jwk-set+json")
	w.Header().Set("Cache-Control", "public, max-age="+strconv.Itoa(int(cacheLife.Seconds())))
	_, _ = w.Write(body) // the client may be gone
}

// key is the one that signs at a time.
func (i *Issuer) key(now time.Time) (*key, error) {
	n := periodOf(now)
	if k := i.current.Load(); k != nil && k.period == n {
		return k, nil
	}
	k, err := i.derive(n)
	if err == nil {
		i.current.Store(k)
	}
	return k, err
}

func periodOf(t time.Time) int64 { return t.Unix() / int64(period/time.Second) }

func (i *Issuer) derive(n int64) (*key, error) {
	seed, err := hkdf.Key(sha256.New, i.seed, nil, "rollcall identity key, period "+strconv.FormatInt(n, 10), ed25519.SeedSize)
	if err != nil {
		return nil, fmt.Errorf("derive an identity key: %w", err)
	}
	k := &key{period: n, private: ed25519.NewKeyFromSeed(seed)}
	// Gateways with different seeds must not use one id for two keys.
	sum := sha256.Sum256(k.private.Public().(ed25519.PublicKey))
	k.id = strconv.FormatInt(n, 10) + "-" + base64.RawURLEncoding.EncodeToString(sum[:6])
	header, err := json.Marshal(map[string]string{"alg": string(jose.EdDSA), "kid": k.id, "typ": auth.IdentityType})
	if err != nil {
		return nil, fmt.Errorf("write a token's header: %w", err)
	}
	k.header = base64.RawURLEncoding.EncodeToString(header) + "."
	return k, nil
}
