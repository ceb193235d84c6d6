package audit

import (
	"context"
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
	"github.com/rollcall-dev/rollcall/streams"
)

func TestMain(m *testing.M) { stacktest.Main(m) }

const epoch = 1_700_000_000_000_000_000

// start is when the first event of a test was received.
var start = time.Date(2026, 10, 20, 8, 0, 0, 0, time.UTC)

// rig is a log on a database of its own.
type rig struct {
	t    testing.TB
	db   stacktest.DB
	log  *Log
	at   streams.Position
	head Head // as Committed was told
	n    int  // messages made
}

func newRig(t testing.TB) *rig {
	t.Helper()
	r := &rig{t: t, db: stacktest.Database(t)}
	r.log = r.open(Options{DatabaseURL: r.db.URL, MigrateDatabaseURL: r.db.OwnerURL})
	var err error
	if r.at, err = r.log.Position(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.commit(nil, streams.Position{Epoch: epoch})
	return r
}

func (r *rig) open(o Options) *Log {
	r.t.Helper()
	o.Migrate, o.Log, o.Metrics = MigrateAuto, zap.NewNop(), NewMetrics(prometheus.NewRegistry())
	o.Committed = func(h Head) { r.head = h }
	l, err := New(o)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(l.Close)
	return l
}

func (r *rig) commit(work any, to streams.Position) {
	r.t.Helper()
	if err := r.log.Commit(r.t.Context(), work, r.at, to, 0, 0); err != nil {
		r.t.Fatal(err)
	}
	r.at = to
}

// event is a webhook as it lies in the log, a second after the one before.
func (r *rig) event(eventType, id, data string) streams.Message {
	r.n++
	at := start.Add(time.Duration(r.n) * time.Second)
	resource, action, _ := streams.SplitType(eventType)
	svixID := fmt.Sprintf("msg_%04d", r.n)
	return streams.Message{
		Subject: streams.Names{}.Subject(streams.Subject{InstanceID: "ins_1", Resource: resource, Action: action, EntityID: id}),
		Header: nats.Header{
			streams.HeaderMsgID: {svixID}, streams.HeaderSvixID: {svixID}, streams.HeaderSource: {"webhook"},
			streams.HeaderSvixTimestamp: {fmt.Sprint(at.Unix())}, streams.HeaderSvixSignature: {"v1,none"},
			streams.HeaderReceivedAt: {fmt.Sprint(at.UnixMilli())},
		},
		Data: fmt.Appendf(nil, `{"type":%q,"timestamp":%d,"instance_id":"ins_1","object":"event","data":%s,"event_attributes":{"http_request":{"client_ip":"203.0.113.%d","user_agent":"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7)"}}}`,
			eventType, at.UnixMilli(), data, r.n%250),
		Epoch: epoch, Sequence: uint64(r.n), Time: at,
	}
}

func (r *rig) user(action string, n int, more string) streams.Message {
	id := fmt.Sprintf("user_%d", n)
	if action == "deleted" {
		return r.event("user.deleted", id, fmt.Sprintf(`{"id":%q,"deleted":true,"object":"user"}`, id))
	}
	return r.event("user."+action, id, fmt.Sprintf(`{"id":%q,"object":"user","first_name":"Ada %d"%s}`, id, r.n, more))
}

// append commits messages in one batch.
func (r *rig) append(messages ...streams.Message) {
	r.t.Helper()
	work, rejected := r.log.Prepare(messages)
	if len(rejected) > 0 {
		r.t.Fatalf("rejected: %v", rejected)
	}
	last := messages[len(messages)-1]
	r.commit(work, streams.Position{Epoch: epoch, Sequence: last.Sequence, Time: last.Time})
}

// fill appends n user events in batches of ten.
func (r *rig) fill(n int) {
	r.t.Helper()
	for n > 0 {
		var batch []streams.Message
		for range min(n, 10) {
			batch = append(batch, r.user("updated", r.n%7, ""))
		}
		r.append(batch...)
		n -= len(batch)
	}
}

// as runs SQL with a URL's role; the error is the database's.
func (r *rig) as(url, sql string) error {
	r.t.Helper()
	ctx := context.WithoutCancel(r.t.Context()) // in a cleanup too
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		r.t.Fatal(err)
	}
	defer conn.Close(ctx)
	_, err = conn.PgConn().Exec(ctx, sql).ReadAll()
	return err
}

func (r *rig) query(sql string, into ...any) {
	r.t.Helper()
	conn, err := pgx.Connect(r.t.Context(), r.db.OwnerURL)
	if err != nil {
		r.t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if err := conn.QueryRow(r.t.Context(), sql).Scan(into...); err != nil {
		r.t.Fatalf("%s: %v", sql, err)
	}
}

// writer is a URL of a role that isn't the schema's owner.
func (r *rig) writer() string {
	r.t.Helper()
	var role string
	r.query(`select 'w_' || current_database()`, &role)
	if err := r.as(r.db.AdminURL, "create role "+role+" login password 'w'"); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		if err := r.as(r.db.AdminURL, "drop owned by "+role+"; drop role "+role); err != nil {
			r.t.Error(err)
		}
	})
	u, err := url.Parse(r.db.OwnerURL)
	if err != nil {
		r.t.Fatal(err)
	}
	u.User = url.UserPassword(role, "w")
	return u.String()
}
