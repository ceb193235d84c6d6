package consume

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/rollcall-dev/rollcall/streams"
)

// Filler is a Sink that may lack what events say that it has applied: a column
// or a table that came later. Then a range of the log is read a second time,
// beside what goes on and without moving the position, until nothing is lacking.
// How far that has come is kept where the effects are too.
type Filler interface {
	Sink
	// Filling reads what has to be filled, and of which range of the log: behind
	// from, up to to. There is nothing to do where what is empty.
	Filling(ctx context.Context) (what []string, from, to streams.Position, err error)
	// Refill sets another range: the log isn't the one any more that it speaks of.
	Refill(ctx context.Context, from, to streams.Position) error
	// FillSubjects of the log are needed to fill what.
	FillSubjects(what []string) []string
	// PrepareFill is Prepare, for Fill.
	PrepareFill(what []string, messages []streams.Message) (work any, rejected map[int]error)
	// Fill applies prepared work, nil for none, and moves what Filling reads from
	// one to the other, in one transaction; at the range's end nothing is lacking
	// any more. Its errors are those of Commit.
	Fill(ctx context.Context, work any, from, to streams.Position, deadLetters int) error
	// Unfilled counts the rows that stay without, since the log doesn't hold their
	// events any more.
	Unfilled(ctx context.Context, what []string) (rows int64, err error)
}

// errEnd ends a reading that has an end.
var errEnd = errors.New("the range is read")

// fill fills what the sink lacks. Its trouble is shown, and ends nothing else.
// Where what it fills isn't what it was, all is read again from the positions.
func (s *session) fill(ctx context.Context, f Filler) error {
	defer s.health.set(second, "")
	defer s.Filling(nil)
	pause := newBackoff()
	for {
		err := s.fillRange(ctx, f, pause.reset)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil, errors.Is(err, errReadAgain):
			return err
		}
		s.health.set(second, err.Error())
		pause.wait(ctx)
	}
}

// fillRange reads the range that is left.
func (s *session) fillRange(ctx context.Context, f Filler, fine func()) error {
	what, from, to, err := s.left(ctx, f)
	if err != nil || len(what) == 0 {
		return err
	}
	s.metrics.fillPosition.Set(float64(from.Sequence))
	s.metrics.fillEnd.Set(float64(to.Sequence))
	defer s.metrics.fillEnd.Set(0)
	s.Filling(what)
	s.Log.Info("filling from the log", zap.Strings("what", what), zap.Uint64("from", from.Sequence), zap.Uint64("to", to.Sequence))
	if from.Sequence >= to.Sequence {
		err = f.Fill(ctx, nil, from, from, 0)
	} else {
		err = s.readAgain(ctx, filling{f, what, s.metrics.fillPosition}, from, to, fine)
	}
	if err != nil {
		return err
	}
	unfilled, err := f.Unfilled(ctx, what)
	if err != nil {
		return fmt.Errorf("count what couldn't be filled: %w", err)
	}
	s.Log.Info("filled", zap.Strings("what", what), zap.Int64("rows_without_event", unfilled))
	return nil
}

// left is what is left to fill. A range of another log, or of this one before
// it was restored from an older copy, tells nothing: then it is all of the log.
func (s *session) left(ctx context.Context, f Filler) (what []string, from, to streams.Position, err error) {
	if what, from, to, err = f.Filling(ctx); err != nil || len(what) == 0 {
		return nil, from, to, err
	}
	info, err := streamInfo(ctx, s.js, s.Names.Stream())
	if err != nil {
		return nil, from, to, err
	}
	why := ""
	for _, at := range []streams.Position{from, to} {
		if why == "" {
			why = misfit(at, info)
		}
		if why == "" && !at.Time.IsZero() {
			if why, err = s.otherMessage(ctx, s.js, at, info); err != nil {
				return nil, from, to, err
			}
		}
	}
	if why == "" {
		return what, from, to, nil
	}
	from = streams.Position{Epoch: epochOf(info)}
	to = streams.Position{Epoch: from.Epoch, Sequence: info.State.LastSeq, Time: info.State.LastTime}
	return what, from, to, f.Refill(ctx, from, to)
}

// readAgain reads a range for a sink that fills.
func (s *session) readAgain(ctx context.Context, sink filling, from, to streams.Position, fine func()) error {
	r := *s.Runner
	r.sink, r.reading, r.metrics.quiet, r.hint = sink, second, true, newHint(sink.Name())
	again := &session{Runner: &r, js: s.js, generation: s.generation, at: from, batch: maxFillBatch, batchBytes: maxBatchBytes, end: to.Sequence}
	if err := again.open(ctx); err != nil {
		return err
	}
	defer r.forget(s.js, again.consumer)
	fine()
	r.well()
	g, ctx := errgroup.WithContext(ctx)
	again.work(ctx, g)
	if err := g.Wait(); !errors.Is(err, errEnd) {
		return err
	}
	return nil
}

// filling is a Filler as the sink of its second reading.
type filling struct {
	Filler
	what     []string
	progress prometheus.Gauge
}

func (f filling) Subjects() []string { return f.FillSubjects(f.what) }

func (f filling) Position(ctx context.Context) (streams.Position, error) {
	_, from, _, err := f.Filling(ctx)
	return from, err
}

func (f filling) Prepare(messages []streams.Message) (any, map[int]error) {
	return f.PrepareFill(f.what, messages)
}

func (f filling) Commit(ctx context.Context, work any, from, to streams.Position, _ uint64, deadLetters int) error {
	err := f.Fill(ctx, work, from, to, deadLetters)
	if err == nil {
		f.progress.Set(float64(to.Sequence))
	}
	return err
}

// tidy lets the sink tidy every so often.
func (r *Runner) tidy(ctx context.Context, t Tidier) error {
	tick := time.NewTicker(r.TidyEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		bounded, cancel := context.WithTimeout(ctx, commitLimit)
		err := t.Tidy(bounded)
		cancel()
		if err != nil && ctx.Err() == nil {
			r.Log.Warn("tidying failed; it is tried again", zap.Error(err))
		}
	}
}
