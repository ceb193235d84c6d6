package gateway

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/rollcall-dev/rollcall/streams/auth"
)

const (
	dialTimeout = 5 * time.Second
	// lookAgain is how often a request that takes long, such as a WebSocket, is
	// held against the revocations.
	lookAgain = time.Second
)

type assertedKey struct{}

// forward has the upstream answer; asserted are the identity headers, nil for
// nobody's.
func (g *Gateway) forward(x *exchange, r *http.Request, asserted http.Header) {
	if limit := x.route.MaxBody; limit > 0 && r.Body != http.NoBody {
		if r.ContentLength > limit {
			x.refuse(tooLarge())
			return
		}
		r.Body = http.MaxBytesReader(x.ResponseWriter, r.Body, limit)
	}
	if r.Body != http.NoBody {
		r.Body = &body{r.Body, &x.bodyBroke}
	}
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		// Another protocol could carry requests past us, as HTTP/2 would.
		r.Header.Del("Upgrade")
	}
	ctx := context.WithValue(r.Context(), assertedKey{}, asserted)
	if x.claims != nil && g.Revocations != nil {
		var done func()
		ctx, done = g.watch(ctx, x.claims)
		defer done()
	}
	x.route.proxy.ServeHTTP(x, r.WithContext(ctx))
}

func tooLarge() error {
	return &auth.Error{Code: CodeBodyTooLarge, Status: http.StatusRequestEntityTooLarge, Message: "the request's body is larger than the route takes"}
}

// watch ends the context once the session is revoked: a connection that stays
// open must not outlive what opened it.
func (g *Gateway) watch(ctx context.Context, c *auth.Claims) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	var timer *time.Timer
	ready := make(chan struct{})
	timer = time.AfterFunc(lookAgain, func() {
		<-ready
		if err := g.refusal(c); err != nil {
			cancel(err)
		} else if ctx.Err() == nil {
			timer.Reset(lookAgain)
		}
	})
	close(ready)
	return ctx, func() { timer.Stop(); cancel(nil) }
}

func (g *Gateway) newProxy(to *route) http.Handler {
	log, err := zap.NewStdLogAt(g.Log, zap.DebugLevel) // what breaks is in the request's own line
	if err != nil {
		panic(err) // there is a debug level
	}
	return &httputil.ReverseProxy{
		Rewrite:      func(p *httputil.ProxyRequest) { g.rewrite(p, to) },
		Transport:    transport(to),
		ErrorHandler: failed,
		ErrorLog:     log,
		BufferPool:   &buffers{},
	}
}

// rewrite runs after what the client's Connection header lists is gone, so that
// it can take nothing of what is set here.
func (g *Gateway) rewrite(p *httputil.ProxyRequest, to *route) {
	if to.StripPrefix != "" {
		stripPrefix(p.Out.URL, strings.TrimRight(to.StripPrefix, "/"))
	}
	p.SetURL(to.base)
	p.Out.URL.RawQuery = p.In.URL.RawQuery // as it came: nothing here goes by it
	p.Out.Trailer = nil
	h := p.Out.Header
	strip(h)
	g.forwardedBy(p)
	asserted, _ := p.In.Context().Value(assertedKey{}).(http.Header)
	for name, values := range asserted {
		h[name] = values
	}
}

// forwardedBy sets the X-Forwarded headers, which go on from trusted proxies only.
func (g *Gateway) forwardedBy(p *httputil.ProxyRequest) {
	trusted := g.trusts(p.In.RemoteAddr)
	if trusted {
		p.Out.Header["X-Forwarded-For"] = p.In.Header["X-Forwarded-For"]
		if p.Out.Header["X-Forwarded-For"] == nil {
			delete(p.Out.Header, "X-Forwarded-For")
		}
	}
	p.SetXForwarded()
	for _, name := range []string{"X-Forwarded-Host", "X-Forwarded-Proto"} {
		if values := p.In.Header[name]; trusted && len(values) > 0 {
			p.Out.Header[name] = values
		}
	}
}

func (g *Gateway) trusts(remote string) bool {
	if len(g.TrustedProxies) == 0 {
		return false
	}
	from, err := netip.ParseAddrPort(remote)
	return err == nil && slices.ContainsFunc(g.TrustedProxies, func(p netip.Prefix) bool { return p.Contains(from.Addr().Unmap()) })
}

// stripPrefix takes the beginning off a path that has it, however it is encoded.
func stripPrefix(u *url.URL, prefix string) {
	u.Path = "/" + strings.TrimPrefix(strings.TrimPrefix(u.Path, prefix), "/")
	raw, ok := strings.CutPrefix(u.RawPath, prefix)
	if !ok {
		u.RawPath = "" // then it is encoded anew
		return
	}
	u.RawPath = "/" + strings.TrimPrefix(raw, "/")
}

// transport is a route's own: its time-out is.
func transport(to *route) *http.Transport {
	t := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout: dialTimeout, ResponseHeaderTimeout: to.Timeout,
		MaxIdleConnsPerHost: 256, IdleConnTimeout: 90 * time.Second,
		DisableCompression: true, ForceAttemptHTTP2: true, // what the client accepts is between it and the upstream
	}
	if to.Upstream.Scheme == "h2c" {
		t.Protocols = new(http.Protocols)
		t.Protocols.SetUnencryptedHTTP2(true)
	}
	return t
}

// failed answers for an upstream that doesn't.
func failed(w http.ResponseWriter, r *http.Request, err error) {
	x := w.(*exchange)
	var refused *auth.Error
	var timeout net.Error
	var large *http.MaxBytesError
	switch cause := context.Cause(r.Context()); {
	case errors.As(cause, &refused):
		x.refuse(refused)
	case cause != nil:
		// Nobody may be there to read it; while we stop, somebody is.
		x.refuse(&auth.Error{Code: CodeUpstream, Status: http.StatusBadGateway, Message: "the request was given up", Err: cause})
		x.reason = reasonGone
	case errors.As(err, &large):
		x.refuse(tooLarge())
	case x.bodyBroke.Load():
		x.refuse(&auth.Error{Code: CodeBodyBroken, Status: http.StatusBadRequest, Message: "the request's body can't be read to its end", Err: err})
	case errors.As(err, &timeout) && timeout.Timeout():
		x.refuse(&auth.Error{Code: CodeUpstreamTimeout, Status: http.StatusGatewayTimeout, Message: "the service didn't answer in time", Err: err})
	default:
		x.refuse(&auth.Error{Code: CodeUpstream, Status: http.StatusBadGateway, Message: "the service can't be reached, or broke off", Err: err})
	}
}

// body notes that a client's body can't be read, which isn't the upstream's fault.
type body struct {
	io.ReadCloser
	broke *atomic.Bool
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		b.broke.Store(true)
	}
	return n, err
}

// buffers are for copying bodies.
type buffers struct{ pool sync.Pool }

const bufferSize = 32 << 10

func (b *buffers) Get() []byte {
	if p, ok := b.pool.Get().(*[]byte); ok {
		return *p
	}
	return make([]byte, bufferSize)
}

func (b *buffers) Put(p []byte) { b.pool.Put(&p) }
