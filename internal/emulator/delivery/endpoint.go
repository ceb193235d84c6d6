package delivery

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/url"
	"slices"
	"time"
)

// Which names the headers of a delivery have.
const (
	HeadersSvix    = "svix" // svix-id, …: what Svix sends for Clerk
	HeadersWebhook = "webhook"
	HeadersBoth    = "both"
)

// Endpoint is where messages go.
type Endpoint struct {
	ID  string `json:"id"` // ep_…
	URL string `json:"url"`
	// Secrets (whsec_…) that sign, newest first. All but the first are rotated out
	// and sign for 24 hours (scaled) from the rotation, or from Add.
	Secrets      []string `json:"secrets"`
	Events       []string `json:"events"` // the types it wants; none: all
	HeaderFamily string   `json:"header_family,omitempty"`
	Disabled     bool     `json:"disabled,omitempty"`
	Reason       string   `json:"disabled_reason,omitempty"`
}

type endpoint struct {
	Endpoint // but for its Secrets
	secrets  []secret
	life     context.Context // of the attempts
	end      context.CancelFunc
	queue

	failingSince, lastFailure time.Time // failingSince is zero after a success
}

type secret struct {
	text    string
	key     key
	expires time.Time // zero: never
}

// Add adds an endpoint; an id, a secret and the header family are made up where
// they are missing. Several may have one URL.
func (s *Sender) Add(in Endpoint) (Endpoint, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return in, ErrClosed
	}
	if in.ID == "" {
		s.made++
		now := s.cfg.Clock().UnixMilli()
		in.ID = "ep_" + ksuid(now, randomFor(s.seed^uint64(now), s.made))
	}
	if slices.ContainsFunc(s.endpoints, func(e *endpoint) bool { return e.ID == in.ID }) {
		return in, fmt.Errorf("endpoint %s: there is one with this id", in.ID)
	}
	e := &endpoint{queue: queue{parked: map[*job]*time.Timer{}}}
	if err := e.set(in); err != nil {
		return in, err
	}
	if len(in.Secrets) == 0 {
		in.Secrets = []string{s.madeUpSecret()}
	}
	for i := len(in.Secrets) - 1; i >= 0; i-- {
		if err := e.rotate(in.Secrets[i], s.cfg.Clock().Add(scaled(rotatedFor, s.cfg.RetryScale))); err != nil {
			return in, err
		}
	}
	e.life, e.end = context.WithCancel(s.life)
	s.endpoints = append(s.endpoints, e)
	return e.public(s.cfg.Clock()), nil
}

// set takes over all of in but its secrets.
func (e *endpoint) set(in Endpoint) error {
	u, err := url.Parse(in.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return fmt.Errorf("endpoint %s: its url must be like http://127.0.0.1:8080/webhooks/clerk", in.ID)
	}
	switch in.HeaderFamily {
	case "":
		in.HeaderFamily = HeadersSvix
	case HeadersSvix, HeadersWebhook, HeadersBoth:
	default:
		return fmt.Errorf("endpoint %s: header_family %q: must be svix, webhook or both", in.ID, in.HeaderFamily)
	}
	if slices.Contains(in.Events, "") {
		return fmt.Errorf("endpoint %s: events: an empty type; leave the list empty to want all", in.ID)
	}
	in.Events, in.Secrets = slices.Clone(in.Events), nil
	e.Endpoint = in
	return nil
}

// Update changes an endpoint's URL, events, header family and whether it is
// disabled; its secrets are changed by Rotate. Errors: ErrNoEndpoint, and what
// is wrong with the values.
func (s *Sender) Update(in Endpoint) (Endpoint, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, err := s.find(in.ID)
	if err != nil {
		return in, err
	}
	before := e.Endpoint
	if err := e.set(in); err != nil {
		return in, err
	}
	e.Disabled, e.Reason = before.Disabled, before.Reason
	s.setDisabled(e, in.Disabled, "by request")
	return e.public(s.cfg.Clock()), nil
}

// SetDisabled disables an endpoint: what waits for it is given up, what is sent
// meanwhile is missing there (ReplayMissing). Or enables it again. The error is
// ErrNoEndpoint.
func (s *Sender) SetDisabled(id string, disabled bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, err := s.find(id)
	if err != nil {
		return err
	}
	s.setDisabled(e, disabled, "by request")
	return nil
}

func (s *Sender) setDisabled(e *endpoint, disabled bool, why string) {
	switch {
	case disabled && !e.Disabled:
		e.Disabled, e.Reason = true, why
		s.halt(e, reasonDisabled)
	case !disabled:
		e.Disabled, e.Reason, e.failingSince = false, "", time.Time{}
	}
}

// Delete removes an endpoint. Its attempts under way are cut, what waits for it
// is given up; its log stays. The error is ErrNoEndpoint.
func (s *Sender) Delete(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, err := s.find(id)
	if err != nil {
		return err
	}
	s.endpoints = slices.DeleteFunc(s.endpoints, func(x *endpoint) bool { return x == e })
	e.end()
	s.halt(e, reasonDeleted)
	return nil
}

// Rotate makes secret (or, if empty, one made up) the endpoint's newest. The
// others go on signing beside it for 24 hours (scaled). Errors: ErrNoEndpoint,
// and that the secret is none.
func (s *Sender) Rotate(id, secret string) (Endpoint, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, err := s.find(id)
	if err != nil {
		return Endpoint{}, err
	}
	if secret == "" {
		secret = s.madeUpSecret()
	}
	if err := e.rotate(secret, s.cfg.Clock().Add(scaled(rotatedFor, s.cfg.RetryScale))); err != nil {
		return Endpoint{}, err
	}
	return e.public(s.cfg.Clock()), nil
}

func (e *endpoint) rotate(text string, othersExpire time.Time) error {
	k, err := parseSecret(text)
	if err != nil {
		return fmt.Errorf("endpoint %s: %w", e.ID, err)
	}
	e.secrets = slices.DeleteFunc(e.secrets, func(old secret) bool { return old.text == text })
	for i := range e.secrets {
		if e.secrets[i].expires.IsZero() {
			e.secrets[i].expires = othersExpire
		}
	}
	e.secrets = slices.Insert(e.secrets, 0, secret{text: text, key: k})
	return nil
}

// Endpoints lists the endpoints in the order in which they were added, with the
// secrets that still sign.
func (s *Sender) Endpoints() []Endpoint {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]Endpoint, 0, len(s.endpoints))
	for _, e := range s.endpoints {
		list = append(list, e.public(s.cfg.Clock()))
	}
	return list
}

func (s *Sender) find(id string) (*endpoint, error) {
	for _, e := range s.endpoints {
		if e.ID == id {
			return e, nil
		}
	}
	return nil, fmt.Errorf("endpoint %q: %w", id, ErrNoEndpoint)
}

func (e *endpoint) wants(eventType string) bool {
	return len(e.Events) == 0 || slices.Contains(e.Events, eventType)
}

func (e *endpoint) public(now time.Time) Endpoint {
	out := e.Endpoint
	out.Events = append([]string{}, e.Events...)
	out.Secrets = nil
	for _, sec := range e.live(now) {
		out.Secrets = append(out.Secrets, sec.text)
	}
	return out
}

// live forgets the secrets that have expired. The newest never does.
func (e *endpoint) live(now time.Time) []secret {
	e.secrets = slices.DeleteFunc(e.secrets, func(s secret) bool { return !s.expires.IsZero() && !now.Before(s.expires) })
	return e.secrets
}

// signing are the keys to sign with, newest first.
func (e *endpoint) signing(now time.Time) []key {
	live := e.live(now)
	keys := make([]key, len(live))
	for i := range live {
		keys[i] = live[i].key
	}
	return keys
}

// answered takes note of an attempt's success and says whether the endpoint is
// to be disabled. Svix counts from failures that are less than a day apart.
func (e *endpoint) answered(ok bool, now time.Time, scale float64) (disable bool) {
	if ok {
		e.failingSince = time.Time{}
		return false
	}
	if e.failingSince.IsZero() || now.Sub(e.lastFailure) > scaled(failuresPart, scale) {
		e.failingSince = now
	}
	e.lastFailure = now
	return now.Sub(e.failingSince) >= scaled(disableAfter, scale)
}

// madeUpSecret is one as the dashboard makes them: 24 bytes. It is the same for
// a seed, so that a test's environment stays as it is.
func (s *Sender) madeUpSecret() string {
	s.made++
	rng := randomFor(^s.seed, s.made)
	b := make([]byte, 24)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return secretPrefix + base64.StdEncoding.EncodeToString(b)
}
