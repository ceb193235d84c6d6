package reconcile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rollcall-dev/rollcall/streams"
)

// state is what CLERK_STATE keeps of an instance between passes: ids and counts.
type state struct {
	// Since is when the last pass began that left no drift, by Clerk's clock, in
	// milliseconds since 1970: the next looks at what Clerk has changed since then.
	Since int64 `json:"since"`
	// Ended is when each pass last ended, by our clock, in milliseconds since 1970.
	Ended map[string]int64 `json:"ended,omitempty"`
	// Deleted are deletions, by table.
	Deleted map[string][]deletions `json:"deleted,omitempty"`
	// Unlisted is since when a row has been missing from a list, by table and id.
	Unlisted map[string]map[string]int64 `json:"unlisted,omitempty"`
	// Heard is the last webhook, and how far the log was read for it.
	Heard heard `json:"heard"`
}

// keeper reads and writes the state. Only the one with the lease writes it, and
// a compare-and-set holds one that was frozen meanwhile.
type keeper struct {
	kv       jetstream.KeyValue
	key      string
	revision uint64
	state    state
}

// stateKey is the key of an instance's state in CLERK_STATE.
func stateKey(instanceID string) string { return "reconcile." + streams.Key(instanceID) }

func openKeeper(ctx context.Context, o Options, instanceID string) (*keeper, error) {
	kv, err := o.JetStream.KeyValue(ctx, o.Names.StateBucket())
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w; rollcall streams apply makes it", o.Names.StateBucket(), err)
	}
	k := &keeper{kv: kv, key: stateKey(instanceID)}
	entry, err := kv.Get(ctx, k.key)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		return k, nil
	case err != nil:
		return nil, fmt.Errorf("read what earlier passes came to: %w", err)
	}
	k.revision = entry.Revision()
	if err := json.Unmarshal(entry.Value(), &k.state); err != nil {
		return nil, fmt.Errorf("key %s of %s can't be read: %w; delete it to begin anew", k.key, o.Names.StateBucket(), err)
	}
	return k, nil
}

func (k *keeper) save(ctx context.Context) error {
	value, err := json.Marshal(k.state)
	if err != nil {
		return err
	}
	if k.revision == 0 {
		k.revision, err = k.kv.Create(ctx, k.key, value)
	} else {
		k.revision, err = k.kv.Update(ctx, k.key, value, k.revision)
	}
	if err != nil {
		return fmt.Errorf("keep what the pass came to: %w", err)
	}
	return nil
}

// keep notes that the pass has ended, in CLERK_STATE and in the stores.
func (r *run) keep(ctx context.Context) error {
	now := r.Now()
	named := int64(0) // a difference of totals can't be looked for again
	for _, res := range r.report.Resources {
		named += res.Drift() - res.ByCount
	}
	if r.Pass != Counts && named == 0 {
		r.state.Since = r.started.UnixMilli()
	}
	if r.state.Ended == nil {
		r.state.Ended = map[string]int64{}
	}
	r.state.Ended[r.Pass], r.report.ended = now.UnixMilli(), now.UnixMilli()
	for _, s := range r.Stores {
		summary := map[string]any{}
		for _, res := range r.report.Resources {
			if res.Store == s.Name() {
				summary[res.Resource] = summaryOf(res)
			}
		}
		err := s.SetReconciled(ctx, r.Pass, map[string]any{"ended_at": now.UTC().Format(time.RFC3339), "run": r.report.Run, "repair": r.Repair, "resources": summary})
		if err != nil {
			return fmt.Errorf("%s: keep what the pass came to: %w", s.Name(), err)
		}
	}
	return r.save(ctx)
}

func summaryOf(res *Result) map[string]any {
	summary := map[string]any{"compared": res.Compared, "missing": res.Missing, "stale": res.Stale, "extra": res.Extra, "mended": res.Mended}
	if res.Left != "" {
		summary["left"] = res.Left
	}
	return summary
}
