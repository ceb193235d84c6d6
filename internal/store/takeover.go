package store

import (
	"context"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/rollcall-dev/rollcall/internal/projection"
)

// Whoever writes a store says in sync_status which columns it writes, and repeats
// with each move the position that it moved to. So who comes next, with another
// configuration or of another release, knows what the one before left out; and
// where the position isn't the one repeated, a release moved it that knows
// nothing of this, and may have left out anything since.

// columnsOf are the columns of resources as table.column, sorted, and their key.
func columnsOf(kept []*projection.Resource) (columns []string, key int64) {
	for _, r := range kept {
		for _, c := range r.Columns {
			columns = append(columns, r.Table+"."+c.Name)
		}
	}
	slices.Sort(columns)
	h := fnv.New64a()
	h.Write([]byte(strings.Join(columns, " ")))
	return columns, int64(h.Sum64())
}

// keyOf is the key of the columns that work writes; of none, those that any
// would.
func (s *Store) keyOf(w *Work) int64 {
	if w == nil || w.layout == nil {
		return s.layout().key
	}
	return w.layout.key
}

// predecessor is what whoever wrote before has left in sync_status.
type predecessor struct {
	columns    []string // nil: it didn't say
	other      bool     // it writes other columns than this store
	moved      bool     // the position, without saying so
	applied    bool     // there may be rows
	incomplete []string
}

// takeOver notes that this store writes from now on, and what it finds
// incomplete by that.
func (s *Store) takeOver(ctx context.Context) error {
	tx, err := s.pool.Begin(ctx)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	if _, err := tx.Conn().PgConn().Exec(ctx, s.lockSQL()).ReadAll(); err != nil {
		return s.explain(ctx, err)
	}
	l := s.layout()
	p, err := s.predecessor(ctx, tx, l)
	if err != nil {
		return err
	}
	lacking := l.lacking(p)
	if len(lacking) > 0 {
		if err := s.note(ctx, tx, l, p, lacking); err != nil {
			return err
		}
	}
	_, err = tx.Exec(ctx, `update `+s.schema+`.sync_status set columns = $2, columns_key = $3, columns_epoch = epoch, columns_position = position, columns_time = position_time where store = $1`,
		s.o.Name, l.columns, l.key)
	if err != nil {
		return fmt.Errorf("write %s.sync_status: %w", s.o.Schema, err)
	}
	if err := tx.Commit(ctx); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	found := slices.DeleteFunc(lacking, func(what string) bool { return slices.Contains(p.incomplete, what) })
	if len(found) > 0 {
		s.o.Log.Info("what was written before, by another release or configuration, may lack these: they are filled", zap.String("sink", s.Name()), zap.Strings("what", found))
	}
	return nil
}

func (s *Store) predecessor(ctx context.Context, tx pgx.Tx, l *layout) (p predecessor, err error) {
	err = tx.QueryRow(ctx, `select columns, columns_key <> $2, (columns_epoch, columns_position) <> (epoch, position), epoch > 0, incomplete
from `+s.schema+`.sync_status where store = $1`, s.o.Name, l.key).Scan(&p.columns, &p.other, &p.moved, &p.applied, &p.incomplete)
	if err != nil {
		return p, fmt.Errorf("read %s.sync_status: %w", s.o.Schema, err)
	}
	return p, nil
}

// lacking are the tables and columns that the predecessor has left out.
func (l *layout) lacking(p predecessor) (what []string) {
	if !p.applied {
		return nil
	}
	for _, r := range l.resources {
		var columns []string
		for _, c := range r.Columns {
			if name := r.Table + "." + c.Name; p.columns != nil && !slices.Contains(p.columns, name) {
				columns = append(columns, name)
			}
		}
		if p.moved || len(columns) == len(r.Columns) {
			columns = []string{r.Table}
		}
		what = append(what, columns...)
	}
	return what
}

// note marks what is lacking, with the range of the log that has it, and clears
// what deletes of the predecessor's left filled.
func (s *Store) note(ctx context.Context, tx pgx.Tx, l *layout, p predecessor, lacking []string) error {
	set := fillFromStart
	if !p.other || p.columns == nil {
		set = fillFromColumns
	}
	for _, what := range p.incomplete {
		table, _, _ := strings.Cut(what, ".")
		if !slices.Contains(lacking, what) && !slices.Contains(lacking, table) {
			lacking = append(lacking, what)
		}
	}
	if _, err := tx.Exec(ctx, `update `+s.schema+`.sync_status set incomplete = $2, `+set+` where store = $1`, s.o.Name, lacking); err != nil {
		return fmt.Errorf("write %s.sync_status: %w", s.o.Schema, err)
	}
	for _, r := range l.resources {
		if clear := l.sql.clear(r); clear != "" && names(lacking, r.Table) {
			if _, err := tx.Exec(ctx, clear); err != nil {
				return fmt.Errorf("clear what is personal of deleted rows of %s.%s: %w", s.o.Schema, r.Table, err)
			}
		}
	}
	return nil
}

// names reports whether a table, or a column of it, is among what is listed.
func names(what []string, table string) bool {
	return slices.ContainsFunc(what, func(w string) bool { return w == table || strings.HasPrefix(w, table+".") })
}

// The ranges that are filled, in sync_status. While a store still comes up to
// the log's end, for the first time or after a rewind, the position doesn't tell
// which events its rows have: then it is the whole log.
const (
	fillFromStart = `fill_epoch = case when complete_since is null then 0 else epoch end, fill_from = 0, fill_position = 0, fill_time = null,
fill_to = position, fill_to_time = position_time, fill_since = now()`
	// From where the writer that says what it writes has left off. What was being
	// filled then is filled on, from the lesser of the two.
	fillFromColumns = `fill_epoch = case when complete_since is null or columns_epoch <> epoch or incomplete <> '{}' and fill_epoch <> epoch then 0 else epoch end,
fill_from = case when incomplete = '{}' then columns_position else fill_from end,
fill_position = case when incomplete = '{}' then columns_position else least(fill_position, columns_position) end,
fill_time = case when incomplete = '{}' or fill_position >= columns_position then columns_time else fill_time end,
fill_to = position, fill_to_time = position_time, fill_since = case when incomplete = '{}' then now() else fill_since end`
)
