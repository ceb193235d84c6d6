package state

import (
	"cmp"
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// CreateUser signs a user up.
func (in *Instance) CreateUser(req Request, p UserParams) (*User, error) {
	c := in.begin(req)
	defer c.end()
	return c.createUser(p)
}

func (c *change) createUser(p UserParams) (*User, error) {
	u := &User{
		ExternalID: OptString(p.ExternalID), FirstName: OptString(p.FirstName), LastName: OptString(p.LastName),
		Locale: OptString(p.Locale), Username: OptString(p.Username), PasswordEnabled: p.Password, TOTPEnabled: p.TOTP,
		BackupCodeEnabled: p.BackupCodes, TwoFactorEnabled: p.TOTP, Banned: p.Banned, Locked: p.Locked,
		DeleteSelfEnabled: orTrue(p.DeleteSelfEnabled), CreateOrganizationEnabled: orTrue(p.CreateOrganizationEnabled),
		CreateOrganizationsLimit: OptInt(p.CreateOrganizationsLimit), BypassClientTrust: p.BypassClientTrust,
		LegalAcceptedAt: OptInt(p.LegalAcceptedAt),
	}
	if err := u.setMetadata(p.PublicMetadata, p.PrivateMetadata, p.UnsafeMetadata); err != nil {
		return nil, err
	}
	if err := c.checkProfile(nil, u); err != nil {
		return nil, err
	}
	if err := c.checkContacts(p); err != nil {
		return nil, err
	}
	u.UpdatedAt = c.tick()
	u.ID, u.CreatedAt = c.newID("user_"), cmp.Or(p.CreatedAt, u.UpdatedAt)
	if p.Password {
		u.PasswordLastUpdatedAt = OptInt(u.UpdatedAt)
	}
	if p.TOTP {
		u.MFAEnabledAt = OptInt(u.UpdatedAt)
	}
	for _, address := range p.EmailAddresses {
		u.EmailAddresses = append(u.EmailAddresses, c.newEmail(address, !p.Unverified, u.UpdatedAt))
	}
	for _, number := range p.PhoneNumbers {
		u.PhoneNumbers = append(u.PhoneNumbers, c.newPhone(number, !p.Unverified, u.UpdatedAt))
	}
	u.fixPrimaries()
	c.storeUser(nil, u)
	c.emit("user.created", u.ID, u)
	return u, nil
}

// checkContacts checks a new user's addresses and numbers, also against each other.
func (c *change) checkContacts(p UserParams) error {
	for i, address := range p.EmailAddresses {
		if err := c.checkEmail(address); err != nil {
			return err
		}
		if slices.ContainsFunc(p.EmailAddresses[:i], func(a string) bool { return strings.EqualFold(a, address) }) {
			return taken("email_address", "email address")
		}
	}
	for i, number := range p.PhoneNumbers {
		if err := c.checkPhone(number); err != nil {
			return err
		}
		if slices.Contains(p.PhoneNumbers[:i], number) {
			return taken("phone_number", "phone number")
		}
	}
	return nil
}

func orTrue(b *bool) bool { return b == nil || *b }

// changeUser stores a changed copy of a user, unless edit refuses, and emits it.
func (c *change) changeUser(id string, edit func(*User) error) (*User, error) {
	old := c.users.get(id)
	if old == nil {
		return nil, NotFound("user", id)
	}
	u := *old
	if err := edit(&u); err != nil {
		return nil, err
	}
	u.UpdatedAt = c.advance(u.UpdatedAt)
	c.storeUser(old, &u)
	c.emit("user.updated", u.ID, &u)
	return &u, nil
}

// editUser is a change of a user and of nothing else.
func (in *Instance) editUser(req Request, id string, edit func(*change, *User) error) (*User, error) {
	c := in.begin(req)
	defer c.end()
	return c.changeUser(id, func(u *User) error { return edit(c, u) })
}

// UpdateUser changes what the update names.
func (in *Instance) UpdateUser(req Request, id string, p UserUpdate) (*User, error) {
	return in.editUser(req, id, func(c *change, u *User) error { return c.applyUpdate(u, p) })
}

func (c *change) applyUpdate(u *User, p UserUpdate) error {
	old := *u
	setText(&u.ExternalID, p.ExternalID)
	setText(&u.FirstName, p.FirstName)
	setText(&u.LastName, p.LastName)
	setText(&u.Locale, p.Locale)
	setText(&u.Username, p.Username)
	setText(&u.PrimaryEmailAddressID, p.PrimaryEmailAddressID)
	setText(&u.PrimaryPhoneNumberID, p.PrimaryPhoneNumberID)
	set(&u.ImageID, p.ImageID)
	set(&u.PasswordEnabled, p.PasswordEnabled)
	set(&u.TOTPEnabled, p.TOTPEnabled)
	set(&u.BackupCodeEnabled, p.BackupCodeEnabled)
	set(&u.DeleteSelfEnabled, p.DeleteSelfEnabled)
	set(&u.CreateOrganizationEnabled, p.CreateOrganizationEnabled)
	set(&u.BypassClientTrust, p.BypassClientTrust)
	set(&u.CreatedAt, p.CreatedAt)
	set((*int64)(&u.CreateOrganizationsLimit), p.CreateOrganizationsLimit)
	set((*int64)(&u.LegalAcceptedAt), p.LegalAcceptedAt)
	if p.PrimaryEmailAddressID != nil && u.Email() == nil {
		return NotFound("email address", *p.PrimaryEmailAddressID)
	}
	if p.PrimaryPhoneNumberID != nil && u.Phone() == nil {
		return NotFound("phone number", *p.PrimaryPhoneNumberID)
	}
	if err := c.checkProfile(&old, u); err != nil {
		return err
	}
	if p.PasswordEnabled != nil && *p.PasswordEnabled {
		u.PasswordLastUpdatedAt = OptInt(max(c.lastTick+1, c.now().UnixMilli()))
	}
	u.fixTwoFactor(&old, max(c.lastTick+1, c.now().UnixMilli()))
	return u.setMetadata(p.PublicMetadata, p.PrivateMetadata, p.UnsafeMetadata)
}

func set[T any](field, value *T) {
	if value != nil {
		*field = *value
	}
}

func setText(field *OptString, value *string) { set((*string)(field), value) }

// fixTwoFactor derives what follows from a changed second factor.
func (u *User) fixTwoFactor(old *User, at int64) {
	u.TwoFactorEnabled = u.TOTPEnabled
	switch {
	case u.TwoFactorEnabled && !old.TwoFactorEnabled:
		u.MFAEnabledAt, u.MFADisabledAt = OptInt(at), 0
	case !u.TwoFactorEnabled && old.TwoFactorEnabled:
		u.MFADisabledAt = OptInt(at)
	}
}

// setMetadata replaces the kinds that are given.
func (u *User) setMetadata(public, private, unsafe json.RawMessage) (err error) {
	if u.PublicMetadata, err = metadata("public_metadata", u.PublicMetadata, public); err != nil {
		return err
	}
	if u.PrivateMetadata, err = metadata("private_metadata", u.PrivateMetadata, private); err != nil {
		return err
	}
	u.UnsafeMetadata, err = metadata("unsafe_metadata", u.UnsafeMetadata, unsafe)
	return err
}

// MergeUserMetadata merges into the user's metadata.
func (in *Instance) MergeUserMetadata(req Request, id string, p MetadataPatch) (*User, error) {
	return in.editUser(req, id, func(_ *change, u *User) (err error) {
		if u.PublicMetadata, err = merge("public_metadata", u.PublicMetadata, p.Public); err != nil {
			return err
		}
		if u.PrivateMetadata, err = merge("private_metadata", u.PrivateMetadata, p.Private); err != nil {
			return err
		}
		u.UnsafeMetadata, err = merge("unsafe_metadata", u.UnsafeMetadata, p.Unsafe)
		return err
	})
}

// DeleteUser deletes the user, the user's memberships and sessions, and returns
// the user as it was.
func (in *Instance) DeleteUser(req Request, id string) (*User, error) {
	c := in.begin(req)
	defer c.end()
	u := c.users.get(id)
	if u == nil {
		return nil, NotFound("user", id)
	}
	for _, m := range c.memberships.in(c.userMemberships[id]) {
		c.dropMembership(m, c.EmitCascade)
	}
	for _, s := range c.sessions.in(c.userSessions[id]) {
		if s.Live() && c.EmitCascade {
			s = c.moveSession(s, SessionEnded, "session.ended")
		}
		c.sessions.remove(s.ID, c.tick())
	}
	delete(c.userSessions, id)
	c.storeUser(u, nil)
	c.users.remove(id, c.tick())
	deleted := stub{Object: "user", ID: id, Deleted: true}
	if u.ExternalID != "" {
		deleted.ExternalID = u.ExternalID
	}
	c.emit("user.deleted", id, deleted)
	return u, nil
}

// BanUser bans the user and revokes the user's sessions.
func (in *Instance) BanUser(req Request, id string) (*User, error) {
	c := in.begin(req)
	defer c.end()
	u, err := c.changeUser(id, func(u *User) error { u.Banned = true; return nil })
	if err != nil {
		return nil, err
	}
	for _, s := range c.sessions.in(c.userSessions[id]) {
		if s.Live() {
			c.moveSession(s, SessionRevoked, "session.revoked")
		}
	}
	return u, nil
}

// UnbanUser lifts a ban.
func (in *Instance) UnbanUser(req Request, id string) (*User, error) {
	return in.editUser(req, id, func(_ *change, u *User) error { u.Banned = false; return nil })
}

// LockUser locks the user out.
func (in *Instance) LockUser(req Request, id string) (*User, error) {
	return in.editUser(req, id, func(_ *change, u *User) error { u.Locked = true; return nil })
}

// UnlockUser lets a locked user in again.
func (in *Instance) UnlockUser(req Request, id string) (*User, error) {
	return in.editUser(req, id, func(_ *change, u *User) error { u.Locked = false; return nil })
}

// DeprovisionUser is what a directory (SCIM) does to a user who left: the
// accounts become inactive, the user stays.
func (in *Instance) DeprovisionUser(req Request, userID string) (*User, error) {
	return in.editUser(req, userID, func(_ *change, u *User) error {
		u.Deprovisioned = true
		u.EnterpriseAccounts = slices.Clone(u.EnterpriseAccounts)
		for i := range u.EnterpriseAccounts {
			u.EnterpriseAccounts[i].Active = false
		}
		return nil
	})
}

// maxName is what a name may hold, in characters.
const maxName = 256

// checkProfile checks the fields that differ from the old user's, nil for a new one.
func (c *change) checkProfile(old, u *User) error {
	if old == nil {
		old = &User{}
	}
	for param, name := range map[string]OptString{"first_name": u.FirstName, "last_name": u.LastName} {
		if len([]rune(name)) > maxName {
			return tooLong(param)
		}
	}
	if u.ExternalID != old.ExternalID && c.externalIDs[string(u.ExternalID)] != "" {
		return taken("external_id", "external ID")
	}
	if u.Username != old.Username && u.Username != "" {
		return c.checkUsername(u.ID, string(u.Username))
	}
	return nil
}

func tooLong(param string) *Error {
	return paramError("form_param_max_length_exceeded", param, "exceeds maximum length", param+" should not exceed 256 characters.")
}

func (c *change) checkUsername(userID, name string) error {
	if len(name) < 4 || len(name) > 64 {
		return paramError("form_username_invalid_length", "username", "invalid length",
			"Your username must be between 4 and 64 characters long.")
	}
	if strings.Trim(strings.ToLower(name), "abcdefghijklmnopqrstuvwxyz0123456789_-") != "" {
		return paramError("form_username_invalid_character", "username", "invalid character",
			"Username can only contain letters, numbers and underscores.")
	}
	if owner := c.usernames[strings.ToLower(name)]; owner != "" && owner != userID {
		return taken("username", "username")
	}
	return nil
}

func (c *change) checkEmail(address string) error {
	if err := validEmail(address); err != nil {
		return err
	}
	if c.emails[strings.ToLower(address)] != "" {
		return taken("email_address", "email address")
	}
	return nil
}

// validEmail checks the form: an @ with something before it and a domain after.
func validEmail(address string) error {
	if address == "" {
		return Missing("email_address")
	}
	local, domain, _ := strings.Cut(address, "@")
	dot := strings.LastIndexByte(domain, '.')
	bad := local == "" || dot <= 0 || dot == len(domain)-1 || len(address) > 254 ||
		strings.ContainsFunc(address, func(r rune) bool { return r <= ' ' || r == 0x7f }) || strings.Contains(domain, "@")
	if bad {
		return Invalid("email_address", "a valid email address")
	}
	return nil
}

func (c *change) checkPhone(number string) error {
	if number == "" {
		return Missing("phone_number")
	}
	if ok, _ := regexp.MatchString(`^\+[1-9][0-9]{6,14}$`, number); !ok {
		return Invalid("phone_number", "a valid phone number according to E.164 international standard")
	}
	if c.phones[number] != "" {
		return taken("phone_number", "phone number")
	}
	return nil
}

func forbidden(code, text string) *Error { return refused(http.StatusForbidden, code, text) }
