// Package token makes what a Clerk instance signs: session tokens in both
// versions, template and machine tokens, the key set that verifies them, and
// the cookies of a signed-in browser. On demand it makes them wrong in the ways
// that a verifier has to notice.
//
// The claims are those of Clerk's documentation; its own libraries for Go and
// JavaScript read them in the tests.
package token

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"sync"
	"time"
)

const keyBits = 2048

// SigningKey is a private key as a saved state holds it.
type SigningKey struct {
	KID string `json:"kid"`
	PEM string `json:"pem"` // PKCS #8 or PKCS #1
	// Until is when a retired key leaves the key set, in Unix milliseconds. 0: it
	// doesn't.
	Until int64 `json:"until,omitempty"`
}

// Keys are the signing keys of one instance: one that signs, and retired ones
// that are still published. Safe for concurrent use.
type Keys struct {
	clock    func() time.Time
	stranger func() (*rsa.PrivateKey, error) // a key that no set has ever held

	mu   sync.RWMutex
	keys []key // the one that signs first
}

type key struct {
	kid     string
	private *rsa.PrivateKey
	until   time.Time // zero: stays
}

// NewKeys makes a first key. Clerk's kid is the instance's id.
func NewKeys(kid string, clock func() time.Time) (*Keys, error) {
	private, err := generate()
	if err != nil {
		return nil, err
	}
	return newKeys([]key{{kid: kid, private: private}}, clock), nil
}

// LoadKeys takes the keys of a saved state; the first signs.
func LoadKeys(saved []SigningKey, clock func() time.Time) (*Keys, error) {
	if len(saved) == 0 {
		return nil, errors.New("no signing keys: an instance needs one")
	}
	keys := make([]key, len(saved))
	for i, s := range saved {
		private, err := parsePrivate(s.PEM)
		if err != nil {
			return nil, fmt.Errorf("read signing key %q: %w", s.KID, err)
		}
		keys[i] = key{kid: s.KID, private: private}
		if s.Until != 0 {
			keys[i].until = time.UnixMilli(s.Until)
		}
	}
	return newKeys(keys, clock), nil
}

func newKeys(keys []key, clock func() time.Time) *Keys {
	return &Keys{clock: clock, keys: keys, stranger: sync.OnceValues(generate)}
}

// Save is what LoadKeys takes.
func (k *Keys) Save() ([]SigningKey, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	saved := make([]SigningKey, len(k.keys))
	for i, key := range k.keys {
		der, err := x509.MarshalPKCS8PrivateKey(key.private)
		if err != nil {
			return nil, fmt.Errorf("write signing key %q: %w", key.kid, err)
		}
		saved[i] = SigningKey{KID: key.kid, PEM: encodePEM("PRIVATE KEY", der)}
		if !key.until.IsZero() {
			saved[i].Until = key.until.UnixMilli()
		}
	}
	return saved, nil
}

// Rotate replaces the key that signs. With newKID the retired key stays in the
// key set for keep; without, it goes at once: a set can't name two keys alike,
// and verifiers have to learn of the new one from a failed signature.
func (k *Keys) Rotate(newKID bool, keep time.Duration) error {
	private, err := generate()
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.clock()
	next := key{kid: k.keys[0].kid, private: private}
	retired := k.keys[1:]
	if newKID {
		next.kid = "ins_" + rand.Text()
		k.keys[0].until = now.Add(keep)
		retired = k.keys
	}
	keys := []key{next}
	for _, old := range retired {
		if old.published(now) {
			keys = append(keys, old)
		}
	}
	k.keys = keys
	return nil
}

func (k key) published(now time.Time) bool { return k.until.IsZero() || now.Before(k.until) }

// KID is the id of the key that signs.
func (k *Keys) KID() string { return k.current().kid }

// PublicPEM is the public key that verifies what is signed now: CLERK_JWT_KEY.
func (k *Keys) PublicPEM() (string, error) {
	der, err := x509.MarshalPKIXPublicKey(&k.current().private.PublicKey)
	if err != nil {
		return "", fmt.Errorf("write the public key: %w", err)
	}
	return encodePEM("PUBLIC KEY", der), nil
}

// JWKS is the JSON of the key set, as Clerk's /.well-known/jwks.json and
// /v1/jwks have it.
func (k *Keys) JWKS() ([]byte, error) {
	type jwk struct {
		Use string `json:"use"`
		Kty string `json:"kty"`
		Kid string `json:"kid"`
		Alg string `json:"alg"`
		N   string `json:"n"`
		E   string `json:"e"`
	}
	k.mu.RLock()
	defer k.mu.RUnlock()
	now := k.clock()
	set := struct {
		Keys []jwk `json:"keys"`
	}{}
	for _, key := range k.keys {
		if !key.published(now) {
			continue
		}
		public := key.private.PublicKey
		set.Keys = append(set.Keys, jwk{
			Use: "sig", Kty: "RSA", Kid: key.kid, Alg: "RS256",
			N: base64.RawURLEncoding.EncodeToString(public.N.Bytes()),
			E: base64.RawURLEncoding.EncodeToString(big.NewInt(int64(public.E)).Bytes()),
		})
	}
	body, err := json.Marshal(set)
	if err != nil {
		return nil, fmt.Errorf("write the key set: %w", err)
	}
	return body, nil
}

func (k *Keys) current() key {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.keys[0]
}

func generate() (*rsa.PrivateKey, error) {
	private, err := rsa.GenerateKey(rand.Reader, keyBits)
	if err != nil {
		return nil, fmt.Errorf("make a signing key: %w", err)
	}
	return private, nil
}

func parsePrivate(text string) (*rsa.PrivateKey, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, errors.New("not PEM")
	}
	if block.Type == "RSA PRIVATE KEY" {
		return x509.ParsePKCS1PrivateKey(block.Bytes)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("neither a PKCS #8 nor a PKCS #1 private key: %w", err)
	}
	private, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("a %T, and RS256 needs an RSA key", parsed)
	}
	return private, nil
}

func encodePEM(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}
