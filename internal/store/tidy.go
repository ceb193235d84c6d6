package store

import (
	"context"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rollcall-dev/rollcall/streams"
)

// tidyRows is how many rows of a table Tidy tries in one transaction.
const tidyRows = 100

// Tidy forgets inferred deletions that Clerk has shown to be wrong, so that
// ensure_user takes the id again. It takes deleted rows away that stayed because a
// foreign key, or another transaction, held them, if nothing does any more
// (on_delete: hard).
func (s *Store) Tidy(ctx context.Context) error {
	if err := s.revive(ctx); err != nil {
		return fmt.Errorf("forget inferred deletions in %s: %w", s.o.Schema, err)
	}
	if s.o.OnDelete != OnDeleteHard {
		return nil
	}
	for _, r := range s.layout().resources {
		for {
			more, err := s.tidy(ctx, r.Table)
			if err != nil {
				return fmt.Errorf("take deleted rows of %s.%s away: %w", s.o.Schema, r.Table, err)
			}
			if !more {
				break
			}
		}
	}
	return nil
}

// revive forgets inferred deletions of rows that live.
func (s *Store) revive(ctx context.Context) error {
	var some bool
	err := s.pool.QueryRow(ctx, fmt.Sprintf(`select exists (select from %s.tombstones where source = '%s')`, s.schema, streams.SourceReconcile)).Scan(&some)
	if err != nil || !some {
		return err
	}
	return s.transact(ctx, nil, 0, func(pg *pgconn.PgConn) error {
		sql := "begin; " + s.lockSQL()
		for _, r := range s.layout().resources {
			sql += fmt.Sprintf(`; delete from %[1]s.tombstones t using %[1]s.%[2]s r
where t.resource = '%[2]s' and t.source = '%[3]s' and r.id = t.id and r.deleted_at is null`, s.schema, r.Table, streams.SourceReconcile)
		}
		if _, err := pg.Exec(ctx, sql).ReadAll(); err != nil {
			return s.explain(ctx, err)
		}
		return nil
	})
}

// tidy sweeps those rows of a table that were tried least recently; more says
// that all of them went and there may be others.
func (s *Store) tidy(ctx context.Context, table string) (more bool, err error) {
	var held bool // by whoever; most often nothing is, and no lock is taken to know it
	err = s.pool.QueryRow(ctx, fmt.Sprintf(`select exists (select from %s.%s where deleted_at is not null)`, s.schema, table)).Scan(&held)
	if err != nil || !held {
		return false, err
	}
	tx, err := s.pool.Begin(ctx)
	if err != nil {
		return false, err
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	// sweep takes what this transaction has marked.
	results, err := tx.Conn().PgConn().Exec(ctx, fmt.Sprintf(`%s;
update %[2]s.%[3]s set synced_at = now() where id in (
    select id from %[2]s.%[3]s where deleted_at is not null order by synced_at limit %[4]d for update skip locked);
%[5]s`, s.lockSQL(), s.schema, table, tidyRows, s.layout().sql.sweep(table))).ReadAll()
	if err != nil {
		return false, s.explain(ctx, err)
	}
	marked := results[len(results)-2].CommandTag.RowsAffected()
	left, err := strconv.ParseInt(string(results[len(results)-1].Rows[0][0]), 10, 64)
	if err != nil {
		return false, err
	}
	return marked == tidyRows && left == 0, tx.Commit(ctx)
}
