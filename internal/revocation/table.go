package revocation

import (
	"hash/maphash"
	"sync"
	"time"
)

// table holds entries in few bytes: keys as 128 bits of a hash that nobody outside
// the process can aim at, values without pointers. A million take some 100 MB. Safe
// for concurrent use.
type table struct {
	seeds  [2]maphash.Seed
	shards [shards]shard
}

const shards = 64

type shard struct {
	mu   sync.RWMutex
	held map[[2]uint64]cut
	_    [32]byte // a cache line each
}

// cut is an entry without what nobody is told.
type cut struct {
	notBefore, denyUntil int64
}

func newTable() *table {
	t := &table{seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}}
	for i := range t.shards {
		t.shards[i].held = map[[2]uint64]cut{}
	}
	return t
}

// named is what is hashed: a struct, so that no id runs into the next.
type named struct {
	kind   Kind
	id, in string
}

func (t *table) place(n named) (*shard, [2]uint64) {
	key := [2]uint64{maphash.Comparable(t.seeds[0], n), maphash.Comparable(t.seeds[1], n)}
	return &t.shards[key[0]%shards], key
}

func (t *table) get(n named) (cut, bool) {
	s, key := t.place(n)
	s.mu.RLock()
	defer s.mu.RUnlock()
	c, ok := s.held[key]
	return c, ok
}

func (t *table) set(n named, c cut) {
	s, key := t.place(n)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held[key] = c
}

func (t *table) remove(n named) {
	s, key := t.place(n)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.held, key)
}

// age drops what a shard holds of the past.
func (t *table) age(i int, now time.Time, life time.Duration) {
	s := &t.shards[i%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, c := range s.held {
		if (Entry{NotBefore: c.notBefore, DenyUntil: c.denyUntil}).Ends(life).Before(now) {
			delete(s.held, key)
		}
	}
}

func (t *table) len() (n int) {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.RLock()
		n += len(s.held)
		s.mu.RUnlock()
	}
	return n
}
