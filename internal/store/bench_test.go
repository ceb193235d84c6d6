package store

import (
	"fmt"
	"testing"

	"github.com/rollcall-dev/rollcall/streams"
)

const batchSize = 1024

// BenchmarkPrepare decodes, folds and packs batches of new users.
func BenchmarkPrepare(b *testing.B) {
	f := newFixture(b)
	messages := newUsers(0)
	b.ReportAllocs()
	for b.Loop() {
		f.Prepare(messages)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(batchSize*b.N)/1000, "µs/row")
}

// BenchmarkCommit writes batches of new users.
func BenchmarkCommit(b *testing.B) {
	f := newFixture(b)
	n := 0
	for b.Loop() {
		b.StopTimer()
		work, _ := f.Prepare(newUsers(n))
		n += batchSize
		b.StartTimer()
		f.commit(work, streams.Position{Epoch: 1, Sequence: uint64(n)})
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(batchSize*b.N)/1000, "µs/row")
}

func newUsers(after int) []streams.Message {
	messages := make([]streams.Message, batchSize)
	for i := range messages {
		n := after + i + 1
		messages[i] = event(uint64(n), fmt.Sprintf("msg_%d", n), "user.created", t0, map[string]any{
			"id": fmt.Sprintf("user_2bench%020d", n), "first_name": fmt.Sprintf("First%d", n), "last_name": "Last", "banned": false, "locked": false,
			"two_factor_enabled": false, "password_enabled": true, "image_url": "https://img.clerk.com/xxxxxx", "updated_at": t0, "created_at": t0,
			"primary_email_address_id": "idn_1", "email_addresses": []map[string]any{{"id": "idn_1", "email_address": fmt.Sprintf("user%d@example.org", n), "object": "email_address", "verification": map[string]any{"status": "verified", "strategy": "admin"}}},
			"phone_numbers": []string{}, "external_accounts": []string{}, "public_metadata": map[string]any{"plan": "pro", "n": n}, "unsafe_metadata": map[string]any{},
		})
	}
	return messages
}
