package delivery

import (
	"errors"
	"fmt"
	"time"
)

// Errors of a replay and of an endpoint's change.
var (
	ErrNoEndpoint = errors.New("no such endpoint")
	ErrNoMessage  = errors.New("no such message, or it isn't kept any more")
	ErrDisabled   = errors.New("the endpoint is disabled: enable it first")
)

// A replay sends a message again: under its id, signed anew, with the whole
// retry schedule before it, and spared by chaos.

// Replay delivers one message again, to one endpoint, wanted there or not, or
// (endpointID empty) to every enabled one that wants its type. What still waits
// for a retry is tried now. Errors: ErrNoEndpoint, ErrNoMessage, ErrDisabled,
// ErrClosed.
func (s *Sender) Replay(messageID, endpointID string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, known := s.kept.byID[messageID]
	if !known {
		return fmt.Errorf("message %q: %w", messageID, ErrNoMessage)
	}
	endpoints, err := s.receivers(endpointID)
	if err != nil {
		return err
	}
	for _, e := range endpoints {
		if endpointID != "" || e.wants(m.Type) {
			s.again(m, e)
		}
	}
	return nil
}

// ReplayFailed delivers again what was given up or aborted, of the messages
// that happened since then, to one endpoint or (endpointID empty) to all enabled
// ones. It returns the ids of the messages. Errors: ErrNoEndpoint, ErrDisabled,
// ErrClosed.
func (s *Sender) ReplayFailed(endpointID string, since time.Time) ([]string, error) {
	return s.replay(endpointID, since, func(d *delivery) bool {
		return d != nil && (d.state == Failed || d.state == Aborted)
	})
}

// ReplayMissing delivers what an endpoint wants, has not had and is not about
// to get: given up, aborted, dropped by chaos, or sent while it was disabled or
// before there was such an endpoint. The rest is as with ReplayFailed.
func (s *Sender) ReplayMissing(endpointID string, since time.Time) ([]string, error) {
	return s.replay(endpointID, since, func(d *delivery) bool {
		return d == nil || d.state != Delivered && d.state != Pending
	})
}

func (s *Sender) replay(endpointID string, since time.Time, pick func(*delivery) bool) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	endpoints, err := s.receivers(endpointID)
	if err != nil {
		return nil, err
	}
	ids := []string{}
	for m := range s.kept.walk(false) {
		picked := false
		for _, e := range endpoints {
			if m.At >= since.UnixMilli() && e.wants(m.Type) && pick(m.at(e)) {
				s.again(m, e)
				picked = true
			}
		}
		if picked {
			ids = append(ids, m.id)
		}
	}
	return ids, nil
}

// receivers are the endpoints of a replay: the one named, or all enabled ones.
func (s *Sender) receivers(id string) ([]*endpoint, error) {
	if s.closed {
		return nil, ErrClosed
	}
	if id != "" {
		e, err := s.find(id)
		if err == nil && e.Disabled {
			err = fmt.Errorf("endpoint %s: %w", id, ErrDisabled)
		}
		return []*endpoint{e}, err
	}
	var enabled []*endpoint
	for _, e := range s.endpoints {
		if !e.Disabled {
			enabled = append(enabled, e)
		}
	}
	return enabled, nil
}

// again delivers a message once more to an endpoint, or makes it hurry there.
func (s *Sender) again(m *message, e *endpoint) {
	d := m.at(e)
	switch {
	case d == nil:
		d = m.to(e)
		s.counts.Pending++
	case d.state == Pending:
		s.hurry(d)
		return
	default:
		s.turn(d, Pending, "")
	}
	s.opened(d)
	s.ready(&job{d: d, kind: Replay})
}

// hurry takes a delivery out of whatever it waits for.
func (s *Sender) hurry(d *delivery) {
	for j := range d.e.parked {
		if j.d == d {
			d.due = 0
			s.unpark(j)
			return
		}
	}
}
