// Package gateway lets requests through that a session token entitles, and says
// to the service behind it who they are from: as a proxy, or as the endpoint
// /auth/verify that another proxy asks.
//
//	request ─▶ route ─▶ token ─▶ revoked? ─▶ requirements ─▶ headers replaced ─▶ upstream
//	           404, 400  401, 503   401, 503      403                           502, 504
//
// No upstream sees a request on a path that isn't public before all of that is
// done. A path that two servers could read differently is refused.
package gateway

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/rollcall-dev/rollcall/streams/auth"
)

// VerifyPath answers for other proxies, also with a path appended.
const VerifyPath = "/auth/verify"

// Codes of refusals beside those of package auth.
const (
	CodePathAmbiguous      auth.Code = "path-ambiguous"       // 400: two servers could read the path differently
	CodeNoRoute            auth.Code = "no-route"             // 404
	CodeMethod             auth.Code = "method-not-allowed"   // 405: CONNECT, TRACE
	CodeBodyTooLarge       auth.Code = "body-too-large"       // 413: more than the route's max_body
	CodeBodyBroken         auth.Code = "body-broken"          // 400: malformed, or not whole
	CodeRevoked            auth.Code = "session-revoked"      // 401: ended, banned, removed, or changed since the token was made
	CodeRevocationsUnknown auth.Code = "revocations-unknown"  // 503: it isn't known who is revoked
	CodeUpstream           auth.Code = "upstream-unreachable" // 502
	CodeUpstreamTimeout    auth.Code = "upstream-timeout"     // 504
)

// Verifier is an *auth.Verifier.
type Verifier interface {
	VerifyRequest(r *http.Request) (*auth.Claims, error)
}

// Signer is an *identity.Issuer: it signs identity tokens and serves the keys.
type Signer interface {
	http.Handler
	Sign(id auth.Identity, audience string) (string, error)
}

// Revocations know whose sessions have ended. Safe for concurrent use; Refuse and
// Fresh are asked for each request, and answer from memory.
type Revocations interface {
	// Refuse says whether, and why, the claims' session doesn't count any more.
	Refuse(c *auth.Claims) (reason string, refused bool)
	// Fresh is an error while it isn't known who is revoked.
	Fresh() error
}

// Freshener returns claims with role and permissions of a later version than the
// token, or the claims as they are. It may return an error that refuses the
// request; it returns the same pointer as long as it has the same to say.
type Freshener interface {
	Freshen(r *http.Request, c *auth.Claims) (*auth.Claims, error)
}

// Options of a [Gateway].
type Options struct {
	Routes      []Route
	Verifier    Verifier
	Signer      Signer
	Revocations Revocations // nil: nobody is ever revoked
	// OpenWhenStale lets requests through while Revocations isn't fresh.
	OpenWhenStale bool
	Freshener     Freshener // nil: the token's word counts
	// SignInURL and SelectOrganizationURL are where browsers are sent that open a
	// page, "": nowhere.
	SignInURL, SelectOrganizationURL string
	// TrustedProxies are those whose X-Forwarded-For, -Host and -Proto go on.
	TrustedProxies []netip.Prefix
	Log            *zap.Logger
	Metrics        *Metrics
	Clock          func() time.Time // nil: time.Now
}

// Route says where requests go, and who may make them.
type Route struct {
	Host     string   // lower case; "": any
	Path     string   // and all below it; the longest that matches counts
	Upstream *url.URL // http, https or h2c, with a path or without; nil: for VerifyPath only
	// StripPrefix is the beginning of Path that the upstream doesn't see.
	StripPrefix string
	Audience    string            // "": the upstream's host
	Public      bool              // everyone may
	Require     auth.Requirements // at least a session, if not Public
	Timeout     time.Duration     // until the upstream's answer begins
	MaxBody     int64             // bytes; 0: any
	LogOneIn    int               // of the requests let through; 0: none
}

// Gateway is a handler. Safe for concurrent use.
type Gateway struct {
	Options
	table      table
	assertions *assertions
	unrouted   *route // stands for requests that have none
}

// New makes a gateway. The error is of a route that can't work.
func New(o Options) (*Gateway, error) {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	g := &Gateway{Options: o, table: table{hosts: map[string][]*route{}}, assertions: newAssertions(o.Signer, o.Clock)}
	g.unrouted = &route{Route: Route{Require: auth.Requirements{SignedIn: true}, LogOneIn: 1}, counts: o.Metrics.of("none")}
	for _, given := range o.Routes {
		r, err := g.newRoute(given)
		if err != nil {
			return nil, fmt.Errorf("gateway: route %s%s: %w", given.Host, given.Path, err)
		}
		if r.Host == "" {
			g.table.any = append(g.table.any, r)
		} else {
			g.table.hosts[r.Host] = append(g.table.hosts[r.Host], r)
		}
	}
	byLength := func(a, b *route) int { return len(b.prefix) - len(a.prefix) }
	slices.SortStableFunc(g.table.any, byLength)
	for _, list := range g.table.hosts {
		slices.SortStableFunc(list, byLength)
	}
	return g, nil
}

// route is a Route that is ready.
type route struct {
	Route
	prefix, folded string   // Path without its last slash, and in lower case
	base           *url.URL // Upstream, with the scheme that is on the wire
	proxy          http.Handler
	counts         *routeMetrics
	sample         sampler
}

func (g *Gateway) newRoute(given Route) (*route, error) {
	if err := given.Require.Validate(); err != nil {
		return nil, err
	}
	if given.Public && !given.Require.None() {
		return nil, errors.New("public, and with requirements")
	}
	if !strings.HasPrefix(given.Path, "/") {
		return nil, errors.New("the path doesn't begin with a slash")
	}
	given.Require.SignedIn = !given.Public
	if given.Audience == "" && given.Upstream != nil {
		given.Audience = given.Upstream.Hostname()
	}
	r := &route{Route: given, prefix: strings.TrimRight(given.Path, "/"), counts: g.Metrics.of(given.Host + given.Path)}
	r.folded = strings.ToLower(r.prefix)
	if given.Upstream != nil {
		base := *given.Upstream
		if base.Scheme == "h2c" {
			base.Scheme = "http"
		}
		r.base = &base
		r.proxy = g.newProxy(r)
	}
	return r, nil
}

// ServeHTTP answers a request, or has it answered.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &exchange{ResponseWriter: w, route: g.unrouted, began: g.Clock()}
	defer func() {
		broke := recover() // as ReverseProxy does when an answer ends in its middle
		if broke != nil {
			x.reason = reasonBroke
		}
		g.record(x, r)
		if broke != nil {
			panic(broke)
		}
	}()
	switch {
	case r.Method == http.MethodConnect, r.Method == http.MethodTrace:
		// TRACE would show a client what only its service may see.
		x.refuse(&auth.Error{Code: CodeMethod, Status: http.StatusMethodNotAllowed, Message: "the gateway takes no " + r.Method})
	case r.URL.Path == auth.IdentityJWKSPath:
		g.Signer.ServeHTTP(x, r)
	case r.URL.Path == VerifyPath || strings.HasPrefix(r.URL.Path, VerifyPath+"/"):
		g.serveVerify(x, r)
	default:
		g.serveRoute(x, r)
	}
}

// serveRoute proxies.
func (g *Gateway) serveRoute(x *exchange, r *http.Request) {
	found, err := g.routeOf(r, r.Host, r.URL)
	if err == nil && (found == nil || found.proxy == nil) {
		err = &auth.Error{Code: CodeNoRoute, Status: http.StatusNotFound, Message: "the gateway has no route for this path"}
	}
	if err != nil {
		x.refuse(err)
		return
	}
	x.route = found
	if x.claims, err = g.admit(r, found); err != nil {
		g.turnAway(x, r, err)
		return
	}
	var headers http.Header
	if x.claims != nil {
		if headers, err = g.assertions.of(x.claims, found.Audience); err != nil {
			x.refuse(err)
			return
		}
	}
	g.forward(x, r, headers)
}

// routeOf is the route of a URL, nil where there is none. Where headers name URLs
// too, which some servers go by, they have to lead to the same.
func (g *Gateway) routeOf(r *http.Request, host string, u *url.URL) (*route, error) {
	found, err := g.table.find(host, u)
	if err != nil {
		return nil, err
	}
	urls, err := named(r.Header)
	if err != nil {
		return nil, err
	}
	for _, other := range urls {
		of, err := g.table.find(orElse(other.Host, host), other)
		if err != nil {
			return nil, err
		}
		if of != found {
			return nil, refusedPath()
		}
	}
	return found, nil
}

func orElse(value, otherwise string) string {
	if value == "" {
		return otherwise
	}
	return value
}

// admit returns the claims of a request that the route lets through, nil where
// it is public and nobody is signed in, or why it doesn't. Then the claims, where
// there are any, are for the log only.
func (g *Gateway) admit(r *http.Request, to *route) (*auth.Claims, error) {
	claims, err := g.verified(r)
	if err == nil {
		err = to.Require.Check(claims)
	}
	// What is public must not fail with whom it doesn't need; but a request that
	// means two things is refused everywhere.
	if e := (*auth.Error)(nil); to.Public && errors.As(err, &e) && e.Status != http.StatusBadRequest {
		return nil, nil
	}
	return claims, err
}

func (g *Gateway) verified(r *http.Request) (*auth.Claims, error) {
	claims, err := g.Verifier.VerifyRequest(r)
	if err != nil {
		return nil, err
	}
	if g.Revocations != nil {
		if err := g.notRevoked(claims); err != nil {
			return claims, err
		}
	}
	if g.Freshener != nil {
		return g.Freshener.Freshen(r, claims)
	}
	return claims, nil
}

func (g *Gateway) notRevoked(c *auth.Claims) error {
	if err := g.Revocations.Fresh(); err != nil && !g.OpenWhenStale {
		return &auth.Error{Code: CodeRevocationsUnknown, Status: http.StatusServiceUnavailable, Message: "it isn't known at the moment whose session has ended", Err: err}
	}
	return g.refusal(c)
}

func (g *Gateway) refusal(c *auth.Claims) error {
	if reason, refused := g.Revocations.Refuse(c); refused {
		return &auth.Error{Code: CodeRevoked, Status: http.StatusUnauthorized, Message: "the session doesn't count any more: " + reason}
	}
	return nil
}

// turnAway refuses, or sends a browser where it can help itself.
func (g *Gateway) turnAway(x *exchange, r *http.Request, err error) {
	page := auth.RedirectURL(r, err, g.SignInURL, g.SelectOrganizationURL)
	if page == "" {
		x.refuse(err)
		return
	}
	x.err = err
	x.Header().Set("Cache-Control", "no-store")
	http.Redirect(x, r, page, http.StatusFound)
}
