package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Apply writes prepared work in one transaction under the writer lock, and
// leaves the position where it is: what is applied so lies behind it, as a dead
// letter does. Of messages that were applied before nothing changes, but for what
// their rows lack of them: a letter may come from filling a column. Errors are
// those of Commit; Moved says that the schema isn't the one that work was
// prepared for.
func (s *Store) Apply(ctx context.Context, work any) error {
	w, _ := work.(*Work)
	if w.empty() {
		return nil
	}
	if err := s.look(ctx); err != nil {
		return err
	}
	if w.layout != s.layout() {
		return errMoved{"the schema holds more than the configuration says"}
	}
	w.again = true
	return s.transact(ctx, w, w.epoch, func(pg *pgconn.PgConn) error {
		if _, err := pg.Exec(ctx, "begin; "+s.lockSQL()).ReadAll(); err != nil {
			return s.explain(ctx, err)
		}
		return nil
	})
}

// CountLetters sets sync_status.dead_letters to how many letters the store has,
// once some have been redriven or dropped. count asks; where another letter
// comes in between, it is asked again. A letter that is just being written may
// be counted twice, until the next time.
func (s *Store) CountLetters(ctx context.Context, count func(context.Context) (uint64, error)) error {
	for {
		var before int64
		err := s.pool.QueryRow(ctx, `select dead_letters from `+s.schema+`.sync_status where store = $1`, s.o.Name).Scan(&before)
		if errors.Is(err, pgx.ErrNoRows) || missing(err) {
			return nil // nothing has been applied yet
		}
		if err != nil {
			return fmt.Errorf("read %s.sync_status: %w", s.o.Schema, err)
		}
		n, err := count(ctx)
		if err != nil {
			return err
		}
		var counted bool
		err = s.transact(ctx, nil, 0, func(pg *pgconn.PgConn) error {
			results, err := pg.Exec(ctx, fmt.Sprintf(`begin; %s; update %s.sync_status set dead_letters = %d where store = %s and dead_letters = %d`,
				s.lockSQL(), s.schema, n, literal(s.o.Name), before)).ReadAll()
			if err != nil {
				return s.explain(ctx, err)
			}
			counted = results[len(results)-1].CommandTag.RowsAffected() == 1
			return nil
		})
		if err != nil || counted {
			return err
		}
	}
}
