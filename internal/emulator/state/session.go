package state

import "encoding/json"

// Session is a user's session in a client. Its events carry the user too.
type Session struct {
	ID                       string           `json:"id"`
	UserID                   string           `json:"user_id"`
	ClientID                 string           `json:"client_id"`
	Actor                    json.RawMessage  `json:"actor"` // null unless impersonated
	Status                   string           `json:"status"`
	LastActiveOrganizationID OptString        `json:"last_active_organization_id"`
	LatestActivity           *SessionActivity `json:"latest_activity"`
	LastActiveAt             int64            `json:"last_active_at"`
	ExpireAt                 int64            `json:"expire_at"`
	AbandonAt                int64            `json:"abandon_at"`
	CreatedAt                int64            `json:"created_at"`
	UpdatedAt                int64            `json:"updated_at"`
}

// SessionActivity is the device that a session was last seen on.
type SessionActivity struct {
	Object         string `json:"object"`
	ID             string `json:"id"`
	DeviceType     string `json:"device_type"`
	IsMobile       bool   `json:"is_mobile"`
	BrowserName    string `json:"browser_name"`
	BrowserVersion string `json:"browser_version"`
	IPAddress      string `json:"ip_address"`
	City           string `json:"city"`
	Country        string `json:"country"`
}

// A session's states.
const (
	SessionActive    = "active"
	SessionPending   = "pending"
	SessionEnded     = "ended"
	SessionRemoved   = "removed"
	SessionRevoked   = "revoked"
	SessionExpired   = "expired"
	SessionAbandoned = "abandoned"
	SessionReplaced  = "replaced"
)

// Live says whether the session can still be used.
func (s *Session) Live() bool { return s.Status == SessionActive || s.Status == SessionPending }

// MarshalJSON renders the session.
func (s *Session) MarshalJSON() ([]byte, error) {
	type plain Session
	return marshal(struct {
		Object string `json:"object"`
		*plain
	}{"session", (*plain)(s)})
}

// Invitation asks an e-mail address to sign up.
type Invitation struct {
	ID             string   `json:"id"`
	EmailAddress   string   `json:"email_address"`
	PublicMetadata Metadata `json:"public_metadata"`
	Status         string   `json:"status"` // pending, accepted, revoked, expired
	URL            string   `json:"url"`
	ExpiresAt      OptInt   `json:"expires_at"`
	CreatedAt      int64    `json:"created_at"`
	UpdatedAt      int64    `json:"updated_at"`
}

// MarshalJSON renders the invitation.
func (i *Invitation) MarshalJSON() ([]byte, error) {
	type plain Invitation
	return marshal(struct {
		Object  string `json:"object"`
		Revoked bool   `json:"revoked"`
		*plain
	}{"invitation", i.Status == StatusRevoked, (*plain)(i)})
}

// WaitlistEntry is an e-mail address that waits to be let in. View renders it
// with its invitation.
type WaitlistEntry struct {
	ID           string
	EmailAddress string
	Status       string // pending, invited, completed, rejected
	IsLocked     bool
	InvitationID string
	CreatedAt    int64
	UpdatedAt    int64
}

// States of invitations and waitlist entries.
const (
	StatusPending   = "pending"
	StatusAccepted  = "accepted"
	StatusRevoked   = "revoked"
	StatusExpired   = "expired"
	StatusInvited   = "invited"
	StatusCompleted = "completed"
	StatusRejected  = "rejected"
)
