package auth

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"strings"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"
)

// maxToken is the longest token that is looked at, in bytes. Clerk's fit into a
// cookie, 4 kB.
const maxToken = 16 << 10

// signed is a compact JWS that nothing is known of but that it can be read.
type signed struct {
	algorithm jose.SignatureAlgorithm
	kid, typ  string
	category  any    // the header cat; nil: none
	text      []byte // the payload
	message   string // that is signed
	signature []byte
}

// header is what is looked at of a token's.
type header struct {
	Algorithm string          `json:"alg"`
	KeyID     string          `json:"kid"`
	Type      *string         `json:"typ"`
	Category  any             `json:"cat"`
	Critical  json.RawMessage `json:"crit"`
	Key       json.RawMessage `json:"jwk"`
}

// parse reads a token. One spelling only: a library that reads around a
// character that base64 doesn't have would let many texts be one token.
func parse(token string, algorithm jose.SignatureAlgorithm) (*signed, error) {
	if len(token) > maxToken {
		return nil, refuse(CodeTokenInvalid, "the token is longer than any of Clerk's")
	}
	first, rest, _ := strings.Cut(token, ".")
	second, third, three := strings.Cut(rest, ".")
	if !three || strings.ContainsAny(token, "\r\n") || strings.Contains(third, ".") {
		if isOpaque(token) {
			return nil, refuse(CodeTokenType, "the token is a machine's or an API key, not a session's")
		}
		return nil, notJWT()
	}
	var parts [3][]byte
	for i, part := range []string{first, second, third} {
		var err error
		if parts[i], err = base64.RawURLEncoding.DecodeString(part); err != nil {
			return nil, notJWT()
		}
	}
	var h header
	if err := json.Unmarshal(parts[0], &h); err != nil {
		return nil, refuse(CodeTokenInvalid, "the token's header is no JSON object, or names one thing twice")
	}
	switch {
	case h.Algorithm != string(algorithm):
		return nil, refuse(CodeTokenInvalidAlgorithm, "the token is signed with another algorithm than "+string(algorithm))
	case h.Key != nil:
		return nil, refuse(CodeTokenInvalid, "the token's header brings a key of its own (jwk)")
	case h.Critical != nil:
		return nil, refuse(CodeTokenInvalid, "the token's header asks for what Clerk doesn't use (crit)")
	}
	s := &signed{algorithm: algorithm, kid: h.KeyID, category: h.Category, text: parts[1], message: token[:len(first)+1+len(second)], signature: parts[2]}
	if h.Type != nil {
		s.typ = *h.Type
	}
	return s, nil
}

func notJWT() error {
	return refuse(CodeTokenInvalid, "the token is no JWT: three parts of base64url, separated by dots")
}

// isOpaque knows the tokens of Clerk's that are no JWTs.
func isOpaque(token string) bool {
	for _, prefix := range []string{"ak_", "mt_", "oat_"} {
		if strings.HasPrefix(token, prefix) {
			return true
		}
	}
	return false
}

// verify checks the signature, once more with newer keys where these don't fit.
func (s *signed) verify(ctx context.Context, source keySource) error {
	for range 2 {
		keys, version, err := source.keys(ctx, s.kid)
		if err != nil {
			return err
		}
		for _, key := range keys {
			if s.signedBy(key) {
				return nil
			}
		}
		if !source.newer(ctx, version) {
			break
		}
	}
	return refuse(CodeTokenInvalidSignature, "the token isn't signed by the key that it names")
}

// signedBy takes keys that fit the algorithm.
func (s *signed) signedBy(key crypto.PublicKey) bool {
	switch k := key.(type) {
	case *rsa.PublicKey:
		digest := sha256.Sum256([]byte(s.message))
		return s.algorithm == jose.RS256 && rsa.VerifyPKCS1v15(k, crypto.SHA256, digest[:], s.signature) == nil
	case ed25519.PublicKey:
		return s.algorithm == jose.EdDSA && ed25519.Verify(k, []byte(s.message), s.signature)
	}
	return false
}

// fits reports whether a key is for the algorithm, and a public one.
func fits(key crypto.PublicKey, algorithm jose.SignatureAlgorithm) bool {
	switch k := key.(type) {
	case *rsa.PublicKey:
		return algorithm == jose.RS256 && k.N.BitLen() >= minRSABits
	case ed25519.PublicKey:
		return algorithm == jose.EdDSA
	}
	return false
}
