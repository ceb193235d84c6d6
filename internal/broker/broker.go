// Package broker keeps a process connected to NATS. The client library
// reconnects by itself, but for one case: a connection that the server closed
// for a protocol error, or that was refused for good, stays closed. Conn dials
// such a connection anew, and counts connections, so that who remembers
// something about the broker's state knows when to doubt it.
package broker

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/rollcall-dev/rollcall/streams"
)

// Options say how to reach NATS.
type Options struct {
	Name   string // shown by the server's monitoring: "rollcall ingest"
	URL    string // comma-separated nats:// or tls:// addresses
	Creds  string // credentials: a .creds file's path, or its content; "" for none
	TLSCA  string // file with the certificate authority; "" for the system's
	Domain string // JetStream domain; "" for the default
	// InProcess connects to an embedded server without a socket; URL is then unused.
	InProcess nats.InProcessConnProvider
	Log       *zap.Logger
	// State is told of every change until Close: nil when connected, else why
	// not. It must not call the Conn.
	State func(error)
}

// Conn is a connection that is always there or on its way.
type Conn struct {
	o          Options
	generation atomic.Uint64
	mu         sync.Mutex
	nc         *nats.Conn
	closed     bool
}

// ErrClosed: the process is stopping.
var ErrClosed = errors.New("broker: closed")

// Dial returns at once, connected or not; only settings that can never work
// are errors.
func Dial(o Options) (*Conn, error) {
	if o.State == nil {
		o.State = func(error) {}
	}
	c := &Conn{o: o}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.dial(); err != nil {
		return nil, fmt.Errorf("nats.url: %w", err)
	}
	return c, nil
}

// Generation grows whenever a connection is made or lost, or Doubt is called.
func (c *Conn) Generation() uint64 { return c.generation.Load() }

// Doubt says that the broker may have lost what it had, although the connection
// stands: the log is another, or shorter.
func (c *Conn) Doubt() { c.generation.Add(1) }

// NATS is the connection as it is now; a closed one is dialled anew first.
func (c *Conn) NATS() (*nats.Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, ErrClosed
	}
	if c.nc.IsClosed() {
		if err := c.dial(); err != nil {
			return nil, fmt.Errorf("broker: dial: %w", err)
		}
	}
	return c.nc, nil
}

// JetStream over the connection as it is now.
func (c *Conn) JetStream() (jetstream.JetStream, error) {
	nc, err := c.NATS()
	if err != nil {
		return nil, err
	}
	if c.o.Domain != "" {
		return jetstream.NewWithDomain(nc, c.o.Domain)
	}
	return jetstream.New(nc)
}

// Close flushes what was published and ends the connection.
func (c *Conn) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.closed = true
		if c.nc.IsConnected() {
			_ = c.nc.FlushTimeout(2 * time.Second) // best effort: every publish of ours was acknowledged
		}
		c.nc.Close()
	}
}

func (c *Conn) dial() error {
	opts := []nats.Option{
		nats.Name(c.o.Name),
		nats.MaxReconnects(-1),
		nats.RetryOnFailedConnect(true),
		nats.IgnoreAuthErrorAbort(), // credentials rotate; keep trying
		nats.ReconnectWait(250 * time.Millisecond),
		// Offline publishes fail at once: what timed out for its sender must not
		// be stored behind its back later.
		nats.ReconnectBufSize(-1),
		nats.PingInterval(10 * time.Second),
		nats.ConnectHandler(func(nc *nats.Conn) { c.changed(nc, nil) }),
		nats.ReconnectHandler(func(nc *nats.Conn) { c.changed(nc, nil) }),
		nats.DisconnectErrHandler(func(nc *nats.Conn, err error) { c.changed(nc, reason("disconnected", err)) }),
		nats.ReconnectErrHandler(func(nc *nats.Conn, err error) { c.tell(nc, err) }),
		nats.ClosedHandler(func(nc *nats.Conn) { c.changed(nc, reason("closed", nc.LastError())) }),
		nats.ErrorHandler(c.async),
	}
	switch {
	case strings.HasPrefix(c.o.Creds, "-----BEGIN"):
		opts = append(opts, nats.UserCredentialBytes([]byte(c.o.Creds)))
	case c.o.Creds != "":
		opts = append(opts, nats.UserCredentials(c.o.Creds))
	}
	if user := userOf(c.o.URL); user != "" {
		// A user of few permissions may listen for answers only here; see deploy/nats.
		opts = append(opts, nats.CustomInboxPrefix("_INBOX_"+user))
	}
	if c.o.TLSCA != "" {
		opts = append(opts, nats.RootCAs(c.o.TLSCA))
	}
	if c.o.InProcess != nil {
		opts = append(opts, nats.InProcessServer(c.o.InProcess))
	}
	nc, err := nats.Connect(c.o.URL, opts...)
	if err != nil {
		return err
	}
	c.nc = nc
	c.generation.Add(1)
	if nc.IsConnected() {
		c.o.State(nil)
	} else {
		c.o.State(errors.New("no connection yet"))
	}
	return nil
}

// reason is what happened and why, in one line; the why may be unknown.
func reason(what string, why error) error {
	if why == nil {
		return errors.New(what)
	}
	return fmt.Errorf("%s: %w", what, why)
}

// userOf is the user that the first address names, "" where it names none or
// one that can't stand in a subject.
func userOf(addresses string) string {
	first, _, _ := strings.Cut(addresses, ",")
	u, err := url.Parse(strings.TrimSpace(first))
	if err != nil || u.User == nil || u.User.Username() != streams.Token(u.User.Username()) {
		return ""
	}
	if _, password := u.User.Password(); !password {
		return "" // a token
	}
	return u.User.Username()
}

func (c *Conn) changed(nc *nats.Conn, err error) {
	c.generation.Add(1)
	c.tell(nc, err)
}

// tell passes news on, but not those of a connection that another has replaced,
// nor those of an end that Close has made: they come a little later.
func (c *Conn) tell(nc *nats.Conn, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if nc == c.nc && !c.closed {
		c.o.State(err)
	}
}

// async hears what has no caller: a denied permission shows here, and as a
// time-out where the call was made.
func (c *Conn) async(_ *nats.Conn, sub *nats.Subscription, err error) {
	fields := []zap.Field{zap.Error(err)}
	if sub != nil {
		fields = append(fields, zap.String("subject", sub.Subject))
	}
	c.o.Log.Warn("nats reports an error", fields...)
}
