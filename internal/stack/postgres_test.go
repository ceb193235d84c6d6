package stack

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
)

func TestPostgresKeepsData(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(testDir(t), strings.Repeat("deep", 25)) // too deep for a socket
	openFor(t, filepath.Dir(dir))
	p, err := StartPostgres(t.Context(), PostgresOptions{Dir: dir})
	must(t, err)
	execute(t, p.URL(), "create table kept as select 1 as n")
	if got := query(t, p.URL(), "select current_setting('fsync') || current_database()"); got != "onrollcall" {
		t.Errorf("fsync and database: got %s", got)
	}
	refuseWrongPassword(t, p.URL())
	socket := fmt.Sprintf("host=%s port=%d user=postgres dbname=rollcall password=%s", p.SocketDir(), p.port, p.secret)
	if got := query(t, socket, "select 'socket'"); got != "socket" {
		t.Errorf("unix socket: got %s", got)
	}
	must(t, p.Stop(t.Context()))
	must(t, p.Stop(t.Context()))
	must(t, p.Err())
	if _, err := os.Stat(p.SocketDir()); !os.IsNotExist(err) {
		t.Errorf("the socket's directory is left: %v", err)
	}

	p = startPostgres(t, PostgresOptions{Dir: dir})
	if got := query(t, p.URL(), "select n::text from kept"); got != "1" {
		t.Errorf("got %q", got)
	}
	for _, name := range []string{"postgres.password", "postgres.log"} {
		info, err := os.Stat(filepath.Join(dir, name))
		must(t, err)
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v", name, info.Mode())
		}
	}
}

func refuseWrongPassword(t *testing.T, good string) {
	t.Helper()
	u, err := url.Parse(good)
	must(t, err)
	u.User = url.UserPassword("postgres", "wrong")
	if conn, err := pgx.Connect(t.Context(), u.String()); err == nil {
		_ = conn.Close(t.Context())
		t.Error("any password is taken")
	}
}

func TestPostgresEndsByItself(t *testing.T) {
	t.Parallel()
	p := startPostgres(t, PostgresOptions{Dir: testDir(t)})
	must(t, p.Err())
	must(t, syscall.Kill(p.PID(), syscall.SIGQUIT))
	<-p.Done()
	if err := p.Err(); err == nil || !strings.Contains(err.Error(), "immediate shutdown") {
		t.Errorf("got %v", err)
	}
}

// An orphan is what a `rollcall dev` killed on another system than Linux leaves.
func TestPostgresOrphan(t *testing.T) {
	t.Parallel()
	dir := testDir(t)
	p, err := StartPostgres(t.Context(), PostgresOptions{Dir: dir})
	must(t, err)
	execute(t, p.URL(), "create table kept as select 1 as n")
	must(t, p.Stop(t.Context()))

	must(t, privateDir(p.sockets, p.acct))
	orphan, err := StartChild(exec.Command(p.bin.path("postgres"), p.arguments()...), p.acct, syscall.SIGQUIT)
	must(t, err)
	must(t, p.awaitReady(t.Context(), orphan))

	log, logs := observe()
	p = startPostgres(t, PostgresOptions{Dir: dir, Log: log})
	<-orphan.Done()
	if logs.FilterMessageSnippet("left behind").Len() != 1 {
		t.Errorf("log: %v", logs.All())
	}
	if got := query(t, p.URL(), "select n::text from kept"); got != "1" {
		t.Errorf("got %q", got)
	}
}

// After kill -9 of everything, postmaster.pid names a process number that may be
// anybody's.
func TestPostgresStalePIDFile(t *testing.T) {
	t.Parallel()
	dir := testDir(t)
	p, err := StartPostgres(t.Context(), PostgresOptions{Dir: dir})
	must(t, err)
	must(t, p.Stop(t.Context()))
	other, err := StartChild(exec.Command("sleep", "600"), p.acct, syscall.SIGKILL)
	must(t, err)
	defer func() {
		must(t, other.Signal(syscall.SIGKILL))
		<-other.Done()
	}()
	for _, content := range []string{fmt.Sprintf("%d\n%s\n", other.PID(), p.DataDir()), "4194303\n", ""} {
		pidFile := filepath.Join(p.DataDir(), "postmaster.pid")
		must(t, os.WriteFile(pidFile, []byte(content), 0o600))
		must(t, p.acct.own(pidFile))
		again, err := StartPostgres(t.Context(), PostgresOptions{Dir: dir})
		if err != nil {
			t.Fatalf("postmaster.pid %q: %v", content, err)
		}
		must(t, again.Stop(t.Context()))
	}
	if other.Err() != nil {
		t.Error("another's process was stopped")
	}
}

func TestPostgresHalfMade(t *testing.T) {
	t.Parallel()
	dir := testDir(t)
	half := filepath.Join(dir, "postgres.new-1") // initdb was killed here
	must(t, os.Mkdir(half, 0o700))
	must(t, os.WriteFile(filepath.Join(half, "PG_VERSION"), []byte("15\n"), 0o600))
	startPostgres(t, PostgresOptions{Dir: dir})
	if _, err := os.Stat(half); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
}

func TestPostgresErrors(t *testing.T) {
	t.Parallel()
	other := testDir(t)
	must(t, os.Mkdir(filepath.Join(other, "postgres"), 0o700))
	must(t, os.WriteFile(filepath.Join(other, "postgres", "PG_VERSION"), []byte("14\n"), 0o600))
	lost := testDir(t)
	p, err := StartPostgres(t.Context(), PostgresOptions{Dir: lost})
	must(t, err)
	must(t, p.Stop(t.Context()))
	must(t, os.Remove(filepath.Join(lost, "postgres.password")))

	for name, c := range map[string]struct {
		opts PostgresOptions
		want []string
	}{
		"another version":  {PostgresOptions{Dir: other}, []string{"made by PostgreSQL 14", filepath.Join(other, "postgres"), "install"}},
		"password lost":    {PostgresOptions{Dir: lost}, []string{"postgres.password is missing", "remove"}},
		"bad setting":      {PostgresOptions{Dir: testDir(t), Settings: map[string]string{"shared_buffers": "nonsense"}}, []string{`invalid value for parameter "shared_buffers"`}},
		"below a file":     {PostgresOptions{Dir: filepath.Join(os.Args[0], "data")}, []string{"--data"}},
		"unreachable URL":  {PostgresOptions{DatabaseURL: "postgres://u:hidden@127.0.0.1:1/d"}, []string{"DATABASE_URL: "}},
		"not a URL at all": {PostgresOptions{DatabaseURL: "postgres://u:hidden@127.0.0.1:x/d"}, []string{"DATABASE_URL: "}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := StartPostgres(t.Context(), c.opts)
			if err == nil {
				must(t, p.Stop(t.Context()))
				t.Fatal("started")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
			if strings.HasPrefix(err.Error(), "DATABASE_URL") && strings.Contains(err.Error(), "\n") {
				t.Errorf("%q is not one sentence", err)
			}
			if strings.Contains(err.Error(), "hidden") {
				t.Errorf("%q tells the password", err)
			}
		})
	}
}

func TestPostgresGiven(t *testing.T) {
	t.Parallel()
	server := startPostgres(t, PostgresOptions{Dir: testDir(t)})
	p, err := StartPostgres(t.Context(), PostgresOptions{Dir: "/nowhere", DatabaseURL: server.URL()})
	must(t, err)
	if p.URL() != server.URL() || p.PID() != 0 {
		t.Errorf("got %s, process %d", p.URL(), p.PID())
	}
	must(t, p.Stop(t.Context()))
	query(t, server.URL(), "select ''")
}

// A checkout below /root is closed to the user that Postgres runs as.
func TestPostgresOutOfReach(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root runs Postgres as another user")
	}
	closed := testDir(t) // 0700, root's
	dir := filepath.Join(closed, "checkout", ".rollcall")
	must(t, os.MkdirAll(dir, 0o700))
	log, logs := observe()
	p := startPostgres(t, PostgresOptions{Dir: dir, Log: log})
	t.Cleanup(func() { must(t, os.RemoveAll(filepath.Dir(p.DataDir()))) })
	if !strings.HasPrefix(p.DataDir(), "/var/tmp/rollcall-") || logs.FilterMessageSnippet("elsewhere").Len() != 1 {
		t.Errorf("data in %s; log: %v", p.DataDir(), logs.All())
	}
	query(t, p.URL(), "select ''")
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("opened in vain: %v, %v", info.Mode(), err)
	}
}

func TestPrivateDirRefusesTraps(t *testing.T) {
	t.Parallel()
	acct, err := AccountFor(t.TempDir())
	must(t, err)
	dir := testDir(t)
	link, open := filepath.Join(dir, "link"), filepath.Join(dir, "open")
	must(t, os.Symlink("/tmp", link))
	must(t, os.Mkdir(open, 0o700))
	must(t, os.Chmod(open, 0o777)) //nolint:gosec // that is the test
	for _, trap := range []string{link, open} {
		if err := privateDir(trap, acct); err == nil {
			t.Errorf("%s is taken", trap)
		}
	}
}

func TestChoosePostgres(t *testing.T) {
	t.Parallel()
	dir := testDir(t)
	openFor(t, dir)
	acct, err := AccountFor(dir)
	must(t, err)
	var dirs []string
	for name, line := range map[string]string{
		"14": "postgres (PostgreSQL) 14.19", "15.9": "postgres (PostgreSQL) 15.9 (Debian 15.9-0+deb12u1)",
		"15.14": "postgres (PostgreSQL) 15.14", "17": "postgres (PostgreSQL) 17beta1", "broken": "?",
	} {
		dirs = append(dirs, filepath.Join(dir, name))
		fakePostgres(t, filepath.Join(dir, name), "echo '"+line+"'")
	}
	found := installed(t.Context(), append(dirs, filepath.Join(dir, "missing")), acct)
	for made, want := range map[int]string{0: "17beta1", 15: "15.14", 17: "17beta1", 14: "", 16: ""} {
		if b, err := choose(found, made); b.Version != want || (err == nil) != (want != "") {
			t.Errorf("for %d: got %q, %v; want %q", made, b.Version, err, want)
		}
	}
}

// openFor lets the user that Postgres runs as into dir.
func openFor(t *testing.T, dir string) {
	t.Helper()
	must(t, os.Chmod(dir, 0o755)) //nolint:gosec // that is what it is for
}

func fakePostgres(t *testing.T, dir, script string) {
	t.Helper()
	must(t, os.MkdirAll(dir, 0o755)) //nolint:gosec // for the other user
	for _, name := range []string{"postgres", "initdb", "pg_ctl"} {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755)) //nolint:gosec // a program
	}
}

// The download runs against a repository of the test's own: the archive is a
// server that only knows its version.
func TestDownload(t *testing.T) {
	t.Parallel()
	jar := fakeArchive(t)
	sum := sha256.Sum256(jar)
	repository := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, "/unsigned") && strings.HasSuffix(r.URL.Path, ".sha256"), strings.HasPrefix(r.URL.Path, "/empty"):
			http.NotFound(w, r)
		case strings.HasSuffix(r.URL.Path, ".sha256"):
			_, _ = io.WriteString(w, hex.EncodeToString(sum[:]))
		default:
			_, _ = w.Write(jar)
		}
	}))
	defer repository.Close()
	dir := testDir(t)
	openFor(t, dir)
	acct, err := AccountFor(dir)
	must(t, err)

	for path, want := range map[string]string{"/empty": "404", "/unsigned": "404"} {
		d := download{acct: acct, cache: filepath.Join(dir, path), repository: repository.URL + path}
		if _, err := d.binaries(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", path, err)
		}
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	d := download{acct: acct, cache: filepath.Join(dir, "cache"), repository: repository.URL}
	if _, err := d.binaries(cancelled); err == nil {
		t.Error("downloads although cancelled")
	}

	var bar bytes.Buffer
	d.progress = &bar
	for range 2 { // the second time from the cache
		b, err := d.binaries(t.Context())
		if err != nil || b.Major != downloadMajor {
			t.Fatalf("got %+v, %v", b, err)
		}
		d.repository = "http://127.0.0.1:1"
	}
	if !strings.Contains(bar.String(), "PostgreSQL 17") {
		t.Errorf("progress: %q", bar.String())
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "cache", "download-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func fakeArchive(t *testing.T) []byte {
	t.Helper()
	dir := t.TempDir()
	fakePostgres(t, filepath.Join(dir, "bin"), "echo 'postgres (PostgreSQL) 17.5'; test \"$1\" = --version")
	if out, err := exec.Command("tar", "-C", dir, "-cJf", filepath.Join(dir, "x.txz"), "bin").CombinedOutput(); err != nil {
		t.Skipf("no tar with xz here: %v: %s", err, out)
	}
	txz, err := os.ReadFile(filepath.Join(dir, "x.txz"))
	must(t, err)
	var jar bytes.Buffer
	z := zip.NewWriter(&jar)
	w, err := z.Create("postgres.txz")
	must(t, err)
	_, err = w.Write(txz)
	must(t, err)
	must(t, z.Close())
	return jar.Bytes()
}
