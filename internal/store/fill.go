package store

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rollcall-dev/rollcall/internal/projection"
	"github.com/rollcall-dev/rollcall/streams"
)

// Filling reads what the store lacks, as table or table.column, and the range of
// the log that has it: behind from, up to to. What a store of another
// configuration would fill isn't this one's to fill.
func (s *Store) Filling(ctx context.Context) (what []string, from, to streams.Position, err error) {
	var incomplete []string
	var fromTime, toTime *time.Time
	err = s.pool.QueryRow(ctx, `select incomplete, fill_epoch, fill_position, fill_time, fill_to, fill_to_time from `+s.schema+`.sync_status where store = $1`, s.o.Name).
		Scan(&incomplete, &from.Epoch, &from.Sequence, &fromTime, &to.Sequence, &toTime)
	if err != nil {
		return nil, from, to, fmt.Errorf("read %s.sync_status: %w", s.o.Schema, err)
	}
	l := s.layout()
	for _, w := range incomplete {
		table, _, isColumn := strings.Cut(w, ".")
		if isColumn && slices.Contains(l.columns, w) || !isColumn && l.keeps(table) {
			what = append(what, w)
		}
	}
	from.Time, to.Epoch, to.Time = orZero(fromTime), from.Epoch, orZero(toTime)
	return what, from, to, nil
}

func (l *layout) keeps(table string) bool {
	return slices.ContainsFunc(l.resources, func(r *projection.Resource) bool { return r.Table == table })
}

// Refill sets another range of the log to be filled from.
func (s *Store) Refill(ctx context.Context, from, to streams.Position) error {
	_, err := s.pool.Exec(ctx, `update `+s.schema+`.sync_status set fill_epoch = $3, fill_from = $4, fill_position = $4, fill_time = $5, fill_to = $6, fill_to_time = $7
where store = $1 and columns_key = $2`, s.o.Name, s.layout().key, from.Epoch, from.Sequence, orNull(from.Time), to.Sequence, orNull(to.Time))
	if err != nil {
		return fmt.Errorf("set what is to be filled from: %w", err)
	}
	return nil
}

// FillSubjects of the log change rows of the tables that lack something.
func (s *Store) FillSubjects(what []string) (subjects []string) {
	var tables []*projection.Resource
	for _, r := range s.layout().resources {
		if names(what, r.Table) {
			tables = append(tables, r)
		}
	}
	for _, r := range append(projection.Concerned(tables), tables...) {
		subjects = append(subjects, s.o.Names.ResourceSubjects(s.o.InstanceID, r.Object))
	}
	return subjects
}

// PrepareFill is Prepare for Fill: contents of the tables that lack something,
// and all deletions, since a table that is new may have missed some.
func (s *Store) PrepareFill(what []string, messages []streams.Message) (any, map[int]error) {
	w, rejected, _ := s.prepare(messages, func(r *projection.Resource) bool { return !names(what, r.Table) })
	w.again = true
	return w, rejected
}

// Fill writes a batch of the range that is read again, and moves how far that
// has come, in one transaction. At the range's end nothing is incomplete any
// more of what this store writes.
func (s *Store) Fill(ctx context.Context, work any, from, to streams.Position, deadLetters int) error {
	w, _ := work.(*Work)
	return s.transact(ctx, w, from.Epoch, func(pg *pgconn.PgConn) error {
		results, err := pg.Exec(ctx, fmt.Sprintf(`begin; %s;
update %s.sync_status set fill_position = %d, fill_time = %s, dead_letters = dead_letters + %d, updated_at = now(),
incomplete = case when fill_to > %[3]d then incomplete else array(select i from unnest(incomplete) i where not exists (select from unnest(columns) c where c = i or split_part(c, '.', 1) = i)) end
where store = %[6]s and fill_epoch = %[7]d and fill_position = %[8]d and columns_key = %[9]d and incomplete <> '{}'`,
			s.lockSQL(), s.schema, to.Sequence, timeLiteral(to.Time), deadLetters, literal(s.o.Name), from.Epoch, from.Sequence, s.keyOf(w))).ReadAll()
		if missing(err) {
			return errMoved{"the store's tables are gone"}
		}
		if err != nil {
			return s.explain(ctx, err)
		}
		if results[len(results)-1].CommandTag.RowsAffected() != 1 {
			return errMoved{"another range is to be filled by now"}
		}
		return nil
	})
}

// Unfilled counts the rows that were there before what they lack, and that the
// range has not written: the log doesn't hold the events any more that they come
// from. Stubs have none, and of deleted rows stream_seq is their deletion's.
func (s *Store) Unfilled(ctx context.Context, what []string) (rows int64, err error) {
	for _, r := range s.layout().resources {
		if !names(what, r.Table) {
			continue
		}
		var n int64
		err := s.pool.QueryRow(ctx, fmt.Sprintf(`select count(*) from %[1]s.%[2]s t, %[1]s.sync_status s
where s.store = $1 and t.synced_at < s.fill_since and t.version <> '' and t.deleted_at is null and (t.stream_epoch <> s.fill_epoch or t.stream_seq > s.fill_from)`, s.schema, r.Table), s.o.Name).Scan(&n)
		if err != nil {
			return 0, fmt.Errorf("count rows of %s.%s: %w", s.o.Schema, r.Table, err)
		}
		rows += n
	}
	return rows, nil
}

func orNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
