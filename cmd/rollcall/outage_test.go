package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
	"github.com/rollcall-dev/rollcall/streams"
)

// Without Postgres ingest goes on as if nothing were; the store catches up alone.
func TestSoakPostgresStopped(t *testing.T) {
	t.Parallel()
	postgres := stacktest.Postgres(t)
	p := &pipeline{t, stacktest.Binary(t, newestNATS(t)), postgres.Database(t)}
	ingest, store := p.run("ingest"), p.run("store")
	s := load(t, ingest, 11)
	s.more(200)
	before := s.p99()
	postgres.Stop()
	for until := time.Now().Add(sized(3*time.Second, 30*time.Second)); time.Now().Before(until); {
		s.more(50)
	}
	store.is("degraded") // and answers 200
	during := s.p99()
	if code, status := ingest.health(); code != http.StatusOK || status != "ok" {
		t.Errorf("ingest answers %d %q", code, status)
	}
	if limit := max(5*before, time.Second); during > limit {
		t.Errorf("p99 is %s without Postgres, %s before", during, before)
	}
	t.Logf("p99 %s before, %s without Postgres", before, during)
	postgres.Start()
	store.is("ok")
	all := s.finish()
	if answers := s.answered(); len(answers) != 1 || answers[http.StatusNoContent] == 0 {
		t.Errorf("answers %v, want 204 only", answers)
	}
	p.caughtUp()
	p.once(all)
	p.right(all)
}

// Without NATS ingest says 503, and all goes on once it is back.
func TestBrokerStopped(t *testing.T) {
	t.Parallel()
	p := newPipeline(t)
	ingest, store := p.run("ingest"), p.run("store")
	s := load(t, ingest, 12)
	for range 2 {
		s.more(200)
		refused := s.answered()[http.StatusServiceUnavailable]
		p.nats.Stop()
		stacktest.Eventually(t, patience, func() error {
			if s.answered()[http.StatusServiceUnavailable] < refused+50 {
				return fmt.Errorf("answers %v, want 503", s.answered())
			}
			return nil
		})
		ingest.is("degraded") // and takes traffic
		store.is("degraded")
		p.nats.Start()
		ingest.is("ok")
		store.is("ok")
	}
	s.more(200)
	all := s.finish()
	if answers := s.answered(); answers[http.StatusNoContent]+answers[http.StatusServiceUnavailable] != sum(answers) {
		t.Errorf("answers %v, want 204 and 503 only", answers)
	}
	p.caughtUp()
	p.once(all)
	p.right(all)
}

func sum(m map[int]int) (n int) {
	for _, v := range m {
		n += v
	}
	return n
}

// A stream deleted and made anew: the store begins it, and what is sent again
// is stored again, though ingest has acknowledged it before.
func TestStreamMadeAnew(t *testing.T) {
	t.Parallel()
	p := newPipeline(t)
	ingest, store := p.run("ingest"), p.run("store")
	s := newSender(t, ingest.addr, secret)
	old := fresh(21, 100)
	s.sendAll(old)
	p.caughtUp()
	js, err := jetstream.New(p.nats.Connect(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteStream(t.Context(), streams.Names{}.Stream()); err != nil {
		t.Fatal(err)
	}
	// Fewer than before: the old position lies beyond.
	young := fresh(22, 50)
	s.sendAll(young)
	p.caughtUp()
	p.once(young)
	if n := store.metric("rollcall_consume_rewinds_total"); n != 1 {
		t.Errorf("%v rewinds, want 1", n)
	}
	s.sendAll(old) // as from the provider's dashboard
	p.caughtUp()
	all := append(young, old...)
	p.once(all)
	p.right(all)
}

// A broker's directory restored from an older copy: sequences come again for
// other messages.
func TestStreamRestored(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		lost, young int  // events after the copy, and after it is put back
		asleep      bool // the store is stopped meanwhile
	}{
		"shorter":                     {lost: 100, young: 50},
		"grown past":                  {lost: 20, young: 400},
		"grown past before it looks":  {lost: 50, young: 100, asleep: true},
		"grown to the same, unlooked": {lost: 50, young: 50, asleep: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPipeline(t)
			ingest, store := p.run("ingest"), p.run("store")
			s := newSender(t, ingest.addr, secret)
			kept, lost, young := fresh(31, 100), fresh(32, c.lost), fresh(33, c.young)
			s.sendAll(kept)
			p.caughtUp()
			copied := filepath.Join(t.TempDir(), "copy")
			p.nats.Stop()
			if err := os.CopyFS(copied, os.DirFS(p.nats.Dir)); err != nil {
				t.Fatal(err)
			}
			p.nats.Start()
			ingest.is("ok")
			store.is("ok")
			s.sendAll(lost)
			p.caughtUp()

			store.stops()
			if !c.asleep {
				store.start().is("ok") // so that its next look is a second away
			}
			p.nats.Stop()
			// By renaming: the shorter the broker is away, the less the store notices.
			if err := errors.Join(os.Rename(p.nats.Dir, copied+".old"), os.Rename(copied, p.nats.Dir)); err != nil {
				t.Fatal(err)
			}
			p.nats.Start()
			s.sendAtOnce(young) // as soon as ingest is back, while the store reconnects
			if c.asleep {
				store.start().is("ok")
			}
			stacktest.Eventually(t, patience, func() error {
				if store.metric("rollcall_consume_rewinds_total") == 0 {
					return errors.New("the store hasn't rewound")
				}
				return nil
			})
			p.caughtUp()
			p.once(append(kept, young...))
			all := append(append(kept, young...), lost...)
			p.right(all)

			s.sendAll(lost)
			p.caughtUp()
			p.once(all)
			p.right(all)
		})
	}
}

// A process that finds nothing starts degraded, and works as soon as it can.
func TestStartsWithNothingThere(t *testing.T) {
	t.Parallel()
	postgres := stacktest.Postgres(t)
	p := &pipeline{t, stacktest.Binary(t, newestNATS(t)), postgres.Database(t)}
	p.nats.Stop()
	postgres.Stop()
	all := p.proc().start()
	all.is("degraded")
	events := fresh(41, 20)
	s := newSender(t, all.addr, secret)
	if a := s.post(events[0]); a.code != http.StatusServiceUnavailable || a.retry == "" {
		t.Errorf("without NATS the answer is %d, Retry-After %q", a.code, a.retry)
	}
	p.nats.Start()
	s.sendAll(events) // Postgres isn't needed for that
	all.is("degraded")
	postgres.Start()
	all.is("ok")
	p.caughtUp()
	p.right(events)

	// Neither keeps it from stopping.
	postgres.Stop()
	more := fresh(42, 20)
	s.sendAll(more)
	all.is("degraded")
	all.stops()
	postgres.Start()
	all.start().is("ok")
	p.caughtUp()
	p.right(append(events, more...))
	p.nats.Stop()
	all.is("degraded")
	all.stops()
}
