package stacktest

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rollcall-dev/rollcall/internal/stack"
)

func TestMain(m *testing.M) { MainNoLeaks(m) }

func TestDatabase(t *testing.T) {
	t.Parallel()
	db := Database(t)
	for name, url := range map[string]string{"URL": db.URL, "OwnerURL": db.OwnerURL} {
		if got := ask(t, url, "select rolsuper::text from pg_roles where rolname = current_user"); got != "false" {
			t.Errorf("%s: superuser is %s", name, got)
		}
		must(t, execute(url, "create schema s_"+strings.ToLower(name)))
	}
	if got := ask(t, db.AdminURL, "select rolsuper::text from pg_roles where rolname = current_user"); got != "true" {
		t.Errorf("AdminURL: got %s", got)
	}
	if a, b := ask(t, db.URL, "select current_database()"), ask(t, Database(t).URL, "select current_database()"); a == b {
		t.Errorf("two tests share %s", a)
	}
}

func TestDatabaseIsDropped(t *testing.T) {
	t.Parallel()
	admin := Database(t).AdminURL
	var name string
	t.Run("uses one", func(t *testing.T) {
		db := Database(t)
		name = ask(t, db.URL, "select current_database()")
		conn, err := pgx.Connect(context.Background(), db.URL) // left open: dropped by force
		must(t, err)
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
	})
	if got := ask(t, admin, "select count(*)::text from pg_database, pg_roles where datname = '"+name+"' or rolname = '"+name+"'"); got != "0" {
		t.Errorf("%s is left", name)
	}
}

// In transaction mode a session's prepared statement is not there for the next
// transaction; that is what the pooler is for.
func TestPgBouncer(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("/usr/sbin/pgbouncer"); err != nil {
		t.Skip("no pgbouncer here: apt-get install pgbouncer")
	}
	db := Database(t)
	b, err := shared.pgbouncer(shared.server)
	must(t, err)
	ctx := t.Context()
	config, err := pgx.ParseConfig(b.url(db.OwnerURL))
	must(t, err)
	config.DefaultQueryExecMode = pgx.QueryExecModeExec
	conns := make([]*pgx.Conn, 20) // more than the pool has
	var wg sync.WaitGroup
	for i := range conns {
		conns[i], err = pgx.ConnectConfig(ctx, config)
		must(t, err)
		wg.Go(func() {
			if _, err := conns[i].Exec(ctx, "select pg_sleep(0.01)"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := ask(t, db.OwnerURL, "select count(*)::text from pg_stat_activity where datname = current_database() and query like '%pg_sleep(0.01)'"); len(got) != 1 || got > "4" || got == "0" {
		t.Errorf("%d clients use %s sessions", len(conns), got)
	}
	for _, c := range conns {
		must(t, c.Close(ctx))
	}
}

func TestPostgresRestarts(t *testing.T) {
	t.Parallel()
	s := Postgres(t, Durable())
	db := s.Database(t)
	must(t, execute(db.URL, "create table kept as select 1 as n"))
	for name, end := range map[string]func(){"Stop": s.Stop, "Kill": s.Kill} {
		end()
		if err := execute(db.URL, "select 1"); err == nil {
			t.Errorf("%s: it still answers", name)
		}
		s.Start()
		if got := ask(t, db.URL, "select n::text || current_setting('fsync') from kept"); got != "1on" {
			t.Errorf("%s: got %s", name, got)
		}
	}
}

// A test process that is killed leaves its files; the next one removes them.
func TestSweep(t *testing.T) {
	t.Parallel()
	var dirs []string
	for range 2 {
		dir, err := os.MkdirTemp("", dirPattern)
		must(t, err)
		l, err := stack.Lock(dir)
		must(t, err)
		if dirs = append(dirs, dir); len(dirs) == 1 {
			must(t, l.Unlock())
			continue
		}
		t.Cleanup(func() { must(t, errors.Join(l.Unlock(), os.RemoveAll(dir))) })
	}
	Postgres(t)
	if _, err := os.Stat(dirs[0]); !os.IsNotExist(err) {
		t.Errorf("nobody's directory is left: %v", err)
	}
	_, err := os.Stat(dirs[1])
	must(t, err)
}

func TestNATSRestarts(t *testing.T) {
	t.Parallel()
	keepsMessages(t, NATS(t, Sync()), (*NATSServer).Stop)
}

func TestBinary(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "nats-server")
	build := exec.Command("go", "build", "-o", program, "github.com/nats-io/nats-server/v2")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build nats-server: %v\n%s", err, out)
	}
	s := Binary(t, program)
	keepsMessages(t, s, (*NATSServer).Kill)
	keepsMessages(t, s, (*NATSServer).Stop)
}

func keepsMessages(t *testing.T, s *NATSServer, end func(*NATSServer)) {
	t.Helper()
	ctx := t.Context()
	nc := s.Connect(t)
	js, err := jetstream.New(nc)
	must(t, err)
	stream, err := js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}})
	must(t, err)
	ack, err := js.Publish(ctx, "s", []byte("kept"))
	must(t, err)
	url := s.URL
	end(s)
	if _, err := nats.Connect(url); err == nil {
		t.Error("it still answers")
	}
	s.Start()
	Eventually(t, 10*time.Second, func() error {
		_, err := stream.GetMsg(ctx, ack.Sequence)
		return err
	})
	if _, err := os.Stat(filepath.Join(s.Dir, "jetstream")); err != nil {
		t.Error(err)
	}
}

func TestCluster(t *testing.T) {
	t.Parallel()
	nodes := Cluster(t, 3)
	js, err := jetstream.New(nodes[0].Connect(t))
	must(t, err)
	stream, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}, Replicas: 3})
	must(t, err)
	nodes[2].Stop()
	Eventually(t, 20*time.Second, func() error { // a leader lost takes a moment to replace
		_, err := js.Publish(t.Context(), "s", nil, jetstream.WithMsgID("1"))
		return err
	})
	nodes[2].Start()
	Eventually(t, 20*time.Second, func() error {
		info, err := stream.Info(t.Context())
		if err != nil {
			return err
		}
		if info.State.Msgs != 1 {
			return errors.New("messages: " + strconv.FormatUint(info.State.Msgs, 10))
		}
		for _, r := range info.Cluster.Replicas {
			if !r.Current {
				return errors.New(r.Name + " is behind")
			}
		}
		return nil
	})
}

func TestEventually(t *testing.T) {
	t.Parallel()
	failed := &recorder{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() { _ = recover() }()
		Eventually(failed, 50*time.Millisecond, func() error { return errors.New("the last answer") })
	}()
	<-done
	if !strings.Contains(failed.said, "the last answer") {
		t.Errorf("said %q", failed.said)
	}
}

// recorder keeps what a test would have failed with.
type recorder struct {
	testing.TB
	said string
}

func (r *recorder) Fatalf(_ string, args ...any) {
	for _, a := range args {
		if err, ok := a.(error); ok {
			r.said = err.Error()
		}
	}
	panic("fatal")
}

func ask(t *testing.T, url, sql string) string {
	t.Helper()
	ctx := context.Background()
	config, err := pgx.ParseConfig(url)
	must(t, err)
	config.DefaultQueryExecMode = pgx.QueryExecModeExec // also behind PgBouncer
	conn, err := pgx.ConnectConfig(ctx, config)
	must(t, err)
	defer conn.Close(ctx) //nolint:errcheck // a test
	var s string
	must(t, conn.QueryRow(ctx, sql).Scan(&s))
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestRedis(t *testing.T) {
	t.Parallel()
	r := Redis(t)
	if got := r.CLI("set", "a", "1"); got != "OK" {
		t.Fatalf("set: %s", got)
	}
	r.Kill()
	r.Start()
	if got := r.CLI("get", "a"); got != "" {
		t.Errorf("it kept %q over a restart", got)
	}
	if got := RedisTLS(t).CLI("ping"); got != "PONG" {
		t.Errorf("over TLS: %s", got)
	}
	if got := RedisCluster(t)[1].CLI("-c", "set", "a", "1"); got != "OK" {
		t.Errorf("in a cluster: %s", got)
	}
}
