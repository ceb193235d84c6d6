package streams

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// Event is one message of the log. A field that the message lacks is zero.
type Event struct {
	ID         string // the svix-id; for an event of Rollcall's own, its message id
	Type       string // "user.updated"
	InstanceID string // Clerk's instance, "" where the body names none
	// Timestamp is Clerk's clock when the event happened, in UTC: to the
	// millisecond, or to the second where that is all Clerk sent.
	Timestamp   time.Time
	HTTPRequest HTTPRequest     // who caused it, where Clerk says so
	Data        json.RawMessage // the entity as Clerk sent it; decode with Payload
	Raw         json.RawMessage // the whole body as Clerk sent it, but for what Redacted names

	Source      Source
	ReceivedAt  time.Time // ingest's clock, in UTC, to the millisecond
	Redacted    []string  // JSON paths that were nulled before the event was stored
	Traceparent string    // W3C trace context
}

// HTTPRequest is the request that led to an event. Fields are "" where no
// request did.
type HTTPRequest struct {
	ClientIP  string `json:"client_ip"`
	UserAgent string `json:"user_agent"`
}

// ParseEvent reads a message of the log. A field that is missing, unknown, or
// of another JSON type than Clerk specifies is no error; the event has it zero.
// A body that is no JSON object is one. Raw of the event shares body's memory.
func ParseEvent(header nats.Header, body []byte) (Event, error) {
	var envelope struct {
		Type       string          `json:"type"`
		InstanceID string          `json:"instance_id"`
		Timestamp  json.RawMessage `json:"timestamp"`
		Data       json.RawMessage `json:"data"`
		Attributes struct {
			HTTPRequest HTTPRequest `json:"http_request"`
		} `json:"event_attributes"`
	}
	if err := decodeObject(body, &envelope); err != nil {
		return Event{}, fmt.Errorf("streams: decode event: %w", err)
	}
	e := Event{
		ID:          header.Get(HeaderSvixID),
		Type:        envelope.Type,
		InstanceID:  envelope.InstanceID,
		Timestamp:   ParseTimestamp(string(envelope.Timestamp)),
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
		e.ReceivedAt = unixMilli(ms)
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
// since 1970, told apart by magnitude: from 1e11 on (the year 5138 in seconds)
// it is milliseconds. It returns UTC, and the zero time for what is no number
// or lies beyond the year 9999.
func ParseTimestamp(number string) time.Time {
	n, ok := parseNumber(number)
	if !ok {
		return time.Time{}
	}
	if n < secondsBelow && n > -secondsBelow {
		n *= 1000
	}
	return unixMilli(n)
}
