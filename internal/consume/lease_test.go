package consume

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
	"github.com/rollcall-dev/rollcall/streams"
)

func (p *process) works() bool { return testutil.ToFloat64(p.metrics.working) == 1 }

func awaitWork(t *testing.T, p *process, within time.Duration) {
	t.Helper()
	stacktest.Eventually(t, within, func() error {
		if !p.works() {
			return errors.New("it doesn't work")
		}
		return nil
	})
}

// One works, the other stands by, well; one that stops is followed at once, one
// that vanishes within seconds.
func TestStandby(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		end    func(*process)
		within time.Duration
	}{
		"stops":    {func(p *process) { p.stop() }, 2 * time.Second},
		"vanishes": {func(p *process) { p.conn.Close() }, 6 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, s := newLog(t), &memory{}
			first := l.run(s)
			awaitWork(t, first, patience)
			second := l.run(s)
			ids := l.add("user", "a", 100)
			l.awaits(s, ids)
			stacktest.Eventually(t, patience, func() error {
				if well, reasons := second.status.now(); !well {
					return fmt.Errorf("the standby isn't well: %s", reasons)
				}
				return nil
			})
			if second.works() {
				t.Fatal("both work")
			}
			c.end(first)
			more := l.add("user", "b", 100)
			awaitWork(t, second, c.within)
			l.awaits(s, ids, more)
		})
	}
}

// frozen is one process's way to the sink: its commits stop short of it.
type frozen struct {
	*memory
	reached chan struct{} // a commit with work in it has come
	thaw    chan struct{}
	once    sync.Once
}

func (f *frozen) Commit(ctx context.Context, work any, from, to streams.Position, pending uint64, deadLetters int) error {
	if messages, _ := work.([]streams.Message); len(messages) > 0 {
		f.once.Do(func() { close(f.reached) })
		<-f.thaw
	}
	return f.memory.Commit(ctx, work, from, to, pending, deadLetters)
}

func freeze(s *memory) *frozen {
	return &frozen{memory: s, reached: make(chan struct{}), thaw: make(chan struct{})}
}

// A worker that froze amid a commit wakes when another has long done it.
func TestZombieAppliesNothing(t *testing.T) {
	t.Parallel()
	l, s := newLog(t), &memory{}
	z := freeze(s)
	zombie := l.run(z)
	ids := l.add("user", "a", 10)
	<-z.reached
	zombie.conn.Close() // its lease isn't renewed any more
	l.run(s)
	l.awaits(s, ids)
	close(z.thaw)
	stacktest.Eventually(t, patience, func() (err error) {
		s.look(func() {
			if s.refused == 0 {
				err = errors.New("the zombie hasn't tried yet")
			}
		})
		return err
	})
	more := l.add("user", "b", 10)
	l.awaits(s, ids, more)
}

// Stop waits for the batch in hand: its effects and its position are there, and
// the hint says so.
func TestStopFinishesTheBatch(t *testing.T) {
	t.Parallel()
	l, s := newLog(t), &memory{}
	slow := freeze(s)
	p := l.run(slow)
	ids := l.add("user", "a", 1)
	<-slow.reached
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		p.stop()
	}()
	select {
	case <-stopped:
		t.Fatal("it didn't wait for the commit")
	case <-time.After(300 * time.Millisecond): // longer than a stop takes; no proof
	}
	close(slow.thaw)
	<-stopped
	l.awaits(s, ids)
	hint, err := l.hint()
	if want := fmt.Sprintf(`{"epoch":%d,"sequence":1}`, s.at.Epoch); err != nil || hint != want {
		t.Errorf("hint %s, %v, want %s", hint, err, want)
	}
	// Nobody waits for the lease of one that stopped.
	next := l.run(s)
	awaitWork(t, next, time.Second)
}

// A sink that can't be told to stop in time isn't waited for longer than that.
func TestStopGivesUp(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	p := l.run(&stuck{})
	l.add("user", "a", 1)
	awaitWork(t, p, patience)
	began := time.Now()
	p.stop()
	if d := time.Since(began); d > graceOfStop+4*time.Second {
		t.Errorf("stopped after %s", d)
	}
}

// stuck commits nothing until its context ends.
type stuck struct{ memory }

func (s *stuck) Commit(ctx context.Context, work any, from, to streams.Position, pending uint64, deadLetters int) error {
	if work == nil {
		return s.memory.Commit(ctx, work, from, to, pending, deadLetters)
	}
	<-ctx.Done()
	return ctx.Err()
}
