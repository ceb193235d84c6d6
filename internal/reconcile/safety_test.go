package reconcile

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rollcall-dev/rollcall/internal/backfill"
	"github.com/rollcall-dev/rollcall/internal/clerk/backend"
	"github.com/rollcall-dev/rollcall/internal/clerk/clerktest"
	"github.com/rollcall-dev/rollcall/internal/emulator"
	emulated "github.com/rollcall-dev/rollcall/internal/emulator/state"
)

// forgetful is a Clerk that doesn't show some users: not in lists and totals, and
// not by id unless shown is set.
type forgetful struct {
	hidden []string
	shown  bool
}

func (f *forgetful) RoundTrip(req *http.Request) (*http.Response, error) {
	path := strings.TrimPrefix(req.URL.Path, "/v1")
	if id, ok := strings.CutPrefix(path, "/users/"); ok && slices.Contains(f.hidden, id) && !f.shown {
		req.URL.Path = "/v1/users/user_nobody"
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil || path != "/users" && path != "/users/count" {
		return resp, err
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if path == "/users/count" {
		var count map[string]any
		if err := json.Unmarshal(body, &count); err != nil {
			return nil, err
		}
		count["total_count"] = count["total_count"].(float64) - float64(len(f.hidden))
		body, err = json.Marshal(count)
	} else {
		var all []json.RawMessage
		if err := json.Unmarshal(body, &all); err != nil {
			return nil, err
		}
		body, err = json.Marshal(slices.DeleteFunc(all, func(row json.RawMessage) bool {
			return slices.ContainsFunc(f.hidden, func(id string) bool { return bytes.Contains(row, []byte(`"id":"`+id+`"`)) })
		}))
	}
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return resp, err
}

// users are the ids of all that the store has.
func (r *rig) users() (ids []string) {
	r.t.Helper()
	db, err := pgx.Connect(r.t.Context(), r.DB.OwnerURL)
	if err != nil {
		r.t.Fatal(err)
	}
	defer db.Close(context.Background())
	if err := db.QueryRow(r.t.Context(), `select array_agg(id order by id) from clerk.users where deleted_at is null`).Scan(&ids); err != nil {
		r.t.Fatal(err)
	}
	return ids
}

func left(report *Report, table string) string {
	for _, res := range report.Resources {
		if res.Resource == table {
			return res.Left
		}
	}
	return ""
}

// Lists that show nothing, of a Clerk that has it all: nothing is deleted.
func TestEmptyLists(t *testing.T) {
	t.Parallel()
	r := filled(t, emulator.Options{Population: emulated.SeedOptions{Users: 40}})
	before := r.users()
	r.past()
	r.Transport = &forgetful{hidden: before, shown: true}
	report := r.pass(Full, repair, allowing)
	if why := left(report, "users"); !strings.Contains(why, "not to be relied on") || report.Drift() != 0 {
		t.Errorf("%q %+v", why, report.Differences)
	}
	if !slices.Equal(r.users(), before) {
		t.Error("users are gone")
	}
}

// A Clerk that knows nobody any more: the breaker holds, and says what to do; who
// insists has it done.
func TestNobodyIsThere(t *testing.T) {
	t.Parallel()
	r := filled(t, emulator.Options{Population: emulated.SeedOptions{Users: 40}})
	before := r.users()
	r.past()
	r.Transport = &forgetful{hidden: before}
	report := r.pass(Full, repair)
	if why := left(report, "users"); !strings.Contains(why, "none was deleted") || !strings.Contains(why, "--confirm-deletes") || report.Drift() != 40 {
		t.Errorf("%q, drift %d", why, report.Drift())
	}
	if !slices.Equal(r.users(), before) {
		t.Error("users are gone")
	}
	if report := r.pass(Full, repair, allowing); report.Drift() != 0 || len(r.users()) != 0 {
		t.Errorf("confirmed: drift %d, %d users", report.Drift(), len(r.users()))
	}
}

// A Clerk that loses 4% an hour: it stops within the day's bound.
func TestFourPercentAnHour(t *testing.T) {
	t.Parallel()
	r := filled(t, emulator.Options{Population: emulated.SeedOptions{Users: 500}})
	all := r.users()
	r.past()
	clerk, now := &forgetful{}, time.Now()
	r.Transport = clerk
	for hour := range 4 {
		clerk.hidden = all[:20*(hour+1)]
		report := r.pass(Full, repair, func(o *Options) {
			o.Grace = 10 * time.Millisecond
			o.Now = func() time.Time { return now.Add(time.Duration(hour) * time.Hour) }
		})
		if gone := 500 - len(r.users()); gone != 20 {
			t.Fatalf("after hour %d %d of 500 are gone", hour+1, gone)
		}
		if why := left(report, "users"); hour > 0 && !strings.Contains(why, "20 were deleted within 24 hours") {
			t.Errorf("hour %d: %q", hour+1, why)
		}
	}
	clerk.hidden = all[:40]
	r.pass(Full, repair, func(o *Options) {
		o.Grace = 10 * time.Millisecond
		o.Now = func() time.Time { return now.Add(25 * time.Hour) }
	})
	if gone := 500 - len(r.users()); gone != 40 {
		t.Errorf("a day later %d of 500 are gone", gone)
	}
}

// Who was wrongly taken for deleted comes back.
func TestWronglyDeleted(t *testing.T) {
	t.Parallel()
	r := filled(t, emulator.Options{Population: emulated.SeedOptions{Users: 30, Organizations: 3, Memberships: 30}})
	all := r.users()
	r.past()
	r.Transport = &forgetful{hidden: all[:3]}
	if report := r.pass(Full, repair); report.Drift() != 0 || len(r.users()) != len(all)-3 {
		t.Fatalf("%d users, %+v", len(r.users()), report.Differences)
	}
	r.past() // a delete that was inferred in a second counts for all of it
	r.Transport = nil
	if report := r.pass(Full, repair); report.Drift() != 0 {
		t.Errorf("%+v", report.Differences)
	}
	r.Equal(backfill.Resources())
}

// The key of another instance is refused, and one that Clerk doesn't know.
func TestWrongKey(t *testing.T) {
	t.Parallel()
	r, other := filled(t, emulator.Options{Population: emulated.SeedOptions{Users: 3}}), newRig(t, emulator.Options{Seed: 7})
	var wrong *backfill.WrongInstanceError
	if _, err := r.try(Full, repair, func(o *Options) { o.Client = other.Client(func(*backend.Options) {}) }); !errors.As(err, &wrong) {
		t.Errorf("another instance's: %v", err)
	}
	if len(r.users()) != 3 {
		t.Error("users are gone")
	}
}

// A store that nobody runs is no drift.
func TestStoreThatStandsStill(t *testing.T) {
	t.Parallel()
	r := filled(t, emulator.Options{Population: emulated.SeedOptions{Users: 3}})
	r.StopStore()
	r.changes(10)
	r.Ask("GET", "/_emu/settled?timeout=30s", "")
	_, err := r.try(Full, repair, func(o *Options) { o.stuckAfter = time.Second })
	if err == nil || !strings.Contains(err.Error(), "is it running?") {
		t.Error(err)
	}
}

// Deletes that are known only by a list's silence take two passes.
func TestTwoPasses(t *testing.T) {
	t.Parallel()
	r := filled(t, emulator.Options{Population: emulated.SeedOptions{Users: 3}})
	r.Ask("POST", "/v1/waitlist_entries", `{"email_address":"ada@example.com"}`)
	r.CaughtUp()
	entries := clerktest.JSON[struct{ Data []struct{ ID string } }](t, r.Ask("GET", "/v1/waitlist_entries", ""))
	r.chaos(`{"drop":1}`)
	r.Ask("DELETE", "/v1/waitlist_entries/"+entries.Data[0].ID, "")
	r.past()
	if first := r.pass(Full, repair); first.Drift() != 0 {
		t.Errorf("after one pass: %+v", first.Differences)
	}
	// Ten minutes go by.
	k, err := openKeeper(t.Context(), Options{JetStream: r.JS, Names: r.Names}, r.pass(Counts).InstanceID)
	if err != nil {
		t.Fatal(err)
	}
	for id := range k.state.Unlisted["waitlist_entries"] {
		k.state.Unlisted["waitlist_entries"][id] -= passesApart.Milliseconds()
	}
	if err := k.save(t.Context()); err != nil {
		t.Fatal(err)
	}
	second := r.pass(Full, repair)
	if len(second.Differences) != 1 || second.Drift() != 0 {
		t.Errorf("after two: %+v", second.Differences)
	}
	r.Equal(backfill.Resources())
}

// Recent finds what Clerk has changed since, and asks little where nothing has.
func TestRecent(t *testing.T) {
	t.Parallel()
	r := filled(t, emulator.Options{Population: emulated.SeedOptions{Users: 1_200, Organizations: 30, Memberships: 100}})
	r.past()
	r.pass(Full)
	idle := r.pass(Recent)
	if idle.Requests.Requests > 10 || idle.Drift() != 0 {
		t.Errorf("%d requests, %+v", idle.Requests.Requests, idle.Differences)
	}
	all := r.users()
	r.chaos(`{"drop":1}`)
	for i, id := range all[:20] {
		r.Ask("PATCH", "/v1/users/"+id, fmt.Sprintf(`{"first_name":"Changed %d"}`, i))
	}
	r.Ask("POST", "/v1/users", `{"email_address":["ada@example.com"]}`)
	r.Ask("DELETE", "/v1/users/"+all[30], "")
	r.past()
	for range 2 { // what isn't mended is found again
		report := r.pass(Recent)
		if report.Drift() != 22 || len(report.Differences) != 21 { // and the one that is gone
			t.Errorf("drift %d: %+v", report.Drift(), report.Differences)
		}
	}
	report := r.pass(Recent, repair)
	if d := report.Drift(); d != 1 || report.Resources[slices.IndexFunc(report.Resources, func(res *Result) bool { return res.Resource == "users" })].ByCount != 1 {
		t.Errorf("the one that is gone: drift %d", d)
	}
	if counts := r.pass(Counts); counts.Drift() != 1 || counts.Requests.Requests > 20 {
		t.Errorf("%+v", counts)
	}
	r.pass(Full, repair)
	r.Equal(backfill.Resources())
	if last := r.pass(Counts); last.Drift() != 0 {
		t.Errorf("%+v", last)
	}
}

// The first recent pass of an empty log reads all, each row once.
func TestRecentFromNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, emulator.Options{Population: emulated.SeedOptions{Users: 1_200}})
	report := r.pass(Recent, repair)
	users := report.Resources[slices.IndexFunc(report.Resources, func(res *Result) bool { return res.Resource == "users" })]
	if users.Compared != 1_200 || users.Missing != 1_200 || users.Mended != 1_200 || report.Drift() != 0 {
		t.Errorf("%+v", users)
	}
	r.Equal(backfill.Resources())
}

// A Clerk whose webhooks no longer come is noticed once it has changes, until the
// next one comes.
func TestSilence(t *testing.T) {
	t.Parallel()
	r := filled(t, emulator.Options{Population: emulated.SeedOptions{Users: 20}})
	id := r.users()[0]
	r.Ask("PATCH", "/v1/users/"+id, `{"first_name":"Heard"}`)
	r.CaughtUp()
	r.past()
	if report := r.pass(Recent, repair); report.Silence != nil {
		t.Fatalf("%+v", report.Silence)
	}
	r.chaos(`{"drop":1}`)
	if report := r.pass(Recent, repair); report.Silence != nil {
		t.Fatalf("nothing has changed: %+v", report.Silence)
	}
	r.Ask("PATCH", "/v1/users/"+id, `{"first_name":"Unheard"}`)
	r.past()
	report := r.pass(Recent, repair)
	if s := report.Silence; s == nil || s.Changes != 1 || time.Since(time.UnixMilli(s.Since)) > time.Minute || !strings.Contains(s.String(), "and Clerk has changes") {
		t.Fatalf("%+v", s)
	}
	if again := r.pass(Recent, repair); again.Silence == nil || again.Silence.Since != report.Silence.Since {
		t.Errorf("mended, and still silent: %+v", again.Silence)
	}
	r.chaos(`{}`)
	r.Ask("PATCH", "/v1/users/"+id, `{"first_name":"Heard again"}`)
	r.CaughtUp()
	if report := r.pass(Recent, repair); report.Silence != nil {
		t.Errorf("%+v", report.Silence)
	}
}
