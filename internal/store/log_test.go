package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/rollcall-dev/rollcall/internal/broker"
	"github.com/rollcall-dev/rollcall/internal/consume"
	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
	"github.com/rollcall-dev/rollcall/streams"
)

const patience = time.Minute

// wholeLog is a log in JetStream, with stores that follow it as they do in
// production.
type wholeLog struct {
	t  *testing.T
	js jetstream.JetStream
	nc string // URL
}

func newWholeLog(t *testing.T) *wholeLog {
	t.Helper()
	server := stacktest.NATS(t)
	js, err := jetstream.New(server.Connect(t), jetstream.WithPublishAsyncMaxPending(1<<12))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := streams.Apply(t.Context(), js, streams.Names{}.Definitions(streams.Options{})); err != nil {
		t.Fatal(err)
	}
	return &wholeLog{t, js, server.URL}
}

// add stores events; their sequences are the log's to give.
func (l *wholeLog) add(events ...streams.Message) {
	l.t.Helper()
	for _, e := range events {
		if _, err := l.js.PublishMsgAsync(&nats.Msg{Subject: e.Subject, Header: e.Header, Data: e.Data}, jetstream.WithStallWait(patience)); err != nil {
			l.t.Fatal(err)
		}
	}
	select {
	case <-l.js.PublishAsyncComplete():
	case <-time.After(patience):
		l.t.Fatal("the log takes no events")
	}
}

func (l *wholeLog) broker() *broker.Conn {
	l.t.Helper()
	conn, err := broker.Dial(broker.Options{Name: "test", URL: l.nc, Log: zap.NewNop()})
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(conn.Close)
	return conn
}

type noStatus struct{}

func (noStatus) OK()             {}
func (noStatus) Degraded(string) {}

// follow runs a store until stop.
func (l *wholeLog) follow(s *Store) (stop func()) {
	l.t.Helper()
	registry := prometheus.NewRegistry()
	runner := consume.New(s, consume.Options{
		Broker: l.broker(), Log: zaptest.NewLogger(l.t), Metrics: consume.NewMetrics(registry, consume.NewDeadLetters(registry)),
		Status: noStatus{}, NoStream: func() {},
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- runner.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			l.t.Error(err)
		}
	})
	l.t.Cleanup(stop)
	return stop
}

// awaits waits until a store has applied all, and lacks nothing.
func (l *wholeLog) awaits(f *fixture) {
	l.t.Helper()
	stream, err := l.js.Stream(l.t.Context(), "CLERK")
	if err != nil {
		l.t.Fatal(err)
	}
	end := stream.CachedInfo().State.LastSeq
	stacktest.Eventually(l.t, 5*patience, func() error {
		var at uint64
		var incomplete []string
		err := f.db.QueryRow(l.t.Context(), `select position, incomplete from clerk.sync_status`).Scan(&at, &incomplete)
		if err == nil && (at < end || len(incomplete) > 0) {
			err = fmt.Errorf("at %d of %d, incomplete: %v", at, end, incomplete)
		}
		return err
	})
}

// on makes a store and a connection of its service's.
func (l *wholeLog) on(d stacktest.DB, change ...func(*Options)) *fixture {
	return &fixture{Store: newStore(l.t, d, change...), t: l.t, db: connect(l.t, d.OwnerURL)}
}

// lives are n events of some users, by which they come, change and go, and of
// their memberships; those from on are of a later time.
func lives(from, n int) (events []streams.Message) {
	people := max(n/20, 10)
	for i := from; i < from+n; i++ {
		id, at := fmt.Sprint("user_", i%people), int64(t0+i)
		data := map[string]any{"id": id, "first_name": fmt.Sprint("name ", i), "updated_at": at, "private_metadata": map[string]any{"n": i}}
		eventType := "user.updated"
		switch {
		case i%5 == 4:
			eventType = "organizationMembership.updated"
			data = map[string]any{"id": "orgmem_" + id, "role": "org:admin", "updated_at": at, "organization": map[string]any{"id": "org_1"},
				"public_user_data": map[string]any{"user_id": id}, "private_metadata": map[string]any{"m": i}}
		case i%97 == 0:
			eventType, data = "user.deleted", map[string]any{"id": id}
		}
		events = append(events, event(0, fmt.Sprint("msg_", i), eventType, at, data))
	}
	return events
}

// A store is stopped while n events come, gains a column, and starts: it has the
// rows, the column is filled, and another store notices nothing.
func testGainsAColumn(t *testing.T, n int) {
	l := newWholeLog(t)
	withPrivate := func(o *Options) {
		o.Include = map[string][]string{"users": {"private_metadata"}}
	}
	named := func(name string) func(*Options) { return func(o *Options) { o.Name = name } }
	d := stacktest.Database(t)
	app, other := l.on(d), l.on(stacktest.Database(t), named("other"))
	l.follow(other.Store)
	always := l.on(stacktest.Database(t), withPrivate, named("always")) // what it would be
	l.follow(always.Store)
	stop := l.follow(app.Store)
	l.add(lives(0, n/2)...)
	l.awaits(app)
	stop()
	l.add(lives(n/2, n)...)
	l.awaits(other)
	const rows = `select md5(string_agg(to_jsonb(u)::text || xmin, '' order by id)) from clerk.users u`
	before := other.one(rows)

	app = l.on(d, withPrivate)
	l.follow(app.Store)
	stacktest.Eventually(t, patience, func() error {
		if app.one(`select count(*) from pg_attribute where attrelid = 'clerk.users'::regclass and attname = 'private_metadata'`) == "0" {
			return errors.New("the column isn't there yet") // it comes with its name in incomplete
		}
		return nil
	})
	l.awaits(app)
	if after := other.one(rows); after != before {
		t.Error("the other store's rows were written")
	}
	l.add(lives(2*n, 100)...)
	for _, f := range []*fixture{app, other, always} {
		l.awaits(f)
	}
	const content = `select string_agg((to_jsonb(u) - '{synced_at,stream_seq,source,stream_epoch}'::text[])::text, E'\n' order by id) from (
select to_jsonb(u) as u, id from clerk.users u union all select to_jsonb(m), id from clerk.organization_memberships m) as x(u, id)`
	if got, want := app.one(content), always.one(content); got != want {
		t.Errorf("the rows are\n%.2000s\nwant\n%.2000s", got, want)
	}
	if filled := app.one(`select count(*) > 0 and bool_and((deleted_at is null) = (private_metadata is not null)) from clerk.users where version <> ''`); filled != "true" {
		t.Error("not every living user has private_metadata")
	}
	other.want("0", `select dead_letters from clerk.sync_status`)
}

func TestGainsAColumn(t *testing.T) {
	t.Parallel()
	testGainsAColumn(t, 3000)
}

// What comes while a store fills is applied as fast as ever.
func TestFreshWhileFilling(t *testing.T) {
	t.Parallel()
	l := newWholeLog(t)
	d := stacktest.Database(t)
	f := l.on(d)
	stop := l.follow(f.Store)
	l.add(lives(0, 6000)...)
	l.awaits(f)
	stop()
	execute(t, f.db, `alter table clerk.users drop column first_name cascade`)
	f = l.on(d)
	l.follow(f.Store)
	stacktest.Eventually(t, patience, func() error {
		if f.one(`select fill_position > 0 from clerk.sync_status`) != "true" {
			return errors.New("it doesn't fill yet")
		}
		return nil
	})
	began := time.Now()
	l.add(event(0, "msg_new", "user.created", t0, map[string]any{"id": "user_new", "first_name": "new"}))
	stacktest.Eventually(t, patience, func() error {
		if f.one(`select count(*) from clerk.users where first_name = 'new'`) != "1" {
			return errors.New("not there")
		}
		return nil
	})
	took, filling := time.Since(began), f.one(`select incomplete <> '{}' from clerk.sync_status`)
	t.Logf("after %s, filling %s", took, filling)
	if filling != "true" && took > time.Second {
		t.Error("the row waited for the fill's end")
	}
	l.awaits(f)
}

// An event that the service's own rules refuse, among many: the others are
// applied, its letter says why, and once the cause is mended redriving applies it.
func TestPoisonInTheLog(t *testing.T) {
	t.Parallel()
	long := make([]byte, 8000)
	for i := range long {
		long[i] = byte('a' + rand.IntN(26))
	}
	email := func(address string) map[string]any {
		return map[string]any{"primary_email_address_id": "idn_1", "email_addresses": []map[string]any{{"id": "idn_1", "email_address": address}}}
	}
	for name, c := range map[string]struct {
		n                    int
		cause, mend, reasons string
		data                 map[string]any
	}{
		"a check": {10_000, `alter table clerk.users add constraint no_eve check (first_name <> 'Eve')`, `alter table clerk.users drop constraint no_eve`,
			"no_eve", map[string]any{"first_name": "Eve"}},
		"a unique index":                {500, `create unique index one_each on clerk.users (email)`, `drop index clerk.one_each`, "one_each", email("7@example.org")},
		"a value too long for an index": {500, `select 1`, `drop index clerk.users_email`, "index row size", email(string(long))},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newWholeLog(t)
			f := l.on(stacktest.Database(t))
			if err := f.Migrate(t.Context()); err != nil {
				t.Fatal(err)
			}
			execute(t, f.db, c.cause)
			events := make([]streams.Message, c.n)
			for i := range events {
				data := email(fmt.Sprint(i, "@example.org"))
				if i == c.n*7/10 {
					data = c.data
				}
				data["id"], data["updated_at"] = fmt.Sprint("user_", i), t0
				events[i] = event(0, fmt.Sprint("msg_", i), "user.created", t0, data)
			}
			l.add(events...)
			l.follow(f.Store)
			l.awaits(f)
			f.want(fmt.Sprint(c.n-1, "|1"), `select count(*), (select dead_letters from clerk.sync_status) from clerk.users`)

			letters := &consume.DeadLetters{Broker: l.broker(), Sinks: []consume.Redriver{f.Store}, Done: func(int) {}, Trouble: func(string, error) {}}
			redrive := func(applied, left, attempt int) {
				t.Helper()
				all, err := consume.ReadLetters(t.Context(), l.js, streams.Names{}, consume.Selection{})
				if err != nil {
					t.Fatal(err)
				}
				r, err := letters.Redrive(t.Context(), all)
				if err != nil || r.Applied() != int64(applied) || len(r.Failed) != left {
					t.Fatalf("redriven: %+v, %v", r, err)
				}
				for _, letter := range r.Failed {
					if !strings.Contains(letter.Reason, c.reasons) || letter.Attempts != fmt.Sprint(attempt) {
						t.Errorf("letter %+v", letter)
					}
				}
			}
			redrive(0, 1, 2)
			execute(t, f.db, c.mend)
			redrive(1, 0, 0)
			redrive(0, 0, 0)
			l.awaits(f)
			f.want(fmt.Sprint(c.n, "|0"), `select count(*), (select dead_letters from clerk.sync_status) from clerk.users`)
		})
	}
}
