package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// prSetChildSubreaper is PR_SET_CHILD_SUBREAPER of prctl(2).
const prSetChildSubreaper = 36

// grace is how long what the command left may take to end by itself: a server
// told to stop, or one that dies with its parent, needs a moment.
const grace = 5 * time.Second

func run(command []string) (int, error) {
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, prSetChildSubreaper, 1, 0); errno != 0 {
		return 0, fmt.Errorf("adopt orphans: %w", errno)
	}
	// The terminal sends an interrupt to the whole group: the command decides.
	signal.Ignore(os.Interrupt)

	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	terminate := make(chan os.Signal, 1)
	signal.Notify(terminate, syscall.SIGTERM)
	go func() {
		for range terminate {
			_ = cmd.Process.Signal(syscall.SIGTERM)
		}
	}()
	code, err := reapUntil(cmd.Process.Pid)
	if err != nil {
		return code, err
	}
	return code, leftBehind()
}

// reapUntil waits until pid ends and returns its exit code. Orphans are reaped
// on the way: a test that kills a process tree must not see zombies.
func reapUntil(pid int) (int, error) {
	for {
		var status syscall.WaitStatus
		ended, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return 1, fmt.Errorf("wait for the command: %w", err)
		case ended == pid && status.Signaled():
			return 128 + int(status.Signal()), nil
		case ended == pid:
			return status.ExitStatus(), nil
		}
	}
}

// leftBehind returns an error that names what still runs after the grace, and
// kills it. A parent's death makes us adopt its children, so it looks again
// until there is nothing to kill.
func leftBehind() error {
	left := waitForChildren(time.Now().Add(grace))
	if len(left) == 0 {
		return nil
	}
	err := fmt.Errorf("these processes were left running:\n  %s", strings.Join(describe(left), "\n  "))
	for len(left) > 0 {
		for _, pid := range left {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		left = waitForChildren(time.Now().Add(100 * time.Millisecond))
	}
	return err
}

// waitForChildren reaps until no child is left or the deadline has passed, and
// returns those that are left.
func waitForChildren(deadline time.Time) []int {
	for {
		for {
			if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); pid <= 0 || err != nil {
				break
			}
		}
		left := children()
		if len(left) == 0 || time.Now().After(deadline) {
			return left
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// children are the live processes whose parent we are.
func children() []int {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	var pids []int
	for _, file := range stats {
		b, err := os.ReadFile(file)
		if err != nil {
			continue // it ended meanwhile
		}
		// "pid (name) state ppid …", where the name may hold anything.
		fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
		if len(fields) > 1 && fields[1] == strconv.Itoa(os.Getpid()) {
			if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

func describe(pids []int) []string {
	lines := make([]string, len(pids))
	for i, pid := range pids {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		lines[i] = fmt.Sprintf("%d %s", pid, strings.TrimSpace(strings.ReplaceAll(string(b), "\x00", " ")))
	}
	return lines
}
