// Package nodetest runs the scripts of ../testdata/node, in which the
// JavaScript libraries of Clerk and Svix judge what the emulator says, and what
// Rollcall makes of it.
package nodetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/gofrs/flock"
)

// scripts is where they are, from the module's root.
const scripts = "internal/emulator/testdata/node"

const installLimit = 2 * time.Minute

// Run gives a script its input and returns what it printed. Where there is no
// node, or its libraries can't be had, the test is skipped; with
// ROLLCALL_TEST_NODE set it fails.
func Run(t *testing.T, script string, input []byte) []byte {
	t.Helper()
	dir, err := find()
	if err != nil {
		t.Fatal(err)
	}
	return RunIn(t, dir, script, input)
}

// RunIn is Run in a directory with a package.json of its own.
func RunIn(t *testing.T, dir, script string, input []byte) []byte {
	t.Helper()
	if err := install(t.Context(), dir); err != nil {
		if os.Getenv("ROLLCALL_TEST_NODE") != "" {
			t.Fatal(err)
		}
		t.Skipf("NOT TESTED against JavaScript libraries: %v", err)
	}
	node := exec.CommandContext(t.Context(), "node", script)
	node.Dir = dir
	node.Stdin = bytes.NewReader(input)
	var complaints bytes.Buffer
	node.Stderr = &complaints
	out, err := node.Output()
	if err != nil {
		t.Fatalf("node %s: %v\n%s%s", script, err, out, complaints.Bytes())
	}
	return out
}

// find looks upwards from the package that is tested.
func find() (dir string, err error) {
	if dir, err = os.Getwd(); err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return filepath.Join(dir, scripts), nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("no go.mod above the tested package")
		}
		dir = parent
	}
}

// install brings what package-lock.json names, once.
func install(ctx context.Context, dir string) error {
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("there is no %s here", program)
		}
	}
	lock := flock.New(filepath.Join(dir, ".installing")) // tests of several packages run side by side
	if err := lock.Lock(); err != nil {
		return fmt.Errorf("wait for another npm: %w", err)
	}
	defer lock.Unlock() //nolint:errcheck // it ends with the process
	if installed(dir) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, installLimit)
	defer cancel()
	npm := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline")
	npm.Dir = dir
	if out, err := npm.CombinedOutput(); err != nil {
		return fmt.Errorf("npm ci: %w\n%s", err, out)
	}
	return nil
}

// installed reports whether npm was through with this package-lock.json, of
// which it leaves a copy of its own that is written last.
func installed(dir string) bool {
	wanted, err := os.Stat(filepath.Join(dir, "package-lock.json"))
	if err != nil {
		return false
	}
	done, err := os.Stat(filepath.Join(dir, "node_modules", ".package-lock.json"))
	return err == nil && !done.ModTime().Before(wanted.ModTime())
}
