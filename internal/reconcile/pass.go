package reconcile

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"time"

	"github.com/rollcall-dev/rollcall/internal/backfill"
	"github.com/rollcall-dev/rollcall/internal/clerk/backend"
	"github.com/rollcall-dev/rollcall/internal/store"
)

// full compares every row, then looks for rows that no list showed. Of a row that
// was listed it remembers 8 bytes.
func (r *run) full(ctx context.Context) error {
	seed := maphash.MakeSeed()
	tables, totals, err := r.totals(ctx)
	if err != nil {
		return err
	}
	listed := map[string][]uint64{}
	for _, table := range tables {
		seen := make([]uint64, 0, totals[table])
		err := backfill.Read(ctx, r.Client, table, func(rows []backfill.Row, at time.Time) error {
			for _, row := range rows {
				seen = append(seen, maphash.String(seed, row.ID))
			}
			return r.compare(ctx, table, rows, at)
		})
		if err != nil {
			return fmt.Errorf("%s: %w", table, err)
		}
		slices.Sort(seen)
		listed[table] = slices.Compact(seen)
	}
	if err := r.settle(ctx); err != nil {
		return err
	}
	for _, table := range tables {
		seen := listed[table]
		if n := int64(len(seen)); n < totals[table]-allowance(totals[table]) {
			r.left(table, fmt.Sprintf("Clerk counts %d and lists %d: rows that it may have deleted were not looked for", totals[table], n))
			continue
		}
		err := r.extras(ctx, table, func(id string) bool {
			_, ok := slices.BinarySearch(seen, maphash.String(seed, id))
			return ok
		})
		if err != nil {
			return fmt.Errorf("%s: %w", table, err)
		}
	}
	return nil
}

// totals are Clerk's, of the resources that a store keeps and Clerk lists.
func (r *run) totals(ctx context.Context) (tables []string, totals map[string]int64, err error) {
	totals = map[string]int64{}
	for _, table := range r.tables() {
		n, err := backfill.Total(ctx, r.Client, table)
		if refused := (*backend.RefusedError)(nil); errors.As(err, &refused) {
			r.left(table, refused.Error())
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		tables, totals[table] = append(tables, table), n
		r.total += n
	}
	return tables, totals, nil
}

// tables are those that a store keeps and Clerk has a list of, parents first.
func (r *run) tables() []string {
	return slices.DeleteFunc(backfill.Resources(), func(table string) bool { return len(r.holding(table)) == 0 })
}

// left notes for all stores why something of a table was left alone.
func (r *run) left(table, why string) {
	for _, s := range r.holding(table) {
		r.result(s, table).Left = why
	}
}

// recent compares what Clerk has changed since the last pass, then the totals:
// one request for a list in which nothing has changed.
func (r *run) recent(ctx context.Context) error {
	var since int64
	if r.state.Since > 0 {
		since = r.state.Since - overlapOfSince.Milliseconds()
	}
	totals := map[string]int64{}
	for _, table := range r.tables() {
		n, err := backfill.ReadChanged(ctx, r.Client, table, since, func(rows []backfill.Row, at time.Time) error {
			return r.compare(ctx, table, rows, at)
		})
		if refused := (*backend.RefusedError)(nil); errors.As(err, &refused) {
			r.left(table, refused.Error())
			continue
		}
		if err == nil && n < 0 {
			n, err = backfill.Total(ctx, r.Client, table)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", table, err)
		}
		totals[table] = n
	}
	if err := r.settle(ctx); err != nil {
		return err
	}
	return r.countAll(ctx, totals)
}

// counts compares totals.
func (r *run) counts(ctx context.Context) error {
	tables, totals, err := r.totals(ctx)
	if err != nil {
		return err
	}
	for _, table := range tables {
		for _, s := range r.holding(table) {
			r.result(s, table).Compared = totals[table]
		}
	}
	return r.countAll(ctx, totals)
}

// countAgain is how often totals that differ are read again: while events flow
// they are rarely read at the same moment.
const countAgain = 5

// countAll compares totals with the stores', and those that differ again after a
// grace.
func (r *run) countAll(ctx context.Context, totals map[string]int64) error {
	for _, table := range r.tables() {
		total, listed := totals[table]
		if !listed {
			continue
		}
		for _, s := range r.holding(table) {
			if err := r.count(ctx, s, table, total); err != nil {
				return fmt.Errorf("%s: %w", table, err)
			}
		}
	}
	return nil
}

func (r *run) count(ctx context.Context, s *store.Store, table string, total int64) error {
	res := r.result(s, table)
	for try := 0; ; try++ {
		n, err := s.CountLiving(ctx, table, r.instanceID)
		if err != nil {
			return err
		}
		difference := total - n - (res.left[Missing] - res.left[Extra]) // what is known already
		if difference == 0 {
			return nil
		}
		if try == countAgain {
			res.Missing += max(difference, 0)
			res.Extra += max(-difference, 0)
			res.left[Missing] += max(difference, 0)
			res.left[Extra] += max(-difference, 0)
			res.ByCount = max(difference, -difference)
			return nil
		}
		if err := r.pause(ctx, r.Grace/countAgain); err != nil {
			return err
		}
		if err := r.caughtUp(ctx); err != nil {
			return err
		}
		if total, err = backfill.Total(ctx, r.Client, table); err != nil {
			return err
		}
	}
}

func (r *run) pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
