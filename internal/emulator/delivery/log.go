package delivery

import (
	"container/list"
	"fmt"
	"slices"
)

// State of a delivery.
type State string

// All but Pending are settled.
const (
	Pending   State = "pending"
	Delivered State = "delivered" // answered 2xx
	Failed    State = "failed"    // given up
	Aborted   State = "aborted"   // by the receiver's webhook-delivery: abort-message
	Dropped   State = "dropped"   // by chaos, never attempted
)

// Delivery is what the log has on one message for one endpoint.
type Delivery struct {
	MessageID  string    `json:"message_id"` // the header svix-id
	EndpointID string    `json:"endpoint_id"`
	Type       string    `json:"type"`
	EntityID   string    `json:"entity_id,omitempty"`
	At         int64     `json:"at"` // when it happened, unix ms
	State      State     `json:"state"`
	Reason     string    `json:"reason,omitempty"`       // of a state other than pending and delivered
	Chaos      []string  `json:"chaos,omitempty"`        // what chaos did to it, by the names of its probabilities
	NextAt     int64     `json:"next_attempt,omitempty"` // unix ms, while it waits for a retry
	Attempts   []Attempt `json:"attempts"`               // oldest first
}

// Filter selects deliveries; the zero value of a field selects all.
type Filter struct {
	MessageID  string
	EndpointID string
	Type       string
	State      State
	Since      int64 // At from here, unix ms
	Until      int64 // At before here, unix ms
	Newest     bool  // newest messages first
	Limit      int   // deliveries a page; 0 is 100, at most 1000
	Cursor     string
}

const (
	defaultLimit = 100
	maxLimit     = 1000
)

func (f *Filter) takes(d *delivery) bool {
	return (f.MessageID == "" || f.MessageID == d.m.id) &&
		(f.EndpointID == "" || f.EndpointID == d.e.ID) &&
		(f.Type == "" || f.Type == d.m.Type) &&
		(f.State == "" || f.State == d.state) &&
		(f.Since == 0 || d.m.At >= f.Since) &&
		(f.Until == 0 || d.m.At < f.Until)
}

// Deliveries lists one page of the log, in the order in which messages were
// sent or the reverse. The cursor for the next page is empty after the last;
// messages that come or are forgotten meanwhile shift nothing.
func (s *Sender) Deliveries(f Filter) (page []Delivery, cursor string, err error) {
	sequence, index := uint64(0), 0
	if f.Cursor != "" {
		if _, err := fmt.Sscanf(f.Cursor, "%d.%d", &sequence, &index); err != nil {
			return nil, "", fmt.Errorf("cursor %q: not one that a page of deliveries ended with", f.Cursor)
		}
	}
	if f.Limit < 0 || f.Limit > maxLimit {
		return nil, "", fmt.Errorf("limit %d: from 1 to %d", f.Limit, maxLimit)
	}
	limit := orDefault(f.Limit, defaultLimit)
	page = []Delivery{}
	s.mu.Lock()
	defer s.mu.Unlock()
	for m := range s.kept.walk(f.Newest) {
		if f.Cursor != "" && (f.Newest && m.sequence > sequence || !f.Newest && m.sequence < sequence) {
			continue
		}
		for i, d := range m.deliveries {
			if f.Cursor != "" && m.sequence == sequence && i < index || !f.takes(d) {
				continue
			}
			if len(page) == limit {
				return page, fmt.Sprintf("%d.%d", m.sequence, i), nil
			}
			page = append(page, d.public())
		}
	}
	return page, "", nil
}

// walk goes over the messages kept, in the order of Send or the reverse.
func (k *keeper) walk(newest bool) func(func(*message) bool) {
	first, next := (*list.List).Front, (*list.Element).Next
	if newest {
		first, next = (*list.List).Back, (*list.Element).Prev
	}
	return func(yield func(*message) bool) {
		for at := first(k.all); at != nil; at = next(at) {
			if !yield(at.Value.(*message)) {
				return
			}
		}
	}
}

// message is one that was sent, with its deliveries in the order in which their
// endpoints came to it.
type message struct {
	Message
	id         string
	sequence   uint64 // from 1, in the order of Send
	deliveries []*delivery
	open       int // jobs

	// The keeper's:
	bytes int64
	place *list.Element // in all
	among *list.List    // delivered or owed, once settled
	rank  *list.Element // in among
}

type delivery struct {
	m        *message
	e        *endpoint
	state    State
	reason   string
	chaos    []string
	due      int64 // of the retry it waits for, unix ms
	attempts []Attempt
}

// at is a message's delivery to an endpoint, if there is one.
func (m *message) at(e *endpoint) *delivery {
	for _, d := range m.deliveries {
		if d.e == e {
			return d
		}
	}
	return nil
}

// to adds a delivery to an endpoint that has none.
func (m *message) to(e *endpoint) *delivery {
	d := &delivery{m: m, e: e, state: Pending}
	m.deliveries = append(m.deliveries, d)
	return d
}

func (d *delivery) public() Delivery {
	attempts := slices.Clone(d.attempts)
	if attempts == nil {
		attempts = []Attempt{}
	}
	return Delivery{
		MessageID: d.m.id, EndpointID: d.e.ID, Type: d.m.Type, EntityID: d.m.EntityID, At: d.m.At,
		State: d.state, Reason: d.reason, Chaos: d.chaos, NextAt: d.due, Attempts: attempts,
	}
}
