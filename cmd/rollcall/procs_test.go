package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rollcall-dev/rollcall/internal/stack"
	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
	"github.com/rollcall-dev/rollcall/streams"
)

const (
	patience = time.Minute // for what has to come; a busy machine is slow
	stopTime = 10 * time.Second
	secret   = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
)

// sized is small, or full under `make soak`.
func sized[T any](small, full T) T {
	if os.Getenv("ROLLCALL_SOAK") == "1" {
		return full
	}
	return small
}

// proc is a rollcall process: this test binary, as TestMain lets it be. It can
// be killed and started again.
type proc struct {
	t     testing.TB
	name  string
	args  []string
	env   []string
	addr  string // health and metrics
	child *stack.Child
	log   string // of the last start
	n     int
}

// newProc doesn't start it. env is all that it sees beside what a process needs.
func newProc(t testing.TB, addr string, args []string, env ...string) *proc {
	p := &proc{t: t, name: strings.Join(args, " "), args: args, addr: addr}
	p.env = append(env, "ROLLCALL_TEST_MAIN=1", "PATH="+os.Getenv("PATH"), "HOME="+os.Getenv("HOME"), "TMPDIR="+os.TempDir())
	p.log = filepath.Join(t.TempDir(), "log")
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("the end of what %s said:\n%s", p.name, p.tail())
		}
	})
	return p
}

func (p *proc) start() *proc {
	p.t.Helper()
	self, err := os.Executable()
	if err != nil {
		p.t.Fatal(err)
	}
	p.n++
	p.log = filepath.Join(filepath.Dir(p.log), fmt.Sprintf("log%d", p.n))
	log, err := os.Create(p.log)
	if err != nil {
		p.t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(self, p.args...)
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = p.env, filepath.Dir(p.log), log, log
	if p.child, err = stack.StartChild(cmd, stack.Account{}, syscall.SIGKILL); err != nil {
		p.t.Fatal(err)
	}
	return p
}

func (p *proc) said() string {
	text, _ := os.ReadFile(p.log) // not started: said nothing
	return string(text)
}

func (p *proc) tail() string {
	said := p.said()
	return said[max(0, len(said)-8000):]
}

func (p *proc) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.child.Signal(s); err != nil {
		p.t.Errorf("%s: %v", p.name, err)
	}
}

// kill ends it as a crash would.
func (p *proc) kill() {
	p.t.Helper()
	if p.child == nil {
		return
	}
	p.signal(syscall.SIGKILL)
	<-p.child.Done()
	if strings.Contains(p.said(), "DATA RACE") {
		p.t.Errorf("%s raced:\n%s", p.name, p.said())
	}
}

// exits waits for its end: the exit code, -1 for one that a signal ended.
func (p *proc) exits(within time.Duration) int {
	p.t.Helper()
	select {
	case <-p.child.Done():
	case <-time.After(within):
		p.t.Fatalf("%s has not ended within %s", p.name, within)
	}
	var exit *exec.ExitError
	if errors.As(p.child.Err(), &exit) {
		return exit.ExitCode()
	}
	return 0
}

func (p *proc) stops() {
	p.t.Helper()
	p.signal(syscall.SIGTERM)
	if code := p.exits(stopTime); code != 0 {
		p.t.Errorf("%s exits %d after SIGTERM", p.name, code)
	}
}

func (p *proc) running() error {
	select {
	case <-p.child.Done():
		return fmt.Errorf("%s has ended: %w", p.name, p.child.Err())
	default:
		return nil
	}
}

// health asks /readyz; the status is "ok", "degraded", or "" where nobody answers.
func (p *proc) health() (code int, status string) {
	code, body, err := readyz(p.t.Context(), "http://"+p.addr)
	var report struct {
		Status string `json:"status"`
	}
	if err == nil {
		err = json.Unmarshal(body, &report)
	}
	if err != nil {
		return 0, ""
	}
	return code, report.Status
}

// is waits until /readyz answers 200 with that status.
func (p *proc) is(status string) {
	p.t.Helper()
	stacktest.Eventually(p.t, patience, func() error {
		if err := p.running(); err != nil {
			p.t.Fatal(err)
		}
		if code, now := p.health(); code != http.StatusOK || now != status {
			return fmt.Errorf("%s answers %d %q, want 200 %q", p.name, code, now, status)
		}
		return nil
	})
}

// metric is the sum over all labels.
func (p *proc) metric(name string) (sum float64) {
	p.t.Helper()
	req, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, "http://"+p.addr+"/metrics", nil)
	if err != nil {
		p.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		p.t.Fatalf("metrics of %s: %v", p.name, err)
	}
	defer resp.Body.Close()
	var text bytes.Buffer
	if _, err := text.ReadFrom(resp.Body); err != nil {
		p.t.Fatal(err)
	}
	for line := range strings.Lines(text.String()) {
		if rest, ok := strings.CutPrefix(line, name); ok && (rest[0] == ' ' || rest[0] == '{') {
			fields := strings.Fields(rest)
			n, err := strconv.ParseFloat(fields[len(fields)-1], 64)
			if err != nil {
				p.t.Fatalf("metric %s: %v", line, err)
			}
			sum += n
		}
	}
	return sum
}

// pipeline is a broker, a database, and the settings of processes between them.
type pipeline struct {
	t    testing.TB
	nats *stacktest.NATSServer
	db   stacktest.DB
}

func newPipeline(t testing.TB) *pipeline {
	t.Helper()
	return &pipeline{t, stacktest.Binary(t, newestNATS(t)), stacktest.Database(t)}
}

// natsServers are the nats-server programs to test against, oldest first.
func natsServers(t testing.TB) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(os.Getenv("ROLLCALL_TEST_NATS_SERVERS"), "*", "nats-server"))
	if err != nil || os.Getenv("ROLLCALL_TEST_NATS_SERVERS") == "" || len(found) == 0 {
		t.Skip("ROLLCALL_TEST_NATS_SERVERS names no folder with VERSION/nats-server")
	}
	return found
}

func newestNATS(t testing.TB) string {
	servers := natsServers(t)
	return servers[len(servers)-1]
}

// proc makes `rollcall run ROLE…`, not started.
func (p *pipeline) proc(roles ...string) *proc {
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(stacktest.FreePort(p.t)))
	return newProc(p.t, addr, append([]string{"run"}, roles...), "CLERK_WEBHOOK_SIGNING_SECRET="+secret,
		"ROLLCALL_INGEST_ADDR="+addr, "ROLLCALL_HEALTH_ADDR="+addr, "NATS_URL="+p.nats.URL, "DATABASE_URL="+p.db.URL)
}

// run starts it and waits until all of it works.
func (p *pipeline) run(roles ...string) *proc {
	p.t.Helper()
	made := p.proc(roles...).start()
	made.is("ok")
	return made
}

func (p *pipeline) query(into []any, sql string, args ...any) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, p.db.OwnerURL)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	return conn.QueryRow(ctx, sql, args...).Scan(into...)
}

func (p *pipeline) exec(sql string) {
	p.t.Helper()
	conn, err := pgx.Connect(p.t.Context(), p.db.OwnerURL)
	if err != nil {
		p.t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.PgConn().Exec(p.t.Context(), sql).ReadAll(); err != nil {
		p.t.Fatal(err)
	}
}

// position is how far the store has come.
func (p *pipeline) position() (epoch int64, sequence uint64, err error) {
	err = p.query([]any{&epoch, &sequence}, `select epoch, position from clerk.sync_status`)
	return epoch, sequence, err
}

// passes waits until the store has come further than a sequence.
func (p *pipeline) passes(sequence uint64) (took time.Duration) {
	p.t.Helper()
	start := time.Now()
	stacktest.Eventually(p.t, patience, func() error {
		_, now, err := p.position()
		if err == nil && now <= sequence {
			err = fmt.Errorf("the store stands at %d", now)
		}
		return err
	})
	return time.Since(start)
}

// stream is the log's state.
func (p *pipeline) stream() *jetstream.StreamInfo {
	p.t.Helper()
	js, err := jetstream.New(p.nats.Connect(p.t))
	if err != nil {
		p.t.Fatal(err)
	}
	var info *jetstream.StreamInfo
	stacktest.Eventually(p.t, patience, func() error {
		s, err := js.Stream(p.t.Context(), streams.Names{}.Stream())
		if err == nil {
			info = s.CachedInfo()
		}
		return err
	})
	return info
}

// logged are the svix-ids of the log in order, as a reader of its own sees them.
func (p *pipeline) logged() []string {
	p.t.Helper()
	n := p.stream().State.Msgs
	js, err := jetstream.New(p.nats.Connect(p.t))
	if err != nil {
		p.t.Fatal(err)
	}
	consumer, err := js.OrderedConsumer(p.t.Context(), streams.Names{}.Stream(), jetstream.OrderedConsumerConfig{HeadersOnly: true})
	if err != nil {
		p.t.Fatal(err)
	}
	messages, err := consumer.Messages()
	if err != nil {
		p.t.Fatal(err)
	}
	defer messages.Stop()
	var ids []string
	for range n {
		m, err := messages.Next(jetstream.NextMaxWait(patience))
		if err != nil {
			p.t.Fatalf("read the log: %v", err)
		}
		ids = append(ids, m.Headers().Get(streams.HeaderSvixID))
	}
	return ids
}

// once expects each of the events in the log, once, and nothing else.
func (p *pipeline) once(events []*event) {
	p.t.Helper()
	missing, times := map[string]bool{}, map[string]int{}
	for _, e := range events {
		missing[e.id] = true
	}
	strange := 0
	for _, id := range p.logged() {
		if !missing[id] && times[id] == 0 {
			strange++
		}
		delete(missing, id)
		times[id]++
	}
	again := 0
	for _, n := range times {
		again += n - 1
	}
	if len(missing)+strange+again > 0 {
		p.t.Errorf("of %d events the log misses %d; it has %d twice and %d that were never sent", len(events), len(missing), again, strange)
	}
}

// caughtUp waits until the store has applied all that the log holds.
func (p *pipeline) caughtUp() {
	p.t.Helper()
	p.caughtUpIn("clerk")
}

// caughtUpIn is the same of the store in a schema.
func (p *pipeline) caughtUpIn(schema string) {
	p.t.Helper()
	stacktest.Eventually(p.t, 2*patience, func() error {
		info := p.stream()
		var epoch int64
		var sequence uint64
		err := p.query([]any{&epoch, &sequence}, `select epoch, position from `+schema+`.sync_status`)
		if err == nil && (epoch != info.Created.UnixNano() || sequence != info.State.LastSeq) {
			err = fmt.Errorf("the store stands at %d of epoch %d, the log ends at %d of epoch %d", sequence, epoch, info.State.LastSeq, info.Created.UnixNano())
		}
		return err
	})
}

// rows are those of the store, in the model's words.
func (p *pipeline) rows() map[string]string {
	p.t.Helper()
	conn, err := pgx.Connect(p.t.Context(), p.db.OwnerURL)
	if err != nil {
		p.t.Fatal(err)
	}
	defer conn.Close(context.Background())
	rows, err := conn.Query(p.t.Context(), `
select 'users/' || id, concat_ws(' ', 'name=' || name, 'email=' || email, 'n=' || (public_metadata->>'n'), 'updated=' || extract(epoch from updated_at) * 1000, 'deleted=' || extract(epoch from deleted_at) * 1000) from clerk.users
union all
select 'organizations/' || id, concat_ws(' ', 'name=' || name, 'n=' || (public_metadata->>'n'), 'updated=' || extract(epoch from updated_at) * 1000, 'deleted=' || extract(epoch from deleted_at) * 1000) from clerk.organizations
union all
select 'organization_memberships/' || id, concat_ws(' ', 'user=' || user_id, 'org=' || organization_id, 'role=' || role, 'n=' || (public_metadata->>'n'), 'updated=' || extract(epoch from updated_at) * 1000, 'deleted=' || extract(epoch from deleted_at) * 1000) from clerk.organization_memberships`)
	if err != nil {
		p.t.Fatal(err)
	}
	got := map[string]string{}
	var key, row string
	if _, err := pgx.ForEachRow(rows, []any{&key, &row}, func() error {
		got[key] = strings.ReplaceAll(row, ".000000", "")
		return nil
	}); err != nil {
		p.t.Fatal(err)
	}
	return got
}

// right expects the rows that the events make.
func (p *pipeline) right(events []*event) {
	p.t.Helper()
	if diff := gocmp.Diff(model(events), p.rows()); diff != "" {
		p.t.Errorf("rows differ (-model +store):\n%.4000s", diff)
	}
}

// watch makes the database note each move of the position and each row written.
func (p *pipeline) watch() {
	p.t.Helper()
	p.exec(`create schema watched;
create table watched.moves (tx xid8, old bigint, new bigint);
create table watched.writes (tx xid8, seq bigint);
create function watched.move() returns trigger language plpgsql as $$ begin insert into watched.moves values (pg_current_xact_id(), old.position, new.position); return null; end $$;
create function watched.written() returns trigger language plpgsql as $$ begin insert into watched.writes values (pg_current_xact_id(), new.stream_seq); return null; end $$;
create trigger watched after update on clerk.sync_status for each row execute function watched.move();
create trigger watched after insert or update on clerk.users for each row execute function watched.written();
create trigger watched after insert or update on clerk.organizations for each row execute function watched.written();
create trigger watched after insert or update on clerk.organization_memberships for each row execute function watched.written();
create trigger watched after insert or update on clerk.tombstones for each row execute function watched.written();`)
}

// appliedOnce expects that each move began where the one before had ended, and
// that each row was written in the transaction that moved past its event: no
// event was applied twice.
func (p *pipeline) appliedOnce() {
	p.t.Helper()
	var moves, back, gaps, writes, outside int
	err := errors.Join(
		p.query([]any{&moves, &back, &gaps}, `select count(*), count(*) filter (where new < old), count(*) filter (where old <> before)
from (select old, new, lag(new) over (order by tx) as before from watched.moves) m`),
		p.query([]any{&writes, &outside}, `select count(*), count(*) filter (where m.tx is null or seq <= m.old or seq > m.new)
from watched.writes w left join watched.moves m using (tx)`))
	if err != nil {
		p.t.Fatal(err)
	}
	if moves == 0 || writes == 0 || back+gaps+outside > 0 {
		p.t.Errorf("%d moves of the position, %d of them back and %d from elsewhere; %d rows written, %d outside of their event's transaction", moves, back, gaps, writes, outside)
	}
}
