package audit

import (
	"context"
	"embed"
	"fmt"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/rollcall-dev/rollcall/internal/schema"
)

//go:embed sql/*.sql
var files embed.FS

// Migrate brings the schema to what this release needs, as the owner, in one
// transaction under the writer lock. With MigrateOff it only checks.
func (l *Log) Migrate(ctx context.Context) error {
	var writer string
	if err := l.pool.QueryRow(ctx, `select current_user`).Scan(&writer); err != nil {
		return fmt.Errorf("connect to the database: %w", err)
	}
	return l.asOwner(ctx, func(tx pgx.Tx) error {
		statements, err := l.plan(ctx, tx, writer)
		if err != nil || len(statements) == 0 {
			return err
		}
		if l.o.Migrate == MigrateOff {
			return fmt.Errorf("schema %s isn't what this release needs and migrate is off: %d statements are missing, the first is: %s", l.o.Schema, len(statements), statements[0])
		}
		for _, statement := range statements {
			if _, err := tx.Conn().PgConn().Exec(ctx, statement).ReadAll(); err != nil {
				return fmt.Errorf("change schema %s (%.60s…): %w; the role needs to own the schema, see audit.migrate_database_url", l.o.Schema, schema.OneLine(statement), err)
			}
		}
		l.o.Log.Info("schema changed", zap.String("sink", l.Name()), zap.Int("statements", len(statements)))
		return nil
	})
}

// asOwner does work as the schema's owner, in a transaction that holds the
// writer lock.
func (l *Log) asOwner(ctx context.Context, do func(pgx.Tx) error) error {
	config, err := schema.Connection(l.o.MigrateDatabaseURL)
	if err != nil {
		return err
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return fmt.Errorf("connect to the database as the schema's owner: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // what was asked is done
	tx, err := conn.Begin(ctx)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx)) //nolint:errcheck // committed, or the error says it
	if _, err := conn.PgConn().Exec(ctx, l.lock.SQL()).ReadAll(); err != nil {
		return l.lock.Explain(ctx, l.pool, err)
	}
	if err := do(tx); err != nil {
		return err
	}
	if err := tx.Commit(ctx); err != nil {
		return fmt.Errorf("commit to schema %s: %w", l.o.Schema, err)
	}
	return nil
}

// plan is the statements that are missing, in order; none where all is there.
func (l *Log) plan(ctx context.Context, tx pgx.Tx, writer string) ([]string, error) {
	state, err := schema.Read(ctx, tx, l.o.Schema)
	if err != nil {
		return nil, err
	}
	migrations := schema.Migrations{FS: files}
	if err := migrations.Check(state, l.o.Schema, "the audit log needs that name: move them, or give it a database of its own (audit.database_url)"); err != nil {
		return nil, err
	}
	statements, err := migrations.Missing(state, l.o.Schema)
	if err != nil {
		return nil, err
	}
	if writer != state.User {
		grants, err := l.missingGrants(ctx, tx, state, writer)
		if err != nil {
			return nil, err
		}
		statements = append(statements, grants...)
	}
	return statements, nil
}

// The writer appends, and no more: it can neither change nor take away a row.
var grants = []struct{ table, privileges string }{
	{"events", "select, insert"},
	{"event_ids", "select, insert"},
	{"entities", "select, insert"},
	{"sync_status", "select, update"},
	{"prunes", "select"},
	{"pruned", "select"},
	{"redactions", "select"},
	{"schema_version", "select"},
}

const writersFunction = "make_partition(timestamptz)"

func (l *Log) missingGrants(ctx context.Context, tx pgx.Tx, state schema.State, writer string) (statements []string, err error) {
	role := pgx.Identifier{writer}.Sanitize()
	for _, g := range grants {
		has := false
		if state.Version > 0 {
			err := tx.QueryRow(ctx, `select has_schema_privilege($1, $2, 'usage') and (select bool_and(has_table_privilege($1, $3, p)) from unnest(string_to_array($4, ', ')) p)`,
				writer, l.o.Schema, l.schema+"."+g.table, g.privileges).Scan(&has)
			if err != nil {
				return nil, fmt.Errorf("read grants: %w", err)
			}
		}
		if !has {
			statements = append(statements, fmt.Sprintf(`grant usage on schema %s to %s; grant %s on %[1]s.%[4]s to %[2]s`, l.schema, role, g.privileges, g.table))
		}
	}
	if len(statements) > 0 {
		statements = append(statements, fmt.Sprintf(`grant execute on function %s.%s to %s`, l.schema, writersFunction, role))
	}
	return statements, nil
}
