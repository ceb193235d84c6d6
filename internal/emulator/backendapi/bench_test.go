package backendapi_test

import (
	"testing"

	"github.com/rollcall-dev/rollcall/internal/emulator/state"
)

// Lists of an instance with 100,000 users: those that an index answers take
// milliseconds at most, those that look at every user less than 100 ms.
func BenchmarkLists(b *testing.B) {
	f := start(b)
	f.in.Seed(state.SeedOptions{Users: 100_000, Organizations: 2_000, Memberships: 200_000})
	some := f.in.Users()[50_000]
	for name, path := range map[string]string{
		"first page":          "/users",
		"last page":           "/users?offset=99990",
		"cursor":              "/users?limit=500&starting_after=" + some.ID,
		"by id":               "/users?user_id=" + some.ID,
		"by e-mail":           "/users?email_address=" + some.EmailAddresses[0].EmailAddress,
		"by organization":     "/users?organization_id=" + f.in.Organizations()[0].ID,
		"query":               "/users?query=smith",
		"query of none":       "/users?query=nobody+is+called+this",
		"count of a query":    "/users/count?email_address_query=example",
		"by time":             "/users?last_sign_in_at_after=1700000000000",
		"newest change":       "/users?order_by=-updated_at",
		"by name":             "/users?order_by=last_name",
		"by e-mail address":   "/users?order_by=email_address",
		"e-mail of an id":     "/email_addresses/" + some.EmailAddresses[0].ID,
		"memberships":         "/organization_memberships?limit=500&offset=100000",
		"memberships by name": "/organization_memberships?order_by=last_name",
	} {
		b.Run(name, func(b *testing.B) {
			f.TB = b
			for b.Loop() {
				if a := f.do("GET", path, ""); a.StatusCode != 200 {
					b.Fatalf("%s: %d %s", path, a.StatusCode, a.body)
				}
			}
		})
	}
}
