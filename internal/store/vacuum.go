package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Vacuum frees the old versions of rows, for all tables that are kept, and takes
// values out of the planner's statistics. The bytes stay in the files until the
// space is used again, or VACUUM FULL.
func (s *Store) Vacuum(ctx context.Context) error {
	config, err := pgx.ParseConfig(s.o.MigrateDatabaseURL)
	if err != nil {
		return fmt.Errorf("migrate_database_url can't be parsed")
	}
	forPooler(config)
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return fmt.Errorf("connect to the database as the schema's owner: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // what was asked is done
	for _, r := range s.layout().resources {
		if _, err := conn.PgConn().Exec(ctx, `vacuum (analyze) `+s.schema+`.`+r.Table).ReadAll(); err != nil {
			return fmt.Errorf("vacuum %s.%s: %w", s.o.Schema, r.Table, err)
		}
	}
	return nil
}
