package backendapi

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/rollcall-dev/rollcall/internal/emulator/state"
)

const defaultMaxBody = 1 << 20

// apiVersions are those a request may ask for, oldest first. One that asks
// for none gets the newest, as an instance does whose owner keeps up.
var apiVersions = []string{"2021-02-05", "2024-10-01", "2025-03-12", "2025-04-10", "2025-11-10", "2026-05-12"}

// The version from which an update of a user or an organization no longer
// takes metadata.
const versionNoMetadataInUpdate = "2026-05-12"

// Options say what the API stands on.
type Options struct {
	// Instance finds an instance by its secret key; nil: there is none.
	Instance func(secretKey string) *state.Instance

	// JWKS answers an instance's JSON Web Key Set. Nil: an empty set.
	JWKS func(*state.Instance) ([]byte, error)

	// Token signs a token for a session. Nil: tokens cannot be made, and the
	// requests that make them answer 404.
	Token func(*state.Instance, TokenRequest) (string, error)

	// KeepUpdatedAt says of each change whether it leaves updated_at as it
	// was. Nil: none does.
	KeepUpdatedAt func(*state.Instance) bool

	// Fault says of each request that was admitted what goes wrong with it. Nil:
	// nothing.
	Fault func(*state.Instance) Fault

	Now       func() time.Time // Clerk's clock: the Date header, rate limit, times of changes; nil: time.Now
	RateLimit *RateLimit       // for each instance; nil: DefaultRateLimit
	MaxBody   int64            // bytes of a request's body; 0: 1 MiB
	Logger    *zap.Logger      // errors that are ours; nil: none
}

// A TokenRequest is what a session's token is to say.
type TokenRequest struct {
	Session  *state.Session
	Template string        // of a JWT template; "" for a session token
	Life     time.Duration // 0: the default
}

// ErrNoTemplate is what Options.Token answers to a template it doesn't know.
var ErrNoTemplate = errors.New("backendapi: no such JWT template")

// New returns Clerk's Backend API, under /v1.
func New(o Options) http.Handler {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.RateLimit == nil {
		o.RateLimit = &DefaultRateLimit
	}
	if o.MaxBody == 0 {
		o.MaxBody = defaultMaxBody
	}
	if o.Logger == nil {
		o.Logger = zap.NewNop()
	}
	s := &server{Options: o, limiter: newLimiter(*o.RateLimit), mux: http.NewServeMux()}
	byPattern := map[string]methods{}
	for _, r := range routes {
		if byPattern[r.pattern] == nil {
			byPattern[r.pattern] = methods{}
		}
		byPattern[r.pattern][r.method] = r
	}
	for pattern, m := range byPattern {
		s.mux.HandleFunc("/v1"+pattern, func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, m) })
	}
	return s
}

type server struct {
	Options
	limiter *limiter
	mux     *http.ServeMux
}

// A route is an operation of the specification.
type route struct {
	method, pattern string // a pattern as in the specification, without /v1
	handle          func(*request) (any, error)
}

// methods are the routes of one pattern.
type methods map[string]route

// A request is one that passed: its key is good and its instance within its rate.
type request struct {
	*http.Request
	*server
	inst    *state.Instance
	version string
	now     time.Time
}

// change is the request as state records it with a change.
func (r *request) change() state.Request {
	ip, _, _ := net.SplitHostPort(r.RemoteAddr)
	return state.Request{
		ClientIP: ip, UserAgent: r.UserAgent(),
		KeepUpdatedAt: r.KeepUpdatedAt != nil && r.KeepUpdatedAt(r.inst),
	}
}

// query begins to read the request's parameters.
func (r *request) query() *query { return &query{values: r.URL.Query()} }

// object begins to read the request's body.
func (r *request) object() (*body, error) { return readObject(r.Request) }

// show renders what a change answered.
func (r *request) show(resource any, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return r.inst.View(resource), nil
}

// raw is an answer that is JSON already.
type raw []byte

// noContent is the answer without a body, 204.
type noContent struct{}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Date", s.Now().UTC().Format(http.TimeFormat))
	if _, pattern := s.mux.Handler(r); pattern == "" {
		s.answer(w, nil, errURLNotFound)
		return
	}
	s.mux.ServeHTTP(w, r)
}

func (s *server) serve(w http.ResponseWriter, r *http.Request, m methods) {
	route, ok := m[r.Method]
	if !ok {
		w.Header().Set("Allow", strings.Join(slices.Sorted(maps.Keys(m)), ", "))
		s.answer(w, nil, errMethod)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, s.MaxBody)
	req, err := s.admit(w, r, route)
	if err != nil {
		s.answer(w, nil, err)
		return
	}
	if s.Fault != nil {
		var ok bool
		if w, ok = s.fail(w, req); !ok {
			return
		}
	}
	result, err := route.handle(req)
	s.answer(w, result, err)
}

// admit finds the instance by the secret key and counts the request.
func (s *server) admit(w http.ResponseWriter, r *http.Request, route route) (*request, error) {
	key, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok || key == "" {
		return nil, errHeaderFormat
	}
	inst := s.Instance(key)
	if inst == nil {
		return nil, errSecretKey
	}
	version, err := apiVersion(r)
	if err != nil {
		return nil, err
	}
	now := s.Now()
	if route.pattern != "/jwks" { // Clerk doesn't count these
		if wait, ok := s.limiter.take(inst.ID, now); !ok {
			w.Header().Set("Retry-After", strconv.Itoa(max(1, int(math.Ceil(wait.Seconds())))))
			return nil, errTooManyRequests
		}
	}
	return &request{Request: r, server: s, inst: inst, version: version, now: now}, nil
}

// apiVersion reads the version from the header or the query, never from both.
func apiVersion(r *http.Request) (string, error) {
	header, query := r.Header.Get("Clerk-API-Version"), r.URL.Query().Get("__clerk_api_version")
	if header != "" && query != "" {
		return "", errAPIVersion(header + " and " + query)
	}
	version := header + query
	if version == "" {
		return apiVersions[len(apiVersions)-1], nil
	}
	if !slices.Contains(apiVersions, version) {
		return "", errAPIVersion(version)
	}
	return version, nil
}

// answer writes a result or an error. The Content-Type has no parameters:
// @clerk/backend takes a body for JSON only then.
func (s *server) answer(w http.ResponseWriter, result any, err error) {
	trace := traceID()
	w.Header().Set("X-Clerk-Trace-Id", trace)
	status, data := http.StatusOK, []byte(nil)
	if err == nil {
		data, err = encode(result)
	}
	if err != nil {
		known, ok := asAPIError(err)
		if !ok {
			s.Logger.Error("Backend API request failed", zap.String("trace_id", trace), zap.Error(err))
		}
		status, data = known.status, known.body(trace)
	}
	if data == nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(data) // the client's loss
}

func encode(result any) ([]byte, error) {
	switch result := result.(type) {
	case noContent:
		return nil, nil
	case raw:
		return result, nil
	}
	data, err := json.Marshal(result)
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", result, err)
	}
	return data, nil
}

// asAPIError finds the answer to an error; ok is false where it is not the
// client's, but ours.
func asAPIError(err error) (_ *apiError, ok bool) {
	if refused := (*state.Error)(nil); errors.As(err, &refused) {
		return &apiError{refused.Status, []errorItem{{refused.Message, refused.LongMessage, refused.Code, refused.Meta}}}, true
	}
	if known := (*apiError)(nil); errors.As(err, &known) {
		return known, true
	}
	return errUnexpected, false
}

func traceID() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	return hex.EncodeToString(id[:])
}
