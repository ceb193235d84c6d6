package backend

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	// Clerk counts in windows: evenly spaced requests of just the limit would now
	// and then be one too many in one of them.
	below = 0.97
	// After a 429 the rate is halved, and comes back within 10 seconds: the
	// application beside us may have had a busy moment.
	recovery = 0.05 // of the most, a second
	lowest   = 0.02 // of the most
)

// pace spaces requests evenly, at a rate that 429s lower for a while.
type pace struct {
	mu     sync.Mutex
	most   float64 // requests a second
	rate   float64
	grown  time.Time // when rate was last worked out
	next   time.Time // the first moment that nobody has
	closed time.Time // nobody goes before
}

func newPace(most float64) *pace {
	return &pace{most: below * most, rate: below * most, grown: time.Now()}
}

// wait returns when it's the caller's turn.
func (p *pace) wait(ctx context.Context) error {
	for {
		at := p.turn()
		if d := time.Until(at); d > 0 {
			select {
			case <-ctx.Done():
			case <-time.After(d):
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !p.shut() { // since the turn was given
			return nil
		}
	}
}

func (p *pace) turn() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.grow(now)
	at := p.next
	for _, t := range []time.Time{now, p.closed} {
		if at.Before(t) {
			at = t
		}
	}
	p.next = at.Add(time.Duration(float64(time.Second) / p.rate))
	return at
}

func (p *pace) grow(now time.Time) {
	if now.After(p.grown) { // which lies ahead while the way is shut
		p.rate = min(p.most, p.rate+recovery*p.most*now.Sub(p.grown).Seconds())
		p.grown = now
	}
}

func (p *pace) shut() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Now().Before(p.closed)
}

// limited shuts the way for so long, and slows down. Those who were under way
// together are told together: that counts once.
func (p *pace) limited(after time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if !now.Before(p.closed) {
		p.grow(now)
		p.rate = max(p.rate/2, lowest*p.most)
	}
	until := now.Add(after + rand.N(after/10+1))
	if p.closed.Before(until) {
		p.closed, p.grown = until, until
	}
}

func (p *pace) now() float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rate
}
