package consume

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
	"golang.org/x/sync/errgroup"

	"github.com/rollcall-dev/rollcall/streams"
)

// Redriver is a sink that applies single events beside the log.
type Redriver interface {
	// Name as in streams.HeaderSink, for example "store-app".
	Name() string
	// Prepare is as a Sink's. The messages are of one epoch; their Time is when
	// they became letters.
	Prepare([]streams.Message) (work any, rejected map[int]error)
	// Apply applies prepared work in one transaction and leaves the position where
	// it is. What was applied before may come again and changes nothing. Errors
	// are as those of a Sink's Commit; after Moved work is prepared again.
	Apply(ctx context.Context, work any) error
}

// letterCounter is a Redriver that shows how many letters it has. It calls
// count, which asks JetStream.
type letterCounter interface {
	CountLetters(ctx context.Context, count func(context.Context) (uint64, error)) error
}

// DeadLetters are worked off through it: applied, or given up.
type DeadLetters struct {
	Broker     Broker
	Names      streams.Names
	Sinks      []Redriver
	InstanceID string            // of acts that concern no other; may be ""
	By         string            // who does it, for the log
	Done       func(letters int) // told of letters that are done
	// Trouble is told, again and again, what is being retried, and with nil that
	// it is over. What is a sink, or "NATS".
	Trouble func(what string, err error)
}

// Redriven is what became of letters.
type Redriven struct {
	Sinks  []streams.SinkRedriven // by name
	Failed []Letter               // as they are now: with the new reason and attempt
	Kept   []Letter               // of sinks that aren't among Sinks
	Gone   int                    // somebody else was faster
}

// Applied is how many letters were applied and deleted.
func (r *Redriven) Applied() (n int64) {
	for _, s := range r.Sinks {
		n += s.Applied
	}
	return n
}

// fetches is how many questions are put to JetStream at one time.
const fetches = 32

// Redrive applies letters through the sinks that failed, and deletes each once
// its effect is committed: whatever ends it, at any moment, loses none, and a
// letter that is applied twice is applied once in effect. One that fails again
// stays, with a new reason and one attempt more. Of one sink letters are applied
// in order; sinks don't wait for each other. Everything but what lies in a
// letter is retried until the context ends; the result is then what was done so
// far, and the error the context's.
func (d *DeadLetters) Redrive(ctx context.Context, letters []Letter) (*Redriven, error) {
	if len(letters) == 0 { // a run that was killed may have left the number behind
		for _, sink := range d.Sinks {
			d.recount(ctx, sink)
		}
	}
	bySink := map[string][]Letter{}
	for _, l := range letters {
		bySink[l.Sink] = append(bySink[l.Sink], l)
	}
	result := &Redriven{}
	var mu sync.Mutex
	var g errgroup.Group // one's failure doesn't end the others
	for _, sink := range slices.Sorted(maps.Keys(bySink)) {
		i := slices.IndexFunc(d.Sinks, func(r Redriver) bool { return r.Name() == sink })
		if i < 0 {
			result.Kept = append(result.Kept, bySink[sink]...)
			continue
		}
		g.Go(func() error {
			r := &redrive{DeadLetters: d, sink: d.Sinks[i]}
			err := r.all(ctx, bySink[sink])
			d.recount(ctx, r.sink)
			mu.Lock()
			defer mu.Unlock()
			result.Sinks = append(result.Sinks, streams.SinkRedriven{Sink: sink, Applied: r.applied, Failed: int64(len(r.failed))})
			result.Failed = append(result.Failed, r.failed...)
			result.Gone += r.gone
			return err
		})
	}
	err := g.Wait()
	slices.SortFunc(result.Sinks, func(a, b streams.SinkRedriven) int { return strings.Compare(a.Sink, b.Sink) })
	if result.Applied() > 0 {
		err = errors.Join(err, d.note(ctx, d.InstanceID, streams.ActionLettersRedriven, nuid.Next(), func(id string) any {
			return streams.LettersRedriven{ID: id, Sinks: result.Sinks, By: d.By}
		}))
	}
	return result, err
}

// redrive is one sink's part.
type redrive struct {
	*DeadLetters
	sink    Redriver
	applied int64
	failed  []Letter
	gone    int
}

// item is a letter in hand.
type item struct {
	Letter
	stored *jetstream.RawStreamMsg
	event  streams.Message
	err    error // why there is no event
}

func (r *redrive) all(ctx context.Context, letters []Letter) error {
	for len(letters) > 0 && ctx.Err() == nil {
		n := batchOf(letters)
		if err := r.batch(ctx, letters[:n]); err != nil {
			return err
		}
		letters = letters[n:]
	}
	return ctx.Err()
}

// batchOf is how many of the first letters make one transaction.
func batchOf(letters []Letter) int {
	n, size := 0, 0
	for n < min(len(letters), maxBatch) && letters[n].epoch == letters[0].epoch && (n == 0 || size+letters[n].size <= maxBatchBytes) {
		size += letters[n].size
		n++
	}
	return n
}

// batch is finished within a grace, once the context has ended.
func (r *redrive) batch(ctx context.Context, letters []Letter) error {
	items, err := r.fetch(ctx, letters)
	if err != nil {
		return err
	}
	r.gone += len(letters) - len(items)
	r.Done(len(letters) - len(items))
	return bisecter[*item]{r.prepare, r.commit, r.failedAgain}.apply(ctx, items)
}

// fetch reads letters whole. Those that are gone are left out.
func (r *redrive) fetch(ctx context.Context, letters []Letter) ([]*item, error) {
	items := make([]*item, len(letters))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(fetches)
	for i, l := range letters {
		g.Go(func() error {
			return r.untilDone(ctx, "NATS", func(ctx context.Context, js jetstream.JetStream) error {
				stored, err := getLetter(ctx, js, r.Names, l.sequence)
				if err != nil || stored == nil {
					return err
				}
				it := &item{Letter: l, stored: stored}
				if it.event, it.err = l.event(stored); it.err == nil && len(stored.Data) == 0 && l.Sink != streams.SinkIngest {
					if it.event.Data, err = r.bodyInLog(ctx, js, it.event); err != nil {
						return err
					}
					if it.event.Data == nil {
						it.err = errors.New("the letter has no body, and the log has its event no longer")
					}
				}
				items[i] = it
				return nil
			})
		})
	}
	err := g.Wait()
	return slices.DeleteFunc(items, func(it *item) bool { return it == nil }), err
}

// bodyInLog reads the body of a letter that had no room for it; nil where the
// log no longer has it.
func (r *redrive) bodyInLog(ctx context.Context, js jetstream.JetStream, e streams.Message) ([]byte, error) {
	stream, err := js.Stream(ctx, r.Names.Stream())
	if err != nil || epochOf(stream.CachedInfo()) != e.Epoch {
		return nil, err
	}
	m, err := stream.GetMsg(ctx, e.Sequence)
	if errors.Is(err, jetstream.ErrMsgNotFound) || err == nil && m.Subject != e.Subject {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return m.Data, nil
}

func (r *redrive) prepare(items []*item) (work any, rejected map[int]error) {
	messages := make([]streams.Message, len(items))
	for i, it := range items {
		messages[i] = it.event
		if it.err != nil {
			if rejected == nil {
				rejected = map[int]error{}
			}
			rejected[i] = it.err
		}
	}
	if rejected != nil {
		return nil, rejected
	}
	return r.sink.Prepare(messages)
}

// commit applies, and then deletes. A stop finishes what is in hand.
func (r *redrive) commit(ctx context.Context, items []*item, work any) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	hand, release := inHand(ctx)
	defer release()
	err := r.retry(hand, ctx, r.sink.Name(), func(ctx context.Context) error {
		limited, cancel := context.WithTimeout(ctx, commitLimit)
		defer cancel()
		err := r.sink.Apply(limited, work)
		if !isMoved(err) {
			return err
		}
		again, rejected := r.prepare(items)
		for _, reason := range rejected {
			return refused{reason}
		}
		work = again
		return r.sink.Apply(limited, work) // if it has moved again, that is trouble
	})
	if err != nil {
		return err
	}
	g := errgroup.Group{}
	g.SetLimit(fetches)
	for _, it := range items {
		g.Go(func() error { return r.delete(hand, &it.Letter) })
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("%d letters have been applied and not all of them deleted; to apply them again does no harm: %w", len(items), err)
	}
	r.applied += int64(len(items))
	r.Done(len(items))
	return nil
}

// refused is a letter that can be prepared no longer: to be bisected out.
type refused struct{ error }

func (refused) Poison() bool { return true }

// failedAgain keeps a letter under its next attempt. The old one goes when the
// new one is there.
func (r *redrive) failedAgain(ctx context.Context, it *item, reason error) error {
	hand, release := inHand(ctx)
	defer release()
	letter := &nats.Msg{Subject: it.stored.Subject, Header: withoutNATS(it.stored.Header), Data: it.stored.Data}
	it.Reason = oneLine(reason.Error())
	if len(letter.Data) == 0 && len(it.event.Data) > 0 {
		it.Reason += bodyInLog
	}
	letter.Header.Set(streams.HeaderReason, it.Reason)
	replaced := true
	err := r.untilDone(hand, "NATS", func(ctx context.Context, js jetstream.JetStream) error {
		err := publishLetter(ctx, js, r.Names, letter, it.about(), it.attempt()+1)
		if errors.Is(err, nats.ErrMaxPayload) { // a longer reason than before: the letter stays as it is
			replaced = false
			return nil
		}
		return err
	})
	if err != nil {
		return err
	}
	old := it.Letter
	if replaced {
		it.ID, it.Attempts = letter.Header.Get(streams.HeaderMsgID), letter.Header.Get(streams.HeaderAttempts)
		if err := r.delete(hand, &old); err != nil {
			return err
		}
	}
	r.failed = append(r.failed, it.Letter)
	r.Done(1)
	return nil
}

// delete deletes a letter; one that is gone is deleted.
func (d *DeadLetters) delete(ctx context.Context, l *Letter) error {
	return d.untilDone(ctx, "NATS", func(ctx context.Context, js jetstream.JetStream) error {
		stream, err := js.Stream(ctx, d.Names.DeadStream())
		if err != nil {
			return err
		}
		err = stream.SecureDeleteMsg(ctx, l.sequence) // a letter may be personal
		if err == nil {
			return nil
		}
		if there, lookErr := getLetter(ctx, js, d.Names, l.sequence); lookErr == nil && there == nil {
			return nil
		}
		return fmt.Errorf("delete a dead letter: %w", err)
	})
}

// note puts an act into the log.
func (d *DeadLetters) note(ctx context.Context, instanceID, action, id string, data func(id string) any) error {
	m, err := d.Names.Act(instanceID, action, id, time.Now(), data(id))
	if err != nil {
		return err
	}
	hand, release := inHand(ctx)
	defer release()
	err = d.untilDone(hand, "NATS", func(ctx context.Context, js jetstream.JetStream) error {
		_, err := js.PublishMsg(ctx, m)
		return err
	})
	if err != nil {
		return fmt.Errorf("the log has no note of it (rollcall.%s): %w", action, err)
	}
	return nil
}

// recount tells a sink how many letters it has. It is best effort: the next
// time puts it right.
func (d *DeadLetters) recount(ctx context.Context, sink Redriver) {
	counter, ok := sink.(letterCounter)
	if !ok {
		return
	}
	hand, release := inHand(ctx)
	defer release()
	limited, cancel := context.WithTimeout(hand, 2*ackWait)
	defer cancel()
	err := counter.CountLetters(limited, func(ctx context.Context) (uint64, error) {
		js, err := d.Broker.JetStream()
		if err != nil {
			return 0, err
		}
		return countLetters(ctx, js, d.Names, sink.Name())
	})
	if err != nil {
		d.Trouble(sink.Name(), fmt.Errorf("its number of dead letters isn't up to date: %w", err))
	}
}

// untilDone retries what needs JetStream.
func (d *DeadLetters) untilDone(ctx context.Context, what string, do func(context.Context, jetstream.JetStream) error) error {
	return d.retry(ctx, ctx, what, func(ctx context.Context) error {
		js, err := d.Broker.JetStream()
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, ackWait)
		defer cancel()
		return do(ctx, js)
	})
}

// retry works with one context until it succeeds, a letter is to blame, or one
// of the two has ended.
func (d *DeadLetters) retry(ctx, stop context.Context, what string, do func(context.Context) error) error {
	pause, troubled := newBackoff(), false
	for {
		err := do(ctx)
		if err == nil || isPoison(err) {
			if troubled {
				d.Trouble(what, nil)
			}
			return err
		}
		if stop.Err() != nil || ctx.Err() != nil {
			return errors.Join(stop.Err(), err)
		}
		d.Trouble(what, err)
		troubled = true
		pause.wait(stop)
	}
}

// inHand is a context for what has been begun: it outlives its parent by a grace.
func inHand(ctx context.Context) (context.Context, context.CancelFunc) {
	hand, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(graceOfStop, cancel) })
	return hand, func() { stop(); cancel() }
}
