package stacktest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rollcall-dev/rollcall/internal/stack"
)

const natsReady = 20 * time.Second

// NATSServer is a JetStream server that can be stopped and started again, on the
// same directory and port.
type NATSServer struct {
	URL string
	Dir string // JetStream's store

	t   testing.TB
	run engine

	mu      sync.Mutex
	running bool
}

// engine is how a server runs: in this process or outside.
type engine interface {
	start() error
	stop(s syscall.Signal) error
}

// NATSOption changes a server in the process.
type NATSOption func(*server.Options)

// Sync makes the server fsync before each acknowledgement.
func Sync() NATSOption { return func(o *server.Options) { o.SyncAlways = true } }

// Configure changes what has no option of its own here, as JetStreamMaxStore.
func Configure(change func(*server.Options)) NATSOption { return change }

// NATS starts a JetStream server in this process. It is stopped when the test ends.
func NATS(t testing.TB, opts ...NATSOption) *NATSServer {
	t.Helper()
	o := embeddedOptions(t)
	for _, change := range opts {
		change(o)
	}
	e := &embedded{opts: o}
	s := &NATSServer{t: t, Dir: o.StoreDir, run: e}
	s.Start()
	s.URL = e.server.ClientURL()
	t.Cleanup(s.Stop)
	return s
}

func embeddedOptions(t testing.TB) *server.Options {
	t.Helper()
	return &server.Options{
		ServerName:        "n0",
		Host:              "127.0.0.1",
		Port:              server.RANDOM_PORT,
		JetStream:         true,
		StoreDir:          t.TempDir(),
		JetStreamMaxStore: 4 << 30,
		MaxPayload:        stack.MaxPayload,
		NoSigs:            true,
		NoLog:             true,
	}
}

// Connect connects, and closes when the test ends.
func (s *NATSServer) Connect(t testing.TB, opts ...nats.Option) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(s.URL, append([]nats.Option{nats.MaxReconnects(-1), nats.ReconnectWait(20 * time.Millisecond)}, opts...)...)
	if err != nil {
		t.Fatalf("connect to NATS at %s: %v", s.URL, err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// Stop shuts the server down and waits for it.
func (s *NATSServer) Stop() { s.end(syscall.SIGTERM) }

// Kill ends a server started by [Binary] with SIGKILL.
func (s *NATSServer) Kill() {
	s.t.Helper()
	if _, ok := s.run.(*external); !ok {
		s.t.Fatal("a server in this process can't be killed; see Binary")
	}
	s.end(syscall.SIGKILL)
}

func (s *NATSServer) end(sig syscall.Signal) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.running {
		return
	}
	s.running = false
	if err := s.run.stop(sig); err != nil {
		s.t.Errorf("stop the NATS server: %v", err)
	}
}

// Start starts it again and returns when it takes connections; in a cluster,
// when the node is current.
func (s *NATSServer) Start() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running {
		return
	}
	if err := s.run.start(); err != nil {
		s.t.Fatalf("start the NATS server: %v", err)
	}
	s.running = true
}

// Server is the server in this process; nil for one started by [Binary].
func (s *NATSServer) Server() *server.Server {
	if e, ok := s.run.(*embedded); ok {
		return e.server
	}
	return nil
}

// embedded runs nats-server as a library.
type embedded struct {
	opts   *server.Options
	server *server.Server
	formed bool // part of a cluster that has formed
}

func (e *embedded) start() error {
	ns, err := server.NewServer(e.opts.Clone())
	if err != nil {
		return err
	}
	ns.Start()
	e.server = ns
	if !ns.ReadyForConnections(natsReady) {
		return errors.Join(errors.New("not ready in time"), e.stop(0))
	}
	e.opts.Port = ns.Addr().(*net.TCPAddr).Port //nolint:forcetypeassert // TCP
	if !e.formed {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), natsReady)
	defer cancel()
	return poll(ctx, e.current)
}

func (e *embedded) current() error {
	if !e.server.JetStreamIsCurrent() {
		return fmt.Errorf("node %s is not current", e.server.Name())
	}
	return nil
}

func (e *embedded) stop(syscall.Signal) error {
	e.server.Shutdown()
	e.server.WaitForShutdown()
	return nil
}

// Cluster starts n servers in this process that replicate, and returns when
// streams of n replicas can be made.
func Cluster(t testing.TB, n int) []*NATSServer {
	t.Helper()
	ports, routes := make([]int, n), ""
	for i := range n {
		ports[i] = FreePort(t) // all have to be known before the first starts
		routes += fmt.Sprintf("nats-route://127.0.0.1:%d,", ports[i])
	}
	nodes := make([]*NATSServer, n)
	for i := range n {
		o := embeddedOptions(t)
		o.ServerName = fmt.Sprintf("n%d", i)
		o.Cluster = server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: ports[i]}
		o.Routes = server.RoutesFromStr(routes[:len(routes)-1])
		e := &embedded{opts: o}
		nodes[i] = &NATSServer{t: t, Dir: o.StoreDir, run: e}
		nodes[i].Start()
		nodes[i].URL = fmt.Sprintf("nats://127.0.0.1:%d", o.Port) // ClientURL may name a neighbour
		t.Cleanup(nodes[i].Stop)
	}
	Eventually(t, natsReady, func() error { return formed(nodes) })
	for _, node := range nodes {
		node.run.(*embedded).formed = true //nolint:forcetypeassert // made above
	}
	return nodes
}

// formed tells whether one node leads, knows all others, and all are current.
func formed(nodes []*NATSServer) error {
	leaders := 0
	for _, node := range nodes {
		ns := node.Server()
		if ns.JetStreamIsLeader() {
			leaders++
			if peers := len(ns.JetStreamClusterPeers()); peers != len(nodes) {
				return fmt.Errorf("the leader knows %d of %d nodes", peers, len(nodes))
			}
		}
		if !ns.JetStreamIsCurrent() {
			return fmt.Errorf("node %s is not current", ns.Name())
		}
	}
	if leaders != 1 {
		return fmt.Errorf("%d nodes lead", leaders)
	}
	return nil
}

// Binary starts the nats-server program at path, with JetStream that fsyncs
// before each acknowledgement. It is killed when the test ends.
func Binary(t testing.TB, path string) *NATSServer {
	t.Helper()
	e := &external{program: path, dir: t.TempDir(), port: FreePort(t)}
	s := &NATSServer{
		t: t, run: e,
		URL: "nats://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(e.port)),
		Dir: filepath.Join(e.dir, "store"),
	}
	e.url = s.URL
	config := fmt.Sprintf(`listen: "127.0.0.1:%d"
server_name: n0
max_payload: 8MB
jetstream { store_dir: %q, max_file_store: 4GB, sync_interval: always }
`, e.port, s.Dir)
	if err := os.WriteFile(e.config(), []byte(config), 0o600); err != nil {
		t.Fatalf("configure the NATS server: %v", err)
	}
	s.Start()
	t.Cleanup(func() { s.end(syscall.SIGKILL) })
	return s
}

// external runs a nats-server program.
type external struct {
	program, dir, url string
	port              int
	child             *stack.Child
}

func (e *external) config() string { return filepath.Join(e.dir, "nats.conf") }

func (e *external) start() error {
	log, err := os.OpenFile(filepath.Join(e.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close() //nolint:errcheck // the child has its own
	cmd := exec.Command(e.program, "-c", e.config())
	cmd.Stdout, cmd.Stderr = log, log
	if e.child, err = stack.StartChild(cmd, stack.Account{}, syscall.SIGKILL); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), natsReady)
	defer cancel()
	err = poll(ctx, func() error {
		select {
		case <-e.child.Done():
			cancel()
			return fmt.Errorf("it ended at once: %w", e.child.Err())
		default:
			return e.answers(ctx)
		}
	})
	if err != nil {
		text, _ := os.ReadFile(log.Name())
		return errors.Join(fmt.Errorf("%w\n%s", err, text), e.stop(syscall.SIGKILL))
	}
	return nil
}

func (e *external) answers(ctx context.Context) error {
	nc, err := nats.Connect(e.url)
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	_, err = js.AccountInfo(ctx)
	return err
}

func (e *external) stop(sig syscall.Signal) error {
	err := e.child.Signal(sig)
	<-e.child.Done()
	return err
}
