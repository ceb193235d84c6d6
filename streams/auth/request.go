package auth

import (
	"crypto/sha1" //nolint:gosec // Clerk's cookie names are made with it
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4/json"
)

const (
	sessionCookie = "__session"
	clientCookie  = "__client_uat"
)

// VerifyRequest verifies the session token of a request: that of its
// Authorization header, else that of its cookies. Beside what Verify refuses,
// it refuses two Authorization headers, one session cookie with two values, and
// a cookie's token that __client_uat, where the browser sent it, says is of
// before the last sign-in or sign-out.
func (v *Verifier) VerifyRequest(r *http.Request) (*Claims, error) {
	token, err := bearer(r.Header)
	if err != nil {
		return nil, err
	}
	if token != "" {
		return v.Verify(r.Context(), token)
	}
	cookies, err := v.cookies(r)
	if err != nil {
		return nil, err
	}
	if cookies.session == "" {
		return nil, refuse(CodeTokenMissing, "no session token: send it as Authorization: Bearer, or in Clerk's cookie __session")
	}
	claims, err := v.Verify(r.Context(), cookies.session)
	if err == nil {
		err = cookies.agree(claims.IssuedAt)
	}
	if err != nil {
		return nil, err
	}
	return claims, nil
}

// bearer is the token of the header; "" where there is none, or the header is of
// another scheme. A token without a scheme counts, as in Clerk's libraries.
func bearer(h http.Header) (string, error) {
	switch values := h["Authorization"]; len(values) {
	case 0:
		return "", nil
	case 1:
		scheme, token, two := strings.Cut(strings.TrimSpace(values[0]), " ")
		switch {
		case strings.EqualFold(scheme, "Bearer") && two:
			return strings.TrimSpace(token), nil
		case two:
			return "", nil
		}
		return scheme, nil
	}
	return "", &Error{Code: CodeAuthorizationTwice, Status: http.StatusBadRequest, Message: "more than one Authorization header: which one counts isn't clear"}
}

// cookiePair is a session with the browser's account of when its sessions last
// changed, in Unix seconds, "0" for signed out; "" where it didn't send it.
type cookiePair struct{ session, client string }

// agree holds the token's time against the browser's account. Without one, as on
// another host, the token's life bounds how late a sign-out is noticed.
func (c cookiePair) agree(issued time.Time) error {
	if c.client == "" {
		return nil
	}
	changed, err := strconv.ParseInt(c.client, 10, 64)
	switch {
	case err != nil || changed <= 0:
		return refuse(CodeSessionSignedOut, "the browser is signed out (__client_uat)")
	case issued.Unix() < changed:
		return refuse(CodeSessionStale, "the token is older than the browser's last sign-in or sign-out (__client_uat)")
	}
	return nil
}

// cookies are the pair that counts. Clerk sets each pair twice: with a suffix
// that keeps instances on one domain apart, and without.
func (v *Verifier) cookies(r *http.Request) (cookiePair, error) {
	if len(r.Header["Cookie"]) == 0 {
		return cookiePair{}, nil
	}
	all := r.Cookies()
	shared, err := pairOf(all, "")
	if err != nil {
		return cookiePair{}, err
	}
	for _, in := range v.instances {
		if in.suffix == "" {
			continue
		}
		own, err := pairOf(all, "_"+in.suffix)
		if err != nil {
			return cookiePair{}, err
		}
		if own.session != "" && in.prefers(own, shared) {
			return own, nil
		}
	}
	return shared, nil
}

func pairOf(all []*http.Cookie, suffix string) (pair cookiePair, err error) {
	for _, c := range all {
		switch c.Name {
		case sessionCookie + suffix:
			// A second one is set for a wider domain: by another application there,
			// or by somebody who wants this user to be signed in as another.
			if pair.session != "" && c.Value != pair.session {
				return pair, &Error{Code: CodeCookieTwice, Status: http.StatusBadRequest, Message: "the cookie " + c.Name + " comes with two values: which one counts isn't clear"}
			}
			pair.session = c.Value
		case clientCookie + suffix:
			if pair.client == "" {
				pair.client = c.Value
			}
		}
	}
	return pair, nil
}

// prefers reports whether the instance's own pair wins over the shared one, which
// older versions of Clerk's libraries write alone: it loses to a shared session of
// this instance that is newer, or that is signed in while the own isn't.
func (in *instance) prefers(own, shared cookiePair) bool {
	if shared.session == "" {
		return true
	}
	issuer, issued, ok := peek(shared.session)
	if !ok || issuer != in.issuer {
		return ok
	}
	_, ownIssued, _ := peek(own.session)
	switch {
	case own.client == "":
		return false
	case own.client == "0":
		return shared.client == "0"
	case shared.client == "0":
		return true
	}
	return issued <= ownIssued
}

// peek reads a token that nobody has verified: only to choose between two.
func peek(token string) (issuer string, issuedAt float64, ok bool) {
	_, rest, _ := strings.Cut(token, ".")
	encoded, _, three := strings.Cut(rest, ".")
	if !three || len(token) > maxToken {
		return "", 0, false
	}
	text, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil {
		return "", 0, false
	}
	var claims struct {
		Issuer   string  `json:"iss"`
		IssuedAt float64 `json:"iat"`
	}
	if json.Unmarshal(text, &claims) != nil || claims.Issuer == "" {
		return "", 0, false
	}
	return claims.Issuer, claims.IssuedAt, true
}

// frontendHost is the host of the Frontend API that a publishable key holds:
// pk_live_ or pk_test_, then base64 of the host and a $.
func frontendHost(publishableKey string) (string, error) {
	encoded, live := strings.CutPrefix(publishableKey, "pk_live_")
	if !live {
		var test bool
		if encoded, test = strings.CutPrefix(publishableKey, "pk_test_"); !test {
			return "", errors.New("the publishable key starts with neither pk_live_ nor pk_test_")
		}
	}
	text, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(encoded, "="))
	if err != nil {
		return "", fmt.Errorf("read the publishable key: %w", err)
	}
	host, ok := strings.CutSuffix(string(text), "$")
	if !ok || host == "" || strings.ContainsAny(host, "/?#@ ") {
		return "", errors.New("the publishable key holds no host: copy the whole key")
	}
	return host, nil
}

func cookieSuffix(publishableKey string) string {
	sum := sha1.Sum([]byte(publishableKey)) //nolint:gosec // no secret: tells instances apart
	return base64.URLEncoding.EncodeToString(sum[:])[:8]
}
