package state

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// change is one change under way: its request, under the instance's lock.
type change struct {
	*Instance
	req Request
}

// begin takes the lock; the caller releases it with end.
func (in *Instance) begin(req Request) *change {
	in.mu.Lock()
	return &change{in, req}
}

func (c *change) end() { c.mu.Unlock() }

// advance is the new updated_at of something that exists.
func (c *change) advance(updatedAt int64) int64 {
	if c.req.KeepUpdatedAt {
		return updatedAt
	}
	return c.tick()
}

type envelope struct {
	Data       any        `json:"data"`
	Object     string     `json:"object"`
	Type       string     `json:"type"`
	Timestamp  int64      `json:"timestamp"`
	InstanceID string     `json:"instance_id"`
	Attributes attributes `json:"event_attributes"`
}

type attributes struct {
	HTTPRequest struct {
		ClientIP  string `json:"client_ip"`
		UserAgent string `json:"user_agent"`
	} `json:"http_request"`
}

// emit hands the event to the listeners. Its timestamp is a few milliseconds
// after the newest updated_at, as Clerk's is.
func (c *change) emit(kind, entityID string, data any) {
	at := max(c.lastTick, c.now().UnixMilli()) + 5 + c.rng.Int64N(26)
	c.lastEvent = max(at, c.lastEvent+1)
	delete(c.builtIn, entityID)
	if len(c.listeners) == 0 {
		return
	}
	if u, ok := data.(*User); ok {
		data = u.rendered()
	}
	e := envelope{Data: data, Object: "event", Type: kind, Timestamp: c.lastEvent, InstanceID: c.ID}
	e.Attributes.HTTPRequest.ClientIP, e.Attributes.HTTPRequest.UserAgent = c.req.ClientIP, c.req.UserAgent
	body, err := marshal(e)
	if err != nil {
		panic(fmt.Sprintf("state: rendering %s of %s: %v", kind, entityID, err)) // all input was checked
	}
	for _, listen := range c.listeners {
		listen(Event{Type: kind, InstanceID: c.ID, EntityID: entityID, At: c.lastEvent, Body: body})
	}
}

// stub is the data of a deletion.
type stub struct {
	Object     string `json:"object"`
	ID         string `json:"id"`
	Slug       any    `json:"slug,omitempty"`
	ExternalID any    `json:"external_id,omitempty"`
	Deleted    bool   `json:"deleted"`
}

// marshal is json.Marshal that leaves <, > and & as they are, so that metadata
// keep their text.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
