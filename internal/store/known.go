package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/rollcall-dev/rollcall/internal/projection"
)

// Holds reports whether the store keeps a table.
func (s *Store) Holds(table string) bool {
	for _, r := range s.wanted {
		if r.Table == table {
			return true
		}
	}
	return false
}

// UpdatedAt is, for those of the entities that the table has contents of, when
// Clerk last changed what it has, in milliseconds since 1970. A schema that isn't
// there yet has none.
func (s *Store) UpdatedAt(ctx context.Context, table string, ids []string) (map[string]int64, error) {
	rows, err := s.pool.Query(ctx, `select id, version from `+s.schema+`.`+pgx.Identifier{table}.Sanitize()+` where id = any($1)`, ids)
	if err != nil {
		return nil, s.knownError(table, err)
	}
	known := make(map[string]int64, len(ids))
	var id string
	var version []byte
	_, err = pgx.ForEachRow(rows, []any{&id, &version}, func() error {
		if at, ok := projection.Version(version).UpdatedAt(); ok {
			known[id] = at
		}
		return nil
	})
	return known, s.knownError(table, err)
}

// OtherInstance is an instance whose rows the store has, while it has none of
// the one given; "" where there is none, or no schema yet.
func (s *Store) OtherInstance(ctx context.Context, instanceID string) (string, error) {
	other := ""
	for _, r := range s.wanted {
		table := s.schema + `.` + pgx.Identifier{r.Table}.Sanitize()
		var own bool
		var found string
		err := s.pool.QueryRow(ctx, `select exists (select from `+table+` where instance_id = $1),
			coalesce((select instance_id from `+table+` where instance_id <> $1 and instance_id <> '' limit 1), '')`, instanceID).Scan(&own, &found)
		switch {
		case missing(err):
		case err != nil:
			return "", s.knownError(r.Table, err)
		case own:
			return "", nil
		case found != "":
			other = found
		}
	}
	return other, nil
}

func (s *Store) knownError(table string, err error) error {
	if err == nil || missing(err) {
		return nil
	}
	return fmt.Errorf("store %s: look at its %s: %w", s.o.Name, table, err)
}
