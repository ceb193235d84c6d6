package state

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// newEmail is an address as the Backend API makes it: verified by an admin, or
// waiting for its code.
func (in *Instance) newEmail(address string, verified bool, at int64) EmailAddress {
	v := Verification{Object: "verification_otp", Status: "unverified", Strategy: "email_code"}
	if verified {
		v = Verification{Object: "verification_admin", Status: "verified", Strategy: "admin"}
	}
	return EmailAddress{ID: in.newID("idn_"), EmailAddress: address, Verification: in.shared(v), CreatedAt: at, UpdatedAt: at}
}

func (in *Instance) newPhone(number string, verified bool, at int64) PhoneNumber {
	v := Verification{Object: "verification_otp", Status: "unverified", Strategy: "phone_code"}
	if verified {
		v = Verification{Object: "verification_admin", Status: "verified", Strategy: "admin"}
	}
	return PhoneNumber{ID: in.newID("idn_"), PhoneNumber: number, Verification: in.shared(v), CreatedAt: at, UpdatedAt: at}
}

// shared is the one copy of a verification: a hundred thousand users have a
// handful of different ones.
func (in *Instance) shared(v Verification) *Verification {
	if v.ExpireAt != 0 {
		return &v
	}
	if in.verifications[v] == nil {
		in.verifications[v] = &v
	}
	return in.verifications[v]
}

// fixPrimaries gives up primaries that are gone and takes the first there is.
func (u *User) fixPrimaries() {
	if u.Email() == nil {
		u.PrimaryEmailAddressID = ""
		if len(u.EmailAddresses) > 0 {
			u.PrimaryEmailAddressID = OptString(u.EmailAddresses[0].ID)
		}
	}
	if u.Phone() == nil {
		u.PrimaryPhoneNumberID = ""
		if len(u.PhoneNumbers) > 0 {
			u.PrimaryPhoneNumberID = OptString(u.PhoneNumbers[0].ID)
		}
	}
}

// next is the updated_at that the change under way will get, for a part of the
// resource that is changed.
func (c *change) next() int64 { return max(c.now().UnixMilli(), c.lastTick+1) }

// AddEmail gives the user an e-mail address and returns its id too.
func (in *Instance) AddEmail(req Request, userID, address string, verified bool) (u *User, id string, err error) {
	u, err = in.editUser(req, userID, func(c *change, u *User) error {
		if err := c.checkEmail(address); err != nil {
			return err
		}
		e := c.newEmail(address, verified, c.next())
		id = e.ID
		u.EmailAddresses = append(slices.Clone(u.EmailAddresses), e)
		u.fixPrimaries()
		return nil
	})
	return u, id, err
}

// VerifyEmail marks an e-mail address as verified by its code.
func (in *Instance) VerifyEmail(req Request, userID, emailID string) (*User, error) {
	return in.editUser(req, userID, func(c *change, u *User) error {
		i := slices.IndexFunc(u.EmailAddresses, func(e EmailAddress) bool { return e.ID == emailID })
		if i < 0 {
			return NotFound("email address", emailID)
		}
		u.EmailAddresses = slices.Clone(u.EmailAddresses)
		e := &u.EmailAddresses[i]
		e.Verification = c.shared(Verification{Object: "verification_otp", Status: "verified", Strategy: "email_code", Attempts: 1})
		e.UpdatedAt = c.next()
		return nil
	})
}

// RemoveEmail takes an e-mail address from the user. If it was the primary one
// another becomes it.
func (in *Instance) RemoveEmail(req Request, userID, emailID string) (*User, error) {
	return in.editUser(req, userID, func(_ *change, u *User) error {
		n := len(u.EmailAddresses)
		u.EmailAddresses = slices.DeleteFunc(slices.Clone(u.EmailAddresses), func(e EmailAddress) bool { return e.ID == emailID })
		if len(u.EmailAddresses) == n {
			return NotFound("email address", emailID)
		}
		u.fixPrimaries()
		return nil
	})
}

// AddPhone gives the user a phone number and returns its id too.
func (in *Instance) AddPhone(req Request, userID, number string, verified bool) (u *User, id string, err error) {
	u, err = in.editUser(req, userID, func(c *change, u *User) error {
		if err := c.checkPhone(number); err != nil {
			return err
		}
		p := c.newPhone(number, verified, c.next())
		id = p.ID
		u.PhoneNumbers = append(slices.Clone(u.PhoneNumbers), p)
		u.fixPrimaries()
		return nil
	})
	return u, id, err
}

// VerifyPhone marks a phone number as verified by its code.
func (in *Instance) VerifyPhone(req Request, userID, phoneID string) (*User, error) {
	return in.editUser(req, userID, func(c *change, u *User) error {
		i := slices.IndexFunc(u.PhoneNumbers, func(p PhoneNumber) bool { return p.ID == phoneID })
		if i < 0 {
			return NotFound("phone number", phoneID)
		}
		u.PhoneNumbers = slices.Clone(u.PhoneNumbers)
		p := &u.PhoneNumbers[i]
		p.Verification = c.shared(Verification{Object: "verification_otp", Status: "verified", Strategy: "phone_code", Attempts: 1})
		p.UpdatedAt = c.next()
		return nil
	})
}

// RemovePhone takes a phone number from the user.
func (in *Instance) RemovePhone(req Request, userID, phoneID string) (*User, error) {
	return in.editUser(req, userID, func(_ *change, u *User) error {
		n := len(u.PhoneNumbers)
		u.PhoneNumbers = slices.DeleteFunc(slices.Clone(u.PhoneNumbers), func(p PhoneNumber) bool { return p.ID == phoneID })
		if len(u.PhoneNumbers) == n {
			return NotFound("phone number", phoneID)
		}
		u.fixPrimaries()
		return nil
	})
}

// LinkExternalAccount links an account with a social provider. Its e-mail
// address becomes one of the user's, if no one has it yet.
func (in *Instance) LinkExternalAccount(req Request, userID string, p ExternalAccountParams) (*User, error) {
	return in.editUser(req, userID, func(c *change, u *User) error {
		if !strings.HasPrefix(p.Provider, "oauth_") {
			return Invalid("provider", "oauth_<provider>")
		}
		if err := validEmail(p.EmailAddress); err != nil {
			return err
		}
		at := c.next()
		a := ExternalAccount{
			ID: c.newID("eac_"), Provider: p.Provider, IdentificationID: c.newID("idn_"),
			ProviderUserID: cmp.Or(p.ProviderUserID, "1"+digits(c.rng.Uint64(), 20)),
			ApprovedScopes: cmp.Or(p.Scopes, "email openid profile"), EmailAddress: p.EmailAddress,
			FirstName: p.FirstName, LastName: p.LastName, Username: OptString(p.Username), CreatedAt: at, UpdatedAt: at,
			Verification: &Verification{
				Object: "verification_oauth", Status: "verified", Strategy: p.Provider, ExpireAt: OptInt(at + int64(10*time.Minute/time.Millisecond)),
			},
		}
		u.ExternalAccounts = append(slices.Clone(u.ExternalAccounts), a)
		c.linkEmail(u, p.EmailAddress, at, List[IdentificationLink]{{Type: p.Provider, ID: a.IdentificationID}},
			Verification{Object: "verification_from_oauth", Status: "verified", Strategy: "from_" + p.Provider})
		return nil
	})
}

// linkEmail adds links to the user's address, or the address with the links.
// Addresses of enterprise accounts have none: the specification's type of a
// link allows only oauth_….
func (c *change) linkEmail(u *User, address string, at int64, links List[IdentificationLink], v Verification) {
	i := slices.IndexFunc(u.EmailAddresses, func(e EmailAddress) bool { return strings.EqualFold(e.EmailAddress, address) })
	if i < 0 && c.emails[strings.ToLower(address)] != "" {
		return
	}
	u.EmailAddresses = slices.Clone(u.EmailAddresses)
	if i < 0 {
		u.EmailAddresses = append(u.EmailAddresses, c.newEmail(address, true, at))
		i = len(u.EmailAddresses) - 1
		u.EmailAddresses[i].Verification = c.shared(v)
	}
	e := &u.EmailAddresses[i]
	e.LinkedTo, e.UpdatedAt = slices.Concat(e.LinkedTo, links), at
	u.fixPrimaries()
}

// UnlinkExternalAccount removes an account with a social provider.
func (in *Instance) UnlinkExternalAccount(req Request, userID, accountID string) (*User, error) {
	return in.editUser(req, userID, func(_ *change, u *User) error {
		i := slices.IndexFunc(u.ExternalAccounts, func(a ExternalAccount) bool { return a.ID == accountID })
		if i < 0 {
			return NotFound("external account", accountID)
		}
		gone := u.ExternalAccounts[i].IdentificationID
		u.ExternalAccounts = slices.Delete(slices.Clone(u.ExternalAccounts), i, i+1)
		u.EmailAddresses = slices.Clone(u.EmailAddresses)
		for i := range u.EmailAddresses {
			e := &u.EmailAddresses[i]
			e.LinkedTo = slices.DeleteFunc(slices.Clone(e.LinkedTo), func(l IdentificationLink) bool { return l.ID == gone })
		}
		return nil
	})
}

// LinkEnterpriseAccount links an account with an enterprise connection.
func (in *Instance) LinkEnterpriseAccount(req Request, userID string, p EnterpriseAccountParams) (*User, error) {
	return in.editUser(req, userID, func(c *change, u *User) error {
		if err := validEmail(p.EmailAddress); err != nil {
			return err
		}
		if p.Protocol != "" && p.Protocol != "saml" && p.Protocol != "oauth" {
			return InvalidValue("protocol", p.Protocol)
		}
		at := c.next()
		a := c.newEnterpriseAccount(p, at)
		u.EnterpriseAccounts = append(slices.Clone(u.EnterpriseAccounts), a)
		c.linkEmail(u, p.EmailAddress, at, nil, Verification{Object: "verification_saml", Status: "verified", Strategy: "saml"})
		return nil
	})
}

func (in *Instance) newEnterpriseAccount(p EnterpriseAccountParams, at int64) EnterpriseAccount {
	a := EnterpriseAccount{
		ID: in.newID("eac_"), Protocol: cmp.Or(p.Protocol, "saml"), Provider: cmp.Or(p.Provider, "saml_custom"),
		EmailAddress: p.EmailAddress, FirstName: OptString(p.FirstName), LastName: OptString(p.LastName),
		ProviderUserID: OptString(p.ProviderUserID), EnterpriseConnectionID: OptString(p.ConnectionID),
		LastAuthenticatedAt: OptInt(at), Active: true,
		Verification: in.shared(Verification{Object: "verification_saml", Status: "verified", Strategy: "saml"}),
	}
	if a.Protocol == "oauth" {
		a.Verification = &Verification{Object: "verification_oauth", Status: "verified", Strategy: a.Provider, ExpireAt: OptInt(at + 600_000)}
	}
	if a.ProviderUserID == "" {
		a.ProviderUserID = OptString(in.newID("00u")[:20])
	}
	if a.EnterpriseConnectionID == "" {
		a.EnterpriseConnectionID = OptString(in.newID("entconn_"))
	}
	return a
}

// digits are the last n decimal digits of a number, with zeros before them.
func digits(number uint64, n int) string {
	text := fmt.Sprintf("%0*d", n, number)
	return text[len(text)-n:]
}
