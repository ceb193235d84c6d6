package streams

import (
	"errors"
	"fmt"
	"strings"
)

// MaxToken is the longest subject token, in bytes as encoded, that ingest
// publishes. NATS itself has no such limit, but closes the connection of who
// sends an over-long protocol line.
const MaxToken = 256

// absent stands for a value that the event does not have.
const absent = "_"

const upperHex = "0123456789ABCDEF"

// Subject is what an event's subject says: clerk.<instance_id>.<resource>.<action>.<entity_id>.
// Resource is Clerk's name ("organizationMembership"); an absent value is "".
type Subject struct {
	InstanceID, Resource, Action, EntityID string
}

// Type is the event's type, for example "user.updated".
func (s Subject) Type() string { return s.Resource + "." + s.Action }

// plain reports whether a byte may stand in a token as it is: printable ASCII
// but for what NATS reads as structure, and the escape sign itself.
func plain(c byte) bool {
	return c > ' ' && c < 0x7f && c != '.' && c != '*' && c != '>' && c != '%'
}

// Token makes one subject token of a value: what cannot stand in a subject,
// and "%", is percent-encoded byte by byte; "" becomes "_", and a value that
// is "_" itself becomes "%5F", so that [ParseToken] is its inverse.
func Token(value string) string {
	if value == "" {
		return absent
	}
	if value == absent {
		return "%5F"
	}
	n := 0
	for i := range len(value) {
		if !plain(value[i]) {
			n++
		}
	}
	if n == 0 {
		return value
	}
	var b strings.Builder
	b.Grow(len(value) + 2*n)
	for i := range len(value) {
		c := value[i]
		if plain(c) {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(upperHex[c>>4])
		b.WriteByte(upperHex[c&15])
	}
	return b.String()
}

// ParseToken is the inverse of [Token].
func ParseToken(token string) (string, error) {
	switch token {
	case absent:
		return "", nil
	case "":
		return "", errors.New("streams: a subject token is empty")
	}
	return unescape(token, '%', "token")
}

// unescape reads the two upper-case hexadecimal digits after each mark as a byte;
// what names the text in errors.
func unescape(text string, mark byte, what string) (string, error) {
	if strings.IndexByte(text, mark) < 0 {
		return text, nil
	}
	b := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		if text[i] != mark {
			b = append(b, text[i])
			continue
		}
		if i+2 >= len(text) {
			return "", fmt.Errorf("streams: %s %q ends inside an escape", what, text)
		}
		hi, lo := strings.IndexByte(upperHex, text[i+1]), strings.IndexByte(upperHex, text[i+2])
		if hi < 0 || lo < 0 {
			return "", fmt.Errorf("streams: %s %q has the bad escape %q", what, text, text[i:i+3])
		}
		b = append(b, byte(hi<<4|lo))
		i += 2
	}
	return string(b), nil
}

// ParseSubject reads a subject that [Names.Subject] made.
func (n Names) ParseSubject(subject string) (Subject, error) {
	rest, ok := strings.CutPrefix(subject, n.lower("clerk."))
	parts := strings.Split(rest, ".")
	if !ok || len(parts) != 4 {
		return Subject{}, fmt.Errorf("streams: %q is not %s", subject, n.lower("clerk.<instance_id>.<resource>.<action>.<entity_id>"))
	}
	for i, p := range parts {
		v, err := ParseToken(p)
		if err != nil {
			return Subject{}, fmt.Errorf("%w, in %q", err, subject)
		}
		parts[i] = v
	}
	return Subject{InstanceID: parts[0], Resource: parts[1], Action: parts[2], EntityID: parts[3]}, nil
}

// SplitType splits an event type of the form resource.action; ok is false for
// anything else.
func SplitType(eventType string) (resource, action string, ok bool) {
	resource, action, ok = strings.Cut(eventType, ".")
	return resource, action, ok && resource != "" && action != "" && !strings.Contains(action, ".")
}
