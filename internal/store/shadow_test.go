package store

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/rollcall-dev/rollcall/streams"
)

// emptied is an empty shadow for the next case: making one anew takes long.
func emptied(ctx context.Context, s *Store) (*Shadow, error) {
	sh, err := s.OpenShadow(ctx, 1)
	if err != nil {
		return nil, err
	}
	var sql []string
	for _, t := range sh.tables {
		sql = append(sql, fmt.Sprintf("truncate %[1]s.%[2]s, %[1]s.%[2]s_apply", sh.schema, t.name))
	}
	sh.at.Sequence = 0
	return sh, sh.exec(ctx, strings.Join(sql, "; ")+"; update "+sh.schema+".progress set position = 0")
}

// rebuilt builds a shadow of messages, the last ones once the rest has been
// compared, and applies it.
func rebuilt(ctx context.Context, s *Store, messages []streams.Message, late int) (found []Drift, err error) {
	sh, err := emptied(ctx, s)
	if err != nil {
		return nil, err
	}
	add := func(messages []streams.Message) error {
		for part := range slices.Chunk(messages, 5) {
			c, rejected := sh.Prepare(part)
			if len(rejected) > 0 {
				return fmt.Errorf("rejected: %v", rejected)
			}
			if err := sh.Add(ctx, c, part[len(part)-1].Sequence); err != nil {
				return err
			}
		}
		return nil
	}
	if err := add(messages[:len(messages)-late]); err != nil {
		return nil, err
	}
	if found, err = sh.Compare(ctx, func(string) {}); err != nil {
		return nil, err
	}
	_, err = sh.Apply(ctx, func(context.Context) error { return add(messages[len(messages)-late:]) })
	return found, err
}

func drifted(found []Drift) (n int64) {
	for i := range found {
		n += found[i].Drifted()
	}
	return n
}

// damages are what may have happened to a row, and a rebuild mends.
var damages = []string{
	`delete from clerk.%[1]s where id = '%[2]s'`,
	`update clerk.%[1]s set instance_id = 'ins_other' where id = '%[2]s' and version <> ''`,
	`update clerk.%[1]s set version = '' where id = '%[2]s'`,
	`update clerk.%[1]s set deleted_at = null where id = '%[2]s'`,
	`update clerk.%[1]s set deleted_at = now() where id = '%[2]s'`,
	`delete from clerk.tombstones where resource = '%[1]s' and id = '%[2]s'`,
}

// Whatever a store has read of a log, and whatever was done to its rows, a rebuild
// leaves what the model says; and where nothing was missed or done it finds
// nothing.
func TestShadowModel(t *testing.T) {
	t.Parallel()
	for _, onDelete := range []string{OnDeleteTombstone, OnDeleteHard, OnDeleteKeep} {
		t.Run(onDelete, func(t *testing.T) {
			t.Parallel()
			m := newModelStore(t, onDelete)
			cases, failed := 0, false // comparing two stores 100 times takes long
			rapid.Check(t, func(rt *rapid.T) {
				if cases++; cases > 25 && !failed && os.Getenv("ROLLCALL_SOAK") != "1" {
					return
				}
				d := draw{rt}
				tables := pick(d, "tables", slices.Sorted(maps.Keys(kinds)), []string{"users", "organizations", "organization_memberships", "organization_memberships", "sessions"})
				var facts []*fact
				for i := range rapid.IntRange(1, 16).Draw(rt, "events") {
					facts = append(facts, d.fact(i, tables))
				}
				order := rapid.Permutation(slices.Clone(facts)).Draw(rt, "order")
				var messages, read []streams.Message
				for i, f := range order {
					messages = append(messages, f.message(uint64(i+1)))
				}
				missed := map[int]bool{}
				for range rapid.IntRange(0, 3).Draw(rt, "missed") {
					missed[rapid.IntRange(0, len(facts)-1).Draw(rt, "miss")] = true
				}
				for i, message := range messages {
					if !missed[i] {
						read = append(read, message)
					}
				}
				var sql []string
				for range rapid.IntRange(0, 3).Draw(rt, "damages") {
					f := pick(d, "whose", facts...)
					sql = append(sql, fmt.Sprintf(pick(d, "damage", damages...), f.table, f.id))
				}
				if err := m.shadowed(t.Context(), facts, messages, read, sql, rapid.IntRange(0, len(messages)).Draw(rt, "late")); err != nil {
					failed = true
					rt.Fatal(err)
				}
			})
		})
	}
}

// shadowed applies what was read, does the damage, and rebuilds twice.
func (m modelStore) shadowed(ctx context.Context, facts []*fact, messages, read []streams.Message, damage []string, late int) error {
	if err := m.empty(ctx); err != nil {
		return err
	}
	if len(read) > 0 {
		work, rejected := m.Prepare(read)
		if len(rejected) > 0 {
			return fmt.Errorf("rejected: %v", rejected)
		}
		to := streams.Position{Epoch: 1, Sequence: m.at.Sequence + uint64(len(messages))}
		if err := m.Commit(ctx, work, m.at, to, 0, 0); err != nil {
			return err
		}
		m.at = to
	}
	for _, sql := range damage {
		if _, err := m.db.Exec(ctx, sql); err != nil {
			return err
		}
	}
	found, err := rebuilt(ctx, m.Store, messages, late)
	if err != nil {
		return err
	}
	if n := drifted(found); n > 0 && late == 0 && len(damage) == 0 && len(read) == len(messages) {
		return fmt.Errorf("a store that is right has drifted: %+v", found)
	}
	diff, err := m.compare(ctx, facts)
	if err != nil {
		return err
	}
	if diff != "" {
		return fmt.Errorf("rows differ (-model +store):\n%s\nfound %+v", diff, found)
	}
	if found, err = rebuilt(ctx, m.Store, messages, 0); err != nil {
		return err
	}
	if drifted(found) > 0 {
		return fmt.Errorf("a rebuilt store has drifted: %+v", found)
	}
	return nil
}
