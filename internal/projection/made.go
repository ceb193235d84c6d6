package projection

import (
	"strings"

	"github.com/rollcall-dev/rollcall/internal/rawjson"
)

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
