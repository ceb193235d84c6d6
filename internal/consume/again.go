package consume

import (
	"context"

	"github.com/rollcall-dev/rollcall/streams"
)

// Again applies messages of the log a second time.
type Again struct {
	Sink Redriver
	// Failed is told of a message that can't be applied, and why.
	Failed func(m streams.Message, reason error)
	// Trouble is as that of DeadLetters.
	Trouble func(what string, err error)
}

// Apply applies messages of one epoch, in order, without moving the sink's
// position. Those that can't be applied are told and stay out; no letter is
// written, since the sink wrote one when it read them. Everything else is
// retried until the context ends: its error is the only one, and the messages
// may then have been applied in part.
func (a *Again) Apply(ctx context.Context, messages []streams.Message) error {
	return bisecter[streams.Message]{a.Sink.Prepare, a.commit, a.bury}.apply(ctx, messages)
}

func (a *Again) commit(ctx context.Context, messages []streams.Message, work any) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	hand, release := inHand(ctx)
	defer release()
	d := &DeadLetters{Trouble: a.Trouble}
	return d.retry(hand, ctx, a.Sink.Name(), func(ctx context.Context) error {
		limited, cancel := context.WithTimeout(ctx, commitLimit)
		defer cancel()
		err := a.Sink.Apply(limited, work)
		if !isMoved(err) {
			return err
		}
		again, rejected := a.Sink.Prepare(messages)
		for _, reason := range rejected {
			return refused{reason}
		}
		work = again
		return a.Sink.Apply(limited, work) // if it has moved again, that is trouble
	})
}

func (a *Again) bury(_ context.Context, m streams.Message, reason error) error {
	a.Failed(m, reason)
	return nil
}
