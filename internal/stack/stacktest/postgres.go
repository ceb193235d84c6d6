package stacktest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gofrs/flock"
	"github.com/jackc/pgx/v5"

	"github.com/rollcall-dev/rollcall/internal/stack"
)

// DB is a database of a test's own, empty, owned by a role of its own that is
// not a superuser.
type DB struct {
	URL      string // what the code under test uses: through PgBouncer where ROLLCALL_TEST_PGBOUNCER=1
	OwnerURL string // the same role, directly
	AdminURL string // the same database as superuser, directly
}

// Database makes a database on the Postgres that the tests of this process
// share, and drops it when the test ends.
func Database(t testing.TB) DB {
	t.Helper()
	s, err := shared.postgres()
	if err != nil {
		t.Fatalf("start the shared Postgres: %v", err)
	}
	db := s.Database(t)
	if os.Getenv("ROLLCALL_TEST_PGBOUNCER") == "1" {
		b, err := shared.pgbouncer(s)
		if err != nil {
			t.Fatalf("start PgBouncer: %v", err)
		}
		db.URL = b.url(db.OwnerURL)
	}
	return db
}

// ServerOption changes a Postgres of a test's own.
type ServerOption func(*Server)

// Durable leaves fsync on and the data on disk, for tests that kill Postgres and
// ask what is there. It forgets a [Setting] before it.
func Durable() ServerOption {
	return func(s *Server) { s.durable, s.settings = true, map[string]string{} }
}

// Setting sets a server setting, as max_connections.
func Setting(name, value string) ServerOption {
	return func(s *Server) { s.settings[name] = value }
}

// Server is a Postgres that can be stopped and started again at the same port.
type Server struct {
	t        testing.TB // nil: the shared one
	dir      string
	lock     *stack.DirLock
	durable  bool
	settings map[string]string
	port     int

	mu sync.Mutex
	pg *stack.Postgres // nil while stopped
}

// Postgres starts a Postgres of the test's own. It is stopped when the test ends.
func Postgres(t testing.TB, opts ...ServerOption) *Server {
	t.Helper()
	s, err := newServer(opts...)
	if err != nil {
		t.Fatalf("start a Postgres: %v", err)
	}
	s.t = t
	t.Cleanup(func() {
		if err := s.close(); err != nil {
			t.Errorf("stop the test's Postgres: %v", err)
		}
	})
	return s
}

// Stop shuts Postgres down: sessions are cut, connections refused.
func (s *Server) Stop() {
	s.t.Helper()
	if err := s.stop(); err != nil {
		s.t.Fatalf("stop Postgres: %v", err)
	}
}

// Kill ends Postgres as a crash of the machine would: nothing more is written.
func (s *Server) Kill() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pg == nil {
		return
	}
	if err := syscall.Kill(s.pg.PID(), syscall.SIGQUIT); err != nil {
		s.t.Fatalf("kill Postgres: %v", err)
	}
	<-s.pg.Done()
	if err := s.pg.Stop(context.Background()); err != nil {
		s.t.Fatalf("clear away after Postgres: %v", err)
	}
	s.pg = nil
}

// Start starts it again, with the same data at the same port.
func (s *Server) Start() {
	s.t.Helper()
	if err := s.start(); err != nil {
		s.t.Fatalf("start Postgres again: %v", err)
	}
}

// AdminURL connects as superuser.
func (s *Server) AdminURL() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pg == nil {
		return ""
	}
	return s.pg.URL()
}

// Database makes a database on this server; see [DB].
func (s *Server) Database(t testing.TB) DB {
	t.Helper()
	admin := s.AdminURL()
	name, secret := "test_"+strings.ToLower(rand.Text()[:10]), rand.Text()
	err := execute(admin,
		fmt.Sprintf("create role %s login password '%s'", name, secret),
		fmt.Sprintf("create database %s owner %s strategy file_copy", name, name)) // half the time of the default
	if err != nil {
		t.Fatalf("make the test's database: %v", err)
	}
	t.Cleanup(func() {
		if s.AdminURL() == "" {
			return // the test has stopped the server; its files go with it
		}
		if err := execute(admin, "drop database "+name+" with (force)", "drop role "+name); err != nil {
			t.Errorf("drop the test's database: %v", err)
		}
	})
	owner := with(admin, name, url.UserPassword(name, secret))
	return DB{URL: owner, OwnerURL: owner, AdminURL: with(admin, name, nil)}
}

// with is a URL for another database and, unless nil, another user.
func with(base, db string, user *url.Userinfo) string {
	u, err := url.Parse(base)
	if err != nil {
		panic(err) // we have made it
	}
	u.Path = "/" + db
	if user != nil {
		u.User = user
	}
	return u.String()
}

func execute(databaseURL string, statements ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		return err
	}
	defer conn.Close(ctx) //nolint:errcheck // what was asked is done
	for _, s := range statements {
		if _, err := conn.Exec(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

func (c *commons) postgres() (*Server, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.server == nil && c.err == nil {
		c.server, c.err = newServer(Setting("max_connections", "300"))
	}
	return c.server, c.err
}

// newServer starts a Postgres on a copy of the template.
func newServer(opts ...ServerOption) (*Server, error) {
	s := &Server{settings: map[string]string{
		"fsync":              "off", // the data lives as long as the process
		"synchronous_commit": "off",
		"full_page_writes":   "off",
	}}
	for _, o := range opts {
		o(s)
	}
	if err := s.copyTemplate(); err != nil {
		return nil, err
	}
	if err := s.start(); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *Server) start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pg != nil {
		return nil
	}
	pg, err := stack.StartPostgres(context.Background(), stack.PostgresOptions{Dir: s.dir, Port: s.port, Settings: s.settings})
	if err != nil {
		return err
	}
	u, err := url.Parse(pg.URL())
	if err == nil {
		s.port, err = strconv.Atoi(u.Port())
	}
	s.pg = pg
	return err
}

func (s *Server) stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pg == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	err := s.pg.Stop(ctx)
	s.pg = nil
	return err
}

// close stops the server and removes its files.
func (s *Server) close() error {
	return errors.Join(s.stop(), s.lock.Unlock(), os.RemoveAll(s.dir))
}

const dirPattern = "rollcall-test-pg-"

// copyTemplate gives the server a directory with a fresh database in it. Making
// one takes seconds, so it is made once for a version of Postgres and kept in
// the user's cache.
func (s *Server) copyTemplate() error {
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir() // no home directory
	}
	cache = filepath.Join(cache, "rollcall-test")
	if err := os.MkdirAll(cache, 0o700); err != nil {
		return fmt.Errorf("make the cache: %w", err)
	}
	one := flock.New(filepath.Join(cache, "lock")) // one process makes it, and none sweeps what another is making
	if err := one.Lock(); err != nil {
		return fmt.Errorf("lock the cache: %w", err)
	}
	defer one.Unlock() //nolint:errcheck // goes with the process at the latest
	template, err := template(cache)
	if err != nil {
		return err
	}
	sweep()
	if s.dir, err = os.MkdirTemp(s.place(), dirPattern); err != nil {
		return fmt.Errorf("make a directory: %w", err)
	}
	if s.lock, err = stack.Lock(s.dir); err != nil {
		return err
	}
	// Copied, not linked: Postgres writes into its files.
	if err := os.CopyFS(s.dir, os.DirFS(template)); err != nil {
		return fmt.Errorf("copy the template: %w", err)
	}
	return errors.Join(
		os.Chmod(filepath.Join(s.dir, "postgres"), 0o700), //nolint:gosec // a directory
		os.Chmod(filepath.Join(s.dir, "postgres.password"), 0o600))
}

const (
	memory      = "/dev/shm"
	memoryNeeds = 4 << 30 // bytes free
)

// place is where the server's files go: into memory where there is plenty. A
// database is 300 files, and disks differ a hundredfold in how fast they make them.
func (s *Server) place() string {
	var st syscall.Statfs_t
	if s.durable || syscall.Statfs(memory, &st) != nil || uint64(st.Bavail)*uint64(st.Bsize) < memoryNeeds { //nolint:gosec,unconvert // types differ by system
		return os.TempDir()
	}
	return memory
}

// template is a directory as StartPostgres leaves it, made if need be.
func template(cache string) (string, error) {
	ctx := context.Background()
	acct, err := stack.AccountFor(cache)
	if err != nil {
		return "", err
	}
	bin, err := stack.FindPostgres(ctx, acct)
	if err != nil {
		return "", fmt.Errorf("%w: install it (`apt-get install postgresql`, `brew install postgresql@17`)", err)
	}
	final := filepath.Join(cache, "pg-"+bin.Version)
	if _, err := os.Stat(final); err == nil {
		return final, nil
	}
	dir, err := os.MkdirTemp("", dirPattern) // as root, Postgres's user can't reach the cache
	if err != nil {
		return "", fmt.Errorf("make a directory: %w", err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // swept later at the worst
	pg, err := stack.StartPostgres(ctx, stack.PostgresOptions{Dir: dir})
	if err != nil {
		return "", err
	}
	if err := pg.Stop(ctx); err != nil {
		return "", err
	}
	half := final + ".new"
	if err := errors.Join(os.RemoveAll(half), os.CopyFS(half, os.DirFS(dir)), os.Rename(half, final)); err != nil {
		return "", fmt.Errorf("keep the template: %w", err)
	}
	return final, nil
}

// sweep removes the directories of test processes that were killed: those that
// nobody holds.
func sweep() {
	left, _ := filepath.Glob(filepath.Join(os.TempDir(), dirPattern+"*")) // errs on a bad pattern only
	inMemory, _ := filepath.Glob(filepath.Join(memory, dirPattern+"*"))
	for _, dir := range append(left, inMemory...) {
		l := flock.New(filepath.Join(dir, "lock"))
		if ok, err := l.TryLock(); err != nil || !ok {
			continue // another's, or held
		}
		_ = os.RemoveAll(dir) // at the next sweep, then
		_ = l.Unlock()
	}
}
