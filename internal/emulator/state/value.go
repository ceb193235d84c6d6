package state

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
)

// OptString is a string that Clerk renders as null where it is empty.
type OptString string

// MarshalJSON renders the empty string as null.
func (s OptString) MarshalJSON() ([]byte, error) {
	if s == "" {
		return []byte("null"), nil
	}
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			return marshal(string(s))
		}
	}
	quoted := append(make([]byte, 0, len(s)+2), '"') // no encoder for what needs none
	return append(append(quoted, s...), '"'), nil
}

// OptInt is a count or a time in Unix milliseconds that Clerk renders as null
// where it is zero.
type OptInt int64

// MarshalJSON renders zero as null.
func (n OptInt) MarshalJSON() ([]byte, error) {
	if n == 0 {
		return []byte("null"), nil
	}
	return strconv.AppendInt(nil, int64(n), 10), nil
}

// List is a slice that is rendered as [] where it is empty, never as null.
type List[T any] []T

// MarshalJSON renders a nil list as [].
func (l List[T]) MarshalJSON() ([]byte, error) {
	if len(l) == 0 {
		return []byte("[]"), nil
	}
	return marshal([]T(l))
}

// Metadata is a JSON object as compact text, "" for {}. It is text rather than
// a map so that numbers beyond 2^53 and lone surrogates survive, and so that
// equal metadata can share memory.
type Metadata string

// JSON is the object's text, never empty.
func (m Metadata) JSON() string {
	if m == "" {
		return "{}"
	}
	return string(m)
}

// MarshalJSON renders the object.
func (m Metadata) MarshalJSON() ([]byte, error) { return []byte(m.JSON()), nil }

// UnmarshalJSON keeps the text; null is the empty object.
func (m *Metadata) UnmarshalJSON(text []byte) error {
	var b bytes.Buffer
	if err := json.Compact(&b, text); err != nil {
		return err
	}
	*m = Metadata(b.String())
	if *m == "{}" || *m == "null" {
		*m = ""
	}
	return nil
}

// emptyList is a list that is always empty here (passkeys, wallets).
type emptyList struct{}

func (emptyList) MarshalJSON() ([]byte, error) { return []byte("[]"), nil }

const imageBase = "https://img.clerk.com/"

// imageURL is where the picture of a user or an organization is: the uploaded
// one, or the one that Clerk draws for the id.
func imageURL(uploaded, id string) string {
	if uploaded != "" {
		return imageBase + uploaded
	}
	return imageBase + id
}

// uploadedImage is the reverse of imageURL for a loaded resource.
func uploadedImage(hasImage bool, url string) string {
	if !hasImage {
		return ""
	}
	return strings.TrimPrefix(url, imageBase)
}
