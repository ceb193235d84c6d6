package consume

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"github.com/rollcall-dev/rollcall/internal/broker"
	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
	"github.com/rollcall-dev/rollcall/streams"
)

// poisoned is a sink that refuses messages of which is is true, while it is set.
type poisoned struct {
	memory
	is atomic.Pointer[func(id string) bool]
}

func newPoisoned(is func(id string) bool) *poisoned {
	p := &poisoned{}
	p.is.Store(&is)
	p.fail = func(messages []streams.Message) error {
		if is := p.is.Load(); is != nil && slices.ContainsFunc(messages, func(m streams.Message) bool { return (*is)(m.Header.Get(streams.HeaderMsgID)) }) {
			return errPoison
		}
		return nil
	}
	return p
}

func (p *poisoned) cure() { p.is.Store(nil) }

func (p *poisoned) times() map[string]int {
	n := map[string]int{}
	p.look(func() {
		for _, m := range p.beside {
			n[m.Header.Get(streams.HeaderMsgID)]++
		}
	})
	return n
}

// applies runs the sink until it has come to the log's end, and stops it.
func (l *log) applies(s Sink) {
	l.t.Helper()
	p := l.run(s)
	stacktest.Eventually(l.t, patience, func() error {
		at, err := s.Position(l.t.Context())
		if end := l.info("CLERK").State.LastSeq; err == nil && at.Sequence != end {
			err = fmt.Errorf("at %d of %d", at.Sequence, end)
		}
		return err
	})
	p.stop()
}

// deadLetters works on a connection of its own.
func (l *log) deadLetters(sinks ...Redriver) *DeadLetters {
	l.t.Helper()
	conn, err := broker.Dial(broker.Options{Name: "test", URL: l.server.URL, Log: zap.NewNop()})
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(conn.Close)
	return &DeadLetters{Broker: conn, Sinks: sinks, InstanceID: "ins_1", By: "ada@host", Done: func(int) {}, Trouble: func(string, error) {}}
}

func (l *log) selected(s Selection) []Letter {
	l.t.Helper()
	letters, err := ReadLetters(l.t.Context(), l.js, streams.Names{}, s)
	if err != nil {
		l.t.Fatal(err)
	}
	return letters
}

func (l *log) redrives(d *DeadLetters) *Redriven {
	l.t.Helper()
	r, err := d.Redrive(l.t.Context(), l.selected(Selection{}))
	if err != nil {
		l.t.Fatal(err)
	}
	return r
}

// acts are the events of Rollcall's own in the log.
func (l *log) acts() (acts []any) {
	l.t.Helper()
	stream, err := l.js.Stream(l.t.Context(), "CLERK")
	if err != nil {
		l.t.Fatal(err)
	}
	for seq := range l.info("CLERK").State.LastSeq {
		m, err := stream.GetMsg(l.t.Context(), seq+1)
		if err != nil || !strings.Contains(m.Subject, ".rollcall.") {
			continue
		}
		e, err := streams.ParseEvent(m.Header, m.Data)
		if err != nil {
			l.t.Fatal(err)
		}
		p, err := e.Payload()
		if err != nil || e.Source != streams.SourceOperator || e.Timestamp.IsZero() {
			l.t.Errorf("act %+v, %v", e, err)
		}
		acts = append(acts, p)
	}
	return acts
}

// A letter is refused while its cause stands, and applied once when it is gone:
// as the message it was in the log.
func TestRedrive(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	s := newPoisoned(func(id string) bool { return id == "a7" })
	l.add("user", "a", 20)
	l.applies(s)
	d := l.deadLetters(s)
	first := l.selected(Selection{})[0]

	again := l.redrives(d)
	letters := l.selected(Selection{Whole: true})
	if len(letters) != 1 || letters[0].ID != strings.TrimSuffix(first.ID, ":1")+":2" || letters[0].Attempts != "2" || again.Applied() != 0 ||
		len(again.Failed) != 1 || again.Failed[0].ID != letters[0].ID || again.Failed[0].Reason != "this event can't be applied" {
		t.Fatalf("letters %+v, result %+v", letters, again)
	}

	s.cure()
	done := l.redrives(d)
	if diff := gocmp.Diff([]streams.SinkRedriven{{Sink: "store-test", Applied: 1}}, done.Sinks); diff != "" || len(done.Failed) > 0 {
		t.Errorf("result %+v\n%s", done, diff)
	}
	l.letters(0)
	original := streams.Message{
		Subject: "clerk.ins_1.user.created.a7", Data: []byte(`{"id":"a7"}`), Epoch: l.info("CLERK").Created.UnixNano(), Sequence: 8, Time: letters[0].Time,
		Header: nats.Header{"Nats-Msg-Id": {"a7"}, "Svix-Id": {"a7"}, "traceparent": {"00-a7"}},
	}
	if diff := gocmp.Diff([]streams.Message{original}, s.beside); diff != "" {
		t.Errorf("the sink was given something else (-want +got):\n%s", diff)
	}
	if at, _ := s.Position(t.Context()); at.Sequence != 20 || s.counted != 0 {
		t.Errorf("position %d, %d letters counted", at.Sequence, s.counted)
	}
	if got := l.redrives(d); len(got.Sinks) > 0 {
		t.Errorf("nothing is left, and yet %+v", got)
	}
	acts := l.acts()
	if len(acts) != 1 {
		t.Fatalf("acts %+v, want one", acts)
	}
	if act := acts[0].(*streams.LettersRedriven); act.By != "ada@host" || act.ID == "" || len(act.Sinks) != 1 || act.Sinks[0].Applied != 1 {
		t.Errorf("act %+v", act)
	}
}

// Thousands of letters, among which some are poison still; another sink's stay.
func TestRedriveMany(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	s := newPoisoned(func(string) bool { return true })
	ids := l.add("user", "a", 3000)
	l.applies(s)
	other := nats.NewMsg("rollcall.dead.store-other.user.created.x")
	other.Header = nats.Header{"Nats-Msg-Id": {"store-other:1:1:1"}, "Rollcall-Sink": {"store-other"}, "Rollcall-Attempts": {"1"}}
	if _, err := l.js.PublishMsg(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	is := func(id string) bool { return strings.HasSuffix(id, "99") }
	s.is.Store(&is)

	d := l.deadLetters(s)
	var told int
	d.Done = func(n int) { told += n }
	result := l.redrives(d)
	if len(result.Sinks) != 1 || result.Sinks[0].Applied != 2970 || result.Sinks[0].Failed != 30 || len(result.Failed) != 30 || len(result.Kept) != 1 || told != 3000 {
		t.Errorf("result %+v, %d failed, %d kept, told of %d", result.Sinks, len(result.Failed), len(result.Kept), told)
	}
	times := s.times()
	for _, id := range ids {
		if want := 1; is(id) == (times[id] == want) {
			t.Errorf("%s was applied %d times", id, times[id])
		}
	}
	if left := l.selected(Selection{Sink: "store-test"}); len(left) != 30 || s.counted != 30 || left[0].Attempts != "2" {
		t.Errorf("%d letters left, %d counted, the first %+v", len(left), s.counted, left[0])
	}
	if left := l.selected(Selection{Sink: "store-other"}); len(left) != 1 {
		t.Errorf("the other sink's letters: %+v", left)
	}
}

// Runs that are cut off at any moment, several at once: no event is lost, and in
// the end each was applied.
func TestRedriveInterrupted(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	s := newPoisoned(func(string) bool { return true })
	ids := l.add("user", "a", 400)
	l.applies(s)
	half := func(id string) bool { return id > "a2" && rand.IntN(2) == 0 } // fails now and then
	s.is.Store(&half)
	for round := range 12 {
		var runs sync.WaitGroup
		for range 1 + round%2 {
			runs.Go(func() {
				ctx, cancel := context.WithCancel(t.Context())
				d := l.deadLetters(s)
				cut := rand.IntN(150)
				d.Done = func(n int) {
					if cut -= n; cut <= 0 {
						cancel()
					}
				}
				time.AfterFunc(time.Duration(rand.IntN(100))*time.Millisecond, cancel)
				letters, err := ReadLetters(ctx, l.js, streams.Names{}, Selection{})
				if err == nil {
					_, err = d.Redrive(ctx, letters)
				}
				if err != nil && !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			})
		}
		runs.Wait()
		have := s.times()
		for _, letter := range l.selected(Selection{}) {
			have[letter.EntityID]++
		}
		for _, id := range ids {
			if have[id] == 0 {
				t.Fatalf("round %d: %s is neither applied nor a letter", round, id)
			}
		}
	}
	s.cure()
	l.redrives(l.deadLetters(s))
	l.letters(0)
	for _, id := range ids {
		if s.times()[id] == 0 {
			t.Errorf("%s was never applied", id)
		}
	}
}

// What isn't the letters' fault is retried and told, until the context ends.
func TestRedriveWaits(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	s := newPoisoned(func(string) bool { return true })
	l.add("user", "a", 10)
	l.applies(s)
	var away atomic.Bool
	away.Store(true)
	s.fail = func([]streams.Message) error {
		if away.Load() {
			return errors.New("the database is away")
		}
		return nil
	}
	d := l.deadLetters(s)
	told := 0
	d.Trouble = func(what string, err error) {
		if told++; what != "store-test" || err != nil && err.Error() != "the database is away" {
			t.Errorf("trouble: %s: %v", what, err)
		}
		away.Store(told < 3)
	}
	if got := l.redrives(d); got.Applied() != 10 || told != 4 { // and once that it is over
		t.Errorf("%+v, told %d times", got, told)
	}

	l.add("user", "b", 1)
	s.fail = func(messages []streams.Message) error {
		if len(messages) > 0 {
			return errPoison
		}
		return nil
	}
	l.applies(s)
	away.Store(true)
	s.fail = func([]streams.Message) error { return errors.New("the database is away") }
	ctx, cancel := context.WithCancel(t.Context())
	d.Trouble = func(string, error) { cancel() }
	if got, err := d.Redrive(ctx, l.selected(Selection{})); !errors.Is(err, context.Canceled) || got.Applied() != 0 {
		t.Errorf("%+v, %v", got, err)
	}
	if left := l.selected(Selection{}); len(left) != 1 {
		t.Errorf("letters %+v, want the one", left)
	}
}

// A sink that has changed since has its work prepared again.
func TestRedrivePreparesAgain(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	s := newPoisoned(func(string) bool { return true })
	l.add("user", "a", 10)
	l.applies(s)
	moved := 0
	s.fail = func([]streams.Message) error {
		if moved++; moved == 1 {
			return movedError{}
		}
		return nil
	}
	if got := l.redrives(l.deadLetters(s)); got.Applied() != 10 || got.Gone != 0 || moved != 2 {
		t.Errorf("%+v after %d tries", got, moved)
	}
}

// What can't be prepared then is a letter still, and a sink that moves for ever is
// in trouble.
func TestRedrivePreparesAgainInVain(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	s := newPoisoned(func(string) bool { return true })
	l.add("user", "a", 10)
	l.applies(s)
	tries := 0
	s.reject = func(m streams.Message) error {
		if tries > 0 && m.Header.Get(streams.HeaderMsgID) == "a4" {
			return errors.New("no such column")
		}
		return nil
	}
	s.fail = func([]streams.Message) error {
		if tries++; tries < 6 {
			return movedError{}
		}
		return nil
	}
	told := 0
	d := l.deadLetters(s)
	d.Trouble = func(_ string, err error) { told++ }
	got := l.redrives(d)
	if got.Applied() != 9 || len(got.Failed) != 1 || got.Failed[0].EntityID != "a4" || got.Failed[0].Reason != "no such column" || told == 0 {
		t.Errorf("%+v, told of trouble %d times", got, told)
	}
}

// JetStream remembers the ids of letters that are gone. An event that fails
// again after a redrive, since the sink was rewound, has a letter again.
func TestLetterAfterRedrive(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	s := newPoisoned(func(id string) bool { return id == "a1" })
	l.add("user", "a", 3)
	l.applies(s)
	is := s.is.Load()
	s.cure()
	l.redrives(l.deadLetters(s))
	for attempt := range 2 { // the second time the letter is there
		s.is.Store(is)
		s.at = streams.Position{}
		l.applies(s)
		if letters := l.selected(Selection{}); len(letters) != 1 || letters[0].Attempts != "2" {
			t.Fatalf("time %d: letters %+v, want one of attempt 2", attempt+1, letters)
		}
	}
}

// The body of a letter that had no room for it comes from the log.
func TestRedriveBodyInLog(t *testing.T) {
	t.Parallel()
	const limit = 16 << 10
	l := newLog(t, stacktest.Configure(func(o *server.Options) { o.MaxPayload = limit }))
	s := newPoisoned(func(id string) bool { return id == "long" || id == "lost" })
	for _, id := range []string{"long", "lost"} {
		m := nats.NewMsg("clerk.ins_1.user.created." + id)
		m.Header.Set(streams.HeaderMsgID, id)
		m.Data = []byte(strings.Repeat("x", limit-m.Size()+len(m.Subject)))
		if _, err := l.js.PublishMsg(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	l.applies(s)
	log, err := l.js.Stream(t.Context(), "CLERK")
	if err == nil {
		err = log.DeleteMsg(t.Context(), 2)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.cure()
	result := l.redrives(l.deadLetters(s))
	if len(s.beside) != 1 || len(s.beside[0].Data) < limit-200 {
		t.Errorf("applied %d messages", len(s.beside))
	}
	if len(result.Failed) != 1 || !strings.Contains(result.Failed[0].Reason, "the log has its event no longer") {
		t.Errorf("failed %+v", result.Failed)
	}
}

// What is dropped leaves a trace, which quotes nothing of the row.
func TestDrop(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	s := newPoisoned(func(string) bool { return true })
	l.add("user", "a", 50)
	s.fail = func(messages []streams.Message) error {
		if len(messages) > 0 {
			return fmt.Errorf(`%w: invalid input "ada@example.org" (SQLSTATE 22P02)`, errPoison)
		}
		return nil
	}
	l.applies(s)
	d := l.deadLetters(s)
	chosen := l.selected(Selection{})[10:30]
	if n, err := d.Drop(t.Context(), chosen); n != 20 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	if n, err := d.Drop(t.Context(), chosen); n != 20 || err != nil { // as after a crash
		t.Fatalf("%d, %v", n, err)
	}
	left, acts := l.selected(Selection{}), l.acts()
	if len(left) != 30 || len(acts) != 20 || s.counted != 30 {
		t.Errorf("%d letters left, %d counted, want 30; %d acts, want 20", len(left), s.counted, len(acts))
	}
	for _, letter := range chosen {
		want := streams.LetterDropped{ID: letter.ID, Sink: "store-test", Reason: "SQLSTATE 22P02", EventType: "user.created", EntityID: letter.EntityID, By: "ada@host"}
		if !slices.ContainsFunc(acts, func(a any) bool { got := *a.(*streams.LetterDropped); got.Raw = nil; return gocmp.Equal(got, want) }) {
			t.Errorf("the log doesn't say %+v", want)
		}
	}
	m, err := l.js.Stream(t.Context(), "CLERK")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.GetLastMsgForSubject(t.Context(), "clerk.ins_1.rollcall.letter_dropped."+chosen[0].ID); err != nil {
		t.Error(err)
	}
}

func TestSelection(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	s := newPoisoned(func(string) bool { return true })
	l.add("user", "a", 3)
	l.applies(s)
	var since time.Time
	stacktest.Eventually(t, patience, func() error { // JetStream's clock is this one
		if since = time.Now(); !since.After(l.info("CLERK_DEAD").State.LastTime) {
			return errors.New("the clock stands")
		}
		return nil
	})
	l.add("organization", "b", 2)
	l.applies(s)
	all := l.selected(Selection{})
	for name, c := range map[string]struct {
		Selection
		want int
	}{
		"all": {Selection{}, 5}, "sink": {Selection{Sink: "store-test"}, 5}, "other sink": {Selection{Sink: "store"}, 0},
		"resource": {Selection{Resource: "organization"}, 2}, "reason": {Selection{Reason: "can't be"}, 5}, "other reason": {Selection{Reason: "could"}, 0},
		"since": {Selection{Since: since}, 2}, "both": {Selection{Since: since, Resource: "user"}, 0}, "ids": {Selection{IDs: []string{all[4].ID, all[1].ID}}, 2},
	} {
		got := l.selected(c.Selection)
		if len(got) != c.want || name == "ids" && (got[0].ID != all[1].ID || got[1].ID != all[4].ID) {
			t.Errorf("%s: %d letters, want %d", name, len(got), c.want)
		}
	}
	if _, err := ReadLetters(t.Context(), l.js, streams.Names{}, Selection{IDs: []string{all[0].ID, "none"}}); err == nil || !strings.Contains(err.Error(), "no dead letter none") {
		t.Errorf("an id that isn't there: %v", err)
	}
	if err := l.js.DeleteStream(t.Context(), "CLERK_DEAD"); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadLetters(t.Context(), l.js, streams.Names{}, Selection{}); err == nil || !strings.Contains(err.Error(), "rollcall streams apply") {
		t.Errorf("without the stream: %v", err)
	}
}
