package state

import (
	"encoding/json"
	"slices"
)

// Organization is an organization as the Backend API has it. Its counts are
// kept by the changes of its memberships and invitations, which do not advance
// its updated_at.
type Organization struct {
	ID                      string   `json:"id"`
	Name                    string   `json:"name"`
	Slug                    string   `json:"slug"`
	ImageID                 string   `json:"-"` // of an uploaded logo
	MembersCount            int64    `json:"members_count"`
	PendingInvitationsCount int64    `json:"pending_invitations_count"`
	MaxAllowedMemberships   int64    `json:"max_allowed_memberships"` // 0 is no limit
	AdminDeleteEnabled      bool     `json:"admin_delete_enabled"`
	PublicMetadata          Metadata `json:"public_metadata"`
	PrivateMetadata         Metadata `json:"private_metadata"`
	CreatedBy               string   `json:"created_by,omitempty"`
	CreatedAt               int64    `json:"created_at"`
	UpdatedAt               int64    `json:"updated_at"`
}

// MarshalJSON renders the organization with what is derived.
func (o *Organization) MarshalJSON() ([]byte, error) {
	type plain Organization
	return marshal(struct {
		Object        string `json:"object"`
		ImageURL      string `json:"image_url"`
		HasImage      bool   `json:"has_image"`
		MissingMember bool   `json:"missing_member_with_elevated_permissions"`
		*plain
	}{Object: "organization", ImageURL: imageURL(o.ImageID, o.ID), HasImage: o.ImageID != "", plain: (*plain)(o)})
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (o *Organization) UnmarshalJSON(text []byte) error {
	type plain Organization
	full := struct {
		ImageURL string `json:"image_url"`
		HasImage bool   `json:"has_image"`
		*plain
	}{plain: (*plain)(o)}
	if err := json.Unmarshal(text, &full); err != nil {
		return err
	}
	o.ImageID = uploadedImage(full.HasImage, full.ImageURL)
	return nil
}

// OrganizationMembership joins a user to an organization. View renders it with
// both, with its role's name and permissions.
type OrganizationMembership struct {
	ID              string
	OrganizationID  string
	UserID          string
	Role            string // the role's key, org:admin
	PublicMetadata  Metadata
	PrivateMetadata Metadata
	CreatedAt       int64
	UpdatedAt       int64
}

// OrganizationInvitation asks an e-mail address to join an organization. View
// renders it with its inviter.
type OrganizationInvitation struct {
	ID              string
	OrganizationID  string
	EmailAddress    string
	Role            string
	InviterID       OptString
	Status          string // pending, accepted, revoked, expired
	UserID          string // who accepted it
	PublicMetadata  Metadata
	PrivateMetadata Metadata
	URL             OptString
	ExpiresAt       OptInt
	CreatedAt       int64
	UpdatedAt       int64
}

// OrganizationDomain is a domain whose e-mail addresses an organization enrols.
type OrganizationDomain struct {
	ID                      string              `json:"id"`
	OrganizationID          string              `json:"organization_id"`
	Name                    string              `json:"name"`
	EnrollmentMode          string              `json:"enrollment_mode"`
	AffiliationEmailAddress OptString           `json:"affiliation_email_address"`
	Verification            *DomainVerification `json:"verification"`
	TotalPendingInvitations int64               `json:"total_pending_invitations"`
	TotalPendingSuggestions int64               `json:"total_pending_suggestions"`
	CreatedAt               int64               `json:"created_at"`
	UpdatedAt               int64               `json:"updated_at"`
}

// DomainVerification says how far the proof of a domain is.
type DomainVerification struct {
	Status     string `json:"status"` // unverified, verified
	Strategy   string `json:"strategy"`
	Attempts   OptInt `json:"attempts"`
	ExpireAt   OptInt `json:"expire_at"`
	VerifiedAt OptInt `json:"verified_at"`
}

// Role is a role of the instance's organizations. View renders it with its
// permissions.
type Role struct {
	ID                string
	Name              string
	Key               string // org:admin
	Description       OptString
	IsCreatorEligible bool
	Permissions       []string // their ids
	CreatedAt         int64
	UpdatedAt         int64
}

// Has says whether the role has the permission of this id.
func (r *Role) Has(permissionID string) bool { return slices.Contains(r.Permissions, permissionID) }

// Permission is what a role may do.
type Permission struct {
	ID          string `json:"id"`
	Name        string `json:"name"`
	Key         string `json:"key"` // org:sys_profile:manage
	Description string `json:"description"`
	Type        string `json:"type"` // system, user
	CreatedAt   int64  `json:"created_at"`
	UpdatedAt   int64  `json:"updated_at"`
}

// MarshalJSON renders the permission.
func (p *Permission) MarshalJSON() ([]byte, error) {
	type plain Permission
	return marshal(struct {
		Object string `json:"object"`
		*plain
	}{"permission", (*plain)(p)})
}
