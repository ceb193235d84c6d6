package stack

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// The test binary is also the process that gets killed.
const helperDir = "ROLLCALL_STACK_TEST_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(helperDir); dir != "" {
		if err := helper(dir); err != nil {
			fmt.Println("failed:", err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// helper starts everything on dir, stores an event and a row, says so, and waits
// to be killed.
func helper(dir string) error {
	ctx := context.Background()
	if _, err := Lock(dir); err != nil {
		return err
	}
	n, err := StartNATS(NATSOptions{Dir: dir, Port: -1})
	if err != nil {
		return err
	}
	p, err := StartPostgres(ctx, PostgresOptions{Dir: dir})
	if err != nil {
		return err
	}
	nc, err := n.Connect()
	if err != nil {
		return err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	if _, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}}); err != nil {
		return err
	}
	if _, err := js.Publish(ctx, "s", []byte("kept")); err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, p.URL())
	if err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, "create table kept as select 1 as n"); err != nil {
		return err
	}
	fmt.Println("ready", p.PID())
	select {}
}

func TestCrashLeavesNothing(t *testing.T) {
	t.Parallel()
	dir := testDir(t)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), helperDir+"="+dir)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	must(t, err)
	pgPID, err := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(line, "ready ")))
	if err != nil {
		t.Fatal(line)
	}

	var held *HeldError
	if _, err := Lock(dir); !errors.As(err, &held) || held.PID != cmd.Process.Pid {
		t.Fatalf("locked by %d, got %v", cmd.Process.Pid, err)
	}
	must(t, cmd.Process.Kill())
	_ = cmd.Wait()
	if runtime.GOOS == "linux" {
		eventually(t, "the orphan ends with its parent", func() bool { return !isPostmaster(pgPID, filepath.Join(dir, "postgres")) })
	}

	l, err := Lock(dir)
	must(t, err)
	defer l.Unlock() //nolint:errcheck // a test
	n, err := StartNATS(NATSOptions{Dir: dir, Port: -1})
	must(t, err)
	defer n.Shutdown()
	p := startPostgres(t, PostgresOptions{Dir: dir})
	if got := query(t, p.URL(), "select n::text from kept"); got != "1" {
		t.Errorf("row: got %q", got)
	}
	nc, err := n.Connect()
	must(t, err)
	defer nc.Close()
	js, err := jetstream.New(nc)
	must(t, err)
	s, err := js.Stream(t.Context(), "S")
	must(t, err)
	if m, err := s.GetMsg(t.Context(), 1); err != nil || string(m.Data) != "kept" {
		t.Errorf("message: got %v, %v", m, err)
	}
	must(t, n.Healthy())
}

func TestLockHeld(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	l, err := Lock(dir)
	must(t, err)
	_, err = Lock(dir)
	var held *HeldError
	if !errors.As(err, &held) || held.PID != os.Getpid() || time.Since(held.Since) > time.Minute {
		t.Fatalf("got %v", err)
	}
	for _, want := range []string{dir, fmt.Sprintf("kill %d", os.Getpid()), "--data"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not name %q", err, want)
		}
	}
	must(t, l.Unlock())
	l, err = Lock(dir)
	must(t, err)
	must(t, l.Unlock())
}

func TestLockUnusable(t *testing.T) {
	t.Parallel()
	dirs := map[string]string{"below a file": filepath.Join(os.Args[0], "data")}
	if os.Geteuid() != 0 { // root may write anyway
		readOnly := t.TempDir()
		must(t, os.Chmod(readOnly, 0o500)) //nolint:gosec // that is the test
		dirs["read-only"] = readOnly
		dirs["below a read-only"] = filepath.Join(readOnly, "data")
	}
	for name, dir := range dirs {
		_, err := Lock(dir)
		if err == nil || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "--data") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestNATSPort(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close() //nolint:errcheck // a test
	port := l.Addr().(*net.TCPAddr).Port

	_, err = StartNATS(NATSOptions{Dir: t.TempDir(), Port: port, PortAsked: true, Setting: "nats.port"})
	if err == nil || !strings.HasPrefix(err.Error(), "nats.port: ") {
		t.Errorf("asked for: got %v", err)
	}
	n, err := StartNATS(NATSOptions{Dir: t.TempDir(), Port: port})
	must(t, err)
	defer n.Shutdown()
	if strings.HasSuffix(n.URL(), fmt.Sprintf(":%d", port)) || !strings.Contains(n.URL(), "127.0.0.1") {
		t.Errorf("default: got %s", n.URL())
	}
}

func TestNATSUnreadableStore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "nats"), 0o700))
	must(t, os.WriteFile(filepath.Join(dir, "nats", "jetstream"), nil, 0o600)) // where a directory belongs
	n, err := StartNATS(NATSOptions{Dir: dir, Port: -1})
	if err == nil {
		n.Shutdown()
	}
	if err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("got %v", err)
	}
}

func TestStoreLimit(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ free, stored, want uint64 }{
		{100 * gibibyte, 0, 90 * gibibyte},
		{100 * gibibyte, 7, 90*gibibyte + 7},
		{5 * gibibyte, 0, 4 * gibibyte},
		{gibibyte, 0, gibibyte / 2},
		{leastFree, gibibyte, gibibyte + leastFree/2},
	} {
		if got, err := storeLimit(c.free, c.stored); err != nil || got != int64(c.want) {
			t.Errorf("storeLimit(%d, %d) = %d, %v; want %d", c.free, c.stored, got, err, c.want)
		}
	}
	if _, err := storeLimit(leastFree-1, gibibyte); err == nil {
		t.Error("a full disk is no error")
	}
	if free, err := freeBytes(t.TempDir()); err != nil || free == 0 {
		t.Errorf("freeBytes = %d, %v", free, err)
	}
}

func TestNATSDiskFull(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, err := startNATS(NATSOptions{Dir: dir, Port: -1}, func(string) (uint64, error) { return leastFree - 1, nil })
	if err == nil || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "--data") {
		t.Errorf("got %v", err)
	}
}

// A log that is compressed counts for more than its files: after a restart it
// must have as much room as the disk has.
func TestNATSRoomOfCompressedLog(t *testing.T) {
	t.Parallel()
	dir, free := t.TempDir(), func(string) (uint64, error) { return leastFree, nil }
	n, err := startNATS(NATSOptions{Dir: dir, Port: -1}, free)
	must(t, err)
	nc, err := n.Connect()
	must(t, err)
	defer nc.Close()
	js, err := jetstream.New(nc)
	must(t, err)
	_, err = js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}, Compression: jetstream.S2Compression})
	must(t, err)
	for range 40 {
		_, err := js.Publish(t.Context(), "s", make([]byte, mebibyte))
		must(t, err)
	}
	nc.Close()
	n.Shutdown()
	n, err = startNATS(NATSOptions{Dir: dir, Port: -1}, free)
	must(t, err)
	defer n.Shutdown()
	if room := n.server.JetStreamConfig().MaxStore - 40*mebibyte; room < leastFree/2 {
		t.Errorf("room for %d MiB", room/mebibyte)
	}
}

// --- helpers

// testDir is a directory that an unprivileged user can reach; t.TempDir's parent
// may be closed.
func testDir(t *testing.T) string {
	t.Helper()
	place := "" // memory where there is plenty: a database is a thousand files
	if free, err := freeBytes("/dev/shm"); err == nil && free > 4*gibibyte {
		place = "/dev/shm"
	}
	dir, err := os.MkdirTemp(place, "rollcall-stack-")
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	return dir
}

func startPostgres(t *testing.T, o PostgresOptions) *Postgres {
	t.Helper()
	p, err := StartPostgres(t.Context(), o)
	must(t, err)
	t.Cleanup(func() { must(t, p.Stop(context.Background())) })
	return p
}

func query(t *testing.T, url, sql string) string {
	t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, url)
	must(t, err)
	defer conn.Close(ctx) //nolint:errcheck // a test
	var s string
	must(t, conn.QueryRow(ctx, sql).Scan(&s))
	return s
}

func execute(t *testing.T, url, sql string) {
	t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, url)
	must(t, err)
	defer conn.Close(ctx) //nolint:errcheck // a test
	_, err = conn.Exec(ctx, sql)
	must(t, err)
}

func observe() (*zap.Logger, *observer.ObservedLogs) {
	core, logs := observer.New(zapcore.InfoLevel)
	return zap.New(core), logs
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("waited in vain: ", what)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
