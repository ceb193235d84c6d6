package broker_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rollcall-dev/rollcall/internal/broker"
	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
	"github.com/rollcall-dev/rollcall/streams"
)

// part keeps what a Keeper reports.
type part struct {
	mu       sync.Mutex
	reported bool
	reason   string
}

func (p *part) OK() { p.Degraded("") }

func (p *part) Degraded(reason string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reported, p.reason = true, reason
}

// is waits for a reason that holds the text; "" for OK.
func (p *part) is(t testing.TB, want string) {
	t.Helper()
	stacktest.Eventually(t, 15*time.Second, func() error {
		p.mu.Lock()
		defer p.mu.Unlock()
		if !p.reported || (p.reason == "") != (want == "") || !strings.Contains(p.reason, want) {
			return fmt.Errorf("reported %v: %q, want %q", p.reported, p.reason, want)
		}
		return nil
	})
}

type keeperRig struct {
	*broker.Keeper
	conn     *broker.Conn
	js       jetstream.JetStream
	status   part
	registry *prometheus.Registry
}

func keep(t testing.TB, ns *stacktest.NATSServer, o broker.KeeperOptions) *keeperRig {
	t.Helper()
	r := &keeperRig{registry: prometheus.NewRegistry()}
	r.conn, _ = dial(t, broker.Options{URL: ns.URL})
	var err error
	r.js, err = jetstream.New(ns.Connect(t))
	must(t, err)
	o.Broker, o.Status, o.Metrics = r.conn, &r.status, broker.NewMetrics(r.registry)
	r.Keeper = broker.NewKeeper(o)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		must(t, <-done)
	})
	return r
}

func (r *keeperRig) has(name string) error {
	_, err := r.js.Stream(context.Background(), name)
	return err
}

// metric is a gauge's value, and its labels.
func (r *keeperRig) metric(t testing.TB, name string) (value float64, labels string) {
	t.Helper()
	families, err := r.registry.Gather()
	must(t, err)
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			value = m.GetGauge().GetValue()
			for _, l := range m.GetLabel() {
				labels += l.GetName() + "=" + l.GetValue() + " "
			}
		}
	}
	return value, strings.TrimSpace(labels)
}

func TestKeeperMakesStreams(t *testing.T) {
	t.Parallel()
	r := keep(t, stacktest.NATS(t), broker.KeeperOptions{Create: true, Durability: "unknown", Streams: streams.Options{MaxBytes: 1 << 30}})
	r.status.is(t, "")
	<-r.Kept()
	for _, name := range []string{"CLERK", "CLERK_DEAD", "KV_CLERK_STATE"} {
		must(t, r.has(name))
	}
	_, err := r.js.Publish(t.Context(), "clerk.ins_1.user.updated.x", make([]byte, 5000))
	must(t, err)
	_, err = r.js.Publish(t.Context(), "rollcall.dead.ingest._._._", nil)
	must(t, err)
	r.Look()
	stacktest.Eventually(t, 10*time.Second, func() error {
		size, _ := r.metric(t, "rollcall_log_bytes")
		limit, _ := r.metric(t, "rollcall_log_limit_bytes")
		messages, _ := r.metric(t, "rollcall_log_messages")
		letters, _ := r.metric(t, "rollcall_dead_letters")
		if size < 5000 || limit != 1<<30 || messages != 1 || letters != 1 {
			return fmt.Errorf("bytes %v, limit %v, messages %v, letters %v", size, limit, messages, letters)
		}
		return nil
	})

	// Deleted, and somebody misses it.
	must(t, r.js.DeleteStream(t.Context(), "CLERK"))
	start := time.Now()
	r.Look()
	stacktest.Eventually(t, 10*time.Second, func() error { return r.has("CLERK") })
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("Look took %s", took)
	}
}

// Deleted while nobody publishes; and who remembers something is told to doubt.
func TestKeeperNotices(t *testing.T) {
	t.Parallel()
	r := keep(t, stacktest.NATS(t), broker.KeeperOptions{Create: true, Durability: "unknown"})
	r.status.is(t, "")
	seen := func(messages float64) {
		stacktest.Eventually(t, 10*time.Second, func() error {
			if n, _ := r.metric(t, "rollcall_log_messages"); n != messages {
				return fmt.Errorf("%v messages seen", n)
			}
			return nil
		})
	}
	publish := func() {
		_, err := r.js.Publish(t.Context(), "clerk.ins_1.user.updated.x", nil)
		must(t, err)
	}
	publish()
	r.Look()
	seen(1)
	before := r.conn.Generation()
	publish()
	r.Look()
	seen(2)
	if n := r.conn.Generation(); n != before {
		t.Errorf("doubted without a reason: generation %d, was %d", n, before)
	}
	must(t, r.js.DeleteStream(t.Context(), "CLERK"))
	stacktest.Eventually(t, 15*time.Second, func() error {
		if r.conn.Generation() == before {
			return errors.New("nothing is doubted")
		}
		return r.has("CLERK")
	})
}

func TestKeeperLeavesAlone(t *testing.T) {
	t.Parallel()
	r := keep(t, stacktest.NATS(t), broker.KeeperOptions{Durability: "unknown"})
	r.status.is(t, "rollcall streams apply")
	r.Look()
	if err := r.has("CLERK"); !errors.Is(err, jetstream.ErrStreamNotFound) {
		t.Errorf("with create false: %v", err)
	}
	_, err := streams.Apply(t.Context(), r.js, streams.Names{}.Definitions(streams.Options{MaxBytes: 2 << 30}))
	must(t, err)
	r.status.is(t, "")
}

func TestKeeperChecksDurability(t *testing.T) {
	t.Parallel()
	other := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(other.Close)
	monitored := stacktest.Configure(func(o *server.Options) { o.HTTPHost, o.HTTPPort = "127.0.0.1", -1 })
	for name, c := range map[string]struct {
		opts             []stacktest.NATSOption
		declared, ask    string // ask: the server, nobody, or another address
		reason, labelled string
	}{
		"fsync, checked":    {[]stacktest.NATSOption{monitored, stacktest.Sync()}, "fsync", "server", "", "checked=true declared=fsync"},
		"fsync, but isn't":  {[]stacktest.NATSOption{monitored}, "fsync", "server", "sync_interval: always", "checked=false declared=fsync"},
		"fsync, unchecked":  {nil, "fsync", "", "", "checked=false declared=fsync"},
		"majority":          {[]stacktest.NATSOption{monitored}, "majority", "server", "", "checked=false declared=majority"},
		"another's address": {nil, "fsync", other.URL, "nats.monitor_url", "checked=false declared=fsync"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ns := stacktest.NATS(t, c.opts...)
			if c.ask == "server" {
				c.ask = "http://" + ns.Server().MonitorAddr().String()
			}
			r := keep(t, ns, broker.KeeperOptions{Create: true, Durability: c.declared, MonitorURL: c.ask})
			r.status.is(t, c.reason)
			if value, labels := r.metric(t, "rollcall_log_durability"); value != 1 || labels != c.labelled {
				t.Errorf("metric %v %s, want %s", value, labels, c.labelled)
			}
			// What can't be confirmed is shown; it keeps nobody from storing.
			stacktest.Eventually(t, 5*time.Second, func() error { return r.has("CLERK") })
		})
	}
}

func TestKeeperChecksConnection(t *testing.T) {
	t.Parallel()
	r := keep(t, stacktest.NATS(t), broker.KeeperOptions{Create: true, Durability: "unknown", Check: func(nc *nats.Conn) error {
		return fmt.Errorf("takes %d bytes", nc.MaxPayload())
	}})
	r.status.is(t, "takes 8388608 bytes")
	must(t, r.has("CLERK"))
}

func TestKeeperWithoutBroker(t *testing.T) {
	t.Parallel()
	ns := stacktest.NATS(t)
	ns.Stop()
	r := &keeperRig{registry: prometheus.NewRegistry()}
	r.conn, _ = dial(t, broker.Options{URL: ns.URL})
	k := broker.NewKeeper(broker.KeeperOptions{Broker: r.conn, Create: true, Durability: "unknown", Status: &r.status, Metrics: broker.NewMetrics(r.registry)})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- k.Run(ctx) }()
	defer func() {
		stop()
		must(t, <-done)
	}()
	r.status.is(t, "no connection")
	ns.Start()
	r.status.is(t, "")
}
