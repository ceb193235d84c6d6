package streams

import "encoding/json"

// Session is the data of session.created, .pending, .ended, .removed and
// .revoked. A session's events may share one UpdatedAt; Status tells them
// apart.
//
// Source: SessionEventPayload of Clerk's webhook specification.
type Session struct {
	Object                   string           `json:"object"`
	ID                       string           `json:"id"`
	UserID                   string           `json:"user_id"`
	User                     *User            `json:"user"` // as it was then
	ClientID                 string           `json:"client_id"`
	Actor                    json.RawMessage  `json:"actor"`  // who impersonates the user; null where no one does
	Status                   string           `json:"status"` // "active", "pending", "ended", "removed", "revoked", "expired", "abandoned", "replaced"
	LastActiveOrganizationID string           `json:"last_active_organization_id"`
	LastActiveAt             Millis           `json:"last_active_at"`
	LatestActivity           *SessionActivity `json:"latest_activity"`
	ExpireAt                 Millis           `json:"expire_at"`
	AbandonAt                Millis           `json:"abandon_at"`
	CreatedAt                Millis           `json:"created_at"`
	UpdatedAt                Millis           `json:"updated_at"`

	Raw json.RawMessage `json:"-"`
}

// SessionActivity is where a [Session] was last used.
type SessionActivity struct {
	Object         string `json:"object"`
	ID             string `json:"id"`
	DeviceType     string `json:"device_type"`
	IsMobile       bool   `json:"is_mobile"`
	BrowserName    string `json:"browser_name"`
	BrowserVersion string `json:"browser_version"`
	IPAddress      string `json:"ip_address"`
	City           string `json:"city"`
	Country        string `json:"country"` // ISO 3166-1, two letters
}

// Email is the data of email.created. Unless ingest is told to keep them, the
// fields that carry a one-time code are null in the log; [Event.Redacted]
// names them.
//
// Source: EmailEventPayload of Clerk's webhook specification.
type Email struct {
	Object           string          `json:"object"`
	ID               string          `json:"id"`
	Slug             string          `json:"slug"` // the template: "verification_code", …
	FromEmailName    string          `json:"from_email_name"`
	ReplyToEmailName string          `json:"reply_to_email_name"`
	ToEmailAddress   string          `json:"to_email_address"`
	EmailAddressID   string          `json:"email_address_id"`
	UserID           string          `json:"user_id"`
	Subject          string          `json:"subject"`
	Body             string          `json:"body"` // HTML
	BodyPlain        string          `json:"body_plain"`
	Status           string          `json:"status"`
	Data             json.RawMessage `json:"data"` // what the template was filled with
	DeliveredByClerk bool            `json:"delivered_by_clerk"`

	Raw json.RawMessage `json:"-"`
}

// SMS is the data of sms.created. Unless ingest is told to keep them, the
// fields that carry a one-time code are null in the log; [Event.Redacted]
// names them.
//
// Source: SmsEventPayload of Clerk's webhook specification; created_at from
// its example.
type SMS struct {
	Object           string          `json:"object"`
	ID               string          `json:"id"`
	Slug             string          `json:"slug"` // the template
	FromPhoneNumber  string          `json:"from_phone_number"`
	ToPhoneNumber    string          `json:"to_phone_number"`
	PhoneNumberID    string          `json:"phone_number_id"`
	UserID           string          `json:"user_id"`
	Message          string          `json:"message"`
	Status           string          `json:"status"`
	Data             json.RawMessage `json:"data"` // what the template was filled with
	DeliveredByClerk bool            `json:"delivered_by_clerk"`
	CreatedAtMs      Millis          `json:"created_at_ms"` // the specification has this one,
	CreatedAt        Millis          `json:"created_at"`    // its example this one

	Raw json.RawMessage `json:"-"`
}
