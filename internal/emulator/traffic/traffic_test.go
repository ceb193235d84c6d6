package traffic_test

import (
	"context"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/rollcall-dev/rollcall/internal/emulator/state"
	"github.com/rollcall-dev/rollcall/internal/emulator/traffic"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A log is what an instance has emitted.
type log struct {
	mu     sync.Mutex
	events []state.Event
}

func (l *log) add(e state.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, e)
}

func (l *log) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.events)
}

func (l *log) types() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := map[string]int{}
	for _, e := range l.events {
		n[e.Type]++
	}
	return n
}

// instance is a seeded one whose clock stands still.
func instance(users int) (*state.Instance, *log) {
	clock := time.Date(2026, 8, 1, 0, 0, 0, 0, time.UTC)
	in := state.New(state.Options{Seed: 7, Now: func() time.Time { return clock }}).AddInstance(state.InstanceOptions{})
	in.Seed(state.SeedOptions{Users: users, Organizations: users / 10, Memberships: users})
	l := &log{}
	in.OnEvent(l.add)
	return in, l
}

func TestTheMixIsBelievable(t *testing.T) {
	t.Parallel()
	const changes = 8000
	in, l := instance(500)
	users := len(in.Users())
	rejoined, again := map[string]int{}, map[string]int{}
	for _, u := range in.Users() {
		if e := u.Email(); e != nil {
			again[e.EmailAddress]++
		}
	}
	if made := traffic.New(in, traffic.Options{Seed: 3}).Steps(t.Context(), changes); made != changes {
		t.Fatalf("made %d changes of %d", made, changes)
	}
	types := l.types()
	for _, want := range []string{
		"user.created", "user.updated", "user.deleted", "session.created", "session.pending", "session.ended", "session.removed", "session.revoked",
		"email.created", "sms.created", "organization.created", "organization.updated", "organization.deleted",
		"organizationMembership.created", "organizationMembership.updated", "organizationMembership.deleted",
		"organizationInvitation.created", "organizationInvitation.accepted", "organizationInvitation.revoked",
		"organizationDomain.created", "organizationDomain.updated", "organizationDomain.deleted", "role.updated",
		"waitlistEntry.created", "waitlistEntry.updated", "subscription.created", "subscription.pastDue", "subscription.active",
		"subscriptionItem.canceled", "paymentAttempt.created", "paymentAttempt.updated",
	} {
		if types[want] == 0 {
			t.Errorf("no %s among %v", want, slices.Sorted(maps.Keys(types)))
		}
	}
	if now := len(in.Users()); now < users || now > 3*users {
		t.Errorf("%d users have become %d", users, now)
	}
	for _, e := range l.events {
		var body struct {
			Data struct {
				Organization   struct{ ID string }
				PublicUserData struct {
					UserID string `json:"user_id"`
				} `json:"public_user_data"`
				EmailAddresses []struct {
					EmailAddress string `json:"email_address"`
				} `json:"email_addresses"`
			}
		}
		if err := json.Unmarshal(e.Body, &body); err != nil {
			t.Fatal(err)
		}
		switch d := body.Data; {
		case e.Type == "organizationMembership.created":
			rejoined[d.Organization.ID+d.PublicUserData.UserID]++
		case e.Type == "user.created" && len(d.EmailAddresses) > 0:
			again[d.EmailAddresses[0].EmailAddress]++
		}
	}
	if most := slices.Max(slices.Collect(maps.Values(rejoined))); most < 2 {
		t.Error("nobody joined an organization again")
	}
	if most := slices.Max(slices.Collect(maps.Values(again))); most < 2 {
		t.Error("no e-mail address came back after its user was deleted")
	}
}

func TestASeedMakesTheSame(t *testing.T) {
	t.Parallel()
	run := func(seed uint64) []state.Event {
		in, l := instance(100)
		traffic.New(in, traffic.Options{Seed: seed, EqualUpdatedAt: 0.3}).Steps(t.Context(), 1000)
		return l.events
	}
	first, same := run(5), run(5)
	for i := range first {
		if i >= len(same) || !reflect.DeepEqual(first[i], same[i]) {
			t.Fatalf("event %d is another: %s", i, first[i].Body)
		}
	}
	if reflect.DeepEqual(first, run(6)) {
		t.Error("another seed made the same")
	}
}

func TestEqualUpdatedAt(t *testing.T) {
	t.Parallel()
	stayed := func(probability float64) (n int) {
		in, l := instance(100)
		before := map[string]int64{}
		for _, u := range in.Users() {
			before[u.ID] = u.UpdatedAt
		}
		tr := traffic.New(in, traffic.Options{Mix: traffic.Mix{"profile": 1}})
		tr.SetEqualUpdatedAt(probability)
		tr.Steps(t.Context(), 500)
		for _, e := range l.events {
			var body struct {
				Data struct {
					UpdatedAt int64 `json:"updated_at"`
				}
			}
			if err := json.Unmarshal(e.Body, &body); err != nil {
				t.Fatal(err)
			}
			if body.Data.UpdatedAt == before[e.EntityID] {
				n++
			}
			before[e.EntityID] = body.Data.UpdatedAt
		}
		return n
	}
	for probability, want := range map[float64][2]int{0: {0, 0}, 0.5: {180, 320}, 1: {500, 500}} {
		if n := stayed(probability); n < want[0] || n > want[1] {
			t.Errorf("with %v, %d of 500 kept their updated_at, want %v", probability, n, want)
		}
	}
}

func TestRateIsHeldAndSwitched(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		in, l := instance(200)
		tr := traffic.New(in, traffic.Options{Rate: 50})
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- tr.Run(ctx) }()
		during := func(rate float64, d time.Duration) int {
			tr.SetRate(rate)
			synctest.Wait()
			before := l.count()
			time.Sleep(d)
			synctest.Wait()
			return l.count() - before
		}
		if n := during(50, 20*time.Second); n < 980 || n > 1020 {
			t.Errorf("at 50/s, %d events in 20 s", n)
		}
		if n := during(0, time.Hour); n != 0 {
			t.Errorf("at 0/s, %d events", n)
		}
		if n := during(2000, 3*time.Second); n < 5900 || n > 6100 {
			t.Errorf("at 2000/s, %d events in 3 s", n)
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestStepsOfSomeKinds(t *testing.T) {
	t.Parallel()
	in, _ := instance(10)
	ctx, stop := context.WithCancel(t.Context())
	stop() // before anything is made
	if made := traffic.New(in, traffic.Options{}).Steps(ctx, 10); made != 0 {
		t.Errorf("made %d", made)
	}
	before := len(in.Users())
	if made := traffic.New(in, traffic.Options{}).Steps(t.Context(), 100, "sign_up"); made != 100 || len(in.Users()) != before+100 {
		t.Errorf("%d sign-ups made %d users", made, len(in.Users())-before)
	}
	// Nothing to sign in, and nothing else in the mix.
	empty := state.New(state.Options{}).AddInstance(state.InstanceOptions{})
	if made := traffic.New(empty, traffic.Options{Mix: traffic.Mix{"sign_in": 1}}).Steps(t.Context(), 10); made != 0 {
		t.Errorf("made %d changes of nobody", made)
	}
}

// On two shared cores a change takes about 50 µs with its event; 2,000 events a
// second leave 500.
func BenchmarkSteps(b *testing.B) {
	in, _ := instance(5000)
	tr := traffic.New(in, traffic.Options{})
	b.ReportAllocs()
	for b.Loop() {
		tr.Steps(b.Context(), 1)
	}
}
