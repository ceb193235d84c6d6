// Package traffic makes believable changes to an instance, at a rate or as fast
// as they can be made: people sign up and in, edit their profiles, join and
// leave organizations, are banned, delete their accounts and come back.
//
// What happens to whom hangs on the seed and on the state alone. Population
// grows slowly: somewhat more come than go.
package traffic

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/brianvoe/gofakeit/v7"

	"github.com/rollcall-dev/rollcall/internal/emulator/state"
)

// Options of a Traffic.
type Options struct {
	// Rate is about how many events a second Run makes; 0 is none until SetRate.
	Rate float64
	Seed uint64
	// Mix says how often each kind of change is made, relative to the others; nil
	// is DefaultMix. A kind that isn't in it is not made.
	Mix Mix
	// EqualUpdatedAt is the probability, 0 to 1, that a change of something that
	// exists doesn't advance its updated_at.
	EqualUpdatedAt float64
}

// Traffic makes the changes of one instance. Its methods may be called from
// many goroutines.
type Traffic struct {
	in      *state.Instance
	events  atomic.Uint64 // that the instance has emitted
	changed chan struct{} // of capacity 1: the rate is another
	kinds   []kind
	weights []int // running sums
	steps   map[kind]func() error

	mu    sync.Mutex // what follows; and no two changes at once
	rate  float64
	equal float64
	rng   *rand.Rand
	fake  *gofakeit.Faker
	// Traffic deletes none of the last few; changes by others aren't counted.
	people, orgs int
	live         recent[string]    // sessions
	waiting      recent[string]    // sessions with tasks
	invited      recent[string]    // pending invitations to sign up
	joining      recent[string]    // pending invitations to organizations
	owing        recent[string]    // pending payment attempts
	left         recent[[2]string] // organization and user of memberships that ended
	gone         recent[string]    // e-mail addresses of the deleted
	excluded     recent[string]    // banned or locked users
}

// New prepares traffic; nothing is changed yet.
func New(in *state.Instance, o Options) *Traffic {
	key := [32]byte{31: 't'} // other numbers than the state's own
	binary.LittleEndian.PutUint64(key[:], o.Seed)
	source := rand.NewChaCha8(key)
	t := &Traffic{
		in: in, changed: make(chan struct{}, 1), rate: o.Rate, equal: o.EqualUpdatedAt,
		rng: rand.New(source), fake: gofakeit.NewFaker(source, false),
		people: len(in.Users()), orgs: len(in.Organizations()),
	}
	t.steps = t.allSteps()
	mix := o.Mix
	if mix == nil {
		mix = DefaultMix()
	}
	sum := 0
	for _, k := range kinds() { // in their order, so that a seed means the same always
		if mix[k] > 0 {
			sum += mix[k]
			t.kinds, t.weights = append(t.kinds, k), append(t.weights, sum)
		}
	}
	in.OnEvent(func(state.Event) { t.events.Add(1) })
	return t
}

// SetRate changes the rate of Run, in events a second; 0 pauses it.
func (t *Traffic) SetRate(rate float64) {
	t.mu.Lock()
	t.rate = max(rate, 0)
	t.mu.Unlock()
	select {
	case t.changed <- struct{}{}:
	default:
	}
}

// Rate is about how many events a second Run makes.
func (t *Traffic) Rate() float64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.rate
}

// SetEqualUpdatedAt changes Options.EqualUpdatedAt.
func (t *Traffic) SetEqualUpdatedAt(probability float64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.equal = probability
}

// behind is how much lateness Run makes up for; more is forgiven, so that a
// machine that slept isn't flooded.
const behind = time.Second

// Run makes changes at the rate until ctx ends. What it returns is nil.
func (t *Traffic) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	due := time.Now()
	for {
		rate := t.Rate()
		var wake <-chan time.Time
		if rate > 0 {
			timer.Reset(time.Until(due))
			wake = timer.C
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.changed:
			due = time.Now()
			continue
		case <-wake:
		}
		before := t.events.Load()
		t.step()
		made := max(t.events.Load()-before, 1)
		due = due.Add(time.Duration(float64(made) / rate * float64(time.Second)))
		if late := time.Now().Add(-behind); due.Before(late) {
			due = late
		}
	}
}

// Steps makes n changes as fast as possible, fewer if ctx ends before or there is
// nothing left to change: of the mix, or of these kinds only, each as often as
// the others. A change may emit several events, and a few emit none.
func (t *Traffic) Steps(ctx context.Context, n int, only ...string) (made int) {
	for made < n && ctx.Err() == nil && t.step(only...) {
		made++
	}
	return made
}

// step makes one change. It is false where none can be made.
func (t *Traffic) step(only ...kind) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for range 200 { // a kind may have nothing to change just now
		if change := t.steps[t.pick(only)]; change != nil && change() == nil {
			return true
		}
	}
	return false
}

// pick is a kind of the mix, or any of only; "" where there is none.
func (t *Traffic) pick(only []kind) kind {
	switch {
	case len(only) > 0:
		return oneOf(t, only...)
	case len(t.kinds) == 0:
		return ""
	}
	at := t.rng.IntN(t.weights[len(t.weights)-1])
	for i, sum := range t.weights {
		if at < sum {
			return t.kinds[i]
		}
	}
	panic("traffic: weights without end") // the last is above at
}

// request is that of one of a few believable clients.
func (t *Traffic) request() state.Request {
	agents := [...]string{
		"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/139.0.0.0 Safari/537.36",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Mobile/15E148 Safari/604.1",
		"Mozilla/5.0 (X11; Linux x86_64; rv:142.0) Gecko/20100101 Firefox/142.0",
		"@clerk/backend@2.9.0",
		"",
	}
	req := state.Request{UserAgent: agents[t.rng.IntN(len(agents))], KeepUpdatedAt: t.rng.Float64() < t.equal}
	if req.UserAgent != "" {
		req.ClientIP = t.fake.IPv4Address()
	}
	return req
}

// recent remembers some things that were made and wait for their next change.
// The zero value is empty.
type recent[T any] struct{ things []T }

const mostRecent = 4096

// add takes the place of any where there are many already.
func (r *recent[T]) add(rng *rand.Rand, thing T) {
	if len(r.things) < mostRecent {
		r.things = append(r.things, thing)
		return
	}
	r.things[rng.IntN(len(r.things))] = thing
}

// take removes any one.
func (r *recent[T]) take(rng *rand.Rand) (thing T, ok bool) {
	if len(r.things) == 0 {
		return thing, false
	}
	i, last := rng.IntN(len(r.things)), len(r.things)-1
	thing = r.things[i]
	r.things[i] = r.things[last]
	r.things = r.things[:last]
	return thing, true
}
