package consume

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/rollcall-dev/rollcall/streams"
)

// move commits work and position, and retries until it is done or somebody
// else has moved the position.
func (s *session) move(ctx context.Context, work any, to streams.Position, pending uint64, deadLetters int) error {
	pause := newBackoff()
	for {
		err := s.commit(ctx, work, to, pending, deadLetters)
		if err == nil || isMoved(err) && s.cameThrough(ctx, to) {
			s.arrived(to)
			return nil
		}
		if isMoved(err) {
			s.Log.Info("reading again", zap.Error(err))
			return errReadAgain
		}
		if isPoison(err) || ctx.Err() != nil {
			return err
		}
		s.failing = true
		s.degraded(err)
		pause.wait(ctx)
	}
}

// commit outlives the context for a while: a stop finishes the batch in hand.
func (s *session) commit(ctx context.Context, work any, to streams.Position, pending uint64, deadLetters int) error {
	commit, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitLimit)
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(graceOfStop, cancel) })()
	return s.sink.Commit(commit, work, s.at, to, pending, deadLetters)
}

// cameThrough tells the commit whose answer was lost from another replica's.
func (s *session) cameThrough(ctx context.Context, to streams.Position) bool {
	now, err := s.sink.Position(ctx)
	return err == nil && s.failing && now.Epoch == to.Epoch && now.Sequence == to.Sequence
}

func (s *session) arrived(to streams.Position) {
	s.mu.Lock()
	s.at = to
	s.mu.Unlock()
	s.hint.set(to)
	if s.failing {
		s.failing = false
		s.well()
	}
}

// commitBatch applies a batch; poison in it is bisected out.
func (s *session) commitBatch(ctx context.Context, b batch) error {
	parts := bisecter[streams.Message]{s.sink.Prepare, s.commitPart, s.bury}
	return parts.applyPrepared(ctx, b.messages, b.work, b.rejected)
}

func (s *session) commitPart(ctx context.Context, messages []streams.Message, work any) error {
	last := messages[len(messages)-1]
	to := streams.Position{Epoch: s.at.Epoch, Sequence: last.Sequence, Time: last.Time}
	if err := s.move(ctx, work, to, last.Pending, 0); err != nil {
		return err
	}
	s.committed.Add(uint64(len(messages)))
	s.metrics.committed(messages)
	return nil
}

// bury puts a message into the dead letters and moves past it. The letter is
// there before the position moves; a crash between the two repeats it under
// the same id.
func (s *session) bury(ctx context.Context, m streams.Message, reason error) error {
	pause := newBackoff()
	for {
		err := s.sendLetter(ctx, m, reason)
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s.failing = true
		s.degraded(fmt.Errorf("store a dead letter: %w", err))
		if isNoStream(err) {
			s.NoStream()
		}
		pause.wait(ctx)
	}
	to := streams.Position{Epoch: s.at.Epoch, Sequence: m.Sequence, Time: m.Time}
	if err := s.move(ctx, nil, to, m.Pending, 1); err != nil {
		return err
	}
	s.committed.Add(1)
	s.metrics.buried()
	s.Log.Warn("event went to the dead letters", zap.String("type", typeOf(s.Names, m)), zap.Uint64("sequence", m.Sequence)) // the reason may quote a value: rollcall dlq show has it
	return nil
}
