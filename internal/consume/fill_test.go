package consume

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
	"github.com/rollcall-dev/rollcall/streams"
)

// lacking is a memory that lacks something of a range of the log.
type lacking struct {
	memory
	what       []string
	from, to   streams.Position
	filled     []string // ids in order
	refills    int
	zombie     atomic.Bool // another process has filled: once
	tidied     atomic.Int64
	failFill   func([]streams.Message) error
	beforeFill func() // without the lock
}

// lacks is one that lacks all users of before.
func lacks(at streams.Position) *lacking {
	return &lacking{what: []string{"users.x"}, from: streams.Position{Epoch: at.Epoch}, to: at}
}

func (s *lacking) Filling(context.Context) ([]string, streams.Position, streams.Position, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.what, s.from, s.to, nil
}

func (s *lacking) Refill(_ context.Context, from, to streams.Position) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.from, s.to = from, to
	s.refills++
	return nil
}

func (s *lacking) FillSubjects([]string) []string { return []string{"clerk.*.user.*.*"} }

func (s *lacking) PrepareFill(_ []string, messages []streams.Message) (any, map[int]error) {
	return s.Prepare(messages)
}

func (s *lacking) Fill(_ context.Context, work any, from, to streams.Position, deadLetters int) error {
	if s.beforeFill != nil {
		s.beforeFill()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.zombie.CompareAndSwap(true, false) || s.from.Epoch != from.Epoch || s.from.Sequence != from.Sequence {
		return movedError{}
	}
	messages, _ := work.([]streams.Message)
	if s.failFill != nil {
		if err := s.failFill(messages); err != nil {
			return err
		}
	}
	for _, m := range messages {
		s.filled = append(s.filled, m.Header.Get(streams.HeaderMsgID))
	}
	s.from, s.letters = to, s.letters+deadLetters
	if to.Sequence >= s.to.Sequence {
		s.what = nil
	}
	return nil
}

func (s *lacking) Unfilled(context.Context, []string) (int64, error) { return 0, nil }
func (s *lacking) Tidy(context.Context) error                        { s.tidied.Add(1); return nil }

// awaitFilled waits until these are filled, in order, each once.
func (l *log) awaitFilled(s *lacking, want []string) {
	l.t.Helper()
	stacktest.Eventually(l.t, patience, func() (err error) {
		s.look(func() {
			if s.what != nil {
				err = fmt.Errorf("%d filled, at %d of %d", len(s.filled), s.from.Sequence, s.to.Sequence)
			}
		})
		return err
	})
	s.look(func() {
		if got := s.filled[:min(len(s.filled), len(want))]; !slices.Equal(got, want) {
			l.t.Errorf("filled %d, want %d; or another order", len(s.filled), len(want))
		}
	})
}

// end is the log's last position.
func (l *log) end() streams.Position {
	info := l.info("CLERK")
	return streams.Position{Epoch: info.Created.UnixNano(), Sequence: info.State.LastSeq, Time: info.State.LastTime}
}

// A range is read again beside what goes on: its subjects only, each once, and
// shown until it is done. The position and the hint are none of its business.
func TestFills(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	first := l.add("user", "a", 1500)
	l.add("organization", "o", 3) // of no use to fill, and the range's end
	s := lacks(l.end())
	s.at = s.to
	reached, goOn := make(chan struct{}), make(chan struct{})
	var once atomic.Bool
	s.beforeFill = func() {
		if once.CompareAndSwap(false, true) {
			close(reached)
			<-goOn
		}
	}
	p := l.run(s)
	<-reached
	second := l.add("user", "b", 50)
	l.awaits(&s.memory, second) // not held up
	if p.status.mu.Lock(); !slices.Equal(p.status.filling, []string{"users.x"}) {
		t.Errorf("shown as filling: %v", p.status.filling)
	}
	p.status.mu.Unlock()
	if end := testutil.ToFloat64(p.metrics.fillEnd); end != 1503 {
		t.Errorf("rollcall_consume_fill_end is %v", end)
	}
	close(goOn)
	l.awaitFilled(s, first)
	l.awaits(&s.memory, second)
	l.awaitHint(&s.memory)
	stacktest.Eventually(t, patience, func() error {
		p.status.mu.Lock()
		defer p.status.mu.Unlock()
		if p.status.filling != nil || testutil.ToFloat64(p.metrics.fillEnd) != 0 || testutil.ToFloat64(p.metrics.fillPosition) < 1503 {
			return fmt.Errorf("still shown: %v", p.status.filling)
		}
		return nil
	})
	if n := testutil.ToFloat64(p.metrics.events); n != 50 {
		t.Errorf("%v events counted, want those read for the first time", n)
	}
}

// What can't be filled goes to the dead letters, the rest is filled.
func TestPoisonWhileFilling(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	ids := l.add("user", "a", 1000)
	s := lacks(l.end())
	s.at = s.to
	s.failFill = func(messages []streams.Message) error {
		if holds(messages, "a700") {
			return errPoison
		}
		return nil
	}
	l.run(s)
	l.awaitFilled(s, slices.Delete(slices.Clone(ids), 700, 701))
	if m := l.letters(1)[0]; m.Header.Get(streams.HeaderSequence) != "701" || m.Header.Get(streams.HeaderSink) != "store-test" || s.letters != 1 {
		t.Errorf("letter %v, %d counted", m.Header, s.letters)
	}
}

// Trouble of the fill's own is retried and shown, and leaves what goes on alone.
func TestTroubleWhileFilling(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	first := l.add("user", "a", 100)
	s := lacks(l.end())
	s.at = s.to
	s.zombie.Store(true)
	var broken atomic.Bool
	broken.Store(true)
	s.failFill = func([]streams.Message) error {
		if broken.Load() {
			return errors.New("no grant")
		}
		return nil
	}
	p := l.run(s)
	stacktest.Eventually(t, patience, func() error {
		if well, reasons := p.status.now(); well || testutil.ToFloat64(p.metrics.degraded) != 1 {
			return errors.New("not shown: " + reasons)
		}
		return nil
	})
	second := l.add("user", "b", 10)
	l.awaits(&s.memory, second)
	if well, reasons := p.status.now(); well {
		t.Errorf("well: %s", reasons)
	}
	broken.Store(false)
	l.awaitFilled(s, first)
	stacktest.Eventually(t, patience, func() error {
		if well, reasons := p.status.now(); !well {
			return errors.New(reasons)
		}
		return nil
	})
}

// Who stops goes on where it was; a log that isn't the one any more is read as a
// whole.
func TestFillGoesOn(t *testing.T) {
	t.Parallel()
	for name, anew := range map[string]bool{"after a stop": false, "in a stream made anew": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLog(t)
			first := l.add("user", "a", 1000)
			s := lacks(l.end())
			s.at = s.to
			halfway := make(chan struct{})
			filled := 0
			s.failFill = func([]streams.Message) error { // until the process stops
				if len(s.filled) < 500 {
					return nil
				}
				if filled == 0 {
					filled = len(s.filled)
					close(halfway)
				}
				return errors.New("the database is away")
			}
			p := l.run(s)
			<-halfway
			p.stop()
			s.failFill = nil
			if !anew {
				l.run(s)
				l.awaitFilled(s, first)
				return
			}
			if err := l.js.DeleteStream(t.Context(), "CLERK"); err != nil {
				t.Fatal(err)
			}
			l.create()
			second := l.add("user", "b", 1200)
			l.run(s)
			l.awaitFilled(s, slices.Concat(first[:filled], second))
			s.look(func() {
				if s.refills != 1 || s.rewinds != 1 {
					t.Errorf("%d refills, %d rewinds", s.refills, s.rewinds)
				}
			})
		})
	}
}

// A range of an empty log, or of none, ends at once.
func TestNothingToFillFrom(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	s := lacks(streams.Position{})
	l.run(s)
	l.awaitFilled(s, nil)
}

func TestTidies(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	s := lacks(streams.Position{})
	l.run(s, func(o *Options) { o.TidyEvery = time.Millisecond })
	stacktest.Eventually(t, patience, func() error {
		if s.tidied.Load() < 3 {
			return errors.New("not tidied")
		}
		return nil
	})
}
