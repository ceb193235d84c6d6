package state

import "encoding/json"

// Request is the HTTP request that a change came with.
type Request struct {
	ClientIP  string // of event_attributes; may be empty
	UserAgent string
	// KeepUpdatedAt makes a change of something that exists leave its
	// updated_at as it was.
	KeepUpdatedAt bool
}

// UserParams describe a user to create. Metadata are JSON objects.
type UserParams struct {
	ExternalID                string
	FirstName                 string
	LastName                  string
	Locale                    string
	Username                  string
	EmailAddresses            []string // the first becomes the primary one
	PhoneNumbers              []string // E.164
	Unverified                bool     // the addresses and numbers; else verified by "admin"
	PublicMetadata            json.RawMessage
	PrivateMetadata           json.RawMessage
	UnsafeMetadata            json.RawMessage
	Password                  bool
	TOTP                      bool
	BackupCodes               bool
	DeleteSelfEnabled         *bool // default true
	CreateOrganizationEnabled *bool // default true
	CreateOrganizationsLimit  int64 // 0: no limit of its own
	BypassClientTrust         bool
	Banned                    bool
	Locked                    bool
	LegalAcceptedAt           int64 // Unix ms
	CreatedAt                 int64 // Unix ms; default now
}

// UserUpdate says what to change: only what is not nil. An empty string clears.
type UserUpdate struct {
	ExternalID                *string
	FirstName                 *string
	LastName                  *string
	Locale                    *string
	Username                  *string
	PrimaryEmailAddressID     *string
	PrimaryPhoneNumberID      *string
	ImageID                   *string         // an upload's name; "" removes the picture
	PublicMetadata            json.RawMessage // replaces it whole
	PrivateMetadata           json.RawMessage
	UnsafeMetadata            json.RawMessage
	PasswordEnabled           *bool
	TOTPEnabled               *bool
	BackupCodeEnabled         *bool
	DeleteSelfEnabled         *bool
	CreateOrganizationEnabled *bool
	CreateOrganizationsLimit  *int64
	BypassClientTrust         *bool
	LegalAcceptedAt           *int64 // Unix ms
	CreatedAt                 *int64 // Unix ms
}

// MetadataPatch is merged deeply into metadata: null removes a key, absent
// (nil) leaves a kind alone. Unsafe is for users only.
type MetadataPatch struct {
	Public  json.RawMessage
	Private json.RawMessage
	Unsafe  json.RawMessage
}

// ExternalAccountParams describe an account with a social provider.
type ExternalAccountParams struct {
	Provider       string // oauth_google
	ProviderUserID string // made if empty
	EmailAddress   string // becomes one of the user's, if new
	FirstName      string
	LastName       string
	Username       string
	Scopes         string
}

// EnterpriseAccountParams describe an account with an enterprise connection.
type EnterpriseAccountParams struct {
	Protocol       string // saml (default), oauth
	Provider       string // default saml_custom
	EmailAddress   string
	FirstName      string
	LastName       string
	ProviderUserID string // made if empty
	ConnectionID   string // made if empty
}

// OrganizationParams describe an organization to create.
type OrganizationParams struct {
	Name                  string
	Slug                  string // made of the name if empty
	CreatedBy             string // becomes its first member, if given
	PublicMetadata        json.RawMessage
	PrivateMetadata       json.RawMessage
	MaxAllowedMemberships *int64 // default 5, 0 is no limit
	CreatedAt             int64  // Unix ms; default now
}

// OrganizationUpdate says what to change: only what is not nil.
type OrganizationUpdate struct {
	Name                  *string
	Slug                  *string
	ImageID               *string // an upload's name; "" removes the logo
	PublicMetadata        json.RawMessage
	PrivateMetadata       json.RawMessage
	MaxAllowedMemberships *int64
	AdminDeleteEnabled    *bool
	CreatedAt             *int64 // Unix ms
}

// MembershipParams describe a membership to create.
type MembershipParams struct {
	OrganizationID  string
	UserID          string
	Role            string // a role's key
	PublicMetadata  json.RawMessage
	PrivateMetadata json.RawMessage
}

// OrganizationInvitationParams describe an invitation to an organization.
type OrganizationInvitationParams struct {
	OrganizationID  string
	EmailAddress    string
	Role            string // a role's key
	InviterUserID   string // optional
	PublicMetadata  json.RawMessage
	PrivateMetadata json.RawMessage
	RedirectURL     string
	ExpiresInDays   int // default 30
}

// InvitationParams describe an invitation to sign up.
type InvitationParams struct {
	EmailAddress   string
	PublicMetadata json.RawMessage
	RedirectURL    string
	ExpiresInDays  int  // default 30
	IgnoreExisting bool // invite although a user or an invitation has the address
}

// DomainParams describe an organization's domain.
type DomainParams struct {
	OrganizationID          string
	Name                    string // acme.com
	EnrollmentMode          string // default manual_invitation
	AffiliationEmailAddress string
	Verified                bool
}

// DomainUpdate says what to change: only what is not nil.
type DomainUpdate struct {
	EnrollmentMode *string
	Verified       *bool
}

// RoleParams describe a role. Permissions are ids or keys.
type RoleParams struct {
	Name        string
	Key         string // org:billing_manager
	Description string
	Permissions []string
}

// RoleUpdate says what to change: only what is not nil.
type RoleUpdate struct {
	Name        *string
	Key         *string
	Description *string
	Permissions *[]string // ids or keys
}

// PermissionParams describe a permission of the application's own.
type PermissionParams struct {
	Name        string
	Key         string // org:invoices:read
	Description string
}

// PermissionUpdate says what to change: only what is not nil.
type PermissionUpdate struct {
	Name        *string
	Key         *string
	Description *string
}

// SessionParams describe a sign-in.
type SessionParams struct {
	UserID               string
	ClientID             string // made if empty
	ActiveOrganizationID string
	Actor                json.RawMessage // of an impersonation
	Pending              bool            // tasks remain: session.pending until ActivateSession
}

// SubscriptionParams describe a subscription with one item. One of UserID and
// OrganizationID is the payer.
type SubscriptionParams struct {
	UserID         string
	OrganizationID string
	Plan           string // a plan's slug
	Annual         bool
	FreeTrial      bool
	Seats          int64
}

// ItemParams describe a further item of a subscription.
type ItemParams struct {
	SubscriptionID string
	Plan           string // a plan's slug
	Annual         bool
	Seats          int64
	Status         string // default upcoming
}

// PaymentParams describe an attempt to collect.
type PaymentParams struct {
	SubscriptionID string
	ChargeType     string // checkout (default), recurring
}
