package emulator

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/rollcall-dev/rollcall/internal/emulator/backendapi"
	"github.com/rollcall-dev/rollcall/internal/emulator/delivery"
	"github.com/rollcall-dev/rollcall/internal/emulator/state"
)

// Options of a Server. The zero value is an empty instance on a free port.
type Options struct {
	Addr string // to listen on; default 127.0.0.1:0
	Seed uint64 // of everything but signing keys and webhook secrets
	// Population is made in every instance that isn't loaded from StateFile.
	Population state.SeedOptions
	// Instances are the names of the instances; default one, "app". Names are a
	// part of issuers, so they are as in a host name.
	Instances []string
	// StateFile is loaded where it exists, and saved when Run ends; "" is none.
	StateFile string
	// SaveEvery saves it meanwhile too, where anything has happened; 0 is never.
	SaveEvery time.Duration
	// EnvFile gets the Environment as lines of KEY=VALUE once it listens; "" is none.
	EnvFile string
	// EmitCascade has the deletion of a user or an organization emit those of what
	// was its. Whether Clerk does is not known.
	EmitCascade bool

	WebhookURLs []string // endpoints of the first instance
	// OnlyWebhookURLs drops the endpoints that the state was saved with under other
	// URLs: nobody is there any more.
	OnlyWebhookURLs bool
	WebhookSecret   string  // of those, whsec_…; default one of each one's own
	RetryScale      float64 // multiplies Svix's retry schedule; 0 is 1
	Chaos           delivery.Chaos
	Traffic         float64 // events a second in each instance; 0 is none

	RateLimit *backendapi.RateLimit // nil: backendapi.DefaultRateLimit
	// DrainTimeout is how long requests and deliveries under way may take when Run
	// ends; 0 is 5 s each.
	DrainTimeout time.Duration
	Clock        func() time.Time // nil: time.Now
	Log          *zap.Logger      // nil: none
}

func (o Options) withDefaults() (Options, error) {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	o.Addr = cmp.Or(o.Addr, "127.0.0.1:0")
	o.DrainTimeout = cmp.Or(o.DrainTimeout, 5*time.Second)
	if key, ok := strings.CutPrefix(o.WebhookSecret, "whsec_"); o.WebhookSecret != "" {
		if raw, err := base64.StdEncoding.DecodeString(key); !ok || err != nil || len(raw) == 0 {
			return o, errors.New("the webhook secret must be whsec_ and base64, as in Clerk's dashboard")
		}
	}
	for n, name := range o.Instances {
		if err := checkName(name); err != nil {
			return o, err
		}
		for _, other := range o.Instances[:n] {
			if other == name {
				return o, fmt.Errorf("instance %q is there twice", name)
			}
		}
	}
	return o, nil
}

// checkName refuses what can't be a part of a host name.
func checkName(name string) error {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789-"
	if name == "" || len(name) > 63 || strings.Trim(name, letters) != "" || strings.HasPrefix(name, "-") || strings.HasSuffix(name, "-") {
		return fmt.Errorf("instance %q: a name is of a-z, 0-9 and -, as in a host name", name)
	}
	return nil
}

// Server is an emulated Clerk.
type Server struct {
	o       Options
	ln      net.Listener
	handler http.Handler

	apiRequests, keyRequests atomic.Int64 // since the start

	world atomic.Pointer[world]
	// swap is held while the world is replaced, or its instances change.
	swap    sync.Mutex
	start   *baseline
	running bool
}

// New listens, then loads or seeds the state. The caller has to Run the server,
// which closes it. Errors: an address that is taken, options or a file that
// can't be used.
func New(o Options) (*Server, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	if o.EnvFile != "" { // nobody shall take an old one for ours
		if err := os.Remove(o.EnvFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("remove an old environment file: %w", err)
		}
	}
	s := &Server{o: o}
	if s.ln, err = net.Listen("tcp", o.Addr); err != nil {
		return nil, fmt.Errorf("can't listen on %s: %w; choose another address, or port 0 for any", o.Addr, reasonOf(err))
	}
	if err := s.build(); err != nil {
		return nil, errors.Join(err, s.ln.Close())
	}
	s.handler = s.routes()
	if tcp, ok := s.ln.Addr().(*net.TCPAddr); ok && !tcp.IP.IsLoopback() {
		o.Log.Warn("the control API has no authentication and is reachable from other machines", zap.Stringer("address", s.ln.Addr()))
	}
	return s, nil
}

// reasonOf is a network error without the address, which the message has already.
func reasonOf(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

// build makes the first world, and remembers it to return to.
func (s *Server) build() error {
	start, err := openBaseline(s.o)
	if err != nil {
		return err
	}
	w, err := start.world()
	if err != nil {
		if start.saved != nil {
			err = fmt.Errorf("%s: %w", s.o.StateFile, err)
		}
		return errors.Join(err, start.close())
	}
	s.start = start
	s.world.Store(w)
	return nil
}

// URL is where it listens, as a client on this machine says it.
func (s *Server) URL() string {
	addr, ok := s.ln.Addr().(*net.TCPAddr)
	if !ok {
		return "http://" + s.ln.Addr().String()
	}
	host := addr.IP.String()
	if addr.IP.IsUnspecified() {
		host = "127.0.0.1"
	}
	return fmt.Sprintf("http://%s", net.JoinHostPort(host, fmt.Sprint(addr.Port)))
}

// Environment are the settings for an application, an SDK and Rollcall, of the
// first instance.
func (s *Server) Environment() ([]EnvVar, error) {
	return s.world.Load().named("").environment(s.URL())
}

// MakeChanges makes so many believable changes of the first instance as fast as
// it can, fewer if ctx ends before.
func (s *Server) MakeChanges(ctx context.Context, n int) {
	s.world.Load().named("").traffic.Steps(ctx, n)
}

// Run serves until ctx ends, and drains: it stops the traffic, stops accepting,
// lets deliveries under way end, and saves the state file.
func (s *Server) Run(ctx context.Context) error {
	requests, endRequests := context.WithCancel(context.WithoutCancel(ctx))
	defer endRequests()
	server := &http.Server{
		Handler: s.handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute,
		BaseContext: func(net.Listener) context.Context { return requests },
		ErrorLog:    zap.NewStdLog(s.o.Log),
	}
	s.swap.Lock()
	s.running = true
	s.world.Load().start()
	s.swap.Unlock()
	err := s.writeEnvFile()
	saved := s.world.Load().emitted() // before anybody can change it
	served := make(chan error, 1)
	go func() { served <- server.Serve(s.ln) }()
	saving, endSaving := context.WithCancel(ctx)
	var saves sync.WaitGroup
	saves.Go(func() { s.saveNowAndThen(saving, saved) })
	if err == nil {
		select {
		case <-ctx.Done():
		case err = <-served:
			err = fmt.Errorf("serve: %w", err)
			served <- nil
		}
	}
	endSaving()
	saves.Wait()
	s.world.Load().stopTraffic()
	endRequests() // those that wait, for settled deliveries
	err = errors.Join(err, s.drain(context.WithoutCancel(ctx), server))
	<-served
	return err
}

// drain ends what is under way and saves the state.
func (s *Server) drain(ctx context.Context, server *http.Server) error {
	answering, cancel := context.WithTimeout(ctx, s.o.DrainTimeout)
	defer cancel()
	if err := server.Shutdown(answering); err != nil {
		s.o.Log.Warn("requests were cut", zap.Error(err))
		_ = server.Close() // of connections that are lost anyway
	}
	s.swap.Lock()
	defer s.swap.Unlock()
	delivering, cancel := context.WithTimeout(ctx, s.o.DrainTimeout)
	defer cancel()
	w := s.world.Load()
	if err := w.close(delivering); err != nil {
		s.o.Log.Warn("stopped before all was delivered", zap.Error(err))
	}
	err := s.saveFile(w)
	if err == nil && s.o.StateFile != "" {
		s.o.Log.Info("state saved", zap.String("file", s.o.StateFile))
	}
	return errors.Join(err, s.start.close())
}

func (s *Server) writeEnvFile() error {
	if s.o.EnvFile == "" {
		return nil
	}
	vars, err := s.Environment()
	if err != nil {
		return err
	}
	var b strings.Builder
	for _, v := range vars {
		fmt.Fprintf(&b, "%s=%s\n", v.Name, v.Value)
	}
	if err := os.WriteFile(s.o.EnvFile+".new", []byte(b.String()), 0o600); err != nil {
		return fmt.Errorf("write the environment file: %w", err)
	}
	if err := os.Rename(s.o.EnvFile+".new", s.o.EnvFile); err != nil {
		return fmt.Errorf("write the environment file: %w", err)
	}
	return nil
}
