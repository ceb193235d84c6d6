package gateway

import (
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/rollcall-dev/rollcall/streams/auth"
)

// unambiguous reports whether every server reads a path alike: those behind us
// decode, normalize and cut it in ways of their own, and what one takes for
// /public/x must not be /admin to another.
func unambiguous(u *url.URL) bool {
	path, escaped := u.Path, strings.ToLower(u.EscapedPath())
	if !strings.HasPrefix(path, "/") || strings.Contains(path, "//") || !utf8.ValidString(path) {
		return false
	}
	for _, b := range []byte(path) {
		// A backslash is a slash to some, and what follows a semicolon no part of
		// the path.
		if b < ' ' || b == 0x7f || b == '\\' || b == ';' {
			return false
		}
	}
	for segment := range strings.SplitSeq(path[1:], "/") {
		if segment == "." || segment == ".." {
			return false
		}
	}
	return !strings.Contains(escaped, "%2f") && !encodedTwice(strings.ToLower(path))
}

// encodedTwice looks at a path that has been decoded, as some do again.
func encodedTwice(path string) bool {
	if !strings.Contains(path, "%") {
		return false
	}
	for _, code := range []string{"%25", "%2e", "%2f", "%5c", "%3b", "%0", "%1", "%7f"} {
		if strings.Contains(path, code) {
			return true
		}
	}
	return false
}

// table finds routes: those of a host first, and of these the longest path.
type table struct {
	hosts map[string][]*route
	any   []*route
}

// find returns the route of a path, nil where there is none. A path that has
// another route once its case is ignored is ambiguous: servers differ in that too.
func (t *table) find(host string, u *url.URL) (*route, error) {
	if !unambiguous(u) {
		return nil, refusedPath()
	}
	host = hostname(host)
	folded := strings.ToLower(u.Path)
	found := longest(t.hosts[host], t.any, func(r *route) bool { return within(u.Path, r.prefix) })
	if found != longest(t.hosts[host], t.any, func(r *route) bool { return within(folded, r.folded) }) {
		return nil, refusedPath()
	}
	return found, nil
}

func refusedPath() error {
	return &auth.Error{Code: CodePathAmbiguous, Status: 400, Message: "the path can be read in two ways: no //, dot segments, backslashes, semicolons, encoded slashes or other letter case"}
}

func longest(own, any []*route, matches func(*route) bool) *route {
	for _, list := range [2][]*route{own, any} {
		for _, r := range list {
			if matches(r) {
				return r
			}
		}
	}
	return nil
}

// within takes a prefix without its last slash.
func within(path, prefix string) bool {
	rest, ok := strings.CutPrefix(path, prefix)
	return ok && (rest == "" || rest[0] == '/')
}

// hostname is a Host header as routes have it.
func hostname(host string) string {
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
		host = host[:i]
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}
