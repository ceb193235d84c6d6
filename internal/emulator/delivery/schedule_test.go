package delivery

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func refuse(w http.ResponseWriter, _ int, _ request) {
	http.Error(w, "no room", http.StatusServiceUnavailable)
}

// Svix's own times, to the millisecond: a real client and server on pipes, in a
// bubble where time is fake.
func TestSchedule(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rc, dial := pipedReceiver(t, func(w http.ResponseWriter, nth int, r request) {
			if !r.verifies(t, secretA) { // the library's clock is fake too
				t.Errorf("attempt %d isn't signed anew", nth)
			}
			refuse(w, nth, r)
		})
		s := newSender(t, Config{Dial: dial})
		add(t, s, Endpoint{URL: rc.url, Secrets: []string{secretA}})
		send(t, s, 1, "user.created")
		if err := s.Settled(t.Context()); err != nil {
			t.Fatal(err)
		}
		checkTimes(t, rc.requests(), 1, time.Millisecond)
		d := one(t, s, Filter{})
		if d.State != Failed || d.Reason != "given up after 8 attempts" || len(d.Attempts) != 8 || d.Attempts[7].Status != 503 || d.Attempts[7].Response != "no room\n" {
			t.Errorf("log: %+v", d)
		}
		if got := d.Attempts[7].At - d.Attempts[0].At; got < 99_305_000 || got > 99_306_000 { // 27.6 h
			t.Errorf("%d ms in all", got)
		}
	})
}

// The same against a real socket, a hundred thousand times as fast.
func TestScheduleScaled(t *testing.T) {
	t.Parallel()
	const scale = 1e-5
	rc := newReceiver(t, refuse)
	s := newSender(t, Config{RetryScale: scale})
	add(t, s, Endpoint{URL: rc.url})
	send(t, s, 1, "user.created")
	settle(t, s)
	checkTimes(t, rc.requests(), scale, 30*time.Second) // exactly: above; here the machine may be busy
}

// checkTimes wants an attempt at each time of the schedule, not early, and late
// by less than the tolerance.
func checkTimes(t *testing.T, got []request, scale float64, tolerance time.Duration) {
	t.Helper()
	if len(got) != 1+len(schedule) {
		t.Fatalf("%d attempts", len(got))
	}
	for i, wait := range schedule {
		want := scaled(wait, scale)
		if took := got[i+1].at.Sub(got[i].at); took < want || took > want+tolerance {
			t.Errorf("retry %d came after %v, want %v", i+1, took, want)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		header string
		date   time.Duration // from now, in place of header
		want   time.Duration
	}{
		"none":           {want: 5 * time.Second},
		"less":           {header: "1", want: 5 * time.Second},
		"between":        {header: "7", want: 7 * time.Second},
		"more":           {header: "3600", want: 10 * time.Second},
		"far more":       {header: "99999999999999999999", want: 5 * time.Second},
		"negative":       {header: "-1", want: 5 * time.Second},
		"no number":      {header: "soon", want: 5 * time.Second},
		"date":           {date: 8 * time.Second, want: 8 * time.Second},
		"date long past": {date: -time.Hour, want: 5 * time.Second},
		"date far off":   {date: time.Hour, want: 10 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				rc, dial := pipedReceiver(t, func(w http.ResponseWriter, nth int, _ request) {
					if nth == 1 {
						value := c.header
						if c.date != 0 {
							value = time.Now().Add(c.date).UTC().Format(http.TimeFormat)
						}
						w.Header().Set("Retry-After", value)
						w.WriteHeader(http.StatusTooManyRequests)
					}
				})
				s := newSender(t, Config{Dial: dial})
				add(t, s, Endpoint{URL: rc.url})
				send(t, s, 1, "user.created")
				if err := s.Settled(t.Context()); err != nil {
					t.Fatal(err)
				}
				got := rc.requests()
				if took := got[1].at.Sub(got[0].at); took < c.want || took > c.want+time.Millisecond {
					t.Errorf("came again after %v, want %v", took, c.want)
				}
			})
		})
	}
}

func TestJitter(t *testing.T) {
	t.Parallel()
	s := newSender(t, Config{Jitter: true})
	different := map[time.Duration]bool{}
	for n := range uint64(100) {
		j := &job{d: &delivery{m: &message{sequence: n}}, try: 1}
		wait, _ := s.retryIn(j, "")
		if wait < 4*time.Minute || wait > 6*time.Minute {
			t.Errorf("5 minutes became %v", wait)
		}
		different[wait] = true
	}
	if len(different) < 90 {
		t.Errorf("only %d different waits", len(different))
	}
}

func TestAbort(t *testing.T) {
	t.Parallel()
	rc := newReceiver(t, func(w http.ResponseWriter, nth int, _ request) {
		w.Header().Set("webhook-delivery", "abort-message")
		w.WriteHeader(map[int]int{1: 500, 2: 200}[nth])
	})
	s := newSender(t, Config{})
	add(t, s, Endpoint{URL: rc.url})
	id := send(t, s, 1, "user.created")[0]
	settle(t, s)
	if d := one(t, s, Filter{}); d.State != Aborted || len(d.Attempts) != 1 {
		t.Errorf("log: %+v", d)
	}
	if err := s.Replay(id, ""); err != nil {
		t.Fatal(err)
	}
	settle(t, s)
	if d := one(t, s, Filter{}); d.State != Delivered || d.Attempts[1].Kind != Replay {
		t.Errorf("log after a replay that was answered 200: %+v", d)
	}
}

// Five days of nothing but failures disable an endpoint; failures days apart
// don't.
func TestDisabledAfterFailures(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rc, dial := pipedReceiver(t, refuse)
		s := newSender(t, Config{Dial: dial})
		ep := add(t, s, Endpoint{URL: rc.url})
		send(t, s, 1, "user.created")
		time.Sleep(10 * 24 * time.Hour) // settled on the second day, quiet since
		sent, hours := 1, 0
		for ; hours < 200 && !s.Endpoints()[0].Disabled; hours++ {
			if hours%12 == 0 {
				sent += len(send(t, s, 1, "user.created"))
			}
			time.Sleep(time.Hour)
		}
		if hours != 5*24+1 {
			t.Errorf("disabled after %d hours of nothing but failures", hours)
		}
		if err := s.Settled(t.Context()); err != nil { // at once: what waited is given up
			t.Fatal(err)
		}
		missed := send(t, s, 1, "user.created")
		if err := s.Replay(missed[0], ep.ID); err == nil || !strings.Contains(err.Error(), "enable it first") {
			t.Errorf("replay to it: %v", err)
		}
		if err := s.SetDisabled(ep.ID, false); err != nil {
			t.Fatal(err)
		}
		if ids, err := s.ReplayMissing(ep.ID, time.Time{}); err != nil || len(ids) != sent+1 {
			t.Errorf("%d missing, want all %d (%v)", len(ids), sent+1, err)
		}
	})
}
