package rebuild

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/streams"
)

// copier is the shadow as a replay.Target: while one batch is copied into the
// database the next is decoded.
type copier struct {
	run    *run
	epoch  int64
	ctx    context.Context
	cancel context.CancelCauseFunc
	queue  chan batch
	done   chan struct{}
}

type batch struct {
	messages []streams.Message
	copied   *store.Copied
	rejected map[int]error
}

func newCopier(ctx context.Context, r *run) *copier {
	c := &copier{run: r, epoch: r.shadow.Position().Epoch, queue: make(chan batch, 1), done: make(chan struct{})}
	c.ctx, c.cancel = context.WithCancelCause(ctx)
	go func() {
		defer close(c.done)
		for b := range c.queue {
			if c.ctx.Err() == nil {
				c.cancelOn(c.add(b))
			}
		}
	}()
	return c
}

func (c *copier) cancelOn(err error) {
	if err != nil {
		c.cancel(err)
	}
}

// Put implements replay.Target; close tells whether all that was put is there.
func (c *copier) Put(_ context.Context, events []streams.Message) error {
	if events[0].Epoch != c.epoch {
		return errors.New("the stream was made anew meanwhile: start again")
	}
	b := batch{messages: slices.Clone(events)}
	b.copied, b.rejected = c.run.shadow.Prepare(b.messages)
	select {
	case c.queue <- b:
		return nil
	case <-c.ctx.Done():
		return context.Cause(c.ctx)
	}
}

func (c *copier) close() error {
	close(c.queue)
	<-c.done
	defer c.cancel(nil)
	return context.Cause(c.ctx)
}

// add adds a batch; what in it the database refuses is bisected out.
func (c *copier) add(b batch) error {
	for i, reason := range b.rejected {
		c.reject(b.messages[i], reason)
	}
	err := c.run.shadow.Add(c.ctx, b.copied, b.messages[len(b.messages)-1].Sequence)
	var refused *store.Error
	if !errors.As(err, &refused) || !refused.Poison() {
		return err
	}
	if len(b.messages) == 1 {
		c.reject(b.messages[0], err)
		return c.run.shadow.Add(c.ctx, &store.Copied{}, b.messages[0].Sequence)
	}
	half := len(b.messages) / 2
	for _, part := range [][]streams.Message{b.messages[:half], b.messages[half:]} {
		copied, _ := c.run.shadow.Prepare(part) // what is rejected has been counted
		if err := c.add(batch{messages: part, copied: copied}); err != nil {
			return err
		}
	}
	return nil
}

const reasonsShown = 10

func (c *copier) reject(m streams.Message, reason error) {
	r := c.run.report
	if r.Rejected++; len(r.Reasons) < reasonsShown {
		r.Reasons = append(r.Reasons, fmt.Sprintf("sequence %d, %s: %v", m.Sequence, m.Subject, reason))
	}
}
