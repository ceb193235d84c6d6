package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/rollcall-dev/rollcall/internal/audit"
	"github.com/rollcall-dev/rollcall/internal/clerk"
	"github.com/rollcall-dev/rollcall/internal/consume"
)

// audit measures the audit log: a backlog into it, beside a bare COPY of the
// same rows into a table of the same columns, indexes and partitions; and how
// fast it is verified.
func (b *bench) audit(ctx context.Context) error {
	n := b.sizes.backlog * 3 / 2 // the copy is held in memory, too
	var appends []pair
	var verified []float64
	for range b.backlogRounds {
		b.round()
		r, err := b.auditRound(ctx, n)
		if err != nil {
			return err
		}
		appends, verified = append(appends, pair{r.appended, r.copied}), append(verified, r.verified)
	}
	b.add(compare(fmt.Sprintf("audit log: backlog of %d events", n), "/s", appends, fmt.Sprintf("COPY from memory, %d rows a transaction", copyRows), 0.5))
	b.add(row{What: "audit log: verify", Unit: "/s", Ours: median(verified), Target: 50_000})
	return nil
}

// auditRates are rows a second.
type auditRates struct{ appended, verified, copied float64 }

func (b *bench) auditRound(ctx context.Context, n int) (r auditRates, err error) {
	j, err := newJournal(ctx)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, j.close()) }()
	if err := fill(ctx, j, n, 0); err != nil {
		return r, err
	}
	db, err := pgx.Connect(ctx, b.databaseURL)
	if err != nil {
		return r, fmt.Errorf("connect to the database: %w", err)
	}
	s := &back{db: db, status: &trouble{}}
	l, err := newAuditLog(ctx, b.databaseURL, s)
	if err != nil {
		return r, errors.Join(err, db.Close(ctx))
	}
	defer func() { err = errors.Join(err, s.drop(ctx)) }()
	defer l.Close()
	if r.appended, err = s.appendAll(ctx, l, j.URL(), n); err != nil {
		return r, err
	}
	if r.verified, err = verifyAll(ctx, l, n); err != nil {
		return r, err
	}
	r.copied, err = s.copyRows(ctx, n)
	return r, err
}

func verifyAll(ctx context.Context, l *audit.Log, n int) (rate float64, err error) {
	began := time.Now()
	verifier, err := clerk.NewVerifier([]string{secret})
	if err != nil {
		return 0, err
	}
	report, err := l.Verify(ctx, audit.VerifyOptions{Verifier: verifier})
	if err == nil && (!report.OK || report.Rows != int64(n)) {
		err = fmt.Errorf("the log isn't whole: %+v", report)
	}
	return float64(n) / time.Since(began).Seconds(), err
}

// copyRows is how many rows the audit log appends in a transaction, at the most.
const copyRows = 8192

func newAuditLog(ctx context.Context, databaseURL string, s *back) (*audit.Log, error) {
	l, err := audit.New(audit.Options{
		DatabaseURL: databaseURL, Migrate: audit.MigrateAuto, Schema: schema,
		Log: zap.NewNop(), Metrics: audit.NewMetrics(prometheus.NewRegistry()),
	})
	if err != nil {
		return nil, err
	}
	if _, err = s.db.Exec(ctx, "set client_min_messages = warning; drop schema if exists "+schema+" cascade", pgx.QueryExecModeSimpleProtocol); err == nil {
		_, err = l.Position(ctx) // makes the schema
	}
	if err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// appendAll follows the log until n events are rows.
func (b *back) appendAll(ctx context.Context, l *audit.Log, natsURL string, n int) (rate float64, err error) {
	if err := b.checkpoint(ctx); err != nil {
		return 0, err
	}
	if b.broker, err = connect(natsURL, "bench audit"); err != nil {
		return 0, err
	}
	registry := prometheus.NewRegistry()
	runner := consume.New(l, consume.Options{
		Broker: b.broker, Log: zap.NewNop(), Status: b.status, NoStream: func() {},
		Metrics: consume.NewMetrics(registry, consume.NewDeadLetters(registry)),
	})
	runtime.GC()
	began := time.Now()
	b.runs = start(ctx, runner.Run)
	err = b.until(ctx, func() (bool, error) {
		p, err := l.Position(ctx)
		return p.Sequence >= uint64(n), err
	})
	took := time.Since(began)
	return float64(n) / took.Seconds(), errors.Join(err, b.pause())
}

// copyRows copies the log's rows, from memory, into a table like it.
func (b *back) copyRows(ctx context.Context, n int) (rate float64, err error) {
	var parts []*bytes.Buffer
	for from := 1; from <= n; from += copyRows {
		part := &bytes.Buffer{}
		if _, err := b.db.PgConn().CopyTo(ctx, part, fmt.Sprintf(`copy (select * from %s.events where seq between %d and %d order by seq) to stdout (format binary)`, schema, from, from+copyRows-1)); err != nil {
			return 0, fmt.Errorf("read the rows: %w", err)
		}
		parts = append(parts, part)
	}
	_, err = b.db.Exec(ctx, `create table `+schema+`.copied (like `+schema+`.events including all) partition by range (received_at);
create table `+schema+`.copied_part partition of `+schema+`.copied for values from ('2000-01-01') to ('2100-01-01')`, pgx.QueryExecModeSimpleProtocol)
	if err == nil {
		err = b.checkpoint(ctx)
	}
	if err != nil {
		return 0, err
	}
	runtime.GC()
	began, rows := time.Now(), int64(0)
	for _, part := range parts {
		tag, err := b.db.PgConn().CopyFrom(ctx, part, `copy `+schema+`.copied from stdin (format binary)`)
		if err != nil {
			return 0, fmt.Errorf("copy by hand: %w", err)
		}
		rows += tag.RowsAffected()
	}
	if rows != int64(n) {
		return 0, fmt.Errorf("%d rows of %d were copied", rows, n)
	}
	return float64(n) / time.Since(began).Seconds(), nil
}

func (b *back) drop(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	_, err := b.db.Exec(ctx, "drop schema if exists "+schema+" cascade")
	return errors.Join(b.pause(), err, b.db.Close(ctx))
}
