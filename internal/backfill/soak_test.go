//go:build soak

package backfill

import (
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/internal/clerk/backend"
	"github.com/rollcall-dev/rollcall/internal/emulator"
	"github.com/rollcall-dev/rollcall/internal/emulator/backendapi"
	emulated "github.com/rollcall-dev/rollcall/internal/emulator/state"
)

// 100,000 users take at most 1.2 of the time that the rate limit allows, here a
// minute, at a budget of all of it.
func TestSoakHundredThousandUsers(t *testing.T) {
	const users = 100_000
	rate := 3.4 // requests a second
	limit := backendapi.RateLimit{Requests: 34, Window: 10 * time.Second}
	r := newRig(t, emulator.Options{RateLimit: &limit, Population: emulated.SeedOptions{Users: users}})
	allowed := time.Duration(users / backend.MaxPage / rate * float64(time.Second))
	began := time.Now()
	report := r.backfill(func(o *Options) {
		o.Resources = []string{"users"}
		o.Client = r.Client(func(o *backend.Options) { o.Rate, o.Timeout = rate, time.Minute })
	})
	took := time.Since(began)
	t.Logf("%s, of %s allowed: %.2f; %+v", took, allowed, took.Seconds()/allowed.Seconds(), report.Process)
	if took > allowed*12/10 {
		t.Errorf("%s, and the rate limit allows %s", took, allowed)
	}
	r.equal("users")
}
