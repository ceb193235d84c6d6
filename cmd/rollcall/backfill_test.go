package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// A backfill that is killed at random moments and started again ends, with the
// store as Clerk is.
func TestSoakBackfillKilled(t *testing.T) {
	t.Parallel()
	dev, dir := devProc(t)
	dev.args = append(dev.args, "--emulate")
	env := dev.start().ready(dir)
	clerk := &emulatedClerk{t, env}
	store := devPipeline(t, env)
	clerk.put("/_emu/traffic", `{"rate":0}`)
	clerk.settled()
	clerk.put("/_emu/chaos", `{"drop":1}`) // only the backfill tells the store
	users := sized(3_000, 20_000)
	clerk.post("/_emu/traffic", fmt.Sprintf(`{"changes":%d,"kinds":["sign_up"]}`, users))

	var settings []string
	for name, value := range env {
		settings = append(settings, name+"="+value)
	}
	fill := newProc(t, "", []string{"backfill", "--json", "--budget", "5/s"}, settings...)
	kills := sized(3, 20)
	for range kills {
		fill.start()
		select {
		case <-time.After(rand.N(4 * time.Second)): // that is the test: any moment
			fill.kill()
		case <-fill.child.Done():
		}
	}
	if code := fill.start().exits(patience); code != 0 {
		t.Fatalf("exits %d: %s", code, fill.said())
	}
	var report struct {
		Finished, Resumed bool
		Requests          int
	}
	said := fill.said()
	if err := json.Unmarshal([]byte(said[strings.Index(said, "{"):]), &report); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	if !report.Finished {
		t.Errorf("not finished: %s", said)
	}
	t.Logf("%+v", report)
	store.caughtUp()
	if code, text := clerk.verify("--resource=users", "--resource=organizations", "--resource=organization_memberships", "--resource=roles", "--resource=permissions", "--resource=organization_domains"); code != 0 {
		t.Errorf("clerkemu verify exits %d:\n%s", code, text)
	}
}
