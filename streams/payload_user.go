package streams

import "encoding/json"

// User is the data of user.created, user.updated and user.snapshot. An e-mail
// address is not unique among users: an account made again after its deletion
// has a new id and the old address.
//
// Source: User of Clerk's webhook specification.
type User struct {
	Object                        string                   `json:"object"`
	ID                            string                   `json:"id"`
	ExternalID                    string                   `json:"external_id"`
	PrimaryEmailAddressID         string                   `json:"primary_email_address_id"` // id of one of EmailAddresses
	PrimaryPhoneNumberID          string                   `json:"primary_phone_number_id"`
	PrimaryWeb3WalletID           string                   `json:"primary_web3_wallet_id"`
	Username                      string                   `json:"username"`
	FirstName                     string                   `json:"first_name"`
	LastName                      string                   `json:"last_name"`
	Locale                        string                   `json:"locale"`
	ProfileImageURL               string                   `json:"profile_image_url"` // deprecated by Clerk for ImageURL
	ImageURL                      string                   `json:"image_url"`
	HasImage                      bool                     `json:"has_image"`
	PublicMetadata                json.RawMessage          `json:"public_metadata"`
	PrivateMetadata               json.RawMessage          `json:"private_metadata"`
	UnsafeMetadata                json.RawMessage          `json:"unsafe_metadata"` // the user may write it
	EmailAddresses                []EmailAddress           `json:"email_addresses"`
	PhoneNumbers                  []PhoneNumber            `json:"phone_numbers"`
	Web3Wallets                   []Web3Wallet             `json:"web3_wallets"`
	Passkeys                      []Passkey                `json:"passkeys"`
	PasswordEnabled               bool                     `json:"password_enabled"`
	TwoFactorEnabled              bool                     `json:"two_factor_enabled"`
	TOTPEnabled                   bool                     `json:"totp_enabled"`
	BackupCodeEnabled             bool                     `json:"backup_code_enabled"`
	MFAEnabledAt                  Millis                   `json:"mfa_enabled_at"` // stays when it is disabled again
	MFADisabledAt                 Millis                   `json:"mfa_disabled_at"`
	PasswordLastUpdatedAt         Millis                   `json:"password_last_updated_at"`
	ExternalAccounts              []ExternalAccount        `json:"external_accounts"`
	SAMLAccounts                  []SAMLAccount            `json:"saml_accounts"` // older than EnterpriseAccounts
	EnterpriseAccounts            []EnterpriseAccount      `json:"enterprise_accounts"`
	OrganizationMemberships       []OrganizationMembership `json:"organization_memberships"` // rarely sent; memberships have events of their own
	LastSignInAt                  Millis                   `json:"last_sign_in_at"`
	LastActiveAt                  Millis                   `json:"last_active_at"`
	Banned                        bool                     `json:"banned"`
	Locked                        bool                     `json:"locked"`        // for a while, after failed sign-ins
	Deprovisioned                 bool                     `json:"deprovisioned"` // removed by the directory that provisioned it
	LockoutExpiresInSeconds       *int64                   `json:"lockout_expires_in_seconds"`
	VerificationAttemptsRemaining *int64                   `json:"verification_attempts_remaining"`
	DeleteSelfEnabled             bool                     `json:"delete_self_enabled"`
	CreateOrganizationEnabled     bool                     `json:"create_organization_enabled"`
	CreateOrganizationsLimit      *int64                   `json:"create_organizations_limit"` // 0: no limit
	LegalAcceptedAt               Millis                   `json:"legal_accepted_at"`
	BypassClientTrust             bool                     `json:"bypass_client_trust"`
	SCIM                          *SCIM                    `json:"scim"`
	CreatedAt                     Millis                   `json:"created_at"`
	UpdatedAt                     Millis                   `json:"updated_at"`

	Raw json.RawMessage `json:"-"`
}

// EmailAddress is one of a [User]'s.
type EmailAddress struct {
	Object               string        `json:"object"`
	ID                   string        `json:"id"`
	EmailAddress         string        `json:"email_address"`
	Reserved             bool          `json:"reserved"`
	Verification         *Verification `json:"verification"`
	LinkedTo             []LinkedTo    `json:"linked_to"`
	MatchesSSOConnection bool          `json:"matches_sso_connection"`
	CreatedAt            Millis        `json:"created_at"`
	UpdatedAt            Millis        `json:"updated_at"`
}

// PhoneNumber is one of a [User]'s.
type PhoneNumber struct {
	Object                  string        `json:"object"`
	ID                      string        `json:"id"`
	PhoneNumber             string        `json:"phone_number"` // E.164
	ReservedForSecondFactor bool          `json:"reserved_for_second_factor"`
	DefaultSecondFactor     bool          `json:"default_second_factor"`
	Reserved                bool          `json:"reserved"`
	Verification            *Verification `json:"verification"`
	LinkedTo                []LinkedTo    `json:"linked_to"`
	BackupCodes             []string      `json:"backup_codes"`
	CreatedAt               Millis        `json:"created_at"`
	UpdatedAt               Millis        `json:"updated_at"`
}

// LinkedTo names another identification, by which an address or a number is
// verified too.
type LinkedTo struct {
	Type string `json:"type"`
	ID   string `json:"id"`
}

// Web3Wallet is one of a [User]'s.
type Web3Wallet struct {
	Object       string        `json:"object"`
	ID           string        `json:"id"`
	Web3Wallet   string        `json:"web3_wallet"` // the address
	Verification *Verification `json:"verification"`
	CreatedAt    Millis        `json:"created_at"`
	UpdatedAt    Millis        `json:"updated_at"`
}

// Passkey is one of a [User]'s.
type Passkey struct {
	Object       string        `json:"object"`
	ID           string        `json:"id"`
	Name         string        `json:"name"`
	LastUsedAt   Millis        `json:"last_used_at"`
	Verification *Verification `json:"verification"`
}

// Verification says how an identification is verified. It joins the ten kinds
// of the specification (by code, link, ticket, OAuth, SAML, wallet, passkey,
// …), of which Object and Strategy tell; each has some of the fields.
type Verification struct {
	Object                          string      `json:"object"`
	Status                          string      `json:"status"` // "verified", "unverified", "expired", …
	Strategy                        string      `json:"strategy"`
	Attempts                        *int64      `json:"attempts"`
	ExpireAt                        Millis      `json:"expire_at"`
	Channel                         string      `json:"channel"`
	VerifiedAtClient                string      `json:"verified_at_client"` // a client's id
	ExternalVerificationRedirectURL string      `json:"external_verification_redirect_url"`
	Nonce                           string      `json:"nonce"`
	Message                         string      `json:"message"`
	Error                           *ClerkError `json:"error"`
}

// ClerkError is why a verification failed.
type ClerkError struct {
	Message     string          `json:"message"`
	LongMessage string          `json:"long_message"`
	Code        string          `json:"code"`
	Meta        json.RawMessage `json:"meta"`
}

// ExternalAccount is a [User]'s account with an OAuth provider.
type ExternalAccount struct {
	Object               string          `json:"object"`
	ID                   string          `json:"id"`
	Provider             string          `json:"provider"`
	IdentificationID     string          `json:"identification_id"`
	ProviderUserID       string          `json:"provider_user_id"`
	ApprovedScopes       string          `json:"approved_scopes"` // separated by spaces
	EmailAddress         string          `json:"email_address"`
	EmailAddressVerified *bool           `json:"email_address_verified"`
	FirstName            string          `json:"first_name"`
	LastName             string          `json:"last_name"`
	AvatarURL            string          `json:"avatar_url"`
	ImageURL             string          `json:"image_url"`
	Username             string          `json:"username"`
	PhoneNumber          string          `json:"phone_number"`
	PublicMetadata       json.RawMessage `json:"public_metadata"`
	Label                string          `json:"label"`
	Verification         *Verification   `json:"verification"`
	CreatedAt            Millis          `json:"created_at"`
	UpdatedAt            Millis          `json:"updated_at"`
}

// SAMLAccount is a [User]'s account with a SAML identity provider.
type SAMLAccount struct {
	Object              string          `json:"object"`
	ID                  string          `json:"id"`
	Provider            string          `json:"provider"`
	Active              bool            `json:"active"`
	EmailAddress        string          `json:"email_address"`
	FirstName           string          `json:"first_name"`
	LastName            string          `json:"last_name"`
	ProviderUserID      string          `json:"provider_user_id"`
	LastAuthenticatedAt Millis          `json:"last_authenticated_at"`
	PublicMetadata      json.RawMessage `json:"public_metadata"`
	Verification        *Verification   `json:"verification"`
	SAMLConnection      *SSOConnection  `json:"saml_connection"`
}

// EnterpriseAccount is a [User]'s account with an identity provider of any
// protocol.
type EnterpriseAccount struct {
	Object                 string          `json:"object"`
	ID                     string          `json:"id"`
	Protocol               string          `json:"protocol"` // "saml" or "oauth"
	Provider               string          `json:"provider"`
	Active                 bool            `json:"active"`
	EmailAddress           string          `json:"email_address"`
	FirstName              string          `json:"first_name"`
	LastName               string          `json:"last_name"`
	ProviderUserID         string          `json:"provider_user_id"`
	EnterpriseConnectionID string          `json:"enterprise_connection_id"`
	LastAuthenticatedAt    Millis          `json:"last_authenticated_at"`
	PublicMetadata         json.RawMessage `json:"public_metadata"`
	Verification           *Verification   `json:"verification"`
	EnterpriseConnection   *SSOConnection  `json:"enterprise_connection"`
}

// SSOConnection is what a [SAMLAccount] or an [EnterpriseAccount] came
// through. Connections have no events of their own.
type SSOConnection struct {
	ID                               string   `json:"id"`
	Name                             string   `json:"name"`
	Protocol                         string   `json:"protocol"` // enterprise connections only
	Provider                         string   `json:"provider"`
	LogoPublicURL                    string   `json:"logo_public_url"` // enterprise connections only
	Domain                           string   `json:"domain"`
	Domains                          []string `json:"domains"`
	Active                           bool     `json:"active"`
	SyncUserAttributes               bool     `json:"sync_user_attributes"`
	AllowSubdomains                  bool     `json:"allow_subdomains"`
	AllowIDPInitiated                bool     `json:"allow_idp_initiated"`
	DisableAdditionalIdentifications bool     `json:"disable_additional_identifications"`
	CreatedAt                        Millis   `json:"created_at"`
	UpdatedAt                        Millis   `json:"updated_at"`
}

// SCIM says which directory provisioned a [User].
type SCIM struct {
	DirectoryID      string `json:"directory_id"`
	DirectoryEnabled bool   `json:"directory_enabled"`
	ExternalID       string `json:"external_id"` // the directory's id of the user
}
