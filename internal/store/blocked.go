package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// explain says more of an error where the database knows more: who holds the
// writer lock that couldn't be had.
func (s *Store) explain(ctx context.Context, err error) error {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || pg.Code != "55P03" { // lock_not_available
		return fmt.Errorf("begin: %w", err) // nothing of the batch was sent yet: it isn't to blame
	}
	holder, ended, lookErr := s.endFrozen(ctx)
	switch {
	case lookErr != nil:
		return fmt.Errorf("the writer lock is held by another session: %w", errors.Join(err, lookErr))
	case ended:
		return fmt.Errorf("the writer lock was held by %s, frozen inside its transaction: that session has been ended", holder)
	}
	return fmt.Errorf("the writer lock is held by %s: %w", holder, err)
}

// endFrozen names the holder of the writer lock, and ends it where it waits for
// a client that has said nothing for twice the time that the server would give
// an idle transaction: a process that was frozen while it sent a statement is
// beyond every time-out of Postgres's.
func (s *Store) endFrozen(ctx context.Context) (holder string, ended bool, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	var pid int
	var since time.Time
	var frozen bool
	err = s.pool.QueryRow(ctx, `select a.pid, coalesce(a.xact_start, a.backend_start), coalesce(a.wait_event = 'ClientRead' and a.state_change < now() - make_interval(secs => $1), false)
from pg_locks l join pg_stat_activity a using (pid)
where l.locktype = 'advisory' and l.granted and l.objsubid = 1
and l.database = (select oid from pg_database where datname = current_database())
and (l.classid::bigint << 32 | l.objid::bigint) = $2 limit 1`, 2*s.idleTimeout.Seconds(), s.lock).Scan(&pid, &since, &frozen)
	if err != nil {
		return "", false, fmt.Errorf("look for the lock's holder: %w", err)
	}
	holder = fmt.Sprintf("the session with pid %d, since %s", pid, since.UTC().Format(time.RFC3339))
	if frozen {
		err = s.pool.QueryRow(ctx, `select pg_terminate_backend($1)`, pid).Scan(&ended)
	}
	return holder, ended, err
}
