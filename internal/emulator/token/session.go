package token

import (
	"crypto/rand"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"
)

// SessionClaims are of a session token.
type SessionClaims struct {
	Options
	// Version is that of the claims, 1 or 2; 0 is 2.
	Version   int
	UserID    string
	SessionID string
	// Organization is the active one; nil where there is none.
	Organization *Organization
	// Features are those of the user's and the organization's plans, each after
	// its scope: "o:dashboard", "u:search", "ou:export". Version 2 only. They keep
	// their order; the organization's that its permissions need are added.
	//
	// The libraries for Go, Python, Ruby and Java count fpm over all features, the
	// one for JavaScript over the organization's only. All agree while the user's
	// come last.
	Features []string
	// Plans are pla, each after its scope: "u:free". Version 2 only.
	Plans []string
	// AuthorizedParty is azp, the origin of the application; "" leaves it out, as
	// in the cookie of a top-level navigation.
	AuthorizedParty string
	// FactorAges is fva, minutes since the first and the second factor, -1 for
	// never; nil is just now and never.
	FactorAges *[2]int
	// Status is sts: active or pending. "" is active, which version 1 doesn't say.
	Status string
	// Actor is act, who impersonates the user; nil leaves it out.
	Actor map[string]any
}

// Organization is a user's place in the active organization.
type Organization struct {
	ID, Slug string
	Role     string // org:admin
	// Permissions are keys, org:<feature>:<action>. Clerk's own, org:sys_…, are
	// never in a token; given here, they are left out.
	Permissions []string
}

// Session makes a session token. It lives for a minute.
func (m *Minter) Session(c SessionClaims) (string, error) {
	claims := m.registered(c.Options, c.UserID, time.Minute)
	claims["sid"] = c.SessionID
	claims["fva"] = [2]int{0, -1}
	if c.FactorAges != nil {
		claims["fva"] = *c.FactorAges
	}
	put(claims, "azp", c.AuthorizedParty)
	put(claims, "sts", c.Status)
	if c.Actor != nil {
		claims["act"] = c.Actor
	}
	switch c.Version {
	case 1:
		c.putVersion1(claims)
	case 0, 2:
		if err := c.putVersion2(claims); err != nil {
			return "", err
		}
	default:
		return "", fmt.Errorf("session tokens have version 1 or 2, not %d", c.Version)
	}
	return m.mint(categorySession, claims, c.Options)
}

func (c *SessionClaims) putVersion1(claims map[string]any) {
	if org := c.Organization; org != nil {
		claims["org_id"] = org.ID
		claims["org_slug"] = org.Slug
		claims["org_role"] = org.Role
		claims["org_permissions"] = org.custom()
	}
}

func (c *SessionClaims) putVersion2(claims map[string]any) error {
	claims["v"] = 2
	claims["jti"] = rand.Text()
	if c.Status == "" {
		claims["sts"] = "active"
	}
	put(claims, "pla", strings.Join(c.Plans, ","))
	var permissions []string
	if c.Organization != nil {
		permissions = c.Organization.custom()
	}
	e, err := encode(c.Features, permissions)
	if err != nil {
		return err
	}
	put(claims, "fea", e.features)
	if org := c.Organization; org != nil {
		o := map[string]any{"id": org.ID, "slg": org.Slug, "rol": strings.TrimPrefix(org.Role, "org:")}
		put(o, "per", e.actions)
		put(o, "fpm", e.masks)
		claims["o"] = o
	}
	return nil
}

// custom are the permissions but Clerk's own.
func (o *Organization) custom() []string {
	return slices.DeleteFunc(append([]string{}, o.Permissions...), func(p string) bool {
		return strings.HasPrefix(p, "org:sys_")
	})
}

// encoded are the claims fea, o.per and o.fpm.
type encoded struct{ features, actions, masks string }

// encode packs permissions as version 2 does: bit j of mask i says that feature
// i has action j. Masks are decimal and as long as there are actions, so they
// can exceed 64 bits.
func encode(features, permissions []string) (encoded, error) {
	for _, f := range features {
		if err := checkFeature(f); err != nil {
			return encoded{}, err
		}
	}
	features = slices.Clone(features)
	granted := make([][2]string, len(permissions)) // feature, action
	var actions []string
	for i, p := range permissions {
		feature, action, err := splitPermission(p)
		if err != nil {
			return encoded{}, err
		}
		granted[i] = [2]string{feature, action}
		actions = append(actions, action)
		if ofOrganization(features, feature) < 0 {
			features = append(features, "o:"+feature)
		}
	}
	e := encoded{features: strings.Join(features, ",")}
	if len(permissions) == 0 {
		return e, nil
	}
	slices.Sort(actions)
	actions = slices.Compact(actions)
	masks := make([]big.Int, len(features))
	for _, g := range granted {
		mask := &masks[ofOrganization(features, g[0])]
		bit, _ := slices.BinarySearch(actions, g[1])
		mask.SetBit(mask, bit, 1)
	}
	decimal := make([]string, len(masks))
	for i := range masks {
		decimal[i] = masks[i].String()
	}
	e.actions, e.masks = strings.Join(actions, ","), strings.Join(decimal, ",")
	return e, nil
}

// ofOrganization is the place of a feature in the organization's scope, -1 where
// it isn't there.
func ofOrganization(features []string, feature string) int {
	return slices.IndexFunc(features, func(f string) bool {
		scope, name, _ := strings.Cut(f, ":")
		return name == feature && strings.Contains(scope, "o")
	})
}

func checkFeature(f string) error {
	scope, name, _ := strings.Cut(f, ":")
	if !slices.Contains([]string{"o", "u", "ou", "uo"}, scope) || name == "" || strings.ContainsAny(name, ",:") {
		return fmt.Errorf("feature %q isn't <scope>:<name> with a scope of o, u or ou", f)
	}
	return nil
}

func splitPermission(p string) (feature, action string, err error) {
	parts := strings.Split(p, ":")
	if len(parts) != 3 || parts[0] != "org" || parts[1] == "" || parts[2] == "" || strings.Contains(p, ",") {
		return "", "", fmt.Errorf("permission %q isn't org:<feature>:<action>", p)
	}
	return parts[1], parts[2], nil
}
