package main

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// sized is small, or full under `make soak`.
func sized[T any](small, full T) T {
	if os.Getenv("ROLLCALL_SOAK") == "1" {
		return full
	}
	return small
}

const (
	startWithin = 5 * time.Second
	mostMemory  = 300 << 20
)

func TestSoakServeIsQuickAndSmall(t *testing.T) {
	if os.Getenv("ROLLCALL_SOAK") != "1" {
		t.Parallel()
	}
	env := filepath.Join(t.TempDir(), "clerk.env")
	users := sized(5_000, 100_000)
	cmd := exec.CommandContext(t.Context(), os.Args[0], "serve", "--addr", "127.0.0.1:0", "--env-file", env, "--users", strconv.Itoa(users))
	cmd.Env = []string{"CLERKEMU_TEST_MAIN=1", "PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	began := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(env); err == nil {
			break
		}
		if time.Since(began) > patience {
			t.Fatal("it doesn't start")
		}
		time.Sleep(5 * time.Millisecond)
	}
	took := time.Since(began)
	text, err := os.ReadFile(env)
	if err != nil {
		t.Fatal(err)
	}
	base := string(regexp.MustCompile(`CLERK_API_URL=(\S+)`).FindSubmatch(text)[1])
	save(t, base) // the most that it has to do
	memory := peakMemory(t, cmd.Process.Pid)
	t.Logf("%d users: serves after %s, %d MB at the most", users, took, memory>>20)
	if took > startWithin || memory > mostMemory {
		t.Errorf("more than %s or %d MB", startWithin, mostMemory>>20)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, said.String())
	}
}

func save(t *testing.T, base string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/_emu/state", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := new(bytes.Buffer).ReadFrom(resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatal(resp.Status, err)
	}
}

// peakMemory is the most resident memory that a process has had, in bytes; 0
// where the system doesn't say.
func peakMemory(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		return 0
	}
	found := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(text)
	if found == nil {
		t.Fatalf("no VmHWM in %s", text)
	}
	kilobytes, err := strconv.Atoi(string(found[1]))
	if err != nil {
		t.Fatal(err)
	}
	return kilobytes << 10
}
