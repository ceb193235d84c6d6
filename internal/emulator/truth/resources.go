package truth

import (
	"slices"
	"strings"
)

// resource says how a table follows from Clerk's objects. Of its columns those
// are compared that the table has.
type resource struct {
	table   string
	columns []column
	parents []parent
	// lenient: whether the deletion of a parent deletes the row too isn't known.
	// Both are right.
	lenient bool
}

// parent is an entity whose deletion deletes those that belong to it.
type parent struct {
	table string
	paths []string
}

// column is how one column follows from Clerk's object.
type column struct {
	name  string
	kind  kind
	paths []string // the first that the object has counts; default: the column's name
	made  func(object) []byte
	// ofRole: Clerk shows the role as it is now, but a role's change sends no event
	// of its memberships. What is older than the role may differ.
	ofRole bool
}

type kind int

const (
	text    kind = iota // a number or a boolean as it is written
	id                  // text; "" is null
	value               // boolean, integer, JSON, array: as Clerk has it
	instant             // milliseconds
)

// canonical appends what the column should hold for the object.
func (c *column) canonical(dst []byte, o object) []byte {
	var raw []byte
	if c.made != nil {
		raw = c.made(o)
	} else {
		raw = first(o, c.paths, c.name)
	}
	if isNull(raw) {
		return append(dst, "null"...)
	}
	if c.kind == text || c.kind == id {
		switch {
		case c.kind == id && string(raw) == `""`:
			return append(dst, "null"...)
		case raw[0] == '-' || raw[0] >= '0' && raw[0] <= '9' || raw[0] == 't' || raw[0] == 'f':
			return appendText(dst, string(raw))
		}
	}
	return appendCanonical(dst, raw)
}

func first(o object, paths []string, otherwise string) []byte {
	for _, p := range paths {
		if v := o.at(p); v != nil {
			return v
		}
	}
	if len(paths) > 0 {
		return nil
	}
	return o.at(otherwise)
}

// ignored columns are the store's own book-keeping, and what changes in Clerk
// without an event. Plans have another form in events than in the Backend API, and
// a payment's event has the items as they were then.
func ignored(column string) bool {
	return slices.Contains([]string{
		"instance_id", "synced_at", "stream_epoch", "stream_seq", "source", "version", "deleted_at",
		"last_sign_in_at", "last_active_at", "latest_activity",
		"members_count", "pending_invitations_count", "total_pending_invitations", "total_pending_suggestions",
		"missing_member_with_elevated_permissions", "lockout_expires_in_seconds", "verification_attempts_remaining", "subscription_items", "plan",
	}, column)
}

func texts(names ...string) []column    { return columns(text, names) }
func ids(names ...string) []column      { return columns(id, names) }
func values(names ...string) []column   { return columns(value, names) }
func instants(names ...string) []column { return columns(instant, names) }

func columns(k kind, names []string) []column {
	var all []column
	for _, n := range names {
		all = append(all, column{name: n, kind: k})
	}
	return all
}

func at(name string, k kind, paths ...string) column {
	return column{name: name, kind: k, paths: paths}
}

func made(name string, k kind, f func(object) []byte) column {
	return column{name: name, kind: k, made: f}
}

func inOrganization() parent { return parent{"organizations", []string{"organization_id"}} }

// resources are the contract's, with Clerk's field names.
func resources() []*resource {
	common := append(texts("id"), instants("created_at", "updated_at")...)
	payer := []column{at("user_id", id, "payer.user_id"), at("organization_id", id, "payer.organization_id")}
	payers := []parent{{"users", []string{"payer.user_id"}}, {"organizations", []string{"payer.organization_id"}}}
	all := []*resource{
		{table: "users", columns: slices.Concat(
			ids("external_id", "primary_email_address_id", "primary_phone_number_id", "primary_web3_wallet_id"),
			texts("username", "first_name", "last_name", "image_url", "locale"),
			values("has_image", "banned", "locked", "deprovisioned", "two_factor_enabled", "totp_enabled", "backup_code_enabled", "password_enabled"),
			values("delete_self_enabled", "create_organization_enabled", "create_organizations_limit", "bypass_client_trust"),
			instants("mfa_enabled_at", "mfa_disabled_at", "password_last_updated_at", "legal_accepted_at"),
			values("email_addresses", "phone_numbers", "web3_wallets", "passkeys", "external_accounts", "enterprise_accounts", "saml_accounts", "scim"),
			values("public_metadata", "unsafe_metadata", "private_metadata"),
			[]column{made("name", text, fullName), made("email", text, primaryEmail), made("email_verified", value, emailVerified), made("phone", text, primaryPhone)},
		)},
		{table: "organizations", columns: slices.Concat(
			texts("name", "slug", "image_url", "role_set_key"), ids("created_by"), values("has_image"),
			values("max_allowed_memberships", "admin_delete_enabled", "public_metadata", "private_metadata"),
		)},
		{table: "organization_memberships", columns: slices.Concat(
			[]column{
				at("organization_id", id, "organization.id", "organization_id"), at("user_id", id, "public_user_data.user_id", "user_id"),
				{name: "role_name", kind: text, ofRole: true}, {name: "permissions", kind: value, ofRole: true},
			},
			texts("role"), values("public_metadata", "private_metadata"),
		), parents: []parent{
			{"organizations", []string{"organization.id", "organization_id"}}, {"users", []string{"public_user_data.user_id", "user_id"}},
		}},
		{table: "organization_invitations", columns: slices.Concat(
			texts("email_address", "role", "role_name", "status", "url"), ids("organization_id", "user_id", "inviter_id"),
			values("public_metadata", "private_metadata"), instants("expires_at"),
		), parents: []parent{inOrganization()}},
		{table: "organization_domains", columns: slices.Concat(
			texts("name", "enrollment_mode", "affiliation_email_address"), ids("organization_id"),
			values("verification", "affiliation_verification", "ownership_verification"),
		), parents: []parent{inOrganization()}},
		{table: "roles", columns: slices.Concat(texts("name", "key", "description"), values("is_creator_eligible", "permissions"))},
		{table: "permissions", columns: texts("name", "key", "description", "type")},
		{table: "sessions", columns: slices.Concat(
			texts("status"), ids("user_id", "client_id", "last_active_organization_id"), values("actor"), instants("expire_at", "abandon_at"),
		), parents: []parent{{"users", []string{"user_id"}}}},
		{table: "subscriptions", columns: slices.Concat(
			texts("status"), ids("payer_id", "latest_payment_id", "payment_source_id"), payer,
			instants("active_at", "past_due_at", "canceled_at", "ended_at"),
		), parents: payers, lenient: true},
		{table: "subscription_items", columns: slices.Concat(
			texts("status", "interval", "plan_period"), ids("subscription_id", "plan_id", "payer_id"), payer, values("is_free_trial", "seats"),
			instants("period_start", "period_end", "past_due_at", "canceled_at", "ended_at"),
		), parents: payers, lenient: true},
		{table: "payment_attempts", columns: slices.Concat(
			texts("status", "charge_type", "gateway_external_id"), ids("payment_id", "invoice_id", "statement_id", "payer_id"), payer,
			values("failed_reason", "totals", "payee", "payment_source"),
			instants("paid_at", "failed_at", "billing_date"),
		), parents: payers, lenient: true},
		{table: "waitlist_entries", columns: slices.Concat(texts("email_address", "status"), values("is_locked"), []column{at("invitation_id", id, "invitation.id")})},
	}
	for _, r := range all {
		r.columns = append(r.columns, common...)
		slices.SortFunc(r.columns, func(a, b column) int { return strings.Compare(a.name, b.name) })
	}
	return all
}

func fullName(o object) []byte {
	name := strings.TrimSpace(o.text("first_name") + " " + o.text("last_name"))
	if name == "" {
		return nil
	}
	return appendText(nil, name)
}

func primaryEmail(o object) []byte {
	return primary(o, "email_addresses", "primary_email_address_id").at("email_address")
}

func primaryPhone(o object) []byte {
	return primary(o, "phone_numbers", "primary_phone_number_id").at("phone_number")
}

func emailVerified(o object) []byte {
	email := primary(o, "email_addresses", "primary_email_address_id")
	switch {
	case email == nil:
		return nil
	case email.text("verification.status") == "verified":
		return []byte("true")
	}
	return []byte("false")
}

// primary is the element of a list that the object's id names, nil where there
// is none.
func primary(o object, list, idField string) (found object) {
	want := o.text(idField)
	if want == "" {
		return nil
	}
	elements(o.at(list), func(element []byte) {
		if e := readObject(element); e.text("id") == want {
			found = e
		}
	})
	return found
}
