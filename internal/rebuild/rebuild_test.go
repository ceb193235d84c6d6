package rebuild

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/rollcall-dev/rollcall/internal/broker"
	"github.com/rollcall-dev/rollcall/internal/consume"
	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/streams"
)

func TestMain(m *testing.M) { stacktest.Main(m) }

// rig is a log, a database and a store that follows.
type rig struct {
	t     *testing.T
	ns    *stacktest.NATSServer
	js    jetstream.JetStream
	store *store.Store
	db    *pgx.Conn
	n     int // events so far
}

func newRig(t *testing.T, change ...func(*store.Options)) *rig {
	t.Helper()
	r := &rig{t: t, ns: stacktest.NATS(t)}
	var err error
	if r.js, err = jetstream.New(r.ns.Connect(t), jetstream.WithPublishAsyncMaxPending(1<<12)); err != nil {
		t.Fatal(err)
	}
	if _, err := streams.Apply(t.Context(), r.js, streams.Names{}.Definitions(streams.Options{})); err != nil {
		t.Fatal(err)
	}
	d := stacktest.Database(t)
	o := store.Options{Name: "app", DatabaseURL: d.URL, MigrateDatabaseURL: d.OwnerURL, Migrate: store.MigrateAuto, Schema: "clerk", Log: zap.NewNop(), Metrics: store.NewMetrics(prometheus.NewRegistry())}
	for _, c := range change {
		c(&o)
	}
	if r.store, err = store.New(o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.store.Close)
	if r.db, err = pgx.Connect(t.Context(), d.OwnerURL); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.db.Close(context.Background()) }) //nolint:errcheck // the test ends
	return r
}

// follow runs the store as production does, until the test ends.
func (r *rig) follow() {
	r.t.Helper()
	conn, err := broker.Dial(broker.Options{Name: "test", URL: r.ns.URL, Log: zap.NewNop()})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(conn.Close)
	registry := prometheus.NewRegistry()
	runner := consume.New(r.store, consume.Options{Broker: conn, Log: zap.NewNop(), Status: quiet{}, NoStream: func() {}, Metrics: consume.NewMetrics(registry, consume.NewDeadLetters(registry))})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = runner.Run(ctx) }() // it ends with the context
	r.t.Cleanup(func() { cancel(); <-done })
}

type quiet struct{}

func (quiet) OK()             {}
func (quiet) Degraded(string) {}

// event publishes one: what is the type, data beside the id.
func (r *rig) event(what, id, data string) {
	r.t.Helper()
	resource, action, _ := streams.SplitType(what)
	r.n++
	at := 1_700_000_000_000 + int64(r.n)
	_, err := r.js.PublishMsg(context.Background(), &nats.Msg{
		Subject: streams.Names{}.Subject(streams.Subject{InstanceID: "ins_1", Resource: resource, Action: action, EntityID: id}),
		Header:  nats.Header{streams.HeaderSvixID: {fmt.Sprintf("msg_%d", r.n)}, streams.HeaderMsgID: {fmt.Sprintf("msg_%d", r.n)}, streams.HeaderSource: {"webhook"}},
		Data:    fmt.Appendf(nil, `{"type":%q,"object":"event","instance_id":"ins_1","timestamp":%d,"data":{"id":%q,"updated_at":%[2]d%[4]s}}`, what, at, id, data),
	})
	if err != nil {
		r.t.Error(err)
	}
}

func (r *rig) users(n int) {
	for i := range n {
		r.event("user.created", fmt.Sprintf("user_%03d", i), fmt.Sprintf(`,"first_name":"First %d"`, i))
	}
}

// applied waits until the store has come to the log's end.
func (r *rig) applied() {
	r.t.Helper()
	stacktest.Eventually(r.t, time.Minute, func() error {
		info, err := r.js.Stream(r.t.Context(), "CLERK")
		if err != nil {
			return err
		}
		if p, err := r.store.Position(r.t.Context()); err != nil || p.Sequence < info.CachedInfo().State.LastSeq {
			return fmt.Errorf("at %d, %w", p.Sequence, err)
		}
		return nil
	})
}

func (r *rig) exec(sql string) {
	r.t.Helper()
	if _, err := r.db.Exec(r.t.Context(), sql); err != nil {
		r.t.Fatalf("%s: %v", sql, err)
	}
}

func (r *rig) want(want, sql string) {
	r.t.Helper()
	var got string
	if err := r.db.QueryRow(r.t.Context(), sql).Scan(&got); err != nil || got != want {
		r.t.Errorf("%s: %q, %v; want %q", sql, got, err, want)
	}
}

func (r *rig) rebuild(change ...func(*Options)) (*Report, error) {
	r.t.Helper()
	o := Options{JetStream: r.js, Store: r.store, Confirm: func([]store.Drift) error { return errors.New("not confirmed") }}
	for _, c := range change {
		c(&o)
	}
	return Run(r.t.Context(), o)
}

func dryRun(o *Options) { o.DryRun = true }

func (r *rig) of(report *Report, table string) store.Drift {
	for _, d := range report.Tables {
		if d.Table == table {
			return d
		}
	}
	r.t.Fatalf("no %s in %+v", table, report)
	return store.Drift{}
}

const shadows = `select count(*)::text from pg_namespace where nspname = 'clerk_rebuild'`

// Each kind of drift is found by a dry run, which changes nothing, and mended by
// the rebuild, under a reader that never sees anything else than all rows.
func TestRebuild(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.follow()
	r.users(200)
	r.event("user.deleted", "user_100", "")
	r.applied()
	if report, err := r.rebuild(dryRun); err != nil || report.Drifted() != 0 {
		t.Fatalf("%+v, %v", report, err)
	}
	// What is the service's: a key, a view, a policy and a grant.
	r.exec(`create table orders (user_id text references clerk.users); insert into orders values ('user_001');
create view names as select first_name from clerk.users; alter table clerk.users enable row level security; create policy mine on clerk.users using (true); grant select on clerk.users to public`)
	r.exec(`delete from clerk.users where id = 'user_050'; update clerk.users set first_name = 'Mallory' where id in ('user_001', 'user_002');
update clerk.users set deleted_at = null where id = 'user_100'; update clerk.users set version = '' where id = 'user_003';
insert into clerk.users (id, instance_id, synced_at, stream_epoch, stream_seq, source, version) values ('user_old', 'ins_1', now(), 1, 1, 'webhook', '\x020080')`)

	report, err := r.rebuild(dryRun)
	d := r.of(report, "users")
	if err != nil || d.Missing != 1 || d.Changed != 2 || d.Deleted != 1 || d.Stale != 1 || d.Unknown != 1 || report.Drifted() != 5 || report.Applied {
		t.Fatalf("%+v, %v", report, err)
	}
	r.want("2", `select count(*)::text from clerk.users where first_name = 'Mallory'`)
	r.want("0", shadows)

	reading := r.read(t)
	report, err = r.rebuild()
	reading()
	if err != nil || !report.Applied || report.Drifted() != 5 || report.Events != 201 {
		t.Fatalf("%+v, %v", report, err)
	}
	r.want("200 0 1 1", `select format('%s %s %s %s', count(*) filter (where first_name like 'First%' or id = 'user_100'), count(*) filter (where first_name = 'Mallory'), count(deleted_at), count(*) filter (where id = 'user_old')) from clerk.users`)
	r.want("1 1 1", `select format('%s %s %s', (select count(*) from pg_constraint where confrelid = 'clerk.users'::regclass), (select count(*) from pg_policy where polrelid = 'clerk.users'::regclass), (select count(*) from pg_views where viewname = 'names'))`)
	r.want("0", shadows)
	if report, err := r.rebuild(dryRun); err != nil || report.Drifted() != 0 {
		t.Errorf("%+v, %v", report, err)
	}
	r.event("user.updated", "user_001", `,"first_name":"Later"`) // and the store goes on
	r.applied()
	r.want("Later", `select first_name from clerk.users where id = 'user_001'`)
}

// read reads in a loop until the end: all users are there at each moment.
func (r *rig) read(t *testing.T) (end func()) {
	t.Helper()
	db, err := pgx.ConnectConfig(t.Context(), r.db.Config())
	if err != nil {
		t.Fatal(err)
	}
	var stop atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		for rounds := 0; !stop.Load() || rounds == 0; rounds++ {
			var n, mallories int
			if err := db.QueryRow(context.Background(), `select count(*), count(*) filter (where first_name = 'Mallory') from clerk.users`).Scan(&n, &mallories); err != nil || (n != 200 || mallories != 2) && (n != 201 || mallories != 0) {
				t.Errorf("a reader sees %d users, %d of them wrong: %v", n, mallories, err)
				return
			}
		}
	}()
	return func() {
		stop.Store(true)
		<-done
		db.Close(context.Background()) //nolint:errcheck // the test ends
	}
}

// A store that has nothing is filled, and live traffic arrives meanwhile.
func TestFromNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.users(300)
	var stop atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; !stop.Load(); i++ {
			r.event("user.updated", fmt.Sprintf("user_%03d", i%300), fmt.Sprintf(`,"first_name":"Round %d"`, i))
		}
	}()
	report, err := r.rebuild()
	stop.Store(true)
	<-done
	if err != nil || !report.Applied {
		t.Fatalf("%+v, %v", report, err)
	}
	r.want("300", `select count(*)::text from clerk.users`)
	r.follow()
	r.applied()
	if report, err := r.rebuild(dryRun); err != nil || report.Drifted() != 0 || r.of(report, "users").Rows != 300 {
		t.Errorf("%+v, %v", report, err)
	}
}

// A log whose first part is gone explains less, and deletes nothing.
func TestShorterLog(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.follow()
	r.users(90)
	r.applied()
	stream, err := r.js.Stream(t.Context(), "CLERK")
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(t.Context(), jetstream.WithPurgeSequence(31)); err != nil {
		t.Fatal(err)
	}
	report, err := r.rebuild()
	if d := r.of(report, "users"); err != nil || d.Unknown != 30 || report.Drifted() != 0 {
		t.Errorf("%+v, %v", report, err)
	}
	r.want("90", `select count(*)::text from clerk.users where first_name like 'First%'`)
}

// More than the breaker lets through is deleted only when somebody says so.
func TestBreaker(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.follow()
	r.users(60)
	for i := range 11 {
		r.event("user.deleted", fmt.Sprintf("user_%03d", i), "")
	}
	r.applied()
	r.exec(`update clerk.users set deleted_at = null`)
	if report, err := r.rebuild(); err == nil || err.Error() != "not confirmed" || report.Applied || r.of(report, "users").Deleted != 11 {
		t.Errorf("%+v, %v", report, err)
	}
	r.want("0", `select count(deleted_at)::text from clerk.users`)
	report, err := r.rebuild(func(o *Options) { o.Confirm = func([]store.Drift) error { return nil } })
	if err != nil || !report.Applied || !report.Resumed || report.Events != 0 {
		t.Errorf("%+v, %v", report, err)
	}
	r.want("11", `select count(deleted_at)::text from clerk.users`)
}

// What ends it at any moment leaves the store as it is, and a second run goes on.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.users(3000)
	for round := range 4 {
		ctx, cancel := context.WithCancel(t.Context())
		asked := 0
		_, err := Run(ctx, Options{JetStream: r.js, Store: r.store, Progress: func(string, uint64, uint64) {
			if asked++; asked == 1+round*2 {
				cancel()
			}
		}})
		cancel()
		if err == nil {
			t.Fatalf("round %d was not interrupted", round)
		}
		r.want("0", `select count(*)::text from clerk.users`)
	}
	report, err := r.rebuild()
	if err != nil || !report.Resumed || report.Events == 3000 {
		t.Errorf("%+v, %v", report, err)
	}
	r.want("3000", `select count(*)::text from clerk.users`)
	r.want("0", shadows)
}
