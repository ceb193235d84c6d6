package backfill

import (
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/internal/clerk/backend"
	"github.com/rollcall-dev/rollcall/internal/clerk/clerktest"
	"github.com/rollcall-dev/rollcall/internal/emulator"
	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
)

func TestMain(m *testing.M) { stacktest.Main(m) }

const patience = time.Minute

// rig is an emulated Clerk, a log, and a store that follows it.
type rig struct {
	*clerktest.Rig
	t *testing.T
}

func newRig(t *testing.T, o emulator.Options) *rig {
	t.Helper()
	return &rig{clerktest.New(t, o), t}
}

// options of a backfill, at a rate that doesn't hold a test up.
func (r *rig) options(change ...func(*Options)) Options {
	o := Options{
		Client:    r.Client(func(*backend.Options) {}),
		JetStream: r.JS, Publisher: r.Publisher, Names: r.Names, Stores: []Store{r.Store}, By: "ada@laptop",
	}
	for _, c := range change {
		c(&o)
	}
	return o
}

func (r *rig) backfill(change ...func(*Options)) *Report {
	r.t.Helper()
	report, err := Run(r.t.Context(), r.options(change...))
	if err != nil {
		r.t.Fatal(err)
	}
	return report
}

// equal waits until all is applied, and wants the store to be as Clerk is, in
// these tables; by default in all that Clerk lists.
func (r *rig) equal(tables ...string) {
	r.t.Helper()
	r.Equal(sorted(tables))
}
