package auth

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
)

type claimsKey struct{}

// NewContext returns a context that carries claims.
func NewContext(ctx context.Context, c *Claims) context.Context {
	return context.WithValue(ctx, claimsKey{}, c)
}

// FromContext returns the claims of the request's session, false where nobody is
// signed in.
func FromContext(ctx context.Context) (*Claims, bool) {
	c, ok := ctx.Value(claimsKey{}).(*Claims)
	return c, ok
}

// MiddlewareOption changes what [Middleware] does.
type MiddlewareOption func(*guard)

// AllowAnonymous lets requests through that have no token or a bad one, without
// claims, as long as the requirements ask for nothing. A request that means two
// things, and one that can't be checked for want of keys, is still refused.
func AllowAnonymous() MiddlewareOption { return func(g *guard) { g.anonymous = true } }

// RedirectTo sends browsers that navigate to a page to these URLs, instead of a
// 401 and of a 403 for want of an active organization; "": the error as for all
// others. The page they were on is added as redirect_url, as Clerk's pages read it.
func RedirectTo(signIn, selectOrganization string) MiddlewareOption {
	return func(g *guard) { g.signIn, g.selectOrganization = signIn, selectOrganization }
}

// OnRefusal replaces [WriteError], for a page or a log of one's own.
func OnRefusal(answer func(http.ResponseWriter, *http.Request, error)) MiddlewareOption {
	return func(g *guard) { g.refuse = answer }
}

type guard struct {
	verifier                   *Verifier
	require                    Requirements
	anonymous                  bool
	signIn, selectOrganization string
	refuse                     func(http.ResponseWriter, *http.Request, error)
}

// Middleware lets requests through whose session meets the requirements, with
// its claims in the context; requirements that ask for nothing ask for a session.
// All others get the answer of [WriteError]. It panics on requirements that
// Validate refuses: that is a mistake in the program.
func Middleware(v *Verifier, require Requirements, options ...MiddlewareOption) func(http.Handler) http.Handler {
	if err := require.Validate(); err != nil {
		panic(err)
	}
	g := guard{verifier: v, require: require, refuse: func(w http.ResponseWriter, _ *http.Request, err error) { WriteError(w, err) }}
	for _, o := range options {
		o(&g)
	}
	if !g.anonymous {
		g.require.SignedIn = true
	}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			claims, err := g.check(r)
			if err != nil {
				g.answer(w, r, err)
				return
			}
			if claims != nil {
				r = r.WithContext(NewContext(r.Context(), claims))
			}
			next.ServeHTTP(w, r)
		})
	}
}

func (g *guard) check(r *http.Request) (*Claims, error) {
	claims, err := g.verifier.VerifyRequest(r)
	if err != nil && g.require.None() && statusOf(err) == http.StatusUnauthorized {
		return nil, nil
	}
	if err == nil {
		err = g.require.Check(claims)
	}
	return claims, err
}

func statusOf(err error) int {
	var e *Error
	if errors.As(err, &e) {
		return e.Status
	}
	return http.StatusInternalServerError
}

func (g *guard) answer(w http.ResponseWriter, r *http.Request, err error) {
	page := RedirectURL(r, err, g.signIn, g.selectOrganization)
	if page == "" {
		g.refuse(w, r, err)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	http.Redirect(w, r, page, http.StatusFound)
}

// RedirectURL is where a browser that opens a page goes instead of being refused
// with err: to signIn, or to selectOrganization where none is active, with the page
// as redirect_url; "" for other requests, other errors, and where that URL is "".
func RedirectURL(r *http.Request, err error, signIn, selectOrganization string) string {
	page := ""
	switch {
	case !navigates(r):
	case statusOf(err) == http.StatusUnauthorized:
		page = signIn
	case CodeOf(err) == CodeOrganizationRequired:
		page = selectOrganization
	}
	target, parseErr := url.Parse(page)
	if page == "" || parseErr != nil {
		return ""
	}
	q := target.Query()
	q.Set("redirect_url", pageURL(r))
	target.RawQuery = q.Encode()
	return target.String()
}

// navigates reports whether a browser asks for a page, and not a script for data.
func navigates(r *http.Request) bool {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return false
	}
	if dest := r.Header.Get("Sec-Fetch-Dest"); dest != "" {
		return dest == "document"
	}
	return strings.Contains(r.Header.Get("Accept"), "text/html")
}

// pageURL is the request's own, as far as a server behind a proxy can know.
func pageURL(r *http.Request) string {
	scheme := "http"
	if r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https" {
		scheme = "https"
	}
	return scheme + "://" + r.Host + r.URL.RequestURI()
}
