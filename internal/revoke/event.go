package revoke

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rollcall-dev/rollcall/internal/revocation"
	"github.com/rollcall-dev/rollcall/streams"
)

// cutoff is an entry to be written.
type cutoff struct {
	key, reason, eventID string
	at                   int64 // milliseconds since 1970
}

// fact is what an event says of a membership or a role that is remembered.
type fact struct {
	key     string // of the memory
	at      int64  // the envelope's timestamp
	action  string
	eventID string
	// entries are what is cut off where the fact differs from what is remembered.
	entries     []string
	role        string // its key
	permissions string // a digest; "" where the event has none
	deleted     bool
}

// verdict is what one event comes to.
type verdict struct {
	cutoffs []cutoff
	fact    *fact
}

// objects are the resources that are read, in Clerk's names.
func objects() []string {
	return []string{"user", "session", "organization", "organizationMembership", "role"}
}

// maxAhead is how far an event may lie in the future: a wrong clock must not lock
// people out for years.
const maxAhead = revocation.Slack

// read says what an event comes to, where anything.
func (s *Sink) read(m streams.Message) (verdict, error) {
	e, err := streams.ParseEvent(m.Header, m.Data)
	if err != nil {
		return verdict{}, err
	}
	at := e.Timestamp
	if at.IsZero() {
		at = m.Time
	}
	if limit := s.now().Add(maxAhead); at.After(limit) {
		at = limit
	}
	r := reader{event: e, at: at.UnixMilli(), lock: s.OnLock}
	_, r.action, _ = streams.SplitType(e.Type)
	data, err := e.Payload()
	if err != nil {
		return verdict{}, err
	}
	switch data := data.(type) {
	case *streams.User:
		return r.user(data)
	case *streams.Session:
		return r.session(data)
	case *streams.OrganizationMembership:
		return r.membership(data)
	case *streams.Role:
		return r.role(data)
	case *streams.Deleted:
		return r.deleted(data)
	}
	return verdict{}, nil
}

type reader struct {
	event  streams.Event
	action string
	at     int64
	lock   bool // cuts off
}

func (r reader) cut(reason string, kind revocation.Kind, ids ...string) (verdict, error) {
	if slices.Contains(ids, "") {
		return verdict{}, fmt.Errorf("%s names nobody: an id is missing", r.event.Type)
	}
	return verdict{cutoffs: []cutoff{{revocation.Key(kind, ids...), reason, r.event.ID, r.at}}}, nil
}

func (r reader) user(u *streams.User) (verdict, error) {
	switch {
	case u.Banned:
		return r.cut("user.banned", revocation.User, u.ID)
	case u.Deprovisioned:
		return r.cut("user.deprovisioned", revocation.User, u.ID)
	case u.Locked && r.lock:
		return r.cut("user.locked", revocation.User, u.ID)
	}
	return verdict{}, nil
}

func (r reader) session(s *streams.Session) (verdict, error) {
	for _, status := range []string{r.action, s.Status} {
		switch status {
		case "ended", "removed", "revoked", "expired", "abandoned", "replaced":
			return r.cut("session."+status, revocation.Session, s.ID)
		}
	}
	return verdict{}, nil
}

func (r reader) membership(m *streams.OrganizationMembership) (verdict, error) {
	var org, user string
	if m.Organization != nil {
		org = m.Organization.ID
	}
	if m.PublicUserData != nil {
		user = m.PublicUserData.UserID
	}
	if org == "" || user == "" || m.ID == "" {
		return verdict{}, errors.New("a membership without its own id, its organization's or its user's")
	}
	f := &fact{
		key: memoryPrefix + "member." + streams.Key(m.ID), at: r.at, action: r.action, eventID: r.event.ID,
		entries: []string{revocation.Key(revocation.Member, org, user)}, role: roleKey(m.Role), permissions: digest(m.Permissions),
	}
	if r.action != "deleted" {
		return verdict{fact: f}, nil
	}
	f.deleted = true
	v, err := r.cut("organizationMembership.deleted", revocation.Member, org, user)
	v.fact = f
	return v, err
}

func (r reader) role(role *streams.Role) (verdict, error) {
	if role.ID == "" || role.Key == "" {
		return verdict{}, errors.New("a role without id or key")
	}
	permissions := make([]string, 0, len(role.Permissions))
	for _, p := range role.Permissions {
		permissions = append(permissions, p.Key)
	}
	return verdict{fact: &fact{
		key: memoryPrefix + "role." + streams.Key(role.ID), at: r.at, action: r.action, eventID: r.event.ID,
		role: roleKey(role.Key), permissions: digest(permissions),
		entries: []string{revocation.Key(revocation.Role, roleKey(role.Key))},
	}}, nil
}

func (r reader) deleted(d *streams.Deleted) (verdict, error) {
	switch r.event.Type {
	case "user.deleted":
		return r.cut("user.deleted", revocation.User, d.ID)
	case "organization.deleted":
		return r.cut("organization.deleted", revocation.Organization, d.ID)
	case "role.deleted":
		if d.ID == "" {
			return verdict{}, errors.New("role.deleted names no role")
		}
		return verdict{fact: &fact{key: memoryPrefix + "role." + streams.Key(d.ID), at: r.at, action: r.action, eventID: r.event.ID, deleted: true}}, nil
	}
	return verdict{}, nil
}

// roleKey is a role's key as tokens have it once they are read.
func roleKey(key string) string {
	if key == "" || strings.HasPrefix(key, "org:") {
		return key
	}
	return "org:" + key
}

// digest of a set; "" of none known.
func digest(permissions []string) string {
	if permissions == nil {
		return ""
	}
	sum := sha256.Sum256([]byte(strings.Join(slices.Sorted(slices.Values(permissions)), "\n")))
	return hex.EncodeToString(sum[:8])
}

// memory is what is remembered of a membership or a role: what the latest event
// of it said.
type memory struct {
	At          int64  `json:"at"`
	Role        string `json:"role"`
	Permissions string `json:"permissions,omitempty"` // digest
	Deleted     bool   `json:"deleted,omitempty"`
}

// lateEvents is for how long something deleted is remembered: longer than Svix
// retries.
const lateEvents = 48 * time.Hour

// learn adds a fact, and says what it cuts off and whether the memory changed.
// Whatever the order of events, a cut-off is written at or after the last change:
// of two neighbours that differ, whichever comes later meets a memory that is the
// other, or later than it.
func (m *memory) learn(f *fact) (cuts []cutoff, changed bool) {
	if m.Deleted && !f.deleted {
		return nil, false
	}
	known := m.At != 0
	if f.deleted {
		if known && len(f.entries) == 0 && !m.Deleted { // a role's deletion has its id alone
			cuts = f.cut("role.deleted", f.at, revocation.Key(revocation.Role, m.Role))
		}
		changed = !m.Deleted
		*m = memory{At: max(m.At, f.at), Role: m.Role, Deleted: true}
		return cuts, changed
	}
	permissionsDiffer := known && f.permissions != "" && m.Permissions != "" && f.permissions != m.Permissions
	switch isRole := strings.HasPrefix(f.key, memoryPrefix+"role."); {
	case known && f.role != m.Role:
		entries := f.entries
		if isRole { // tokens still have the key of before
			entries = append(slices.Clip(entries), revocation.Key(revocation.Role, m.Role))
		}
		cuts = f.cut("role.changed", max(f.at, m.At), entries...)
	case permissionsDiffer:
		cuts = f.cut("permissions.changed", max(f.at, m.At), f.entries...)
	case !known && f.action == "updated":
		cuts = f.cut("maybe.changed", f.at, f.entries...)
	}
	before := *m
	if f.at >= m.At { // also where nothing else changes: what is older has to be told from what is newer
		m.At, m.Role = f.at, f.role
		if f.permissions != "" {
			m.Permissions = f.permissions
		}
	}
	return cuts, *m != before
}

func (f *fact) cut(reason string, at int64, keys ...string) (cuts []cutoff) {
	for _, key := range keys {
		cuts = append(cuts, cutoff{key, reason, f.eventID, at})
	}
	return cuts
}
