package backendapi

import (
	"cmp"
	"container/heap"
	"maps"
	"slices"
	"strings"
)

// Lists come from state in order of creation and aren't ours to change.

// where returns what a list has that keep wants, in the list's order.
func where[T any](all []T, keep func(T) bool) []T {
	var some []T
	for _, v := range all {
		if keep(v) {
			some = append(some, v)
		}
	}
	return some
}

// A sortKey is what one field of a resource is ordered by, a text or a number.
type sortKey struct {
	text   string
	number int64
}

// orders are the fields that a list can be ordered by, each with the key of a
// resource; nil is the order of creation.
type orders[T any] map[string]func(T) sortKey

// An order is one of them, and a direction.
type order[T any] struct {
	key  func(T) sortKey
	desc bool
}

// readOrder reads order_by, the newest first if it isn't there. No sign means
// ascending; a + that wasn't escaped arrives as a space.
func readOrder[T any](q *query, fields orders[T]) order[T] {
	v := q.text("order_by")
	if v == "" {
		v = "-created_at"
	}
	key, ok := fields[strings.TrimLeft(v, "+- ")]
	if !ok {
		q.reject(formValue("order_by", v, slices.Sorted(maps.Keys(fields))...))
	}
	return order[T]{key: key, desc: strings.HasPrefix(v, "-")}
}

// newestFirst is the order of lists that know no other.
func newestFirst[T any]() order[T] { return order[T]{desc: true} }

// cut returns a page of the list in the order. Equals stay in that of creation,
// in the same direction.
func (o order[T]) cut(all []T, p page) []T {
	if p.offset >= len(all) {
		return nil
	}
	end := min(p.offset+p.limit, len(all))
	if o.key != nil {
		return o.sorted(all, end)[p.offset:]
	}
	if !o.desc {
		return all[p.offset:end]
	}
	some := slices.Clone(all[len(all)-end : len(all)-p.offset])
	slices.Reverse(some)
	return some
}

// sorted returns the first n by the key. A key is looked up once, and a page is
// mostly a small part of a long list, so the rest of it is never sorted.
func (o order[T]) sorted(all []T, n int) []T {
	first := ranking{desc: o.desc, ranks: make([]rank, 0, n)}
	for i, v := range all {
		first.offer(rank{o.key(v), i}, n)
	}
	slices.SortFunc(first.ranks, first.compare)
	some := make([]T, len(first.ranks))
	for i, r := range first.ranks {
		some[i] = all[r.place]
	}
	return some
}

// A rank is a resource's key and its place in the order of creation.
type rank struct {
	key   sortKey
	place int
}

// A ranking is a heap of the first ranks met, the last of them on top.
type ranking struct {
	desc  bool
	ranks []rank
}

func (r *ranking) compare(a, b rank) int {
	c := cmp.Or(cmp.Compare(a.key.number, b.key.number), cmp.Compare(a.key.text, b.key.text), cmp.Compare(a.place, b.place))
	if r.desc {
		return -c
	}
	return c
}

// offer keeps a rank if it is among the first n.
func (r *ranking) offer(one rank, n int) {
	switch {
	case len(r.ranks) < n:
		heap.Push(r, one)
	case r.compare(one, r.ranks[0]) < 0:
		r.ranks[0] = one
		heap.Fix(r, 0)
	}
}

func (r *ranking) Len() int           { return len(r.ranks) }
func (r *ranking) Less(i, j int) bool { return r.compare(r.ranks[i], r.ranks[j]) > 0 }
func (r *ranking) Swap(i, j int)      { r.ranks[i], r.ranks[j] = r.ranks[j], r.ranks[i] }
func (r *ranking) Push(one any)       { r.ranks = append(r.ranks, one.(rank)) }
func (r *ranking) Pop() any           { panic("nothing is taken out") }

// listed is a list with its length before paging, as most of Clerk's lists are.
type listed struct {
	Data       []any `json:"data"`
	TotalCount int   `json:"total_count"`
}

// views renders a list; never as null, as Clerk doesn't.
func views[T any](r *request, all []T) []any {
	rendered := make([]any, len(all))
	for i, v := range all {
		rendered[i] = r.inst.View(v)
	}
	return rendered
}

// paged renders a page of a list.
func paged[T any](r *request, all []T, o order[T], p page) listed {
	return listed{Data: views(r, o.cut(all, p)), TotalCount: len(all)}
}

// maybePaged renders a page of a list that is a bare array unless the request
// has paginated=true.
func maybePaged[T any](r *request, q *query, all []T, o order[T], p page) (any, error) {
	paginated, _ := q.boolean("paginated")
	if err := q.err(); err != nil {
		return nil, err
	}
	if paginated {
		return paged(r, all, o, p), nil
	}
	return views(r, o.cut(all, p)), nil
}

// deleted is the answer to most deletions.
type deleted struct {
	Object     string `json:"object"`
	ID         string `json:"id"`
	Slug       string `json:"slug,omitempty"`
	ExternalID string `json:"external_id,omitempty"`
	Deleted    bool   `json:"deleted"`
}
