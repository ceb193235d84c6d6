package delivery

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"time"
)

// Chaos is how bad the internet is: for each message the probability, 0 to 1,
// of each trouble. A message's troubles hang on the seed and on its number
// alone, each on its own: neither concurrency nor the other probabilities change
// them. All endpoints suffer alike; replays are spared.
//
// Nothing authentic is lost but by Drop: forgeries are sent in addition.
type Chaos struct {
	Duplicate float64 `json:"duplicate"` // sent twice side by side; the second isn't delayed or held, nor retried
	Reorder   float64 `json:"reorder"`   // held until 1 to 8 later ones were attempted, 2 s at the most
	Delay     float64 `json:"delay"`     // sent delay_ms later
	Drop      float64 `json:"drop"`      // never attempted
	Burst     float64 `json:"burst"`     // held for a second or until there are 50, then sent together
	// BadSignature and Corrupt send a forgery just before the first authentic
	// attempt: signed with another secret, or with a byte of the body changed. What
	// the receiver answers is only logged (Counts.ForgedAccepted).
	BadSignature float64 `json:"bad_signature"`
	Corrupt      float64 `json:"corrupt"`
	// EqualUpdatedAt is for who makes the changes: they don't advance updated_at.
	// Nothing happens to it here.
	EqualUpdatedAt float64 `json:"equal_updated_at"`
	// These are for the Backend API: a request is answered 429 with Retry-After, or
	// 500, or never (the connection is cut after delay_ms), or with half of the answer.
	// Nothing happens to them here.
	APILimited   float64 `json:"api_limited"`
	APIError     float64 `json:"api_error"`
	APITimeout   float64 `json:"api_timeout"`
	APITruncated float64 `json:"api_truncated"`
	DelayMS      int     `json:"delay_ms"`      // of Delay and APITimeout; 0 is 1000
	ClockSkewMS  int     `json:"clock_skew_ms"` // added to the time of every signature; may be negative
}

const (
	maxDelay     = time.Hour
	maxSkew      = 365 * 24 * time.Hour
	maxPasses    = 8
	defaultDelay = time.Second
)

// Validate names the first field that is out of range, by its JSON name.
func (c Chaos) Validate() error {
	for _, p := range []struct {
		name  string
		value float64
	}{
		{"duplicate", c.Duplicate}, {"reorder", c.Reorder}, {"delay", c.Delay}, {"drop", c.Drop}, {"burst", c.Burst},
		{"bad_signature", c.BadSignature}, {"corrupt", c.Corrupt}, {"equal_updated_at", c.EqualUpdatedAt},
		{"api_limited", c.APILimited}, {"api_error", c.APIError}, {"api_timeout", c.APITimeout}, {"api_truncated", c.APITruncated},
	} {
		if !(p.value >= 0 && p.value <= 1) { // so that NaN is refused
			return fmt.Errorf("chaos: %s is %v: must be a probability from 0 to 1", p.name, p.value)
		}
	}
	if c.DelayMS < 0 || c.DelayMS > int(maxDelay.Milliseconds()) {
		return fmt.Errorf("chaos: delay_ms is %d: must be from 0 to %d (an hour)", c.DelayMS, maxDelay.Milliseconds())
	}
	if most := int(maxSkew.Milliseconds()); c.ClockSkewMS < -most || c.ClockSkewMS > most {
		return fmt.Errorf("chaos: clock_skew_ms is %d: must be within a year, from -%d to %d", c.ClockSkewMS, most, most)
	}
	return nil
}

// Merge is c with what a JSON object says of some of its fields. It refuses
// unknown fields and what Validate does.
func (c Chaos) Merge(patch []byte) (Chaos, error) {
	merged := c
	d := json.NewDecoder(bytes.NewReader(patch))
	d.DisallowUnknownFields()
	if err := d.Decode(&merged); err != nil {
		return c, fmt.Errorf("chaos: must be a JSON object such as {\"drop\":0.1}: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return c, fmt.Errorf("chaos: must be one JSON object, nothing after it")
	}
	if err := merged.Validate(); err != nil {
		return c, err
	}
	return merged, nil
}

// Chaos says how bad it is just now.
func (s *Sender) Chaos() Chaos {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.chaos
}

// SetChaos changes what befalls the messages from now on; what already befell
// the earlier ones stays. The error is Validate's.
func (s *Sender) SetChaos(c Chaos) error {
	if err := c.Validate(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.chaos = c
	return nil
}

func (c Chaos) skew() time.Duration { return time.Duration(c.ClockSkewMS) * time.Millisecond }

// fate is what befalls one message.
type fate struct {
	drop, duplicate, burst bool
	delay                  time.Duration
	passes                 int
	holdAtMost             time.Duration
	forge                  []Kind
}

// fate draws as many numbers for every message, so that one probability decides
// nothing about another.
func (c Chaos) fate(rng *rand.Rand) fate {
	happens := func(p float64) bool { return rng.Float64() < p }
	f := fate{drop: happens(c.Drop), duplicate: happens(c.Duplicate), burst: happens(c.Burst)}
	delay, reorder, bad, corrupt := happens(c.Delay), happens(c.Reorder), happens(c.BadSignature), happens(c.Corrupt)
	passes, hold := 1+rng.IntN(maxPasses), time.Duration((0.25+0.75*rng.Float64())*float64(reorderMax))
	if delay {
		f.delay = orDefault(time.Duration(c.DelayMS)*time.Millisecond, defaultDelay)
	}
	if reorder {
		// Where everything is held, the different times make another order.
		f.passes, f.holdAtMost = passes, hold
	}
	if bad {
		f.forge = append(f.forge, BadSignature)
	}
	if corrupt {
		f.forge = append(f.forge, Corrupt)
	}
	return f
}

// names lists what befalls a message by the JSON names of Chaos.
func (f fate) names() []string {
	if f.drop {
		return []string{"drop"}
	}
	var names []string
	add := func(name string, happens bool) {
		if happens {
			names = append(names, name)
		}
	}
	add("duplicate", f.duplicate)
	add("delay", f.delay > 0)
	add("reorder", f.passes > 0)
	add("burst", f.burst)
	for _, kind := range f.forge {
		add(string(kind), true)
	}
	return names
}
