package auth

import (
	"crypto/sha256"
	"sync"
	"time"
)

const cacheShards = 64

// cache remembers what tokens were found to say, by their SHA-256, so that no
// token that could be used is kept. It holds at most about its size: a shard has
// two generations, and when the young one is full it becomes the old one, whose
// entries that nobody asked for are gone.
type cache[V any] struct {
	shards     [cacheShards]shard[V]
	generation int // entries of one generation of a shard
}

type shard[V any] struct {
	mu         sync.Mutex
	young, old map[tokenHash]remembered[V]
}

type tokenHash [sha256.Size]byte

type remembered[V any] struct {
	value V
	until time.Time
}

func newCache[V any](size int) *cache[V] {
	return &cache[V]{generation: max(1, size/cacheShards/2)}
}

func hashOf(token string) tokenHash {
	var onStack [1536]byte // longer than almost all tokens
	return sha256.Sum256(append(onStack[:0], token...))
}

func (c *cache[V]) shard(key tokenHash) *shard[V] { return &c.shards[key[0]%cacheShards] }

func (c *cache[V]) get(key tokenHash, now time.Time) (value V, ok bool) {
	s := c.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.young[key]
	if !ok {
		if r, ok = s.old[key]; ok {
			s.put(key, r, c.generation)
		}
	}
	if !ok || !now.Before(r.until) {
		return value, false
	}
	return r.value, true
}

func (c *cache[V]) put(key tokenHash, value V, until time.Time) {
	s := c.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.put(key, remembered[V]{value, until}, c.generation)
}

func (s *shard[V]) put(key tokenHash, r remembered[V], generation int) {
	if len(s.young) >= generation {
		s.old, s.young = s.young, nil
	}
	if s.young == nil {
		s.young = map[tokenHash]remembered[V]{}
	}
	s.young[key] = r
}
