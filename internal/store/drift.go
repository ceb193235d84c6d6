package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rollcall-dev/rollcall/internal/projection"
	"github.com/rollcall-dev/rollcall/streams"
)

// Difference is a row that isn't as Clerk has the entity.
type Difference struct {
	ID string
	// Columns whose values differ; nil where there is no live row with a content.
	Columns []string
}

// Differences compares rows of a table with snapshots of its entities as Clerk had
// them at a time by its own clock. The snapshots are read as the sink reads them,
// and the values are compared by Postgres. Passed over are volatile columns and
// those named in unsaid; rows of which Clerk has said something since; and
// entities whose deletion, or whose parent's, the store knows of. Rejected is why
// the sink would put one of them aside, or several: they aren't compared.
func (s *Store) Differences(ctx context.Context, table string, snapshots []streams.Message, at time.Time, unsaid []string) (list []Difference, rejected, err error) {
	if err := s.look(ctx); err != nil {
		return nil, nil, err
	}
	l := s.layout()
	batch := l.decoder.Begin()
	defer batch.Release()
	for _, m := range snapshots {
		if _, err := batch.Decode(m); err != nil && rejected == nil {
			rejected = fmt.Errorf("the snapshot on %s: %w", m.Subject, err)
		}
	}
	folded := batch.Fold()
	for _, w := range l.writers {
		contents := folded.Contents[w.resource]
		if w.resource.Table != table || len(contents) == 0 {
			continue
		}
		work := packContents(w, contents)
		list, err = s.askDifferences(ctx, l.sql.differences(w.resource, unsaid), work.params, at)
		work.arrays.used = 0
		w.spare.Put(work.arrays)
	}
	return list, rejected, s.knownError(table, err)
}

// askDifferences sends the parameters as the writer does.
func (s *Store) askDifferences(ctx context.Context, query string, params []param, at time.Time) (list []Difference, err error) {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect to the database: %w", err)
	}
	defer conn.Release()
	p := conn.Conn().PgConn().StartPipeline(ctx)
	sendParams(p, query, params, at.UnixMilli())
	if err := p.Sync(); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	result, err := p.GetResults()
	if reader, ok := result.(*pgconn.ResultReader); ok && err == nil {
		read := reader.Read()
		err = read.Err
		for _, row := range read.Rows {
			d := Difference{ID: string(row[0])}
			if row[1] != nil {
				err = errors.Join(err, json.Unmarshal(row[1], &d.Columns))
			}
			list = append(list, d)
		}
	}
	return list, errors.Join(err, p.Close())
}

// differences takes the parameters of packContents, then a time in milliseconds.
func (s statements) differences(r *projection.Resource, unsaid []string) string {
	var names, params, differs []string
	for i, c := range r.Columns {
		names = append(names, c.Name)
		params = append(params, fmt.Sprintf("$%d", i+1))
		if c.Volatile || slices.Contains(unsaid, c.Name) {
			continue
		}
		here, there := "t."+c.Name, "r."+c.Name
		switch c.Type {
		case projection.TextArray:
			there += "::text[]" // an array of arrays can't be ragged
		case projection.JSON: // what an event leaves out, a list may have empty
			here, there = emptyIsNull(here), emptyIsNull(there)
		}
		differs = append(differs, fmt.Sprintf("case when %s is distinct from %s then '%s' end", here, there, c.Name))
	}
	for i := range 4 { // version, instance_id, source, stream_seq
		params = append(params, fmt.Sprintf("$%d", len(r.Columns)+i+1))
	}
	return fmt.Sprintf(`select r.id, case when t.deleted_at is null and t.version <> '' then to_json(x.columns) end::text
from unnest(%[1]s) as r(%[2]s, version, instance_id, source, stream_seq)
cross join lateral (select %[3]s offset 0) as d(deleted_at)
left join %[4]s.%[5]s t on t.id = r.id
cross join lateral (select array_remove(array[%[6]s]::text[], null) offset 0) as x(columns)
where d.deleted_at is null and (t.id is null or t.version = '' or t.deleted_at is not null or x.columns <> '{}')
and coalesce(not %[7]s, true)
order by 1`, strings.Join(params, ", "), strings.Join(names, ", "), s.deletedAt(r), s.schema, r.Table, strings.Join(differs, ", "),
		saidAfter("t.version", fmt.Sprintf("$%d", len(r.Columns)+5)))
}

func emptyIsNull(column string) string {
	return fmt.Sprintf("nullif(nullif(%s, '[]'), '{}')", column)
}

// Row is one that lives, by the ids that say whose it is.
type Row struct{ ID, UserID, OrganizationID string }

// Untouched are rows of a table that live, and of which Clerk hasn't said
// anything from a time on, by its own clock: at most so many behind an id, in
// order of their ids. Stubs count from ten minutes before that time.
func (s *Store) Untouched(ctx context.Context, table, instanceID string, since time.Time, behind string, limit int) ([]Row, error) {
	user, organization := s.owners(table)
	sql := fmt.Sprintf(`select id, coalesce(%[1]s, ''), coalesce(%[2]s, '') from %[3]s.%[4]s t
where id > $1 and deleted_at is null and instance_id in ($2, '') and case when version = '' then synced_at < $3 else not %[5]s end
order by id limit $5`, user, organization, s.schema, pgx.Identifier{table}.Sanitize(), saidAfter("version", "($4::bigint - 1)"))
	rows, err := s.pool.Query(ctx, sql, behind, instanceID, since.Add(-stubAge), since.UnixMilli(), limit)
	if err != nil {
		return nil, s.knownError(table, err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Row])
	return list, s.knownError(table, err)
}

// stubAge is how long a stub's event may take.
const stubAge = 10 * time.Minute

// Living are those of the ids whose rows Untouched would return.
func (s *Store) Living(ctx context.Context, table string, since time.Time, ids []string) (living []string, err error) {
	rows, err := s.pool.Query(ctx, fmt.Sprintf(`select id from %s.%s where id = any($1) and deleted_at is null and not %s order by 1`,
		s.schema, pgx.Identifier{table}.Sanitize(), saidAfter("version", "($2::bigint - 1)")), ids, since.UnixMilli())
	if err != nil {
		return nil, s.knownError(table, err)
	}
	living, err = pgx.CollectRows(rows, pgx.RowTo[string])
	return living, s.knownError(table, err)
}

// owners are the columns that hold whose a row is; null where the store has none.
func (s *Store) owners(table string) (user, organization string) {
	user, organization = "null::text", "null::text"
	for _, r := range s.wanted {
		if r.Table != table {
			continue
		}
		for _, p := range r.Parents {
			switch p.Table {
			case "users":
				user = p.Column
			case "organizations":
				organization = p.Column
			}
		}
	}
	return user, organization
}

// CountLiving counts the rows of an instance that live and have a content.
func (s *Store) CountLiving(ctx context.Context, table, instanceID string) (n int64, err error) {
	err = s.pool.QueryRow(ctx, fmt.Sprintf(`select count(*) from %s.%s where deleted_at is null and version <> '' and instance_id in ($1, '')`,
		s.schema, pgx.Identifier{table}.Sanitize()), instanceID).Scan(&n)
	return n, s.knownError(table, err)
}

// ErrNotThere says that the store's schema hasn't been made yet.
var ErrNotThere = errors.New("its schema isn't there yet")

// Progress is how far the store has come, and what it is still filling, as table
// or table.column. Its error is ErrNotThere before the store has first run.
func (s *Store) Progress(ctx context.Context) (p streams.Position, filling []string, err error) {
	err = s.pool.QueryRow(ctx, `select epoch, position, incomplete from `+s.schema+`.sync_status where store = $1`, s.o.Name).Scan(&p.Epoch, &p.Sequence, &filling)
	if errors.Is(err, pgx.ErrNoRows) || missing(err) {
		return p, nil, ErrNotThere
	}
	if err != nil {
		return p, nil, fmt.Errorf("store %s: read %s.sync_status: %w", s.o.Name, s.o.Schema, err)
	}
	return p, filling, nil
}

// SetReconciled keeps what a comparison came to in sync_status.reconciled.
func (s *Store) SetReconciled(ctx context.Context, pass string, result any) error {
	value, err := json.Marshal(map[string]any{pass: result})
	if err != nil {
		return err
	}
	return s.transact(ctx, nil, 0, func(pg *pgconn.PgConn) error {
		_, err := pg.Exec(ctx, fmt.Sprintf(`begin; %s; update %s.sync_status set reconciled = reconciled || %s where store = %s`,
			s.lockSQL(), s.schema, literal(string(value)), literal(s.o.Name))).ReadAll()
		if err != nil {
			return s.explain(ctx, err)
		}
		return nil
	})
}
