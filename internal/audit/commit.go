package audit

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

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
	for _, r := range w {
		r.redriven = true
	}
	return l.transact(ctx, w, fmt.Sprintf(`update %s.sync_status set updated_at = now()`, l.schema), streams.Position{})
}

func (l *Log) transact(ctx context.Context, w work, update string, to streams.Position) error {
	conn, err := l.pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("connect to the database: %w", err)
	}
	defer conn.Release() // a connection inside a transaction isn't used again
	t := &transaction{log: l, pg: conn.Conn().PgConn()}
	if err := t.begin(ctx, update); err != nil {
		t.rollBack(ctx)
		return err
	}
	if err := t.append(ctx, w); err != nil {
		t.rollBack(ctx)
		return err
	}
	l.committed(t, to)
	return nil
}

func (l *Log) committed(t *transaction, at streams.Position) {
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
	// prunedBefore is where the last prune ended: what was received earlier and
	// isn't known was pruned, and isn't appended a second time.
	prunedBefore int64

	appended, duplicates, pruned int
}

// begin opens it, takes the writer lock and moves the position, or whatever
// update of sync_status stands in for that.
func (t *transaction) begin(ctx context.Context, update string) error {
	l := t.log
	// An anchor must not outlive its rows.
	results, err := t.pg.Exec(ctx, fmt.Sprintf(`begin; %s;
select set_config('synchronous_commit', 'on', true) where current_setting('synchronous_commit') = 'off';
%s returning seq, encode(hash, 'hex'), (select coalesce((extract(epoch from max(before)) * 1000000)::bigint, %d) from %s.prunes)`,
		l.lock.SQL(), update, int64(noTime), l.schema)).ReadAll()
	if schema.Missing(err) {
		l.prepared = false
		return schema.Moved("the audit log's tables are gone")
	}
	if err != nil {
		return l.lock.Explain(ctx, l.pool, err)
	}
	rows := results[len(results)-1].Rows
	if len(rows) != 1 {
		return schema.Moved("the position is another replica's by now")
	}
	var errs [2]error
	t.seq, errs[0] = strconv.ParseInt(string(rows[0][0]), 10, 64)
	t.prunedBefore, errs[1] = strconv.ParseInt(string(rows[0][2]), 10, 64)
	if n, err := hex.Decode(t.head[:], rows[0][1]); err != nil || n != len(t.head) || errors.Join(errs[:]...) != nil {
		return fmt.Errorf("%s.sync_status holds no number and hash of a row", l.o.Schema)
	}
	return nil
}

// append appends the records that are new, and commits.
func (t *transaction) append(ctx context.Context, w work) error {
	if len(w) > 0 {
		var err error
		if w, err = t.fresh(ctx, w); err != nil {
			return err
		}
	}
	if len(w) == 0 {
		_, err := t.pg.Exec(ctx, "commit").ReadAll()
		return wrapped(err)
	}
	t.chain(w)
	if _, err := t.pg.Exec(ctx, t.log.partitions(months(w))).ReadAll(); err != nil {
		return fmt.Errorf("make a partition: %w", err) // no event is to blame
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

// months are those of the records, and the one that comes next.
func months(w work) []time.Time {
	list := []time.Time{month(time.Now().AddDate(0, 0, 15).UnixMicro())}
	for _, r := range w {
		if m := month(r.receivedAt); !slices.Contains(list, m) {
			list = append(list, m)
		}
	}
	return list
}

// chain numbers and hashes the records onto the chain's end.
func (t *transaction) chain(w work) {
	salts := newSalts(len(w) * personals)
	scratch := make([]byte, 0, 1<<10)
	for _, r := range w {
		salts = r.seal(salts) // of what changed
		scratch = r.row.chain(t.seq+1, t.head, scratch)
		t.seq, t.head = r.seq, r.hash
	}
	t.appended = len(w)
}

func (t *transaction) rollBack(ctx context.Context) {
	if t.pg.IsClosed() || t.pg.TxStatus() == 'I' {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_, _ = t.pg.Exec(ctx, "rollback").ReadAll() // if it fails the connection is given up, and the server rolls back
}
