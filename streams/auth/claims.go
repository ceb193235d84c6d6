package auth

import (
	stdjson "encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	// Unlike the standard library's it refuses an object with one key twice, and
	// takes "SUB" for no "sub".
	"github.com/go-jose/go-jose/v4/json"
)

// Claims are what a session token says, the same for versions 1 and 2 of Clerk's
// claims. They may be shared between requests: don't change them.
type Claims struct {
	Instance     string // the name of the instance, as in [Instance]
	Issuer       string
	UserID       string       // user_…
	SessionID    string       // sess_…
	Organization Organization // the active one; the zero value: none
	// ActorID is who acts as the user (impersonation), "" for nobody known. Ask
	// Impersonated, and log it.
	ActorID  string
	Actor    stdjson.RawMessage // the claim act; nil: nobody
	Features Scoped             // of the plans of user and organization; version 2 only
	Plans    Scoped             // version 2 only
	// FactorAges are the minutes that had passed since the first and the second
	// factor were verified when the token was made, -1 for never; nil: unknown.
	FactorAges      *[2]int
	AuthorizedParty string // the origin that the token was made for; "": none
	Platform        string // platform of the claim metadata, [PlatformUnknown] without one
	TokenID         string // jti; "" in version 1
	Version         int    // of the claims, 1 or 2
	IssuedAt        time.Time
	Expires         time.Time
	Payload         stdjson.RawMessage // all claims, as signed
}

// Organization is the user's place in the active organization.
type Organization struct {
	ID          string // org_…
	Slug        string
	Role        string   // org:admin
	Permissions []string // org:invoices:read; Clerk's own, org:sys_…, are never in a token
}

// PlatformUnknown is the platform of a token that names none.
const PlatformUnknown = "unknown"

// Impersonated reports whether somebody else acts as the user.
func (c *Claims) Impersonated() bool { return c.Actor != nil }

// Decode reads the claims into v as encoding/json does: those that the
// instance's own customization of the session token adds.
func (c *Claims) Decode(v any) error {
	if err := stdjson.Unmarshal(c.Payload, v); err != nil {
		return fmt.Errorf("auth: read the claims: %w", err)
	}
	return nil
}

// payload is the token's JSON. What is optional and of free form stays raw: a
// customization that gives it another type must not lock everyone out.
type payload struct {
	Issuer          string          `json:"iss"`
	Subject         *string         `json:"sub"`
	SessionID       string          `json:"sid"`
	AuthorizedParty string          `json:"azp"`
	TokenID         string          `json:"jti"`
	IssuedAt        *float64        `json:"iat"`
	NotBefore       *float64        `json:"nbf"`
	Expires         *float64        `json:"exp"`
	Status          string          `json:"sts"`
	Version         *float64        `json:"v"`
	Actor           json.RawMessage `json:"act"`
	FactorAges      json.RawMessage `json:"fva"`
	Metadata        json.RawMessage `json:"metadata"`

	OrganizationID          string   `json:"org_id"`
	OrganizationSlug        string   `json:"org_slug"`
	OrganizationRole        string   `json:"org_role"`
	OrganizationPermissions []string `json:"org_permissions"`

	Plans        string `json:"pla"`
	Features     string `json:"fea"`
	Organization *struct {
		ID    string `json:"id"`
		Slug  string `json:"slg"`
		Role  string `json:"rol"`
		Names string `json:"per"`
		Masks string `json:"fpm"`
	} `json:"o"`
}

// readPayload decodes what nobody has vouched for yet.
func readPayload(text []byte) (*payload, error) {
	var p payload
	if err := json.Unmarshal(text, &p); err != nil {
		var wrong *json.UnmarshalTypeError
		if errors.As(err, &wrong) {
			return nil, refuse(CodeTokenClaims, "a claim of the token has the wrong type")
		}
		return nil, refuse(CodeTokenInvalid, "the token's claims are no JSON object, or name one claim twice")
	}
	return &p, nil
}

// claims normalizes both versions.
func (p *payload) claims(instance *instance, text []byte) (*Claims, error) {
	c := &Claims{
		Instance: instance.name, Issuer: p.Issuer, UserID: *p.Subject, SessionID: p.SessionID,
		AuthorizedParty: p.AuthorizedParty, TokenID: p.TokenID, Version: 1,
		IssuedAt: unix(*p.IssuedAt), Expires: unix(*p.Expires), Payload: text,
	}
	switch {
	case p.Version == nil || *p.Version == 1:
		c.Organization = Organization{
			ID: p.OrganizationID, Slug: p.OrganizationSlug, Role: withPrefix(p.OrganizationRole), Permissions: p.OrganizationPermissions,
		}
	case *p.Version == 2:
		c.Version = 2
		c.Features, c.Plans = scoped(p.Features), scoped(p.Plans)
		if o := p.Organization; o != nil {
			c.Organization = Organization{
				ID: o.ID, Slug: o.Slug, Role: withPrefix(o.Role), Permissions: permissions(p.Features, o.Names, o.Masks),
			}
		}
	default:
		return nil, refuse(CodeTokenClaims, fmt.Sprintf("claims of version %v are unknown: a newer Rollcall may read them", *p.Version))
	}
	if c.Organization.ID == "" {
		c.Organization = Organization{}
	}
	c.readActor(p.Actor)
	c.readFactorAges(p.FactorAges)
	c.readPlatform(p.Metadata)
	return c, nil
}

func (c *Claims) readActor(raw json.RawMessage) {
	if len(raw) == 0 || string(raw) == "null" {
		return
	}
	c.Actor = stdjson.RawMessage(raw)
	var actor struct {
		Subject string `json:"sub"`
	}
	if json.Unmarshal(raw, &actor) == nil {
		c.ActorID = actor.Subject
	}
}

// readFactorAges leaves out what no age can be, as Clerk's libraries do.
func (c *Claims) readFactorAges(raw json.RawMessage) {
	var ages []int
	if len(raw) > 0 && json.Unmarshal(raw, &ages) == nil && len(ages) == 2 && ages[0] >= -1 && ages[1] >= -1 {
		c.FactorAges = &[2]int{ages[0], ages[1]}
	}
}

func (c *Claims) readPlatform(raw json.RawMessage) {
	var metadata struct {
		Platform string `json:"platform"`
	}
	c.Platform = PlatformUnknown
	if len(raw) > 0 && json.Unmarshal(raw, &metadata) == nil && plain(metadata.Platform) {
		c.Platform = metadata.Platform
	}
}

const maxPlatform = 64

// plain reports whether a value that customers fill can stand in a header and
// in a metric.
func plain(s string) bool {
	for _, b := range []byte(s) {
		if (b < 'a' || b > 'z') && (b < 'A' || b > 'Z') && (b < '0' || b > '9') && !strings.ContainsRune("-_. ", rune(b)) {
			return false
		}
	}
	return s != "" && len(s) <= maxPlatform
}

// latest is about the year 5138, in Unix seconds: milliseconds are beyond it.
const latest = 1e11

func (p *payload) timesAreSound() bool {
	for _, t := range []*float64{p.IssuedAt, p.NotBefore, p.Expires} {
		if t != nil && (*t < 0 || *t > latest) {
			return false
		}
	}
	return p.IssuedAt != nil && p.Expires != nil
}

func unix(seconds float64) time.Time {
	whole, part := math.Modf(seconds)
	return time.Unix(int64(whole), int64(part*1e9))
}
