package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/rollcall-dev/rollcall/internal/emulator/token"
	"github.com/rollcall-dev/rollcall/internal/gateway"
	"github.com/rollcall-dev/rollcall/internal/identity"
	"github.com/rollcall-dev/rollcall/streams/auth"
)

const (
	gatewayConnections = 64
	newTokens          = 1000 // of a round
)

// gateways measures what the gateway adds to a plain reverse proxy, and what a
// token that it hasn't seen adds to that.
func (b *bench) gateways(ctx context.Context) (err error) {
	text, publicPEM, err := sessionToken()
	if err != nil {
		return err
	}
	upstream, stop, err := serve(ctx, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	target := &url.URL{Scheme: "http", Host: upstream}
	ours, err := newGateway(publicPEM, target, nil)
	if err != nil {
		return err
	}
	plain := &httputil.ReverseProxy{
		Rewrite:   func(p *httputil.ProxyRequest) { p.SetURL(target); p.SetXForwarded() },
		Transport: &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true},
	}
	request := post{request: []byte("GET /orders HTTP/1.1\r\nHost: app.example\r\nAccept: */*\r\nAuthorization: Bearer " + text + "\r\n\r\n")}
	posts := make([]post, b.posts)
	for i := range posts {
		posts[i] = request
	}
	rate := func(h http.Handler) (float64, error) {
		b.round()
		addr, stop, err := serve(ctx, h.ServeHTTP)
		if err != nil {
			return 0, err
		}
		r, err := load(clientRaw, addr, posts, gatewayConnections)
		return r.rate, errors.Join(err, stop())
	}
	var rounds []pair
	for i := range b.rounds + 1 {
		var p pair
		if p.ours, err = rate(ours); err != nil {
			return err
		}
		if p.beside, err = rate(plain); err != nil {
			return err
		}
		if i > 0 { // the first warms up
			rounds = append(rounds, p)
		}
	}
	b.add(compare("gateway, 64 connections, a token remembered", "/s", rounds, "a plain ReverseProxy", 0.8))
	return b.firstSeen(target)
}

// firstSeen asks the handler itself: what is between is no matter of tokens.
func (b *bench) firstSeen(upstream *url.URL) error {
	keys, err := token.NewKeys("ins_bench", time.Now)
	if err != nil {
		return err
	}
	publicPEM, err := keys.PublicPEM()
	if err != nil {
		return err
	}
	g, err := newGateway(publicPEM, upstream, nil)
	if err != nil {
		return err
	}
	minter := token.Minter{Keys: keys, Issuer: "https://clerk.bench.example", Clock: time.Now}
	var more []float64
	for round := range b.rounds {
		requests := make([]*http.Request, newTokens)
		for i := range requests {
			text, err := minter.Session(token.SessionClaims{
				UserID: userID(i), SessionID: fmt.Sprintf("sess_%d_%d", round, i), Options: token.Options{Lifetime: auth.DefaultMaxTokenLife},
				Organization: &token.Organization{ID: "org_bench", Slug: "bench", Role: "org:admin", Permissions: []string{"org:invoices:read", "org:invoices:manage", "org:teams:read"}},
			})
			if err != nil {
				return err
			}
			requests[i] = httptest.NewRequest(http.MethodGet, gateway.VerifyPath+"?audience=orders", nil)
			requests[i].Header.Set("Authorization", "Bearer "+text)
		}
		b.round()
		var took [2]float64
		for i := range took { // each token for the first time, then again
			if took[i], err = each(g, requests); err != nil {
				return err
			}
		}
		more = append(more, took[0]-took[1])
	}
	b.add(row{What: "gateway, a token first seen: more than remembered", Unit: "µs CPU", Ours: median(more), Target: 60, AtMost: true})
	return nil
}

// each is the CPU time of a request, in microseconds.
func each(h http.Handler, requests []*http.Request) (float64, error) {
	began, err := cpuTime()
	if err != nil {
		return 0, err
	}
	for _, r := range requests {
		w := httptest.NewRecorder()
		if h.ServeHTTP(w, r); w.Code != http.StatusOK {
			return 0, fmt.Errorf("the gateway answers %d: %s", w.Code, w.Body)
		}
	}
	ended, err := cpuTime()
	return float64((ended - began).Nanoseconds()) / 1000 / float64(len(requests)), err
}

func newGateway(publicPEM string, upstream *url.URL, revoked gateway.Revocations) (*gateway.Gateway, error) {
	verifier, err := auth.New(auth.Options{Instances: []auth.Instance{{JWTKey: publicPEM}}})
	if err != nil {
		return nil, err
	}
	issuer, err := identity.New(bytes.Repeat([]byte("b"), identity.MinSeed), time.Now)
	if err != nil {
		return nil, err
	}
	// Every request is logged, as it is by default.
	log := zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(io.Discard), zap.InfoLevel))
	return gateway.New(gateway.Options{
		Verifier: verifier, Signer: issuer, Revocations: revoked, Log: log, Metrics: gateway.NewMetrics(prometheus.NewRegistry()),
		Routes: []gateway.Route{{Path: "/", Upstream: upstream, Timeout: readyWait, LogOneIn: 1, Require: auth.Requirements{Permission: "org:invoices:read"}}},
	})
}
