package streams

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
)

// ResourceRollcall is the resource of what Rollcall itself did: its events are
// of the types rollcall.<action>.
const ResourceRollcall = "rollcall"

// The actions of Rollcall's own events.
const (
	ActionLetterDropped   = "letter_dropped"   // its data is a LetterDropped
	ActionLettersRedriven = "letters_redriven" // its data is a LettersRedriven

	ActionBackfillStarted  = "backfill_started"  // its data is a BackfillStarted
	ActionBackfillFinished = "backfill_finished" // its data is a BackfillFinished

	ActionReconciled = "reconciled" // its data is a Reconciled

	ActionRevoked          = "revoked"           // its data is a Revocation
	ActionRevocationLifted = "revocation_lifted" // its data is a Revocation
)

// LetterDropped says that an operator gave a dead letter up: the data of
// rollcall.letter_dropped, which is in the log before the letter is gone. It
// holds nothing of the letter that may be personal.
type LetterDropped struct {
	ID        string `json:"id"` // of the letter
	Sink      string `json:"sink"`
	Reason    string `json:"reason"` // the letter's; of a database's error only its SQLSTATE
	EventType string `json:"event_type"`
	EntityID  string `json:"entity_id"`
	By        string `json:"by"` // user@host of the operating system

	Raw json.RawMessage `json:"-"`
}

// LettersRedriven says that an operator had dead letters applied: the data of
// rollcall.letters_redriven, one event a run.
type LettersRedriven struct {
	ID    string          `json:"id"` // of the run
	Sinks []SinkRedriven  `json:"sinks"`
	By    string          `json:"by"` // user@host of the operating system
	Raw   json.RawMessage `json:"-"`
}

// SinkRedriven is what became of one sink's letters.
type SinkRedriven struct {
	Sink    string `json:"sink"`
	Applied int64  `json:"applied"` // and deleted
	Failed  int64  `json:"failed"`  // stay, with a new reason
}

// BackfillStarted says that what Clerk's Backend API lists is being put into the
// log: the data of rollcall.backfill_started, one event a run, however often the
// run is interrupted.
type BackfillStarted struct {
	ID        string   `json:"id"`        // of the run
	Resources []string `json:"resources"` // by table
	By        string   `json:"by"`        // user@host of the operating system

	Raw json.RawMessage `json:"-"`
}

// BackfillFinished says that all of it is in the log: the data of
// rollcall.backfill_finished.
type BackfillFinished struct {
	ID        string               `json:"id"` // of the run
	StartedAt Millis               `json:"started_at"`
	Resources []ResourceBackfilled `json:"resources"`
	Requests  int64                `json:"requests"` // to Clerk
	By        string               `json:"by"`       // user@host of the operating system

	Raw json.RawMessage `json:"-"`
}

// ResourceBackfilled is what one resource came to.
type ResourceBackfilled struct {
	Resource string `json:"resource"` // by table
	Fetched  int64  `json:"fetched"`  // snapshots that went into the log
	// Left is why Clerk didn't list them; "" where it did.
	Left string `json:"left"`
}

// Reconciled says that stores were compared with Clerk's Backend API, and that
// what differed was mended: the data of rollcall.reconciled, one event a pass that
// put snapshots or deletes into the log.
type Reconciled struct {
	ID        string               `json:"id"`   // of the run
	Pass      string               `json:"pass"` // "recent" or "full"
	Resources []ResourceReconciled `json:"resources"`
	By        string               `json:"by"` // user@host of the operating system

	Raw json.RawMessage `json:"-"`
}

// ResourceReconciled is what one resource of one store came to.
type ResourceReconciled struct {
	Store    string `json:"store"`    // the sink's name
	Resource string `json:"resource"` // by table
	Missing  int64  `json:"missing"`  // had no live row
	Stale    int64  `json:"stale"`    // had other values
	Extra    int64  `json:"extra"`    // Clerk no longer had them
	Mended   int64  `json:"mended"`   // of these
}

// Revocation says that an operator revoked a user, a session or an organization,
// or lifted that: the data of rollcall.revoked and rollcall.revocation_lifted,
// which is in the log before it takes effect.
type Revocation struct {
	ID       string `json:"id"`        // of the act
	Kind     string `json:"kind"`      // "user", "session", "organization"
	EntityID string `json:"entity_id"` // whose tokens are refused
	Until    Millis `json:"until"`     // null where it is lifted
	Reason   string `json:"reason"`
	By       string `json:"by"` // user@host of the operating system

	Raw json.RawMessage `json:"-"`
}

// Act makes the message of one of Rollcall's own events, rollcall.<action>.
// The id names what was done, or to what; the instance is "" where it concerns
// none. A repeated message has the same message id.
func (n Names) Act(instanceID, action, id string, at time.Time, data any) (*nats.Msg, error) {
	type envelope struct {
		Type       string `json:"type"`
		Object     string `json:"object"`
		Timestamp  int64  `json:"timestamp"` // milliseconds
		InstanceID string `json:"instance_id,omitempty"`
		Data       any    `json:"data"`
	}
	body, err := json.Marshal(envelope{ResourceRollcall + "." + action, "event", at.UnixMilli(), instanceID, data})
	if err != nil {
		return nil, fmt.Errorf("streams: encode rollcall.%s: %w", action, err)
	}
	s := Subject{InstanceID: instanceID, Resource: ResourceRollcall, Action: action, EntityID: id}
	for _, token := range []*string{&s.InstanceID, &s.EntityID} {
		if len(Token(*token)) > MaxToken {
			*token = ""
		}
	}
	return &nats.Msg{Subject: n.Subject(s), Data: body, Header: nats.Header{
		HeaderMsgID:      {s.Type() + ":" + id},
		HeaderSource:     {string(SourceOperator)},
		HeaderReceivedAt: {strconv.FormatInt(at.UnixMilli(), 10)},
	}}, nil
}
