package stack

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"go.uber.org/zap"
)

const (
	// DefaultNATSPort is where NATS clients look first.
	DefaultNATSPort = 4222
	// MaxPayload is the largest message in bytes, headers included: the webhook
	// endpoint's 1 MiB with room for a batch of headers and for dead letters.
	MaxPayload = 8 * mebibyte

	natsStart = time.Minute // replaying a log of some millions of messages takes seconds
)

// NATSOptions say where the embedded server stores and listens.
type NATSOptions struct {
	Dir       string // holds nats/; locked by the caller
	Port      int    // on 127.0.0.1; 0: DefaultNATSPort; -1: any that is free
	PortAsked bool   // the operator chose Port: taken is an error, not a reason to take another
	Setting   string // what the operator set to choose Port, for that error
	Log       *zap.Logger
}

// NATS is a JetStream server in this process that fsyncs before each
// acknowledgement.
type NATS struct {
	server *server.Server
}

// StartNATS starts the embedded server and returns when it takes connections.
//
// Hold Dir by [Lock] first. nats-server locks nothing: two servers on one
// directory both start and both acknowledge, each under the same sequences, and
// the log of one overwrites the other's.
func StartNATS(o NATSOptions) (*NATS, error) { return startNATS(o, freeBytes) }

// startNATS takes the disk as a function, so that tests need no full one.
func startNATS(o NATSOptions, free func(dir string) (uint64, error)) (*NATS, error) {
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	store := filepath.Join(o.Dir, "nats")
	if err := os.MkdirAll(store, 0o700); err != nil {
		return nil, unusable(o.Dir, err)
	}
	stored, err := storedBytes(store)
	if err != nil {
		return nil, err
	}
	port, err := natsPort(o)
	if err != nil {
		return nil, err
	}
	for {
		limit, err := roomIn(store, stored, free)
		if err != nil {
			return nil, err
		}
		s, err := runNATS(store, port, limit, o.Log)
		if err != nil {
			return nil, err
		}
		// The files are compressed, but JetStream holds the bytes before
		// compression against its limit. Where that leaves it noticeably less
		// room than the disk has, start again with its own count.
		if js, err := s.Jsz(nil); err == nil && js.Store > stored+uint64(limit)/10 { //nolint:gosec // positive
			stored = js.Store
			shutdown(s)
			continue
		}
		return &NATS{server: s}, nil
	}
}

// URL is where clients outside this process connect.
func (n *NATS) URL() string { return n.server.ClientURL() }

// Connect connects within the process, without a socket, and comes back after
// any loss. Options given override that.
func (n *NATS) Connect(opts ...nats.Option) (*nats.Conn, error) {
	all := append([]nats.Option{nats.InProcessServer(n.server), nats.MaxReconnects(-1)}, opts...)
	nc, err := nats.Connect(n.URL(), all...)
	if err != nil {
		return nil, fmt.Errorf("connect to the embedded NATS server: %w", err)
	}
	return nc, nil
}

// Limit is how many bytes JetStream may store, all streams together.
func (n *NATS) Limit() int64 { return n.server.JetStreamConfig().MaxStore }

// Healthy is nil while the server stores. A write error, a full disk among
// them, stops a stream for good: publishers see timeouts only, and this says why.
func (n *NATS) Healthy() error {
	if h := n.server.Healthz(nil); h.Error != "" {
		return errors.New(h.Error)
	}
	return nil
}

// Shutdown stops the server and returns when it has closed its files. Drain
// what is connected first.
func (n *NATS) Shutdown() { shutdown(n.server) }

func shutdown(s *server.Server) {
	s.Shutdown()
	s.WaitForShutdown()
}

func roomIn(store string, stored uint64, free func(dir string) (uint64, error)) (int64, error) {
	left, err := free(store)
	if err != nil {
		return 0, err
	}
	limit, err := storeLimit(left, stored)
	if err != nil {
		return 0, fmt.Errorf("no room for the log in %s: %w: free some, or pass a directory on another disk with --data", store, err)
	}
	return limit, nil
}

// natsPort is the port to listen on; -1 lets the server take any that is free.
func natsPort(o NATSOptions) (int, error) {
	port := o.Port
	switch port {
	case server.RANDOM_PORT:
		return port, nil
	case 0:
		port = DefaultNATSPort
	}
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err == nil {
		return port, l.Close()
	}
	if !o.PortAsked {
		o.Log.Info("the default NATS port is taken, using a free one", zap.Int("port", port))
		return server.RANDOM_PORT, nil
	}
	setting := o.Setting
	if setting == "" {
		setting = "the NATS port"
	}
	return 0, fmt.Errorf("%s: cannot listen on 127.0.0.1:%d (%w): choose another port, or stop what listens there", setting, port, err)
}

func runNATS(store string, port int, limit int64, log *zap.Logger) (*server.Server, error) {
	s, err := server.NewServer(&server.Options{
		ServerName:        "rollcall-dev",
		Host:              "127.0.0.1",
		Port:              port,
		MaxPayload:        MaxPayload,
		JetStream:         true,
		StoreDir:          store,
		JetStreamMaxStore: limit,
		SyncAlways:        true, // an acknowledgement means on disk
		NoSigs:            true, // the process's signals are not the server's
	})
	if err != nil {
		return nil, fmt.Errorf("set up the embedded NATS server: %w", err)
	}
	l := &natsLog{log: log.Named("nats")}
	s.SetLoggerV2(l, false, false, false)
	s.Start()
	for deadline := time.Now().Add(natsStart); !s.ReadyForConnections(100 * time.Millisecond); {
		if l.gaveUp() || time.Now().After(deadline) {
			shutdown(s)
			return nil, fmt.Errorf("start the embedded NATS server in %s: %s", store, l.why())
		}
	}
	return s, nil
}

// natsLog passes on what the server warns of, and remembers why it gave up:
// the server only logs that.
type natsLog struct {
	log *zap.Logger

	mu    sync.Mutex
	last  string
	fatal bool
}

func (l *natsLog) Noticef(string, ...any) {}
func (l *natsLog) Debugf(string, ...any)  {}
func (l *natsLog) Tracef(string, ...any)  {}

func (l *natsLog) Warnf(format string, v ...any) { l.log.Warn(fmt.Sprintf(format, v...)) }

func (l *natsLog) Errorf(format string, v ...any) { l.fail(fmt.Sprintf(format, v...), false) }

// Fatalf must not end the process: this server is a part of it.
func (l *natsLog) Fatalf(format string, v ...any) { l.fail(fmt.Sprintf(format, v...), true) }

func (l *natsLog) fail(msg string, fatal bool) {
	l.mu.Lock()
	l.last = msg
	l.fatal = l.fatal || fatal
	l.mu.Unlock()
	l.log.Error(msg)
}

func (l *natsLog) gaveUp() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fatal
}

func (l *natsLog) why() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last == "" {
		return fmt.Sprintf("not ready within %s", natsStart)
	}
	return l.last
}
