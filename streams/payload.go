package streams

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// Payload decodes the event's data into the type that belongs to the event's
// type: *[User], *[Organization], *[OrganizationMembership],
// *[OrganizationInvitation], *[OrganizationDomain], *[Invitation], *[Role],
// *[Permission], *[Session], *[Email], *[SMS], *[WaitlistEntry],
// *[Subscription], *[SubscriptionItem], *[PaymentAttempt], *[Deleted],
// *[LetterDropped], *[LettersRedriven], *[BackfillStarted], *[BackfillFinished], *[Reconciled], *[Revocation],
// and *[Unknown] for a resource that this version does not know. An action that it does not know, <resource>.snapshot
// among them, decodes as the resource.
// data.object decides nothing: Clerk's own examples have it wrong.
//
// Payloads are tolerant, since Clerk sends what its specification forbids: a
// field that is missing, null, or of another JSON type than specified is left
// zero and is no error. Text, times and lists are plain values, "", the zero
// [Millis] and nil where Clerk sends null; numbers and booleans that Clerk may
// send as null are pointers, since 0 and false say something else. Metadata
// and other free-form objects stay JSON, so that numbers beyond 2^53 keep
// their digits. Whoever needs what was left out, or null told from "", reads
// Raw: every payload has the whole data there. Raw of an embedded object is nil.
//
// It is an error only if data is not a JSON object.
func (e Event) Payload() (any, error) {
	p := newPayload(e.Type, e.Data)
	if _, ok := p.(*Unknown); ok {
		return p, nil
	}
	if err := decodeObject(e.Data, p); err != nil {
		return nil, fmt.Errorf("streams: decode data of %s %s: %w", e.Type, e.ID, err)
	}
	return p, nil
}

// newPayload is the empty payload of an event type, with nothing but its raw
// JSON set.
func newPayload(eventType string, data json.RawMessage) any {
	resource, action, ok := SplitType(eventType)
	p := newResource(resource, data)
	if resource == ResourceRollcall {
		p = newAct(action, data)
	}
	switch {
	case !ok || p == nil:
		return &Unknown{Type: eventType, Data: data}
	case action == "deleted" && resource != "organizationMembership":
		// A membership's delete carries the whole membership: who left which
		// organization stands nowhere else.
		return &Deleted{Raw: data}
	}
	return p
}

func newResource(resource string, data json.RawMessage) any {
	switch resource {
	case "user":
		return &User{Raw: data}
	case "organization":
		return &Organization{Raw: data}
	case "organizationMembership":
		return &OrganizationMembership{Raw: data}
	case "organizationInvitation":
		return &OrganizationInvitation{Raw: data}
	case "organizationDomain":
		return &OrganizationDomain{Raw: data}
	case "invitation":
		return &Invitation{Raw: data}
	case "role":
		return &Role{Raw: data}
	case "permission":
		return &Permission{Raw: data}
	case "session":
		return &Session{Raw: data}
	case "email":
		return &Email{Raw: data}
	case "sms":
		return &SMS{Raw: data}
	case "waitlistEntry":
		return &WaitlistEntry{Raw: data}
	case "subscription":
		return &Subscription{Raw: data}
	case "subscriptionItem":
		return &SubscriptionItem{Raw: data}
	case "paymentAttempt":
		return &PaymentAttempt{Raw: data}
	}
	return nil
}

// newAct is of an event of Rollcall's own.
func newAct(action string, data json.RawMessage) any {
	switch action {
	case ActionLetterDropped:
		return &LetterDropped{Raw: data}
	case ActionLettersRedriven:
		return &LettersRedriven{Raw: data}
	case ActionRevoked, ActionRevocationLifted:
		return &Revocation{Raw: data}
	case ActionBackfillStarted:
		return &BackfillStarted{Raw: data}
	case ActionBackfillFinished:
		return &BackfillFinished{Raw: data}
	case ActionReconciled:
		return &Reconciled{Raw: data}
	}
	return nil
}

// errNotObject is about JSON that is valid but cannot be an entity.
var errNotObject = errors.New("not a JSON object")

// decodeObject decodes an object's fields into the struct that v points to. A
// field of another type than v has is skipped: encoding/json goes on after a
// type error and reports the first at the end.
func decodeObject(data []byte, v any) error {
	err := json.Unmarshal(data, v)
	if typeErr := (*json.UnmarshalTypeError)(nil); err != nil && !errors.As(err, &typeErr) {
		return err
	}
	if !bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte("{")) {
		return errNotObject
	}
	return nil
}

// Unknown is the data of an event of a resource that this version does not
// know.
type Unknown struct {
	Type string          `json:"-"` // the event's
	Data json.RawMessage `json:"-"` // as Clerk sent it; nil where the event has none
}

// Deleted says that an entity is gone: the data of user.deleted,
// organization.deleted, organizationDomain.deleted, role.deleted and
// permission.deleted. Roles and permissions may come whole; then Raw has the
// rest. A membership's delete is an [OrganizationMembership].
//
// Source: DeletedObject of Clerk's webhook specification.
type Deleted struct {
	Object     string `json:"object"`
	ID         string `json:"id"` // the specification does not require it
	Slug       string `json:"slug"`
	ExternalID string `json:"external_id"`
	Deleted    bool   `json:"deleted"`

	Raw json.RawMessage `json:"-"`
}

// Types lists the event types known, sorted: those of Clerk's webhook
// specification, and subscriptionItem.created, subscriptionItem.expired and
// invitation.*, which only Clerk's SDK and documentation name. A type that is
// not among them is normal.
func Types() []string {
	return []string{
		"email.created",
		"invitation.accepted", "invitation.created", "invitation.revoked",
		"organization.created", "organization.deleted", "organization.updated",
		"organizationDomain.created", "organizationDomain.deleted", "organizationDomain.updated",
		"organizationInvitation.accepted", "organizationInvitation.created", "organizationInvitation.revoked",
		"organizationMembership.created", "organizationMembership.deleted", "organizationMembership.updated",
		"paymentAttempt.created", "paymentAttempt.updated",
		"permission.created", "permission.deleted", "permission.updated",
		"role.created", "role.deleted", "role.updated",
		"session.created", "session.ended", "session.pending", "session.removed", "session.revoked",
		"sms.created",
		"subscription.active", "subscription.created", "subscription.pastDue", "subscription.updated",
		"subscriptionItem.abandoned", "subscriptionItem.active", "subscriptionItem.canceled",
		"subscriptionItem.created", "subscriptionItem.ended", "subscriptionItem.expired",
		"subscriptionItem.freeTrialEnding", "subscriptionItem.incomplete", "subscriptionItem.pastDue",
		"subscriptionItem.upcoming", "subscriptionItem.updated",
		"user.created", "user.deleted", "user.updated",
		"waitlistEntry.created", "waitlistEntry.updated",
	}
}
