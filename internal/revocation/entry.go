// Package revocation is whose session tokens are refused: the entries of the bucket
// CLERK_REVOCATIONS, the list that a gateway holds of them, and entries by hand.
//
// An entry is a cut-off: tokens made at or before it are refused. So whatever
// gives access back needs no lift, since the next token is a later one, and entries
// may be written in any order. A denial by hand refuses every token until it ends.
package revocation

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/rollcall-dev/rollcall/streams"
)

// Slack is how much longer an entry lives than the tokens that it refuses: room
// for clocks, and for events that come late.
const Slack = 5 * time.Minute

// WatermarkKey is written each second while the bucket holds all that the log says.
const WatermarkKey = "_watermark"

// Kind says whose tokens an entry refuses.
type Kind string

// The kinds, as keys begin with them.
const (
	User         Kind = "user"
	Session      Kind = "session"
	Organization Kind = "org"    // tokens with it active
	Member       Kind = "member" // a user's tokens with an organization active
	Role         Kind = "role"   // tokens with the role, in any organization
)

// Key of an entry: the ids are a user's, a session's or an organization's, an
// organization's and a user's, or a role's key.
func Key(kind Kind, ids ...string) string {
	var b strings.Builder
	b.WriteString(string(kind))
	for _, id := range ids {
		b.WriteByte('.')
		b.WriteString(streams.Key(id))
	}
	return b.String()
}

// ParseKey is the inverse of [Key].
func ParseKey(key string) (Kind, []string, error) {
	tokens := strings.Split(key, ".")
	kind, want := Kind(tokens[0]), 2
	switch kind {
	case User, Session, Organization, Role:
	case Member:
		want = 3
	default:
		return "", nil, fmt.Errorf("revocation: key %q is of no kind that is known", key)
	}
	if len(tokens) != want {
		return "", nil, fmt.Errorf("revocation: key %q has %d tokens rather than %d", key, len(tokens), want)
	}
	ids := tokens[1:]
	for i, t := range ids {
		id, err := streams.ParseKey(t)
		if err != nil {
			return "", nil, fmt.Errorf("revocation: key %q: %w", key, err)
		}
		ids[i] = id
	}
	return kind, ids, nil
}

// Entry is a key's value. Times are milliseconds since 1970.
type Entry struct {
	NotBefore int64  `json:"not_before"` // tokens made at or before it are refused; 0: no cut-off
	Reason    string `json:"reason"`     // of the cut-off
	EventID   string `json:"event_id"`   // of what wrote the entry last

	DenyUntil  int64  `json:"deny_until,omitempty"` // every token is refused until then
	DenyReason string `json:"deny_reason,omitempty"`
	DeniedBy   string `json:"denied_by,omitempty"` // user@host of the operating system
}

// Parse reads a value.
func Parse(value []byte) (Entry, error) {
	var e Entry
	if err := json.Unmarshal(value, &e); err != nil {
		return Entry{}, fmt.Errorf("revocation: read an entry: %w", err)
	}
	return e, nil
}

// Ends is when the entry refuses nothing any more, where no token lives longer
// than life.
func (e Entry) Ends(life time.Duration) time.Time {
	var ends time.Time
	if e.NotBefore > 0 {
		ends = time.UnixMilli(e.NotBefore).Add(life + Slack)
	}
	if denied := time.UnixMilli(e.DenyUntil); e.DenyUntil > 0 && denied.After(ends) {
		ends = denied
	}
	return ends
}

// TTL is the entry's remaining life as JetStream takes it: whole seconds, at
// least one.
func (e Entry) TTL(now time.Time, life time.Duration) string {
	left := e.Ends(life).Sub(now)
	return max(left.Round(time.Second)+time.Second, time.Second).String()
}
