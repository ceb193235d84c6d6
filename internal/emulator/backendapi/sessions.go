package backendapi

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/rollcall-dev/rollcall/internal/emulator/state"
)

// The life of a session's token may be asked for between these.
const (
	minTokenLife = 30
	maxTokenLife = 315360000
)

func listSessions(r *request) (any, error) {
	q := r.query()
	userID, clientID := q.text("user_id"), q.text("client_id")
	status := q.oneOf("status", state.SessionAbandoned, state.SessionActive, state.SessionEnded, state.SessionExpired,
		state.SessionRemoved, state.SessionReplaced, state.SessionRevoked, state.SessionPending)
	p := q.page()
	if userID == "" && clientID == "" {
		return nil, errOneOfQuery("client_id", "user_id")
	}
	all := r.inst.Sessions
	if userID != "" {
		all = func() []*state.Session { return r.inst.SessionsOfUser(userID) }
	}
	found := where(all(), func(s *state.Session) bool {
		return (clientID == "" || s.ClientID == clientID) && (status == "" || s.Status == status)
	})
	return maybePaged(r, q, found, newestFirst[*state.Session](), p)
}

// session is the one of the path.
func (r *request) session() (*state.Session, error) {
	id := r.PathValue("session_id")
	if s := r.inst.Session(id); s != nil {
		return s, nil
	}
	return nil, errSession(id)
}

func errSession(id string) *apiError {
	return fail(http.StatusNotFound, "resource_not_found", "Session not found", "No session was found with id "+id)
}

func getSession(r *request) (any, error) { return r.show(r.session()) }

// createSession is for tests; Clerk has it for development instances only.
func createSession(r *request) (any, error) {
	b, err := r.object()
	if err != nil {
		return nil, err
	}
	p := state.SessionParams{
		UserID: b.required("user_id"), ActiveOrganizationID: b.text("active_organization_id").value,
	}
	if err := b.err(); err != nil {
		return nil, err
	}
	return r.show(r.inst.CreateSession(r.change(), p))
}

func revokeSession(r *request) (any, error) {
	if _, err := r.session(); err != nil {
		return nil, err
	}
	return r.show(r.inst.RevokeSession(r.change(), r.PathValue("session_id")))
}

type jwt struct {
	Object string `json:"object"`
	JWT    string `json:"jwt"`
}

// createToken signs a session token, or one of the path's template.
func createToken(r *request) (any, error) {
	b, err := r.object()
	if err != nil {
		return nil, err
	}
	life := b.integer("expires_in_seconds")
	if life.has() && (life.value < minTokenLife || life.value > maxTokenLife) {
		b.reject(formFormat("expires_in_seconds", fmt.Sprintf("expires_in_seconds must be between %d and %d.", minTokenLife, maxTokenLife)))
	}
	if err := b.err(); err != nil {
		return nil, err
	}
	s, err := r.session()
	if err != nil {
		return nil, err
	}
	if !s.Live() {
		return nil, errSession(s.ID) // no token for who signed out
	}
	return r.token(TokenRequest{
		Session: s, Template: r.PathValue("template_name"), Life: time.Duration(life.value) * time.Second,
	})
}

func (r *request) token(t TokenRequest) (any, error) {
	if r.Token == nil {
		return nil, errNotFound
	}
	signed, err := r.Token(r.inst, t)
	if errors.Is(err, ErrNoTemplate) {
		return nil, fail(http.StatusNotFound, "resource_not_found", "JWT template not found",
			"No JWT template exists with name: "+t.Template)
	}
	if err != nil {
		return nil, fmt.Errorf("sign a token for session %s: %w", t.Session.ID, err)
	}
	return jwt{"token", signed}, nil
}

// refreshSession answers a new token for an expired one. Refresh tokens come
// from the Frontend API, which isn't emulated, so any one is taken.
func refreshSession(r *request) (any, error) {
	b, err := r.object()
	if err != nil {
		return nil, err
	}
	b.required("expired_token")
	b.required("refresh_token")
	b.required("request_origin")
	format := b.oneOf("format", "token", "cookie").or("token")
	b.ignore("request_headers", "request_originating_ip")
	if err := b.err(); err != nil {
		return nil, err
	}
	s := r.inst.Session(r.PathValue("session_id"))
	switch {
	case s == nil:
		return nil, fail(http.StatusUnauthorized, "session_refresh_session_not_found", "Session not found",
			"No session was found with id "+r.PathValue("session_id"))
	case s.Status != state.SessionActive:
		return nil, fail(http.StatusUnauthorized, "session_refresh_inactive_session", "session inactive",
			"The provided session is not active")
	}
	answer, err := r.token(TokenRequest{Session: s})
	if err != nil || format == "token" {
		return answer, err
	}
	return struct {
		Object  string   `json:"object"`
		Cookies []string `json:"cookies"`
	}{"cookies", []string{"__session=" + answer.(jwt).JWT + "; Path=/; SameSite=Lax"}}, nil
}
