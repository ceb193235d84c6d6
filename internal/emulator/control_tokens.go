package emulator

import (
	"net/http"
	"time"

	"github.com/rollcall-dev/rollcall/internal/emulator/state"
	"github.com/rollcall-dev/rollcall/internal/emulator/token"
)

// tokenParams is what POST /_emu/tokens takes. Times are Unix milliseconds.
type tokenParams struct {
	UserID string `json:"user_id"`
	// SessionID is the token's sid; without it the user's newest session, or, where
	// there is none, a new one. With it, the user need not exist.
	SessionID string `json:"session_id"`
	// OrganizationID is the active one. The user's role and its permissions are
	// those of the membership, but for what Role and Permissions say.
	OrganizationID string   `json:"organization_id"`
	Role           string   `json:"role"`
	Permissions    []string `json:"permissions"`

	Version  int            `json:"version"` // 1 or 2 (default)
	Features []string       `json:"features"`
	Plans    []string       `json:"plans"`
	AZP      string         `json:"azp"`
	Act      map[string]any `json:"act"`
	STS      string         `json:"sts"`
	FVA      *[2]int        `json:"fva"`
	Claims   map[string]any `json:"claims"` // added; null takes one away

	Template  string   `json:"template"`   // makes a template's token, whose claims are Claims
	MachineID string   `json:"machine_id"` // makes a machine's token
	Scopes    []string `json:"scopes"`

	IssuedAt    int64      `json:"issued_at"`
	NotBefore   int64      `json:"not_before"`
	LifetimeMS  int64      `json:"lifetime_ms"`
	Expired     bool       `json:"expired"`       // a minute ago
	NotYetValid bool       `json:"not_yet_valid"` // in ten minutes
	Flaw        token.Flaw `json:"flaw"`

	Cookies bool `json:"cookies"`
}

// tokenAnswer is what it answers.
type tokenAnswer struct {
	JWT       string            `json:"jwt"`
	SessionID string            `json:"session_id,omitempty"`
	Cookies   map[string]string `json:"cookies,omitempty"`
}

func makeToken(c *call) (any, error) {
	p, err := decode[tokenParams](c)
	if err != nil {
		return nil, err
	}
	now := c.server.o.Clock()
	o := p.options(now)
	var a tokenAnswer
	switch {
	case p.MachineID != "":
		a.JWT, err = c.instance.minter.Machine(token.MachineClaims{Options: o, MachineID: p.MachineID, Scopes: p.Scopes})
	case p.UserID == "":
		return nil, state.Missing("user_id")
	case p.Template != "":
		a.JWT, err = c.instance.minter.Template(token.TemplateClaims{Options: o, UserID: p.UserID, AuthorizedParty: p.AZP})
	default:
		a, err = c.instance.token(p, o)
	}
	if err != nil || !p.Cookies {
		return a, err
	}
	// A client that changed after the token was made would make it stale.
	cookies := token.Cookies(c.instance.PublishableKey, a.JWT, now.Add(-time.Hour))
	return a.with(cookies), nil
}

// options are those that any class of token has.
func (p *tokenParams) options(now time.Time) token.Options {
	o := token.Options{Lifetime: time.Duration(p.LifetimeMS) * time.Millisecond, Claims: p.Claims, Flaw: p.Flaw}
	if p.IssuedAt != 0 {
		o.IssuedAt = time.UnixMilli(p.IssuedAt)
	}
	if p.NotBefore != 0 {
		o.NotBefore = time.UnixMilli(p.NotBefore)
	}
	switch {
	case p.Expired:
		o.IssuedAt, o.Lifetime = now.Add(-2*time.Minute), time.Minute
	case p.NotYetValid:
		o.NotBefore, o.Lifetime = now.Add(10*time.Minute), time.Hour
	}
	return o
}

// token makes a session token for what the state says of the user.
func (i *instance) token(p tokenParams, o token.Options) (a tokenAnswer, err error) {
	claims := token.SessionClaims{
		Options: o, Version: p.Version, UserID: p.UserID, SessionID: p.SessionID, Features: p.Features, Plans: p.Plans,
		AuthorizedParty: p.AZP, FactorAges: p.FVA, Status: p.STS, Actor: p.Act,
	}
	if claims.Organization, err = i.activeOrganization(p); err != nil {
		return a, err
	}
	if claims.SessionID == "" {
		if claims.SessionID, err = i.anySession(p.UserID, p.OrganizationID); err != nil {
			return a, err
		}
	}
	a.SessionID = claims.SessionID
	a.JWT, err = i.minter.Session(claims)
	return a, err
}

func (i *instance) activeOrganization(p tokenParams) (*token.Organization, error) {
	if p.OrganizationID == "" {
		return nil, nil
	}
	o := i.membershipClaims(p.OrganizationID, p.UserID)
	if o == nil && p.Role == "" {
		return nil, refuse(http.StatusNotFound, "resource_not_found",
			"user "+p.UserID+" is no member of organization "+p.OrganizationID+"; role makes a token all the same")
	}
	if o == nil {
		o = &token.Organization{ID: p.OrganizationID}
		if known := i.Organization(p.OrganizationID); known != nil {
			o.Slug = known.Slug
		}
	}
	if p.Role != "" {
		o.Role, o.Permissions = p.Role, i.PermissionsOfRole(p.Role)
	}
	if p.Permissions != nil {
		o.Permissions = p.Permissions
	}
	return o, nil
}

// anySession is the user's newest session that is live, else a new one.
func (i *instance) anySession(userID, orgID string) (id string, err error) {
	sessions := i.SessionsOfUser(userID)
	for n := len(sessions) - 1; n >= 0; n-- {
		if sessions[n].Status == state.SessionActive {
			return sessions[n].ID, nil
		}
	}
	if i.Membership(orgID, userID) == nil {
		orgID = ""
	}
	s, err := i.CreateSession(state.Request{UserAgent: "clerkemu"}, state.SessionParams{UserID: userID, ActiveOrganizationID: orgID})
	if err != nil {
		return "", err
	}
	return s.ID, nil
}

// with adds the cookies: to the answer, and for a browser to its headers.
func (a tokenAnswer) with(cookies []*http.Cookie) respond {
	a.Cookies = map[string]string{}
	for _, cookie := range cookies {
		a.Cookies[cookie.Name] = cookie.Value
	}
	return func(w http.ResponseWriter, _ *http.Request) {
		for _, cookie := range cookies {
			http.SetCookie(w, cookie)
		}
		writeJSON(w, http.StatusOK, a)
	}
}

// keepRetired is how long a retired key stays in the key set.
const keepRetired = time.Hour

func rotateKeys(c *call) (any, error) {
	p, err := decode[struct {
		NewKID bool `json:"new_kid"`
	}](c)
	if err != nil {
		return nil, err
	}
	pem := ""
	if err = c.instance.keys.Rotate(p.NewKID, keepRetired); err == nil {
		pem, err = c.instance.keys.PublicPEM()
	}
	if err != nil {
		return nil, c.server.internal("rotate the keys", err)
	}
	return map[string]string{"kid": c.instance.keys.KID(), "public_key": pem}, nil
}
