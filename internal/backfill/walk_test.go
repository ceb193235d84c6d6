package backfill

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"github.com/rollcall-dev/rollcall/internal/clerk/backend"
)

// listOf is a list as Clerk serves it, in order of creation, that changes between
// pages.
type listOf struct {
	rows   []Row
	users  bool
	change func()
}

func (l *listOf) List(_ context.Context, _ string, query url.Values) (backend.Page, error) {
	l.change()
	number := func(name string) int64 { n, _ := strconv.ParseInt(query.Get(name), 10, 64); return n }
	var found []json.RawMessage
	for _, r := range l.rows {
		if after, before := number("created_at_after"), number("created_at_before"); r.created > after && (before == 0 || r.created < before) {
			found = append(found, json.RawMessage(fmt.Sprintf(`{"id":%q,"created_at":%d}`, r.ID, r.created)))
		}
	}
	from := min(int(number("offset")), len(found))
	p := backend.Page{Total: int64(len(found)), Rows: found[from:min(from+int(number("limit")), len(found))]}
	if l.users {
		p.Total = -1
	}
	return p, nil
}

// Whatever is deleted and made between the pages of however many walks, each row
// that was there all the time is read, and none twice but where walks meet.
func TestWalksSkipNothing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		l := &listOf{users: rapid.Bool().Draw(t, "users")}
		const size = 2*overlap + 5
		made, at := 0, int64(1000)
		add := func() {
			at += rapid.Int64Range(0, 1).Draw(t, "later")
			l.rows = append(l.rows, Row{ID: fmt.Sprintf("r%05d", made), created: at})
			made++
		}
		for range rapid.IntRange(0, 300).Draw(t, "rows") {
			add()
		}
		stays := map[string]bool{}
		for _, r := range l.rows {
			stays[r.ID] = true
		}
		l.change = func() {
			if len(l.rows) > 0 && rapid.IntRange(0, 2).Draw(t, "deletes") == 0 {
				from := rapid.IntRange(0, len(l.rows)-1).Draw(t, "from")
				to := min(len(l.rows), from+rapid.IntRange(1, 40).Draw(t, "many"))
				for _, r := range l.rows[from:to] {
					delete(stays, r.ID)
				}
				l.rows = slices.Delete(slices.Clone(l.rows), from, to)
			}
			for range rapid.IntRange(0, 3).Draw(t, "inserts") {
				add()
			}
		}
		res := &resource{path: "/rows", byCreation: l.users}
		all := walksOver(l, rapid.IntRange(1, 4).Draw(t, "walks"))
		read := map[string]int{}
		for slices.ContainsFunc(all, func(w walk) bool { return !w.Done }) {
			var open []int
			for j, w := range all {
				if !w.Done && (l.users || w.Begun || j+1 == len(all) || all[j+1].Begun) { // a walk waits for the next
					open = append(open, j)
				}
			}
			j := rapid.SampledFrom(open).Draw(t, "walk")
			p, err := all[j].read(context.Background(), l, res, size)
			if err != nil {
				t.Fatal(err)
			}
			if !l.users {
				p.until(all[j+1:])
			}
			for _, r := range p.rows {
				read[r.ID]++
			}
			all[j] = p.next
			if len(read) > made {
				t.Fatal("rows out of nothing")
			}
		}
		for id := range stays {
			if read[id] == 0 {
				t.Fatalf("%s was there all the time, and wasn't read", id)
			}
		}
	})
}

func walksOver(l *listOf, n int) []walk {
	all := make([]walk, n)
	for i := range all {
		if border := len(l.rows) * i / n; !l.users {
			all[i].Offset = border
		} else if i > 0 && border < len(l.rows) {
			all[i].From = l.rows[border].created
			all[i-1].To = all[i].From
		} else if i > 0 {
			all[i].Done = true
		}
	}
	return all
}
