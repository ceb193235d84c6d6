package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"runtime"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/rollcall-dev/rollcall/internal/broker"
	"github.com/rollcall-dev/rollcall/internal/consume"
	"github.com/rollcall-dev/rollcall/internal/emulator/token"
	"github.com/rollcall-dev/rollcall/internal/ingest"
	"github.com/rollcall-dev/rollcall/internal/revocation"
	"github.com/rollcall-dev/rollcall/internal/revoke"
	"github.com/rollcall-dev/rollcall/streams/auth"
)

const (
	edgeGateways = 3
	edgeRate     = 1000 // requests a second at all of them
	edgeSenders  = 12
)

// revocation measures how soon a ban refuses at three gateways under load, and what
// a long list costs.
func (b *bench) revocation(ctx context.Context) error {
	if err := b.longList(); err != nil {
		return err
	}
	b.round()
	took, err := b.bans(ctx)
	if err != nil {
		return err
	}
	p50, p99 := percentiles(took)
	what := fmt.Sprintf("ban: from the webhook's 2xx to refusal at %d gateways, %d requests/s, ", edgeGateways, edgeRate)
	b.add(row{What: what + "p50", Unit: "ms", Ours: milliseconds(p50)})
	b.add(row{What: what + "p99", Unit: "ms", Ours: milliseconds(p99), Target: 100, AtMost: true})
	return nil
}

// entry is a key of the bucket as a watch gives it.
type entry struct {
	jetstream.KeyValueEntry
	key   string
	value []byte
}

func (e entry) Key() string                     { return e.key }
func (e entry) Value() []byte                   { return e.value }
func (e entry) Operation() jetstream.KeyValueOp { return jetstream.KeyValuePut }

// longList asks a list for members; all five keys of every other one are looked up.
func (b *bench) longList() error {
	n := b.sizes.revocations
	now, before := time.Now(), liveBytes()
	list := newList(nil)
	watch := list.Reader()
	value := fmt.Appendf(nil, `{"not_before":%d,"reason":"user.banned","event_id":"msg_2g7"}`, now.UnixMilli())
	for i := range n {
		watch.Take(entry{key: revocation.Key(revocation.User, userID(i)), value: value})
	}
	watch.Take(nil)
	b.add(row{What: fmt.Sprintf("a list of %d revocations: memory", n), Unit: "MB", Ours: float64(liveBytes()-before) / 1e6, Target: 200, AtMost: true})
	member := auth.Claims{UserID: userID(n), SessionID: "sess_bench", IssuedAt: now, Organization: auth.Organization{ID: "org_bench", Role: "org:admin"}}
	asked := 0
	each, err := microseconds(func() error {
		asked++
		other := member
		other.UserID = userID(n - asked%2) // one is on it, one isn't
		if _, refused := list.Refuse(&other); refused != (asked%2 == 1) {
			return fmt.Errorf("%s is refused: %t", other.UserID, refused)
		}
		return nil
	})
	if err != nil {
		return err
	}
	b.add(row{What: fmt.Sprintf("a list of %d revocations: asked", n), Unit: "µs CPU", Ours: each, Target: 2, AtMost: true})
	return nil
}

func liveBytes() int64 {
	runtime.GC()
	runtime.GC() // pools hold on to what was theirs for one
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc) //nolint:gosec // far from its end
}

func newList(conn *broker.Conn) *revocation.List {
	return revocation.NewList(revocation.ListOptions{Broker: conn, Life: auth.DefaultMaxTokenLife, Log: zap.NewNop(), Status: &trouble{}})
}

// edge is an ingest, a revoke, and gateways with a list each.
type edge struct {
	ctx      context.Context
	ingest   string
	gateways []string
	signer   *signer
	client   *http.Client
	closers  []func() error
}

func (e *edge) close() (err error) {
	e.client.CloseIdleConnections()
	for i := len(e.closers) - 1; i >= 0; i-- {
		err = errors.Join(err, e.closers[i]())
	}
	return err
}

func (b *bench) newEdge(ctx context.Context, publicPEM string) (e *edge, err error) {
	e = &edge{ctx: ctx, client: &http.Client{Timeout: readyWait, Transport: &http.Transport{MaxIdleConnsPerHost: 2 * edgeSenders}}}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.close())
		}
	}()
	if e.signer, err = b.signer(); err != nil {
		return e, err
	}
	j, err := newJournal(ctx)
	if err != nil {
		return e, err
	}
	e.closers = append(e.closers, j.close)
	f, err := newFront(ctx, j.URL())
	if err != nil {
		return e, err
	}
	e.closers = append(e.closers, f.close)
	e.ingest = "http://" + f.addr + ingest.Path
	if err := e.startRevoke(j.URL()); err != nil {
		return e, err
	}
	upstream, stop, err := serve(ctx, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	if err != nil {
		return e, err
	}
	e.closers = append(e.closers, stop)
	for range edgeGateways {
		if err := e.startGateway(j.URL(), publicPEM, &url.URL{Scheme: "http", Host: upstream}); err != nil {
			return e, err
		}
	}
	return e, nil
}

func (e *edge) startRevoke(natsURL string) error {
	conn, err := connect(natsURL, "bench revoke")
	if err != nil {
		return err
	}
	registry := prometheus.NewRegistry()
	runner := consume.New(revoke.New(revoke.Options{Broker: conn, Life: auth.DefaultMaxTokenLife}), consume.Options{
		Broker: conn, Log: zap.NewNop(), Status: &trouble{}, NoStream: func() {}, TidyEvery: revoke.WatermarkEvery,
		Metrics: consume.NewMetrics(registry, consume.NewDeadLetters(registry)),
	})
	e.background(conn, runner.Run)
	return nil
}

func (e *edge) background(conn *broker.Conn, run func(context.Context) error) {
	r := start(e.ctx, run)
	e.closers = append(e.closers, func() error { conn.Close(); return nil }, r.stop)
}

// startGateway returns once its list is fresh.
func (e *edge) startGateway(natsURL, publicPEM string, upstream *url.URL) error {
	conn, err := connect(natsURL, "bench gateway")
	if err != nil {
		return err
	}
	list := newList(conn)
	e.background(conn, list.Run)
	g, err := newGateway(publicPEM, upstream, list)
	if err != nil {
		return err
	}
	addr, stop, err := serve(e.ctx, g.ServeHTTP)
	if err != nil {
		return err
	}
	e.closers = append(e.closers, stop)
	e.gateways = append(e.gateways, "http://"+addr+"/orders")
	for until := time.Now().Add(readyWait); ; time.Sleep(pollEvery) {
		if err := list.Fresh(); err == nil || time.Now().After(until) {
			return err
		}
	}
}

// ask is the status of a request.
func (e *edge) ask(gateway int, bearer string) (int, error) {
	req, err := http.NewRequestWithContext(e.ctx, http.MethodGet, e.gateways[gateway], nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+bearer)
	return e.do(req)
}

func (e *edge) do(req *http.Request) (int, error) {
	resp, err := e.client.Do(req)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, errors.Join(err, resp.Body.Close())
}

// ban posts the webhook; it returns when it is stored.
func (e *edge) ban(n int) error {
	now := time.Now()
	id := fmt.Sprintf("msg_%s_ban%d", e.signer.run, n)
	body := fmt.Appendf(nil, `{"type":"user.updated","object":"event","timestamp":%[2]d,"data":{"id":%[1]q,"banned":true,"updated_at":%[2]d}}`, userID(n), now.UnixMilli())
	signature, err := e.signer.webhooks[0].Sign(id, now, body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(e.ctx, http.MethodPost, e.ingest, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("svix-id", id)
	req.Header.Set("svix-timestamp", fmt.Sprint(now.Unix()))
	req.Header.Set("svix-signature", signature)
	if status, err := e.do(req); err != nil || status != http.StatusNoContent {
		return fmt.Errorf("the webhook is answered %d: %w", status, err)
	}
	return nil
}

// bans is how long each ban took at each gateway, while others send requests.
func (b *bench) bans(ctx context.Context) (took []time.Duration, err error) {
	tokens, publicPEM, err := tokensOf(max(b.sizes.alone/4, 2))
	if err != nil {
		return nil, err
	}
	e, err := b.newEdge(ctx, publicPEM)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, e.close()) }()
	sending, stop := context.WithCancel(ctx)
	senders := make([]func(context.Context) error, edgeSenders)
	for i := range senders {
		senders[i] = func(ctx context.Context) error { return e.send(ctx, i%edgeGateways, tokens[0]) }
	}
	load := start(sending, senders...)
	defer func() { stop(); err = errors.Join(err, load.stop()) }()
	for n := 1; n < len(tokens); n++ { // the first is the load's
		if err := e.ban(n); err != nil {
			return nil, err
		}
		each, err := e.refused(tokens[n])
		if err != nil {
			return nil, err
		}
		took = append(took, each...)
	}
	return took, nil
}

// send sends requests that pass, at its part of the rate.
func (e *edge) send(ctx context.Context, gateway int, bearer string) error {
	tick := time.NewTicker(time.Second * edgeSenders / edgeRate)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if status, err := e.ask(gateway, bearer); err != nil || status != http.StatusNoContent {
				return fmt.Errorf("gateway %d answers %d: %w", gateway, status, err)
			}
		}
	}
}

// refused waits for all gateways, and returns how long each let the token pass.
func (e *edge) refused(bearer string) ([]time.Duration, error) {
	stored, took, errs := time.Now(), make([]time.Duration, edgeGateways), make([]error, edgeGateways)
	var all sync.WaitGroup
	for i := range edgeGateways {
		all.Go(func() {
			for {
				status, err := e.ask(i, bearer)
				took[i] = time.Since(stored)
				if err == nil && status != http.StatusUnauthorized && took[i] > readyWait {
					err = errors.New("somebody banned is let through")
				}
				if err != nil || status == http.StatusUnauthorized {
					errs[i] = err
					return
				}
				time.Sleep(time.Millisecond)
			}
		})
	}
	all.Wait()
	return took, errors.Join(errs...)
}

// tokensOf are a session token of each of n users.
func tokensOf(n int) (tokens []string, publicPEM string, err error) {
	keys, err := token.NewKeys("ins_bench", time.Now)
	if err != nil {
		return nil, "", err
	}
	minter := token.Minter{Keys: keys, Issuer: "https://clerk.bench.example", Clock: time.Now}
	for i := range n {
		text, err := minter.Session(token.SessionClaims{
			UserID: userID(i), SessionID: fmt.Sprintf("sess_%d", i), Options: token.Options{Lifetime: auth.DefaultMaxTokenLife},
			Organization: &token.Organization{ID: "org_bench", Slug: "bench", Role: "org:admin", Permissions: []string{"org:invoices:read"}},
		})
		if err != nil {
			return nil, "", err
		}
		tokens = append(tokens, text)
	}
	publicPEM, err = keys.PublicPEM()
	return tokens, publicPEM, err
}
