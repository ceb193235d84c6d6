package gateway_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"github.com/rollcall-dev/rollcall/internal/gateway"
	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
	"github.com/rollcall-dev/rollcall/streams/auth"
)

// to is a route to a handler of the test's own.
func to(t *testing.T, h http.HandlerFunc, change func(*gateway.Route)) gateway.Route {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	route := gateway.Route{Path: "/", Upstream: must[*url.URL](t)(url.Parse(s.URL))}
	if change != nil {
		change(&route)
	}
	return route
}

// echo takes a WebSocket's handshake, and says back what it hears.
func echo(w http.ResponseWriter, r *http.Request) {
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") || r.Header.Get(auth.HeaderUserID) != "user_ada" {
		http.Error(w, "no", http.StatusTeapot)
		return
	}
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	defer func() { _ = conn.Close() }()
	_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	_, _ = io.Copy(conn, rw)
}

func (r *rig) webSocket(path string) (net.Conn, *bufio.Reader) {
	r.t.Helper()
	conn := must[net.Conn](r.t)(net.Dial("tcp", r.addr))
	r.t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	key := base64.StdEncoding.EncodeToString([]byte(rand.Text()[:16]))
	_, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\nAuthorization: Bearer %s\r\n\r\n", path, key, r.token(nil))
	if err != nil {
		r.t.Fatal(err)
	}
	read := bufio.NewReader(conn)
	resp := must[*http.Response](r.t)(http.ReadResponse(read, nil))
	if resp.StatusCode != http.StatusSwitchingProtocols {
		r.t.Fatalf("a WebSocket's handshake: %s", resp.Status)
	}
	return conn, read
}

// A WebSocket passes, and ends when its session is revoked.
func TestWebSocket(t *testing.T) {
	t.Parallel()
	var banned atomic.Bool
	r := newRig(t, []gateway.Route{to(t, echo, nil)}, func(o *gateway.Options) {
		o.Revocations = fakeRevocations{banned.Load, func() bool { return false }}
	})
	conn, read := r.webSocket("/")
	for _, line := range []string{"hello\n", "again\n"} {
		if _, err := io.WriteString(conn, line); err != nil {
			t.Fatal(err)
		}
		if got := must[string](t)(read.ReadString('\n')); got != line {
			t.Errorf("%q, want %q", got, line)
		}
	}
	began := time.Now()
	banned.Store(true)
	if _, err := read.ReadByte(); err != io.EOF || time.Since(began) > 10*time.Second {
		t.Errorf("after %s: %v", time.Since(began), err)
	}
}

// Each event of a stream arrives before the next is made.
func TestServerSentEvents(t *testing.T) {
	t.Parallel()
	more := make(chan struct{})
	r := newRig(t, []gateway.Route{to(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range 3 {
			_, _ = fmt.Fprintf(w, "data: %d\n\n", i)
			_ = http.NewResponseController(w).Flush()
			select {
			case <-more:
			case <-r.Context().Done():
				return
			}
		}
	}, nil)}, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	req := must[*http.Request](t)(http.NewRequestWithContext(ctx, http.MethodGet, r.server.URL, nil))
	req.Header.Set("Authorization", "Bearer "+r.token(nil))
	resp := must[*http.Response](t)((&http.Transport{DisableKeepAlives: true}).RoundTrip(req))
	defer func() { _ = resp.Body.Close() }()
	lines := bufio.NewReader(resp.Body)
	for i := range 3 {
		if got, err := lines.ReadString('\n'); err != nil || got != fmt.Sprintf("data: %d\n", i) {
			t.Fatalf("%q, %v", got, err)
		}
		_, _ = lines.ReadString('\n')
		more <- struct{}{}
	}
}

// HTTP/2 on both sides, with the trailers that gRPC needs.
func TestHTTP2(t *testing.T) {
	t.Parallel()
	r := newRig(t, []gateway.Route{to(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "Grpc-Status")
		_, _ = fmt.Fprintf(w, "%s, trailers %s", r.Proto, r.Header.Get("Te"))
		w.Header().Set("Grpc-Status", "0")
	}, func(route *gateway.Route) { route.Upstream.Scheme = "h2c" })}, nil)
	client := &http.Transport{Protocols: new(http.Protocols)}
	client.Protocols.SetUnencryptedHTTP2(true)
	defer client.CloseIdleConnections()
	for bearer, want := range map[string]int{r.token(nil): 200, "x": 401} {
		req := must[*http.Request](t)(http.NewRequestWithContext(t.Context(), http.MethodPost, r.server.URL, strings.NewReader("x")))
		req.Header.Set("Authorization", "Bearer "+bearer)
		req.Header.Set("Te", "trailers")
		resp := must[*http.Response](t)(client.RoundTrip(req))
		body := must[[]byte](t)(io.ReadAll(resp.Body))
		_ = resp.Body.Close()
		if resp.StatusCode != want || resp.ProtoMajor != 2 || want == 200 && (string(body) != "HTTP/2.0, trailers trailers" || resp.Trailer.Get("Grpc-Status") != "0") {
			t.Errorf("%s %s %s %v", resp.Proto, resp.Status, body, resp.Trailer)
		}
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	slow := to(t, func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}, func(route *gateway.Route) { route.Path, route.Timeout = "/slow", 50*time.Millisecond })
	defer close(release)
	breaks := to(t, func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			_ = conn.Close()
		}
	}, func(route *gateway.Route) { route.Path = "/breaks" })
	down := gateway.Route{Path: "/down", Upstream: must[*url.URL](t)(url.Parse("http://127.0.0.1:1"))}
	r := newRig(t, []gateway.Route{{Path: "/", MaxBody: 10}, slow, breaks, down}, nil)
	ada := r.token(nil)
	r.expect("slow", r.ask(http.MethodGet, "/slow", ada), 504, gateway.CodeUpstreamTimeout)
	r.expect("broken off", r.ask(http.MethodPost, "/breaks", ada), 502, gateway.CodeUpstream)
	r.expect("down", r.ask(http.MethodGet, "/down", ada), 502, gateway.CodeUpstream)

	post := func(body io.Reader, bearer string) answer {
		req := must[*http.Request](t)(http.NewRequestWithContext(t.Context(), http.MethodPost, r.server.URL+"/x", body))
		if bearer != "" {
			req.Header.Set("Authorization", "Bearer "+bearer)
		}
		return r.do(req)
	}
	r.expect("a body that fits", post(strings.NewReader("0123456789"), ada), 200, "")
	r.expect("too long a body", post(strings.NewReader("0123456789A"), ada), 413, gateway.CodeBodyTooLarge)
	r.expect("too long, in chunks", post(io.MultiReader(strings.NewReader("0123456789"), strings.NewReader("A")), ada), 413, gateway.CodeBodyTooLarge)
	r.expect("too long, and nobody's", post(strings.NewReader("0123456789A"), ""), 401, auth.CodeTokenMissing)
	if got := r.upstream.take(); len(got) != 1 || got[0].body != "0123456789" {
		t.Errorf("the upstream saw %v", got)
	}
}

// What ends a request early is said for what it is.
func TestEndedEarly(t *testing.T) {
	t.Parallel()
	arrived := make(chan struct{}, 1)
	waits := to(t, func(_ http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-r.Context().Done()
	}, nil)
	breaks := to(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "not a hundred bytes")
	}, func(route *gateway.Route) { route.Path = "/breaks" })
	var banned atomic.Bool
	r := newRig(t, []gateway.Route{waits, breaks}, func(o *gateway.Options) {
		o.Revocations = fakeRevocations{banned.Load, func() bool { return false }}
	})
	ada := r.token(nil)
	ask := func(ctx context.Context, path string) error {
		req := must[*http.Request](t)(http.NewRequestWithContext(ctx, http.MethodGet, r.server.URL+path, nil))
		req.Header.Set("Authorization", "Bearer "+ada)
		resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
		if err != nil {
			return err
		}
		_, err = io.ReadAll(resp.Body)
		return errors.Join(err, resp.Body.Close())
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-arrived; cancel() }()
	if err := ask(ctx, "/"); !errors.Is(err, context.Canceled) {
		t.Errorf("given up by the client: %v", err)
	}
	if err := ask(t.Context(), "/breaks"); err == nil {
		t.Error("what the upstream broke off ends well")
	}
	go func() { <-arrived; banned.Store(true) }()
	r.expect("revoked while the upstream thinks", r.ask(http.MethodGet, "/", ada), 401, gateway.CodeRevoked)
	want := map[string]bool{"client-gone": true, "broken-off": true, "session-revoked": true}
	stacktest.Eventually(t, 10*time.Second, func() error {
		got := map[string]bool{}
		for _, e := range r.logs.All() {
			got[fmt.Sprint(e.ContextMap()["reason"])] = true
		}
		if diff := cmp.Diff(want, got); diff != "" {
			return errors.New(diff)
		}
		return nil
	})
}

func TestForwardedHeaders(t *testing.T) {
	t.Parallel()
	for trusted, want := range map[string]string{
		"":             "127.0.0.1 shop.example http",
		"10.0.0.0/8":   "127.0.0.1 shop.example http",
		"127.0.0.0/30": "192.0.2.1, 127.0.0.1 www.example https",
	} {
		r := newRig(t, []gateway.Route{{Path: "/"}}, func(o *gateway.Options) {
			if trusted != "" {
				o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix(trusted)}
			}
		})
		r.ask(http.MethodGet, "/", r.token(nil), "Host", "shop.example", "X-Forwarded-For", "192.0.2.1", "X-Forwarded-Host", "www.example", "X-Forwarded-Proto", "https", "Forwarded", "for=192.0.2.9")
		h := r.upstream.take()[0].header
		if got := h.Get("X-Forwarded-For") + " " + h.Get("X-Forwarded-Host") + " " + h.Get("X-Forwarded-Proto"); got != want || h.Get("Forwarded") != "" {
			t.Errorf("trusting %q: %s, want %s", trusted, got, want)
		}
	}
}

// Serve answers what is in flight, and ends; a WebSocket doesn't hold it up.
func TestServeDrains(t *testing.T) {
	t.Parallel()
	arrived, release := make(chan struct{}), make(chan struct{})
	r := newRig(t, []gateway.Route{to(t, echo, func(route *gateway.Route) { route.Path = "/ws" })}, nil)
	ln := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	mux := http.NewServeMux()
	mux.Handle("/ws", r.server.Config.Handler)
	mux.HandleFunc("/slow", func(http.ResponseWriter, *http.Request) { close(arrived); <-release })
	go func() { ended <- gateway.Serve(ctx, ln, mux, zap.NewNop()) }()
	r.addr = ln.Addr().String()
	_, read := r.webSocket("/ws")
	answered := make(chan error, 1)
	go func() {
		resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(must[*http.Request](t)(http.NewRequest(http.MethodGet, "http://"+ln.Addr().String()+"/slow", nil)))
		if err == nil {
			err = resp.Body.Close()
		}
		answered <- err
	}()
	<-arrived
	cancel()
	select {
	case err := <-ended:
		t.Fatalf("ended %v with a request in flight", err)
	case <-time.After(50 * time.Millisecond):
	}
	close(release)
	if err := <-answered; err != nil {
		t.Errorf("the request in flight: %v", err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, err := read.ReadByte(); err == nil {
		t.Error("the WebSocket outlives the server")
	}
}
