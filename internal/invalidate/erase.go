package invalidate

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rollcall-dev/rollcall/internal/bucket"
	"github.com/rollcall-dev/rollcall/streams"
)

// Wait returns when all targets have dealt with the log up to a position; before
// that, erasing would leave keys of the person in a cache. One that never ran has
// nothing to deal with. The error of a context that ends names who is behind.
func (v *Invalidator) Wait(ctx context.Context, to streams.Position) error {
	var who string
	for {
		behind, err := v.behind(ctx, to)
		if err == nil && behind == "" {
			return nil
		}
		who = cmp.Or(behind, who)
		if err != nil && ctx.Err() == nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", who, ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (v *Invalidator) behind(ctx context.Context, to streams.Position) (string, error) {
	found, err := v.memory.state.Get(ctx, v.memory.targets)
	if err != nil {
		return "", err
	}
	if len(found) == 0 {
		return "", nil // it has never run, and remembers nothing
	}
	for _, s := range v.sinks {
		var p position
		e := found[s.lock.key]
		if e.Value == nil || json.Unmarshal(e.Value, &p) != nil || p.Epoch != to.Epoch || p.Sequence < to.Sequence {
			return fmt.Sprintf("%s is at event %d, before %d", s.Name(), p.Sequence, to.Sequence), nil
		}
	}
	return "", nil
}

// Erase deletes what is remembered of a person: entries under the user's id,
// those found by it, and those whose keys hold one of the words (e-mail
// addresses, phone numbers). It returns how many. A bucket's messages can't be
// overwritten in place: the bytes are free space of a file until NATS compacts
// it.
func (v *Invalidator) Erase(ctx context.Context, userID string, words []string) (erased int, err error) {
	defer v.memory.forget()
	puts, err := v.entriesOf(ctx, userID, words)
	if err != nil || len(puts) == 0 {
		return 0, err
	}
	if _, err := v.memory.state.Write(ctx, puts); err != nil {
		return 0, fmt.Errorf("erase remembered keys: %w", err)
	}
	return len(puts), nil
}

func (v *Invalidator) entriesOf(ctx context.Context, userID string, words []string) (puts []bucket.Put, err error) {
	s := v.memory.state
	js, err := s.Broker.JetStream()
	if err != nil {
		return nil, err
	}
	entries, err := js.OrderedConsumer(ctx, "KV_"+s.Name, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{s.Subject(entryPrefix) + ">", s.Subject(indexPrefix) + ">"},
	})
	if err != nil {
		return nil, fmt.Errorf("read remembered keys: %w", err)
	}
	for left := entries.CachedInfo().NumPending; left > 0; {
		m, err := entries.Next(jetstream.FetchMaxWait(answerWait))
		if err != nil {
			return nil, fmt.Errorf("read remembered keys: %w", err)
		}
		meta, err := m.Metadata()
		if err != nil {
			return nil, fmt.Errorf("read remembered keys: %w", err)
		}
		left = meta.NumPending
		if m.Headers().Get(bucket.HeaderKVOperation) == "" && concerns(m.Subject(), m.Data(), userID, words) {
			puts = append(puts, bucket.Put{Key: strings.TrimPrefix(m.Subject(), s.Subject("")), Over: bucket.Any, Deleted: true, TTL: markerStays.String()})
		}
	}
	return puts, nil
}

// concerns reports whether an entry is of a person, or has something of theirs.
func concerns(subject string, value []byte, userID string, words []string) bool {
	if userID != "" && slices.Contains(strings.Split(subject, "."), streams.Key(userID)) {
		return true
	}
	return slices.ContainsFunc(append(slices.Clip(words), userID), func(w string) bool {
		quoted, err := json.Marshal(w) // as it stands in the entry
		return w != "" && err == nil && bytes.Contains(value, bytes.Trim(quoted, `"`))
	})
}
