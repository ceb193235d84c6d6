package invalidate

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/rollcall-dev/rollcall/internal/bucket"
	"github.com/rollcall-dev/rollcall/streams"
)

// entry is what is remembered of one entity: every key that was ever made of it
// from values that a later event may not have, in the order in which they were
// made. Versions take no part: a key too many costs a command, and of events out
// of order nobody knows which key a cache still has.
type entry struct {
	Keys    []string          `json:"keys,omitempty"`
	Parents map[string]string `json:"parents,omitempty"` // ids by table, under which it can be found
	// Deleted: nothing more is to be remembered. Stays as long as late events may
	// come.
	Deleted bool `json:"deleted,omitempty"`
}

const (
	// A key that this many later ones have pushed out is forgotten; it was
	// invalidated when it was replaced.
	maxKeys = 64
	// For how long an event may arrive after the deletion of its entity: longer
	// than Svix retries.
	lateEvents = 48 * time.Hour
	// A deleted key's marker in the bucket.
	markerStays = time.Minute
	// Entries that are held in memory, so that targets at the same place of the
	// log don't each ask for them.
	maxCached = 50_000
)

// learn moves the keys to the end; it reports whether that changes anything.
func (e *entry) learn(c *change) (changed bool) {
	if e.Deleted {
		return false
	}
	tail := e.Keys[max(0, len(e.Keys)-len(c.remember)):]
	if !sameKeys(tail, c.remember) {
		kept := slices.DeleteFunc(slices.Clone(e.Keys), func(k string) bool { return slices.Contains(c.remember, k) })
		e.Keys = append(kept, c.remember...)
		e.Keys = e.Keys[max(0, len(e.Keys)-maxKeys):]
		changed = true
	}
	for table, id := range c.parents {
		if e.Parents[table] != id {
			parents := maps.Clone(e.Parents)
			if parents == nil {
				parents = map[string]string{}
			}
			parents[table] = id
			e.Parents, changed = parents, true
		}
	}
	return changed
}

func sameKeys(a, b []string) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(k string) bool { return !slices.Contains(b, k) })
}

// held is an entry at a revision of the bucket.
type held struct {
	entry
	revision uint64
}

// memory is the entries in the bucket, for all targets of this process.
type memory struct {
	state   *bucket.Bucket
	targets []string // keys of the positions of all that are configured

	mu     sync.Mutex
	cached map[string]held
}

func newMemory(s *bucket.Bucket) *memory { return &memory{state: s, cached: map[string]held{}} }

func (c *change) entryKey() string {
	return entryPrefix + streams.Key(c.table) + "." + streams.Key(c.id)
}

const (
	// The keys of the bucket. Tables and ids are encoded by streams.Key.
	positionPrefix = "invalidate.position." // <target>
	entryPrefix    = "invalidate.keys."     // <table>.<id>
	indexPrefix    = "invalidate.of."       // <parent's table>.<parent's id>.<table>.<id>
)

func childPrefix(parentTable, parentID, table string) string {
	return indexPrefix + streams.Key(parentTable) + "." + streams.Key(parentID) + "." + streams.Key(table) + "."
}

// remembers reports whether the change is of an entity with an entry.
func (c *change) remembers() bool { return c.rule != nil && len(c.rule.remembered()) > 0 }

// forget drops what is held in memory: another process may have written since.
func (m *memory) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.cached)
}

// recall is what is remembered of the changes' entities. The bucket is asked
// through check, a key whose revision tells an answer that is too old.
func (m *memory) recall(ctx context.Context, changes []change, check *lock) (map[string]held, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.lookup(ctx, changes, check)
}

// lock is a sink's position in the bucket: whoever has moved it last works.
type lock struct {
	key      string
	revision uint64
	shared   bool // somebody else may move it
}

func (m *memory) lookup(ctx context.Context, changes []change, check *lock) (map[string]held, error) {
	entries := map[string]held{}
	var ask []string
	for i := range changes {
		c := &changes[i]
		if !c.remembers() {
			continue
		}
		key := c.entryKey()
		if _, asked := entries[key]; asked {
			continue
		}
		e, known := m.cached[key]
		if entries[key] = e; !known {
			ask = append(ask, key)
		}
	}
	if len(ask) == 0 {
		return entries, nil
	}
	found, err := m.fresh(ctx, ask, check)
	if err != nil {
		return nil, err
	}
	for _, key := range ask {
		e := held{revision: found[key].Revision}
		if value := found[key].Value; value != nil {
			if err := json.Unmarshal(value, &e.entry); err != nil {
				return nil, fmt.Errorf("remembered keys in %s: %w", key, err)
			}
		}
		entries[key] = e
		m.hold(key, e)
	}
	return entries, nil
}

func (m *memory) hold(key string, e held) {
	if len(m.cached) >= maxCached {
		clear(m.cached)
	}
	m.cached[key] = e
}

// fresh reads keys and sees to it that the answer is no older than this
// process's own last write of its position: a replica that lags would have the
// sink overlook a key.
func (m *memory) fresh(ctx context.Context, keys []string, check *lock) (map[string]bucket.Stored, error) {
	found, at, err := m.state.GetSince(ctx, keys, check.key, check.revision)
	if err == nil && at > check.revision && !check.shared {
		err = errMoved{"the position is another replica's by now"}
	}
	return found, err
}

// remember writes what the changes add to the entries, and then the position if
// there is one. Entities that are deleted are forgotten, once all targets have
// passed the deletion.
func (m *memory) remember(ctx context.Context, changes []change, check *lock, position *bucket.Put, to streams.Position) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	entries, err := m.lookup(ctx, changes, check)
	if err != nil {
		return err
	}
	passed, err := m.passed(ctx, changes, check, to)
	if err != nil {
		return err
	}
	puts := m.puts(changes, entries, passed)
	if position != nil {
		puts = append(puts, *position)
	}
	if len(puts) == 0 {
		return nil
	}
	revisions, err := m.state.Write(ctx, puts)
	if err != nil {
		clear(m.cached) // whatever of it was written
		return err
	}
	for i, p := range puts {
		if e, ok := entries[p.Key]; ok {
			e.revision = revisions[i]
			m.hold(p.Key, e)
		}
	}
	if position != nil {
		check.revision = revisions[len(revisions)-1]
	}
	return nil
}

// passed is up to where in the log all targets have come, this one being at to:
// what only their deletion needs can go. Asked with the memory locked, the later
// of two targets of this process sees the other. Two processes may both take
// themselves for the first, and leave an entry; it says no more than the log.
func (m *memory) passed(ctx context.Context, changes []change, check *lock, to streams.Position) (uint64, error) {
	if !slices.ContainsFunc(changes, func(c change) bool { return c.deleted }) || check.shared {
		return 0, nil
	}
	found, err := m.state.Get(ctx, m.targets)
	if err != nil {
		return 0, err
	}
	least := to.Sequence
	for _, key := range m.targets {
		var p position
		if key == check.key {
			continue
		}
		if e := found[key]; e.Value == nil || json.Unmarshal(e.Value, &p) != nil || p.Epoch != to.Epoch {
			return 0, nil
		}
		least = min(least, p.Sequence)
	}
	return least, nil
}

// puts changes the entries, and says what has to be written.
func (m *memory) puts(changes []change, entries map[string]held, passed uint64) (puts []bucket.Put) {
	touched := map[string]*change{} // by key, the last change
	var order []string
	for i := range changes {
		c := &changes[i]
		if !c.remembers() {
			continue
		}
		key := c.entryKey()
		e := entries[key]
		before := e.Parents
		switch {
		case !c.deleted && e.learn(c):
			puts = append(puts, index(c, before, e.Parents)...)
		case c.deleted && c.sequence <= passed && !e.Deleted && (!c.inferred || e.revision > 0):
			puts = append(puts, unindex(c, e.Parents)...)
			e.entry = entry{Deleted: !c.inferred}
		default:
			continue
		}
		entries[key] = e
		if touched[key] == nil {
			order = append(order, key)
		}
		touched[key] = c
	}
	for _, key := range order {
		puts = append(puts, entries[key].put(key, touched[key].inferred))
	}
	return puts
}

func (e held) put(key string, inferred bool) bucket.Put {
	p := bucket.Put{Key: key, Over: e.revision}
	switch {
	case e.Deleted:
		p.TTL = lateEvents.String()
	case inferred && len(e.Keys) == 0:
		p.Deleted, p.TTL = true, markerStays.String()
		return p
	}
	p.Value, _ = json.Marshal(e.entry) // strings and maps of strings
	return p
}

// index makes the entity findable under parents that it didn't have.
func index(c *change, before, now map[string]string) (puts []bucket.Put) {
	for _, table := range slices.Sorted(maps.Keys(now)) {
		if before[table] != now[table] {
			puts = append(puts, bucket.Put{Key: childPrefix(table, now[table], c.table) + streams.Key(c.id), Over: bucket.Any})
		}
	}
	return puts
}

func unindex(c *change, parents map[string]string) (puts []bucket.Put) {
	for _, table := range slices.Sorted(maps.Keys(parents)) {
		puts = append(puts, bucket.Put{
			Key: childPrefix(table, parents[table], c.table) + streams.Key(c.id), Over: bucket.Any,
			Deleted: true, TTL: markerStays.String(),
		})
	}
	return puts
}

// orphans are the deletions that a deletion brings with it.
func (m *memory) orphans(ctx context.Context, c *change) (list []change, err error) {
	for _, r := range c.orphans {
		tokens, err := m.state.List(ctx, childPrefix(c.table, c.id, r.resource.Table))
		if err != nil {
			return nil, err
		}
		for _, token := range tokens {
			id, err := streams.ParseKey(token)
			if err != nil {
				return nil, fmt.Errorf("a key below %s: %w", childPrefix(c.table, c.id, r.resource.Table), err)
			}
			list = append(list, c.orphan(r, id))
		}
	}
	return list, nil
}
