package reconcile

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"

	"github.com/rollcall-dev/rollcall/internal/backfill"
	"github.com/rollcall-dev/rollcall/internal/publish"
	"github.com/rollcall-dev/rollcall/internal/rawjson"
	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/streams"
)

const (
	mostWaiting = 5_000 // rows that wait for their second look: as many objects are in memory
	publishing  = 256   // messages on their way to the log at one time
	retryPause  = 200 * time.Millisecond
)

// page is what differed of a page of a list, at the first look.
type page struct {
	table  string
	at     time.Time // Clerk's clock, when it was read
	unsaid []string  // columns that the list leaves out
	due    time.Time // of the second look
	rows   []*suspect
}

// suspect is a row that differs in some stores.
type suspect struct {
	id      string
	changed int64 // by Clerk, milliseconds since 1970
	unheard bool  // counted among the changes that no webhook told
	message *nats.Msg
	stores  []*store.Store
}

// compare takes a first look at the rows of a page.
func (r *run) compare(ctx context.Context, table string, rows []backfill.Row, at time.Time) error {
	said := map[string][]backfill.Row{}
	for _, row := range rows {
		unsaid := backfill.Unsaid(table, row)
		said[unsaid] = append(said[unsaid], row)
	}
	for unsaid, some := range said {
		if err := r.compareAlike(ctx, &page{table: table, at: at, unsaid: []string{unsaid}}, some); err != nil {
			return err
		}
	}
	for _, s := range r.holding(table) {
		r.result(s, table).Compared += int64(len(rows))
	}
	r.compared += int64(len(rows))
	r.Progress(table, r.compared, max(r.total, r.compared))
	if r.waiting >= mostWaiting {
		return r.settle(ctx)
	}
	return nil
}

func (r *run) compareAlike(ctx context.Context, p *page, rows []backfill.Row) error {
	all := map[string]*suspect{}
	for _, row := range rows {
		m, err := r.origin.Snapshot(p.table, row, p.at)
		if err != nil {
			return err
		}
		changed, _ := rawjson.Int(rawjson.Member(row.Data, "updated_at"))
		s := &suspect{id: row.ID, changed: changed, message: m}
		all[row.ID] = s
		p.rows = append(p.rows, s)
	}
	for _, s := range r.holding(p.table) {
		differences, rejected, err := p.differences(ctx, s, p.rows)
		if err != nil {
			return err
		}
		if rejected != nil {
			r.result(s, p.table).Left = rejected.Error()
		}
		for _, d := range differences {
			all[d.ID].stores = append(all[d.ID].stores, s)
		}
	}
	p.rows = slices.DeleteFunc(p.rows, func(s *suspect) bool { return len(s.stores) == 0 })
	if len(p.rows) > 0 {
		p.due = time.Now().Add(r.Grace)
		r.suspects, r.waiting = append(r.suspects, p), r.waiting+len(p.rows)
	}
	return nil
}

// differences asks a store about some of the page's rows.
func (p *page) differences(ctx context.Context, s *store.Store, rows []*suspect) (list []store.Difference, rejected, err error) {
	snapshots := make([]streams.Message, len(rows))
	for i, row := range rows {
		snapshots[i] = streams.Message{Subject: row.message.Subject, Header: row.message.Header, Data: row.message.Data}
	}
	return s.Differences(ctx, p.table, snapshots, p.at, p.unsaid)
}

// settle takes the second look at all rows that wait for it, mends what still
// differs, and takes a third.
func (r *run) settle(ctx context.Context) error {
	if len(r.suspects) == 0 {
		return nil
	}
	pages := r.suspects
	r.suspects, r.waiting = nil, 0
	if err := r.pause(ctx, time.Until(pages[len(pages)-1].due)); err != nil {
		return err
	}
	if err := r.caughtUp(ctx); err != nil {
		return err
	}
	var drifts []drift
	for _, p := range pages {
		more, err := r.secondLook(ctx, p)
		if err != nil {
			return err
		}
		drifts = append(drifts, more...)
	}
	if !r.Repair || len(drifts) == 0 {
		return nil
	}
	var messages []*nats.Msg
	once := map[*suspect]bool{} // several stores may lack it
	for _, d := range drifts {
		if !once[d.row] {
			once[d.row], messages = true, append(messages, d.row.message)
		}
	}
	if err := r.publishAll(ctx, messages); err != nil {
		return err
	}
	if err := r.caughtUp(ctx); err != nil {
		return err
	}
	return r.thirdLook(ctx, drifts)
}

// drift is a row that differed at the second look too.
type drift struct {
	page  *page
	row   *suspect
	store *store.Store
	kind  string
	at    int // in the report
}

func (r *run) secondLook(ctx context.Context, p *page) (drifts []drift, err error) {
	for _, s := range r.holding(p.table) {
		rows := slices.DeleteFunc(slices.Clone(p.rows), func(row *suspect) bool { return !slices.Contains(row.stores, s) })
		differences, _, err := p.differences(ctx, s, rows)
		if err != nil {
			return nil, err
		}
		for _, d := range differences {
			kind := Stale
			if d.Columns == nil {
				kind = Missing
			}
			row := rows[slices.IndexFunc(rows, func(row *suspect) bool { return row.id == d.ID })]
			if !row.unheard { // by another store
				row.unheard, r.unheard = true, append(r.unheard, row.changed)
			}
			drifts = append(drifts, drift{p, row, s, kind, r.found(s, p.table, kind, d.ID, d.Columns)})
		}
	}
	return drifts, nil
}

// thirdLook finds out what was mended.
func (r *run) thirdLook(ctx context.Context, drifts []drift) error {
	type question struct {
		page  *page
		store *store.Store
	}
	asked := map[question][]drift{}
	for _, d := range drifts {
		q := question{d.page, d.store}
		asked[q] = append(asked[q], d)
	}
	for q, some := range asked {
		rows := make([]*suspect, len(some))
		for i, d := range some {
			rows[i] = d.row
		}
		differences, _, err := q.page.differences(ctx, q.store, rows)
		if err != nil {
			return err
		}
		for _, d := range some {
			if !slices.ContainsFunc(differences, func(left store.Difference) bool { return left.ID == d.row.id }) {
				r.mended(q.store, q.page.table, d.kind, d.at)
			}
		}
	}
	return nil
}

// caughtUp waits until the stores have applied all that the log holds now. Its
// error names one that doesn't move.
func (r *run) caughtUp(ctx context.Context) error {
	stream, err := r.JetStream.Stream(ctx, r.Names.Stream())
	if err != nil {
		return fmt.Errorf("stream %s: %w", r.Names.Stream(), err)
	}
	info := stream.CachedInfo()
	for _, s := range r.Stores {
		if err := r.follows(ctx, s, info.Created.UnixNano(), info.State.LastSeq); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) follows(ctx context.Context, s *store.Store, epoch int64, end uint64) error {
	var last streams.Position
	moved := time.Now()
	for wait := 5 * time.Millisecond; ; wait = min(2*wait, 250*time.Millisecond) {
		at, filling, err := s.Progress(ctx)
		switch {
		case err != nil && !errors.Is(err, store.ErrNotThere):
			return err
		case err == nil && (at.Epoch == epoch && at.Sequence >= end || end == 0) && len(filling) == 0: // of an empty log there is no position
			return nil
		case at != last:
			last, moved = at, time.Now()
		case time.Since(moved) > r.stuckAfter && len(filling) > 0:
			return fmt.Errorf("%s is still filling %v, and can't be compared before: is it running?", s.Name(), filling)
		case time.Since(moved) > r.stuckAfter:
			return fmt.Errorf("%s stands at %d of the log's %d and has not moved for %s: is it running? Its /readyz says what holds it", s.Name(), at.Sequence, end, r.stuckAfter)
		}
		if time.Since(moved) > 2*time.Second {
			r.Trouble(fmt.Errorf("%s stands at %d of the log's %d", s.Name(), at.Sequence, end))
		}
		if err := r.pause(ctx, wait); err != nil {
			return err
		}
	}
}

func (r *run) publishAll(ctx context.Context, messages []*nats.Msg) error {
	g, sending := errgroup.WithContext(ctx)
	g.SetLimit(publishing)
	for _, m := range messages {
		if sending.Err() != nil {
			break
		}
		g.Go(func() error { return r.publish(sending, m) })
	}
	return cmp.Or(g.Wait(), ctx.Err())
}

// publish tries again until it is stored, unless nothing can help.
func (r *run) publish(ctx context.Context, m *nats.Msg) error {
	for {
		_, err := r.Publisher.Publish(publish.Message{Msg: m})
		if err == nil {
			return nil
		}
		if !errors.Is(err, publish.ErrUnavailable) {
			return fmt.Errorf("publish on %s: %w", m.Subject, err)
		}
		r.Trouble(err)
		if r.pause(ctx, retryPause) != nil {
			return fmt.Errorf("publish on %s: %w", m.Subject, err)
		}
	}
}

// event makes a message of the log, with Clerk's clock as its time.
func (r *run) event(s streams.Subject, at time.Time, data any, id string) (*nats.Msg, error) {
	body, err := json.Marshal(map[string]any{"type": s.Type(), "object": "event", "timestamp": at.UnixMilli(), "instance_id": r.instanceID, "data": data})
	if err != nil {
		return nil, err
	}
	if len(streams.Token(s.EntityID)) > streams.MaxToken {
		return nil, fmt.Errorf("an id of %d bytes", len(s.EntityID))
	}
	return &nats.Msg{Subject: r.Names.Subject(s), Data: body, Header: nats.Header{
		streams.HeaderMsgID:      {id},
		streams.HeaderSource:     {string(streams.SourceReconcile)},
		streams.HeaderReceivedAt: {strconv.FormatInt(r.Now().UnixMilli(), 10)},
	}}, nil
}
