package config

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/rollcall-dev/rollcall/streams/auth"
)

// Gateway verifies session tokens, and proxies or answers another proxy.
type Gateway struct {
	Addr                  string        `yaml:"addr" default:":8082" doc:"listens here: the routes, /auth/verify and the identity tokens' keys"`
	SignInURL             string        `yaml:"sign_in_url" doc:"browsers that open a page without a session go there; unset: 401 for them too"`
	SelectOrganizationURL string        `yaml:"select_organization_url" doc:"browsers that open a page that needs an organization go there; unset: 403"`
	AllowNoParty          bool          `yaml:"allow_no_party" default:"false" doc:"accept tokens without azp where authorized_parties are set"`
	MaxTokenLife          time.Duration `yaml:"max_token_life" default:"10m" doc:"longest life of what is taken for a session token"`
	TrustedProxies        []string      `yaml:"trusted_proxies" doc:"addresses or networks whose X-Forwarded-For, -Host and -Proto are passed on"`
	Revocation            GatewayRevocation
	Freshness             GatewayFreshness
	Routes                []Route

	there bool // in the file or the environment
}

// Revoke says what ends sessions beside what always does.
type Revoke struct {
	OnLock bool `yaml:"on_lock" default:"false" doc:"a lock refuses the user's tokens too; anyone can lock out a person by failing to sign in"`
}

// GatewayRevocation is what the gateway does about sessions that are ended.
type GatewayRevocation struct {
	OnStale string `yaml:"on_stale" default:"closed" doc:"while it can't know who is revoked: closed (503) or open (by what it has)"`
}

// GatewayFreshness asserts what a store knows later than the token.
type GatewayFreshness struct {
	Store string `yaml:"store" doc:"store whose role and permissions are asserted where they are newer than the token; unset: always the token's"`
}

// Route says where requests go, and who may make them.
type Route struct {
	Host        string        `yaml:"host" doc:"host name; unset: any"`
	Path        string        `yaml:"path" doc:"path, and all below it; the longest that matches counts"`
	Upstream    string        `yaml:"upstream" doc:"http://…, https://… or h2c://… (HTTP/2 without TLS); unset: for /auth/verify only"`
	StripPrefix string        `yaml:"strip_prefix" doc:"beginning of the path that the upstream doesn't see"`
	Audience    string        `yaml:"audience" doc:"aud of the identity token; unset: the upstream's host"`
	Public      bool          `yaml:"public" default:"false" doc:"let everyone through; who is signed in is said all the same"`
	Timeout     time.Duration `yaml:"timeout" default:"30s" doc:"how long the upstream may take to begin its answer"`
	MaxBody     int64         `yaml:"max_body" default:"10MiB" doc:"largest request body; 0: any"`
	LogOneIn    int           `yaml:"log_one_in" default:"1" doc:"one in this many of the requests let through is logged, refusals all are; 0: none"`
	Require     Require
}

// Require has the fields of auth.Requirements, and converts to it.
type Require struct {
	SignedIn       bool   `yaml:"signed_in" default:"false" doc:"a session; implied where the route isn't public"`
	Organization   bool   `yaml:"organization" default:"false" doc:"an active organization"`
	Role           string `yaml:"role" doc:"role in it: org:admin"`
	Permission     string `yaml:"permission" doc:"permission in it: org:invoices:read"`
	Feature        string `yaml:"feature" doc:"feature of a plan: dashboard, org:dashboard or user:dashboard"`
	Plan           string `yaml:"plan" doc:"plan: pro, org:pro or user:pro"`
	Reverification string `yaml:"reverification" doc:"strict_mfa, strict, moderate, lax, or a level and an age: second_factor:5m"`
}

// Identity is what the gateway signs identity tokens with.
type Identity struct {
	Seed string `yaml:"seed" mask:"all" doc:"secret of which all gateways derive the keys of identity tokens, 32 bytes or more"`
}

const gatewayPath = "gateway"

// routePath is the path of an entry.
func routePath(i int) string { return fmt.Sprintf("gateway.routes.%d", i) }

// Configured reports whether the section, or a variable of its own, is there.
func (g Gateway) Configured() bool { return g.there }

func (l *loader) gateway(c *Config, n *yaml.Node) {
	g := &c.Gateway
	var kids map[string]*yaml.Node
	if n != nil {
		kids = l.children(n, gatewayPath, keys(reflect.TypeFor[Gateway](), "revocation", "freshness", "routes"))
	}
	g.there = l.from[gatewayPath].name != ""
	l.fillKids(reflect.ValueOf(g).Elem(), gatewayPath, kids, true)
	l.fill(reflect.ValueOf(&g.Revocation).Elem(), "gateway.revocation", kids["revocation"], true)
	l.fill(reflect.ValueOf(&g.Freshness).Elem(), "gateway.freshness", kids["freshness"], true)
	l.routes(g, kids["routes"])
}

// routes reads the list; the settings of an entry can be overridden, and one
// more entry be made, by ROLLCALL_GATEWAY_ROUTES_0_PATH and the like.
func (l *loader) routes(g *Gateway, n *yaml.Node) {
	var entries []*yaml.Node
	switch {
	case n == nil:
	case n.Kind != yaml.SequenceNode:
		l.mistake(l.at(n), "gateway.routes must be a list of {path, upstream, require}, not %s", kindOf(n))
	default:
		entries = n.Content
	}
	for i := 0; i < len(entries) || l.isSet(variable(routePath(i)+".path")); i++ {
		var kids map[string]*yaml.Node
		if i < len(entries) {
			l.from[routePath(i)] = l.at(entries[i])
			kids = l.children(follow(entries[i]), routePath(i), keys(reflect.TypeFor[Route](), "require"))
		}
		var r Route
		l.fillKids(reflect.ValueOf(&r).Elem(), routePath(i), kids, true)
		l.fill(reflect.ValueOf(&r.Require).Elem(), routePath(i)+".require", kids["require"], true)
		g.Routes, g.there = append(g.Routes, r), true
	}
}

func (l *loader) checkGateway(c *Config) {
	g := &c.Gateway
	l.address("gateway.addr", g.Addr)
	l.page("gateway.sign_in_url", g.SignInURL)
	l.page("gateway.select_organization_url", g.SelectOrganizationURL)
	l.oneOf("gateway.revocation.on_stale", g.Revocation.OnStale, "closed", "open")
	if g.MaxTokenLife < time.Minute {
		l.bad("gateway.max_token_life", "is %s; a session token lives a minute", g.MaxTokenLife)
	}
	for i, p := range g.TrustedProxies {
		if _, err := ParseNetwork(p); err != nil {
			l.mistake(l.where(fmt.Sprintf("gateway.trusted_proxies[%d]", i)), "gateway.trusted_proxies has %q, which is neither an address nor a network such as 10.0.0.0/8", p)
		}
	}
	if name := g.Freshness.Store; name != "" {
		l.checkFreshness(c, name)
	}
	if seed := c.Identity.Seed; seed != "" && len(seed) < minSeed {
		l.bad("identity.seed", "has %d bytes, and needs %d; make one: openssl rand -base64 32", len(seed), minSeed)
	}
	seen := map[string]bool{}
	for i := range g.Routes {
		l.checkRoute(routePath(i), &g.Routes[i], seen)
	}
}

// minSeed is identity.MinSeed.
const minSeed = 32

// ParseNetwork reads a network, or an address as the network of it alone.
func ParseNetwork(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return a.Prefix(a.BitLen())
	}
	return netip.ParsePrefix(s)
}

func (l *loader) checkFreshness(c *Config, name string) {
	s, ok := c.Store(name)
	if !ok {
		var stores []string
		for _, s := range c.Stores {
			stores = append(stores, s.Name)
		}
		l.bad("gateway.freshness.store", "names the store %q, which isn't configured; known: %s", name, orNone(stores))
		return
	}
	for _, needed := range []string{"organization_memberships", "roles", "permissions"} {
		if s.Resources != nil && !slices.Contains(s.Resources, needed) {
			l.bad("gateway.freshness.store", "names the store %q, which doesn't keep %s; add them to its resources", name, needed)
		}
	}
}

// routeForm has no percent sign, so that there is one way to write a path.
var (
	routeForm = regexp.MustCompile(`^/[A-Za-z0-9._~!$&'()+,=:@/-]*$`)
	hostForm  = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$`)
)

func (l *loader) checkRoute(path string, r *Route, seen map[string]bool) {
	r.Host = strings.ToLower(r.Host)
	if r.Host != "" && !hostForm.MatchString(r.Host) {
		l.bad(path+".host", "is %q; write a host's name without port and wildcards, or leave it out for any", r.Host)
	}
	switch segments := strings.Split(r.Path, "/"); {
	case r.Path == "":
		l.bad(path+".path", "isn't set; write the path that the route is for, / for all")
	case !routeForm.MatchString(r.Path) || strings.Contains(r.Path, "//") || slices.Contains(segments, ".") || slices.Contains(segments, ".."):
		l.bad(path+".path", "is %q; write /a/path without wildcards, percent signs and dot segments", r.Path)
	}
	at := r.Host + strings.TrimRight(strings.ToLower(r.Path), "/")
	if seen[at] {
		l.bad(path+".path", "%q has a route already; keep one", r.Host+r.Path)
	}
	seen[at] = true
	if r.StripPrefix != "" && r.StripPrefix != r.Path && !strings.HasPrefix(r.Path, strings.TrimRight(r.StripPrefix, "/")+"/") {
		l.bad(path+".strip_prefix", "is %q, with which the path %q doesn't begin", r.StripPrefix, r.Path)
	}
	l.upstream(path+".upstream", r.Upstream)
	if r.Timeout <= 0 {
		l.bad(path+".timeout", "must be more than 0; the default is 30s")
	}
	if r.MaxBody < 0 || r.LogOneIn < 0 {
		l.bad(path, "has a max_body or log_one_in below 0")
	}
	if r.Public && r.Require != (Require{}) {
		l.bad(path, "is public, and requires something: remove one of the two")
	}
	if err := auth.Requirements(r.Require).Validate(); err != nil {
		l.bad(path+".require", "%s", strings.TrimPrefix(err.Error(), "auth: "))
	}
}

func (l *loader) upstream(path, value string) {
	l.url(path, value, "http", "https", "h2c")
	if u, err := url.Parse(value); err == nil && (u.User != nil || u.RawQuery != "" || u.Fragment != "") {
		l.bad(path, "has a user, a query or a fragment; write scheme, host and at most a path")
	}
}

// page is a URL, or a path on the same host.
func (l *loader) page(path, value string) {
	if strings.HasPrefix(value, "/") && !strings.HasPrefix(value, "//") {
		return
	}
	l.url(path, value, "https", "http")
}

// RequireGateway reports what the gateway role lacks: a seed, for each instance
// where its keys are, and the database of the store that it asks.
func (c *Config) RequireGateway() error {
	list := []*Mistake{c.require("identity.seed", "ROLLCALL_IDENTITY_SEED (openssl rand -base64 32)", c.Identity.Seed != "")}
	for _, in := range c.Instances {
		env := "CLERK_PUBLISHABLE_KEY"
		if len(c.Instances) > 1 {
			env = variable(in.path() + ".publishable_key")
		}
		list = append(list, c.require(in.path()+".publishable_key", env, in.HasKeys()))
	}
	err := needs(list...)
	if store := c.Gateway.Freshness.Store; store != "" {
		err = errors.Join(err, c.RequireStore(store))
	}
	return err
}

// HasKeys reports whether it is known where the keys of session tokens are.
func (in Instance) HasKeys() bool {
	return in.PublishableKey != "" || in.Issuer != "" || in.JWTKey != "" || in.SecretKey != ""
}
