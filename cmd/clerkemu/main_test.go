package main

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
)

// TestMain also lets the test binary be the command: scripts and tests that
// need a process run it as clerkemu.
func TestMain(m *testing.M) {
	if os.Getenv("CLERKEMU_TEST_MAIN") == "1" {
		os.Exit(Main())
	}
	testscript.Main(tests{m}, map[string]func(){
		"clerkemu": func() { os.Exit(Main()) },
	})
}

// tests ends what the tests shared before testscript exits.
type tests struct{ m *testing.M }

func (t tests) Run() int { return stacktest.Run(t.m) }

func TestCommands(t *testing.T) {
	t.Parallel()
	database := stacktest.Database(t)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			// Scripts see none of the environment's settings.
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("STORE", database.OwnerURL)
			e.Setenv("GORACE", "atexit_sleep_ms=10") // not a second for each command
			return nil
		},
		Cmds:          scriptCommands(),
		UpdateScripts: os.Getenv("UPDATE_SCRIPTS") == "1",
	})
}
