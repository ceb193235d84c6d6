package state

import (
	"encoding/json"
	"strings"
)

// User is a user as the Backend API has it. What Clerk always renders the same
// or can be derived (image_url, saml_accounts, passkeys, lockout) is not kept.
// Lists are never modified in place.
type User struct {
	ID                       string                  `json:"id"`
	ExternalID               OptString               `json:"external_id"`
	PrimaryEmailAddressID    OptString               `json:"primary_email_address_id"`
	PrimaryPhoneNumberID     OptString               `json:"primary_phone_number_id"`
	Username                 OptString               `json:"username"`
	FirstName                OptString               `json:"first_name"`
	LastName                 OptString               `json:"last_name"`
	Locale                   OptString               `json:"locale"`
	ImageID                  string                  `json:"-"` // of an uploaded picture
	PublicMetadata           Metadata                `json:"public_metadata"`
	PrivateMetadata          Metadata                `json:"private_metadata"`
	UnsafeMetadata           Metadata                `json:"unsafe_metadata"`
	EmailAddresses           List[EmailAddress]      `json:"email_addresses"`
	PhoneNumbers             List[PhoneNumber]       `json:"phone_numbers"`
	ExternalAccounts         List[ExternalAccount]   `json:"external_accounts"`
	EnterpriseAccounts       List[EnterpriseAccount] `json:"enterprise_accounts"`
	MFAEnabledAt             OptInt                  `json:"mfa_enabled_at"`
	MFADisabledAt            OptInt                  `json:"mfa_disabled_at"`
	PasswordLastUpdatedAt    OptInt                  `json:"password_last_updated_at"`
	LastSignInAt             OptInt                  `json:"last_sign_in_at"`
	LastActiveAt             OptInt                  `json:"last_active_at"`
	LegalAcceptedAt          OptInt                  `json:"legal_accepted_at"`
	CreateOrganizationsLimit OptInt                  `json:"create_organizations_limit"`
	CreatedAt                int64                   `json:"created_at"`
	UpdatedAt                int64                   `json:"updated_at"`

	PasswordEnabled           bool `json:"password_enabled"`
	TwoFactorEnabled          bool `json:"two_factor_enabled"`
	TOTPEnabled               bool `json:"totp_enabled"`
	BackupCodeEnabled         bool `json:"backup_code_enabled"`
	Banned                    bool `json:"banned"`
	Locked                    bool `json:"locked"`
	Deprovisioned             bool `json:"deprovisioned"`
	DeleteSelfEnabled         bool `json:"delete_self_enabled"`
	CreateOrganizationEnabled bool `json:"create_organization_enabled"`
	BypassClientTrust         bool `json:"bypass_client_trust"`
}

// EmailAddress is an e-mail address of a user.
type EmailAddress struct {
	ID                   string                   `json:"id"`
	EmailAddress         string                   `json:"email_address"`
	Verification         *Verification            `json:"verification"`
	LinkedTo             List[IdentificationLink] `json:"linked_to"`
	CreatedAt            int64                    `json:"created_at"`
	UpdatedAt            int64                    `json:"updated_at"`
	Reserved             bool                     `json:"reserved"`
	MatchesSSOConnection bool                     `json:"matches_sso_connection"`
}

// PhoneNumber is a phone number of a user, in E.164.
type PhoneNumber struct {
	ID                      string                   `json:"id"`
	PhoneNumber             string                   `json:"phone_number"`
	Verification            *Verification            `json:"verification"`
	LinkedTo                List[IdentificationLink] `json:"linked_to"`
	CreatedAt               int64                    `json:"created_at"`
	UpdatedAt               int64                    `json:"updated_at"`
	Reserved                bool                     `json:"reserved"`
	ReservedForSecondFactor bool                     `json:"reserved_for_second_factor"`
	DefaultSecondFactor     bool                     `json:"default_second_factor"`
}

// IdentificationLink names the account that an e-mail address came with.
type IdentificationLink struct {
	Type string `json:"type"`
	ID   string `json:"id"`
}

// Verification says how an address or an account was verified. Equal ones are
// shared.
type Verification struct {
	Object   string `json:"object"`
	Status   string `json:"status"`
	Strategy string `json:"strategy"`
	Attempts OptInt `json:"attempts"`
	ExpireAt OptInt `json:"expire_at"`
}

// ExternalAccount is an account with a social provider.
type ExternalAccount struct {
	ID               string        `json:"id"`
	Provider         string        `json:"provider"` // oauth_google
	IdentificationID string        `json:"identification_id"`
	ProviderUserID   string        `json:"provider_user_id"`
	ApprovedScopes   string        `json:"approved_scopes"`
	EmailAddress     string        `json:"email_address"`
	FirstName        string        `json:"first_name"`
	LastName         string        `json:"last_name"`
	Username         OptString     `json:"username"`
	Label            OptString     `json:"label"`
	PublicMetadata   Metadata      `json:"public_metadata"`
	Verification     *Verification `json:"verification"`
	CreatedAt        int64         `json:"created_at"`
	UpdatedAt        int64         `json:"updated_at"`
}

// EnterpriseAccount is an account with an enterprise connection (SSO). One of
// protocol saml is rendered under saml_accounts too.
type EnterpriseAccount struct {
	ID                     string        `json:"id"`
	Protocol               string        `json:"protocol"` // oauth, saml
	Provider               string        `json:"provider"` // saml_okta
	EmailAddress           string        `json:"email_address"`
	FirstName              OptString     `json:"first_name"`
	LastName               OptString     `json:"last_name"`
	ProviderUserID         OptString     `json:"provider_user_id"`
	EnterpriseConnectionID OptString     `json:"enterprise_connection_id"`
	PublicMetadata         Metadata      `json:"public_metadata"`
	Verification           *Verification `json:"verification"`
	LastAuthenticatedAt    OptInt        `json:"last_authenticated_at"`
	Active                 bool          `json:"active"`
}

// lockoutSeconds is what Clerk locks an account for by default.
const lockoutSeconds = 3600

// MarshalJSON renders the user with what is derived.
func (u *User) MarshalJSON() ([]byte, error) { return marshal(u.rendered()) }

type (
	plainUser  User
	plainEmail EmailAddress
	plainPhone PhoneNumber

	// userView is a user with what is derived. It and its addresses have no
	// MarshalJSON: encoding/json scans the text of each that is inside another
	// once more, and users are most of what is rendered.
	userView struct {
		Object               string            `json:"object"`
		PrimaryWeb3WalletID  any               `json:"primary_web3_wallet_id"`
		ProfileImageURL      string            `json:"profile_image_url"`
		ImageURL             string            `json:"image_url"`
		HasImage             bool              `json:"has_image"`
		EmailAddresses       []emailView       `json:"email_addresses"`
		PhoneNumbers         []phoneView       `json:"phone_numbers"`
		Web3Wallets          emptyList         `json:"web3_wallets"`
		Passkeys             emptyList         `json:"passkeys"`
		SAMLAccounts         List[samlAccount] `json:"saml_accounts"`
		LockoutExpires       OptInt            `json:"lockout_expires_in_seconds"`
		VerificationAttempts *int              `json:"verification_attempts_remaining"`
		*plainUser
	}
	emailView struct {
		Object string `json:"object"`
		*plainEmail
	}
	phoneView struct {
		Object      string `json:"object"`
		BackupCodes any    `json:"backup_codes"`
		*plainPhone
	}
)

func (u *User) rendered() *userView {
	v := &userView{
		Object: "user", ImageURL: imageURL(u.ImageID, u.ID), HasImage: u.ImageID != "", SAMLAccounts: u.samlAccounts(),
		EmailAddresses: make([]emailView, len(u.EmailAddresses)), PhoneNumbers: make([]phoneView, len(u.PhoneNumbers)),
		plainUser: (*plainUser)(u),
	}
	v.ProfileImageURL = v.ImageURL
	for i := range u.EmailAddresses {
		v.EmailAddresses[i] = emailView{"email_address", (*plainEmail)(&u.EmailAddresses[i])}
	}
	for i := range u.PhoneNumbers {
		v.PhoneNumbers[i] = phoneView{"phone_number", nil, (*plainPhone)(&u.PhoneNumbers[i])}
	}
	if u.Locked {
		v.LockoutExpires, v.VerificationAttempts = lockoutSeconds, new(int)
	}
	return v
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (u *User) UnmarshalJSON(text []byte) error {
	type plain User
	full := struct {
		ImageURL string `json:"image_url"`
		HasImage bool   `json:"has_image"`
		*plain
	}{plain: (*plain)(u)}
	if err := json.Unmarshal(text, &full); err != nil {
		return err
	}
	u.ImageID = uploadedImage(full.HasImage, full.ImageURL)
	return nil
}

// MarshalJSON renders the address.
func (a EmailAddress) MarshalJSON() ([]byte, error) {
	return marshal(emailView{"email_address", (*plainEmail)(&a)})
}

// MarshalJSON renders the number.
func (p PhoneNumber) MarshalJSON() ([]byte, error) {
	return marshal(phoneView{"phone_number", nil, (*plainPhone)(&p)})
}

// MarshalJSON renders the account.
func (a ExternalAccount) MarshalJSON() ([]byte, error) {
	type plain ExternalAccount
	return marshal(struct {
		Object    string `json:"object"`
		AvatarURL string `json:"avatar_url"`
		ImageURL  string `json:"image_url"`
		Verified  bool   `json:"email_address_verified"`
		plain
	}{"external_account", "", imageBase + a.ID, true, plain(a)})
}

// MarshalJSON renders the account.
func (a EnterpriseAccount) MarshalJSON() ([]byte, error) {
	type plain EnterpriseAccount
	return marshal(struct {
		Object string `json:"object"`
		plain
	}{"enterprise_account", plain(a)})
}

// samlAccount is the older form of an enterprise account.
type samlAccount struct {
	Object              string        `json:"object"`
	ID                  string        `json:"id"`
	Provider            string        `json:"provider"`
	Active              bool          `json:"active"`
	EmailAddress        string        `json:"email_address"`
	FirstName           OptString     `json:"first_name"`
	LastName            OptString     `json:"last_name"`
	ProviderUserID      OptString     `json:"provider_user_id"`
	LastAuthenticatedAt OptInt        `json:"last_authenticated_at"`
	PublicMetadata      Metadata      `json:"public_metadata"`
	Verification        *Verification `json:"verification"`
}

func (u *User) samlAccounts() (accounts List[samlAccount]) {
	for i := range u.EnterpriseAccounts {
		if a := &u.EnterpriseAccounts[i]; a.Protocol == "saml" {
			accounts = append(accounts, samlAccount{
				"saml_account", a.ID, a.Provider, a.Active, a.EmailAddress, a.FirstName, a.LastName,
				a.ProviderUserID, a.LastAuthenticatedAt, a.PublicMetadata, a.Verification,
			})
		}
	}
	return accounts
}

// Name is the first and the last name with a space between.
func (u *User) Name() string { return strings.TrimSpace(string(u.FirstName + " " + u.LastName)) }

// Email is the primary e-mail address, nil where there is none.
func (u *User) Email() *EmailAddress {
	for i := range u.EmailAddresses {
		if u.EmailAddresses[i].ID == string(u.PrimaryEmailAddressID) {
			return &u.EmailAddresses[i]
		}
	}
	return nil
}

// Phone is the primary phone number, nil where there is none.
func (u *User) Phone() *PhoneNumber {
	for i := range u.PhoneNumbers {
		if u.PhoneNumbers[i].ID == string(u.PrimaryPhoneNumberID) {
			return &u.PhoneNumbers[i]
		}
	}
	return nil
}

// Identifier is what Clerk shows for a user in public data: the primary e-mail
// address, else the phone number, else the username.
func (u *User) Identifier() string {
	if e := u.Email(); e != nil {
		return e.EmailAddress
	}
	if p := u.Phone(); p != nil {
		return p.PhoneNumber
	}
	return string(u.Username)
}
