package auth

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

// maxToken is the longest token that is looked at, in bytes. Clerk's fit into a
// cookie, 4 kB.
const maxToken = 16 << 10

// signed is a compact JWS that nothing is known of but that it can be read.
type signed struct {
	jws      *jose.JSONWebSignature
	kid, typ string
	category any    // the header cat; nil: none
	text     []byte // the payload
}

// parse reads a token. One spelling only: a library that reads around a
// character that base64 doesn't have would let many texts be one token.
func parse(token string, algorithms []jose.SignatureAlgorithm) (*signed, error) {
	if len(token) > maxToken {
		return nil, refuse(CodeTokenInvalid, "the token is longer than any of Clerk's")
	}
	dots := 0
	for _, b := range []byte(token) {
		switch {
		case b == '.':
			dots++
		case b >= 'a' && b <= 'z', b >= 'A' && b <= 'Z', b >= '0' && b <= '9', b == '-', b == '_':
		default:
			dots = -maxToken
		}
	}
	if dots != 2 {
		if isOpaque(token) {
			return nil, refuse(CodeTokenType, "the token is a machine's or an API key, not a session's")
		}
		return nil, refuse(CodeTokenInvalid, "the token is no JWT: three parts of base64url, separated by dots")
	}
	jws, err := jose.ParseSignedCompact(token, algorithms)
	var algorithm *jose.ErrUnexpectedSignatureAlgorithm
	switch {
	case errors.As(err, &algorithm):
		return nil, refuse(CodeTokenInvalidAlgorithm, "the token is signed with another algorithm than "+string(algorithms[0]))
	case err != nil || len(jws.Signatures) != 1:
		return nil, refuse(CodeTokenInvalid, "the token can't be decoded")
	}
	header := jws.Signatures[0].Protected
	if _, critical := header.ExtraHeaders["crit"]; critical {
		return nil, refuse(CodeTokenInvalid, "the token's header asks for what Clerk doesn't use (crit)")
	}
	s := &signed{jws: jws, kid: header.KeyID, category: header.ExtraHeaders["cat"], text: jws.UnsafePayloadWithoutVerification()}
	if typ, ok := header.ExtraHeaders[jose.HeaderType]; ok {
		if s.typ, ok = typ.(string); !ok {
			return nil, refuse(CodeTokenInvalid, "the token's header has a typ that is no string")
		}
	}
	return s, nil
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
			if _, err := s.jws.Verify(key); err == nil {
				return nil
			}
		}
		if !source.newer(ctx, version) {
			break
		}
	}
	return refuse(CodeTokenInvalidSignature, "the token isn't signed by the key that it names")
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
