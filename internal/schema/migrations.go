package schema

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Migrations are numbered SQL files, sql/NNNN_*.sql, in which {schema} stands
// for the schema's quoted name. Which have run is in its table schema_version.
type Migrations struct {
	FS fs.FS
}

// Newest is the number of the last migration.
func (m Migrations) Newest() int { return len(m.files()) }

func (m Migrations) files() []string {
	files, err := fs.Glob(m.FS, "sql/*.sql")
	if err != nil {
		panic(err) // the pattern is constant
	}
	slices.Sort(files)
	return files
}

// State is what a schema holds before a migration.
type State struct {
	Server         int    // server_version_num
	User           string // who migrates
	Exists         bool   // the schema does
	Version, Needs int    // of schema_version; 0 before the first migration
	Relations      []string
}

// Read reads the state of a schema.
func Read(ctx context.Context, tx pgx.Tx, name string) (State, error) {
	var s State
	var ours bool
	err := tx.QueryRow(ctx, `select current_setting('server_version_num')::int, current_user, exists (select from pg_namespace where nspname = $1),
coalesce((select array_agg(c.relname::text order by c.relname) from pg_class c join pg_namespace n on n.oid = c.relnamespace
	where n.nspname = $1 and c.relkind in ('r', 'p', 'v', 'm', 'f') and not c.relispartition), '{}')`, name).
		Scan(&s.Server, &s.User, &s.Exists, &s.Relations)
	if err != nil {
		return s, fmt.Errorf("read the catalog: %w", err)
	}
	if ours = slices.Contains(s.Relations, "schema_version"); !ours {
		return s, nil
	}
	err = tx.QueryRow(ctx, `select version, needs from `+pgx.Identifier{name}.Sanitize()+`.schema_version`).Scan(&s.Version, &s.Needs)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return s, fmt.Errorf("read %s.schema_version: %w", name, err)
	}
	return s, nil
}

// Check refuses a schema that isn't ours to change, or that a newer release has
// changed beyond this one.
func (m Migrations) Check(s State, name, setting string) error {
	switch {
	case s.Server < MinPostgres:
		return fmt.Errorf("PostgreSQL %d is too old: Rollcall needs 15 or newer", s.Server/10000)
	case s.Version == 0 && len(s.Relations) > 0:
		return fmt.Errorf("schema %s holds tables that aren't Rollcall's (%s): %s", name, s.Relations[0], setting)
	case s.Needs > m.Newest():
		return fmt.Errorf("schema %s needs a newer release of Rollcall (its version is %d, this release knows %d): upgrade this process", name, s.Version, m.Newest())
	}
	return nil
}

// Missing are the statements that haven't run, in order.
func (m Migrations) Missing(s State, name string) ([]string, error) {
	quoted := pgx.Identifier{name}.Sanitize()
	var statements []string
	if s.Version == 0 {
		if !s.Exists {
			statements = append(statements, "create schema "+quoted)
		}
		statements = append(statements,
			fmt.Sprintf(`create table %s.schema_version (version int not null, needs int not null, applied_at timestamptz not null default now())`, quoted),
			fmt.Sprintf(`comment on table %s.schema_version is 'one row; needs is the oldest release''s version that can still run on this schema'`, quoted),
			fmt.Sprintf(`insert into %s.schema_version (version, needs) values (0, 0)`, quoted))
	}
	for i, file := range m.files() {
		if i+1 <= s.Version {
			continue
		}
		text, err := fs.ReadFile(m.FS, file)
		if err != nil {
			return nil, err
		}
		statements = append(statements,
			strings.ReplaceAll(string(text), "{schema}", quoted),
			fmt.Sprintf(`update %s.schema_version set version = %d, applied_at = now()`, quoted, i+1))
	}
	return statements, nil
}
