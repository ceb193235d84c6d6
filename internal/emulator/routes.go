package emulator

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"

	"github.com/rollcall-dev/rollcall/internal/emulator/backendapi"
	"github.com/rollcall-dev/rollcall/internal/emulator/state"
)

// routes is the handler of all that it serves.
func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/v1/", counted(&s.apiRequests, s.backendAPI()))
	keys := func(pattern string, of func(*http.Request) *instance) {
		mux.Handle(pattern, counted(&s.keyRequests, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.writeKeys(w, of(r)) })))
	}
	keys("GET /.well-known/jwks.json", func(r *http.Request) *instance { return s.world.Load().byHost(r.Host) })
	keys("GET /instances/{instance}/.well-known/jwks.json", func(r *http.Request) *instance { return s.world.Load().named(r.PathValue("instance")) })
	control := s.control()
	mux.Handle("/_emu", control)
	mux.Handle("/_emu/", control)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /{$}", s.page)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { s.write(w, nil, errNoPath) })
	return mux
}

func counted(n *atomic.Int64, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.Add(1)
		h.ServeHTTP(w, r)
	})
}

// backendAPI outlives a reset: it finds the instances of the world as it is.
func (s *Server) backendAPI() http.Handler {
	of := func(in *state.Instance) *instance {
		return s.world.Load().find(func(i *instance) bool { return i.Instance == in })
	}
	return backendapi.New(backendapi.Options{
		Instance: func(key string) *state.Instance { return s.world.Load().state.InstanceBySecretKey(key) },
		JWKS: func(in *state.Instance) ([]byte, error) {
			if i := of(in); i != nil {
				return i.keys.JWKS()
			}
			return nil, errReset
		},
		Token: func(in *state.Instance, r backendapi.TokenRequest) (string, error) {
			if i := of(in); i != nil {
				return i.sessionToken(r)
			}
			return "", errReset
		},
		KeepUpdatedAt: func(in *state.Instance) bool {
			i := of(in)
			return i != nil && i.keepsUpdatedAt()
		},
		Fault: func(in *state.Instance) backendapi.Fault {
			if i := of(in); i != nil {
				return i.fault()
			}
			return backendapi.Fault{}
		},
		Now: s.o.Clock, RateLimit: s.o.RateLimit, Logger: s.o.Log,
	})
}

// errReset answers a request whose instance is gone before it is done.
var errReset = &state.Error{Status: http.StatusServiceUnavailable, Code: "reset", Message: "The emulator has been reset", LongMessage: "The emulator has been reset meanwhile. Try again."}

// byHost is the instance whose issuer has this host, else the first.
func (w *world) byHost(host string) *instance {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	named := w.find(func(i *instance) bool {
		u, err := url.Parse(i.Issuer)
		return err == nil && u.Hostname() == host
	})
	if named == nil {
		return w.named("")
	}
	return named
}

func (s *Server) writeKeys(w http.ResponseWriter, i *instance) {
	if i == nil {
		s.write(w, nil, errNoPath)
		return
	}
	body, err := i.keys.JWKS()
	if err != nil {
		s.write(w, nil, s.internal("write the key set", err))
		return
	}
	s.write(w, json.RawMessage(body), nil)
}

// page says what is where, to who opens the address in a browser.
func (s *Server) page(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprintf(w, `This is clerkemu: a Clerk to test against.

  %[1]s/v1/…                    Clerk's Backend API; the key is in GET /_emu/instances
  %[1]s/.well-known/jwks.json   the keys of session tokens
  %[1]s/healthz
  %[1]s/_emu                    the control API:

`, s.URL())
	for _, r := range controlRoutes() {
		fmt.Fprintf(w, "  %-6s %-28s %s\n", r.Method, r.Path, r.About)
	}
	fmt.Fprintf(w, "\nInstances: ")
	for n, i := range s.world.Load().all() {
		if n > 0 {
			fmt.Fprint(w, ", ")
		}
		fmt.Fprintf(w, "%s (%s)", i.Name, i.ID)
	}
	fmt.Fprintln(w)
}
