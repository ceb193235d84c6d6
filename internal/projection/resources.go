package projection

import (
	"strings"

	"github.com/rollcall-dev/rollcall/internal/rawjson"
)

// Resources are all that a store can hold, parents first. The first column of
// each is its id.
func Resources() []*Resource { return resources }

var resources = []*Resource{
	{
		Table: "users", Object: "user",
		Reads: []string{"first_name", "last_name", "email_addresses", "primary_email_address_id", "phone_numbers", "primary_phone_number_id"},
		Columns: []Column{
			{Name: "id", Type: Text, Path: "id", Doc: "Clerk's id, user_…"},
			{Name: "external_id", Type: ID, Path: "external_id", Personal: true, Index: true, Doc: "the id that you gave the user"},
			{Name: "username", Type: Text, Path: "username", Personal: true},
			{Name: "first_name", Type: Text, Path: "first_name", Personal: true},
			{Name: "last_name", Type: Text, Path: "last_name", Personal: true},
			{Name: "name", Type: Text, Made: fullName, Personal: true, Doc: "first and last name"},
			{Name: "email", Type: Text, Made: primaryEmail, Personal: true, Index: true, Doc: "the primary e-mail address; not unique"},
			{Name: "email_verified", Type: Bool, Made: emailVerified, Personal: true, Doc: "whether the primary e-mail address is verified"},
			{Name: "phone", Type: Text, Made: primaryPhone, Personal: true, Doc: "the primary phone number"},
			{Name: "image_url", Type: Text, Path: "image_url", Personal: true},
			{Name: "banned", Type: Bool, Path: "banned"},
			{Name: "locked", Type: Bool, Path: "locked"},
			{Name: "two_factor_enabled", Type: Bool, Path: "two_factor_enabled"},
			{Name: "password_enabled", Type: Bool, Path: "password_enabled"},
			{Name: "last_sign_in_at", Type: Timestamp, Path: "last_sign_in_at", Personal: true, Volatile: true},
			{Name: "last_active_at", Type: Timestamp, Path: "last_active_at", Personal: true, Volatile: true},
			{Name: "email_addresses", Type: JSON, Path: "email_addresses", Personal: true},
			{Name: "phone_numbers", Type: JSON, Path: "phone_numbers", Personal: true},
			{Name: "external_accounts", Type: JSON, Path: "external_accounts", Personal: true},
			{Name: "enterprise_accounts", Type: JSON, Path: "enterprise_accounts", Personal: true},
			{Name: "public_metadata", Type: JSON, Path: "public_metadata", Personal: true},
			{Name: "unsafe_metadata", Type: JSON, Path: "unsafe_metadata", Personal: true},
			{Name: "created_at", Type: Timestamp, Path: "created_at"},
			{Name: "updated_at", Type: Timestamp, Path: "updated_at"},
		},
	},
	{
		Table: "organizations", Object: "organization",
		Columns: []Column{
			{Name: "id", Type: Text, Path: "id", Doc: "Clerk's id, org_…"},
			{Name: "name", Type: Text, Path: "name", Personal: true},
			{Name: "slug", Type: Text, Path: "slug", Personal: true, Index: true},
			{Name: "image_url", Type: Text, Path: "image_url", Personal: true},
			{Name: "created_by", Type: ID, Path: "created_by", Doc: "the user who made it"},
			{Name: "members_count", Type: Integer, Path: "members_count", Volatile: true},
			{Name: "pending_invitations_count", Type: Integer, Path: "pending_invitations_count", Volatile: true},
			{Name: "max_allowed_memberships", Type: Integer, Path: "max_allowed_memberships"},
			{Name: "admin_delete_enabled", Type: Bool, Path: "admin_delete_enabled"},
			{Name: "public_metadata", Type: JSON, Path: "public_metadata", Personal: true},
			{Name: "created_at", Type: Timestamp, Path: "created_at"},
			{Name: "updated_at", Type: Timestamp, Path: "updated_at"},
		},
	},
	{
		Table: "organization_memberships", Object: "organizationMembership",
		Columns: []Column{
			{Name: "id", Type: Text, Path: "id", Doc: "Clerk's id, orgmem_…; a new one after a re-join"},
			{Name: "organization_id", Type: ID, Path: "organization.id", Index: true},
			{Name: "user_id", Type: ID, Path: "public_user_data.user_id", Index: true},
			{Name: "role", Type: Text, Path: "role", Doc: "the role's key, org:admin"},
			{Name: "role_name", Type: Text, Path: "role_name"},
			{Name: "permissions", Type: TextArray, Path: "permissions", Doc: "as the membership's own event had them"},
			{Name: "public_metadata", Type: JSON, Path: "public_metadata", Personal: true},
			{Name: "created_at", Type: Timestamp, Path: "created_at"},
			{Name: "updated_at", Type: Timestamp, Path: "updated_at"},
		},
		Parents: []Parent{{"organizations", "organization_id"}, {"users", "user_id"}},
	},
}

// fullName is first and last name with a space between, null where both are empty.
func fullName(f *Fields) (Value, error) {
	first, _ := rawjson.Text(f.Get("first_name"))
	last, _ := rawjson.Text(f.Get("last_name"))
	name, n := rawjson.StorableText(strings.TrimSpace(first + " " + last))
	return Value{Valid: name != "", Text: name, Replaced: int32(n)}, nil
}

func primaryEmail(f *Fields) (Value, error) {
	return textOf(rawjson.Member(primary(f, "email_addresses", "primary_email_address_id"), "email_address"))
}

func primaryPhone(f *Fields) (Value, error) {
	return textOf(rawjson.Member(primary(f, "phone_numbers", "primary_phone_number_id"), "phone_number"))
}

func emailVerified(f *Fields) (Value, error) {
	email := primary(f, "email_addresses", "primary_email_address_id")
	if email == nil {
		return Value{}, nil
	}
	status, _ := rawjson.Text(rawjson.Member(rawjson.Member(email, "verification"), "status"))
	return boolValue(status == "verified"), nil
}

// primary is the element of a list that the user's primary id names, nil where
// there is none. Columns of one element ask one after the other.
func primary(f *Fields, list, idField string) (found []byte) {
	if f.list == list {
		return f.element
	}
	defer func() { f.list, f.element = list, found }()
	id, ok := rawjson.Text(f.Get(idField))
	if !ok || id == "" {
		return nil
	}
	rawjson.Elements(f.Get(list), func(element []byte) {
		if candidate, _ := rawjson.TextBytes(rawjson.Member(element, "id")); string(candidate) == id {
			found = element
		}
	})
	return found
}
