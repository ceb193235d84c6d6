//go:build soak

package audit

import (
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/internal/clerk"
	"github.com/rollcall-dev/rollcall/streams"
)

// A million rows are verified at 50,000/s or more, in constant memory.
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
	began := time.Now()
	report, err := r.log.Verify(t.Context(), VerifyOptions{Verifier: v})
	rate := rows / time.Since(began).Seconds()
	if err != nil || !report.OK || report.Rows != rows || report.Signatures.Checked != rows {
		t.Errorf("%+v, %v", report, err)
	}
	t.Logf("%.0f rows/s", rate)
	if rate < 50_000 {
		t.Errorf("%.0f rows/s", rate)
	}
}

// filler makes a body as long as a user's.
const filler = "Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor incididunt ut labore et dolore magna aliqua. Ut enim ad minim veniam, quis nostrud exercitation ullamco laboris nisi ut aliquip ex ea commodo consequat. Duis aute irure dolor in reprehenderit in voluptate velit esse cillum dolore eu fugiat nulla pariatur. Excepteur sint occaecat cupidatat non proident, sunt in culpa qui officia deserunt mollit anim id est laborum. Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor incididunt ut labore et dolore magna aliqua. Ut enim ad minim veniam, quis nostrud exercitation ullamco laboris nisi ut aliquip ex ea commodo consequat."
