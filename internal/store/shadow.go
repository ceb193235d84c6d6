package store

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rollcall-dev/rollcall/internal/projection"
	"github.com/rollcall-dev/rollcall/streams"
)

// Shadow is what the log says of a store, in a schema beside it: all contents and
// deletions as they come, in tables without indexes and out of the write-ahead
// log. It is then compared with the store's rows, and what differs is applied to
// them by the statements that the store itself writes with.
//
// How far the log has been read is kept with the rows, so that a rebuild goes on
// where it was. After a crash of Postgres the tables are empty, that one too.
type Shadow struct {
	s      *Store
	l      *layout
	schema string // quoted
	at     streams.Position
	tables []shadowTable
	// apart: what is added goes to the tables of what is applied, once the rest
	// has been compared.
	apart bool
	whole map[string]bool // most of a table is applied: no copy of that was made
}

// shadowTable is a table that events are copied into.
type shadowTable struct {
	resource *projection.Resource // nil: the deletions
	name     string
	columns  string // of copy
}

const (
	shadowSuffix  = "_rebuild" // of the schema
	applySuffix   = "_apply"   // of the tables of what is applied
	deletionTable = "deletions"
)

// OpenShadow opens the store's shadow of a log, as far as it has been built, or
// makes it. What another log, release or configuration has built is dropped.
func (s *Store) OpenShadow(ctx context.Context, epoch int64) (*Shadow, error) {
	if err := s.look(ctx); err != nil {
		return nil, err
	}
	sh := &Shadow{s: s, l: s.layout(), schema: pgx.Identifier{s.o.Schema + shadowSuffix}.Sanitize(), whole: map[string]bool{}}
	for _, r := range sh.l.resources {
		sh.tables = append(sh.tables, shadowTable{r, r.Table, strings.Join(columnNames(r), ", ") + ", version, instance_id, source, stream_seq"})
	}
	sh.tables = append(sh.tables, shadowTable{nil, deletionTable, "resource, id, deleted_at, instance_id, source, stream_seq"})
	sh.at.Epoch = epoch
	err := s.pool.QueryRow(ctx, `select from `+s.schema+`.sync_status limit 1`).Scan()
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		if missing(err) {
			err = fmt.Errorf("schema %s has no tables of a store yet: rollcall run store/%s makes them, or rollcall store apply %[2]s", s.o.Schema, s.o.Name)
		}
		return nil, err
	}
	err = s.pool.QueryRow(ctx, `select position from `+sh.schema+`.progress where epoch = $1 and build = $2`, epoch, sh.build()).Scan(&sh.at.Sequence)
	if errors.Is(err, pgx.ErrNoRows) || missing(err) {
		return sh, sh.make(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s.progress: %w", sh.schema, err)
	}
	return sh, sh.together(ctx)
}

// build says which shadows can be gone on with: of the same columns and schema.
func (sh *Shadow) build() string { return fmt.Sprintf("1/%d/%d", newestMigration(), sh.l.key) }

// Position is how far the log has been read.
func (sh *Shadow) Position() streams.Position { return sh.at }

// make makes the schema, as the owner, and the tables, as the writer.
func (sh *Shadow) make(ctx context.Context) error {
	if err := sh.Drop(ctx); err != nil {
		return err
	}
	err := sh.s.asOwner(ctx, false, func(o *owner) error {
		_, err := o.tx.Conn().PgConn().Exec(ctx, fmt.Sprintf(`create schema %[1]s; grant usage, create on schema %[1]s to %[2]s`,
			sh.schema, pgx.Identifier{o.writer}.Sanitize())).ReadAll()
		return err
	})
	if stateOf(err) == "42501" { // insufficient_privilege
		return fmt.Errorf("make the schema %s beside the store's: %w; the role of migrate_database_url needs create on the database", sh.schema, err)
	}
	if err != nil {
		return fmt.Errorf("make the schema %s beside the store's: %w", sh.schema, err)
	}
	var sql []string
	for _, t := range sh.tables {
		for _, suffix := range []string{"", applySuffix} {
			sql = append(sql, fmt.Sprintf(`create unlogged table %s.%s%s (%s)`, sh.schema, t.name, suffix, t.ddl()))
		}
	}
	sql = append(sql,
		fmt.Sprintf(`create unlogged table %s.drift (resource text not null, id text not null, kind text not null, deleted_at timestamptz, source text, stream_seq bigint, stream_epoch bigint)`, sh.schema),
		fmt.Sprintf(`create unlogged table %s.progress (epoch bigint not null, position bigint not null, build text not null)`, sh.schema),
		fmt.Sprintf(`insert into %s.progress values (%d, 0, %s)`, sh.schema, sh.at.Epoch, literal(sh.build())))
	return sh.exec(ctx, strings.Join(sql, ";\n"))
}

func (t shadowTable) ddl() string {
	if t.resource == nil {
		return `resource text, id text, deleted_at timestamptz, instance_id text, source text, stream_seq bigint`
	}
	var columns []string
	for _, c := range t.resource.Columns {
		typ := c.Type.String()
		if c.Type == projection.TextArray {
			typ = "text" // see value
		}
		columns = append(columns, c.Name+" "+typ)
	}
	return strings.Join(columns, ", ") + `, version bytea, instance_id text, source text, stream_seq bigint`
}

// together puts what was to be applied back to the rest, so that all is compared
// again.
func (sh *Shadow) together(ctx context.Context) error {
	var sql []string
	for _, t := range sh.tables {
		sql = append(sql, fmt.Sprintf(`insert into %[1]s.%[2]s select * from %[1]s.%[2]s%[3]s; truncate %[1]s.%[2]s%[3]s`, sh.schema, t.name, applySuffix))
	}
	sh.apart = false
	clear(sh.whole)
	return sh.exec(ctx, strings.Join(sql, ";\n"))
}

// Drop takes the shadow away.
func (sh *Shadow) Drop(ctx context.Context) error {
	err := sh.s.asOwner(ctx, false, func(o *owner) error {
		_, err := o.tx.Conn().PgConn().Exec(ctx, `set local client_min_messages = warning; drop schema if exists `+sh.schema+` cascade`).ReadAll()
		return err
	})
	if err != nil {
		return fmt.Errorf("drop the schema %s: %w", sh.schema, err)
	}
	return nil
}

// exec runs statements in one transaction.
func (sh *Shadow) exec(ctx context.Context, sql string) error {
	return sh.on(ctx, func(pg *pgconn.PgConn) error {
		_, err := pg.Exec(ctx, "begin; "+sql+"; commit").ReadAll()
		return err
	})
}

// on runs work on a connection of the store's; what it leaves open is rolled back.
func (sh *Shadow) on(ctx context.Context, work func(*pgconn.PgConn) error) error {
	conn, err := sh.s.pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("connect to the database: %w", err)
	}
	defer conn.Release()
	if err := work(conn.Conn().PgConn()); err != nil {
		sh.s.rollBack(ctx, conn.Conn().PgConn())
		return &Error{err}
	}
	return nil
}

// IsLocked tells the error of a writer lock that others held for too long.
func IsLocked(err error) bool { return stateOf(err) == "55P03" }
