package stacktest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rollcall-dev/rollcall/internal/stack"
)

// bouncer is a PgBouncer in transaction mode before the shared Postgres, as a
// managed database has one.
type bouncer struct {
	dir   string
	port  int
	child *stack.Child
}

func (c *commons) pgbouncer(s *Server) (*bouncer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bouncer != nil {
		return c.bouncer, nil
	}
	b, err := startBouncer(s)
	if err != nil {
		return nil, err
	}
	c.bouncer = b
	return b, nil
}

// bouncerConfig: passwords are asked of Postgres, so that a role made later can
// log in; a pool is small, so that transactions of one client meet sessions of
// another.
const bouncerConfig = `[databases]
* = host=127.0.0.1 port=%d auth_user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
pool_mode = transaction
default_pool_size = 4
max_client_conn = 1000
auth_type = scram-sha-256
auth_file = %s
auth_query = select usename, passwd from pg_shadow where usename = $1
`

func startBouncer(s *Server) (*bouncer, error) {
	program, err := exec.LookPath("pgbouncer")
	if err != nil {
		if program, err = exec.LookPath("/usr/sbin/pgbouncer"); err != nil {
			return nil, fmt.Errorf("%w: run `apt-get install pgbouncer`", err)
		}
	}
	acct, err := stack.AccountFor(s.dir) // it refuses root, like Postgres
	if err != nil {
		return nil, err
	}
	admin, err := url.Parse(s.AdminURL())
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	b := &bouncer{dir: filepath.Join(s.dir, "pgbouncer"), port: l.Addr().(*net.TCPAddr).Port} //nolint:forcetypeassert // TCP
	if err := errors.Join(l.Close(), b.configure(admin, s.port, acct)); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(b.dir, "log"))
	if err != nil {
		return nil, err
	}
	defer log.Close() //nolint:errcheck // the child has its own
	cmd := exec.Command(program, filepath.Join(b.dir, "pgbouncer.ini"))
	cmd.Stdout, cmd.Stderr = log, log
	if b.child, err = stack.StartChild(cmd, acct, syscall.SIGKILL); err != nil {
		return nil, err
	}
	if err := b.awaitReady(s.AdminURL()); err != nil {
		text, _ := os.ReadFile(log.Name())
		return nil, errors.Join(fmt.Errorf("%w\n%s", err, text), b.stop())
	}
	return b, nil
}

func (b *bouncer) configure(admin *url.URL, pgPort int, acct stack.Account) error {
	users := filepath.Join(b.dir, "users.txt")
	password, _ := admin.User.Password()
	err := os.Mkdir(b.dir, 0o700)
	for name, text := range map[string]string{
		users:                                 fmt.Sprintf("%q %q\n", admin.User.Username(), password),
		filepath.Join(b.dir, "pgbouncer.ini"): fmt.Sprintf(bouncerConfig, pgPort, b.port, users),
	} {
		err = errors.Join(err, os.WriteFile(name, []byte(text), 0o600), os.Chown(name, int(acct.UID), int(acct.GID)))
	}
	return errors.Join(err, os.Chown(b.dir, int(acct.UID), int(acct.GID)))
}

func (b *bouncer) awaitReady(admin string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return poll(ctx, func() error {
		select {
		case <-b.child.Done():
			cancel()
			return fmt.Errorf("it ended at once: %w", b.child.Err())
		default:
		}
		conn, err := pgx.Connect(ctx, b.url(admin))
		if err != nil {
			return err
		}
		return conn.Close(ctx)
	})
}

// url is a direct one led through PgBouncer.
func (b *bouncer) url(direct string) string {
	u, err := url.Parse(direct)
	if err != nil {
		panic(err) // we have made it
	}
	u.Host = net.JoinHostPort("127.0.0.1", strconv.Itoa(b.port))
	return u.String()
}

func (b *bouncer) stop() error {
	err := b.child.Signal(syscall.SIGKILL) // it keeps nothing
	<-b.child.Done()
	return err
}
