package gateway_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rollcall-dev/rollcall/internal/gateway"
	"github.com/rollcall-dev/rollcall/streams/auth"
)

// raw sends bytes, and returns the status of each answer that comes before the
// connection ends or goes quiet.
func (r *rig) raw(text string) (statuses []int) {
	r.t.Helper()
	conn := must[net.Conn](r.t)(net.Dial("tcp", r.addr))
	defer func() { _ = conn.Close() }()
	if _, err := io.WriteString(conn, text); err != nil {
		return nil
	}
	answers := bufio.NewReader(conn)
	for {
		_ = conn.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		resp, err := http.ReadResponse(answers, nil)
		if err != nil {
			return statuses
		}
		_, err = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		statuses = append(statuses, resp.StatusCode)
		if err != nil {
			return statuses
		}
	}
}

func (r *rig) rawPath(path string) int {
	r.t.Helper()
	got := r.raw("GET " + path + " HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n")
	if len(got) != 1 {
		r.t.Fatalf("%q: answers %v", path, got)
	}
	return got[0]
}

// open lets everybody see everything but /api.
func open() []gateway.Route {
	return []gateway.Route{{Path: "/", Public: true}, {Path: "/api/"}, {Path: "/api/Docs", Public: true}}
}

func TestPathTricks(t *testing.T) {
	t.Parallel()
	r := newRig(t, open(), nil)
	for path, want := range map[string]int{
		"/": 200, "/x": 200, "/a%20b": 200, "/a+b/~c@d:1,2=3!$&'()*": 200, "/100%25": 200, "/caf%C3%A9": 200, "/.well-known/x": 200, "/a..b/...": 200, "/apis": 200, "/api/Docs": 200,
		"/api": 401, "/api/": 401, "/api/x": 401, "/%61pi/x": 401, "/ap%69": 401, "/api?x": 401, "/api/Docsx": 401, "http://shop.example/api/x": 401,
		"//api/x": 400, "/x//api": 400, "/x/../api/x": 400, "/x/%2e%2e/api/x": 400, "/x/.%2E/api": 400, "/./api/x": 400, "/%2e/api/x": 400, "/api/..": 400, "/api/.": 400,
		"/x%2f..%2fapi": 400, "/x%2Fapi": 400, "/%2fapi/x": 400, "/x%252f..%252fapi": 400, "/x/%252e%252e/api": 400, "/x/%25252e%25252e/api": 400,
		"/x/..;/api/x": 400, "/;/api/x": 400, "/api;x=1/y": 400, "/x/..%3b/api": 400, "/x%253b/api": 400,
		`/x\..\api`: 400, "/x%5c..%5capi": 400, "/x%255capi": 400, "/%00/api": 400, "/x%0d%0aapi": 400, "/x%2500": 400, "/x%7f": 400,
		"/x/%c0%ae%c0%ae/api": 400, "/%c0%afapi": 400, "/x%ff": 400,
		"/API/x": 400, "/Api": 400, "/api/docs": 400, "/api/DOCS/x": 400,
	} {
		if got := r.rawPath(path); got != want {
			t.Errorf("%q: %d, want %d", path, got, want)
		}
		for _, s := range r.upstream.take() {
			if want != 200 {
				t.Errorf("%q: the upstream saw %q", path, s.uri)
			}
		}
	}
	for _, line := range []string{"GET api/x HTTP/1.1", "GET *  HTTP/1.1", "CONNECT shop.example:80 HTTP/1.1", "GET /api\x00 HTTP/1.1", "GET /x HTTP/1.1 /api HTTP/1.1", "OPTIONS * HTTP/1.1"} {
		got := r.raw(line + "\r\nHost: shop.example\r\nConnection: close\r\n\r\n")
		if seen := r.upstream.take(); len(seen) > 0 || len(got) == 1 && got[0] < 400 && !strings.HasPrefix(line, "OPTIONS") {
			t.Errorf("%q: answers %v; the upstream saw %v", line, got, seen)
		}
	}
	// Servers that go by such a header see another path than we do.
	for _, name := range []string{"X-Original-URL", "X-Rewrite-URL", "x_original_url", "X-Forwarded-Uri"} {
		r.expect(name, r.ask(http.MethodGet, "/x", "", name, "/api/x"), 400, gateway.CodePathAmbiguous)
		r.expect(name+" that agrees", r.ask(http.MethodGet, "/x", "", name, "/y"), 200, "")
	}
}

// However a service reads the path of an unverified request, it isn't a
// protected one.
func TestNoReadingIsProtected(t *testing.T) {
	t.Parallel()
	r := newRig(t, open(), nil)
	pieces := []string{"/", "//", "api", "API", "aPi", "%61pi", "x", "..", ".", "%2e", "%2E%2e", "%252e", "%2f", "%5c", `\`, ";", "%3b", "%25", "%00", "Docs", "docs", "?", "%3f", "#", "%23", "é", "%C3%A9", "%c0%af", "+", "%20"}
	rapid.Check(t, func(t *rapid.T) {
		text := "/" + strings.Join(rapid.SliceOfN(rapid.SampledFrom(pieces), 0, 8).Draw(t, "path"), "")
		status := r.rawPath(text)
		for _, s := range r.upstream.take() {
			before, _, _ := strings.Cut(s.uri, "?")
			for reading := range readings(before) {
				if protected(reading) && !strings.HasPrefix(reading, "/api/Docs") {
					t.Fatalf("%q was answered %d, and the upstream saw %q, which can be read as %q", text, status, s.uri, reading)
				}
			}
		}
	})
}

func protected(p string) bool {
	p = strings.ToLower(p)
	return p == "/api" || strings.HasPrefix(p, "/api/")
}

// readings are what servers make of a path: as it is, decoded up to three times,
// cleaned or not, with backslashes as slashes, cut at semicolons.
func readings(escaped string) map[string]bool {
	found := map[string]bool{escaped: true}
	for range 3 {
		for p := range found {
			next := []string{path.Clean(p), strings.ReplaceAll(p, `\`, "/"), strings.ReplaceAll(p, "//", "/")}
			if decoded, err := url.PathUnescape(p); err == nil {
				next = append(next, decoded)
			}
			var cut []string
			for segment := range strings.SplitSeq(p, "/") {
				before, _, _ := strings.Cut(segment, ";")
				cut = append(cut, before)
			}
			for _, n := range append(next, strings.Join(cut, "/")) {
				found[n] = true
			}
		}
	}
	return found
}

// Nothing hides a second request from us that the upstream would see.
func TestSmuggling(t *testing.T) {
	t.Parallel()
	r := newRig(t, open(), nil)
	const hidden = "GET /api/hidden HTTP/1.1\r\nHost: x\r\n\r\n"
	chunked := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(hidden), hidden)
	for what, text := range map[string]string{
		"CL.TE":                  "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + hidden,
		"TE.CL":                  "POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n" + chunked,
		"two lengths":            "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nContent-Length: 44\r\n\r\n" + hidden,
		"a list of lengths":      "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 0, 44\r\n\r\n" + hidden,
		"a signed length":        "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: +0\r\n\r\n" + hidden,
		"two encodings":          "POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n" + chunked,
		"an unknown encoding":    "POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\nContent-Length: 0\r\n\r\n" + hidden,
		"a tab":                  "POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding:\tchunked\r\nContent-Length: 4\r\n\r\n" + chunked,
		"a space before colon":   "POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\nContent-Length: 0\r\n\r\n" + hidden,
		"a folded line":          "POST /x HTTP/1.1\r\nHost: x\r\nX: y\r\n Content-Length: 44\r\nContent-Length: 0\r\n\r\n" + hidden,
		"a bare CR":              "POST /x HTTP/1.1\r\nHost: x\r\nX: y\rTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n" + hidden,
		"a zero in a header":     "GET /x HTTP/1.1\r\nHost: x\r\nX: y\x00z\r\n\r\n" + hidden,
		"two hosts":              "GET /x HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n" + hidden,
		"a chunk's extension":    "POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0;x=\n" + hidden + "\r\n",
		"HTTP/0.9":               "GET /api/hidden\r\n",
		"an upgrade to HTTP/2":   "GET /x HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n" + hidden,
		"an identity in trailer": "POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: X-Clerk-User-Id\r\n\r\n0\r\nX-Clerk-User-Id: user_evil\r\nX_Clerk_User_Id: user_evil\r\n\r\n",
		"an upgrade, and a list": "GET /x HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket, h2c\r\n\r\n",
		"an identity, underline": "GET /x HTTP/1.1\r\nHost: x\r\nConnection: close, X-Clerk-User-Id\r\nX_CLERK_USER_ID: user_evil\r\n\r\n",
	} {
		statuses := r.raw(text)
		for _, s := range r.upstream.take() {
			if s.uri != "/x" || s.header.Get("Upgrade") != "" {
				t.Errorf("%s: the upstream saw %s %s %v; answers %v", what, s.method, s.uri, s.header, statuses)
			}
			for name := range s.header {
				if strings.Contains(strings.ToLower(name), "clerk") {
					t.Errorf("%s: the upstream saw the header %s", what, name)
				}
			}
		}
		if len(statuses) > 0 && statuses[0] != 200 && statuses[0] != 400 && statuses[0] != 501 {
			t.Errorf("%s: answers %v", what, statuses)
		}
	}
}

// A verifier that fails in an unforeseen way lets nobody in.
func TestUnknownErrors(t *testing.T) {
	t.Parallel()
	r := newRig(t, open(), func(o *gateway.Options) { o.Verifier = broken{} })
	r.expect("protected", r.ask(http.MethodGet, "/api/x", r.token(nil)), 500, "internal-error")
	if got := r.upstream.take(); len(got) > 0 {
		t.Errorf("the upstream saw %v", got)
	}
}

type broken struct{}

func (broken) VerifyRequest(*http.Request) (*auth.Claims, error) { return nil, errors.New("broken") }
