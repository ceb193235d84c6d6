package reconcile

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// window is the time over which deletions are counted.
const window = 24 * time.Hour

// Bound is how much of a resource may be deleted within 24 hours without anybody
// being asked: so a key that sees nothing, or a list that loses a little every
// hour, empties no table.
type Bound struct {
	Resource string
	Wanted   int64 // to be deleted now
	Deleted  int64 // within 24 hours
	Living   int64 // rows, of the store that has most
}

// Allowed is how many more may go now.
func (b Bound) Allowed() int64 { return max(allowance(b.Living+b.Deleted)-b.Deleted, 0) }

// allowance is 5%, or 10 rows where that is more.
func allowance(rows int64) int64 { return max(rows/20, 10) }

func (b Bound) String() string {
	already := ""
	if b.Deleted > 0 {
		already = fmt.Sprintf(" and %d were deleted within 24 hours", b.Deleted)
	}
	return fmt.Sprintf("Clerk no longer has %d of %d%s: more than 5%% and 10 rows, so none was deleted; if that is right, run it with --repair --confirm-deletes", b.Wanted, b.Living, already)
}

// confirmed asks once whether more may be deleted.
func (r *run) confirmed(b Bound) bool {
	if !r.insisted[b.Resource] && r.Repair && r.Confirm != nil {
		r.insisted[b.Resource] = r.Confirm(b)
	}
	return r.insisted[b.Resource]
}

// deletion is how many rows went at a time.
type deletions struct {
	At int64 `json:"at"` // our clock, milliseconds since 1970
	N  int64 `json:"n"`
}

// bound counts what has been deleted within the window.
func (r *run) bound(ctx context.Context, table string) (Bound, error) {
	b := Bound{Resource: table}
	for _, s := range r.holding(table) {
		n, err := s.CountLiving(ctx, table, r.instanceID)
		if err != nil {
			return b, err
		}
		b.Living = max(b.Living, n)
	}
	for _, d := range r.state.Deleted[table] {
		if r.Now().UnixMilli()-d.At < window.Milliseconds() {
			b.Deleted += d.N
		}
	}
	return b, nil
}

// reserve counts deletions before they are published: a crash in between counts
// them twice rather than not at all.
func (r *run) reserve(ctx context.Context, table string, n int64) error {
	now := r.Now().UnixMilli()
	if r.state.Deleted == nil {
		r.state.Deleted = map[string][]deletions{}
	}
	recent := slices.DeleteFunc(r.state.Deleted[table], func(d deletions) bool { return now-d.At >= window.Milliseconds() })
	r.state.Deleted[table] = append(recent, deletions{now, n})
	return r.save(ctx)
}
