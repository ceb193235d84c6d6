//go:build soak

package reconcile

import (
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/internal/emulator"
	emulated "github.com/rollcall-dev/rollcall/internal/emulator/state"
)

// A day's worth of drops and chaos: each difference is found and no other, and
// mended, while traffic flows.
func TestSoakTwoHundredThousandChanges(t *testing.T) {
	testFinds(t, emulated.SeedOptions{Users: 20_000, Organizations: 1_000, Memberships: 20_000}, 200_000,
		`{"drop":0.05,"duplicate":0.1,"reorder":0.2,"delay":0.1,"delay_ms":500,"equal_updated_at":0.05}`)
}

// An instance of 100,000 users in which nothing has changed costs at most ten
// requests.
func TestSoakUnchanged(t *testing.T) {
	r := filled(t, emulator.Options{Population: emulated.SeedOptions{Users: 100_000, Organizations: 2_000, Memberships: 20_000}})
	r.past()
	began := time.Now()
	full := r.pass(Full)
	t.Logf("full: %s, %d requests", time.Since(began), full.Requests.Requests)
	began = time.Now()
	recent := r.pass(Recent)
	t.Logf("recent: %s, %d requests", time.Since(began), recent.Requests.Requests)
	if full.Drift() != 0 || recent.Drift() != 0 || recent.Requests.Requests > 10 {
		t.Errorf("drift %d and %d, %d requests", full.Drift(), recent.Drift(), recent.Requests.Requests)
	}
}
