package streams

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// Event is one message of the log.
type Event struct {
	ID         string // the svix-id; for an event of Rollcall's own, its message id
	Type       string // "user.updated"
	InstanceID string // Clerk's instance, "" where the body and the endpoint named none
	// Timestamp is Clerk's clock when the event happened, to the millisecond.
	Timestamp   time.Time
	HTTPRequest HTTPRequest     // who caused it, where Clerk says so
	Data        json.RawMessage // the entity as Clerk sent it; decode with Payload
	Raw         json.RawMessage // the whole body as Clerk sent it, but for what Redacted names

	Source      Source
	ReceivedAt  time.Time // ingest's clock
	Redacted    []string  // JSON paths that were nulled before the event was stored
	Traceparent string
}

// HTTPRequest is the request that led to an event. Fields are "" where no
// request did.
type HTTPRequest struct {
	ClientIP  string `json:"client_ip"`
	UserAgent string `json:"user_agent"`
}

// ParseEvent reads a message of the log. Missing and unknown fields are no
// errors, and nothing is checked that Clerk does not promise.
func ParseEvent(header nats.Header, body []byte) (Event, error) {
	var envelope struct {
		Type       string          `json:"type"`
		InstanceID string          `json:"instance_id"`
		Timestamp  json.Number     `json:"timestamp"`
		Data       json.RawMessage `json:"data"`
		Attributes struct {
			HTTPRequest HTTPRequest `json:"http_request"`
		} `json:"event_attributes"`
	}
	if err := json.Unmarshal(body, &envelope); err != nil {
		return Event{}, fmt.Errorf("streams: decode event: %w", err)
	}
	e := Event{
		ID:          header.Get(HeaderSvixID),
		Type:        envelope.Type,
		InstanceID:  envelope.InstanceID,
		Timestamp:   ParseTimestamp(envelope.Timestamp.String()),
		HTTPRequest: envelope.Attributes.HTTPRequest,
		Data:        envelope.Data,
		Raw:         body,
		Source:      Source(header.Get(HeaderSource)),
		Traceparent: header.Get(HeaderTraceparent),
	}
	if e.ID == "" {
		e.ID = header.Get(HeaderMsgID)
	}
	if ms, err := strconv.ParseInt(header.Get(HeaderReceivedAt), 10, 64); err == nil {
		e.ReceivedAt = time.UnixMilli(ms)
	}
	if r := header.Get(HeaderRedacted); r != "" {
		e.Redacted = strings.Split(r, ",")
	}
	return e, nil
}

// secondsBelow is where an envelope's timestamp stops being seconds: real
// deliveries carry milliseconds, the specification's examples seconds.
const secondsBelow = 1e11

// ParseTimestamp reads an envelope's timestamp, in seconds or milliseconds
// since 1970, told apart by magnitude. Anything else is the zero time.
func ParseTimestamp(number string) time.Time {
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		f, err := strconv.ParseFloat(number, 64)
		if err != nil || f != f || f < -1<<62 || f > 1<<62 {
			return time.Time{}
		}
		n = int64(f)
	}
	if n < secondsBelow && n > -secondsBelow {
		return time.Unix(n, 0)
	}
	return time.UnixMilli(n)
}
