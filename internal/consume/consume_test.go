package consume

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
	"github.com/rollcall-dev/rollcall/streams"
)

func TestAppliesInOrderOnce(t *testing.T) {
	t.Parallel()
	l, s := newLog(t), &memory{}
	first := l.add("user", "a", 3000)
	p := l.run(s)
	l.add("session", "other", 5) // nobody's, at the end
	l.awaits(s, first)
	second := l.add("organization", "b", 10)
	l.awaits(s, first, second)
	l.awaitHint(s)
	p.stop()
	l.add("session", "another", 1)
	third := l.add("user", "c", 10)
	l.run(s)
	l.awaits(s, first, second, third)
	if s.rewinds != 0 || s.refused != 0 || s.letters != 0 {
		t.Errorf("%d rewinds, %d refused, %d letters", s.rewinds, s.refused, s.letters)
	}
}

func TestStreamMadeAnew(t *testing.T) {
	t.Parallel()
	for _, running := range []bool{true, false} {
		t.Run(fmt.Sprintf("running %t", running), func(t *testing.T) {
			t.Parallel()
			l, s := newLog(t), &memory{}
			p := l.run(s)
			first := l.add("user", "a", 20)
			l.awaits(s, first)
			if !running {
				p.stop()
			}
			if err := l.js.DeleteStream(t.Context(), "CLERK"); err != nil {
				t.Fatal(err)
			}
			if running {
				stacktest.Eventually(t, patience, func() error {
					select {
					case <-p.noStream:
						return nil
					default:
						return errors.New("nobody was told that there is no log")
					}
				})
			}
			l.create()
			second := l.add("user", "b", 30) // the position's sequence exists again
			if !running {
				l.run(s)
			}
			l.awaits(s, first, second)
			if s.rewinds != 1 {
				t.Errorf("%d rewinds, want 1", s.rewinds)
			}
			l.awaitHint(s)
		})
	}
}

// Made anew faster than anybody looks: the reader may have gone on in the new
// stream by then, and still nothing of it is missed.
func TestStreamMadeAnewAtOnce(t *testing.T) {
	t.Parallel()
	l, s := newLog(t), &memory{}
	l.run(s)
	first := l.add("user", "a", 20)
	l.awaits(s, first)
	if err := l.js.DeleteStream(t.Context(), "CLERK"); err != nil {
		t.Fatal(err)
	}
	l.create()
	second := l.add("user", "b", 300)
	epoch := l.info("CLERK").Created.UnixNano()
	stacktest.Eventually(t, patience, func() (err error) {
		s.look(func() {
			from := max(0, len(s.applied)-len(second))
			if s.at.Epoch != epoch || !slices.Equal(s.applied[from:], second) {
				err = fmt.Errorf("%d applied, position %+v", len(s.applied), s.at)
			}
		})
		return err
	})
}

// copyStore copies the server's directory, while it is stopped.
func (l *log) copyStore(from, to string) {
	l.t.Helper()
	if err := errors.Join(os.RemoveAll(to), os.CopyFS(to, os.DirFS(from))); err != nil {
		l.t.Fatal(err)
	}
}

// A stream that comes back from an older copy keeps its creation time and gives
// its sequences anew.
func TestStreamRestoredFromShorterCopy(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		running bool
		grown   int
	}{
		"shorter, at work":     {true, 0},
		"shorter, at start":    {false, 0},
		"grown past, at start": {false, 15},
		"grown to it":          {false, 10},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, s := newLog(t), &memory{}
			backup := t.TempDir()
			kept := l.add("user", "kept", 10)
			l.server.Stop()
			l.copyStore(l.server.Dir, backup)
			l.server.Start()
			stacktest.Eventually(t, patience, func() error { _, err := l.js.Stream(t.Context(), "CLERK"); return err })
			lost := l.add("user", "lost", 10)
			p := l.run(s)
			l.awaits(s, kept, lost)
			if !c.running {
				p.stop()
			}
			l.server.Stop()
			l.copyStore(backup, l.server.Dir)
			l.server.Start()
			stacktest.Eventually(t, patience, func() error { _, err := l.js.Stream(t.Context(), "CLERK"); return err })
			grown := l.add("user", "grown", c.grown)
			if !c.running {
				l.run(s)
			}
			l.awaits(s, kept, lost, kept, grown)
			after := l.add("user", "after", 12)
			l.awaits(s, kept, lost, kept, grown, after)
			if s.rewinds != 1 {
				t.Errorf("%d rewinds, want 1", s.rewinds)
			}
			l.awaitHint(s)
		})
	}
}

// The position's own message may be gone, and all behind it: the log is the
// same one, and the sink is well.
func TestPositionsMessageIsGone(t *testing.T) {
	t.Parallel()
	l, s := newLog(t), &memory{}
	p := l.run(s)
	first := l.add("user", "a", 3)
	l.add("session", "expires", 2)
	l.awaits(s, first)
	p.stop()
	stream, err := l.js.Stream(t.Context(), "CLERK")
	if err != nil {
		t.Fatal(err)
	}
	for _, sequence := range []uint64{5, 4} {
		if err := stream.DeleteMsg(t.Context(), sequence); err != nil {
			t.Fatal(err)
		}
	}
	p = l.run(s)
	stacktest.Eventually(t, patience, func() error {
		if well, reasons := p.status.now(); !well || reasons != "" {
			return fmt.Errorf("well %t: %s", well, reasons)
		}
		return nil
	})
	second := l.add("user", "b", 2)
	l.awaits(s, first, second)
	if _, reasons := p.status.now(); s.rewinds != 0 || reasons != "" {
		t.Errorf("%d rewinds, degraded: %s", s.rewinds, reasons)
	}
}

// letters reads the dead letters, in order.
func (l *log) letters(n int) []*jetstream.RawStreamMsg {
	l.t.Helper()
	if got := l.info("CLERK_DEAD").State.Msgs; got != uint64(n) {
		l.t.Fatalf("%d dead letters, want %d", got, n)
	}
	stream, err := l.js.Stream(l.t.Context(), "CLERK_DEAD")
	if err != nil {
		l.t.Fatal(err)
	}
	var all []*jetstream.RawStreamMsg
	for i := range n {
		m, err := stream.GetMsg(l.t.Context(), uint64(i+1))
		if err != nil {
			l.t.Fatal(err)
		}
		all = append(all, m)
	}
	return all
}

func holds(messages []streams.Message, id string) bool {
	return slices.ContainsFunc(messages, func(m streams.Message) bool { return m.Header.Get(streams.HeaderMsgID) == id })
}

// One message that can't be written and one that can't be read, among ten
// thousand.
func TestPoison(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	s := &memory{
		fail: func(messages []streams.Message) error {
			if holds(messages, "a7777") {
				return fmt.Errorf("write: %w", errPoison)
			}
			return nil
		},
		reject: func(m streams.Message) error {
			if m.Header.Get(streams.HeaderMsgID) == "a8000" {
				return errors.New("unreadable")
			}
			return nil
		},
	}
	ids := l.add("user", "a", 10_000)
	p := l.run(s)
	l.awaits(s, slices.DeleteFunc(ids, func(id string) bool { return id == "a7777" || id == "a8000" }))
	if s.letters != 2 {
		t.Errorf("%d letters counted, want 2", s.letters)
	}
	epoch := fmt.Sprint(l.info("CLERK").Created.UnixNano())
	for i, want := range []struct{ id, reason, sequence string }{{"a7777", "write: this event can't be applied", "7778"}, {"a8000", "unreadable", "8001"}} {
		m := l.letters(2)[i]
		if m.Subject != "rollcall.dead.store-test.user.created."+want.id || string(m.Data) != `{"id":"`+want.id+`"}` {
			t.Errorf("letter %s: %s", m.Subject, m.Data)
		}
		for header, value := range map[string]string{
			"Rollcall-Reason": want.reason, "Rollcall-Sink": "store-test", "Rollcall-Epoch": epoch, "Rollcall-Sequence": want.sequence,
			"Rollcall-Attempts": "1", "Nats-Msg-Id": "store-test:" + epoch + ":" + want.sequence + ":1", "Svix-Id": want.id, "traceparent": "00-" + want.id,
		} {
			if got := m.Header.Get(header); got != value {
				t.Errorf("letter %d: %s is %q, want %q", i, header, got, value)
			}
		}
	}
	if well, reasons := p.status.now(); !well || reasons != "" {
		t.Errorf("poison is no trouble of the sink's: well %t, %s", well, reasons)
	}
}

// Everything is poison: each has its letter, and the position is at the end.
func TestAllPoison(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	s := &memory{fail: func(messages []streams.Message) error {
		if len(messages) > 0 {
			return errPoison
		}
		return nil
	}}
	ids := l.add("user", "a", 100)
	l.run(s)
	l.awaits(s)
	l.letters(len(ids))
}

// A message as long as the server takes leaves no room for a letter's headers,
// and a reason may be long: neither holds the sink.
func TestLetterTooLong(t *testing.T) {
	t.Parallel()
	const limit = 16 << 10
	l := newLog(t, stacktest.Configure(func(o *server.Options) { o.MaxPayload = limit }))
	s := &memory{reject: func(m streams.Message) error {
		if len(m.Data) > 1000 || holds([]streams.Message{m}, "a1") {
			return errors.New(strings.Repeat("é ", limit))
		}
		return nil
	}}
	m := nats.NewMsg("clerk.ins_1.user.created.long")
	m.Header.Set(streams.HeaderMsgID, "long")
	m.Data = make([]byte, limit-m.Size()+len(m.Subject))
	if _, err := l.js.PublishMsg(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	ids := l.add("user", "a", 3)
	l.run(s)
	l.awaits(s, []string{ids[0], ids[2]})
	for i, size := range []int{0, len(`{"id":"a1"}`)} {
		if letter := l.letters(2)[i]; len(letter.Data) != size || letter.Header.Get(streams.HeaderSequence) == "" {
			t.Errorf("letter %d of %d bytes, want %d; headers %v", i, len(letter.Data), size, letter.Header)
		}
	}
}

// The position that others read is never ahead of the sink's, also after the
// sink came back from an older backup of its own.
func TestHintIsNotAhead(t *testing.T) {
	t.Parallel()
	l, s := newLog(t), &memory{}
	p := l.run(s)
	ids := l.add("user", "a", 10)
	l.awaits(s, ids)
	l.awaitHint(s)
	p.stop()
	stream, err := l.js.Stream(t.Context(), "CLERK")
	if err != nil {
		t.Fatal(err)
	}
	m, err := stream.GetMsg(t.Context(), 5)
	if err != nil {
		t.Fatal(err)
	}
	s.at.Sequence, s.at.Time = 5, m.Time
	s.fail = func([]streams.Message) error { return errors.New("the database is read-only") }
	l.run(s)
	l.awaitHint(s)
}

// Any other error is retried, for as long as it takes, and shown.
func TestTransient(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	var broken atomic.Bool
	broken.Store(true)
	s := &memory{fail: func(messages []streams.Message) error {
		if broken.Load() && len(messages) > 0 {
			return errors.New("the database is away")
		}
		return nil
	}}
	p := l.run(s)
	ids := l.add("user", "a", 50)
	stacktest.Eventually(t, patience, func() error {
		if well, reasons := p.status.now(); well || strings.Count(reasons, "the database is away") < 3 {
			return fmt.Errorf("well %t: %s", well, reasons)
		}
		return nil
	})
	broken.Store(false)
	l.awaits(s, ids)
	stacktest.Eventually(t, patience, func() error {
		if well, reasons := p.status.now(); !well {
			return errors.New(reasons)
		}
		return nil
	})
	l.letters(0)
}

// A letter that can't be stored holds the position, and is told.
func TestLettersWaitForTheirStream(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	s := &memory{reject: func(m streams.Message) error {
		if m.Header.Get(streams.HeaderMsgID) == "bad0" {
			return errors.New("unreadable")
		}
		return nil
	}}
	if err := l.js.DeleteStream(t.Context(), "CLERK_DEAD"); err != nil {
		t.Fatal(err)
	}
	good := l.add("user", "a", 3)
	l.add("user", "bad", 1)
	more := l.add("user", "b", 3)
	p := l.run(s)
	select {
	case <-p.noStream:
	case <-time.After(patience):
		t.Fatal("nobody was told that the stream is missing")
	}
	if at, _ := s.Position(t.Context()); at.Sequence != 3 {
		t.Errorf("position %d, want 3: the letter isn't stored", at.Sequence)
	}
	if well, reasons := p.status.now(); well || !strings.Contains(reasons, "dead letter") {
		t.Errorf("well %t: %s", well, reasons)
	}
	l.create()
	l.awaits(s, good, more)
	l.letters(1)
}

// NATS away and back.
func TestBrokerAway(t *testing.T) {
	t.Parallel()
	l, s := newLog(t), &memory{}
	l.run(s)
	first := l.add("user", "a", 10)
	l.awaits(s, first)
	l.server.Stop()
	l.server.Start()
	stacktest.Eventually(t, patience, func() error { _, err := l.js.Stream(t.Context(), "CLERK"); return err })
	second := l.add("user", "b", 10)
	l.awaits(s, first, second)
	if s.rewinds != 0 {
		t.Errorf("%d rewinds", s.rewinds)
	}
}
