package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"go.uber.org/zap"

	"github.com/rollcall-dev/rollcall/streams"
)

const (
	defaultLockTimeout = 5 * time.Second // for the writer lock; then its holder is named
	defaultIdleTimeout = 3 * time.Second // a writer that goes silent with the lock held loses it
)

// Commit writes a batch and moves the position, in one transaction.
func (s *Store) Commit(ctx context.Context, work any, from, to streams.Position, pending uint64, deadLetters int) error {
	w, _ := work.(*Work)
	return s.transact(ctx, w, from.Epoch, func(pg *pgconn.PgConn) error {
		return s.beginMoving(ctx, pg, s.keyOf(w), from, to, pending, deadLetters)
	})
}

// transact writes a batch in a transaction that begin has opened, in two round
// trips. The writer lock is taken, and what else begin asks for is settled,
// before any row is sent: a process that freezes while it sends must not hold
// the lock where no time-out of Postgres's reaches it.
func (s *Store) transact(ctx context.Context, w *Work, epoch int64, begin func(*pgconn.PgConn) error) error {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("connect to the database: %w", err)
	}
	defer conn.Release() // a connection inside a transaction isn't used again
	pg := conn.Conn().PgConn()
	if err := begin(pg); err != nil {
		s.rollBack(ctx, pg)
		return err
	}
	if err := s.write(ctx, pg, w, epoch); err != nil {
		s.rollBack(ctx, pg)
		return s.laidAnew(ctx, w, err)
	}
	return nil
}

// beginMoving opens the transaction, takes the writer lock and moves the
// position.
func (s *Store) beginMoving(ctx context.Context, pg *pgconn.PgConn, key int64, from, to streams.Position, pending uint64, deadLetters int) error {
	complete := "complete_since"
	switch {
	case to.Sequence == 0:
		complete = "null"
	case pending == 0:
		complete = "coalesce(complete_since, now())"
	}
	results, err := pg.Exec(ctx, fmt.Sprintf(`begin; %s;
update %s.sync_status set epoch = %[3]d, position = %[4]d, position_time = %[5]s, columns_epoch = %[3]d, columns_position = %[4]d, columns_time = %[5]s,
lag = %[6]d, dead_letters = dead_letters + %[7]d, complete_since = %[8]s, updated_at = now()
where store = %[9]s and epoch = %[10]d and position = %[11]d and columns_key = %[12]d`,
		s.lockSQL(), s.schema, to.Epoch, to.Sequence, timeLiteral(to.Time), pending, deadLetters, complete,
		literal(s.o.Name), from.Epoch, from.Sequence, key)).ReadAll()
	if missing(err) {
		s.prepared = false
		return errMoved{"the store's tables are gone"}
	}
	if err != nil {
		return s.explain(ctx, err)
	}
	if results[len(results)-1].CommandTag.RowsAffected() != 1 {
		return errMoved{"the position is another replica's by now, or the columns that are written are others"}
	}
	return nil
}

// lockSQL takes the writer lock for the rest of the transaction. Whoever holds
// it and says nothing for idleTimeout is ended by the server.
func (s *Store) lockSQL() string {
	return fmt.Sprintf(`set local lock_timeout = %d; set local idle_in_transaction_session_timeout = %d; select pg_advisory_xact_lock(%d)`,
		s.lockTimeout.Milliseconds(), s.idleTimeout.Milliseconds(), s.lock)
}

// write sends all statements and the commit in one go.
func (s *Store) write(ctx context.Context, pg *pgconn.PgConn, w *Work, epoch int64) error {
	p := pg.StartPipeline(ctx)
	pg.Frontend().Send(room(w.size()))
	sent := s.send(p, w, epoch)
	if w != nil {
		s.sendNotes(p, w.notes)
	}
	p.SendQueryParams("commit", nil, nil, nil, nil)
	if err := p.Sync(); err != nil {
		_ = p.Close() // fails the same way
		return &Error{err}
	}
	if err := s.readResults(p, sent); err != nil {
		_ = p.Close() // the first error says it
		return err
	}
	if err := p.Close(); err != nil {
		return &Error{err}
	}
	s.count(sent)
	if w != nil {
		s.o.Metrics.replaced(s.o.Name, w.replaced)
		w.done()
	}
	return nil
}

// statement is one that was sent, and what came of it.
type statement struct {
	table string
	sweep bool // its answer is how many rows are held; else rows is what it wrote
	rows  int64
}

// send sends a batch's statements.
func (s *Store) send(p *pgconn.Pipeline, w *Work, epoch int64) (sent []statement) {
	if w == nil {
		return nil
	}
	send := func(sql, table string, t tableWork) {
		sendParams(p, sql, t.params, epoch)
		sent = append(sent, statement{table: table})
	}
	// A delete writes its tombstone and its own row first: contents consult the
	// tombstones.
	for _, t := range w.deletions {
		send(t.writer.bury, "tombstones", t)
		if t.writer.remove != "" {
			send(t.writer.remove, t.writer.resource.Table, t)
		}
		for _, c := range t.writer.cascades {
			send(c.sql, c.table, t)
		}
	}
	for _, t := range w.contents {
		sql := t.writer.contents
		if w.again {
			sql = t.writer.again
		}
		send(sql, t.writer.resource.Table, t)
	}
	for _, t := range w.erased { // last: a content may be of the same batch
		for _, e := range t.writer.erases {
			send(e.sql, e.table, t)
		}
	}
	for _, table := range w.touched {
		p.SendQueryParams(w.layout.sql.sweep(table), nil, nil, nil, nil)
		sent = append(sent, statement{table: table, sweep: true})
	}
	return sent
}

// count counts what a committed batch wrote.
func (s *Store) count(sent []statement) {
	for _, st := range sent {
		switch {
		case !st.sweep:
			s.o.Metrics.wrote(s.o.Name, st.table, st.rows)
		case st.rows > 0:
			s.o.Metrics.heldRows(s.o.Name, st.table, st.rows)
			s.heldOnce.Do(func() {
				s.o.Log.Warn("rows of deleted entities stay as tombstones, since a foreign key or another transaction holds them; more are only counted (rollcall_store_held_rows_total)",
					zap.String("sink", s.Name()), zap.String("table", st.table), zap.Int64("rows", st.rows))
			})
		}
	}
}

// room is a message of no bytes. The driver's write buffer starts small for
// every batch and would grow by a quarter at a time, copying all it holds.
type room int

func (room) Frontend()           {}
func (room) Decode([]byte) error { return nil }

func (n room) Encode(to []byte) ([]byte, error) { return slices.Grow(to, int(n)), nil }

func sendParams(p *pgconn.Pipeline, sql string, params []param, epoch int64) {
	values := make([][]byte, 0, len(params)+1)
	oids := make([]uint32, 0, len(params)+1)
	for _, v := range params {
		values = append(values, v.value)
		oids = append(oids, v.oid)
	}
	values = append(values, binary.BigEndian.AppendUint64(nil, uint64(epoch)))
	oids = append(oids, pgtype.Int8OID)
	p.SendQueryParams(sql, values, oids, []int16{1}, nil)
}

func (s *Store) readResults(p *pgconn.Pipeline, sent []statement) error {
	var failed error
	for i := 0; ; {
		result, err := p.GetResults()
		if err != nil {
			failed = errors.Join(failed, &Error{err})
			if pg := (*pgconn.PgError)(nil); errors.As(err, &pg) {
				continue // the results up to the sync are skipped
			}
			return failed
		}
		switch r := result.(type) {
		case *pgconn.ResultReader:
			read := r.Read()
			switch {
			case read.Err != nil:
				failed = errors.Join(failed, &Error{read.Err})
			case i >= len(sent): // the notes, the commit
			case sent[i].sweep:
				sent[i].rows, _ = strconv.ParseInt(string(read.Rows[0][0]), 10, 64)
			default:
				sent[i].rows = read.CommandTag.RowsAffected()
			}
			i++
		case *pgconn.PipelineSync:
			return failed
		default:
			return errors.Join(failed, errors.New("the database ended the answer early"))
		}
	}
}

func (s *Store) rollBack(ctx context.Context, pg *pgconn.PgConn) {
	if pg.IsClosed() || pg.TxStatus() == 'I' {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_, _ = pg.Exec(ctx, "rollback").ReadAll() // if it fails the connection is given up, and the server rolls back
}

// Error is an error of the database.
type Error struct{ err error }

func (e *Error) Error() string { return "write: " + e.err.Error() }
func (e *Error) Unwrap() error { return e.err }

// Poison reports whether the rows are to blame: SQLSTATE classes 22 (data), 23
// (constraints) and 54 (limits). A missing table, column or grant is the
// schema's, all else the server's: no reason to give an event up.
func (e *Error) Poison() bool {
	var pg *pgconn.PgError
	if !errors.As(e.err, &pg) || len(pg.Code) != 5 {
		return false
	}
	if pg.Routine == "PreCommit_Notify" { // a listener that never reads has filled the server's queue: 54000
		return false
	}
	class := pg.Code[:2]
	return class == "22" || class == "23" || class == "54"
}

// errMoved says that the position has to be read again, and why.
type errMoved struct{ why string }

func (e errMoved) Error() string { return e.why }
func (errMoved) Moved() bool     { return true }

// timeLiteral is null for the zero time.
func timeLiteral(t time.Time) string {
	if t.IsZero() {
		return "null"
	}
	return t.UTC().Format("'2006-01-02T15:04:05.000000Z'")
}

func orZero(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}

func literal(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
