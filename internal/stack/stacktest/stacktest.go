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
	"math/rand/v2"
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

// FreePort is a port on 127.0.0.1 that nobody listens on now. It lies below those
// that the system gives out by itself (from 32768 on Linux), so that no
// connection and no listener on port 0 takes it before its server does.
func FreePort(t testing.TB) int {
	t.Helper()
	for range 100 {
		port := 20000 + rand.IntN(12000)
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		if err := l.Close(); err == nil {
			return port
		}
	}
	t.Fatal("no free port found")
	return 0
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
