package main

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
)

// TestMain also lets the test binary be the command: scripts and tests that
// need a process run it as rollcall.
func TestMain(m *testing.M) {
	if os.Getenv("ROLLCALL_TEST_MAIN") == "1" {
		os.Exit(Main())
	}
	testscript.Main(tests{m}, map[string]func(){
		"rollcall": func() { os.Exit(Main()) },
	})
}

// tests ends what the tests shared before testscript exits.
type tests struct{ m *testing.M }

func (t tests) Run() int { return stacktest.Run(t.m) }

func TestCommands(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			// Scripts see none of the environment's settings.
			e.Setenv("HOME", e.WorkDir)
			return nil
		},
		Cmds:          scriptCommands(),
		UpdateScripts: os.Getenv("UPDATE_SCRIPTS") == "1",
	})
}
