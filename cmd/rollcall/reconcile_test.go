package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
)

// listed are the resources that Clerk lists, but for what its lists don't say.
func listed() (flags []string) {
	for _, table := range []string{"users", "organizations", "organization_memberships", "roles", "permissions", "organization_domains", "waitlist_entries"} {
		flags = append(flags, "--resource="+table)
	}
	return flags
}

// emulatedDev is a dev stack with an emulated Clerk that is quiet.
func emulatedDev(t *testing.T, flags ...string) (dev *proc, clerk *emulatedClerk, store *pipeline) {
	t.Helper()
	dev, dir := devProc(t)
	dev.args = append(append(dev.args, "--emulate"), flags...)
	env := dev.start().ready(dir)
	clerk, store = &emulatedClerk{t, env}, devPipeline(t, env)
	clerk.put("/_emu/traffic", `{"rate":0}`)
	clerk.settled()
	store.caughtUp()
	return dev, clerk, store
}

// command is one beside the dev stack.
func (c *emulatedClerk) command(args ...string) *proc {
	var settings []string
	for name, value := range c.env {
		settings = append(settings, name+"="+value)
	}
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(stacktest.FreePort(c.t)))
	return newProc(c.t, addr, args, append(settings, "ROLLCALL_HEALTH_ADDR="+addr)...)
}

// past waits until Clerk's clock, which shows whole seconds, is beyond what has
// happened.
func (c *emulatedClerk) past() {
	done := time.Now()
	stacktest.Eventually(c.t, patience, func() error {
		if time.Since(done) < 2*time.Second {
			return errors.New("too soon")
		}
		return nil
	})
}

// Drift is found, told by exit code, table and SQL, and mended; a canary flies or
// doesn't.
func TestReconcileCommand(t *testing.T) {
	t.Parallel()
	_, clerk, store := emulatedDev(t)
	clerk.past()
	run := func(code int, args ...string) *proc {
		t.Helper()
		p := clerk.command(args...).start()
		if got := p.exits(patience); got != code {
			t.Fatalf("%s exits %d, want %d:\n%s", p.name, got, code, p.said())
		}
		return p
	}
	run(3, "reconcile", "--grace=0s") // no event ever told of the built-in roles
	run(0, "reconcile", "--grace=0s", "--repair")
	run(0, "reconcile", "--grace=0s")
	clerk.put("/_emu/chaos", `{"drop":0.3}`)
	clerk.changes(200)
	clerk.settled()
	store.caughtUp()
	clerk.past()
	found := run(3, "reconcile", "--grace=1s", "--json")
	var report struct {
		Resources   []struct{ Missing, Stale, Extra int64 }
		Differences []difference
	}
	said := found.said()
	if err := json.Unmarshal([]byte(said[strings.Index(said, "{"):strings.LastIndex(said, "}")+1]), &report); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	if len(report.Differences) == 0 || !strings.Contains(said, "rows differ from Clerk's") {
		t.Errorf("found nothing: %s", said)
	}
	mended := run(0, "reconcile", "--grace=1s", "--repair", "--confirm-deletes")
	if !strings.Contains(mended.said(), "out of reach: sessions") || !strings.Contains(mended.said(), "MENDED") {
		t.Errorf("says %s", mended.said())
	}
	if code, text := clerk.verify(listed()...); code != 0 {
		t.Errorf("clerkemu verify exits %d:\n%s", code, text)
	}
	var missing, left int64
	err := store.query([]any{&missing, &left}, `select sum((r.value->>'missing')::bigint), sum((r.value->>'missing')::bigint + (r.value->>'stale')::bigint + (r.value->>'extra')::bigint - (r.value->>'mended')::bigint)
		from clerk.sync_status, jsonb_each(reconciled->'full'->'resources') r`)
	if err != nil || missing == 0 || left != 0 {
		t.Errorf("sync_status has %d missing, %d left, %v", missing, left, err)
	}
	page, err := os.ReadFile("../../deploy/docs/reconciling.md")
	if err != nil {
		t.Fatal(err)
	}
	_, query, _ := strings.Cut(string(page), "```sql\n")
	query, _, _ = strings.Cut(query, "```")
	store.exec(query)

	clerk.put("/_emu/chaos", `{"drop":0}`)
	user := ""
	if err := store.query([]any{&user}, `select id from clerk.users where deleted_at is null limit 1`); err != nil {
		t.Fatal(err)
	}
	if p := run(0, "doctor", "--canary", "--user", user, "--wait", "40s"); !strings.Contains(p.said(), "was in the log after") {
		t.Error(p.said())
	}
	clerk.put("/_emu/chaos", `{"drop":1}`)
	if p := run(3, "doctor", "--canary", "--user", user, "--wait", "2s"); !strings.Contains(p.said(), "no webhook of it came within 2s") {
		t.Error(p.said())
	}
	run(2, "doctor", "--canary", "--user", "user_nobody")
}

// Processes that go on share the passes, mend what was dropped, and tell of a
// Clerk that is silent; so does ingest, which takes traffic all the same.
func TestReconcileEvery(t *testing.T) {
	t.Parallel()
	dev, clerk, store := emulatedDev(t)
	flags := []string{"reconcile", "--every=1s", "--repair", "--grace=0s"}
	one, other := clerk.command(flags...).start(), clerk.command(flags...).start()
	one.is("ok")
	other.is("ok")
	clerk.past()
	clerk.put("/_emu/chaos", `{"drop":1}`)
	clerk.signUp(1)
	stacktest.Eventually(t, patience, func() error {
		var n int
		err := store.query([]any{&n}, `select count(*) from clerk.users where external_id = 'ours_1' and source = 'reconcile'`)
		if err == nil && n != 1 {
			err = fmt.Errorf("%d such users", n)
		}
		return err
	})
	stacktest.Eventually(t, patience, func() error {
		for _, p := range []*proc{dev, one} {
			code, body, err := readyz(t.Context(), "http://"+p.addr)
			if err != nil || code != http.StatusOK || !strings.Contains(string(body), "and Clerk has changes") {
				return fmt.Errorf("%s answers %d %s, %w", p.name, code, body, err)
			}
		}
		return nil
	})
	if one.metric("rollcall_reconcile_mended_rows_total")+other.metric("rollcall_reconcile_mended_rows_total") < 1 || one.metric("rollcall_reconcile_silence_seconds") == 0 {
		t.Error("the metrics show nothing")
	}
	one.kill()
	clerk.signUp(2)
	stacktest.Eventually(t, patience, func() error {
		var n int
		err := store.query([]any{&n}, `select count(*) from clerk.users where external_id = 'ours_2'`)
		if err == nil && n != 1 {
			err = fmt.Errorf("%d such users", n)
		}
		return err
	})
	clerk.put("/_emu/chaos", `{"drop":0}`)
	clerk.signUp(3)
	dev.is("ok")
	other.stops()
}

// A dev stack that no webhook ever reaches has what Clerk has, and keeps in step,
// deletes included.
func TestDevPull(t *testing.T) {
	t.Parallel()
	_, clerk, _ := emulatedDev(t) // the webhooks go to this one
	dev, dir := devProc(t, "CLERK_API_URL="+clerk.env["CLERK_API_URL"], "CLERK_SECRET_KEY="+clerk.env["CLERK_SECRET_KEY"])
	dev.args = append(dev.args, "--pull")
	env := dev.start().ready(dir)
	store := devPipeline(t, env)
	pulled := &emulatedClerk{t, map[string]string{"CLERK_API_URL": clerk.env["CLERK_API_URL"], "DATABASE_URL": env["DATABASE_URL"]}}
	stacktest.Eventually(t, patience, func() error {
		if code, text := pulled.verify(listed()...); code != 0 {
			return fmt.Errorf("clerkemu verify exits %d: %.2000s", code, text)
		}
		return nil
	})
	user := ""
	if err := store.query([]any{&user}, `select id from clerk.users where source = 'reconcile' limit 1`); err != nil {
		t.Fatal(err)
	}
	clerk.signUp(1)
	clerk.ask("PATCH", "/v1/users/"+user, `{"first_name":"Pulled"}`)
	is := func(want string) {
		t.Helper()
		stacktest.Eventually(t, patience, func() error {
			var now string
			err := store.query([]any{&now}, `select case when deleted_at is null then first_name else 'deleted' end || ' ' || (select count(*) from clerk.users where external_id = 'ours_1') from clerk.users where id = $1`, user)
			if err == nil && now != want {
				err = errors.New(now)
			}
			return err
		})
	}
	is("Pulled 1")
	clerk.ask("DELETE", "/v1/users/"+user, "")
	is("deleted 1")
	dev.stops()
}

// A repair that is killed at random moments and started again ends with the
// store as Clerk is, while traffic flows.
func TestSoakReconcileKilled(t *testing.T) {
	t.Parallel()
	_, clerk, store := emulatedDev(t)
	clerk.put("/_emu/chaos", `{"drop":0.3}`)
	clerk.changes(sized(1_000, 20_000))
	clerk.settled()
	store.caughtUp()
	clerk.past()
	clerk.put("/_emu/chaos", `{"drop":0}`)
	clerk.put("/_emu/traffic", `{"rate":10}`)
	mend := clerk.command("reconcile", "--repair", "--confirm-deletes", "--grace=1s")
	for range sized(3, 20) {
		mend.start()
		select {
		case <-time.After(rand.N(4 * time.Second)): // that is the test: any moment
			mend.kill()
		case <-mend.child.Done():
		}
	}
	if code := mend.start().exits(3 * patience); code != 0 {
		t.Errorf("exits %d:\n%s", code, mend.said())
	}
	clerk.put("/_emu/traffic", `{"rate":0}`)
	clerk.settled()
	store.caughtUp()
	if code, text := clerk.verify(listed()...); code != 0 {
		t.Errorf("clerkemu verify exits %d:\n%s", code, text)
	}
}

// Stores of different resources and columns, which delete differently, are
// compared each with what it keeps, and mended by the same log.
func TestReconcileSeveralStores(t *testing.T) {
	t.Parallel()
	config := filepath.Join(t.TempDir(), "rollcall.yaml")
	err := os.WriteFile(config, []byte(`stores:
  app: {on_delete: hard}
  orders:
    schema: orders
    resources: [users, organization_memberships]
    include: {users: [private_metadata]}
    exclude: {users: [phone, phone_numbers], organization_memberships: [created_at]}
`), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	_, clerk, store := emulatedDev(t, "--config", config)
	run := func(code int, args ...string) {
		t.Helper()
		p := clerk.command(append([]string{"reconcile", "--config", config, "--grace=1s"}, args...)...).start()
		if got := p.exits(patience); got != code {
			t.Fatalf("%s exits %d, want %d:\n%s", p.name, got, code, p.said())
		}
	}
	clerk.put("/_emu/chaos", `{"drop":0.3}`)
	clerk.changes(300)
	clerk.settled()
	store.caughtUp()
	store.caughtUpIn("orders")
	clerk.put("/_emu/chaos", `{"drop":0}`)
	clerk.past()
	store.exec(`update orders.users set first_name = 'Mallory'`) // of this one alone
	run(3, "--store=orders")
	run(0, "--repair", "--confirm-deletes")
	run(0, "--store=orders")
	for _, schema := range []string{"clerk", "orders"} {
		if code, text := clerk.verify(append(listed(), "--schema="+schema)...); code != 0 {
			t.Errorf("schema %s: clerkemu verify exits %d:\n%s", schema, code, text)
		}
	}
}
