package delivery

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestChaosMerge(t *testing.T) {
	t.Parallel()
	c, err := Chaos{Drop: 0.5}.Merge([]byte(`{"duplicate":0.25,"delay_ms":20,"clock_skew_ms":-5,"equal_updated_at":1}`))
	if want := (Chaos{Drop: 0.5, Duplicate: 0.25, DelayMS: 20, ClockSkewMS: -5, EqualUpdatedAt: 1}); err != nil || c != want {
		t.Errorf("%+v, %v", c, err)
	}
	for patch, want := range map[string]string{
		`{"drop":1.5}`:                  "drop is 1.5: must be a probability from 0 to 1",
		`{"reorder":-0.1}`:              "reorder is -0.1",
		`{"drops":1}`:                   `unknown field "drops"`,
		`{"drop":"0.1"}`:                "string",
		`{"delay_ms":-1}`:               "delay_ms is -1",
		`{"delay_ms":1.5}`:              "delay_ms",
		`{"delay_ms":9e9}`:              "delay_ms",
		`{"drop":0.1} x`:                "nothing after it",
		`[]`:                            "must be a JSON object",
		``:                              "must be a JSON object",
		`{"corrupt":1e999}`:             "corrupt",
		`{"clock_skew_ms":99999999999}`: "within a year",
	} {
		if after, err := c.Merge([]byte(patch)); err == nil || !strings.Contains(err.Error(), want) || after != c {
			t.Errorf("%s: %v", patch, err)
		}
	}
}

// What befalls a message hangs on the seed and its number alone.
func TestChaosBySeed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rc, dial := pipedReceiver(t, nil)
		run := func(seed uint64, workers int, c Chaos) (fates [][]string) {
			s := newSender(t, Config{Seed: seed, Workers: workers, Chaos: c, Dial: dial})
			add(t, s, Endpoint{URL: rc.url})
			send(t, s, 100, "user.created")
			settle(t, s)
			for _, d := range logged(t, s, Filter{}) {
				fates = append(fates, d.Chaos)
			}
			return fates
		}
		all := Chaos{Duplicate: 0.3, Reorder: 0.3, Delay: 0.3, Drop: 0.2, Burst: 0.3, BadSignature: 0.2, Corrupt: 0.2}
		first := run(7, 64, all)
		if diff := cmp.Diff(first, run(7, 2, all)); diff != "" {
			t.Errorf("two runs of one seed differ:\n%s", diff)
		}
		if cmp.Equal(first, run(8, 64, all)) {
			t.Error("another seed brings the same")
		}
		for i, fate := range run(7, 64, Chaos{Drop: 0.2}) {
			if was := slices.Equal(first[i], []string{"drop"}); was != (fate != nil) {
				t.Errorf("message %d: dropped %v, but not so without the other troubles", i+1, was)
			}
		}
	})
}

func TestDuplicate(t *testing.T) {
	t.Parallel()
	rc := newReceiver(t, nil)
	s := newSender(t, Config{Chaos: Chaos{Duplicate: 1}})
	add(t, s, Endpoint{URL: rc.url, Secrets: []string{secretA}})
	ids := send(t, s, 10, "user.created")
	settle(t, s)
	same(t, "received", rc.ids(), append(ids, ids...))
	for _, r := range rc.requests() {
		if !r.verifies(t, secretA) {
			t.Errorf("%s: not authentic", r.id)
		}
	}
}

// Forgeries come in addition, before the authentic message, and are refused by
// who looks.
func TestForgeries(t *testing.T) {
	t.Parallel()
	for _, careless := range []bool{false, true} {
		rc := newReceiver(t, func(w http.ResponseWriter, nth int, r request) {
			if !careless && !r.verifies(t, secretA) {
				w.WriteHeader(http.StatusUnauthorized)
			} else if nth == 3 { // the message: its retry is not preceded by forgeries
				w.WriteHeader(http.StatusInternalServerError)
			}
		})
		s := newSender(t, Config{RetryScale: 1e-6, Chaos: Chaos{BadSignature: 1, Corrupt: 1}})
		add(t, s, Endpoint{URL: rc.url, Secrets: []string{secretA}})
		id := send(t, s, 1, "user.created")[0]
		settle(t, s)
		got := rc.requests()
		same(t, "received", rc.ids(), []string{id, id, id, id})
		if got[0].verifies(t, secretA) || got[1].verifies(t, secretA) || !got[2].verifies(t, secretA) || !got[3].verifies(t, secretA) {
			t.Error("want two forgeries, then the message and its retry")
		}
		if string(got[0].body) != string(got[2].body) || string(got[1].body) == string(got[2].body) || len(got[1].body) != len(got[2].body) {
			t.Errorf("bodies:\n%s\n%s\n%s", got[0].body, got[1].body, got[2].body)
		}
		d := one(t, s, Filter{})
		if kinds := []Kind{d.Attempts[0].Kind, d.Attempts[1].Kind, d.Attempts[2].Kind}; d.State != Delivered || !slices.Equal(kinds, []Kind{BadSignature, Corrupt, ""}) {
			t.Errorf("log: %+v", d)
		}
		if c := s.Counts(); c.ForgedAccepted != map[bool]int{true: 2}[careless] {
			t.Errorf("careless %v: %+v", careless, c)
		}
	}
}

// Delay, reorder and burst move messages in time and lose none.
func TestHeldMessages(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		chaos Chaos
		check func(t *testing.T, start time.Time, sent []string, got []request)
	}{
		"delay": {Chaos{Delay: 1, DelayMS: 1500}, func(t *testing.T, start time.Time, _ []string, got []request) {
			if after := got[0].at.Sub(start); after < 1500*time.Millisecond || after > 1501*time.Millisecond {
				t.Errorf("the first came after %v", after)
			}
		}},
		"reorder": {Chaos{Reorder: 0.2}, func(t *testing.T, start time.Time, sent []string, got []request) {
			far := 0
			for i, r := range got {
				behind := i - slices.Index(sent, r.id)
				if behind > 0 {
					far++
				}
				if behind > 100 {
					t.Errorf("%s came %d places late", r.id, behind)
				}
			}
			if far < 20 {
				t.Errorf("only %d of %d came late", far, len(got))
			}
		}},
		"reorder all": {Chaos{Reorder: 1}, func(t *testing.T, start time.Time, sent []string, got []request) {
			if last := got[len(got)-1].at.Sub(start); last > 200*10*time.Millisecond+reorderMax {
				t.Errorf("held for %v", last)
			}
			if slices.EqualFunc(sent, got, func(id string, r request) bool { return id == r.id }) {
				t.Error("still in order")
			}
		}},
		"burst": {Chaos{Burst: 1}, func(t *testing.T, start time.Time, sent []string, got []request) {
			moments := map[time.Time]int{}
			for _, r := range got {
				moments[r.at]++
			}
			for at, n := range moments {
				if n != burstSize {
					t.Errorf("%d came together after %v, want %d", n, at.Sub(start), burstSize)
				}
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				rc, dial := pipedReceiver(t, nil)
				s := newSender(t, Config{Seed: 7, Dial: dial, Chaos: c.chaos})
				add(t, s, Endpoint{URL: rc.url})
				start := time.Now()
				var sent []string
				for range 200 {
					sent = append(sent, send(t, s, 1, "user.created")...)
					time.Sleep(10 * time.Millisecond)
				}
				if err := s.Settled(t.Context()); err != nil {
					t.Fatal(err)
				}
				same(t, "received", rc.ids(), sent)
				c.check(t, start, sent, rc.requests())
			})
		})
	}
}

// Chaos can be switched while messages flow.
func TestChaosSwitched(t *testing.T) {
	t.Parallel()
	rc := newReceiver(t, nil)
	s := newSender(t, Config{})
	add(t, s, Endpoint{URL: rc.url})
	var work sync.WaitGroup
	work.Go(func() { send(t, s, 200, "user.created") })
	for i := range 50 {
		if err := s.SetChaos(Chaos{Duplicate: float64(i%2) / 2}); err != nil {
			t.Error(err)
		}
	}
	work.Wait()
	if err := s.SetChaos(Chaos{Drop: 2}); err == nil || s.Chaos().Drop != 0 {
		t.Errorf("took a probability of 2: %v", err)
	}
	settle(t, s)
	if c := s.Counts(); c.Delivered != 200 {
		t.Errorf("%+v", c)
	}
}
