package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
)

// A living system under the worst internet: whatever is delivered twice, late
// and out of order, the store ends as Clerk is; and what was never delivered is
// found, each and nothing else.
func TestSoakEmulate(t *testing.T) {
	t.Parallel()
	dev, dir := devProc(t)
	dev.args = append(dev.args, "--emulate")
	env := dev.start().ready(dir)
	clerk := &emulatedClerk{t, env}
	store := devPipeline(t, env)
	users, changes := sized(300, 5_000), sized(1_500, 20_000)

	clerk.put("/_emu/traffic", `{"rate":0}`)
	clerk.put("/_emu/chaos", `{"duplicate":0.2,"reorder":0.2,"delay":0.2,"delay_ms":300,"equal_updated_at":0.05,"bad_signature":0.02,"corrupt":0.02}`)
	for i := range users {
		clerk.signUp(i)
	}
	clerk.changes(changes)
	clerk.settled()
	store.caughtUp()
	if code, report := clerk.verify(); code != 0 {
		t.Fatalf("clerkemu verify exits %d:\n%s", code, report)
	}

	clerk.put("/_emu/chaos", `{"duplicate":0,"reorder":0,"delay":0,"equal_updated_at":0,"bad_signature":0,"corrupt":0,"drop":0.3}`)
	clerk.changes(changes / 3)
	clerk.settled()
	store.caughtUp()
	clerk.namesTheDropped(store)

	clerk.put("/_emu/chaos", `{"drop":0}`)
	clerk.post("/_emu/replay", `{"missing_since":0}`)
	clerk.settled()
	store.caughtUp()
	if code, report := clerk.verify(); code != 0 {
		t.Errorf("with all that was dropped delivered, clerkemu verify exits %d:\n%s", code, report)
	}
	dev.stops()
	gone(t, dir)
}

// Stores that hold different resources and columns of one log, and delete
// differently, all end as Clerk is.
func TestSoakStoresOfOneClerk(t *testing.T) {
	t.Parallel()
	config := filepath.Join(t.TempDir(), "rollcall.yaml")
	err := os.WriteFile(config, []byte(`stores:
  app: {on_delete: hard}
  orders:
    schema: orders
    resources: [users, organizations, organization_memberships]
    include: {users: [private_metadata], organizations: [private_metadata]}
    exclude: {users: [phone, phone_numbers, external_accounts], organizations: [members_count]}
`), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	dev, dir := devProc(t)
	dev.args = append(dev.args, "--emulate", "--config", config)
	env := dev.start().ready(dir)
	clerk := &emulatedClerk{t, env}
	clerk.put("/_emu/traffic", `{"rate":0}`)
	clerk.put("/_emu/chaos", `{"duplicate":0.2,"reorder":0.3,"delay":0.2,"delay_ms":500,"burst":0.05,"equal_updated_at":0.1}`)
	clerk.changes(sized(1_500, 50_000))
	clerk.settled()

	store := devPipeline(t, env)
	for schema, tables := range map[string]int{"clerk": 12, "orders": 3} {
		store.caughtUpIn(schema)
		code, text := clerk.verify("--schema", schema)
		var report struct{ Resources []struct{ Kept bool } }
		if err := json.Unmarshal(text, &report); err != nil {
			t.Fatalf("clerkemu verify exits %d: %v: %s", code, err, text)
		}
		kept := 0
		for _, r := range report.Resources {
			if r.Kept {
				kept++
			}
		}
		if code != 0 || kept != tables {
			t.Errorf("schema %s: clerkemu verify exits %d, %d tables compared, want %d:\n%s", schema, code, kept, tables, text)
		}
	}
	dev.stops()
	gone(t, dir)
}

// A Clerk that is killed and started again goes on from what it had saved, with
// the keys that it had.
func TestEmulateStartsAgain(t *testing.T) {
	t.Parallel()
	dev, dir := devProc(t)
	dev.args = append(dev.args, "--emulate")
	env := dev.start().ready(dir)
	clerk := &emulatedClerk{t, env}
	clerk.put("/_emu/traffic", `{"rate":0}`)
	clerk.settled()
	dev.stops()

	again := dev.start().ready(dir)
	for _, name := range []string{"CLERK_SECRET_KEY", "CLERK_JWT_KEY", "CLERK_WEBHOOK_SIGNING_SECRET"} {
		if env[name] == "" || env[name] != again[name] {
			t.Errorf("%s was %q, and is %q after a restart", name, env[name], again[name])
		}
	}
	clerk = &emulatedClerk{t, again}
	clerk.put("/_emu/traffic", `{"rate":0}`)
	clerk.changes(50)
	clerk.settled()
	devPipeline(t, again).caughtUp()
	if code, report := clerk.verify(); code != 0 {
		t.Errorf("clerkemu verify exits %d:\n%s", code, report)
	}
}

func TestEmulateRefusesAnotherClerk(t *testing.T) {
	t.Parallel()
	dev, _ := devProc(t, "CLERK_SECRET_KEY=sk_test_mine")
	dev.args = append(dev.args, "--emulate")
	if code := dev.start().exits(patience); code != exitUsage || !strings.Contains(dev.said(), "CLERK_SECRET_KEY") {
		t.Errorf("exits %d: %s", code, dev.said())
	}
}

// emulatedClerk is the Clerk of a dev stack, by what dev.env says of it.
type emulatedClerk struct {
	t   *testing.T
	env map[string]string
}

func (c *emulatedClerk) put(path, body string) { c.t.Helper(); c.ask("PUT", path, body) }
func (c *emulatedClerk) post(path, body string) []byte {
	c.t.Helper()
	return c.ask("POST", path, body)
}
func (c *emulatedClerk) changes(n int) {
	c.t.Helper()
	c.post("/_emu/traffic", fmt.Sprintf(`{"changes":%d}`, n))
}

func (c *emulatedClerk) ask(method, path, body string) []byte {
	c.t.Helper()
	status, answer, err := c.try(method, path, body)
	if err != nil || status >= http.StatusMultipleChoices {
		c.t.Fatalf("%s %s: %d %s (%v)", method, path, status, answer, err)
	}
	return answer
}

func (c *emulatedClerk) try(method, path, body string) (status int, answer []byte, err error) {
	req, err := http.NewRequestWithContext(c.t.Context(), method, c.env["CLERK_API_URL"]+path, strings.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Authorization", "Bearer "+c.env["CLERK_SECRET_KEY"])
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	answer, err = io.ReadAll(res.Body)
	return res.StatusCode, answer, err
}

// signUp makes a user through the Backend API, at the rate that it allows.
func (c *emulatedClerk) signUp(i int) {
	c.t.Helper()
	body := fmt.Sprintf(`{"email_address":["user%d@example.com"],"first_name":"First%d","external_id":"ours_%d","public_metadata":{"n":%d}}`, i, i, i, i)
	stacktest.Eventually(c.t, patience, func() error {
		status, answer, err := c.try("POST", "/v1/users", body)
		if status == http.StatusTooManyRequests {
			return errors.New("still too many requests")
		}
		if err != nil || status != http.StatusOK {
			c.t.Fatalf("POST /v1/users: %d %s (%v)", status, answer, err)
		}
		return nil
	})
}

func (c *emulatedClerk) settled() {
	c.t.Helper()
	stacktest.Eventually(c.t, 3*patience, func() error {
		status, answer, err := c.try("GET", "/_emu/settled?timeout=20s", "")
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("%d %s", status, answer)
		}
		return err
	})
}

type difference struct{ Resource, ID, Kind, Reason string }

func (c *emulatedClerk) verify(flags ...string) (code int, report []byte) {
	c.t.Helper()
	verify := exec.CommandContext(c.t.Context(), clerkemu(c.t), append([]string{"verify", "--url", c.env["CLERK_API_URL"], "--database-url", c.env["DATABASE_URL"], "--json"}, flags...)...)
	var complaints bytes.Buffer
	verify.Stderr = &complaints
	report, err := verify.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		c.t.Fatal(err)
	}
	if len(report) == 0 {
		report = complaints.Bytes()
	}
	return verify.ProcessState.ExitCode(), report
}

// namesTheDropped expects that verify names what was dropped, and nothing else.
func (c *emulatedClerk) namesTheDropped(store *pipeline) {
	c.t.Helper()
	code, text := c.verify()
	var report struct{ Differences []difference }
	if err := json.Unmarshal(text, &report); err != nil {
		c.t.Fatalf("clerkemu verify exits %d: %v: %s", code, err, text)
	}
	dropped, certain := c.dropped()
	if code != 3 || len(report.Differences) == 0 || len(certain) == 0 {
		c.t.Fatalf("clerkemu verify exits %d with %d differences; %d entities are known to differ", code, len(report.Differences), len(certain))
	}
	named := map[string]bool{}
	for _, d := range report.Differences {
		named[d.ID] = true
		if !dropped[d.ID] && !slices.ContainsFunc(parents(store, d), func(id string) bool { return dropped[id] }) {
			c.t.Errorf("of %s %s nothing was dropped, and it is %s %s; it refers to %v", d.Resource, d.ID, d.Kind, d.Reason, parents(store, d))
		}
	}
	for id, eventType := range certain {
		if !named[id] {
			c.t.Errorf("%s of %s was dropped, and nothing came after it: it isn't named", eventType, id)
		}
	}
}

// parents are what a row refers to: their deletion deletes the row, without an
// event of its own.
func parents(store *pipeline, d difference) (ids []string) {
	table := pgx.Identifier{"clerk", d.Resource}.Sanitize()
	err := store.query([]any{&ids}, `select array(select value from jsonb_each_text(to_jsonb(t)) where key like '%\_id' and value is not null) from `+table+` t where id = $1`, d.ID)
	if err != nil {
		return nil // there is no such row: its own event was dropped
	}
	return ids
}

// dropped are the entities of which an event was dropped, and those that differ
// for it: users and organizations whose first event was never followed by
// another, or whose last was a deletion.
func (c *emulatedClerk) dropped() (all map[string]bool, certain map[string]string) {
	c.t.Helper()
	type delivery struct {
		Type     string `json:"type"`
		EntityID string `json:"entity_id"`
		State    string `json:"state"`
		At       int64  `json:"at"`
	}
	var deliveries []delivery
	for cursor := ""; ; {
		var page struct {
			Data   []delivery `json:"data"`
			Cursor string     `json:"next_cursor"`
		}
		if err := json.Unmarshal(c.ask("GET", "/_emu/deliveries?limit=1000&cursor="+cursor, ""), &page); err != nil {
			c.t.Fatal(err)
		}
		deliveries = append(deliveries, page.Data...)
		if cursor = page.Cursor; cursor == "" {
			break
		}
	}
	slices.SortFunc(deliveries, func(a, b delivery) int { return int(a.At - b.At) })
	all, certain = map[string]bool{}, map[string]string{}
	for _, d := range deliveries {
		resource, action, _ := strings.Cut(d.Type, ".")
		if d.State != "dropped" {
			delete(certain, d.EntityID)
			continue
		}
		all[d.EntityID] = true
		switch {
		case resource != "user" && resource != "organization": // it may be gone with one of these
		case action == "created":
			certain[d.EntityID] = d.Type
		case action == "deleted":
			if _, neverSeen := certain[d.EntityID]; neverSeen {
				delete(certain, d.EntityID)
			} else {
				certain[d.EntityID] = d.Type
			}
		}
	}
	return all, certain
}

// clerkemu is the program.
func clerkemu(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "clerkemu")
	if out, err := exec.Command("go", "build", "-o", path, "../clerkemu").CombinedOutput(); err != nil {
		t.Fatalf("build clerkemu: %v\n%s", err, out)
	}
	if info, err := os.Stat(path); err != nil || time.Since(info.ModTime()) > time.Hour {
		t.Fatalf("build clerkemu: %v", err)
	}
	return path
}
