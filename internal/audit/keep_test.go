package audit

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/streams"
)

// across is a log of events around a month's end: around it they were stored in
// another order than received.
func across(t *testing.T) (*rig, broker) {
	t.Helper()
	r, b := newRig(t), newBroker(t)
	start := time.Date(2026, 9, 3, 0, 0, 0, 0, time.UTC)
	var batch []streams.Message
	for i := range 60 { // five months of twelve
		received := start.AddDate(0, i/12, 0).Add(time.Duration(i%12) * 6 * time.Hour)
		if i > 12 && i%12 == 11 {
			received = received.AddDate(0, 0, -8) // late
		}
		m := r.user("updated", i%5, "")
		sign(t, &m)
		m.Header.Set(streams.HeaderReceivedAt, fmt.Sprint(received.UnixMilli()))
		batch = append(batch, m)
		if len(batch) == 7 || i == 59 {
			r.append(batch...)
			r.anchor(b)
			batch = nil
		}
	}
	return r, b
}

func TestMonthsEnd(t *testing.T) {
	t.Parallel()
	r, b := across(t)
	if got := r.verify(b); !got.OK || got.Rows != 60 {
		t.Errorf("%+v, %+v", got, got.Broken)
	}
	var partitions string
	r.query(`select string_agg(tableoid::regclass || ' ' || n, ', ' order by tableoid::regclass::text) from (select tableoid, count(*) n from rollcall_audit.events group by 1) p`, &partitions)
	if want := "rollcall_audit.events_2026_09 13, rollcall_audit.events_2026_10 12"; !strings.HasPrefix(partitions, want) {
		t.Errorf("%s, want %s, …", partitions, want)
	}
}

// After a prune the log holds from there; what was pruned isn't appended again,
// and what is left can't be cut as if it had been.
func TestPrune(t *testing.T) {
	t.Parallel()
	r, b := across(t)
	if p, err := r.log.Prune(t.Context(), time.Date(2026, 9, 30, 23, 0, 0, 0, time.UTC), b); err != nil || len(p.Partitions) != 0 {
		t.Fatalf("before a month's end: %+v, %v", p, err)
	}
	plan, err := r.log.PlanPrune(t.Context(), time.Date(2026, 11, 15, 0, 0, 0, 0, time.UTC))
	if err != nil {
		t.Fatal(err)
	}
	p, err := r.log.Prune(t.Context(), time.Date(2026, 11, 15, 0, 0, 0, 0, time.UTC), b)
	if err != nil || fmt.Sprint(p) != fmt.Sprint(plan) || fmt.Sprint(p.Partitions) != "[events_2026_09 events_2026_10]" || !p.Before.Equal(time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)) {
		t.Fatalf("%+v, %v; planned %+v", p, err, plan)
	}
	got := r.verify(b)
	if !got.OK || got.Pruned != p.LastSeq || got.Rows != 60-p.Rows || got.First != p.LastSeq+1 {
		t.Errorf("%+v, %+v after %+v", got, got.Broken, p)
	}
	var holes, rows int64
	r.query(`select (select count(*) from rollcall_audit.pruned), (select count(*) from rollcall_audit.events)`, &holes, &rows)
	if holes == 0 || rows != 60-p.Rows {
		t.Errorf("%d rows went from between others, want some; %d rows left", holes, rows)
	}

	// Read again, as after a rewind; the ids of the oldest are forgotten by then.
	if err := r.as(r.db.OwnerURL, `delete from rollcall_audit.event_ids where event_id < 'msg_0005'`); err != nil {
		t.Fatal(err)
	}
	old := r.user("updated", 1, "")
	old.Header.Set(streams.HeaderSvixID, "msg_0002")
	old.Header.Set(streams.HeaderReceivedAt, fmt.Sprint(time.Date(2026, 9, 3, 6, 0, 0, 0, time.UTC).UnixMilli()))
	again := r.user("updated", 1, "")
	again.Header.Set(streams.HeaderSvixID, "msg_0020")
	fresh := r.user("updated", 1, "")
	sign(t, &fresh)
	fresh.Header.Set(streams.HeaderReceivedAt, fmt.Sprint(time.Date(2026, 12, 30, 0, 0, 0, 0, time.UTC).UnixMilli()))
	r.append(old, again, fresh)
	if r.head.Seq != 61 {
		t.Errorf("the log ends with row %d, want 61", r.head.Seq)
	}
	if got := r.verify(b); !got.OK {
		t.Errorf("%+v", got.Broken)
	}

	if _, err := r.log.Prune(t.Context(), time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC), b); err != nil {
		t.Fatal(err)
	}
	if got := r.verify(b); !got.OK {
		t.Errorf("after another prune: %+v", got.Broken)
	}
	r.attack(`delete from rollcall_audit.events where seq = (select min(seq) + 1 from rollcall_audit.events)`)
	if got := r.verify(b); got.OK || got.Broken.Kind != BrokenMissing {
		t.Errorf("a row deleted behind the prune: %+v", got)
	}
}

// A prune that can't be anchored doesn't happen.
func TestPruneNeedsItsAnchor(t *testing.T) {
	t.Parallel()
	r, b := across(t)
	if err := b.js.DeleteStream(t.Context(), "CLERK_ANCHORS"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.log.Prune(t.Context(), time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC), b); err == nil {
		t.Error("pruned without an anchor")
	}
	if got := r.verify(nil); !got.OK || got.Rows != 60 {
		t.Errorf("%+v, %+v", got, got.Broken)
	}
}

func TestRedact(t *testing.T) {
	t.Parallel()
	r, b := anchored(t, 50)
	rest := []streams.Message{
		r.event("session.created", "sess_1", `{"id":"sess_1","user_id":"user_3","latest_activity":{"ip_address":"198.51.100.7"}}`),
		r.event("session.ended", "sess_1", `{"id":"sess_1","status":"ended"}`),
		r.event("email.created", "ema_1", `{"id":"ema_1","to_email_address":"ada@example.org"}`),
		r.event("session.created", "sess_2", `{"id":"sess_2","user_id":"user_5","actor":{"sub":"user_3"}}`),
		r.event("session.created", "sess_4", `{"id":"sess_4","user_id":"user_5"}`),
	}
	for i := range rest {
		sign(t, &rest[i])
	}
	r.append(rest...)
	r.anchor(b)
	const told = `select count(*) from rollcall_audit.events where position('user_3"' in convert_from(payload, 'utf8')) > 0 or actor_id = 'user_3' or position('ada@' in convert_from(payload, 'utf8')) > 0`
	var before, left, blank, others int64
	r.query(told, &before)
	n, err := r.log.Redact(t.Context(), Match{UserID: "user_3", Texts: []string{"ada@example.org"}}, "erase")
	if err != nil {
		t.Fatal(err)
	}
	r.query(told, &left)
	r.query(`select count(*) filter (where payload is null and client_ip is null and user_agent is null and changed is null and salts = '{null,null,null,null,null}'), count(payload) from rollcall_audit.events`, &blank, &others)
	if left != 0 || n != before+1 || blank != n || others != 55-n { // +1: the session's end, which doesn't name its user
		t.Errorf("of %d rows %d are left; %d redacted, %d blank, %d others", before, left, n, blank, others)
	}
	got := r.verify(b)
	if !got.OK || got.Redacted != n {
		t.Errorf("%+v, %+v", got, got.Broken)
	}
	// The next event of the person has nothing to be compared with.
	r.append(r.user("updated", 3, ""))
	if again, err := r.log.Redact(t.Context(), Match{UserID: "user_3"}, "erase"); err != nil || again != 1 {
		t.Errorf("the second time %d rows, %v", again, err)
	}
	for _, m := range []Match{{}, {UserID: "user_1", Texts: []string{""}}} {
		if _, err := r.log.Redact(t.Context(), m, "x"); err == nil {
			t.Errorf("%+v was redacted", m)
		}
	}
}

func TestRedriven(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.fill(10)
	letter := r.user("updated", 1, "")
	letter.Sequence, letter.Epoch = 4, 7
	work, _ := r.log.Prepare([]streams.Message{letter})
	for range 2 { // once, however often it is driven
		if err := r.log.Apply(t.Context(), work); err != nil {
			t.Fatal(err)
		}
	}
	var redriven bool
	var seq, position, last int64
	r.query(`select redriven, stream_seq, position, s.seq from rollcall_audit.events e, rollcall_audit.sync_status s where e.seq = 11`, &redriven, &seq, &position, &last)
	if !redriven || seq != 4 || position != 10 || last != 11 {
		t.Errorf("redriven %t, sequence %d, position %d, end %d", redriven, seq, position, last)
	}
}

// The number of letters is what is counted, also where another comes meanwhile.
func TestCountLetters(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	letter := func(n int) error {
		to := streams.Position{Epoch: epoch, Sequence: r.at.Sequence + 1}
		err := r.log.Commit(t.Context(), nil, r.at, to, 0, n)
		r.at = to
		return err
	}
	if err := letter(5); err != nil {
		t.Fatal(err)
	}
	letters, asked := uint64(3), 0
	err := r.log.CountLetters(t.Context(), func(context.Context) (uint64, error) {
		n := letters
		if asked++; asked == 1 {
			letters++
			return n, letter(1)
		}
		return n, nil
	})
	if err != nil || asked != 2 {
		t.Errorf("%v, asked %d times", err, asked)
	}
	var counted, position int64
	r.query(`select dead_letters, position from rollcall_audit.sync_status`, &counted, &position)
	if counted != 4 || position != 2 {
		t.Errorf("%d letters at position %d, want 4 at 2", counted, position)
	}
}
