package store

import (
	"context"

	"github.com/jackc/pgx/v5/pgconn"
)

// Apply writes prepared work in one transaction under the writer lock, and
// leaves the position where it is: what is applied so lies behind it, as a dead
// letter does. Of messages that were applied before nothing changes. Errors are
// those of Commit, but for Moved.
func (s *Store) Apply(ctx context.Context, work any) error {
	w, _ := work.(*Work)
	if w.empty() {
		return nil
	}
	return s.transact(ctx, w, w.epoch, func(pg *pgconn.PgConn) error {
		if _, err := pg.Exec(ctx, "begin; "+s.lockSQL()).ReadAll(); err != nil {
			return s.explain(ctx, err)
		}
		return nil
	})
}
