package backfill

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"

	"github.com/rollcall-dev/rollcall/internal/clerk/backend"
	"github.com/rollcall-dev/rollcall/internal/rawjson"
)

// overlap is how many rows are read twice between two pages: as many may be
// deleted in between before a step back is needed to see that none was skipped.
const overlap = 10

// walk is a pass over a part of a list, oldest rows first. Rows that are deleted
// meanwhile shift those behind them, so a page counts only if it shows one of
// the last rows read again: then what stands behind that one is all that there
// is. A page that doesn't is read anew from further back.
//
// Of users a part is a range of creation times. From moves on with what was
// read, so that Offset counts only those made in that same millisecond. Of other
// lists it is what stands from Offset on, up to where the next walk began.
type walk struct {
	From   int64    `json:"from,omitempty"` // milliseconds since 1970; 0 is open
	To     int64    `json:"to,omitempty"`   // the first millisecond beyond; 0 is open
	Offset int      `json:"offset"`         // from From, of the first row that wasn't read
	Tail   []string `json:"tail,omitempty"` // ids of the last rows read, oldest first; none before the first page
	Head   []string `json:"head,omitempty"` // ids of the first rows read: the walk before ends there
	Begun  bool     `json:"begun,omitempty"`
	Done   bool     `json:"done,omitempty"`
}

// Row is one object of a list, as Clerk sent it.
type Row struct {
	ID      string
	Data    json.RawMessage
	created int64 // milliseconds since 1970
}

func (r Row) updated() int64 {
	at, _ := rawjson.Int(rawjson.Member(r.Data, "updated_at"))
	return at
}

func parse(path string, rows []json.RawMessage) ([]Row, error) {
	parsed := make([]Row, len(rows))
	for i, data := range rows {
		r := Row{Data: data}
		rawjson.Members(data, func(key, value []byte) {
			switch string(key) {
			case "id":
				r.ID, _ = rawjson.Text(value)
			case "created_at":
				r.created, _ = rawjson.Int(value)
			}
		})
		if r.ID == "" {
			return nil, fmt.Errorf("GET /v1%s lists an object without id", path)
		}
		parsed[i] = r
	}
	return parsed, nil
}

// page is what a walk reads at one time.
type page struct {
	backend.Page
	rows []Row // those not read before
	next walk  // the walk once they are in the log
}

// lister is the client, as a walk needs it.
type lister interface {
	List(ctx context.Context, path string, query url.Values) (backend.Page, error)
}

// read reads the next page. It leaves the walk as it is.
func (w walk) read(ctx context.Context, c lister, r *resource, size int) (*page, error) {
	for back := overlap; ; back *= 2 {
		start := w.Offset
		if len(w.Tail) > 0 {
			start = max(0, w.Offset-back)
		}
		listed, err := c.List(ctx, r.path, r.parameters(w.From, w.To, start, size))
		if err != nil {
			return nil, err
		}
		rows, err := parse(r.path, listed.Rows)
		if err != nil {
			return nil, err
		}
		known := lastOf(rows, w.Tail) + 1
		if known == 0 && start > 0 && len(w.Tail) > 0 {
			continue // more were deleted than overlap
		}
		p := &page{Page: listed, rows: rows[known:], next: w}
		p.next.advance(rows, start, r.byCreation)
		p.next.Done = ended(listed, start, size)
		return p, nil
	}
}

// lastOf is where the last row stands whose id is among some, -1 if none is.
func lastOf(rows []Row, ids []string) int {
	for i := len(rows) - 1; i >= 0; i-- {
		if slices.Contains(ids, rows[i].ID) {
			return i
		}
	}
	return -1
}

// ended tells the last page of a list.
func ended(p backend.Page, start, size int) bool {
	if p.Total >= 0 {
		return len(p.Rows) == 0 || int64(start+len(p.Rows)) >= p.Total
	}
	return len(p.Rows) < size
}

// advance moves the walk behind a page.
func (w *walk) advance(rows []Row, start int, byCreation bool) {
	if !w.Begun && !byCreation {
		w.Head = ids(rows[:min(overlap, len(rows))])
	}
	w.Begun = true
	if len(rows) == 0 {
		return
	}
	w.Offset = start + len(rows)
	w.Tail = ids(rows[max(0, len(rows)-overlap):])
	if last := rows[len(rows)-1].created; byCreation && last > w.From {
		w.From, w.Offset = last, 0
		for i := len(rows) - 1; i >= 0 && rows[i].created == last; i-- {
			w.Offset++
		}
	}
}

func ids(rows []Row) []string {
	list := make([]string, len(rows))
	for i, r := range rows {
		list[i] = r.ID
	}
	return list
}

// until cuts a page where a later walk began.
func (p *page) until(later []walk) {
	for i, r := range p.rows {
		if slices.ContainsFunc(later, func(l walk) bool { return slices.Contains(l.Head, r.ID) }) {
			p.rows, p.next.Done = p.rows[:i], true
			return
		}
	}
}
