package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
)

// devProc is `rollcall dev` on a directory of the test's own. The default ports
// are taken, as by another stack: they have to give way.
func devProc(t *testing.T, env ...string) (p *proc, dir string) {
	t.Helper()
	for _, addr := range []string{"127.0.0.1:8080", "127.0.0.1:4222"} {
		if ln, err := net.Listen("tcp", addr); err == nil {
			t.Cleanup(func() { ln.Close() })
		} // else somebody else has it: all the same
	}
	dir = filepath.Join(t.TempDir(), "data")
	return newProc(t, "", []string{"dev", "--data", dir}, env...), dir
}

// ready waits until the stack says so, and returns what dev.env has.
func (p *proc) ready(dir string) map[string]string {
	p.t.Helper()
	stacktest.Eventually(p.t, patience, func() error {
		if err := p.running(); err != nil {
			p.t.Fatalf("%v\n%s", err, p.tail())
		}
		if !strings.Contains(p.said(), "rollcall dev is ready") {
			return errors.New("rollcall dev isn't ready")
		}
		return nil
	})
	env, err := readDevEnv(filepath.Join(dir, devEnvFile))
	if err != nil || env["DATABASE_URL"] == "" || env["NATS_URL"] == "" {
		p.t.Fatalf("dev.env has %v, %v", env, err)
	}
	p.addr = strings.TrimSuffix(strings.TrimPrefix(env["ROLLCALL_WEBHOOK_URL"], "http://"), "/webhooks/clerk")
	return env
}

// A dev stack that is killed at any moment leaves nothing that blocks the next
// start, no process, and all that it had acknowledged.
func TestSoakDevKilled(t *testing.T) {
	t.Parallel()
	dev, dir := devProc(t)
	const seed = 71
	random := rand.New(rand.NewPCG(seed, 1))
	t.Logf("seed %d", seed)
	var all []*event
	for round := range sized(2, 20) {
		dev.start()
		// Anywhere in a start; at first while the data is being made.
		time.Sleep(time.Duration(random.IntN(1500)) * time.Millisecond)
		dev.kill()
		gone(t, dir)

		dev.start()
		env := dev.ready(dir)
		events := fresh(uint64(72+round), 50)
		newSender(t, dev.addr, env["CLERK_WEBHOOK_SIGNING_SECRET"]).sendAtOnce(events)
		all = append(all, events...)
		if round%2 == 0 {
			devPipeline(t, env).caughtUp()
		}
		dev.kill()
		gone(t, dir)
	}
	env := dev.start().ready(dir)
	p := devPipeline(t, env)
	p.caughtUp()
	p.once(all)
	p.right(all)

	dev.stops()
	gone(t, dir)
	if _, err := os.Stat(filepath.Join(dir, devEnvFile)); err == nil {
		t.Error("dev.env outlives the stack")
	}
}

func devPipeline(t *testing.T, env map[string]string) *pipeline {
	return &pipeline{t, &stacktest.NATSServer{URL: env["NATS_URL"]}, stacktest.DB{URL: env["DATABASE_URL"], OwnerURL: env["DATABASE_URL"]}}
}

// gone expects that no process has anything to do with a directory.
func gone(t *testing.T, dir string) {
	t.Helper()
	stacktest.Eventually(t, patience, func() error {
		commands, err := filepath.Glob("/proc/[0-9]*/cmdline")
		if err != nil || len(commands) == 0 {
			t.Skip("this system doesn't list processes in /proc")
		}
		for _, path := range commands {
			text, err := os.ReadFile(path)
			cwd, _ := os.Readlink(filepath.Join(filepath.Dir(path), "cwd")) // Postgres's children work in its data
			if err == nil && (strings.Contains(string(text), dir) || strings.HasPrefix(cwd, dir)) {
				return fmt.Errorf("%s still runs: %q in %s", filepath.Dir(path), text, cwd)
			}
		}
		return nil
	})
}

func TestDevHeld(t *testing.T) {
	t.Parallel()
	dev, dir := devProc(t)
	env := dev.start().ready(dir)
	for _, taken := range []string{":8080/", ":4222"} {
		if strings.Contains(env["ROLLCALL_WEBHOOK_URL"]+env["NATS_URL"], taken) {
			t.Errorf("it listens on %s, which is taken: %v", taken, env)
		}
	}

	second := newProc(t, "", dev.args).start()
	if code := second.exits(patience); code != exitFailed {
		t.Errorf("a second stack on the directory exits %d", code)
	}
	if want := fmt.Sprintf("%s is in use by process %d", dir, dev.child.PID()); !strings.Contains(second.said(), want) {
		t.Errorf("a second stack says %q, want %q", second.said(), want)
	}

	// A port that was asked for doesn't give way. What a killed stack said is
	// gone even where the next start fails.
	dev.kill()
	ln, err := net.Listen("tcp", dev.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	other := newProc(t, "", dev.args, "ROLLCALL_INGEST_ADDR="+dev.addr)
	if code := other.start().exits(patience); code != exitUsage {
		t.Errorf("with a taken port asked for it exits %d", code)
	}
	if said := other.said(); !strings.Contains(said, dev.addr) || !strings.Contains(said, "ROLLCALL_INGEST_ADDR") {
		t.Errorf("with a taken port asked for it says %q", said)
	}

	if _, err := os.Stat(filepath.Join(dir, devEnvFile)); err == nil {
		t.Error("dev.env of a killed stack is still there")
	}

	dev.start().ready(dir)
	dev.signal(syscall.SIGINT)
	if code := dev.exits(stopTime); code != 0 {
		t.Errorf("exit code %d after SIGINT", code)
	}
	gone(t, dir)
}
