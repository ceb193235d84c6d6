package backendapi

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/rollcall-dev/rollcall/internal/emulator/state"
)

const maxBulkUsers = 50

func listUsers(r *request) (any, error) {
	q := r.query()
	f, o, p := readUserFilter(q), readOrder(q, userOrders), q.page()
	cursor := q.text("starting_after")
	if cursor != "" {
		checkCursor(q, r.inst, p)
	}
	if err := q.err(); err != nil {
		return nil, err
	}
	var users []*state.User
	if cursor == "" {
		users = f.from(r.inst, f.candidates(r.inst))
	} else {
		users = f.from(r.inst, following(r.inst, cursor, o.desc))
	}
	return views(r, o.cut(users, p)), nil
}

// checkCursor rejects what starting_after can't be combined with, and a cursor
// whose user is gone. That last answer's code is our reading: the specification
// has a 422, without saying which.
func checkCursor(q *query, in *state.Instance, p page) {
	if o := strings.TrimLeft(q.text("order_by"), "+- "); o != "" && o != "created_at" {
		q.reject(formValue("order_by", q.text("order_by"), "created_at", "+created_at", "-created_at"))
	}
	if p.offset != 0 {
		q.reject(formConflict("offset", "starting_after"))
	}
	if in.User(q.text("starting_after")) == nil {
		q.reject(formResource("starting_after"))
	}
}

// following are the users after one of them, in order of creation.
func following(in *state.Instance, id string, desc bool) []*state.User {
	all := in.Users()
	i := slices.IndexFunc(all, func(u *state.User) bool { return u.ID == id })
	switch {
	case i < 0: // deleted since it was checked
		return nil
	case desc:
		return all[:i]
	default:
		return all[i+1:]
	}
}

func countUsers(r *request) (any, error) {
	q := r.query()
	f := readUserFilter(q)
	if err := q.err(); err != nil {
		return nil, err
	}
	return struct {
		Object     string `json:"object"`
		TotalCount int    `json:"total_count"`
	}{"total_count", len(f.from(r.inst, f.candidates(r.inst)))}, nil
}

// user is the one of the path.
func (r *request) user() (*state.User, error) {
	id := r.PathValue("user_id")
	if u := r.inst.User(id); u != nil {
		return u, nil
	}
	return nil, state.NotFound("user", id)
}

func getUser(r *request) (any, error) { return r.show(r.user()) }

func createUser(r *request) (any, error) {
	b, err := r.object()
	if err != nil {
		return nil, err
	}
	p := state.UserParams{
		ExternalID:                b.text("external_id").value,
		FirstName:                 b.text("first_name").value,
		LastName:                  b.text("last_name").value,
		Locale:                    b.text("locale").value,
		Username:                  b.text("username").value,
		EmailAddresses:            b.list("email_address").value,
		PhoneNumbers:              b.list("phone_number").value,
		PublicMetadata:            b.metadata("public_metadata"),
		PrivateMetadata:           b.metadata("private_metadata"),
		UnsafeMetadata:            b.metadata("unsafe_metadata"),
		Password:                  readPassword(b),
		TOTP:                      b.text("totp_secret").has(),
		BackupCodes:               len(b.list("backup_codes").value) > 0,
		DeleteSelfEnabled:         b.boolean("delete_self_enabled").pointer(),
		CreateOrganizationEnabled: b.boolean("create_organization_enabled").pointer(),
		CreateOrganizationsLimit:  b.integer("create_organizations_limit").value,
		BypassClientTrust:         b.boolean("bypass_client_trust").value,
		Banned:                    b.boolean("banned").value,
		Locked:                    b.boolean("locked").value,
		LegalAcceptedAt:           b.instant("legal_accepted_at").value,
		CreatedAt:                 b.instant("created_at").value,
		Unverified:                readReserved(b),
	}
	b.ignore("web3_wallet", "skip_password_checks", "skip_password_requirement", "skip_legal_checks", "skip_user_requirement")
	if len(p.EmailAddresses)+len(p.PhoneNumbers) == 0 && p.Username == "" && !b.has("web3_wallet") {
		b.reject(formDataMissing("email_address", "phone_number", "username"))
	}
	if err := b.err(); err != nil {
		return nil, err
	}
	return r.show(r.inst.CreateUser(r.change(), p))
}

// readPassword reads what sets a password, and reports whether something does.
func readPassword(b *body) bool {
	password, digest := b.text("password"), b.text("password_digest")
	if n := len([]rune(password.value)); password.has() && n < 8 {
		b.reject(formItem("password", "form_password_length_too_short",
			"Passwords must be 8 characters or more.", "Passwords must be 8 characters or more."))
	}
	if hasher := b.text("password_hasher"); digest.has() && !hasher.has() {
		b.reject(formRequiredWith("password_hasher", "password_digest"))
	}
	return password.has() || digest.has()
}

// readReserved reports whether the identifiers are to be unverified. State
// knows them all verified or none, so that one reserved makes all unverified.
func readReserved(b *body) bool {
	statuses := slices.Concat(b.list("email_address_identification_status").value,
		b.list("phone_number_identification_status").value)
	for _, s := range statuses {
		if s != "verified" && s != "reserved" {
			b.reject(formValue("identification_status", s, "verified", "reserved"))
		}
	}
	return slices.Contains(statuses, "reserved")
}

func updateUser(r *request) (any, error) {
	b, err := r.object()
	if err != nil {
		return nil, err
	}
	p := state.UserUpdate{
		ExternalID:                b.text("external_id").orEmpty(),
		FirstName:                 b.text("first_name").orEmpty(),
		LastName:                  b.text("last_name").orEmpty(),
		Locale:                    b.text("locale").orEmpty(),
		Username:                  b.text("username").orEmpty(),
		PrimaryEmailAddressID:     b.text("primary_email_address_id").pointer(),
		PrimaryPhoneNumberID:      b.text("primary_phone_number_id").pointer(),
		ImageID:                   b.text("profile_image_id").pointer(),
		DeleteSelfEnabled:         b.boolean("delete_self_enabled").pointer(),
		CreateOrganizationEnabled: b.boolean("create_organization_enabled").pointer(),
		CreateOrganizationsLimit:  b.integer("create_organizations_limit").orEmpty(),
		BypassClientTrust:         b.boolean("bypass_client_trust").pointer(),
		LegalAcceptedAt:           b.instant("legal_accepted_at").pointer(),
		CreatedAt:                 b.instant("created_at").pointer(),
	}
	yes := true
	if readPassword(b) {
		p.PasswordEnabled = &yes
	}
	if b.text("totp_secret").has() {
		p.TOTPEnabled = &yes
	}
	if len(b.list("backup_codes").value) > 0 {
		p.BackupCodeEnabled = &yes
	}
	if r.version < versionNoMetadataInUpdate {
		p.PublicMetadata = b.metadata("public_metadata")
		p.PrivateMetadata = b.metadata("private_metadata")
		p.UnsafeMetadata = b.metadata("unsafe_metadata")
	}
	signOut := b.boolean("sign_out_of_other_sessions").value
	b.ignore("primary_web3_wallet_id", "notify_primary_email_address_changed", "skip_password_checks", "skip_legal_checks")
	if err := b.err(); err != nil {
		return nil, err
	}
	u, err := r.inst.UpdateUser(r.change(), r.PathValue("user_id"), p)
	if err == nil && signOut {
		err = r.revokeSessions(u.ID)
	}
	return r.show(u, err)
}

// revokeSessions signs a user out everywhere.
func (r *request) revokeSessions(userID string) error {
	for _, s := range r.inst.SessionsOfUser(userID) {
		if s.Live() {
			if _, err := r.inst.RevokeSession(r.change(), s.ID); err != nil {
				return err
			}
		}
	}
	return nil
}

func mergeUserMetadata(r *request) (any, error) {
	p, err := r.metadata("public_metadata", "private_metadata", "unsafe_metadata")
	if err != nil {
		return nil, err
	}
	return r.show(r.inst.MergeUserMetadata(r.change(), r.PathValue("user_id"), p))
}

func replaceUserMetadata(r *request) (any, error) {
	p, err := r.metadata("public_metadata", "private_metadata", "unsafe_metadata")
	if err != nil {
		return nil, err
	}
	return r.show(r.inst.UpdateUser(r.change(), r.PathValue("user_id"), state.UserUpdate{
		PublicMetadata: p.Public, PrivateMetadata: p.Private, UnsafeMetadata: p.Unsafe,
	}))
}

// metadata reads a body that has nothing but metadata, of the kinds allowed.
func (r *request) metadata(kinds ...string) (p state.MetadataPatch, err error) {
	b, err := r.object()
	if err != nil {
		return p, err
	}
	into := map[string]*json.RawMessage{
		"public_metadata": &p.Public, "private_metadata": &p.Private, "unsafe_metadata": &p.Unsafe,
	}
	for _, kind := range kinds {
		*into[kind] = b.metadata(kind)
	}
	return p, b.err()
}

func deleteUser(r *request) (any, error) {
	u, err := r.inst.DeleteUser(r.change(), r.PathValue("user_id"))
	if err != nil {
		return nil, err
	}
	return deleted{Object: "user", ID: u.ID, ExternalID: string(u.ExternalID), Deleted: true}, nil
}

// A userChange is a change that needs nothing but the user.
type userChange func(*state.Instance, state.Request, string) (*state.User, error)

func changeUser(change userChange) func(*request) (any, error) {
	return func(r *request) (any, error) {
		return r.show(change(r.inst, r.change(), r.PathValue("user_id")))
	}
}

// changeUsers does to each of user_ids; if one of them isn't there, to none.
func changeUsers(change userChange) func(*request) (any, error) {
	return func(r *request) (any, error) {
		b, err := r.object()
		if err != nil {
			return nil, err
		}
		ids := b.list("user_ids").value
		if len(ids) == 0 {
			b.reject(formMissing("user_ids"))
		}
		if err := b.err(); err != nil {
			return nil, err
		}
		if len(ids) > maxBulkUsers {
			return nil, errBulkSize(maxBulkUsers)
		}
		for _, id := range ids {
			if r.inst.User(id) == nil {
				return nil, state.NotFound("user", id)
			}
		}
		users := make([]*state.User, len(ids))
		for i, id := range ids {
			if users[i], err = change(r.inst, r.change(), id); err != nil {
				return nil, err
			}
		}
		return views(r, users), nil
	}
}

func removePassword(r *request) (any, error) {
	b, err := r.object()
	if err != nil {
		return nil, err
	}
	signOut := b.boolean("sign_out_of_other_sessions").value
	if err := b.err(); err != nil {
		return nil, err
	}
	u, err := r.user()
	if err != nil || !u.PasswordEnabled {
		return r.show(u, err)
	}
	u, err = r.inst.UpdateUser(r.change(), u.ID, state.UserUpdate{PasswordEnabled: new(bool)})
	if err == nil && signOut {
		err = r.revokeSessions(u.ID)
	}
	return r.show(u, err)
}

// disableFactors makes a handler that turns off what the update says.
func disableFactors(update state.UserUpdate) func(*request) (any, error) {
	return func(r *request) (any, error) {
		u, err := r.inst.UpdateUser(r.change(), r.PathValue("user_id"), update)
		if err != nil {
			return nil, err
		}
		return struct {
			UserID string `json:"user_id"`
		}{u.ID}, nil
	}
}

func deleteProfileImage(r *request) (any, error) {
	return r.show(r.inst.UpdateUser(r.change(), r.PathValue("user_id"), state.UserUpdate{ImageID: new(string)}))
}

func deleteExternalAccount(r *request) (any, error) {
	id := r.PathValue("external_account_id")
	if _, err := r.inst.UnlinkExternalAccount(r.change(), r.PathValue("user_id"), id); err != nil {
		return nil, err
	}
	return deleted{Object: "external_account", ID: id, Deleted: true}, nil
}
