package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/rollcall-dev/rollcall/internal/audit"
	"github.com/rollcall-dev/rollcall/internal/broker"
	"github.com/rollcall-dev/rollcall/internal/cli"
	"github.com/rollcall-dev/rollcall/internal/config"
	"github.com/rollcall-dev/rollcall/internal/consume"
	"github.com/rollcall-dev/rollcall/internal/erased"
	"github.com/rollcall-dev/rollcall/internal/ingest"
	"github.com/rollcall-dev/rollcall/internal/publish"
	"github.com/rollcall-dev/rollcall/internal/reconcile"
	"github.com/rollcall-dev/rollcall/internal/revoke"
	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/internal/telemetry"
	"github.com/rollcall-dev/rollcall/streams"
)

// roles are what one process does.
type roles struct {
	ingest     bool
	stores     []config.Store
	audit      bool
	invalidate bool
	revoke     bool
	gateway    bool
}

// configuredRoles are all that the configuration has.
func configuredRoles(c *config.Config) []string {
	names := []string{"ingest"}
	if len(c.Stores) > 0 {
		names = append(names, "store")
	}
	if c.Audit.DatabaseURL != "" {
		names = append(names, "audit")
	}
	if c.Invalidate.Configured() {
		names = append(names, streams.SinkInvalidate)
	}
	if c.Gateway.Configured() {
		names = append(names, streams.SinkRevoke, roleGateway)
	}
	return names
}

// parseRoles reads the roles that were asked for; none means all that the
// configuration has. It checks that each has what it needs.
func parseRoles(c *config.Config, names []string) (roles, error) {
	var r roles
	if len(names) == 0 {
		names = configuredRoles(c)
	}
	wanted := map[string]bool{}
	for _, name := range names {
		switch {
		case name == "ingest":
			r.ingest = true
		case name == "store" && len(c.Stores) == 0:
			return r, cli.Usagef("role store: no store is configured; set DATABASE_URL, or stores in rollcall.yaml")
		case name == "store":
			for _, s := range c.Stores {
				wanted[s.Name] = true
			}
		case strings.HasPrefix(name, "store/"):
			wanted[strings.TrimPrefix(name, "store/")] = true
		case name == "audit":
			r.audit = true
		case name == streams.SinkInvalidate:
			r.invalidate = true
		case name == streams.SinkRevoke:
			r.revoke = true
		case name == roleGateway:
			r.gateway = true
		default:
			return r, cli.Usagef("there is no role %q; this release has ingest, store, store/NAME, audit, invalidate, revoke and gateway", name)
		}
	}
	mistakes := []error{c.RequireNATS()}
	if r.ingest {
		mistakes = append(mistakes, c.RequireIngest())
	}
	if r.audit {
		mistakes = append(mistakes, c.RequireAudit())
	}
	if r.invalidate {
		mistakes = append(mistakes, c.RequireInvalidate())
	}
	if r.gateway {
		mistakes = append(mistakes, c.RequireGateway())
	}
	for name := range wanted {
		mistakes = append(mistakes, c.RequireStore(name))
		if s, ok := c.Store(name); ok {
			r.stores = append(r.stores, s)
		}
	}
	slices.SortFunc(r.stores, func(a, b config.Store) int { return strings.Compare(a.Name, b.Name) })
	return r, errors.Join(mistakes...)
}

// remindEvery is how often the log says what is still degraded.
const remindEvery = 10 * time.Second

// waitForStreams is how long sinks leave the streams to be made.
const waitForStreams = 5 * time.Second

// process runs roles, and shows how they are.
type process struct {
	config  *config.Config
	roles   roles
	log     *zap.Logger
	metrics *prometheus.Registry
	health  *telemetry.Health
	// listener of webhooks, health and metrics; nil where ingest isn't a role.
	listener net.Listener
	// gatewayListener is of the gateway; nil where it isn't a role.
	gatewayListener net.Listener
	// embedded is the broker's health where it is this process's own, which
	// syncs always; nil elsewhere.
	embedded func() error
	maxBytes int64 // of the log; 0 for the server's limit only
	// beside runs what a command adds to the roles; nil adds nothing.
	beside func(ctx context.Context, conn *broker.Conn) error

	names       streams.Names
	deadLetters *prometheus.CounterVec
}

// gcPercent is for processes that hold little and allocate much: what is read
// from the log lives for one transaction. An ingest alone stays small instead.
const gcPercent = 150

func newProcess(c *config.Config, r roles, log *zap.Logger) *process {
	if _, set := os.LookupEnv("GOGC"); !set && (len(r.stores) > 0 || r.audit) {
		debug.SetGCPercent(gcPercent)
	}
	p := &process{
		config: c, roles: r, log: log, metrics: telemetry.NewRegistry(version), health: telemetry.NewHealth(log),
		maxBytes: c.NATS.MaxBytes, names: streams.Names{Prefix: c.NATS.Prefix},
	}
	p.metrics.MustRegister(p.health)
	p.deadLetters = consume.NewDeadLetters(p.metrics)
	return p
}

// run runs the roles until the context ends, and drains them.
func (p *process) run(ctx context.Context) error {
	conn, err := p.dial("nats")
	if err != nil {
		return cli.Usage(err)
	}
	defer conn.Close()
	keeper := broker.NewKeeper(broker.KeeperOptions{
		Broker: conn, Names: p.names, Create: p.config.NATS.Create,
		Streams:    streams.Options{Replicas: p.config.NATS.Replicas, MaxBytes: p.maxBytes, Window: p.config.NATS.DedupeWindow},
		Durability: p.config.NATS.Durability, MonitorURL: p.config.NATS.MonitorURL, Embedded: p.embedded,
		Check: p.checkPayload, Status: p.health.Part("streams"), Metrics: broker.NewMetrics(p.metrics),
	})
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return keeper.Run(ctx) })
	g.Go(func() error { return p.health.Remind(ctx, remindEvery) })
	if err := p.startSinks(ctx, g, keeper); err != nil {
		return err
	}
	if p.roles.gateway {
		if err := p.startGateway(ctx, g); err != nil {
			return err
		}
	}
	if p.beside != nil {
		g.Go(func() error { return p.beside(ctx, conn) })
	}
	if p.roles.ingest || p.beside != nil {
		g.Go(func() error { return p.hearSilence(ctx, conn) })
	}
	if p.roles.ingest {
		if err := p.startIngest(ctx, g, conn, keeper); err != nil {
			return err
		}
	} else {
		p.health.SetTaking(true, "")
		g.Go(func() error {
			return telemetry.Serve(ctx, p.config.Health.Addr, telemetry.Handler(p.metrics, p.health))
		})
	}
	context.AfterFunc(ctx, func() { p.health.SetTaking(false, "draining") })
	err = g.Wait()
	p.log.Info("stopped")
	return err
}

// hearSilence shows that webhooks no longer come, as a reconcile has found out.
func (p *process) hearSilence(ctx context.Context, conn *broker.Conn) error {
	l := &reconcile.Listener{Broker: conn, Names: p.names, Tell: p.showWhile(webhooksPart)}
	for _, i := range p.config.Instances {
		l.Instances = append(l.Instances, i.ID)
	}
	l.Register(p.metrics)
	return l.Run(ctx)
}

// checkPayload reports a server that takes no event as large as ingest does.
func (p *process) checkPayload(nc *nats.Conn) error {
	if !p.roles.ingest {
		return nil
	}
	return ingest.CheckPayload(nc.MaxPayload(), p.config.Ingest.MaxBody)
}

// dial connects to NATS. Each role has a connection of its own, so that a
// reader's backlog doesn't stand in an ingest's way.
func (p *process) dial(part string) (*broker.Conn, error) {
	status := p.health.Part(part)
	c := p.config.NATS
	return broker.Dial(broker.Options{
		Name: "rollcall " + part, URL: c.URL, Creds: c.Creds, TLSCA: c.TLSCA, Domain: c.Domain, Log: p.log,
		State: func(err error) {
			if err == nil {
				status.OK()
				return
			}
			status.Degraded("no connection to NATS (nats.url): " + err.Error())
		},
	})
}

// sinks are what all sinks of a process have in common.
type sinks struct {
	group   *errgroup.Group
	keeper  *broker.Keeper
	metrics *consume.Metrics
}

func (p *process) startSinks(ctx context.Context, g *errgroup.Group, keeper *broker.Keeper) error {
	all := sinks{g, keeper, consume.NewMetrics(p.metrics, p.deadLetters)}
	if err := p.startStores(ctx, all); err != nil {
		return err
	}
	if p.roles.audit {
		if err := p.startAudit(ctx, all); err != nil {
			return err
		}
	}
	if p.roles.invalidate {
		if err := p.startInvalidate(ctx, all); err != nil {
			return err
		}
	}
	if p.roles.revoke {
		return p.startRevoke(ctx, all)
	}
	return nil
}

// follow applies the log to a sink until the context ends.
func (p *process) follow(ctx context.Context, all sinks, s consume.Sink, conn *broker.Conn) error {
	part := p.health.Part(s.Name())
	var every time.Duration // as the runner likes
	if s.Name() == streams.SinkRevoke {
		every = revoke.WatermarkEvery
	}
	runner := consume.New(s, consume.Options{
		Broker: conn, Names: p.names, Log: p.log, Metrics: all.metrics, TidyEvery: every,
		Status: part, Filling: part.Filling, NoStream: all.keeper.Look,
	})
	select { // a stream that is just being made is no trouble
	case <-all.keeper.Kept():
	case <-ctx.Done():
	case <-time.After(waitForStreams):
	}
	return runner.Run(ctx)
}

func (p *process) startAudit(ctx context.Context, all sinks) error {
	conn, err := p.dial("nats/" + streams.SinkAudit)
	if err != nil {
		return cli.Usage(err)
	}
	metrics := audit.NewMetrics(p.metrics)
	anchors := audit.NewAnchors(conn, p.names, metrics, p.log)
	c := p.config.Audit
	l, err := audit.New(audit.Options{
		DatabaseURL: c.DatabaseURL, MigrateDatabaseURL: c.MigrateDatabaseURL, Migrate: c.Migrate,
		Names: p.names, Log: p.log, Metrics: metrics, Committed: anchors.Committed,
	})
	if err != nil {
		conn.Close()
		return cli.Usage(err)
	}
	// The last rows are anchored after the last commit.
	anchoring, stopAnchoring := context.WithCancel(context.WithoutCancel(ctx))
	var anchored sync.WaitGroup
	anchored.Go(func() { anchors.Run(anchoring) })
	all.group.Go(func() error {
		defer l.Close()
		defer conn.Close()
		defer anchored.Wait()
		defer stopAnchoring()
		return p.follow(ctx, all, l, conn)
	})
	return nil
}

const (
	// leftoverPart is the part of a store that shows what of its schema waits for
	// somebody's consent.
	leftoverPart = "/schema"
	// webhooksPart shows that webhooks no longer come.
	webhooksPart = "webhooks"
	// reconcilePart shows whether stores can be compared with Clerk, and driftPart
	// that they differ.
	reconcilePart = "reconcile"
	driftPart     = "drift"
)

// isReport tells a part that nothing else needs.
func isReport(part string) bool {
	return strings.HasSuffix(part, leftoverPart) || part == webhooksPart || part == reconcilePart || part == driftPart
}

// lookAtLeftover is how often such a store is asked whether it still waits.
const lookAtLeftover = 5 * time.Second

// showWhile shows reasons in a part that isn't there as long as there are none.
func (p *process) showWhile(part string) func(reason string) {
	var shown atomic.Bool
	return func(reason string) {
		switch {
		case reason != "":
			shown.Store(true)
			p.health.Part(part).Degraded(reason)
		case shown.Load():
			p.health.Part(part).OK()
		}
	}
}

func (p *process) startStores(ctx context.Context, all sinks) error {
	storeMetrics := store.NewMetrics(p.metrics)
	for _, c := range p.roles.stores {
		o := storeOptions(p.config, c)
		o.Log, o.Metrics, o.Leftover = p.log, storeMetrics, p.showWhile(streams.SinkStore(c.Name)+leftoverPart)
		s, err := store.New(o)
		if err != nil {
			return cli.Usage(err)
		}
		conn, err := p.dial("nats/" + s.Name())
		if err != nil {
			return cli.Usage(err)
		}
		all.group.Go(func() error {
			defer s.Close()
			defer conn.Close()
			return p.follow(ctx, all, s, conn)
		})
		all.group.Go(func() error { return s.WatchLeftover(ctx, lookAtLeftover) })
	}
	return nil
}

func (p *process) startIngest(ctx context.Context, g *errgroup.Group, conn *broker.Conn, keeper *broker.Keeper) error {
	publisher := publish.New(conn, p.log, publish.NewMetrics(p.metrics), keeper.Look)
	o := ingestOptions(p.config)
	people := erased.NewList(conn, p.names, p.health.Part("erased"))
	g.Go(func() error { return people.Run(ctx) })
	o.Publisher, o.Erased, o.Log, o.Metrics = publisher, people, p.log, ingest.NewMetrics(p.metrics, p.deadLetters)
	o.Shedding = func(on bool) {
		if ctx.Err() == nil {
			p.health.SetTaking(!on, "shedding load: too much is being received at once (ingest.max_memory)")
		}
	}
	handler, err := ingest.New(o)
	if err != nil {
		return cli.Usage(err)
	}
	handler.HeldBytes(p.metrics)
	mux := http.NewServeMux()
	mux.Handle("/", telemetry.Handler(p.metrics, p.health))
	mux.Handle(ingest.Path, handler)
	mux.Handle(ingest.Path+"/", handler)

	// The publisher ends after the last request has been answered.
	publishing, stopPublishing := context.WithCancel(context.WithoutCancel(ctx))
	g.Go(func() error { return publisher.Run(publishing) })
	g.Go(func() error {
		defer stopPublishing()
		p.health.SetTaking(true, "")
		return ingest.Serve(ctx, p.listener, mux, p.config.Ingest.ReadTimeout, p.log)
	})
	return nil
}

// ingestOptions are what the configuration says of ingest; the rest is the
// caller's.
func ingestOptions(c *config.Config) ingest.Options {
	o := ingest.Options{
		Names: streams.Names{Prefix: c.NATS.Prefix}, MaxBody: c.Ingest.MaxBody, MaxMemory: c.Ingest.MaxMemory, Codes: c.Ingest.Codes,
		SessionTTL: c.Log.SessionTTL, MessageTTL: c.Log.MessageTTL,
	}
	for _, i := range c.Instances {
		o.Instances = append(o.Instances, ingest.Instance{Name: i.Name, ID: i.ID, Secrets: i.WebhookSecrets})
	}
	return o
}

// listen opens the listener of a setting such as ingest.addr; from is what set it.
func listen(addr, setting, from string) (net.Listener, error) {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		variable := "ROLLCALL_" + strings.ToUpper(strings.ReplaceAll(setting, ".", "_"))
		return nil, fmt.Errorf("can't listen on %s (%s): %w; choose another address with %s or %s", addr, from, reasonOf(err), setting, variable)
	}
	return ln, nil
}

// reasonOf is a network error without the address, which the message has already.
func reasonOf(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

// endAfter ends the process when draining takes too long.
func endAfter(ctx context.Context, limit time.Duration, end func()) {
	context.AfterFunc(ctx, func() { time.AfterFunc(limit, end) })
}
