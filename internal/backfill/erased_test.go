package backfill

import (
	"context"
	"strings"
	"testing"

	"github.com/rollcall-dev/rollcall/internal/clerk/clerktest"
	"github.com/rollcall-dev/rollcall/internal/emulator"
	emulated "github.com/rollcall-dev/rollcall/internal/emulator/state"
	"github.com/rollcall-dev/rollcall/internal/erased"
	"github.com/rollcall-dev/rollcall/streams"
)

type forgotten struct{ *erased.IDs }

func (forgotten) Wait(context.Context) error { return nil }

// Who was erased, and is still in Clerk, goes into the log by id alone.
func TestErased(t *testing.T) {
	t.Parallel()
	r := newRig(t, emulator.Options{RateLimit: clerktest.Unlimited(), Population: emulated.SeedOptions{Users: 5, Organizations: 1, Memberships: 5}})
	type user struct {
		ID     string `json:"id"`
		Emails []struct {
			Address string `json:"email_address"`
		} `json:"email_addresses"`
	}
	users := clerktest.JSON[[]user](t, r.Ask("GET", "/v1/users", ""))
	r.backfill(func(o *Options) { o.Erased = forgotten{erased.NewIDs(users[0].ID)} })
	ids := 0
	for _, m := range r.Logged("clerk.>") {
		if strings.Contains(string(m.Data()), users[0].Emails[0].Address) {
			t.Errorf("%s: %s", m.Subject(), m.Data())
		}
		if strings.HasSuffix(m.Subject(), "."+users[0].ID) && m.Headers().Get(streams.HeaderRedacted) != "" {
			ids++
		}
	}
	if ids != 1 || len(r.Logged("clerk.*.user.>")) != len(users) {
		t.Errorf("%d snapshots of the erased, %d of users", ids, len(r.Logged("clerk.*.user.>")))
	}
}
