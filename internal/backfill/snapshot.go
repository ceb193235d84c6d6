package backfill

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rollcall-dev/rollcall/internal/clerk/backend"
	"github.com/rollcall-dev/rollcall/streams"
)

// Origin is where snapshots come from.
type Origin struct {
	Names      streams.Names
	InstanceID string
	Run        string // in the message ids: what it reads twice is stored once
	Source     streams.Source
	Erased     Erased           // nil: nobody
	Now        func() time.Time // ours, for Rollcall-Received-At alone
}

// Snapshot makes the message of an object as Clerk had it at a time. What is
// personal of who was erased isn't in it.
func (o Origin) Snapshot(table string, row Row, at time.Time) (*nats.Msg, error) {
	res := resourceOf(table)
	subject := streams.Subject{InstanceID: o.InstanceID, Resource: res.object(), Action: "snapshot", EntityID: row.ID}
	if len(streams.Token(row.ID)) > streams.MaxToken {
		return nil, fmt.Errorf("GET /v1%s lists an object with an id of %d bytes", res.path, len(row.ID))
	}
	body := make([]byte, 0, len(row.Data)+160)
	body = append(body, `{"type":"`+subject.Type()+`","object":"event","timestamp":`...)
	body = strconv.AppendInt(body, res.asOf(row, at).UnixMilli(), 10)
	body = append(body, `,"instance_id":`+strconv.Quote(o.InstanceID)+`,"data":`...)
	body = append(append(body, row.Data...), '}')
	m := &nats.Msg{Subject: o.Names.Subject(subject), Data: body, Header: nats.Header{
		streams.HeaderMsgID:      {"snap:" + o.Run + ":" + table + ":" + row.ID},
		streams.HeaderSource:     {string(o.Source)},
		streams.HeaderReceivedAt: {strconv.FormatInt(o.Now().UnixMilli(), 10)},
	}}
	if o.Erased != nil {
		var paths []string
		if m.Data, paths = o.Erased.Cut(body); paths != nil {
			m.Header.Set(streams.HeaderRedacted, strings.Join(paths, ","))
		}
	}
	return m, nil
}

// Unsaid is the column of a table that Clerk's list doesn't say of such a row,
// though an event did; "" where it says all.
func Unsaid(table string, row Row) string {
	if res := resourceOf(table); res.yieldsTo(row) {
		return res.unsaid
	}
	return ""
}

// Read reads a whole list, page by page, oldest first, however it changes
// meanwhile: each row that is there all the time is shown. What each returns ends
// it.
func Read(ctx context.Context, c *backend.Client, table string, each func(rows []Row, at time.Time) error) error {
	res, w := resourceOf(table), walk{}
	for !w.Done {
		p, err := w.read(ctx, c, res, backend.MaxPage)
		if err != nil {
			return err
		}
		if err := each(p.rows, p.At); err != nil {
			return err
		}
		w = p.next
	}
	return nil
}

// ReadChanged reads the rows of a list that Clerk changed at a time or later, in
// milliseconds since 1970, latest first; of lists that Clerk orders by creation
// alone those that it made since, and what else is on their pages. The total is
// that of the whole list.
func ReadChanged(ctx context.Context, c *backend.Client, table string, since int64, each func(rows []Row, at time.Time) error) (total int64, err error) {
	res, order := resourceOf(table), "-created_at"
	if res.byCreation {
		order = "-updated_at"
	}
	var before []string // ids of the last page, some of which are read again
	for offset := 0; ; offset += backend.MaxPage - overlap {
		q := res.parameters(0, 0, offset, backend.MaxPage)
		q.Set("order_by", order)
		p, err := c.List(ctx, res.path, q)
		if err != nil {
			return 0, err
		}
		rows, err := parse(res.path, p.Rows)
		if err != nil {
			return 0, err
		}
		fresh := slices.DeleteFunc(slices.Clone(rows), func(row Row) bool { return slices.Contains(before, row.ID) })
		if err := each(fresh, p.At); err != nil {
			return 0, err
		}
		before = ids(rows)
		if len(rows) < backend.MaxPage || res.latest(rows[len(rows)-1]) < since {
			return p.Total, nil
		}
	}
}

// latest is the time by which ReadChanged orders.
func (r *resource) latest(row Row) int64 {
	if r.byCreation {
		return row.updated()
	}
	return row.created
}

// Total is how many of a resource Clerk has.
func Total(ctx context.Context, c *backend.Client, table string) (int64, error) {
	res := resourceOf(table)
	if res.count != "" {
		return c.Count(ctx, res.count)
	}
	first, err := c.List(ctx, res.path, res.parameters(0, 0, 0, 1))
	return first.Total, err
}
