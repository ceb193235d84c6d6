//go:build soak

package audit

import (
	"runtime"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/internal/clerk"
	"github.com/rollcall-dev/rollcall/streams"
)

// A million rows are verified in constant memory; how fast is logged, and the
// bench's to compare.
func TestSoakVerifyMillion(t *testing.T) {
	r := newRig(t)
	const rows = 1_000_000
	for r.n < rows {
		batch := make([]streams.Message, 4000)
		for i := range batch {
			batch[i] = r.user("created", r.n, `,"public_metadata":{"filler":"`+filler+`"}`)
			sign(t, &batch[i])
		}
		r.append(batch...)
	}
	v, err := clerk.NewVerifier([]string{secret})
	if err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	began, peak := time.Now(), uint64(0)
	report, err := r.log.Verify(t.Context(), VerifyOptions{Verifier: v, Progress: func(int64, int64) {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		peak = max(peak, m.HeapAlloc)
	}})
	rate := rows / time.Since(began).Seconds()
	if err != nil || !report.OK || report.Rows != rows || report.Signatures.Checked != rows {
		t.Errorf("%+v, %v", report, err)
	}
	t.Logf("%.0f rows/s, at most %d MB", rate, peak>>20)
	if peak > 256<<20 {
		t.Errorf("%d MB", peak>>20)
	}
}

// filler makes a body as long as a user's.
const filler = "Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor incididunt ut labore et dolore magna aliqua. Ut enim ad minim veniam, quis nostrud exercitation ullamco laboris nisi ut aliquip ex ea commodo consequat. Duis aute irure dolor in reprehenderit in voluptate velit esse cillum dolore eu fugiat nulla pariatur. Excepteur sint occaecat cupidatat non proident, sunt in culpa qui officia deserunt mollit anim id est laborum. Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor incididunt ut labore et dolore magna aliqua. Ut enim ad minim veniam, quis nostrud exercitation ullamco laboris nisi ut aliquip ex ea commodo consequat."
