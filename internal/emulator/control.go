package emulator

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/rollcall-dev/rollcall/internal/emulator/delivery"
	"github.com/rollcall-dev/rollcall/internal/emulator/state"
)

// controlRoute is an operation of the control API.
type controlRoute struct {
	Method string `json:"method"`
	Path   string `json:"path"`
	About  string `json:"about"`
	handle func(*call) (any, error)
}

// controlRoutes are all of them; GET /_emu answers this list. Bodies and
// answers are JSON, times Unix milliseconds, errors Clerk's. ?instance= takes an
// id or a name; without it "each" means all instances, else it is the first.
func controlRoutes() []controlRoute {
	return []controlRoute{
		{"GET", "/_emu", "this list", listRoutes},

		{"POST", "/_emu/tokens", "{user_id, organization_id?, version?, …} answers {jwt}: a session token, a template's (template) or a machine's (machine_id); " +
			"session_id, role, permissions, features, plans, azp, act, sts, fva, claims, issued_at, not_before, lifetime_ms, expired, not_yet_valid, flaw; " +
			"with cookies also __session and __client_uat", makeToken},
		{"POST", "/_emu/keys/rotate", "{new_kid?}: another key signs; with new_kid the old one stays in the key set for an hour", rotateKeys},

		{"GET", "/_emu/chaos", "how bad the internet is: probabilities from 0 to 1, delay_ms, clock_skew_ms", getChaos},
		{"PUT", "/_emu/chaos", "all of it, of each instance: what is absent is 0", setChaos(false)},
		{"PATCH", "/_emu/chaos", "some of it, of each instance: what is absent stays", setChaos(true)},
		{"GET", "/_emu/traffic", "{rate}, in events a second", getTraffic},
		{"PUT", "/_emu/traffic", "{rate} of each instance; 0 is none", setTraffic},
		{"POST", "/_emu/traffic", "{changes, kinds?}: makes so many changes now, of all kinds or of these such as sign_up; answers when they are made", makeTraffic},
		{"POST", "/_emu/events", "{type, data, timestamp?}: sends an event that no change has made; answers {message_id}", sendEvent},

		{"GET", "/_emu/requests", "{backend_api, jwks}: how many requests each has had since the start", countRequests},

		{"GET", "/_emu/settled", "waits ?timeout=30s until each delivery is delivered, given up, aborted or dropped: 200 with counts, else 504 with counts", getSettled},
		{"GET", "/_emu/deliveries", "the log, oldest first: ?type= state= endpoint= message= since= until= newest=true limit=100 cursor=", listDeliveries},
		{"POST", "/_emu/replay", "{message_id | failed_since | missing_since, endpoint_id?}: delivers again; answers {message_ids}", replay},
		{"GET", "/_emu/endpoints", "the webhook endpoints, with their secrets", listEndpoints},
		{"POST", "/_emu/endpoints", "{url, secret?, events?, header_family?}: adds one", addEndpoint},
		{"PATCH", "/_emu/endpoints/{id}", "{url?, events?, header_family?, disabled?}", updateEndpoint},
		{"DELETE", "/_emu/endpoints/{id}", "removes it", deleteEndpoint},
		{"POST", "/_emu/endpoints/{id}/rotate", "{secret?}: another secret signs, beside the old one for 24 hours (times the retry scale)", rotateEndpoint},

		{"GET", "/_emu/state", "the whole state, as a file to load", getState},
		{"PUT", "/_emu/state", "loads a state; a reset returns to it", putState},
		{"POST", "/_emu/reset", "all as it was at the start: state, keys, endpoints, chaos, traffic; deliveries are forgotten", resetState},
		{"GET", "/_emu/instances", "the instances, with their keys and environment", listInstances},
		{"POST", "/_emu/instances", "{name, users?, organizations?, memberships?}: adds one", addInstance},
	}
}

func countRequests(c *call) (any, error) {
	return map[string]int64{"backend_api": c.server.apiRequests.Load(), "jwks": c.server.keyRequests.Load()}, nil
}

// call is one request to the control API.
type call struct {
	*http.Request
	server   *Server
	world    *world
	instance *instance   // that of ?instance=, else the first
	each     []*instance // that of ?instance=, else all
}

// call finds the instances that a request is about.
func (s *Server) call(r *http.Request) (*call, error) {
	name := r.URL.Query().Get("instance")
	c := &call{Request: r, server: s, world: s.world.Load()}
	if c.instance = c.world.named(name); c.instance == nil {
		return nil, state.NotFound("instance", name)
	}
	if c.each = c.world.all(); name != "" {
		c.each = []*instance{c.instance}
	}
	return c, nil
}

const maxControlBody = 2 << 20 // an event of Svix's limit, and something around it

// decode reads the body, a JSON object; an empty one is the zero value. It
// refuses unknown fields: a misspelt one would be ignored otherwise.
func decode[T any](c *call) (v T, err error) {
	d := json.NewDecoder(io.LimitReader(c.Body, maxControlBody))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil && !errors.Is(err, io.EOF) {
		return v, refuse(http.StatusBadRequest, "request_body_invalid", err.Error())
	}
	if d.More() {
		return v, refuse(http.StatusBadRequest, "request_body_invalid", "there is more than one JSON value")
	}
	return v, nil
}

func refuse(status int, code, long string) *state.Error {
	return &state.Error{Status: status, Code: code, Message: http.StatusText(status), LongMessage: long}
}

// answer is a result whose status isn't 200.
type answer struct {
	status int
	body   any
}

// respond is a result that writes itself.
type respond func(http.ResponseWriter, *http.Request)

// control is the handler of the control API.
func (s *Server) control() http.Handler {
	byPath := map[string]map[string]controlRoute{}
	for _, r := range controlRoutes() {
		if byPath[r.Path] == nil {
			byPath[r.Path] = map[string]controlRoute{}
		}
		byPath[r.Path][r.Method] = r
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { s.write(w, nil, errNoPath) })
	for path, methods := range byPath {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			route, ok := methods[r.Method]
			if !ok {
				w.Header().Set("Allow", strings.Join(slices.Sorted(maps.Keys(methods)), ", "))
				s.write(w, nil, refuse(http.StatusMethodNotAllowed, "method_not_allowed", "see the Allow header, or GET /_emu"))
				return
			}
			c, err := s.call(r)
			if err != nil {
				s.write(w, nil, err)
				return
			}
			result, err := route.handle(c)
			if own, ok := result.(respond); ok && err == nil {
				own(w, r)
				return
			}
			s.write(w, result, err)
		})
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if fromElsewhere(r) {
			s.write(w, nil, refuse(http.StatusForbidden, "origin_not_allowed",
				"the control API answers no web page but its own: it has no authentication"))
			return
		}
		mux.ServeHTTP(w, r)
	})
}

var errNoPath = refuse(http.StatusNotFound, "resource_not_found", "The URL was not found. GET / says what is where.")

// fromElsewhere says whether a browser sends the request for a page of another
// origin, or for one whose name has been pointed here (DNS rebinding): such a
// name is a public one, so it has a dot.
func fromElsewhere(r *http.Request) bool {
	origin, site := r.Header.Get("Origin"), r.Header.Get("Sec-Fetch-Site")
	if origin == "" && (site == "" || site == "none") {
		return false // no page's
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(r.Host); err == nil {
		host = h
	}
	local := net.ParseIP(strings.Trim(host, "[]")) != nil || !strings.Contains(host, ".") || strings.HasSuffix(host, ".localhost")
	if origin != "" {
		u, err := url.Parse(origin)
		return err != nil || u.Host != r.Host || !local
	}
	return site != "same-origin" || !local
}

// write answers a result or an error.
func (s *Server) write(w http.ResponseWriter, result any, err error) {
	status := http.StatusOK
	if a, ok := result.(answer); ok {
		status, result = a.status, a.body
	}
	if err != nil {
		refused := s.refusal(err)
		status, result = refused.Status, map[string]any{"errors": []*state.Error{refused}}
	}
	writeJSON(w, status, result)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // a failure is the client's loss: v is of strings and numbers
}

// refusal is how an error is answered. What isn't known to be ours is the
// request's: the values it has are checked by whom they are for.
func (s *Server) refusal(err error) *state.Error {
	if refused := (*state.Error)(nil); errors.As(err, &refused) {
		return refused
	}
	for _, known := range []struct {
		is     error
		status int
		code   string
	}{
		{delivery.ErrNoEndpoint, http.StatusNotFound, "resource_not_found"},
		{delivery.ErrNoMessage, http.StatusNotFound, "resource_not_found"},
		{delivery.ErrDisabled, http.StatusConflict, "endpoint_disabled"},
		{delivery.ErrClosed, http.StatusServiceUnavailable, "stopping"},
	} {
		if errors.Is(err, known.is) {
			return refuse(known.status, known.code, err.Error())
		}
	}
	return refuse(http.StatusUnprocessableEntity, "form_param_value_invalid", err.Error())
}

func listRoutes(*call) (any, error) {
	return map[string]any{"routes": controlRoutes()}, nil
}

// invalid names a field and what it must be.
func invalid(field, format string, args ...any) error {
	return state.Invalid(field, fmt.Sprintf(format, args...))
}
