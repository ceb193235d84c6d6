package backfill

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rollcall-dev/rollcall/internal/clerk/backend"
	"github.com/rollcall-dev/rollcall/internal/clerk/clerktest"
	"github.com/rollcall-dev/rollcall/internal/emulator"
	"github.com/rollcall-dev/rollcall/internal/emulator/backendapi"
	emulated "github.com/rollcall-dev/rollcall/internal/emulator/state"
	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
)

var people = emulated.SeedOptions{Users: 1_200, Organizations: 100, Memberships: 1_300}

// Beside live traffic, with everything wrong that an API can have wrong, and
// with a clock that is minutes off.
func TestWithFaultsBesideTraffic(t *testing.T) {
	t.Parallel()
	r := newRig(t, emulator.Options{
		Population: people, RateLimit: &backendapi.RateLimit{Requests: 60, Window: time.Second},
		Clock: func() time.Time { return time.Now().Add(-3 * time.Minute) },
	})
	r.Ask("PUT", "/_emu/traffic", `{"rate":50}`)
	r.Ask("PUT", "/_emu/chaos", `{"duplicate":0.2,"reorder":0.2,"api_limited":0.1,"api_error":0.1,"api_timeout":0.05,"api_truncated":0.1,"delay_ms":200}`)
	report := r.backfill()
	r.Ask("PUT", "/_emu/chaos", `{}`)
	r.Ask("PUT", "/_emu/traffic", `{"rate":0}`)
	r.equal()
	if c := report.Process; c.Failed == 0 || c.Limited == 0 {
		t.Errorf("nothing went wrong: %+v", c)
	}
}

// Rows are deleted, more than the overlap, while the pages before and behind them
// are read.
func TestPageChangesWhileItIsRead(t *testing.T) {
	t.Parallel()
	var r *rig
	var once sync.Once
	var stepsBack atomic.Int64
	hook := &clerktest.Asked{Before: func(_ int, path string, query url.Values) {
		if path != "/organization_memberships" || query.Get("offset") == "" {
			return
		}
		once.Do(func() {
			page := clerktest.JSON[struct {
				Data []struct {
					User struct {
						ID string `json:"user_id"`
					} `json:"public_user_data"`
				}
			}](r.t, r.Ask("GET", "/v1/organization_memberships?order_by=%2Bcreated_at&limit=40", ""))
			gone := map[string]bool{}
			for _, m := range page.Data {
				if !gone[m.User.ID] {
					r.Ask("DELETE", "/v1/users/"+m.User.ID, "")
				}
				gone[m.User.ID] = true
			}
		})
		stepsBack.Add(1)
	}}
	r = newRig(t, emulator.Options{Population: people, RateLimit: clerktest.Unlimited()})
	r.Transport = hook
	r.backfill()
	r.equal()
	if n := stepsBack.Load(); n < 4 { // two pages, and the steps back from the first
		t.Errorf("%d pages behind the first: nothing shifted", n)
	}
}

// A change made after a page was read, whose webhook is applied before the page
// arrives, wins.
func TestChangeBeforeArrivalWins(t *testing.T) {
	t.Parallel()
	r := newRig(t, emulator.Options{Population: emulated.SeedOptions{Users: 50}, RateLimit: clerktest.Unlimited()})
	var once sync.Once
	r.Transport = &clerktest.Asked{After: func(_ int, path string, resp *http.Response) {
		if path != "/users" {
			return
		}
		once.Do(func() {
			body, err := io.ReadAll(resp.Body) // the page as it was
			if err != nil {
				r.t.Error(err)
			}
			resp.Body = io.NopCloser(strings.NewReader(string(body)))
			users := clerktest.JSON[[]struct{ ID string }](r.t, body)
			r.Ask("PATCH", "/v1/users/"+users[0].ID, `{"first_name":"Changed"}`)
			r.Ask("DELETE", "/v1/users/"+users[1].ID, "")
			r.row(`select count(*) filter (where first_name = 'Changed') + count(*) filter (where deleted_at is not null) from clerk.users`, 2)
		})
	}}
	r.backfill()
	r.equal()
}

// row waits until a query answers that.
func (r *rig) row(query string, want int) {
	r.t.Helper()
	stacktest.Eventually(r.t, patience, func() error {
		db, err := pgx.Connect(r.t.Context(), r.DB.OwnerURL)
		if err != nil {
			return err
		}
		defer db.Close(context.Background())
		var got int
		if err := db.QueryRow(r.t.Context(), query).Scan(&got); err != nil || got != want {
			return fmt.Errorf("%d, %w", got, err)
		}
		return nil
	})
}

// A run that is interrupted, however often, goes on where it was; another of
// other resources, and one beside it, are refused.
func TestGoesOn(t *testing.T) {
	t.Parallel()
	r := newRig(t, emulator.Options{Population: emulated.SeedOptions{Users: 3_200, Organizations: 10, Memberships: 10}, RateLimit: clerktest.Unlimited()})
	interrupted := 0
	var last *Report
	for ; interrupted < 20 && (last == nil || !last.Finished); interrupted++ {
		ctx, cancel := context.WithCancel(t.Context())
		r.Transport = &clerktest.Asked{Before: func(n int, _ string, _ url.Values) {
			if n > 4 {
				cancel()
			}
		}}
		if interrupted == 0 {
			r.Transport.(*clerktest.Asked).Before = func(n int, path string, _ url.Values) {
				if path == "/users" {
					r.refusesBeside(r.options(func(o *Options) { o.Lease = 200 * time.Millisecond; o.Client = r.clientOf(nil) }))
					cancel()
				}
			}
		}
		report, err := Run(ctx, r.options())
		cancel()
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		if interrupted > 0 && !report.Resumed {
			t.Fatal("it began anew")
		}
		last = report
		var unfinished *UnfinishedError
		if _, err := Run(t.Context(), r.options(func(o *Options) { o.Resources = []string{"roles"}; o.Client = r.clientOf(nil) })); !report.Finished && !errors.As(err, &unfinished) {
			t.Fatalf("of other resources: %v", err)
		} else if report.Finished && err != nil {
			t.Fatal(err)
		}
	}
	r.equal()
	if !last.Finished || interrupted < 3 {
		t.Fatalf("%d times: %+v", interrupted, last)
	}
	// 7 pages of users and one of each other, 8 totals, and each time the
	// instance and at most two that were lost.
	if most := int64(7 + 7 + 8 + 3*interrupted); last.Requests > most {
		t.Errorf("%d requests in %d processes: it started over", last.Requests, interrupted)
	}
	for _, res := range last.Resources {
		if res.Fetched != res.Total {
			t.Errorf("%+v", res)
		}
	}
}

func (r *rig) clientOf(transport http.RoundTripper) *backend.Client {
	return r.Client(func(o *backend.Options) { o.Transport = transport })
}

func (r *rig) refusesBeside(o Options) {
	r.t.Helper()
	waited := false
	o.Waiting = func(error) { waited = true }
	if _, err := Run(r.t.Context(), o); err == nil || !waited || !strings.Contains(err.Error(), "is under way") {
		r.t.Errorf("beside it: %v, waited %v", err, waited)
	}
}
