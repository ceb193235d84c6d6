package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rogpeppe/go-internal/testscript"
)

// The scripts' own commands:
//
//	exits CODE rollcall ARGS...   runs the command and expects that exit code
//	dev DIR ARGS...               starts rollcall dev on DIR and waits until it is ready
//	row QUERY PATTERN             waits until the dev stack's Postgres answers so
//	stopdev                       stops it, and expects exit code 0
func scriptCommands() map[string]func(*testscript.TestScript, bool, []string) {
	return map[string]func(*testscript.TestScript, bool, []string){
		"exits": cmdExits, "dev": cmdDev, "row": cmdRow, "stopdev": cmdStopDev,
	}
}

func cmdExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND...")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if fmt.Sprint(code) != args[0] {
		ts.Fatalf("exit code %d, want %s", code, args[0])
	}
}

// devs are the dev stacks of the running scripts, by their directory.
var devs sync.Map

type devProcess struct {
	dir  string
	cmd  *exec.Cmd
	done chan error
}

func cmdDev(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: dev DIR ARGS...")
	}
	path, err := exec.LookPath("rollcall")
	ts.Check(err)
	d := &devProcess{dir: args[0], cmd: exec.Command(path, append([]string{"dev", "--data"}, args...)...), done: make(chan error, 1)}
	d.cmd.Env = append(os.Environ(), "ROLLCALL_INGEST_ADDR="+ts.Getenv("ROLLCALL_INGEST_ADDR"))
	var said strings.Builder
	d.cmd.Stdout, d.cmd.Stderr = &said, &said
	ts.Check(d.cmd.Start())
	go func() { d.done <- d.cmd.Wait() }()
	devs.Store(ts.MkAbs("."), d)
	ts.Defer(func() { _ = d.cmd.Process.Kill() })
	for range 600 {
		if _, err := os.Stat(filepath.Join(d.dir, devEnvFile)); err == nil {
			return
		}
		select {
		case err := <-d.done:
			ts.Fatalf("rollcall dev ended: %v\n%s", err, said.String())
		case <-time.After(50 * time.Millisecond):
		}
	}
	ts.Fatalf("rollcall dev isn't ready after 30 s")
}

func devOf(ts *testscript.TestScript) *devProcess {
	d, ok := devs.Load(ts.MkAbs("."))
	if !ok {
		ts.Fatalf("no rollcall dev was started")
	}
	return d.(*devProcess)
}

func cmdRow(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: row QUERY PATTERN")
	}
	settings, err := readDevEnv(filepath.Join(devOf(ts).dir, devEnvFile))
	ts.Check(err)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	db, err := pgx.Connect(ctx, settings["DATABASE_URL"])
	ts.Check(err)
	defer db.Close(context.Background())
	pattern := regexp.MustCompile(args[1])
	for {
		var got any
		err := db.QueryRow(ctx, args[0]).Scan(&got)
		if err == nil && pattern.MatchString(fmt.Sprint(got)) {
			return
		}
		select {
		case <-ctx.Done():
			ts.Fatalf("%s: %v, %v; want %s", args[0], got, err, args[1])
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func cmdStopDev(ts *testscript.TestScript, neg bool, args []string) {
	d := devOf(ts)
	ts.Check(d.cmd.Process.Signal(syscall.SIGTERM))
	select {
	case err := <-d.done:
		ts.Check(err)
	case <-time.After(stopWithin + 2*time.Second):
		ts.Fatalf("rollcall dev hasn't stopped")
	}
}
