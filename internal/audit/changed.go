package audit

import (
	"bytes"
	"encoding/json"
	"reflect"
	"regexp"
	"strings"

	"github.com/rollcall-dev/rollcall/internal/rawjson"
)

// secretName matches members whose text lets somebody in, or that are nobody
// else's business.
var secretName = regexp.MustCompile(`(?i)otp|code|token|ticket|password|secret|private_metadata|^url$`)

// uncompared are members that every event changes, or none, and other entities
// that stand within: those have events of their own.
var uncompared = map[string]bool{
	"id": true, "object": true, "updated_at": true,
	"user": true, "organization": true, "public_user_data": true, "public_organization_data": true, "payer": true,
}

// differences are the fields of an entity's data that differ from those of its
// event before, as JSON: {"first_name":{"before":"A","after":"B"}}, or
// {"secret":true} for what is kept secret. nil where none do, and where there is
// nothing to compare with. A field that either event lacks is not said to differ:
// Clerk's events of one entity don't always show as much.
func differences(before, after []byte) []byte {
	old := map[string][]byte{}
	rawjson.Members(rawjson.Member(before, "data"), func(key, value []byte) { old[string(key)] = value })
	if len(old) == 0 {
		return nil
	}
	var out []byte
	rawjson.Members(rawjson.Member(after, "data"), func(key, value []byte) {
		name := string(key)
		was, there := old[name]
		if !there || uncompared[name] || same(was, value) {
			return
		}
		if out == nil {
			out = append(out, '{')
		} else {
			out = append(out, ',')
		}
		out = append(appendString(out, name), ':')
		from, hidden := shown(name, was)
		to, hiddenToo := shown(name, value)
		if hidden || hiddenToo {
			out = append(out, `{"secret":true}`...)
			return
		}
		out = append(append(out, `{"before":`...), from...)
		out = append(append(append(out, `,"after":`...), to...), '}')
	})
	if out == nil {
		return nil
	}
	return append(out, '}')
}

// same compares values; JSON of another spelling or order may say the same.
func same(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	if k := rawjson.Kind(a); k != rawjson.Kind(b) || k == 't' || k == 'f' {
		return false
	}
	return reflect.DeepEqual(decode(a), decode(b))
}

func decode(value []byte) (v any) {
	d := json.NewDecoder(bytes.NewReader(value))
	d.UseNumber()
	if d.Decode(&v) != nil {
		return string(value)
	}
	return v
}

// shown is a value as the log may show it; hidden where it may not be shown, or
// hides something within.
func shown(name string, value []byte) (json []byte, hidden bool) {
	if isSecret(name, value) {
		return nil, true
	}
	switch rawjson.Kind(value) {
	case '{', '[':
		clean, secrets := scrub(nil, value)
		if secrets {
			value = clean
		}
	}
	value, _ = rawjson.Storable(value)
	return value, false
}

// isSecret reports whether a member's value must not be shown. A flag or a time
// gives nothing away (password_enabled), nor does nothing.
func isSecret(name string, value []byte) bool {
	switch rawjson.Kind(value) {
	case '"':
		s, _ := rawjson.Text(value)
		return s != "" && (secretName.MatchString(name) || strings.Contains(s, "token=") || strings.Contains(s, "ticket="))
	case '{', '[':
		return secretName.MatchString(name) && len(bytes.Trim(value, "{}[] \t\r\n")) > 0 || name == "private_metadata"
	}
	return false
}

// scrub copies a value without the secrets within.
func scrub(out, value []byte) (_ []byte, secrets bool) {
	comma := func(open byte) {
		if out[len(out)-1] != open {
			out = append(out, ',')
		}
	}
	inner := func(name string, v []byte) {
		if isSecret(name, v) {
			out, secrets = append(out, `"[secret]"`...), true
			return
		}
		var within bool
		out, within = scrub(out, v)
		secrets = secrets || within
	}
	switch rawjson.Kind(value) {
	case '{':
		out = append(out, '{')
		rawjson.Members(value, func(key, v []byte) {
			comma('{')
			out = append(appendString(out, string(key)), ':')
			inner(string(key), v)
		})
		out = append(out, '}')
	case '[':
		out = append(out, '[')
		rawjson.Elements(value, func(v []byte) {
			comma('[')
			inner("", v)
		})
		out = append(out, ']')
	default:
		out = append(out, value...)
	}
	return out, secrets
}

func appendString(b []byte, s string) []byte {
	quoted, err := json.Marshal(storable(s))
	if err != nil {
		return append(b, `""`...) // a string always marshals
	}
	return append(b, quoted...)
}
