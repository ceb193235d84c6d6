package gateway

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/rollcall-dev/rollcall/streams/auth"
)

// serveVerify answers another proxy: 200 with the identity headers, or why not.
// The request it asks about is named by a path appended (Envoy), X-Forwarded-Uri
// (Traefik, Caddy) or X-Original-Uri (nginx); where none is, only the session counts.
// In the query a proxy asks for more: audience, redirect=true for browsers, and
// blank=true for headers without a value where there is nothing to say.
func (g *Gateway) serveVerify(x *exchange, r *http.Request) {
	asked, appended, err := g.askedFor(r)
	if err != nil {
		x.refuse(err)
		return
	}
	x.route = g.unrouted
	if asked.URL.Path != "" {
		found, err := g.routeOf(r, asked.Host, asked.URL)
		if err != nil {
			x.refuse(err)
			return
		}
		if found != nil {
			x.route = found
		}
	}
	if x.claims, err = g.admit(asked, x.route); err != nil {
		if r.URL.Query().Get("redirect") == "true" {
			g.turnAway(x, asked, err)
			return
		}
		x.refuse(err)
		return
	}
	if r.URL.Query().Get("blank") == "true" {
		for _, name := range identityHeaders() {
			x.Header()[name] = []string{""}
		}
	}
	if x.claims != nil {
		headers, err := g.assertions.of(x.claims, audience(x.route, r, appended, asked.Host))
		if err != nil {
			x.refuse(err)
			return
		}
		for name, values := range headers {
			x.Header()[name] = values
		}
	}
	x.Header().Set("Cache-Control", "no-store")
	x.WriteHeader(http.StatusOK)
}

// askedFor is the request that a proxy asks about, with the credentials of this
// one; its URL has no path where the proxy doesn't say.
func (g *Gateway) askedFor(r *http.Request) (asked *http.Request, appended bool, err error) {
	u := &url.URL{}
	if rest := strings.TrimPrefix(r.URL.EscapedPath(), VerifyPath); rest != "" {
		if u, err = url.ParseRequestURI(rest); err != nil {
			return nil, false, refusedPath()
		}
		u.RawQuery, appended = r.URL.RawQuery, true
	} else {
		urls, err := named(r.Header)
		if err != nil {
			return nil, false, err
		}
		if len(urls) > 0 {
			u = urls[0] // the others have to lead to the same route
		}
	}
	if hosts := r.Header["X-Forwarded-Host"]; len(hosts) > 1 || len(hosts) == 1 && strings.Contains(hosts[0], ",") {
		return nil, false, &auth.Error{Code: CodePathAmbiguous, Status: http.StatusBadRequest, Message: "X-Forwarded-Host names more than one host"}
	}
	asked = r.Clone(r.Context())
	asked.URL = u
	asked.Host = orElse(u.Host, orElse(r.Header.Get("X-Forwarded-Host"), r.Host))
	asked.Method = orElse(r.Header.Get("X-Forwarded-Method"), orElse(r.Header.Get("X-Original-Method"), r.Method))
	return asked, appended, nil
}

// audience of the identity token: as the proxy says in its query. Behind an
// appended path the query is the client's, who must not choose it for a route.
func audience(to *route, r *http.Request, appended bool, host string) string {
	said := r.URL.Query().Get("audience")
	if appended {
		return orElse(to.Audience, orElse(said, hostname(host)))
	}
	return orElse(said, orElse(to.Audience, hostname(host)))
}
