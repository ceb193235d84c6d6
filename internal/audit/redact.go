package audit

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/rollcall-dev/rollcall/internal/schema"
)

// Match says which rows tell of a person.
type Match struct {
	UserID string
	// Texts are what else names the person: e-mails, phones, ids of sessions and
	// memberships. A payload that holds one is the person's.
	Texts []string
}

// redactRows is how many rows are redacted in one transaction, which keeps the
// writer waiting.
const redactRows = 500

// Redact takes what is personal out of the rows that tell of a person, for good:
// payload, changed, address, agent and actor, with their salts. Verify holds as
// before. It returns how many rows it was; the reason stands beside each. Values
// stay in the table's files until the vacuum that follows, and in the
// write-ahead log and backups.
func (l *Log) Redact(ctx context.Context, m Match, reason string) (rows int64, err error) {
	if m.UserID == "" && len(m.Texts) == 0 {
		return 0, errors.New("redact: nobody is named")
	}
	if slices.Contains(m.Texts, "") {
		return 0, errors.New("redact: a text is empty, and would match every row")
	}
	months := map[string]bool{}
	for done := int64(0); ; {
		// Without the lock: it reads the whole log. Rows that come meanwhile are
		// found the next time around.
		found, head, err := l.find(ctx, m, done)
		if err != nil {
			return rows, err
		}
		if head == done {
			break
		}
		done = head
		for part := range slices.Chunk(found, redactRows) {
			n, err := l.redact(ctx, part, reason)
			if err != nil {
				return rows, err
			}
			rows += n
			for _, f := range part {
				months[f.month] = true
			}
		}
	}
	return rows, l.vacuum(ctx, months)
}

// Count is how many rows Redact would redact.
func (l *Log) Count(ctx context.Context, m Match) (rows int64, err error) {
	found, _, err := l.find(ctx, m, 0)
	return int64(len(found)), err
}

// foundRow is a row that is to be redacted.
type foundRow struct {
	seq   int64
	month string // as in its partition's name
}

// find reads the rows behind a number for what a person is named by.
func (l *Log) find(ctx context.Context, m Match, after int64) (found []foundRow, head int64, err error) {
	if err := l.pool.QueryRow(ctx, `select seq from `+l.schema+`.sync_status`).Scan(&head); err != nil {
		if schema.Missing(err) {
			return nil, 0, ErrNotThere
		}
		return nil, 0, fmt.Errorf("read the log's end: %w", err)
	}
	texts := m.Texts
	if m.UserID != "" {
		texts = append(slices.Clone(texts), m.UserID)
	}
	rows, err := l.pool.Query(ctx, `select seq, to_char(received_at at time zone 'UTC', 'YYYY_MM') from `+l.schema+`.events e
where seq > $1 and seq <= $2 and (actor_id is not null or client_ip is not null or user_agent is not null or changed is not null or payload is not null)
and (entity_id = $3 or actor_id = $3 or entity_id = any(array(select entity_id from `+l.schema+`.entities where user_id = $3))
	or exists (select from unnest($4::text[]) as t(named) where position(convert_to(t.named, 'utf8') in payload) > 0 or position(t.named in changed::text) > 0))
order by seq`, after, head, m.UserID, texts)
	if err != nil {
		return nil, 0, fmt.Errorf("look for the person: %w", err)
	}
	found, err = pgx.CollectRows(rows, func(r pgx.CollectableRow) (f foundRow, err error) {
		err = r.Scan(&f.seq, &f.month)
		return f, err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("look for the person: %w", err)
	}
	return found, head, nil
}

func (l *Log) redact(ctx context.Context, part []foundRow, reason string) (n int64, err error) {
	seqs := make([]int64, len(part))
	for i, f := range part {
		seqs[i] = f.seq
	}
	err = l.asOwner(ctx, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, `select `+l.schema+`.redact($1, $2, $3)`, seqs, personalColumns[:], reason).Scan(&n)
		if err != nil {
			return fmt.Errorf("redact: %w", err)
		}
		return nil
	})
	return n, err
}

// vacuum takes the old versions of redacted rows out of the files.
func (l *Log) vacuum(ctx context.Context, months map[string]bool) error {
	config, err := schema.Connection(l.o.MigrateDatabaseURL)
	if err != nil {
		return err
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return fmt.Errorf("connect to the database as the schema's owner: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // what was asked is done
	for month := range months {
		if _, err := conn.PgConn().Exec(ctx, `vacuum `+l.schema+`.events_`+month).ReadAll(); err != nil {
			return fmt.Errorf("the rows are redacted, but their old versions are still in the files: vacuum %s.events_%s: %w", l.o.Schema, month, err)
		}
	}
	return nil
}
