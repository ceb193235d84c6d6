package auth

import (
	"encoding/json"
	"errors"
	"net/http"
)

// Code names a reason for refusing. Where Clerk's libraries have a name for the
// reason, it is theirs.
type Code string

// Codes of tokens that are refused (401), of requests that could mean two things
// (400), and of keys that can't be had (503).
const (
	CodeTokenMissing           Code = "session-token-missing"               // neither header nor cookie has one
	CodeTokenInvalid           Code = "token-invalid"                       // no JWT, or one that reads in two ways
	CodeTokenInvalidAlgorithm  Code = "token-invalid-algorithm"             // signed otherwise than RS256 (identity: EdDSA)
	CodeTokenInvalidSignature  Code = "token-invalid-signature"             // not signed by the key that it names
	CodeTokenInvalidIssuer     Code = "token-invalid-issuer"                // of an instance that isn't among ours
	CodeTokenInvalidParty      Code = "token-invalid-authorized-parties"    // made for another origin (azp)
	CodeTokenInvalidAudience   Code = "token-invalid-audience"              // an identity token for another service
	CodeTokenExpired           Code = "token-expired"                       // exp has passed
	CodeTokenNotActiveYet      Code = "token-not-active-yet"                // nbf is to come
	CodeTokenIssuedInTheFuture Code = "token-iat-in-the-future"             // iat is to come
	CodeTokenLivesTooLong      Code = "token-life-too-long"                 // from iat to exp is more than a session token's life
	CodeTokenClaims            Code = "token-verification-failed"           // a claim is absent or of another type
	CodeTokenType              Code = "token-type-mismatch"                 // of a template, a machine, an OAuth client, an API key
	CodeSessionPending         Code = "session-pending"                     // signed in, but with tasks to complete: counts as signed out
	CodeSessionSignedOut       Code = "session-token-but-no-client-uat"     // the browser's other cookie says signed out
	CodeSessionStale           Code = "session-token-iat-before-client-uat" // the browser's sessions changed after the token was made
	CodeKeyUnknown             Code = "jwk-kid-mismatch"                    // no key of that id is published
	CodeKeysUnavailable        Code = "jwk-remote-failed-to-load"           // there are no keys, and they can't be fetched
	CodeAuthorizationTwice     Code = "authorization-ambiguous"             // more than one Authorization header
	CodeCookieTwice            Code = "session-cookie-ambiguous"            // one session cookie with two values
)

// Codes of requirements that a session doesn't meet (403).
const (
	CodeOrganizationRequired   Code = "organization-required"
	CodeRoleRequired           Code = "role-required"
	CodePermissionRequired     Code = "permission-required"
	CodeFeatureRequired        Code = "feature-required"
	CodePlanRequired           Code = "plan-required"
	CodeReverificationRequired Code = "reverification-error"
)

// Error is a refusal. Its message is for people and holds no part of a token.
type Error struct {
	Code    Code
	Message string
	Status  int   // of the HTTP answer: 400, 401, 403 or 503
	Err     error // the cause; nil where there is none
	// Reverification is what the session lacks, where the code says so.
	Reverification *Reverification
}

func (e *Error) Error() string {
	if e.Err == nil {
		return "auth: " + e.Message
	}
	return "auth: " + e.Message + ": " + e.Err.Error()
}

func (e *Error) Unwrap() error { return e.Err }

// CodeOf is the code of an error of this package, "" of any other.
func CodeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

func refuse(code Code, message string) *Error {
	return &Error{Code: code, Message: message, Status: http.StatusUnauthorized}
}

func lacking(code Code, message string) *Error {
	return &Error{Code: code, Message: message, Status: http.StatusForbidden}
}

// WriteError answers a request that err refuses: {"errors":[{"code","message"}]}
// with the error's status, 500 for an error that isn't an [*Error]. What the
// session lacks of a reverification is told as Clerk's front-end libraries read
// it, too.
func WriteError(w http.ResponseWriter, err error) {
	e := &Error{Code: "internal-error", Message: "the request could not be checked", Status: http.StatusInternalServerError}
	errors.As(err, &e)
	type entry struct {
		Code    Code   `json:"code"`
		Message string `json:"message"`
	}
	body := struct {
		Errors     []entry    `json:"errors"`
		ClerkError *clerkHint `json:"clerk_error,omitempty"`
	}{Errors: []entry{{e.Code, e.Message}}}
	if e.Reverification != nil {
		body.ClerkError = hint(*e.Reverification)
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	switch e.Status {
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", "Bearer")
	case http.StatusServiceUnavailable:
		h.Set("Retry-After", "5")
	}
	w.WriteHeader(e.Status)
	_ = json.NewEncoder(w).Encode(body) // the client may be gone
}

// clerkHint is how a server tells Clerk's useReverification that the user has to
// verify again.
type clerkHint struct {
	Type     string `json:"type"`
	Reason   Code   `json:"reason"`
	Metadata struct {
		Reverification struct {
			Level        string `json:"level"`
			AfterMinutes int    `json:"afterMinutes"`
		} `json:"reverification"`
	} `json:"metadata"`
}

func hint(r Reverification) *clerkHint {
	h := &clerkHint{Type: "forbidden", Reason: CodeReverificationRequired}
	h.Metadata.Reverification.Level = r.Level
	h.Metadata.Reverification.AfterMinutes = int(r.After.Minutes())
	return h
}
