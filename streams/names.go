package streams

import (
	"errors"
	"fmt"
	"strings"
)

// Headers of the messages in the log. HTTP header names of the webhook keep
// their spelling.
const (
	HeaderMsgID         = "Nats-Msg-Id"          // the svix-id, or the message id of an event of Rollcall's own; JetStream drops a second message with the same one
	HeaderTTL           = "Nats-TTL"             // how long JetStream keeps this one message; absent: for ever
	HeaderSvixID        = "Svix-Id"              // the event's id: stable over retries, replays and endpoints; absent from events of Rollcall's own
	HeaderSvixTimestamp = "Svix-Timestamp"       // seconds since 1970: when this attempt was signed; orders nothing
	HeaderSvixSignature = "Svix-Signature"       // as received; holds over the body as long as Rollcall-Redacted is absent
	HeaderSource        = "Rollcall-Source"      // where the event came from
	HeaderReceivedAt    = "Rollcall-Received-At" // milliseconds since 1970, ingest's clock
	HeaderRedacted      = "Rollcall-Redacted"    // JSON paths nulled before publishing, comma-separated, "..." for the rest of a long list; absent: none
	HeaderTraceparent   = "traceparent"          // W3C trace context, as received
)

// Headers of a dead letter, beside those the message had.
const (
	HeaderReason   = "Rollcall-Reason"   // one sentence: why the sink could not apply it
	HeaderSink     = "Rollcall-Sink"     // ingest, store-<name>, audit, invalidate, revoke
	HeaderEpoch    = "Rollcall-Epoch"    // epoch of the stream the message was read from; absent for ingest
	HeaderSequence = "Rollcall-Sequence" // its sequence in that epoch; absent for ingest
	HeaderSubject  = "Rollcall-Subject"  // its subject there; absent for ingest
	HeaderLogMsgID = "Rollcall-Msg-Id"   // its Nats-Msg-Id there; absent for ingest
	HeaderAttempts = "Rollcall-Attempts" // how often it was tried
)

// Source says where an event came from: the value of [HeaderSource].
type Source string

// The sources of events.
const (
	SourceWebhook     Source = "webhook"     // Clerk sent it, signed
	SourceBackfill    Source = "backfill"    // a snapshot read from Clerk's Backend API, to fill the log
	SourceReconcile   Source = "reconcile"   // a snapshot, or a delete inferred, because a store differed from the Backend API
	SourceReadThrough Source = "readthrough" // a snapshot read from the Backend API, because someone asked for what no store had
	SourceErase       Source = "erase"       // a delete with nothing but the id, because a person was erased
	SourceOperator    Source = "operator"    // an act of an operator, such as a dead letter dropped
)

// Sink names, as they stand in [HeaderSink] and in dead letter subjects.
const (
	SinkIngest     = "ingest"     // authentic, but no event: not JSON, no usable type, another instance's
	SinkAudit      = "audit"      // could not be written to the audit log
	SinkInvalidate = "invalidate" // could not be turned into stale keys
	SinkRevoke     = "revoke"     // could not be turned into a revocation
)

// SinkStore is the sink name of the store called name.
func SinkStore(name string) string { return "store-" + name }

// Names makes the names of streams, buckets and subjects. With the prefix
// "staging" streams and buckets begin with "STAGING_" and subjects with
// "staging."; the zero value has no prefix.
type Names struct {
	Prefix string
}

// Validate reports a prefix that cannot stand in both names and subjects.
func (n Names) Validate() error {
	for _, c := range []byte(n.Prefix) {
		if c != '-' && c != '_' && (c < '0' || c > '9') && (c < 'a' || c > 'z') {
			return fmt.Errorf("streams: prefix %q has %q; use a-z, 0-9, - and _", n.Prefix, c)
		}
	}
	if n.Prefix == "clerk" {
		return errors.New(`streams: prefix "clerk" would put its subjects into the stream of who has no prefix; choose another`)
	}
	return nil
}

func (n Names) upper(name string) string {
	if n.Prefix == "" {
		return name
	}
	return strings.ToUpper(n.Prefix) + "_" + name
}

func (n Names) lower(subject string) string {
	if n.Prefix == "" {
		return subject
	}
	return n.Prefix + "." + subject
}

// Stream is the log: every event, in the order in which it was stored.
func (n Names) Stream() string { return n.upper("CLERK") }

// DeadStream holds the dead letters of all sinks.
func (n Names) DeadStream() string { return n.upper("CLERK_DEAD") }

// AnchorStream holds the audit log's anchors: how its chain stood, now and then.
func (n Names) AnchorStream() string { return n.upper("CLERK_ANCHORS") }

// StateBucket keeps positions, leases and checkpoints.
func (n Names) StateBucket() string { return n.upper("CLERK_STATE") }

// RevocationBucket holds whose tokens are refused, and from when.
func (n Names) RevocationBucket() string { return n.upper("CLERK_REVOCATIONS") }

// ErasedBucket holds the ids of erased people, and nothing else of them.
func (n Names) ErasedBucket() string { return n.upper("CLERK_ERASED") }

// StreamSubjects is the wildcard that the log listens on.
func (n Names) StreamSubjects() string { return n.lower("clerk.>") }

// DeadSubjects is the wildcard that the dead letters' stream listens on.
func (n Names) DeadSubjects() string { return n.lower("rollcall.dead.>") }

// AnchorSubject is where the audit log's anchors go.
func (n Names) AnchorSubject() string { return n.lower("rollcall.anchor") }

// Subject of an event.
func (n Names) Subject(s Subject) string {
	return n.lower("clerk." + Token(s.InstanceID) + "." + Token(s.Resource) + "." + Token(s.Action) + "." + Token(s.EntityID))
}

// InstanceSubjects matches all events of one instance, or of all ("").
func (n Names) InstanceSubjects(instanceID string) string {
	if instanceID == "" {
		return n.StreamSubjects()
	}
	return n.lower("clerk." + Token(instanceID) + ".>")
}

// ResourceSubjects matches the events of one resource in Clerk's name
// ("organizationMembership"), of one instance or of all ("").
func (n Names) ResourceSubjects(instanceID, resource string) string {
	instance := "*"
	if instanceID != "" {
		instance = Token(instanceID)
	}
	return n.lower("clerk." + instance + "." + Token(resource) + ".*.*")
}

// DeadSubject is where a sink's dead letter about an event goes.
func (n Names) DeadSubject(sink string, s Subject) string {
	return n.lower("rollcall.dead." + Token(sink) + "." + Token(s.Resource) + "." + Token(s.Action) + "." + Token(s.EntityID))
}

// InvalidateSubject is where the stale keys of one entity are published, for
// example rollcall.invalidate.users.user_2g7. The resource is the table's name.
// No stream holds these messages.
func (n Names) InvalidateSubject(table, entityID string) string {
	return n.lower("rollcall.invalidate." + Token(table) + "." + Token(entityID))
}

// InvalidateSubjects matches all of them.
func (n Names) InvalidateSubjects() string { return n.lower("rollcall.invalidate.>") }
