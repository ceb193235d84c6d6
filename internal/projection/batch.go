package projection

import "github.com/rollcall-dev/rollcall/streams"

// Batch is what a batch of messages changes. Its memory is used again after
// Release: a row's values are most of what reading it would allocate.
type Batch struct {
	decoder *Decoder
	changes []*Change
	room    room
}

// Begin makes an empty batch.
func (d *Decoder) Begin() *Batch {
	if b, ok := d.batches.Get().(*Batch); ok {
		return b
	}
	return &Batch{decoder: d}
}

// Decode reads a message as [Decoder.Decode] does, and keeps what it changes.
// A message that is rejected changes nothing.
func (b *Batch) Decode(m streams.Message) (known bool, err error) {
	changes, known, err := b.decoder.decode(m, b.changes, &b.room)
	if err == nil {
		b.changes = changes
	}
	return known, err
}

// Fold keeps the winners of all that the batch changes. They are valid until
// Release.
func (b *Batch) Fold() Folded { return Fold(b.changes) }

// Release ends the batch; nothing of it may be used afterwards.
func (b *Batch) Release() {
	clear(b.changes)
	b.changes = b.changes[:0]
	b.room.clear()
	b.decoder.batches.Put(b)
}

// room gives out changes and their values; a nil one makes each by itself.
type room struct {
	changes slab[Change]
	values  slab[Value]
}

func (r *room) change() *Change {
	if r == nil {
		return &Change{}
	}
	return &r.changes.take(1)[0]
}

func (r *room) row(columns int) []Value {
	if r == nil {
		return make([]Value, columns)
	}
	return r.values.take(columns)
}

func (r *room) clear() {
	r.changes.clear()
	r.values.clear()
}

// slab gives out elements of few large slices.
type slab[T any] struct {
	blocks [][]T
	block  int // in use
	used   int // of it
}

const blockSize = 4096

// take gives out n zero elements.
func (s *slab[T]) take(n int) []T {
	if s.block < len(s.blocks) && s.used+n > len(s.blocks[s.block]) {
		s.block++
		s.used = 0
	}
	if s.block == len(s.blocks) {
		s.blocks = append(s.blocks, make([]T, max(n, blockSize)))
	}
	s.used += n
	return s.blocks[s.block][s.used-n : s.used : s.used]
}

// clear takes everything back, and forgets the messages that it pointed into.
func (s *slab[T]) clear() {
	for i := range s.blocks[:min(s.block+1, len(s.blocks))] {
		clear(s.blocks[i])
	}
	s.block, s.used = 0, 0
}
