package streams

import "encoding/json"

// Organization is the data of organization.created, organization.updated and
// organization.snapshot.
//
// Source: Organization of Clerk's webhook specification.
type Organization struct {
	Object                               string          `json:"object"`
	ID                                   string          `json:"id"`
	Name                                 string          `json:"name"`
	Slug                                 string          `json:"slug"`
	ImageURL                             string          `json:"image_url"`
	HasImage                             bool            `json:"has_image"`
	MembersCount                         *int64          `json:"members_count"`
	MissingMemberWithElevatedPermissions bool            `json:"missing_member_with_elevated_permissions"`
	PendingInvitationsCount              *int64          `json:"pending_invitations_count"`
	MaxAllowedMemberships                int64           `json:"max_allowed_memberships"` // 0: no limit
	AdminDeleteEnabled                   bool            `json:"admin_delete_enabled"`
	PublicMetadata                       json.RawMessage `json:"public_metadata"`
	PrivateMetadata                      json.RawMessage `json:"private_metadata"`
	CreatedBy                            string          `json:"created_by"` // a user's id
	LastActiveAt                         Millis          `json:"last_active_at"`
	RoleSetKey                           string          `json:"role_set_key"`
	CreatedAt                            Millis          `json:"created_at"`
	UpdatedAt                            Millis          `json:"updated_at"`

	Raw json.RawMessage `json:"-"`
}

// OrganizationMembership is the data of organizationMembership.created,
// .updated, .snapshot and .deleted: the delete carries the whole, with an
// UpdatedAt that it does not advance. Joining again makes a new ID.
//
// Source: OrganizationMembership of Clerk's webhook specification.
type OrganizationMembership struct {
	Object          string          `json:"object"`
	ID              string          `json:"id"`
	Role            string          `json:"role"` // "org:admin"; "admin" or "basic_member" in old payloads
	RoleName        string          `json:"role_name"`
	Permissions     []string        `json:"permissions"` // "org:invoices:read"; a change of the role need not update them
	PublicMetadata  json.RawMessage `json:"public_metadata"`
	PrivateMetadata json.RawMessage `json:"private_metadata"`
	Organization    *Organization   `json:"organization"`
	PublicUserData  *PublicUserData `json:"public_user_data"`
	CreatedAt       Millis          `json:"created_at"`
	UpdatedAt       Millis          `json:"updated_at"`

	Raw json.RawMessage `json:"-"`
}

// PublicUserData is what members of an organization may know of a user.
type PublicUserData struct {
	UserID          string `json:"user_id"`
	FirstName       string `json:"first_name"`
	LastName        string `json:"last_name"`
	ProfileImageURL string `json:"profile_image_url"`
	ImageURL        string `json:"image_url"`
	HasImage        bool   `json:"has_image"`
	Identifier      string `json:"identifier"` // mostly the e-mail address
	Username        string `json:"username"`
	Banned          bool   `json:"banned"`
	Deprovisioned   bool   `json:"deprovisioned"`
}

// OrganizationInvitation is the data of organizationInvitation.created,
// .accepted, .revoked and .snapshot.
//
// Source: OrganizationInvitation and OrganizationInvitationAcceptedPayload of
// Clerk's webhook specification; public_organization_data beside the others
// from Clerk's JavaScript SDK.
type OrganizationInvitation struct {
	Object                 string                  `json:"object"`
	ID                     string                  `json:"id"`
	EmailAddress           string                  `json:"email_address"`
	Role                   string                  `json:"role"`
	RoleName               string                  `json:"role_name"`
	OrganizationID         string                  `json:"organization_id"`
	InviterID              string                  `json:"inviter_id"` // a user's id
	PublicInviterData      *PublicUserData         `json:"public_inviter_data"`
	PublicOrganizationData *PublicOrganizationData `json:"public_organization_data"`
	UserID                 string                  `json:"user_id"` // who accepted; accepted only
	Status                 string                  `json:"status"`  // "pending", "accepted", "revoked", "expired"
	PublicMetadata         json.RawMessage         `json:"public_metadata"`
	PrivateMetadata        json.RawMessage         `json:"private_metadata"`
	URL                    string                  `json:"url"` // whoever has it can accept
	ExpiresAt              Millis                  `json:"expires_at"`
	CreatedAt              Millis                  `json:"created_at"`
	UpdatedAt              Millis                  `json:"updated_at"`

	// Data is where the specification, unlike the SDK and the examples, has
	// the organization.
	Data *OrganizationInvitationData `json:"data"`

	Raw json.RawMessage `json:"-"`
}

// OrganizationInvitationData is data.data of an [OrganizationInvitation].
type OrganizationInvitationData struct {
	PublicOrganizationData *PublicOrganizationData `json:"public_organization_data"`
}

// PublicOrganizationData is what someone invited may know of an organization.
type PublicOrganizationData struct {
	ID       string `json:"id"`
	Name     string `json:"name"`
	Slug     string `json:"slug"`
	ImageURL string `json:"image_url"`
	HasImage bool   `json:"has_image"`
}

// OrganizationDomain is the data of organizationDomain.created, .updated and
// .snapshot.
//
// Source: OrganizationDomain of Clerk's webhook specification.
type OrganizationDomain struct {
	Object                  string                  `json:"object"`
	ID                      string                  `json:"id"`
	OrganizationID          string                  `json:"organization_id"`
	Name                    string                  `json:"name"`            // "acme.com"
	EnrollmentMode          string                  `json:"enrollment_mode"` // "manual_invitation", "automatic_invitation", "automatic_suggestion", "enterprise_sso"
	AffiliationEmailAddress string                  `json:"affiliation_email_address"`
	AffiliationVerification *DomainVerification     `json:"affiliation_verification"`
	OwnershipVerification   *DomainVerification     `json:"ownership_verification"`
	Verification            *DomainVerification     `json:"verification"` // older than the two above
	TotalPendingInvitations int64                   `json:"total_pending_invitations"`
	TotalPendingSuggestions int64                   `json:"total_pending_suggestions"`
	PublicOrganizationData  *PublicOrganizationData `json:"public_organization_data"`
	CreatedAt               Millis                  `json:"created_at"`
	UpdatedAt               Millis                  `json:"updated_at"`

	Raw json.RawMessage `json:"-"`
}

// DomainVerification says how an [OrganizationDomain] is verified.
type DomainVerification struct {
	Status     string `json:"status"`
	Strategy   string `json:"strategy"`
	Attempts   *int64 `json:"attempts"`
	ExpireAt   Millis `json:"expire_at"`
	VerifiedAt Millis `json:"verified_at"`
}

// Role is the data of role.created, role.updated and role.snapshot.
//
// Source: Role of Clerk's webhook specification.
type Role struct {
	Object            string       `json:"object"`
	ID                string       `json:"id"`
	Name              string       `json:"name"`
	Key               string       `json:"key"` // "org:admin"
	Description       string       `json:"description"`
	IsCreatorEligible bool         `json:"is_creator_eligible"`
	Permissions       []Permission `json:"permissions"` // all of them: an update replaces the role's list
	CreatedAt         Millis       `json:"created_at"`
	UpdatedAt         Millis       `json:"updated_at"`

	Raw json.RawMessage `json:"-"`
}

// Permission is the data of permission.created, permission.updated and
// permission.snapshot.
//
// Source: Permission of Clerk's webhook specification.
type Permission struct {
	Object      string `json:"object"`
	ID          string `json:"id"`
	Name        string `json:"name"`
	Key         string `json:"key"` // "org:invoices:read"; "org:sys_…" are Clerk's own
	Description string `json:"description"`
	Type        string `json:"type"` // "system" or "custom"
	CreatedAt   Millis `json:"created_at"`
	UpdatedAt   Millis `json:"updated_at"`

	Raw json.RawMessage `json:"-"`
}

// Invitation is the data of invitation.created, .accepted and .revoked: an
// invitation to the application, not to an organization.
//
// Source: Clerk's documentation names these events; their fields are those of
// the specification's Invitation and have not been seen in a delivery.
type Invitation struct {
	Object         string          `json:"object"`
	ID             string          `json:"id"`
	EmailAddress   string          `json:"email_address"`
	PublicMetadata json.RawMessage `json:"public_metadata"`
	Revoked        bool            `json:"revoked"`
	Status         string          `json:"status"` // "pending", "accepted", "revoked", "expired"
	URL            string          `json:"url"`    // whoever has it can accept
	ExpiresAt      Millis          `json:"expires_at"`
	CreatedAt      Millis          `json:"created_at"`
	UpdatedAt      Millis          `json:"updated_at"`

	Raw json.RawMessage `json:"-"`
}

// WaitlistEntry is the data of waitlistEntry.created and .updated.
//
// Source: WaitlistEntry of Clerk's webhook specification.
type WaitlistEntry struct {
	Object       string      `json:"object"`
	ID           string      `json:"id"`
	EmailAddress string      `json:"email_address"`
	Status       string      `json:"status"` // "pending", "invited", "completed", "rejected"
	IsLocked     bool        `json:"is_locked"`
	Invitation   *Invitation `json:"invitation"`
	CreatedAt    Millis      `json:"created_at"`
	UpdatedAt    Millis      `json:"updated_at"`

	Raw json.RawMessage `json:"-"`
}
