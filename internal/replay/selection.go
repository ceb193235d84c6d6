package replay

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/rollcall-dev/rollcall/streams"
)

// Point is a place in the log: a sequence, or the time at which JetStream stored
// a message. The zero Point is the log's own end on that side.
type Point struct {
	Sequence uint64
	Time     time.Time
}

// Selection says which events are replayed. What is zero selects all.
type Selection struct {
	From, To Point  // both included
	Resource string // Clerk's name: organizationMembership
	Action   string // updated
	// UserID and OrganizationID select what is about one: itself, and what names
	// it as its user, organization, member or payer.
	UserID, OrganizationID string
	// Subjects are those that the target takes, as NATS wildcards.
	Subjects []string
}

// subjects are the server's part of the selection. The server refuses patterns
// that overlap, so that a target's own are used only where nothing else is.
func (s *Selection) subjects(n streams.Names) []string {
	switch {
	case s.Resource != "" && s.Action != "":
		all := n.ResourceSubjects("", s.Resource)
		return []string{strings.TrimSuffix(all, "*.*") + streams.Token(s.Action) + ".*"}
	case s.Resource != "":
		return []string{n.ResourceSubjects("", s.Resource)}
	case len(s.Subjects) > 0:
		return s.Subjects
	}
	return []string{n.StreamSubjects()}
}

func (s *Selection) needsBody() bool { return s.UserID != "" || s.OrganizationID != "" }

func (s *Selection) until(t time.Time) bool { return s.To.Time.IsZero() || !t.After(s.To.Time) }

// matches is the part of the selection that the server can't do.
func (s *Selection) matches(n streams.Names, m streams.Message) bool {
	if len(s.Subjects) > 0 && !anyMatches(s.Subjects, m.Subject) {
		return false
	}
	if !s.needsBody() {
		return true
	}
	of, err := n.ParseSubject(m.Subject)
	if err != nil {
		return false
	}
	var b about
	_ = json.Unmarshal(m.Data, &b) // what can't be read names nobody
	return (s.UserID == "" || of.Resource == "user" && of.EntityID == s.UserID || b.names(s.UserID, b.users())) &&
		(s.OrganizationID == "" || of.Resource == "organization" && of.EntityID == s.OrganizationID || b.names(s.OrganizationID, b.organizations()))
}

// about is what of an event's body names its user and its organization.
type about struct {
	Data struct {
		UserID         id `json:"user_id"`
		OrganizationID id `json:"organization_id"`
		Organization   struct {
			ID id `json:"id"`
		} `json:"organization"`
		PublicUserData struct {
			UserID id `json:"user_id"`
		} `json:"public_user_data"`
		Payer struct {
			UserID         id `json:"user_id"`
			OrganizationID id `json:"organization_id"`
		} `json:"payer"`
	} `json:"data"`
}

func (b *about) users() []id {
	return []id{b.Data.UserID, b.Data.PublicUserData.UserID, b.Data.Payer.UserID}
}

func (b *about) organizations() []id {
	return []id{b.Data.OrganizationID, b.Data.Organization.ID, b.Data.Payer.OrganizationID}
}

func (*about) names(wanted string, ids []id) bool {
	for _, i := range ids {
		if string(i) == wanted {
			return true
		}
	}
	return false
}

// id is a string; any other value is none, and no reason to overlook the rest.
type id string

func (i *id) UnmarshalJSON(data []byte) error {
	var s string
	if json.Unmarshal(data, &s) == nil {
		*i = id(s)
	}
	return nil
}

func anyMatches(patterns []string, subject string) bool {
	for _, p := range patterns {
		if match(p, subject) {
			return true
		}
	}
	return false
}

// match is NATS's: * stands for one token, > for one or more.
func match(pattern, subject string) bool {
	for {
		want, patterns, more := strings.Cut(pattern, ".")
		if want == ">" {
			return true
		}
		have, subjects, has := strings.Cut(subject, ".")
		if want != "*" && want != have || more != has {
			return false
		}
		if !more {
			return true
		}
		pattern, subject = patterns, subjects
	}
}
