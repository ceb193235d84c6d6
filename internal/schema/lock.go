package schema

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// Lock is the advisory lock of whoever writes a schema, held for a transaction.
type Lock struct {
	key           int64
	timeout, idle time.Duration
}

const (
	defaultTimeout = 5 * time.Second // for the lock; then its holder is named
	defaultIdle    = 3 * time.Second // a writer that goes silent with the lock held loses it
)

// NewLock makes the lock of that name.
func NewLock(name string) Lock {
	h := fnv.New64a()
	h.Write([]byte(name))
	return Lock{int64(h.Sum64()), defaultTimeout, defaultIdle}
}

// SQL takes the lock for the rest of the transaction. Whoever holds it and says
// nothing for a while is ended by the server.
func (l Lock) SQL() string { return strings.Join(l.Statements(), "; ") }

// Statements are those of SQL, one by one.
func (l Lock) Statements() []string {
	return []string{
		fmt.Sprintf(`set local lock_timeout = %d`, l.timeout.Milliseconds()),
		fmt.Sprintf(`set local idle_in_transaction_session_timeout = %d`, l.idle.Milliseconds()),
		fmt.Sprintf(`select pg_advisory_xact_lock(%d)`, l.key),
	}
}

// Explain says more of an error of SQL's where the database knows more: who
// holds the lock that couldn't be had. A holder that has frozen is ended.
func (l Lock) Explain(ctx context.Context, pool *pgxpool.Pool, err error) error {
	if sqlState(err) != "55P03" { // lock_not_available
		return fmt.Errorf("begin: %w", err) // nothing of the batch was sent yet: it isn't to blame
	}
	holder, ended, lookErr := l.endFrozen(ctx, pool)
	switch {
	case lookErr != nil:
		return fmt.Errorf("the writer lock is held by another session: %w", errors.Join(err, lookErr))
	case ended:
		return fmt.Errorf("the writer lock was held by %s, frozen inside its transaction: that session has been ended", holder)
	}
	return fmt.Errorf("the writer lock is held by %s: %w", holder, err)
}

// endFrozen names the holder of the lock, and ends it where it waits for a
// client that has said nothing for twice the time that the server would give an
// idle transaction: a process that was frozen while it sent a statement is
// beyond every time-out of Postgres's.
func (l Lock) endFrozen(ctx context.Context, pool *pgxpool.Pool) (holder string, ended bool, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	var pid int
	var since time.Time
	var frozen bool
	err = pool.QueryRow(ctx, `select a.pid, coalesce(a.xact_start, a.backend_start), coalesce(a.wait_event = 'ClientRead' and a.state_change < now() - make_interval(secs => $1), false)
from pg_locks l join pg_stat_activity a using (pid)
where l.locktype = 'advisory' and l.granted and l.objsubid = 1
and l.database = (select oid from pg_database where datname = current_database())
and (l.classid::bigint << 32 | l.objid::bigint) = $2 limit 1`, 2*l.idle.Seconds(), l.key).Scan(&pid, &since, &frozen)
	if err != nil {
		return "", false, fmt.Errorf("look for the lock's holder: %w", err)
	}
	holder = fmt.Sprintf("the session with pid %d, since %s", pid, since.UTC().Format(time.RFC3339))
	if frozen {
		err = pool.QueryRow(ctx, `select pg_terminate_backend($1)`, pid).Scan(&ended)
	}
	return holder, ended, err
}
