package gateway

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/rollcall-dev/rollcall/streams/auth"
)

// kind is what a request header means to us.
type kind int

const (
	ordinary kind = iota
	identity      // says who a request is from: only we do
	naming        // names the path that a request is for
)

// kinds are by the name in lower case, with dashes.
var kinds = func() map[string]kind {
	all := map[string]kind{"x-forwarded-uri": naming, "x-original-uri": naming, "x-original-url": naming, "x-rewrite-url": naming}
	for _, name := range identityHeaders() {
		all[strings.ToLower(name)] = identity
	}
	return all
}()

func identityHeaders() []string {
	return []string{
		auth.HeaderUserID, auth.HeaderSessionID, auth.HeaderOrgID, auth.HeaderOrgSlug, auth.HeaderOrgRole, auth.HeaderOrgPermissions,
		auth.HeaderActorID, auth.HeaderPlatform, auth.HeaderIdentity,
	}
}

const longestName = 32 // of kinds, with room

// kindOf knows a header in every spelling: CGI and its kin make one character of
// dashes, underscores and dots.
func kindOf(name string) kind {
	if len(name) > longestName || len(name) == 0 || name[0]|0x20 != 'x' {
		return ordinary
	}
	var folded [longestName]byte
	for i := range len(name) {
		switch b := name[i]; {
		case b >= 'A' && b <= 'Z':
			folded[i] = b | 0x20
		case b >= 'a' && b <= 'z', b >= '0' && b <= '9':
			folded[i] = b
		default:
			folded[i] = '-'
		}
	}
	return kinds[string(folded[:len(name)])]
}

// strip takes the identity headers out, whoever spelled them.
func strip(h http.Header) {
	for name := range h {
		if kindOf(name) == identity {
			delete(h, name)
		}
	}
}

// named are the URLs that headers say a request is for.
func named(h http.Header) (urls []*url.URL, err error) {
	for name, values := range h {
		if kindOf(name) != naming {
			continue
		}
		for _, value := range values {
			u, err := url.ParseRequestURI(value)
			if err != nil {
				return nil, refusedPath()
			}
			urls = append(urls, u)
		}
	}
	return urls, nil
}

// unknownActor stands for somebody who impersonates the user and isn't named.
const unknownActor = "unknown"

// headersOf say who a request is from; what is absent has no header. False where
// a value can't stand in one.
func headersOf(id auth.Identity, token string) (http.Header, bool) {
	h, clean := http.Header{}, true
	set := func(name, value string) {
		if value != "" {
			h[name] = []string{value}
			clean = clean && fits(value)
		}
	}
	o := id.Organization
	set(auth.HeaderUserID, id.UserID)
	set(auth.HeaderSessionID, id.SessionID)
	set(auth.HeaderOrgID, o.ID)
	set(auth.HeaderOrgSlug, o.Slug)
	set(auth.HeaderOrgRole, o.Role)
	set(auth.HeaderOrgPermissions, strings.Join(o.Permissions, ","))
	set(auth.HeaderActorID, id.ActorID)
	set(auth.HeaderPlatform, id.Platform)
	set(auth.HeaderIdentity, token)
	for _, p := range o.Permissions {
		clean = clean && !strings.Contains(p, ",")
	}
	return h, clean
}

// fits reports whether a value arrives in a header as it is.
func fits(s string) bool {
	for _, b := range []byte(s) {
		if b < ' ' || b == 0x7f {
			return false
		}
	}
	return strings.TrimSpace(s) == s
}
