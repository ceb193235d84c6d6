package stack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/zap"
)

const (
	superuser = "postgres"
	database  = "rollcall"

	pgStart   = 2 * time.Minute  // crash recovery included
	pgRetry   = 15 * time.Second // for what a killed server still holds
	quitTime  = 15 * time.Second // Postgres itself kills what is left after 5 s
	pollPause = 20 * time.Millisecond
)

// PostgresOptions say which Postgres to use.
type PostgresOptions struct {
	Dir         string            // holds postgres/, postgres.log, postgres.password; locked by the caller
	DatabaseURL string            // use this one; nothing is started
	Port        int               // on 127.0.0.1; 0: any that is free
	Settings    map[string]string // server settings, beside and above ours
	Progress    io.Writer         // shows a download; nil: silent
	Log         *zap.Logger
}

// Postgres is a server that this process has started, or one that it was given.
type Postgres struct {
	opts    PostgresOptions
	acct    Account
	bin     Binaries
	secret  string
	data    string
	sockets string
	port    int

	log   *logFile
	child *Child // nil: not ours
	stop  sync.Once
	quit  chan struct{} // closed when Stop is called
	done  chan struct{}
	err   error
}

// StartPostgres checks DatabaseURL where given; else it starts a private server
// with the data in Dir/postgres, made at the first start, and returns when it
// takes connections. Programs are those installed (the newest, or those of the
// version that made the data), else downloaded once. As root they run as another
// user; see [AccountFor]. Hold Dir by [Lock] first.
func StartPostgres(ctx context.Context, o PostgresOptions) (*Postgres, error) {
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	p := &Postgres{opts: o, quit: make(chan struct{}), done: make(chan struct{})}
	if o.DatabaseURL != "" {
		if err := checkDatabase(ctx, o.DatabaseURL); err != nil {
			return nil, err
		}
		return p, nil
	}
	ctx, cancel := context.WithTimeout(ctx, pgStart)
	defer cancel()
	if err := p.prepare(ctx); err != nil {
		return nil, errors.Join(err, p.tidy())
	}
	if err := p.start(ctx); err != nil {
		return nil, errors.Join(err, p.tidy())
	}
	if err := p.ensureDatabase(ctx); err != nil {
		return nil, errors.Join(err, p.Stop(ctx))
	}
	return p, nil
}

// URL is where to connect, password included: as superuser to the database
// rollcall, or what was given.
func (p *Postgres) URL() string {
	if p.child == nil {
		return p.opts.DatabaseURL
	}
	return p.url(database)
}

// DataDir is where a private server's files are; SocketDir where its unix socket is.
func (p *Postgres) DataDir() string { return p.data }

// SocketDir is where a private server's unix socket is; see [Postgres.DataDir].
func (p *Postgres) SocketDir() string { return p.sockets }

// Version is a private server's version.
func (p *Postgres) Version() string { return p.bin.Version }

// PID is a private server's process id, else 0.
func (p *Postgres) PID() int {
	if p.child == nil {
		return 0
	}
	return p.child.PID()
}

// Done is closed when a private server has ended, by Stop or by itself.
func (p *Postgres) Done() <-chan struct{} { return p.done }

// Err says why the server ended by itself; nil while it runs and after Stop.
func (p *Postgres) Err() error {
	select {
	case <-p.done:
		return p.err
	default:
		return nil
	}
}

// Stop ends a private server: sessions are cut, what was committed is written.
// If that isn't done when ctx is, it stops at once and recovers at the next
// start; that is an error, but nothing is lost. Again, it does nothing.
func (p *Postgres) Stop(ctx context.Context) error {
	if p.child == nil {
		return nil
	}
	var err error
	p.stop.Do(func() {
		close(p.quit)
		err = p.end(ctx)
		<-p.done
		err = errors.Join(err, p.tidy())
	})
	return err
}

func (p *Postgres) end(ctx context.Context) error {
	if err := p.child.Signal(syscall.SIGINT); err != nil {
		return err
	}
	select {
	case <-p.child.Done():
		return nil
	case <-ctx.Done():
	}
	err := fmt.Errorf("Postgres did not stop in time, it recovers at the next start: %w", ctx.Err()) //nolint:staticcheck // a name
	if qerr := p.child.Signal(syscall.SIGQUIT); qerr != nil {
		return errors.Join(err, qerr)
	}
	select {
	case <-p.child.Done():
		return err
	case <-time.After(quitTime):
		return errors.Join(err, p.child.Signal(syscall.SIGKILL))
	}
}

// tidy closes and removes what the running server needed.
func (p *Postgres) tidy() error {
	var err error
	if p.log != nil {
		err = p.log.Close()
	}
	if p.sockets != "" {
		err = errors.Join(err, os.RemoveAll(p.sockets))
	}
	return err
}

// prepare finds the programs, makes the data, and clears away what a crash left.
func (p *Postgres) prepare(ctx context.Context) error {
	dir, err := filepath.Abs(p.opts.Dir)
	if err != nil {
		return unusable(p.opts.Dir, err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return unusable(dir, err)
	}
	if p.acct, err = AccountFor(dir); err != nil {
		return err
	}
	if p.data, err = dataDir(ctx, dir, p.acct, p.opts.Log); err != nil {
		return err
	}
	made, err := majorOf(p.data)
	if err != nil {
		return err
	}
	if p.bin, err = binaries(ctx, p.data, made, p.acct, p.opts); err != nil {
		return err
	}
	if p.secret, err = password(dir, p.data, made); err != nil {
		return err
	}
	if p.log, err = openLog(filepath.Join(dir, "postgres.log")); err != nil {
		return err
	}
	if err := p.makeSockets(dir); err != nil {
		return err
	}
	if made == 0 {
		return initdb(ctx, p.bin, p.data, p.secret, p.sockets, p.acct)
	}
	if err := handOver(p.data, p.acct); err != nil {
		return fmt.Errorf("give %s to user %s: %w", p.data, p.acct.Name, err)
	}
	return clearAway(ctx, p.data, p.opts.Log)
}

// socketPath is the longest path of a socket that all systems take, in bytes.
const socketPath = 103

// makeSockets makes an empty directory for the unix socket and for initdb's
// password file: beside the data, or in /tmp where that lies too deep.
func (p *Postgres) makeSockets(dir string) error {
	sockets := filepath.Join(filepath.Dir(p.data), "run")
	if len(sockets)+len("/.s.PGSQL.65535") > socketPath {
		sockets = fmt.Sprintf("/tmp/rollcall-%d-%s", p.acct.UID, hash(dir))
	}
	// A lock file left in it may name a process that is another by now.
	if err := os.RemoveAll(sockets); err != nil {
		return fmt.Errorf("clear %s: %w", sockets, err)
	}
	if err := privateDir(sockets, p.acct); err != nil {
		return err
	}
	p.sockets = sockets
	return nil
}

// start starts the server, again where another try helps: the port was taken in
// the moment between finding and using it, or a killed server's sessions still
// hold its shared memory.
func (p *Postgres) start(ctx context.Context) error {
	for began := time.Now(); ; {
		err := p.try(ctx)
		if err == nil {
			return nil
		}
		tail := p.log.tail()
		busy := strings.Contains(tail, "shared memory block") ||
			p.opts.Port == 0 && strings.Contains(tail, "Address already in use")
		if !busy || ctx.Err() != nil || time.Since(began) > pgRetry {
			return fmt.Errorf("start PostgreSQL %s on %s: %w\n%s", p.bin.Version, p.data, err, tail)
		}
		time.Sleep(pollPause)
	}
}

func (p *Postgres) try(ctx context.Context) error {
	port, err := pgPort(p.opts.Port)
	if err != nil {
		return err
	}
	if err := p.log.mark(); err != nil {
		return err
	}
	p.port = port
	cmd := exec.Command(p.bin.path("postgres"), p.arguments()...)
	cmd.Env = environment()
	cmd.Stdout, cmd.Stderr = p.log.File, p.log.File
	child, err := StartChild(cmd, p.acct, syscall.SIGQUIT)
	if err != nil {
		return err
	}
	if err := p.awaitReady(ctx, child); err != nil {
		err = errors.Join(err, child.Signal(syscall.SIGQUIT))
		<-child.Done()
		return err
	}
	p.child = child
	go p.watch()
	return nil
}

func (p *Postgres) arguments() []string {
	settings := map[string]string{
		"listen_addresses":        "127.0.0.1",
		"port":                    strconv.Itoa(p.port),
		"unix_socket_directories": p.sockets,
		"password_encryption":     "scram-sha-256",
		"logging_collector":       "off", // its log is Dir/postgres.log
	}
	for k, v := range p.opts.Settings {
		settings[k] = v
	}
	args := []string{"-D", p.data}
	for k, v := range settings {
		args = append(args, "-c", k+"="+v)
	}
	return args
}

func pgPort(asked int) (int, error) {
	if asked != 0 {
		return asked, nil
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port for Postgres: %w", err)
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close() //nolint:forcetypeassert // TCP
}

// awaitReady waits until the server takes connections, which may be a while
// after a crash.
func (p *Postgres) awaitReady(ctx context.Context, child *Child) error {
	for {
		conn, err := pgconn.Connect(ctx, p.url(superuser))
		if err == nil {
			return conn.Close(ctx)
		}
		pause := pollPause
		var pgErr *pgconn.PgError
		refused := errors.As(err, &pgErr) && strings.HasPrefix(pgErr.Code, "28")
		if refused {
			pause = time.Second // if another server has the port, ours is about to end
		}
		select {
		case <-child.Done():
			return fmt.Errorf("it ended at once: %w", child.Err())
		case <-ctx.Done():
			return fmt.Errorf("not ready in time: %w", ctx.Err())
		case <-time.After(pause):
			if refused {
				return fmt.Errorf("the password in %s is not the database's: %w", filepath.Join(p.opts.Dir, "postgres.password"), err)
			}
		}
	}
}

// watch closes done when the server has ended, and says why if nobody asked it to.
func (p *Postgres) watch() {
	<-p.child.Done()
	select {
	case <-p.quit:
	default:
		p.err = fmt.Errorf("Postgres ended by itself (%v):\n%s", p.child.Err(), p.log.tail()) //nolint:staticcheck // a name
	}
	close(p.done)
}

func (p *Postgres) url(db string) string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword(superuser, p.secret),
		Host:     net.JoinHostPort("127.0.0.1", strconv.Itoa(p.port)),
		Path:     "/" + db,
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

func (p *Postgres) ensureDatabase(ctx context.Context) error {
	conn, err := pgconn.Connect(ctx, p.url(superuser))
	if err != nil {
		return fmt.Errorf("make the database %s: %w", database, err)
	}
	defer conn.Close(ctx) //nolint:errcheck // what was asked is done
	there, err := conn.Exec(ctx, "select from pg_database where datname = '"+database+"'").ReadAll()
	if err == nil && len(there[0].Rows) == 0 {
		_, err = conn.Exec(ctx, "create database "+database).ReadAll()
	}
	if err != nil {
		return fmt.Errorf("make the database %s: %w", database, err)
	}
	return nil
}

// checkDatabase tells whether a given server can be reached and is new enough.
// It says nothing of rights: those are its users' matter.
func checkDatabase(ctx context.Context, databaseURL string) error {
	conn, err := pgconn.Connect(ctx, databaseURL)
	if err != nil {
		return &databaseError{err: err}
	}
	defer conn.Close(ctx) //nolint:errcheck // only asked
	version := conn.ParameterStatus("server_version")
	major, _, _ := strings.Cut(version, ".")
	if n, err := strconv.Atoi(major); err == nil && n < LeastPostgres {
		return fmt.Errorf("DATABASE_URL: the server is PostgreSQL %s, Rollcall needs %d or newer", version, LeastPostgres)
	}
	return nil
}

// databaseError puts pgx's account of its attempts, a line for each and often
// the same twice, into one sentence.
type databaseError struct{ err error }

func (e *databaseError) Error() string {
	lines := strings.Split(e.err.Error(), "\n")
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return "DATABASE_URL: " + strings.Join(slices.Compact(lines), " ") + ": correct it, or unset it to let a private Postgres start"
}

func (e *databaseError) Unwrap() error { return e.err }
