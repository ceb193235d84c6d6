package invalidate

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/rollcall-dev/rollcall/internal/bucket"
	"github.com/rollcall-dev/rollcall/streams"
)

// Prerequisite is a sink that has to pass an event before its keys go.
type Prerequisite struct {
	Name string // as people know it: "store app"
	Key  string // of its position in CLERK_STATE
}

// gate waits for prerequisites. What it reads is never ahead of what they have
// committed.
type gate struct {
	state *bucket.Bucket
	after []Prerequisite
}

const (
	// How long it waits at one time before it is shown as trouble.
	gateLimit = 15 * time.Second
	pollEvery = 500 * time.Microsecond
	pollMost  = 20 * time.Millisecond
)

// wait returns when all have passed the position.
func (g *gate) wait(ctx context.Context, to streams.Position) error {
	if len(g.after) == 0 {
		return nil
	}
	keys := make([]string, len(g.after))
	for i, p := range g.after {
		keys[i] = p.Key
	}
	deadline := time.Now().Add(gateLimit)
	for pause := pollEvery; ; pause = min(pause*5/4, pollMost) {
		found, err := g.state.Get(ctx, keys)
		if err != nil {
			return err
		}
		behind := g.behind(found, to)
		if behind == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return behind
		}
		select {
		case <-ctx.Done():
			return behind
		case <-time.After(pause):
		}
	}
}

// behind is nil once all have passed.
func (g *gate) behind(found map[string]bucket.Stored, to streams.Position) error {
	for _, p := range g.after {
		var at struct {
			Epoch    int64  `json:"epoch"`
			Sequence uint64 `json:"sequence"`
		}
		value := found[p.Key].Value
		switch {
		case value == nil:
			return fmt.Errorf("waiting for %s, which has applied nothing yet (invalidate.after); is it running?", p.Name)
		case json.Unmarshal(value, &at) != nil:
			return fmt.Errorf("waiting for %s, whose position can't be read (%s)", p.Name, p.Key)
		case at.Epoch != to.Epoch:
			return fmt.Errorf("waiting for %s, which hasn't begun to read this log yet (invalidate.after)", p.Name)
		case at.Sequence < to.Sequence:
			return fmt.Errorf("waiting for %s, which is at event %d of the log, before %d (invalidate.after)", p.Name, at.Sequence, to.Sequence)
		}
	}
	return nil
}
