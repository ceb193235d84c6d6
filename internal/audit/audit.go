// Package audit is the sink that keeps every event once, in stream order, in a
// table that only grows. Each row is hashed onto the one before, and the last
// hash is written to a stream of its own now and then, so that a change, a gap,
// a cut or a rewriting shows: [Verify] looks for them.
//
//	prepare (ahead): read facts, salt and digest personal values
//	commit:  lock, compare position ─▶ which ids are new? what was the entity before?
//	         ─▶ number and hash the new rows ─▶ COPY, position, head of the chain
//
// What is personal stands in the chain by salted digests, so that it can be
// taken out of a row without breaking it.
package audit

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"

	"github.com/rollcall-dev/rollcall/internal/schema"
	"github.com/rollcall-dev/rollcall/streams"
)

// MigrateAuto and MigrateOff say who changes the schema.
const (
	MigrateAuto = "auto"
	MigrateOff  = "off"
)

// DefaultSchema is where the log is.
const DefaultSchema = "rollcall_audit"

// Options of a Log.
type Options struct {
	DatabaseURL        string // may lead through a pooler in transaction mode
	MigrateDatabaseURL string // of the schema's owner; "" means DatabaseURL
	Migrate            string // MigrateAuto or MigrateOff
	Schema             string // "" means DefaultSchema
	Names              streams.Names
	Log                *zap.Logger
	Metrics            *Metrics
	// Committed is called with the chain's end after each commit that moved it; it
	// must not block. nil: nobody wants to know.
	Committed func(Head)
}

// Head is the end of the chain: the last row's number and hash.
type Head struct {
	Seq      int64
	Hash     [32]byte
	Position streams.Position
}

// Log is the audit log. It is a sink of the stream.
type Log struct {
	o        Options
	pool     *pgxpool.Pool
	schema   string // quoted
	lock     schema.Lock
	reader   *reader
	prepared bool        // the schema is as this release needs it
	lookUp   atomic.Bool // known events are about
}

// New makes a log. It doesn't connect: a database that can't be reached is
// trouble, not a mistake. A URL that can't be parsed is one.
func New(o Options) (*Log, error) {
	if o.MigrateDatabaseURL == "" {
		o.MigrateDatabaseURL = o.DatabaseURL
	}
	if o.Schema == "" {
		o.Schema = DefaultSchema
	}
	if o.Committed == nil {
		o.Committed = func(Head) {}
	}
	if _, err := schema.Connection(o.MigrateDatabaseURL); err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	c, err := schema.Pool(o.DatabaseURL, 4)
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	pool, err := pgxpool.NewWithConfig(context.Background(), c)
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	return &Log{
		o: o, pool: pool, schema: pgx.Identifier{o.Schema}.Sanitize(),
		lock: schema.NewLock("rollcall audit " + o.Schema), reader: newReader(o.Names),
	}, nil
}

// Close ends the log's connections.
func (l *Log) Close() { l.pool.Close() }

// Name of the sink.
func (l *Log) Name() string { return streams.SinkAudit }

// Subjects of the log that it wants: all.
func (l *Log) Subjects() []string { return []string{l.o.Names.StreamSubjects()} }

// Batch is how much of a backlog is appended in one transaction: more than a
// store takes, since rows are only copied.
func (l *Log) Batch() (messages, bytes int) { return 8192, 32 << 20 }

// Position reads how far the log has come. The first time it makes or checks
// the schema.
func (l *Log) Position(ctx context.Context) (streams.Position, error) {
	if !l.prepared {
		if err := l.Migrate(ctx); err != nil {
			return streams.Position{}, err
		}
		l.prepared = true
	}
	var p streams.Position
	var at *int64
	err := l.pool.QueryRow(ctx, `select epoch, position, (extract(epoch from position_time) * 1000000)::bigint from `+l.schema+`.sync_status`).
		Scan(&p.Epoch, &p.Sequence, &at)
	if errors.Is(err, pgx.ErrNoRows) || schema.Missing(err) {
		l.prepared = false // dropped under our feet: make it again
	}
	if err != nil {
		return p, fmt.Errorf("read %s.sync_status: %w", l.o.Schema, err)
	}
	if at != nil {
		p.Time = micros(*at)
	}
	return p, nil
}

// work is a batch of records.
type work []*record

// Prepare reads and seals messages. No message is rejected: what can't be read
// is a row all the same.
func (l *Log) Prepare(messages []streams.Message) (any, map[int]error) {
	w := make(work, 0, len(messages))
	salts := newSalts(len(messages) * personals)
	for i := range messages {
		if !l.reader.wanted(&messages[i]) {
			l.o.Metrics.skipped.WithLabelValues("snapshot").Inc()
			continue
		}
		r := l.reader.read(&messages[i])
		salts = r.seal(salts)
		w = append(w, r)
	}
	return w, nil
}

// month begins the partition that holds a time.
func month(us int64) int64 {
	t := micros(us)
	return time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, time.UTC).UnixMicro()
}
