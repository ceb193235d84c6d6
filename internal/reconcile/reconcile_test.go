package reconcile

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/internal/backfill"
	"github.com/rollcall-dev/rollcall/internal/clerk/backend"
	"github.com/rollcall-dev/rollcall/internal/clerk/clerktest"
	"github.com/rollcall-dev/rollcall/internal/emulator"
	emulated "github.com/rollcall-dev/rollcall/internal/emulator/state"
	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/streams"
)

func TestMain(m *testing.M) { stacktest.Main(m) }

// rig is an emulated Clerk, a log, and a store that follows it.
type rig struct {
	*clerktest.Rig
	t *testing.T
}

func newRig(t *testing.T, o emulator.Options) *rig {
	t.Helper()
	if o.RateLimit == nil {
		o.RateLimit = clerktest.Unlimited()
	}
	return &rig{clerktest.New(t, o), t}
}

// filled is one whose store has all that Clerk has.
func filled(t *testing.T, o emulator.Options) *rig {
	t.Helper()
	r := newRig(t, o)
	_, err := backfill.Run(t.Context(), backfill.Options{
		Client: r.Client(func(*backend.Options) {}), JetStream: r.JS, Publisher: r.Publisher, Names: r.Names, Stores: []backfill.Store{r.Store}})
	if err != nil {
		t.Fatal(err)
	}
	r.CaughtUp()
	return r
}

// pass makes one, with a grace that suits a Clerk on the same machine.
func (r *rig) pass(name string, change ...func(*Options)) *Report {
	r.t.Helper()
	report, err := r.try(name, change...)
	if err != nil {
		r.t.Fatal(err)
	}
	return report
}

func (r *rig) try(name string, change ...func(*Options)) (*Report, error) {
	r.t.Helper()
	o := Options{
		Client: r.Client(func(*backend.Options) {}), JetStream: r.JS, Publisher: r.Publisher, Names: r.Names,
		Stores: []*store.Store{r.Store}, Pass: name, By: "ada@laptop", Grace: time.Second,
	}
	for _, c := range change {
		c(&o)
	}
	return Run(r.t.Context(), o)
}

// past waits until what Clerk has done so far was before any request, by its own
// clock, which it shows in whole seconds. Many changes at once run ahead of it.
func (r *rig) past() {
	done := time.Now()
	for _, u := range clerktest.JSON[[]struct {
		UpdatedAt int64 `json:"updated_at"`
	}](r.t, r.Ask("GET", "/v1/users?order_by=-updated_at&limit=1", "")) {
		if at := time.UnixMilli(u.UpdatedAt); at.After(done) {
			done = at
		}
	}
	stacktest.Eventually(r.t, 10*time.Minute, func() error {
		if age := time.Since(done); age < 2*time.Second {
			return fmt.Errorf("%s ago", age)
		}
		return nil
	})
}

func repair(o *Options)   { o.Repair = true }
func allowing(o *Options) { o.Confirm = func(Bound) bool { return true } }

var people = emulated.SeedOptions{Users: 300, Organizations: 30, Memberships: 300}

func (r *rig) changes(n int)     { r.Ask("POST", "/_emu/traffic", fmt.Sprintf(`{"changes":%d}`, n)) }
func (r *rig) chaos(json string) { r.Ask("PUT", "/_emu/chaos", json) }

// different are the rows that aren't as Clerk is, by the emulator's own reading,
// but for what is out of reach.
func (r *rig) different() map[string]string {
	r.t.Helper()
	all := map[string]string{}
	for _, d := range r.Compare(backfill.Resources()).Differences {
		switch {
		case d.Resource == "organization_invitations" && strings.Contains(fmt.Sprint(d), "user_id"): // only the event says it
		case d.Resource == "waitlist_entries" && d.Kind == "extra": // takes two passes
		default:
			all[d.Resource+" "+d.ID] = fmt.Sprint(d)
		}
	}
	return all
}

// Of what was dropped each difference is found and no other, while traffic flows;
// then all of it is mended.
func TestFindsEachDifferenceAndMendsIt(t *testing.T) {
	t.Parallel()
	testFinds(t, people, 1_500, `{"drop":0.15,"duplicate":0.1,"reorder":0.1,"equal_updated_at":0.1}`)
}

func testFinds(t *testing.T, population emulated.SeedOptions, changes int, chaos string) {
	r := filled(t, emulator.Options{Population: population})
	if first := r.pass(Full); first.Drift() != 0 {
		t.Fatalf("right after a backfill: %+v", first.Differences)
	}
	r.chaos(chaos)
	r.changes(changes)
	r.CaughtUp()
	before := r.different()
	r.chaos(`{"delay":0.3,"delay_ms":300,"reorder":0.2,"api_limited":0.05,"api_error":0.05,"api_truncated":0.05}`) // late isn't lost
	r.past()
	r.Ask("PUT", "/_emu/traffic", `{"rate":20}`)
	report := r.pass(Full, allowing)
	r.Ask("PUT", "/_emu/traffic", `{"rate":0}`)
	r.CaughtUp()
	t.Logf("%d differ; found %d, %d of them not listed", len(before), report.Drift(), report.NotListed)
	found := map[string]bool{}
	for _, d := range report.Differences {
		found[d.Resource+" "+d.ID] = true
		if before[d.Resource+" "+d.ID] == "" {
			t.Errorf("nothing of %s %s was dropped, and it is %s %v", d.Resource, d.ID, d.Kind, d.Columns)
		}
	}
	for key, why := range r.different() {
		if !found[key] {
			t.Errorf("not found: %s", why)
		}
	}
	kinds := map[string]int{}
	for _, d := range report.Differences {
		kinds[d.Kind]++
	}
	if len(before) < 20 || kinds[Missing] == 0 || kinds[Stale] == 0 || kinds[Extra] == 0 {
		t.Errorf("of %d differences found %v: too few to say anything", len(before), kinds)
	}

	r.Ask("PUT", "/_emu/traffic", `{"rate":20}`)
	mended := r.pass(Full, repair, allowing)
	r.Ask("PUT", "/_emu/traffic", `{"rate":0}`)
	r.CaughtUp()
	for _, d := range mended.Differences {
		if !d.Mended {
			t.Errorf("not mended: %+v", d)
		}
	}
	for _, why := range r.different() {
		t.Errorf("different after a repair: %s", why)
	}
	if again := r.pass(Full); again.Drift() != 0 {
		t.Errorf("drift after a repair: %+v", again.Differences)
	}
	if acts := r.Logged(r.Names.Subject(streams.Subject{InstanceID: report.InstanceID, Resource: "rollcall", Action: "reconciled", EntityID: mended.Run})); len(acts) != 1 {
		t.Errorf("%d events tell of the repair", len(acts))
	}
}

// A change whose webhook is on its way is no drift.
func TestGrace(t *testing.T) {
	t.Parallel()
	r := filled(t, emulator.Options{Population: emulated.SeedOptions{Users: 20}})
	id := r.users()[0]
	r.past()
	r.chaos(`{"delay":1,"delay_ms":2500}`)
	r.Ask("PATCH", "/v1/users/"+id, `{"first_name":"On the way"}`)
	if without := r.pass(Recent, func(o *Options) { o.Grace = 0 }); len(without.Differences) != 1 {
		t.Errorf("it was there already: %+v", without)
	}
	if with := r.pass(Recent, func(o *Options) { o.Grace = 10 * time.Second }); with.Drift() != 0 {
		t.Errorf("%+v", with.Differences)
	}
}
