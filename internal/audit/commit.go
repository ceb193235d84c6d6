package audit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rollcall-dev/rollcall/internal/schema"
	"github.com/rollcall-dev/rollcall/streams"
)

// Commit appends a batch and moves the position, in one transaction. The writer
// lock is taken, and the position compared, before any row is sent.
func (l *Log) Commit(ctx context.Context, prepared any, from, to streams.Position, pending uint64, deadLetters int) error {
	w, _ := prepared.(work)
	return l.transact(ctx, w, l.move(from, to, pending, deadLetters), to)
}

// Apply appends dead letters that are driven again, marked so, and leaves the
// position where it is. Errors are those of Commit.
func (l *Log) Apply(ctx context.Context, prepared any) error {
	w, _ := prepared.(work)
	if len(w) == 0 {
		return nil
	}
	if _, err := l.Position(ctx); err != nil { // makes or checks the schema
		return err
	}
	for _, r := range w {
		r.redriven = true
	}
	return l.transact(ctx, w, fmt.Sprintf(`update %s.sync_status set updated_at = now()`, l.schema), streams.Position{})
}

// CountLetters sets sync_status.dead_letters to how many letters the log has,
// once some have been redriven or dropped. count asks; where another letter
// comes in between, it is asked again.
func (l *Log) CountLetters(ctx context.Context, count func(context.Context) (uint64, error)) error {
	for {
		var before int64
		err := l.pool.QueryRow(ctx, `select dead_letters from `+l.schema+`.sync_status`).Scan(&before)
		if errors.Is(err, pgx.ErrNoRows) || schema.Missing(err) {
			return nil // nothing has been appended yet
		}
		if err != nil {
			return fmt.Errorf("read %s.sync_status: %w", l.o.Schema, err)
		}
		n, err := count(ctx)
		if err != nil {
			return err
		}
		err = l.transact(ctx, nil, fmt.Sprintf(`update %s.sync_status set dead_letters = %d where dead_letters = %d`, l.schema, n, before), streams.Position{})
		if moved := schema.Moved(""); !errors.As(err, &moved) {
			return err
		}
	}
}

// transact appends records in one transaction. Hardly ever is one of them known
// already, and to look costs as much as to write: so that is found out by an id
// that is refused. Then, and until a batch without any, the ids are looked up.
func (l *Log) transact(ctx context.Context, w work, update string, to streams.Position) error {
	err := l.try(ctx, w, update, to)
	if knownID(err) && l.lookUp.CompareAndSwap(false, true) {
		return l.try(ctx, w, update, to)
	}
	return err
}

func (l *Log) try(ctx context.Context, w work, update string, to streams.Position) error {
	conn, err := l.pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("connect to the database: %w", err)
	}
	defer conn.Release() // a connection inside a transaction isn't used again
	t := &transaction{log: l, pg: conn.Conn().PgConn(), lookUp: l.lookUp.Load()}
	if w, err = t.begin(ctx, update, w); err == nil {
		err = t.append(ctx, w)
	}
	if err != nil {
		t.rollBack(ctx)
		return err
	}
	l.committed(t, to)
	return nil
}

// knownID reports whether an event is in the log already.
func knownID(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "23505" && pg.TableName == "event_ids"
}

func (l *Log) committed(t *transaction, at streams.Position) {
	if t.appended > 0 && t.duplicates == 0 {
		l.lookUp.Store(false)
	}
	l.o.Metrics.rows.Add(float64(t.appended))
	l.o.Metrics.skipped.WithLabelValues("duplicate").Add(float64(t.duplicates))
	l.o.Metrics.skipped.WithLabelValues("pruned").Add(float64(t.pruned))
	if t.appended > 0 {
		l.o.Committed(Head{Seq: t.seq, Hash: t.head, Position: at})
	}
}

// move is the statement that moves the position, compare and set.
func (l *Log) move(from, to streams.Position, pending uint64, deadLetters int) string {
	complete := "complete_since"
	switch {
	case to.Sequence == 0:
		complete = "null"
	case pending == 0:
		complete = "coalesce(complete_since, now())"
	}
	at := "null"
	if !to.Time.IsZero() {
		at = to.Time.UTC().Format("'2006-01-02T15:04:05.000000Z'")
	}
	return fmt.Sprintf(`update %s.sync_status set epoch = %d, position = %d, position_time = %s, lag = %d, dead_letters = dead_letters + %d, complete_since = %s, updated_at = now()
where epoch = %d and position = %d`, l.schema, to.Epoch, to.Sequence, at, pending, deadLetters, complete, from.Epoch, from.Sequence)
}

// transaction is one that appends rows.
type transaction struct {
	log  *Log
	pg   *pgconn.PgConn
	seq  int64 // of the chain's last row
	head hash
	// prunedBefore is where the last prune ended: what was received earlier was
	// pruned, and isn't appended a second time.
	prunedBefore int64

	lookUp                       bool // which ids are known
	appended, duplicates, pruned int
}

// append appends records, and commits.
func (t *transaction) append(ctx context.Context, w work) error {
	if len(w) == 0 {
		_, err := t.pg.Exec(ctx, "commit").ReadAll()
		return wrapped(err)
	}
	if err := t.copyRows(ctx, w); err != nil {
		return err
	}
	return t.finish(ctx, w)
}

func wrapped(err error) error {
	if err == nil {
		return nil
	}
	return &schema.Error{Err: err}
}

// months are those of the records, and the one that comes next, by a moment
// within each.
func months(w work) []int64 {
	list := []int64{month(time.Now().AddDate(0, 0, 15).UnixMicro())}
	for _, r := range w {
		if m := month(r.receivedAt); !slices.Contains(list, m) {
			list = append(list, m)
		}
	}
	return list
}

func (t *transaction) rollBack(ctx context.Context) {
	if t.pg.IsClosed() || t.pg.TxStatus() == 'I' {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_, _ = t.pg.Exec(ctx, "rollback").ReadAll() // if it fails the connection is given up, and the server rolls back
}
