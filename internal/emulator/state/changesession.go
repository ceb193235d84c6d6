package state

import (
	"cmp"
	"net/http"
	"slices"
	"strings"
)

const (
	sessionDays = 7
	abandonDays = 30
)

// CreateSession signs a user in. That changes the user too: last_sign_in_at.
func (in *Instance) CreateSession(req Request, p SessionParams) (*Session, error) {
	c := in.begin(req)
	defer c.end()
	u := c.users.get(p.UserID)
	switch {
	case p.UserID == "":
		return nil, Missing("user_id")
	case u == nil:
		return nil, NotFound("user", p.UserID)
	case u.Banned:
		return nil, forbidden("user_banned", "Sign in is currently not possible: the user is banned.")
	case u.Locked:
		return nil, forbidden("user_locked", "Your account is locked. You will be able to try again in 1 hour.")
	case p.ActiveOrganizationID != "" && c.membership(p.ActiveOrganizationID, p.UserID) == nil:
		return nil, NotFound("organization of the user", p.ActiveOrganizationID)
	}
	s := &Session{
		ID: c.newID("sess_"), UserID: u.ID, ClientID: cmp.Or(p.ClientID, c.newID("client_")), Status: SessionActive,
		LastActiveOrganizationID: OptString(p.ActiveOrganizationID), LatestActivity: c.activity(), UpdatedAt: c.tick(),
	}
	if !absent(p.Actor) {
		s.Actor = slices.Clone(p.Actor)
	}
	s.CreatedAt, s.LastActiveAt = s.UpdatedAt, s.UpdatedAt
	s.ExpireAt, s.AbandonAt = s.CreatedAt+sessionDays*dayMillis, s.CreatedAt+abandonDays*dayMillis
	kind := "session.created"
	if p.Pending {
		s.Status, kind = SessionPending, "session.pending"
	}
	c.addSession(s)
	signedIn := *u
	signedIn.LastSignInAt, signedIn.LastActiveAt = OptInt(s.CreatedAt), OptInt(s.CreatedAt)
	signedIn.EnterpriseAccounts = slices.Clone(u.EnterpriseAccounts)
	for i := range signedIn.EnterpriseAccounts {
		signedIn.EnterpriseAccounts[i].LastAuthenticatedAt = OptInt(s.CreatedAt)
	}
	signedIn.UpdatedAt = c.advance(u.UpdatedAt)
	c.users.put(&signedIn)
	c.emit(kind, s.ID, c.sessionEvent(s))
	c.emit("user.updated", u.ID, &signedIn)
	return s, nil
}

func (c *change) sessionEvent(s *Session) sessionEvent {
	return sessionEvent{Object: "session", sessionFields: (*sessionFields)(s), User: c.users.get(s.UserID).rendered()}
}

// activity describes the device that the request came from, nil for none.
func (c *change) activity() *SessionActivity {
	if c.req.UserAgent == "" {
		return nil
	}
	a := &SessionActivity{
		Object: "session_activity", ID: c.newID("sess_activity_"), DeviceType: "desktop", BrowserName: "Chrome",
		BrowserVersion: "128.0", IPAddress: c.req.ClientIP, IsMobile: strings.Contains(c.req.UserAgent, "Mobile"),
	}
	if a.IsMobile {
		a.DeviceType = "mobile"
	}
	return a
}

// moveSession stores a session in another status and emits it, unless the event
// is "".
func (c *change) moveSession(old *Session, status, event string) *Session {
	s := *old
	s.Status, s.UpdatedAt = status, c.advance(s.UpdatedAt)
	c.sessions.put(&s)
	if event != "" {
		c.emit(event, s.ID, c.sessionEvent(&s))
	}
	return &s
}

// endSession moves a live session; one that has ended stays as it is, and
// nothing is emitted.
func (in *Instance) endSession(req Request, id, status, event string) (*Session, error) {
	c := in.begin(req)
	defer c.end()
	s := c.sessions.get(id)
	if s == nil {
		return nil, NotFound("session", id)
	}
	if !s.Live() {
		return s, nil
	}
	return c.moveSession(s, status, event), nil
}

// ActivateSession ends a pending session's tasks.
func (in *Instance) ActivateSession(req Request, id string) (*Session, error) {
	c := in.begin(req)
	defer c.end()
	s := c.sessions.get(id)
	if s == nil {
		return nil, NotFound("session", id)
	}
	if s.Status != SessionPending {
		return nil, refused(http.StatusBadRequest, "session_not_pending", "The session is not pending but "+s.Status+".")
	}
	return c.moveSession(s, SessionActive, "session.created"), nil
}

// TouchSession notes activity, and the active organization unless it is nil ("" is
// none). No event exists for it.
func (in *Instance) TouchSession(req Request, id string, activeOrganizationID *string) (*Session, error) {
	c := in.begin(req)
	defer c.end()
	old := c.sessions.get(id)
	if old == nil {
		return nil, NotFound("session", id)
	}
	if !old.Live() {
		return nil, refused(http.StatusBadRequest, "session_not_active", "The session is "+old.Status+".")
	}
	if org := activeOrganizationID; org != nil && *org != "" && c.membership(*org, old.UserID) == nil {
		return nil, NotFound("organization of the user", *org)
	}
	s := *old
	setText(&s.LastActiveOrganizationID, activeOrganizationID)
	s.LastActiveAt = c.tick()
	c.sessions.put(&s)
	u := *c.users.get(s.UserID)
	u.LastActiveAt = OptInt(s.LastActiveAt)
	c.users.put(&u)
	return &s, nil
}

// EndSession signs out of a session.
func (in *Instance) EndSession(req Request, id string) (*Session, error) {
	return in.endSession(req, id, SessionEnded, "session.ended")
}

// RemoveSession signs out of a session and removes it from its client.
func (in *Instance) RemoveSession(req Request, id string) (*Session, error) {
	return in.endSession(req, id, SessionRemoved, "session.removed")
}

// RevokeSession ends a session from the outside.
func (in *Instance) RevokeSession(req Request, id string) (*Session, error) {
	return in.endSession(req, id, SessionRevoked, "session.revoked")
}

// ExpireSession lets a session reach its expire_at. No event exists for it.
func (in *Instance) ExpireSession(req Request, id string) (*Session, error) {
	return in.endSession(req, id, SessionExpired, "")
}
