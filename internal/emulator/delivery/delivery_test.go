package delivery

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestFiltersAndReplayOfMissing(t *testing.T) {
	t.Parallel()
	users, all, late := newReceiver(t, nil), newReceiver(t, nil), newReceiver(t, nil)
	s := newSender(t, Config{})
	u := add(t, s, Endpoint{URL: users.url, Events: []string{"user.created", "user.updated"}})
	add(t, s, Endpoint{URL: all.url})
	created := send(t, s, 3, "user.created")
	sessions := send(t, s, 3, "session.created")
	settle(t, s)
	same(t, "the filtered endpoint", users.ids(), created)
	same(t, "the other", all.ids(), append(slices.Clone(created), sessions...))

	l := add(t, s, Endpoint{URL: late.url, Events: []string{"session.created"}})
	for range 2 { // the second time nothing is missing
		ids, err := s.ReplayMissing("", time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		settle(t, s)
		same(t, "the late endpoint", late.ids(), sessions)
		if len(ids) > 0 {
			same(t, "answer", ids, sessions)
		}
	}
	if n := len(users.ids()) + len(all.ids()); n != 9 {
		t.Errorf("a replay of missing sent what was not missing: %d", n)
	}

	if err := s.Replay(sessions[0], u.ID); err != nil { // by name: filters don't count
		t.Fatal(err)
	}
	settle(t, s)
	same(t, "the filtered endpoint", users.ids(), append(created, sessions[0]))
	if err := s.Replay("msg_none", l.ID); !errors.Is(err, ErrNoMessage) {
		t.Errorf("no message: %v", err)
	}
	if err := s.Replay(sessions[0], "ep_none"); !errors.Is(err, ErrNoEndpoint) {
		t.Errorf("no endpoint: %v", err)
	}
}

// What chaos dropped is logged, and a replay of missing brings exactly that.
func TestDropAndReplay(t *testing.T) {
	t.Parallel()
	rc := newReceiver(t, nil)
	s := newSender(t, Config{Seed: 7, Chaos: Chaos{Drop: 0.3}})
	ep := add(t, s, Endpoint{URL: rc.url, Secrets: []string{secretA}})
	ids := send(t, s, 200, "user.created")
	settle(t, s)
	arrived := rc.ids()
	var dropped []string
	for _, d := range logged(t, s, Filter{State: Dropped}) {
		dropped = append(dropped, d.MessageID)
		if len(d.Attempts) != 0 || !slices.Equal(d.Chaos, []string{"drop"}) {
			t.Errorf("log: %+v", d)
		}
	}
	if len(dropped) < 30 || len(dropped) > 90 {
		t.Errorf("%d of 200 dropped", len(dropped))
	}
	same(t, "dropped and arrived", append(slices.Clone(dropped), arrived...), ids)

	replayed, err := s.ReplayMissing(ep.ID, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	settle(t, s)
	same(t, "replayed", replayed, dropped)
	same(t, "after the replay", rc.ids(), ids)
	if c := s.Counts(); c.Delivered != 200 || c.Dropped != 0 || c.Attempts != 200 {
		t.Errorf("%+v", c)
	}
}

func TestReplayOfFailed(t *testing.T) {
	t.Parallel()
	var well atomic.Bool
	rc := newReceiver(t, func(w http.ResponseWriter, _ int, _ request) {
		if !well.Load() {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	s := newSender(t, Config{RetryScale: 1e-6})
	add(t, s, Endpoint{URL: rc.url})
	begin := time.Now()
	s.Send(Message{Type: "user.created", At: begin.Add(-time.Hour).UnixMilli(), Body: []byte("{}")})
	ids := send(t, s, 3, "user.created")
	settle(t, s)
	well.Store(true)
	replayed, err := s.ReplayFailed("", begin.Add(-time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	settle(t, s)
	same(t, "replayed", replayed, ids)
	if c := s.Counts(); c.Delivered != 3 || c.Failed != 1 {
		t.Errorf("%+v", c)
	}
}

// A replay of what waits for its retry is made now.
func TestReplayHurriesRetry(t *testing.T) {
	t.Parallel()
	rc := newReceiver(t, func(w http.ResponseWriter, nth int, _ request) {
		if nth == 1 {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	s := newSender(t, Config{RetryScale: 1000})
	add(t, s, Endpoint{URL: rc.url})
	id := send(t, s, 1, "user.created")[0]
	eventually(t, "a retry waits", func() bool { return one(t, s, Filter{}).NextAt > 0 })
	if ids, err := s.ReplayMissing("", time.Time{}); err != nil || len(ids) != 0 {
		t.Errorf("missing though it is to be tried again: %v, %v", ids, err)
	}
	if err := s.Replay(id, ""); err != nil {
		t.Fatal(err)
	}
	settle(t, s)
	if d := one(t, s, Filter{}); d.State != Delivered || len(d.Attempts) != 2 || d.NextAt != 0 {
		t.Errorf("log: %+v", d)
	}
}

// Receivers that do their worst hold up nobody but themselves, and no longer
// than the time-out.
func TestBadReceivers(t *testing.T) {
	t.Parallel()
	good := newReceiver(t, nil)
	hijack := func(do func(net.Conn)) func(http.ResponseWriter, int, request) {
		return func(w http.ResponseWriter, _ int, _ request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			do(conn)
			conn.Close()
		}
	}
	bad := map[string]func(http.ResponseWriter, int, request){
		"hangs": func(_ http.ResponseWriter, _ int, r request) { <-r.over },
		"redirects": func(w http.ResponseWriter, _ int, _ request) {
			w.Header().Set("Location", good.url)
			w.WriteHeader(http.StatusTemporaryRedirect)
		},
		"closes early":    hijack(func(net.Conn) {}),
		"resets":          hijack(func(c net.Conn) { c.(*net.TCPConn).SetLinger(0) }),
		"talks nonsense":  hijack(func(c net.Conn) { fmt.Fprint(c, "SSH-2.0-OpenSSH_9\r\n") }),
		"breaks off":      hijack(func(c net.Conn) { fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf") }),
		"endless headers": hijack(func(c net.Conn) { endless(c, "HTTP/1.1 200 OK\r\n", "X-A: b\r\n") }),
		"endless answer":  hijack(func(c net.Conn) { endless(c, "HTTP/1.1 200 OK\r\n\r\n", "more and more\n") }),
		"endless refusal": hijack(func(c net.Conn) { endless(c, "HTTP/1.1 500 No\r\n\r\n", "no and no\n") }),
		"drips":           hijack(drip),
	}
	want := map[string]string{
		"hangs": "no whole answer within 1.5s", "redirects": "307", "closes early": "EOF", "resets": "reset", "talks nonsense": "malformed",
		"breaks off": "unexpected EOF", "endless headers": "headers exceeded", "endless answer": "200", "endless refusal": "500", "drips": "no whole answer within 1.5s",
	}
	s := newSender(t, Config{Timeout: 1500 * time.Millisecond, Workers: 8, RetryScale: 1e-6})
	name := map[string]string{}
	for what, answer := range bad {
		name[add(t, s, Endpoint{URL: newReceiver(t, answer).url}).ID] = what
	}
	g := add(t, s, Endpoint{URL: good.url})
	ids := send(t, s, 20, "user.created")
	eventually(t, "the good receiver has all", func() bool { return len(logged(t, s, Filter{EndpointID: g.ID, State: Delivered})) == len(ids) })
	if c := s.Counts(); c.Open == 0 {
		t.Error("the good one had to wait until the bad ones were done with")
	}
	same(t, "the good receiver (redirects aren't followed)", good.ids(), ids)
	for id, what := range name {
		eventually(t, what, func() bool { return len(logged(t, s, Filter{EndpointID: id, MessageID: ids[0]})[0].Attempts) > 0 })
		d := one(t, s, Filter{EndpointID: id, MessageID: ids[0]})
		if a := d.Attempts[0]; !strings.Contains(fmt.Sprint(a.Error, " ", a.Status), want[what]) || a.Duration > 3000 {
			t.Errorf("%s: %+v, want %s", what, a, want[what])
		}
		if ok := what == "endless answer"; ok != (d.State == Delivered) && d.State != Pending {
			t.Errorf("%s: %s", what, d.State)
		}
	}
}

func endless(c net.Conn, head, more string) {
	for _, err := fmt.Fprint(c, head); err == nil; {
		_, err = fmt.Fprint(c, strings.Repeat(more, 100))
	}
}

// drip ends with its connection.
func drip(c net.Conn) {
	for _, err := fmt.Fprint(c, "HTTP/1.1 200 OK\r\n\r\n"); err == nil; time.Sleep(10 * time.Millisecond) {
		_, err = fmt.Fprint(c, "x")
	}
}

func TestEndpointRemovedMidway(t *testing.T) {
	t.Parallel()
	rc := newReceiver(t, func(_ http.ResponseWriter, _ int, r request) { <-r.over })
	other := newReceiver(t, nil)
	s := newSender(t, Config{Workers: 2, Timeout: time.Hour})
	ep := add(t, s, Endpoint{URL: rc.url})
	add(t, s, Endpoint{URL: other.url})
	ids := send(t, s, 5, "user.created")
	eventually(t, "as many under way as there are workers", func() bool { return len(rc.ids()) == 2 })
	if err := s.Delete(ep.ID); err != nil {
		t.Fatal(err)
	}
	settle(t, s) // two under way are cut, three queued are given up
	gone := logged(t, s, Filter{EndpointID: ep.ID})
	if len(gone) != 5 || len(rc.ids()) != 2 {
		t.Errorf("%d deliveries, %d requests", len(gone), len(rc.ids()))
	}
	for _, d := range gone {
		if d.State != Failed || d.Reason != reasonDeleted {
			t.Errorf("log: %+v", d)
		}
	}
	same(t, "the other endpoint", other.ids(), ids)
	if err := s.Delete(ep.ID); !errors.Is(err, ErrNoEndpoint) {
		t.Errorf("deleted twice: %v", err)
	}
}

func TestEndpointValues(t *testing.T) {
	t.Parallel()
	s, again := newSender(t, Config{Seed: 7}), newSender(t, Config{Seed: 7})
	ep := add(t, s, Endpoint{URL: "http://127.0.0.1:1/hook"})
	if ep.Secrets[0] != add(t, again, ep).Secrets[0] || add(t, newSender(t, Config{Seed: 7}), Endpoint{URL: ep.URL}).Secrets[0] != ep.Secrets[0] {
		t.Error("a seed doesn't make the same secret again")
	}
	for want, in := range map[string]Endpoint{
		"there is one":   {ID: ep.ID, URL: ep.URL},
		"url must be":    {URL: "127.0.0.1:8080"},
		"header_family":  {URL: ep.URL, HeaderFamily: "x"},
		"signing secret": {URL: ep.URL, Secrets: []string{"whsec_"}},
		"an empty type":  {URL: ep.URL, Events: []string{""}},
	} {
		if _, err := s.Add(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
	}
	ep.URL, ep.Events, ep.Disabled = "https://example.com/x", []string{"user.created"}, true
	if got, err := s.Update(ep); err != nil || got.URL != ep.URL || !got.Disabled || got.Secrets[0] != ep.Secrets[0] || got.Reason == "" {
		t.Errorf("updated: %+v, %v", got, err)
	}
	if len(s.Endpoints()) != 1 {
		t.Errorf("a refused endpoint is there: %+v", s.Endpoints())
	}
}

func TestLogPages(t *testing.T) {
	t.Parallel()
	rc := newReceiver(t, nil)
	s := newSender(t, Config{})
	for range 3 {
		add(t, s, Endpoint{URL: rc.url})
	}
	ids := send(t, s, 5, "user.created")
	settle(t, s)
	for _, newest := range []bool{false, true} {
		want := slices.Clone(ids)
		if newest {
			slices.Reverse(want)
		}
		all := logged(t, s, Filter{Newest: newest, Limit: 2})
		if len(all) != 15 {
			t.Fatalf("%d deliveries by pages of 2, want 15", len(all))
		}
		for i, d := range all {
			if d.MessageID != want[i/3] {
				t.Errorf("newest %v: %d is %s", newest, i, d.MessageID)
			}
		}
	}
	for _, f := range []Filter{{Cursor: "x"}, {Limit: 1001}, {Limit: -1}} {
		if _, _, err := s.Deliveries(f); err == nil {
			t.Errorf("took %+v", f)
		}
	}
}

// Beyond the budget the oldest of what was delivered are forgotten, what may
// have to be recovered later than those, what is not settled never.
func TestBudget(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	rc := newReceiver(t, func(w http.ResponseWriter, nth int, r request) {
		if strings.Contains(string(r.body), "hang") {
			<-release
		}
	})
	s := newSender(t, Config{KeepBytes: 20 * (messageBytes + 1000)})
	add(t, s, Endpoint{URL: rc.url})
	sendOne := func(what string) string {
		id, err := s.Send(Message{Type: what, Body: []byte(strings.Repeat(" ", 1000) + what)})
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	hanging := sendOne("hang")
	s.SetChaos(Chaos{Drop: 1})
	dropped := sendOne("dropped")
	s.SetChaos(Chaos{})
	var ids []string
	for i := range 100 {
		ids = append(ids, sendOne("ok"))
		eventually(t, "delivered", func() bool { return s.Counts().Delivered == i+1 })
	}
	var kept []string
	for _, d := range logged(t, s, Filter{}) {
		kept = append(kept, d.MessageID)
	}
	if n := len(kept); n < 15 || n > 20 || kept[0] != hanging || kept[1] != dropped || !slices.Equal(kept[2:], ids[102-n:]) {
		t.Errorf("kept %d", n)
	}
	if c := s.Counts(); c.Forgotten != 102-len(kept) || c.Delivered != 100 {
		t.Errorf("%+v", c)
	}
	if err := s.Replay(ids[0], ""); !errors.Is(err, ErrNoMessage) {
		t.Errorf("replay of what is forgotten: %v", err)
	}
	close(release)
	settle(t, s)
}

func TestClose(t *testing.T) {
	t.Parallel()
	slow := func(http.ResponseWriter, int, request) { time.Sleep(10 * time.Millisecond) }
	rc := newReceiver(t, slow)
	failing := newReceiver(t, refuse)
	s := newSender(t, Config{Workers: 4, Chaos: Chaos{Delay: 0.5, DelayMS: 3_600_000}})
	add(t, s, Endpoint{URL: rc.url})
	f := add(t, s, Endpoint{URL: failing.url})
	ids := send(t, s, 40, "user.created")
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	same(t, "drained, what chaos delayed included", rc.ids(), ids)
	if got := logged(t, s, Filter{EndpointID: f.ID, State: Failed}); len(got) != 40 || got[0].Reason != reasonStopped {
		t.Errorf("%d given up", len(got))
	}
	if _, err := s.Send(Message{}); err != ErrClosed {
		t.Errorf("Send afterwards: %v", err)
	}
}

func TestCloseCuts(t *testing.T) {
	t.Parallel()
	arrived := make(chan struct{}, 100)
	rc := newReceiver(t, func(_ http.ResponseWriter, _ int, r request) { arrived <- struct{}{}; <-r.over })
	s := newSender(t, Config{Workers: 4})
	add(t, s, Endpoint{URL: rc.url})
	send(t, s, 40, "user.created")
	<-arrived
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := s.Close(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.HasPrefix(err.Error(), "40 deliveries were cut") {
		t.Errorf("Close: %v", err)
	}
	if c := s.Counts(); c.Open != 0 || c.Failed != 40 {
		t.Errorf("%+v", c)
	}
}

// Everything at once, for the race detector and for the accounts to add up.
func TestTurmoil(t *testing.T) {
	t.Parallel()
	var n atomic.Int64
	rc := newReceiver(t, func(w http.ResponseWriter, _ int, _ request) {
		if n.Add(1)%5 == 0 {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	s := newSender(t, Config{Seed: 1, RetryScale: 1e-5, Workers: 8, KeepBytes: 50_000, Chaos: Chaos{
		Duplicate: 0.2, Reorder: 0.2, Delay: 0.2, DelayMS: 5, Burst: 0.2, Drop: 0.1, BadSignature: 0.1, Corrupt: 0.1,
	}})
	steady := add(t, s, Endpoint{URL: rc.url})
	var work sync.WaitGroup
	work.Go(func() { send(t, s, 300, "user.created") })
	work.Go(func() { send(t, s, 300, "user.updated") })
	work.Go(func() {
		for range 20 {
			ep, err := s.Add(Endpoint{URL: rc.url, Events: []string{"user.updated"}})
			if err != nil {
				t.Error(err)
				return
			}
			s.SetDisabled(steady.ID, true)
			s.Rotate(steady.ID, "")
			s.SetDisabled(steady.ID, false)
			s.ReplayMissing("", time.Time{})
			s.Delete(ep.ID)
		}
	})
	work.Wait()
	settle(t, s)
	c := s.Counts()
	if c.Messages != 600 || c.Pending != 0 || c.Open != 0 || c.Forgotten == 0 {
		t.Errorf("%+v", c)
	}
}

// same compares without regard to order.
func same(t *testing.T, what string, got, want []string) {
	t.Helper()
	if g, w := slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want)); !slices.Equal(g, w) {
		t.Errorf("%s: got %d %v, want %d %v", what, len(g), g, len(w), w)
	}
}
