package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ingestOnly is a process with the ingest role alone, so that its memory and
// its allocations can be told from those of the server and of the load. It
// prints its address, and what it allocated when it is told to stop.
func ingestOnly(ctx context.Context, natsURL string) error {
	f, err := newFront(ctx, natsURL)
	if err != nil {
		return err
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	fmt.Println(f.addr)
	<-ctx.Done()
	runtime.ReadMemStats(&after)
	fmt.Println(after.Mallocs-before.Mallocs, after.TotalAlloc-before.TotalAlloc)
	return f.close()
}

// process is such a process, or bin/rollcall.
type process struct {
	cmd  *exec.Cmd
	addr string
	out  *bufio.Reader
	err  *bytes.Buffer
}

func startIngestOnly(ctx context.Context, natsURL string, o options) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	args := []string{"-ingest-only", natsURL}
	if o.memProfile != "" {
		args = append(args, "-memprofile", o.memProfile+".ingest")
	}
	if o.cpuProfile != "" {
		args = append(args, "-cpuprofile", o.cpuProfile+".ingest")
	}
	p := &process{cmd: exec.CommandContext(ctx, self, args...), err: &bytes.Buffer{}}
	p.cmd.Stderr = p.err
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = bufio.NewReader(out)
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the ingest process: %w", err)
	}
	line, err := p.out.ReadString('\n')
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the ingest process did not start: %w\n%s", err, p.err), p.cmd.Wait())
	}
	p.addr = strings.TrimSpace(line)
	return p, nil
}

// startRollcall runs a role of the program, as in production, and waits until it
// listens, at an address of its own.
func startRollcall(ctx context.Context, program string, env []string, args ...string) (*process, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	addr := ln.Addr().String()
	if err := ln.Close(); err != nil {
		return nil, err
	}
	p := &process{cmd: exec.CommandContext(ctx, program, append([]string{"run"}, args...)...), addr: addr, err: &bytes.Buffer{}}
	p.cmd.Env = append(env, "ROLLCALL_INGEST_ADDR="+addr, "ROLLCALL_HEALTH_ADDR="+addr, "PATH="+os.Getenv("PATH"), "HOME="+os.Getenv("HOME"))
	p.cmd.Stderr = p.err
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	for deadline := time.Now().Add(readyWait); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			return p, c.Close()
		}
		if !p.alive() {
			break
		}
	}
	return nil, errors.Join(fmt.Errorf("%s run did not listen:\n%s", program, p.err), p.cmd.Process.Kill(), p.cmd.Wait())
}

func (p *process) alive() bool { return p.cmd.Process.Signal(syscall.Signal(0)) == nil }

// peakMemory is the largest resident set so far, in megabytes (10⁶ bytes); ok
// is false where the system doesn't tell.
func (p *process) peakMemory() (mb float64, ok bool) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(status)) {
		if kb, found := strings.CutPrefix(line, "VmHWM:"); found {
			n, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(kb), "kB")), 64)
			return n * 1024 / 1e6, err == nil
		}
	}
	return 0, false
}

// stop ends the process; of the bench's own it tells what it allocated.
func (p *process) stop() (objects, bytes float64, err error) {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return 0, 0, errors.Join(err, p.cmd.Wait())
	}
	if p.out != nil {
		line, readErr := p.out.ReadString('\n')
		if _, err = fmt.Sscan(line, &objects, &bytes); err != nil {
			err = errors.Join(err, readErr)
		}
		_, _ = io.Copy(io.Discard, p.out) // until it closes
	}
	if waitErr := p.cmd.Wait(); waitErr != nil {
		err = errors.Join(err, fmt.Errorf("the process: %w\n%s", waitErr, p.err))
	}
	return objects, bytes, err
}
