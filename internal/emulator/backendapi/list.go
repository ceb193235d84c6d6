package backendapi

import (
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

// orders are the fields that a list can be ordered by, each with its
// comparison; nil is the order of creation.
type orders[T any] map[string]func(a, b T) int

// An order is one of them, and a direction.
type order[T any] struct {
	compare func(a, b T) int
	desc    bool
}

// readOrder reads order_by, the newest first if it isn't there. No sign means
// ascending; a + that wasn't escaped arrives as a space.
func readOrder[T any](q *query, fields orders[T]) order[T] {
	v := q.text("order_by")
	if v == "" {
		v = "-created_at"
	}
	compare, ok := fields[strings.TrimLeft(v, "+- ")]
	if !ok {
		q.reject(formValue("order_by", v, slices.Sorted(maps.Keys(fields))...))
	}
	return order[T]{compare: compare, desc: strings.HasPrefix(v, "-")}
}

// newestFirst is the order of lists that know no other.
func newestFirst[T any]() order[T] { return order[T]{desc: true} }

// apply returns the list in the order; equals stay in that of creation, in
// the same direction.
func (o order[T]) apply(all []T) []T {
	sorted := slices.Clone(all)
	if o.compare != nil {
		slices.SortStableFunc(sorted, o.compare)
	}
	if o.desc {
		slices.Reverse(sorted)
	}
	return sorted
}

// cut returns a page's part of a list.
func cut[T any](all []T, p page) []T {
	if p.offset >= len(all) {
		return nil
	}
	return all[p.offset:min(p.offset+p.limit, len(all))]
}

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
func paged[T any](r *request, all []T, p page) listed {
	return listed{Data: views(r, cut(all, p)), TotalCount: len(all)}
}

// maybePaged renders a page of a list that is a bare array unless the request
// has paginated=true.
func maybePaged[T any](r *request, q *query, all []T, p page) (any, error) {
	paginated, _ := q.boolean("paginated")
	if err := q.err(); err != nil {
		return nil, err
	}
	if paginated {
		return paged(r, all, p), nil
	}
	return views(r, cut(all, p)), nil
}

// deleted is the answer to most deletions.
type deleted struct {
	Object     string `json:"object"`
	ID         string `json:"id"`
	Slug       string `json:"slug,omitempty"`
	ExternalID string `json:"external_id,omitempty"`
	Deleted    bool   `json:"deleted"`
}
