package audit

import (
	"context"
	"encoding/hex"
	"fmt"
	"regexp"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rollcall-dev/rollcall/internal/schema"
)

// Pruned is what a prune takes, or took.
type Pruned struct {
	Before     time.Time `json:"before"`     // what was received before: the end of the last of the months
	Partitions []string  `json:"partitions"` // oldest first
	Rows       int64     `json:"rows"`
	LastSeq    int64     `json:"last_seq"` // all rows up to this one are gone

	hash hash // of the row LastSeq
}

// PlanPrune is what a prune would take.
func (l *Log) PlanPrune(ctx context.Context, before time.Time) (p Pruned, err error) {
	err = l.asOwner(ctx, func(tx pgx.Tx) error {
		p, err = l.prunable(ctx, tx, before)
		return err
	})
	return p, err
}

// Prune drops the partitions of the months that ended before a time, and notes
// where the chain begins now, in the database and as an anchor; so Verify holds
// from there. Ids of events stay as long as one of them might come again.
func (l *Log) Prune(ctx context.Context, before time.Time, anchors Broker) (p Pruned, err error) {
	err = l.asOwner(ctx, func(tx pgx.Tx) error {
		if p, err = l.prunable(ctx, tx, before); err != nil || len(p.Partitions) == 0 {
			return err
		}
		if err := l.note(ctx, tx, p); err != nil {
			return err
		}
		a := anchor{Kind: anchorPrune, Seq: p.LastSeq, Hash: hex.EncodeToString(p.hash[:]), At: time.Now().UTC().Truncate(time.Millisecond)}
		if a.Holes, a.HolesHash, err = l.holes(ctx, tx); err != nil {
			return err
		}
		for _, name := range p.Partitions {
			if _, err := tx.Exec(ctx, `drop table `+l.schema+`.`+name); err != nil {
				return fmt.Errorf("drop %s.%s: %w", l.o.Schema, name, err)
			}
		}
		// Before the commit: an anchor of a prune that didn't happen does no harm.
		return publishAnchor(ctx, anchors, l.o.Names, a)
	})
	return p, err
}

var partitionName = regexp.MustCompile(`^events_(\d{4}_\d{2})$`)

// prunable finds the partitions that end before a time, and where the chain
// would begin without them.
func (l *Log) prunable(ctx context.Context, tx pgx.Tx, before time.Time) (Pruned, error) {
	var p Pruned
	rows, err := tx.Query(ctx, `select c.relname::text from pg_inherits i join pg_class c on c.oid = i.inhrelid
where i.inhparent = to_regclass($1) order by 1`, l.schema+".events")
	if err != nil {
		return p, fmt.Errorf("list the partitions: %w", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return p, fmt.Errorf("list the partitions: %w", err)
	}
	if len(names) == 0 {
		return p, ErrNotThere
	}
	for _, name := range names {
		m := partitionName.FindStringSubmatch(name)
		if m == nil {
			continue // not ours
		}
		start, err := time.Parse("2006_01", m[1])
		if end := start.AddDate(0, 1, 0); err == nil && !end.After(before) {
			p.Partitions, p.Before = append(p.Partitions, name), end
		}
	}
	if len(p.Partitions) == 0 {
		return p, nil
	}
	return p, l.remains(ctx, tx, &p)
}

// remains finds the row before the first that stays.
func (l *Log) remains(ctx context.Context, tx pgx.Tx, p *Pruned) error {
	var last []byte
	err := tx.QueryRow(ctx, fmt.Sprintf(`with f as (select coalesce((select min(seq) from %[1]s.events where received_at >= $1), (select seq + 1 from %[1]s.sync_status)) - 1 as last)
select last, (select count(*) from %[1]s.events where received_at < $1), coalesce(
	(select hash from %[1]s.events where seq = last), (select hash from %[1]s.pruned where seq = last),
	(select last_hash from %[1]s.prunes where last_seq = last order by id desc limit 1), decode(repeat('00', 32), 'hex')) from f`, l.schema), p.Before).
		Scan(&p.LastSeq, &p.Rows, &last)
	if schema.Missing(err) {
		return ErrNotThere
	}
	if err != nil {
		return fmt.Errorf("find where the log would begin: %w", err)
	}
	copy(p.hash[:], last)
	return nil
}

// note writes down where the chain begins, and the hashes of rows that go from
// between others: an event may be received in one month and stored behind one
// of the next.
func (l *Log) note(ctx context.Context, tx pgx.Tx, p Pruned) error {
	for _, s := range []struct {
		sql  string
		args []any
	}{
		{`insert into %s.pruned (seq, hash) select seq, hash from %[1]s.events where received_at < $1 and seq > $2`, []any{p.Before, p.LastSeq}},
		{`delete from %s.pruned where seq <= $1`, []any{p.LastSeq}},
		{`delete from %s.redactions where seq <= $1`, []any{p.LastSeq}},
		{`insert into %s.prunes (before, last_seq, last_hash) values ($1, $2, $3)`, []any{p.Before, p.LastSeq, p.hash[:]}},
		// Svix keeps messages for 90 days; an older one that comes again was pruned.
		{`delete from %s.event_ids where received_at < least($1, now() - interval '100 days')`, []any{p.Before}},
	} {
		if _, err := tx.Exec(ctx, fmt.Sprintf(s.sql, l.schema), s.args...); err != nil {
			return fmt.Errorf("note the prune: %w", err)
		}
	}
	return nil
}
