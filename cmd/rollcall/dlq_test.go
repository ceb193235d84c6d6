package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/internal/consume"
	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
)

// letterbox is a pipeline with two stores, the first of which refuses Eve.
type letterbox struct {
	*pipeline
	running *proc
	config  string
	env     []string
}

func newLetterbox(t *testing.T) *letterbox {
	t.Helper()
	b := &letterbox{pipeline: &pipeline{t, stacktest.NATS(t), stacktest.Database(t)}}
	b.config = filepath.Join(t.TempDir(), "rollcall.yaml")
	text := "stores:\n  app: {database_url: \"${DB}\"}\n  other: {database_url: \"${DB}\", schema: other}\n"
	if err := os.WriteFile(b.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(stacktest.FreePort(t)))
	b.env = []string{"NATS_URL=" + b.nats.URL, "DB=" + b.db.URL, "ROLLCALL_INSTANCE_ID=ins_1"}
	b.running = newProc(t, addr, []string{"run", "--config", b.config}, append(b.env, "CLERK_WEBHOOK_SIGNING_SECRET="+secret, "ROLLCALL_INGEST_ADDR="+addr)...).start()
	b.running.is("ok")
	b.exec(`alter table clerk.users add constraint no_eve check (first_name <> 'Eve')`)
	return b
}

// command runs one, with settings of its own, and expects an exit code.
func (b *letterbox) command(code int, args []string, env ...string) string {
	b.t.Helper()
	p := b.start(args, env...)
	if got := p.exits(patience); got != code {
		b.t.Fatalf("%s: exit code %d, want %d\n%s", strings.Join(args, " "), got, code, p.tail())
	}
	return p.said()
}

func (b *letterbox) start(args []string, env ...string) *proc {
	b.t.Helper()
	return newProc(b.t, "", append(args, "--config", b.config), append(b.env[:len(b.env):len(b.env)], env...)...).start()
}

func (b *letterbox) send(args ...string) {
	b.t.Helper()
	b.command(0, append([]string{"send"}, args...), "ROLLCALL_WEBHOOK_URL=http://"+b.running.addr+"/webhooks/clerk", "CLERK_WEBHOOK_SIGNING_SECRET="+secret)
}

// has waits until a query answers so.
func (b *letterbox) has(want, sql string) {
	b.t.Helper()
	stacktest.Eventually(b.t, patience, func() error {
		var got string
		err := b.query([]any{&got}, sql)
		if err == nil && got != want {
			err = fmt.Errorf("%s: %s, want %s", sql, got, want)
		}
		return err
	})
}

func (b *letterbox) letters(args ...string) (letters []consume.Letter) {
	b.t.Helper()
	if err := json.Unmarshal([]byte(b.command(0, append([]string{"dlq", "list", "--json"}, args...))), &letters); err != nil {
		b.t.Fatal(err)
	}
	return letters
}

const eves = `select format('%s of %s, %s letters', count(*) filter (where first_name = 'Eve'), count(*), (select dead_letters from clerk.sync_status)) from clerk.users`

// Refused while the cause stands, applied once when it is mended, by the one
// store that had failed.
func TestRedriveCommand(t *testing.T) {
	t.Parallel()
	b := newLetterbox(t)
	b.send("user.created", "--count", "60", "--set", "instance_id=ins_1")
	b.send("user.created", "--count", "40", "--set", "data.first_name=Eve", "--set", "instance_id=ins_1")
	b.has("0 of 60, 40 letters", eves)
	b.has("60", `select count(*)::text from other.users`)
	b.has("40", `select count(*)::text from other.users where first_name = 'Eve'`)

	before := b.letters("--resource", "users", "--reason", "no_eve", "--since", "1h")
	if len(before) != 40 || before[0].Sink != "store-app" {
		t.Fatalf("%d letters, the first %+v", len(before), before)
	}
	said := b.command(1, []string{"dlq", "redrive"})
	if !strings.Contains(said, "store-app: 0 letters applied") || !strings.Contains(said, "40 letters failed again") {
		t.Error(said)
	}
	if again := b.letters(); len(again) != 40 || again[0].Attempts != "2" || !strings.HasSuffix(again[0].ID, ":2") {
		t.Fatalf("%d letters, the first %+v", len(again), again)
	}
	b.has("0 of 60, 40 letters", eves)

	b.exec(`alter table clerk.users drop constraint no_eve; create table public.unchanged as select * from other.users`)
	b.watch()
	if said := b.command(0, []string{"dlq", "redrive", "--dry-run"}); !strings.Contains(said, "40 letters would be redriven (store-app 40)") {
		t.Error(said)
	}
	b.command(0, []string{"dlq", "redrive", "--sink", "store-other"})
	b.has("0 of 60, 40 letters", eves)
	var result struct {
		Sinks        []struct{ Applied int64 }
		Failed, Kept []consume.Letter
	}
	if err := json.Unmarshal([]byte(b.command(0, []string{"dlq", "redrive", "--json"})), &result); err != nil || len(result.Sinks) != 1 || result.Sinks[0].Applied != 40 {
		t.Errorf("%+v, %v", result, err)
	}
	b.has("40 of 60, 0 letters", eves)
	b.has("40 of 40", `select format('%s of %s', count(distinct seq), count(*)) from watched.writes`)
	b.has("0", `select count(*)::text from (select * from other.users except select * from public.unchanged) x`)
	if said := b.command(0, []string{"dlq", "redrive"}); said != "no dead letters\n" {
		t.Error(said)
	}
	// The run is in the log, and no store wonders at it.
	b.caughtUp()
	if n := b.running.metric("rollcall_store_unknown_types_total"); n != 0 {
		t.Errorf("%v unknown types", n)
	}
	b.running.stops()
}

// Killed at any moment, and two at once: in the end all is applied, and until
// then each event is a row or a letter.
func TestRedriveKilled(t *testing.T) {
	t.Parallel()
	b := newLetterbox(t)
	n := sized(500, 3000)
	b.send("user.created", "--count", strconv.Itoa(n), "--set", "data.first_name=Eve", "--set", "instance_id=ins_1")
	b.has(fmt.Sprintf("0 of 0, %d letters", n), eves)
	b.exec(`alter table clerk.users drop constraint no_eve`)
	for range sized(3, 20) {
		first, second := b.start([]string{"dlq", "redrive"}), b.start([]string{"dlq", "redrive"})
		for _, p := range []*proc{first, second} {
			time.Sleep(time.Duration(rand.IntN(700)) * time.Millisecond) // anywhere in a run
			p.kill()
		}
		left := map[string]bool{}
		for _, l := range b.letters() {
			left[l.EntityID] = true
		}
		applied := 0
		if err := b.query([]any{&applied}, `select count(*) from clerk.users`); err != nil || applied+len(left) < n {
			t.Fatalf("%d rows and %d letters of %d events, %v", applied, len(left), n, err)
		}
	}
	b.command(0, []string{"dlq", "redrive"})
	b.has(fmt.Sprintf("%d of %[1]d, 0 letters", n), eves)
	b.running.stops()
}

// What ingest couldn't take goes into the log once the configuration lets it.
func TestRedriveIngest(t *testing.T) {
	t.Parallel()
	b := newLetterbox(t)
	b.send("user.created", "--set", "instance_id=ins_2", "--id", "msg_2")
	b.send("user.created", "--set", "type=nonsense", "--id", "msg_bad")
	if said := b.command(1, []string{"dlq", "redrive"}, "ROLLCALL_INSTANCE_ID=ins_2"); !strings.Contains(said, "ingest: 1 letter applied") || !strings.Contains(said, "ingest:msg_bad:2") {
		t.Error(said)
	}
	if ids := b.logged(); !slices.Contains(ids, "msg_2") || slices.Contains(ids, "msg_bad") {
		t.Errorf("the log has %q", ids)
	}

	// One that isn't wanted: what asks needs somebody to answer.
	b.command(2, []string{"dlq", "drop", "ingest:msg_bad:2"})
	if said := b.command(0, []string{"dlq", "drop", "ingest:msg_bad:2", "--yes"}); said != "1 letter dropped\n" {
		t.Error(said)
	}
	if left := b.letters(); len(left) != 0 {
		t.Errorf("letters %+v", left)
	}
	if said := b.command(1, []string{"dlq", "drop", "ingest:msg_bad:2", "--yes"}); !strings.Contains(said, "there is no dead letter ingest:msg_bad:2") {
		t.Error(said)
	}
	b.running.stops()
}

// A database that is away is waited for, and the wait can be ended.
func TestRedriveWaitsForTheDatabase(t *testing.T) {
	t.Parallel()
	b := newLetterbox(t)
	b.send("user.created", "--count", "3", "--set", "data.first_name=Eve", "--set", "instance_id=ins_1")
	b.has("0 of 0, 3 letters", eves)
	nowhere := "DB=postgres://nobody@127.0.0.1:" + strconv.Itoa(stacktest.FreePort(t)) + "/x"
	waiting := b.start([]string{"dlq", "redrive"}, nowhere)
	stacktest.Eventually(t, patience, func() error {
		if said := waiting.said(); !strings.Contains(said, "store-app: connect to the database") || !strings.Contains(said, "trying again") {
			return errors.New(said)
		}
		return nil
	})
	waiting.signal(syscall.SIGINT)
	if code := waiting.exits(patience); code != exitFailed || !strings.Contains(waiting.said(), "interrupted with 3 of 3 letters to go") {
		t.Errorf("exit code %d\n%s", code, waiting.said())
	}
	if left := b.letters(); len(left) != 3 {
		t.Errorf("%d letters", len(left))
	}
	b.running.stops()
}
