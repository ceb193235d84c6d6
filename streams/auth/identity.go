package auth

import (
	"context"
	stdjson "encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"
)

// Headers that the gateway sets on what it lets through, and takes out of what
// clients send. Absent where there is nothing to say, but for the platform.
const (
	HeaderUserID         = "X-Clerk-User-Id"
	HeaderSessionID      = "X-Clerk-Session-Id"
	HeaderOrgID          = "X-Clerk-Org-Id"
	HeaderOrgSlug        = "X-Clerk-Org-Slug"
	HeaderOrgRole        = "X-Clerk-Org-Role"        // org:admin
	HeaderOrgPermissions = "X-Clerk-Org-Permissions" // org:invoices:read,…
	HeaderActorID        = "X-Clerk-Actor-Id"        // who impersonates the user
	HeaderPlatform       = "X-Clerk-Platform"        // unknown where the token doesn't say
	HeaderIdentity       = "X-Rollcall-Identity"     // an identity token: all of these, signed
)

// What identity tokens have in common, and where their keys are.
const (
	IdentityIssuer   = "rollcall"
	IdentityType     = "rollcall-identity+jwt" // typ, so that nothing else passes for one
	IdentityLife     = time.Minute
	IdentityJWKSPath = "/.well-known/rollcall-jwks.json"
)

// Identity is who a request is from, as the gateway found. Its JSON is the
// payload of an identity token.
type Identity struct {
	UserID       string
	SessionID    string
	Organization Organization // the active one; the zero value: none
	ActorID      string       // who impersonates the user; "": nobody
	Platform     string
	Audience     string // the service that it is for
	IssuedAt     time.Time
	Expires      time.Time
}

// Identity is the one that the claims prove, without times and audience.
func (c *Claims) Identity() Identity {
	return Identity{UserID: c.UserID, SessionID: c.SessionID, Organization: c.Organization, ActorID: c.ActorID, Platform: c.Platform}
}

type identityPayload struct {
	Issuer      string         `json:"iss"`
	Audience    string         `json:"aud"`
	UserID      string         `json:"sub"`
	SessionID   string         `json:"sid,omitempty"`
	OrgID       string         `json:"org_id,omitempty"`
	OrgSlug     string         `json:"org_slug,omitempty"`
	OrgRole     string         `json:"org_role,omitempty"`
	Permissions []string       `json:"org_permissions,omitempty"`
	Actor       *identityActor `json:"act,omitempty"`
	Platform    string         `json:"platform,omitempty"`
	IssuedAt    int64          `json:"iat"`
	Expires     int64          `json:"exp"`
}

type identityActor struct {
	ID string `json:"sub"`
}

// MarshalJSON writes the payload of an identity token.
func (id Identity) MarshalJSON() ([]byte, error) {
	o := id.Organization
	p := identityPayload{
		Issuer: IdentityIssuer, Audience: id.Audience, UserID: id.UserID, SessionID: id.SessionID,
		OrgID: o.ID, OrgSlug: o.Slug, OrgRole: o.Role, Permissions: o.Permissions,
		Platform: id.Platform, IssuedAt: id.IssuedAt.Unix(), Expires: id.Expires.Unix(),
	}
	if id.ActorID != "" {
		p.Actor = &identityActor{id.ActorID}
	}
	return stdjson.Marshal(p)
}

// UnmarshalJSON reads the payload of an identity token, and nothing else.
func (id *Identity) UnmarshalJSON(text []byte) error {
	var p identityPayload
	if err := json.Unmarshal(text, &p); err != nil {
		return fmt.Errorf("auth: read an identity: %w", err)
	}
	if p.Issuer != IdentityIssuer || p.UserID == "" || p.Audience == "" || p.Expires == 0 {
		return errors.New("auth: read an identity: iss, sub, aud or exp is absent, or of another token")
	}
	*id = Identity{
		UserID: p.UserID, SessionID: p.SessionID, Platform: p.Platform, Audience: p.Audience,
		Organization: Organization{ID: p.OrgID, Slug: p.OrgSlug, Role: p.OrgRole, Permissions: p.Permissions},
		IssuedAt:     time.Unix(p.IssuedAt, 0), Expires: time.Unix(p.Expires, 0),
	}
	if p.Actor != nil {
		id.ActorID = p.Actor.ID
	}
	return nil
}

// IdentityOptions of an [IdentityVerifier].
type IdentityOptions struct {
	JWKSURL    string        // the gateway's address with [IdentityJWKSPath]
	Audience   string        // this service, as the gateway's route has it; tokens for others are refused
	Leeway     time.Duration // by how much clocks may differ; 0: [DefaultLeeway]
	CacheSize  int           // as in [Options]
	HTTPClient *http.Client
	Clock      func() time.Time // for tests
}

// IdentityVerifier verifies identity tokens. Safe for concurrent use.
type IdentityVerifier struct {
	audience string
	leeway   time.Duration
	source   keySource
	clock    func() time.Time
	verified *cache[*Identity]
}

// NewIdentityVerifier makes one. It fetches nothing: keys come with the first
// token.
func NewIdentityVerifier(o IdentityOptions) (*IdentityVerifier, error) {
	if o.Audience == "" {
		return nil, errors.New("auth: an identity verifier needs an audience: a token for another service must not open this one")
	}
	if err := checkURL(o.JWKSURL); err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.HTTPClient == nil {
		o.HTTPClient = http.DefaultClient
	}
	v := &IdentityVerifier{
		audience: o.Audience, leeway: orDefault(o.Leeway, DefaultLeeway), clock: o.Clock,
		source: newKeySet(o.JWKSURL, "", jose.EdDSA, o.HTTPClient, o.Clock),
	}
	if o.CacheSize >= 0 {
		v.verified = newCache[*Identity](orDefault(o.CacheSize, DefaultCacheSize))
	}
	return v, nil
}

// Close ends a fetch of keys in progress, and waits for it.
func (v *IdentityVerifier) Close() { v.source.close() }

// Verify returns what an identity token says, or why it is refused: an [*Error]
// or the error of ctx, which bounds waiting for keys. The result may be shared:
// don't change it.
func (v *IdentityVerifier) Verify(ctx context.Context, token string) (*Identity, error) {
	if v.verified == nil || len(token) > maxToken {
		return v.check(ctx, token)
	}
	hash := hashOf(token)
	if id, ok := v.verified.get(hash, v.clock()); ok {
		return id, nil
	}
	id, err := v.check(ctx, token)
	if err == nil {
		v.verified.put(hash, id, id.Expires.Add(v.leeway))
	}
	return id, err
}

func (v *IdentityVerifier) check(ctx context.Context, token string) (*Identity, error) {
	s, err := parse(token, jose.EdDSA)
	if err != nil {
		return nil, err
	}
	if s.typ != IdentityType {
		return nil, refuse(CodeTokenType, "the token is no identity token (typ)")
	}
	if err := s.verify(ctx, v.source); err != nil {
		return nil, err
	}
	var id Identity
	if err := id.UnmarshalJSON(s.text); err != nil {
		return nil, refuse(CodeTokenClaims, "the identity token's claims can't be read")
	}
	now := v.clock()
	switch {
	case id.Audience != v.audience:
		return nil, refuse(CodeTokenInvalidAudience, "the identity token is for another service (aud)")
	case !now.Before(id.Expires.Add(v.leeway)):
		return nil, refuse(CodeTokenExpired, "the identity token has expired")
	case id.IssuedAt.After(now.Add(v.leeway)):
		return nil, refuse(CodeTokenIssuedInTheFuture, "the identity token is issued in the future (iat): do the clocks agree?")
	case id.Expires.Sub(id.IssuedAt) > IdentityLife:
		return nil, refuse(CodeTokenLivesTooLong, "the identity token lives longer than a minute")
	}
	return &id, nil
}

// VerifyRequest verifies the identity token of a request that came through the
// gateway.
func (v *IdentityVerifier) VerifyRequest(r *http.Request) (*Identity, error) {
	switch tokens := r.Header[HeaderIdentity]; len(tokens) {
	case 0:
		return nil, refuse(CodeTokenMissing, "no "+HeaderIdentity+" header: the request didn't come through the gateway")
	case 1:
		return v.Verify(r.Context(), tokens[0])
	}
	return nil, &Error{Code: CodeAuthorizationTwice, Status: http.StatusBadRequest, Message: "more than one " + HeaderIdentity + " header: which one counts isn't clear"}
}

type identityKey struct{}

// IdentityFromContext returns who the request is from, false outside of
// [IdentityMiddleware].
func IdentityFromContext(ctx context.Context) (*Identity, bool) {
	id, ok := ctx.Value(identityKey{}).(*Identity)
	return id, ok
}

// IdentityMiddleware lets requests through that carry an identity token for this
// service, with the identity in the context; others get the answer of
// [WriteError].
func IdentityMiddleware(v *IdentityVerifier) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			id, err := v.VerifyRequest(r)
			if err != nil {
				WriteError(w, err)
				return
			}
			next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), identityKey{}, id)))
		})
	}
}
