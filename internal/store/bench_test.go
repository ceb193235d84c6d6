package store

import (
	"fmt"
	"testing"

	"github.com/rollcall-dev/rollcall/streams"
)

// BenchmarkCommit writes batches of 1,024 new users.
func BenchmarkCommit(b *testing.B) {
	f := newFixture(b)
	const size = 1024
	n := 0
	for b.Loop() {
		b.StopTimer()
		messages := make([]streams.Message, size)
		for i := range messages {
			n++
			messages[i] = event(uint64(n), fmt.Sprintf("msg_%d", n), "user.created", t0, map[string]any{
				"id": fmt.Sprintf("user_2bench%020d", n), "first_name": fmt.Sprintf("First%d", n), "last_name": "Last", "banned": false, "locked": false,
				"two_factor_enabled": false, "password_enabled": true, "image_url": "https://img.clerk.com/xxxxxx", "updated_at": t0, "created_at": t0,
				"primary_email_address_id": "idn_1", "email_addresses": []map[string]any{{"id": "idn_1", "email_address": fmt.Sprintf("user%d@example.org", n), "object": "email_address", "verification": map[string]any{"status": "verified", "strategy": "admin"}}},
				"phone_numbers": []string{}, "external_accounts": []string{}, "public_metadata": map[string]any{"plan": "pro", "n": n}, "unsafe_metadata": map[string]any{},
			})
		}
		work, _ := f.Prepare(messages)
		b.StartTimer()
		f.commit(work, streams.Position{Epoch: 1, Sequence: uint64(n)})
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(size*b.N), "µs/row")
}
