package backfill

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"

	"github.com/rollcall-dev/rollcall/internal/clerk/backend"
	"github.com/rollcall-dev/rollcall/internal/publish"
	"github.com/rollcall-dev/rollcall/streams"
)

const (
	// A walk is worth its own requests, one or two to find where it begins and one for
	// its last page, from so many pages on.
	pagesAWalk = 20
	mostWalks  = 16 // requests at one time
)

// resource fetches one resource, or what is left of it.
func (r *run) resource(ctx context.Context, i int) error {
	var p progress
	r.see(func(s *state) { p = *s.Resources[i]; p.Walks = slices.Clone(p.Walks) })
	if p.done() {
		return nil
	}
	res := resourceOf(p.Table)
	if !p.Planned {
		walks, err := r.plan(ctx, res, p.Total)
		if err != nil {
			return fmt.Errorf("%s: %w", p.Table, err)
		}
		p.Planned, p.Walks = true, walks
		r.change(func(s *state) { s.Resources[i].Planned, s.Resources[i].Walks = true, slices.Clone(walks) })
	}
	t := &walks{run: r, resource: res, index: i, begun: make([]chan struct{}, len(p.Walks))}
	for j := range t.begun {
		t.begun[j] = make(chan struct{})
	}
	g, ctx := errgroup.WithContext(ctx)
	for j := range p.Walks {
		g.Go(func() error { return t.walk(ctx, j, p.Walks[j]) })
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("%s: %w", p.Table, err)
	}
	return nil
}

// plan shares a list out among walks.
func (r *run) plan(ctx context.Context, res *resource, total int64) ([]walk, error) {
	n := min(max(total/(pagesAWalk*backend.MaxPage), 1), mostWalks)
	if !res.byCreation {
		all := make([]walk, n)
		for i := range all {
			all[i].Offset = int(total * int64(i) / n)
		}
		return all, nil
	}
	// Creation times that part the list evenly: those of the rows at the borders.
	borders := make([]int64, n)
	g, ctx := errgroup.WithContext(ctx)
	for i := range borders[1:] {
		g.Go(func() error {
			p, err := r.Client.List(ctx, res.path, res.parameters(0, 0, int(total*int64(i+1)/n), 1))
			if err != nil || len(p.Rows) == 0 {
				return err
			}
			rows, err := parse(res.path, p.Rows)
			if err == nil {
				borders[i+1] = rows[0].created
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	slices.Sort(borders) // deletions may have moved them
	borders = slices.Compact(borders)
	all := make([]walk, len(borders))
	for i := range all {
		all[i].From = borders[i]
		if i+1 < len(all) {
			all[i].To = borders[i+1]
		} // the last is open: who signs up meanwhile is in it
	}
	return all, nil
}

// walks are those of one resource that are under way.
type walks struct {
	*run
	*resource
	index int             // of the resource in the state
	begun []chan struct{} // closed once a walk's first rows are known
}

func (t *walks) walk(ctx context.Context, j int, w walk) error {
	if w.Begun {
		close(t.begun[j])
	}
	for !w.Done {
		began := w.Begun
		p, err := w.read(ctx, t.Client, t.resource, backend.MaxPage)
		if err != nil {
			return err
		}
		if !began { // before it is in the log: the walk before waits for it
			t.change(func(s *state) { s.Resources[t.index].Walks[j].Head = p.next.Head })
			close(t.begun[j])
		}
		if !t.byCreation {
			later, err := t.later(ctx, j)
			if err != nil {
				return err
			}
			p.until(later)
		}
		if err := t.page(ctx, j, p); err != nil {
			return err
		}
		w = p.next
	}
	return nil
}

// later are the walks behind one, once the next has begun.
func (t *walks) later(ctx context.Context, j int) (later []walk, err error) {
	if j+1 < len(t.begun) {
		select {
		case <-t.begun[j+1]:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	t.see(func(s *state) { later = slices.Clone(s.Resources[t.index].Walks[j+1:]) })
	return later, nil
}

// page puts a page into the log, and notes that it is there. It is finished
// within a grace once the context has ended.
func (t *walks) page(ctx context.Context, j int, p *page) error {
	hand, release := inHand(ctx)
	defer release()
	counts, err := t.compare(hand, p.rows)
	uncompared := err != nil // a store in trouble holds nothing up: the log is what is to be filled
	if err := t.publishAll(hand, p); err != nil {
		return err
	}
	var done, total int64
	t.change(func(s *state) {
		now := s.Resources[t.index]
		now.Walks[j] = p.next
		now.Uncompared = now.Uncompared || uncompared
		now.Fetched += counts.Fetched
		now.New += counts.New
		now.Newer += counts.Newer
		now.Same += counts.Same
		for _, each := range s.Resources {
			done += each.Fetched
			total += max(each.Total, each.Fetched)
		}
	})
	t.Progress(t.table, done, total)
	return nil
}

// inHand outlives a context by a grace.
func inHand(ctx context.Context) (context.Context, context.CancelFunc) {
	hand, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		select {
		case <-hand.Done():
		case <-time.After(graceOfStop):
			cancel()
		}
	})
	return hand, func() { stop(); cancel() }
}

// compare counts what the rows are to the store, before they reach it.
func (t *walks) compare(ctx context.Context, rows []Row) (Counts, error) {
	counts := Counts{Fetched: int64(len(rows))}
	store := t.storeOf(t.table)
	if store == nil || len(rows) == 0 {
		return counts, nil
	}
	kept, err := store.UpdatedAt(ctx, t.table, ids(rows))
	if err != nil {
		return counts, err
	}
	for _, r := range rows {
		at, there := kept[r.ID]
		switch {
		case !there:
			counts.New++
		case r.updated() > at:
			counts.Newer++
		default:
			counts.Same++
		}
	}
	return counts, nil
}

func (t *walks) publishAll(ctx context.Context, p *page) error {
	if t.Erased != nil {
		if err := t.Erased.Wait(ctx); err != nil {
			return err
		}
	}
	var run string
	t.see(func(s *state) { run = s.Run })
	g, ctx := errgroup.WithContext(ctx)
	for _, r := range p.rows {
		select {
		case t.slots <- struct{}{}:
		case <-ctx.Done():
			return errors.Join(ctx.Err(), g.Wait())
		}
		g.Go(func() error {
			defer func() { <-t.slots }()
			m, err := t.snapshot(run, t.resource, r, p.At)
			if err != nil {
				return err
			}
			return t.publish(ctx, publish.Message{Msg: m})
		})
	}
	return g.Wait()
}

// snapshot makes the message of an object as Clerk had it at a time.
func (r *run) snapshot(run string, res *resource, o Row, at time.Time) (*nats.Msg, error) {
	origin := Origin{Names: r.Names, InstanceID: r.instanceID, Run: run, Source: streams.SourceBackfill, Erased: r.Erased, Now: r.Now}
	return origin.Snapshot(res.table, o, at)
}

// publish tries again until it is stored, unless nothing can help.
func (r *run) publish(ctx context.Context, m publish.Message) error {
	for {
		_, err := r.Publisher.Publish(m)
		if err == nil {
			return nil
		}
		if !errors.Is(err, publish.ErrUnavailable) {
			return fmt.Errorf("publish on %s: %w", m.Subject, err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("publish on %s: %w", m.Subject, err)
		case <-time.After(retryPause):
		}
	}
}

const retryPause = 200 * time.Millisecond
