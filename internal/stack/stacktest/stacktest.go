// Package stacktest gives tests the real things: a Postgres with a database for
// each test, JetStream servers in the process, in a cluster, or of another
// version.
//
//	func TestMain(m *testing.M) { stacktest.Main(m) }
//
//	func TestX(t *testing.T) {
//		t.Parallel()
//		db := stacktest.Database(t) // db.URL: a role without superuser, a database of its own
//		ns := stacktest.NATS(t)     // ns.URL: JetStream in a directory of its own
//	}
//
// What a test starts ends with it; what tests share ends with the process, even
// one that is killed.
package stacktest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// shared is what the tests of this process have in common. It is the package's
// one variable: TestMain and tests have nothing else between them.
var shared commons

type commons struct {
	mu      sync.Mutex
	server  *Server
	err     error // why server could not be started; tried once
	bouncer *bouncer
}

// Main runs the tests, stops what they shared, and exits. For TestMain.
func Main(m *testing.M) { os.Exit(run(m, nil)) }

// MainNoLeaks is Main, and fails if goroutines are left.
func MainNoLeaks(m *testing.M, opts ...goleak.Option) {
	os.Exit(run(m, func() error { return goleak.Find(opts...) }))
}

// Run is Main without the exit: for a TestMain that exits by itself.
func Run(m *testing.M) int { return run(m, nil) }

func run(m *testing.M, check func() error) int {
	code := m.Run()
	err := shared.stop()
	if err == nil && check != nil && code == 0 { // a failed test leaves what it likes
		err = check()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "stacktest:", err)
		code = max(code, 1)
	}
	return code
}

func (c *commons) stop() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var err error
	if c.bouncer != nil {
		err = c.bouncer.stop()
	}
	if c.server != nil {
		err = errors.Join(err, c.server.close())
	}
	return err
}

// FreePort is a port on 127.0.0.1 that nobody listens on now. Where a server can
// choose by itself (port 0), let it: between this and its start, another may.
func FreePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("find a free port: %v", err)
	}
	defer l.Close()                     //nolint:errcheck // nothing was written
	return l.Addr().(*net.TCPAddr).Port //nolint:forcetypeassert // TCP
}

// Eventually asks until the answer is nil, and fails the test with the last
// answer when timeout is over.
func Eventually(t testing.TB, timeout time.Duration, ask func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if err := poll(ctx, ask); err != nil {
		t.Fatalf("not within %s: %v", timeout, err)
	}
}

func poll(ctx context.Context, ask func() error) error {
	for {
		err := ask()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(10 * time.Millisecond):
		}
	}
}
