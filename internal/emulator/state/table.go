package state

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"sync/atomic"
)

// resource is what a table holds.
type resource interface {
	key() string
	created() int64 // Unix ms
}

// table is the resources of one kind: by id, and in order of creation. Its
// caller holds the instance's lock.
type table[T resource] struct {
	slots   map[string]int32 // id to place in rows
	rows    []T              // as they came; removed ones leave a hole
	present []bool
	holes   int
	ordered bool                // rows are in order of creation
	listing atomic.Pointer[[]T] // what all answered since the last change
	deleted map[string]int64    // id to when, Unix ms
}

func newTable[T resource]() *table[T] {
	return &table[T]{slots: map[string]int32{}, ordered: true, deleted: map[string]int64{}}
}

func (t *table[T]) get(id string) (row T) {
	if slot, ok := t.slots[id]; ok {
		return t.rows[slot]
	}
	return row
}

func (t *table[T]) len() int { return len(t.slots) }

// put adds a resource or replaces the one of its id.
func (t *table[T]) put(row T) {
	t.listing.Store(nil)
	if slot, ok := t.slots[row.key()]; ok {
		t.ordered = t.ordered && t.rows[slot].created() == row.created()
		t.rows[slot] = row
		return
	}
	if n := len(t.rows); n > 0 && t.present[n-1] && t.rows[n-1].created() > row.created() {
		t.ordered = false
	}
	t.slots[row.key()] = int32(len(t.rows))
	t.rows = append(t.rows, row)
	t.present = append(t.present, true)
}

// remove takes a resource out and remembers when.
func (t *table[T]) remove(id string, at int64) {
	slot, ok := t.slots[id]
	if !ok {
		return
	}
	t.listing.Store(nil)
	var none T
	t.rows[slot], t.present[slot] = none, false
	delete(t.slots, id)
	t.deleted[id] = at
	if t.holes++; t.holes > 64 && t.holes > len(t.rows)/2 {
		t.compact()
	}
}

func (t *table[T]) compact() {
	rows := make([]T, 0, len(t.slots))
	for i, row := range t.rows {
		if t.present[i] {
			t.slots[row.key()] = int32(len(rows))
			rows = append(rows, row)
		}
	}
	t.rows, t.holes = rows, 0
	t.present = slices.Repeat([]bool{true}, len(rows))
}

// all are the resources in order of creation. The slice is shared: concurrent
// readers may each make it, no one may write to it.
func (t *table[T]) all() []T {
	if l := t.listing.Load(); l != nil {
		return *l
	}
	rows := make([]T, 0, len(t.slots))
	for i, row := range t.rows {
		if t.present[i] {
			rows = append(rows, row)
		}
	}
	if !t.ordered {
		slices.SortStableFunc(rows, func(a, b T) int { return cmp.Compare(a.created(), b.created()) })
	}
	t.listing.Store(&rows)
	return rows
}

// pick is any resource, the zero T where there are none. Half of the rows are
// present at least, or there are few.
func (t *table[T]) pick(r *rand.Rand) (row T) {
	if len(t.slots) == 0 {
		return row
	}
	for {
		if i := r.IntN(len(t.rows)); t.present[i] {
			return t.rows[i]
		}
	}
}

// in are the resources of these ids.
func (t *table[T]) in(ids []string) []T {
	rows := make([]T, 0, len(ids))
	for _, id := range ids {
		rows = append(rows, t.get(id))
	}
	return rows
}

// index leads from a parent's id to its children's, in order of creation.
type index map[string][]string

func (x index) add(parent, id string) { x[parent] = append(x[parent], id) }

func (x index) remove(parent, id string) {
	ids := x[parent]
	if i := slices.Index(ids, id); i >= 0 {
		ids = slices.Delete(ids, i, i+1)
	}
	if len(ids) == 0 {
		delete(x, parent)
		return
	}
	x[parent] = ids
}

func (u *User) key() string                   { return u.ID }
func (o *Organization) key() string           { return o.ID }
func (m *OrganizationMembership) key() string { return m.ID }
func (i *OrganizationInvitation) key() string { return i.ID }
func (d *OrganizationDomain) key() string     { return d.ID }
func (r *Role) key() string                   { return r.ID }
func (p *Permission) key() string             { return p.ID }
func (s *Session) key() string                { return s.ID }
func (i *Invitation) key() string             { return i.ID }
func (w *WaitlistEntry) key() string          { return w.ID }
func (s *Subscription) key() string           { return s.ID }
func (i *SubscriptionItem) key() string       { return i.ID }
func (p *PaymentAttempt) key() string         { return p.ID }

func (u *User) created() int64                   { return u.CreatedAt }
func (o *Organization) created() int64           { return o.CreatedAt }
func (m *OrganizationMembership) created() int64 { return m.CreatedAt }
func (i *OrganizationInvitation) created() int64 { return i.CreatedAt }
func (d *OrganizationDomain) created() int64     { return d.CreatedAt }
func (r *Role) created() int64                   { return r.CreatedAt }
func (p *Permission) created() int64             { return p.CreatedAt }
func (s *Session) created() int64                { return s.CreatedAt }
func (i *Invitation) created() int64             { return i.CreatedAt }
func (w *WaitlistEntry) created() int64          { return w.CreatedAt }
func (s *Subscription) created() int64           { return s.CreatedAt }
func (i *SubscriptionItem) created() int64       { return i.CreatedAt }
func (p *PaymentAttempt) created() int64         { return p.CreatedAt }
