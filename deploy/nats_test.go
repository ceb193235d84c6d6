package deploy_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/rollcall-dev/rollcall/internal/broker"
	"github.com/rollcall-dev/rollcall/internal/consume"
	"github.com/rollcall-dev/rollcall/internal/erased"
	"github.com/rollcall-dev/rollcall/internal/invalidate"
	"github.com/rollcall-dev/rollcall/internal/reconcile"
	"github.com/rollcall-dev/rollcall/internal/revocation"
	"github.com/rollcall-dev/rollcall/internal/revoke"
	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
	"github.com/rollcall-dev/rollcall/streams"
	"github.com/rollcall-dev/rollcall/streams/auth"
)

// Passwords as deploy/example.env says to make them.
var passwords = map[string]string{
	"NATS_ADMIN_PASSWORD":      "p0123456789abcdef0123456789abcdef",
	"NATS_INGEST_PASSWORD":     "p1e5",
	"NATS_STORE_PASSWORD":      "p5k",
	"NATS_AUDIT_PASSWORD":      "pa7",
	"NATS_INVALIDATE_PASSWORD": "p1nv",
	"NATS_GATEWAY_PASSWORD":    "p9w",
	"NATS_REVOKE_PASSWORD":     "p4r",
	"NATS_RECONCILE_PASSWORD":  "p2c",
	"NATS_ROUTE_PASSWORD":      "p00",
}

// start runs a node by one of our files, at free ports and in a directory of
// the test's own.
func start(t *testing.T, file string, env map[string]string, change func(*server.Options)) *server.Server {
	t.Helper()
	for name, value := range passwords {
		t.Setenv(name, value)
	}
	for name, value := range env {
		t.Setenv(name, value)
	}
	o, err := server.ProcessConfigFile(filepath.Join("nats", file))
	if err != nil {
		t.Fatal(err)
	}
	if !o.SyncAlways {
		t.Errorf("%s acknowledges before the disk has it", file)
	}
	if o.JetStreamMaxStore <= 0 || o.MaxPayload < 2<<20 {
		t.Errorf("%s: max_file_store %d, max_payload %d", file, o.JetStreamMaxStore, o.MaxPayload)
	}
	o.Host, o.Port, o.HTTPPort, o.StoreDir, o.NoSigs, o.NoLog = "127.0.0.1", -1, 0, t.TempDir(), true, true
	if change != nil {
		change(o)
	}
	s, err := server.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("nats-server is not ready after 10 s")
	}
	return s
}

// connect as one of the users of users.conf. denied receives what the server
// refuses.
func connect(t *testing.T, s *server.Server, user, password string) (js jetstream.JetStream, denied chan error) {
	t.Helper()
	denied = make(chan error, 64)
	nc, err := nats.Connect(s.ClientURL(), nats.UserInfo(user, password), nats.CustomInboxPrefix("_INBOX_"+user),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { denied <- err }))
	if err != nil {
		t.Fatalf("connect as %s: %v", user, err)
	}
	t.Cleanup(nc.Close)
	js, err = jetstream.New(nc, jetstream.WithDefaultTimeout(5*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	return js, denied
}

// apply makes the streams as `rollcall streams apply` does.
func apply(t *testing.T, js jetstream.JetStream) {
	t.Helper()
	if _, err := streams.Apply(t.Context(), js, streams.Names{}.Definitions(streams.Options{})); err != nil {
		t.Fatal(err)
	}
}

// check looks at the streams as a process with `nats.create: false` does.
func check(t *testing.T, js jetstream.JetStream) {
	t.Helper()
	d := streams.Names{}.Definitions(streams.Options{})
	differences, err := streams.Plan(t.Context(), js, d)
	if err != nil || len(differences) > 0 {
		t.Errorf("check the streams: %v %v", differences, err)
	}
	if _, err := js.AccountInfo(t.Context()); err != nil { // how Plan learns what the server supports
		t.Errorf("ask for the server's features: %v", err)
	}
}

// mustDeny publishes to subjects and expects the server to refuse each.
func mustDeny(t *testing.T, nc *nats.Conn, denied chan error, subjects ...string) {
	t.Helper()
	for _, subject := range subjects {
		if err := nc.Publish(subject, []byte("{}")); err != nil {
			t.Fatal(err)
		}
		if err := nc.FlushTimeout(5 * time.Second); err != nil {
			t.Fatal(err)
		}
		expectDenial(t, denied, "publish to "+subject)
	}
}

func expectDenial(t *testing.T, denied chan error, what string) {
	t.Helper()
	select {
	case err := <-denied:
		if !errors.Is(err, nats.ErrPermissionViolation) {
			t.Errorf("%s: %v", what, err)
		}
	case <-time.After(2 * time.Second): // the server answers in order: this is only how a failure ends
		t.Errorf("%s was allowed", what)
	}
}

func TestUsers(t *testing.T) {
	s := start(t, "nats.conf", nil, nil)
	admin, _ := connect(t, s, "admin", passwords["NATS_ADMIN_PASSWORD"])
	apply(t, admin)

	t.Run("wrong password", func(t *testing.T) {
		_, err := nats.Connect(s.ClientURL(), nats.UserInfo("ingest", "p"))
		if !errors.Is(err, nats.ErrAuthorization) {
			t.Errorf("connected with a wrong password: %v", err)
		}
		if _, err = nats.Connect(s.ClientURL()); !errors.Is(err, nats.ErrAuthorization) {
			t.Errorf("connected without a password: %v", err)
		}
	})

	t.Run("ingest", func(t *testing.T) {
		js, denied := connect(t, s, "ingest", passwords["NATS_INGEST_PASSWORD"])
		for _, subject := range []string{"clerk.ins_1.user.created.user_1", "rollcall.dead.ingest.user.created.user_1"} {
			if _, err := js.Publish(t.Context(), subject, []byte("{}")); err != nil {
				t.Errorf("publish to %s: %v", subject, err)
			}
		}
		batch(t, js.Conn(), "clerk.ins_1.user.updated.user_1")
		check(t, js)
		watchErased(t, s, admin)
		watchSilence(t, s, admin, "ingest", passwords["NATS_INGEST_PASSWORD"])
		mustDeny(t, js.Conn(), denied,
			"$KV.CLERK_ERASED.user_1",
			"$JS.API.STREAM.PURGE.KV_CLERK_ERASED",
			"rollcall.dead.store-app.user.created.user_1",
			"$KV.CLERK_STATE.position",
			"$JS.API.STREAM.PURGE.CLERK",
			"$JS.API.STREAM.DELETE.CLERK",
			"$JS.API.STREAM.UPDATE.CLERK",
			"$JS.API.STREAM.CREATE.OTHER",
			"$JS.API.STREAM.MSG.GET.CLERK",
			"$JS.API.CONSUMER.CREATE.CLERK.x",
		)
		for _, subject := range []string{"clerk.>", "_INBOX.>", "_INBOX_store.>", ">"} {
			if _, err := js.Conn().SubscribeSync(subject); err != nil {
				t.Fatal(err)
			}
			expectDenial(t, denied, "subscribe to "+subject)
		}
	})

	t.Run("store", func(t *testing.T) {
		js, denied := connect(t, s, "store", passwords["NATS_STORE_PASSWORD"])
		check(t, js)
		readLog(t, js)
		lease(t, js)
		if _, err := js.Publish(t.Context(), "rollcall.dead.store-app.user.created.user_1", []byte("{}")); err != nil {
			t.Errorf("publish a dead letter: %v", err)
		}
		mustDeny(t, js.Conn(), denied,
			"clerk.ins_1.user.created.user_1",
			"$JS.API.STREAM.PURGE.CLERK",
			"$JS.API.STREAM.DELETE.CLERK_DEAD",
			"$JS.API.STREAM.MSG.DELETE.CLERK",
		)
		select {
		case err := <-denied:
			t.Errorf("the server refused what a store needs: %v", err)
		default:
		}
	})
}

// watchErased lets ingest learn who was erased, as its user.
func watchErased(t *testing.T, s *server.Server, admin jetstream.JetStream) {
	t.Helper()
	kv, err := admin.KeyValue(t.Context(), "CLERK_ERASED")
	if err != nil {
		t.Fatal(err)
	}
	log, said := observer.New(zap.WarnLevel)
	conn, err := broker.Dial(broker.Options{
		Name: "test", URL: strings.Replace(s.ClientURL(), "nats://", "nats://ingest:"+passwords["NATS_INGEST_PASSWORD"]+"@", 1), Log: zap.New(log),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	list := erased.NewList(conn, streams.Names{}, nil)
	go func() { _ = list.Run(ctx) }() // it returns nil
	known, done := context.WithTimeout(ctx, 30*time.Second)
	defer done()
	if err := list.Wait(known); err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Put(t.Context(), "user_9", []byte("{}")); err != nil {
		t.Fatal(err)
	}
	stacktest.Eventually(t, 30*time.Second, func() error {
		if cut, _ := list.Cut([]byte(`{"type":"user.updated","data":{"id":"user_9","username":"ada"}}`)); bytes.Contains(cut, []byte("ada")) {
			return errors.New("ingest doesn't know who was erased")
		}
		return nil
	})
	for _, e := range said.All() {
		t.Errorf("%s %v", e.Message, e.ContextMap())
	}
}

// watchSilence lets a user learn whether webhooks still come.
func watchSilence(t *testing.T, s *server.Server, admin jetstream.JetStream, user, password string) {
	t.Helper()
	kv, err := admin.KeyValue(t.Context(), "CLERK_STATE")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Put(t.Context(), "silence.ins_1", []byte(`{"instance_id":"ins_1","since":1,"changes":3}`)); err != nil {
		t.Fatal(err)
	}
	conn, err := broker.Dial(broker.Options{
		Name: "test", URL: strings.Replace(s.ClientURL(), "nats://", "nats://"+user+":"+password+"@", 1), Log: zap.NewNop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	heard := ""
	l := &reconcile.Listener{Broker: conn, Instances: []string{""}, Tell: func(reason string) {
		if heard = reason; reason != "" {
			cancel()
		}
	}}
	if err := l.Run(ctx); err != nil || !strings.Contains(heard, "no webhook of ins_1") {
		t.Errorf("%s heard %q, %v", user, heard, err)
	}
}

// The process that reconciles may mend, and keep what it found.
func TestReconcileUser(t *testing.T) {
	s := start(t, "nats.conf", nil, nil)
	admin, _ := connect(t, s, "admin", passwords["NATS_ADMIN_PASSWORD"])
	apply(t, admin)
	js, denied := connect(t, s, "reconcile", passwords["NATS_RECONCILE_PASSWORD"])
	if _, err := js.Publish(t.Context(), "clerk.ins_1.user.snapshot.user_1", []byte("{}")); err != nil {
		t.Error(err)
	}
	batch(t, js.Conn(), "clerk.ins_1.user.updated.user_1")
	check(t, js)
	readLog(t, js)
	kv, err := js.KeyValue(t.Context(), "CLERK_STATE")
	if err != nil {
		t.Fatal(err)
	}
	revision, err := kv.Create(t.Context(), "reconcile.ins_1", []byte("{}"), jetstream.KeyTTL(time.Minute))
	if err == nil {
		_, err = kv.Update(t.Context(), "reconcile.ins_1", []byte("{}"), revision)
	}
	if err == nil {
		_, err = kv.Get(t.Context(), "reconcile.ins_1")
	}
	if err != nil {
		t.Errorf("keep what it found: %v", err)
	}
	watchSilence(t, s, admin, "reconcile", passwords["NATS_RECONCILE_PASSWORD"])
	mustDeny(t, js.Conn(), denied, "$KV.CLERK_ERASED.user_1", "$JS.API.STREAM.PURGE.CLERK", "$KV.CLERK_REVOCATIONS.user.user_1", "rollcall.dead.ingest.user.created.user_1")
}

// The invalidate role does all that it does, as its user.
func TestInvalidateUser(t *testing.T) {
	s := start(t, "nats.conf", nil, nil)
	admin, _ := connect(t, s, "admin", passwords["NATS_ADMIN_PASSWORD"])
	apply(t, admin)
	heard, err := admin.Conn().SubscribeSync("rollcall.invalidate.organizations.org_1")
	if err != nil {
		t.Fatal(err)
	}
	log, said := observer.New(zap.WarnLevel)
	conn, err := broker.Dial(broker.Options{
		Name: "test", URL: strings.Replace(s.ClientURL(), "nats://", "nats://invalidate:"+passwords["NATS_INVALIDATE_PASSWORD"]+"@", 1), Log: zap.New(log),
	})
	if err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	v, err := invalidate.New(invalidate.Options{
		Broker: conn, Keys: map[string][]string{"organization_memberships": {"user:{user_id}:orgs"}, "organizations": {"org:{id}"}},
		Targets: []invalidate.Target{invalidate.NewPublisher(conn, streams.Names{})},
		After:   []invalidate.Prerequisite{{Name: "itself", Key: consume.PositionKey("store-app")}},
		Log:     zap.NewNop(), Metrics: invalidate.NewMetrics(registry),
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 30 {
		body := fmt.Sprintf(`{"type":"organizationMembership.created","data":{"id":"m%d","organization":{"id":"org_1"},"public_user_data":{"user_id":"user_%d"}}}`, i, i)
		if _, err := admin.Publish(t.Context(), fmt.Sprintf("clerk.ins_1.organizationMembership.created.m%d", i), []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- consume.New(v.Sinks()[0], consume.Options{
			Broker: conn, Log: zap.New(log), Status: well{}, NoStream: func() {},
			Metrics: consume.NewMetrics(registry, consume.NewDeadLetters(registry)),
		}).Run(ctx)
	}()
	stream, err := admin.Stream(t.Context(), "CLERK")
	if err != nil {
		t.Fatal(err)
	}
	epoch := stream.CachedInfo().Created.UnixNano()
	pass := func(sequence int) {
		if _, err := admin.Publish(t.Context(), "$KV.CLERK_STATE."+consume.PositionKey("store-app"), fmt.Appendf(nil, `{"epoch":%d,"sequence":%d}`, epoch, sequence)); err != nil {
			t.Fatal(err)
		}
	}
	pass(30)
	if err := v.Wait(t.Context(), streams.Position{Epoch: epoch, Sequence: 30}); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.Publish(t.Context(), "clerk.ins_1.organization.deleted.org_1", []byte(`{"type":"organization.deleted","data":{"id":"org_1","deleted":true}}`)); err != nil {
		t.Fatal(err)
	}
	pass(31)
	if m, err := heard.NextMsg(10 * time.Second); err != nil {
		t.Errorf("nothing is published: %v", err)
	} else if !bytes.Contains(m.Data, []byte(`"org:org_1"`)) {
		t.Errorf("published: %s", m.Data)
	}
	if err := v.Wait(t.Context(), streams.Position{Epoch: epoch, Sequence: 31}); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	conn.Close()
	for _, e := range said.All() {
		t.Errorf("%s %v", e.Message, e.ContextMap())
	}
}

// The revoke role and a gateway's list do all that they do, as their users.
func TestRevokeUser(t *testing.T) {
	s := start(t, "nats.conf", nil, nil)
	admin, _ := connect(t, s, "admin", passwords["NATS_ADMIN_PASSWORD"])
	apply(t, admin)
	log, said := observer.New(zap.WarnLevel)
	as := func(user, password string) *broker.Conn {
		conn, err := broker.Dial(broker.Options{Name: "test", URL: strings.Replace(s.ClientURL(), "nats://", "nats://"+user+":"+password+"@", 1), Log: zap.New(log)})
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
	writer, reader := as("revoke", passwords["NATS_REVOKE_PASSWORD"]), as("gateway", passwords["NATS_GATEWAY_PASSWORD"])
	list := revocation.NewList(revocation.ListOptions{Broker: reader, Life: time.Minute, Log: zap.New(log), Status: well{}})
	registry := prometheus.NewRegistry()
	runner := consume.New(revoke.New(revoke.Options{Broker: writer, Life: time.Minute}), consume.Options{
		Broker: writer, Log: zap.New(log), Status: well{}, NoStream: func() {}, TidyEvery: revoke.WatermarkEvery,
		Metrics: consume.NewMetrics(registry, consume.NewDeadLetters(registry)),
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 2)
	go func() { ended <- runner.Run(ctx) }()
	go func() { ended <- list.Run(ctx) }()
	now := time.Now()
	for i := range 30 {
		body := fmt.Sprintf(`{"type":"organizationMembership.updated","timestamp":%d,"data":{"id":"m%d","role":"org:admin","organization":{"id":"org_1"},"public_user_data":{"user_id":"user_%[2]d"}}}`, now.UnixMilli(), i)
		if _, err := admin.Publish(t.Context(), fmt.Sprintf("clerk.ins_1.organizationMembership.updated.m%d", i), []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	claims := &auth.Claims{UserID: "user_29", IssuedAt: now.Add(-time.Second), Organization: auth.Organization{ID: "org_1"}}
	stacktest.Eventually(t, 30*time.Second, func() error {
		if _, refused := list.Refuse(claims); !refused {
			return errors.New("not refused")
		}
		return list.Fresh()
	})
	cancel()
	if err := errors.Join(<-ended, <-ended); err != nil {
		t.Error(err)
	}
	writer.Close()
	reader.Close()
	for _, e := range said.All() {
		t.Errorf("%s %v", e.Message, e.ContextMap())
	}
	js, denied := connect(t, s, "gateway", passwords["NATS_GATEWAY_PASSWORD"])
	mustDeny(t, js.Conn(), denied, "$KV.CLERK_REVOCATIONS.user.user_1", "$JS.API.STREAM.PURGE.KV_CLERK_REVOCATIONS", "$JS.API.CONSUMER.CREATE.CLERK.x")
	js, denied = connect(t, s, "revoke", passwords["NATS_REVOKE_PASSWORD"])
	mustDeny(t, js.Conn(), denied, "clerk.ins_1.user.deleted.user_1", "rollcall.dead.audit.user.created.user_1", "$JS.API.STREAM.PURGE.KV_CLERK_REVOCATIONS")
}

type well struct{}

func (well) OK()             {}
func (well) Degraded(string) {}

// batch stores two messages as one, as ingest's group commit does.
func batch(t *testing.T, nc *nats.Conn, subject string) {
	t.Helper()
	m := func(sequence string) *nats.Msg {
		return &nats.Msg{Subject: subject, Data: []byte("{}"), Header: nats.Header{
			"Nats-Batch-Id": {"b1"}, "Nats-Batch-Sequence": {sequence}, "Nats-Msg-Id": {"batch-" + sequence},
		}}
	}
	if err := nc.PublishMsg(m("1")); err != nil {
		t.Fatal(err)
	}
	last := m("2")
	last.Header.Set("Nats-Batch-Commit", "1")
	answer, err := nc.RequestMsg(last, 5*time.Second)
	if err != nil {
		t.Fatalf("publish a batch: %v", err)
	}
	if !bytes.Contains(answer.Data, []byte(`"count":2`)) {
		t.Errorf("publish a batch: %s", answer.Data)
	}
}

func readLog(t *testing.T, js jetstream.JetStream) {
	t.Helper()
	c, err := js.OrderedConsumer(t.Context(), "CLERK", jetstream.OrderedConsumerConfig{NamePrefix: "store-app"})
	if err != nil {
		t.Fatalf("make a consumer: %v", err)
	}
	messages, err := c.Messages()
	if err != nil {
		t.Fatal(err)
	}
	defer messages.Stop()
	if _, err := messages.Next(jetstream.NextMaxWait(5 * time.Second)); err != nil {
		t.Errorf("read the log: %v", err)
	}
}

func lease(t *testing.T, js jetstream.JetStream) {
	t.Helper()
	kv, err := js.KeyValue(t.Context(), "CLERK_STATE")
	if err != nil {
		t.Fatal(err)
	}
	revision, err := kv.Create(t.Context(), "lease.store-app", []byte("me"), jetstream.KeyTTL(time.Minute))
	if err != nil {
		t.Fatalf("take a lease: %v", err)
	}
	if _, err := kv.Update(t.Context(), "lease.store-app", []byte("me"), revision); err != nil {
		t.Errorf("renew a lease: %v", err)
	}
	if _, err := kv.Get(t.Context(), "lease.store-app"); err != nil {
		t.Errorf("read a lease: %v", err)
	}
	w, err := kv.Watch(t.Context(), "lease.*")
	if err != nil {
		t.Fatalf("watch leases: %v", err)
	}
	defer w.Stop()
	select {
	case <-w.Updates():
	case <-time.After(5 * time.Second):
		t.Error("watch leases: nothing after 5 s")
	}
	if err := kv.Delete(t.Context(), "lease.store-app"); err != nil {
		t.Errorf("give back a lease: %v", err)
	}
}

// Three nodes by cluster.conf hold a replicated log.
func TestCluster(t *testing.T) {
	env := maps.Clone(passwords)
	var routes []*url.URL
	var ports []int
	for i := range 3 {
		port := stacktest.FreePort(t)
		route := fmt.Sprintf("nats-route://route:%s@127.0.0.1:%d", passwords["NATS_ROUTE_PASSWORD"], port)
		env[fmt.Sprintf("NATS_ROUTE_%d", i)] = route
		u, err := url.Parse(route)
		if err != nil {
			t.Fatal(err)
		}
		routes, ports = append(routes, u), append(ports, port)
	}
	var nodes []*server.Server
	for i := range 3 {
		env["NATS_SERVER_NAME"] = fmt.Sprintf("nats-%d", i)
		nodes = append(nodes, start(t, "cluster.conf", env, func(o *server.Options) {
			for n, r := range o.Routes {
				if r.String() != routes[n].String() {
					t.Errorf("route %d is %s", n, r.Redacted())
				}
			}
			o.Cluster.Host, o.Cluster.Port = "127.0.0.1", ports[i]
		}))
	}
	js, _ := connect(t, nodes[0], "admin", passwords["NATS_ADMIN_PASSWORD"])
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	d := streams.Names{}.Definitions(streams.Options{Replicas: 3})
	for err := errors.New("no leader"); err != nil; {
		// Without a leader nobody answers; with one, the nodes it knows may be too few.
		if slices.ContainsFunc(nodes, (*server.Server).JetStreamIsLeader) {
			try, done := context.WithTimeout(ctx, 5*time.Second)
			_, err = js.CreateStream(try, d.Streams[0])
			done()
		}
		if ctx.Err() != nil {
			t.Fatalf("no replicated stream after 30 s: %v", err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	if _, err := js.Publish(ctx, "clerk.ins_1.user.created.user_1", []byte("{}")); err != nil {
		t.Errorf("publish to the cluster: %v", err)
	}
}
