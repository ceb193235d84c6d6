package store

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rollcall-dev/rollcall/internal/projection"
)

// present are the resources and columns that the store has to write: what the
// configuration wants, and what the schema holds of an earlier one. Only what
// this release knows, and the schema has as this release would make it, counts:
// a column of a newer one is none of ours to drop.
func (s *Store) present(c *catalog) []*projection.Resource {
	return projection.Pick(func(r *projection.Resource, column *projection.Column) bool {
		have := c.columns[r.Table]
		return s.selection.Has(r, column) || have["version"] == "bytea" && have[column.Name] == pgName(column.Type)
	})
}

// leftOver are the columns of a present resource that the configuration leaves
// out; whole says that it leaves out the table.
func (s *Store) leftOver(r *projection.Resource) (columns []string, whole bool) {
	for i := range r.Columns {
		if !s.selection.Has(r, &r.Columns[i]) {
			columns = append(columns, r.Columns[i].Name)
		}
	}
	return columns, len(columns) > 0 && columns[0] == "id"
}

// drops take away what is left over, in an order in which nothing of ours is in
// the way, and without CASCADE: what isn't ours stands in the way.
func (s *Store) drops(ctx context.Context, tx pgx.Tx, c *catalog, present []*projection.Resource) (plan Plan, err error) {
	dropped := map[string]bool{} // views
	for _, r := range slices.Backward(present) {
		columns, whole := s.leftOver(r)
		if len(columns) == 0 {
			continue
		}
		sql, names := s.dropViews(c, dropped, func(table, column string) bool {
			return table == r.Table && (whole || slices.Contains(columns, column))
		})
		if c.views[r.Table+"_live"] {
			sql = append(sql, fmt.Sprintf("drop view %s.%s_live", s.schema, r.Table))
		}
		if whole {
			sql, names = append(sql, fmt.Sprintf("drop table %s.%s", s.schema, r.Table)), append(names, "table "+r.Table)
		} else {
			var again []string
			if again, err = s.liveAgain(ctx, tx, r, columns); err != nil {
				return nil, err
			}
			sql = append(append(sql, s.dropColumns(r, columns)), again...)
			for _, column := range columns {
				names = append(names, "column "+r.Table+"."+column)
			}
		}
		sql = append(sql, s.notIncomplete(r.Table, columns, whole))
		plan = append(plan, Statement{SQL: strings.Join(sql, ";\n"), Destructive: true, Drops: names})
	}
	return plan, nil
}

// dropViews are those views that lose what they need, last made first.
func (s *Store) dropViews(c *catalog, dropped map[string]bool, lost func(table, column string) bool) (sql, names []string) {
	for _, v := range slices.Backward(allViews()) {
		if c.views[v.name] && !dropped[v.name] && v.lacks(lost) {
			dropped[v.name] = true
			sql, names = append(sql, fmt.Sprintf("drop view %s.%s", s.schema, v.name)), append(names, "view "+v.name)
		}
	}
	return sql, names
}

func (s *Store) dropColumns(r *projection.Resource, columns []string) string {
	return fmt.Sprintf("alter table %s.%s drop column %s", s.schema, r.Table, strings.Join(columns, ", drop column "))
}

// liveAgain makes the live view of a table that has lost columns, with the
// grants that it had.
func (s *Store) liveAgain(ctx context.Context, tx pgx.Tx, r *projection.Resource, lost []string) ([]string, error) {
	sql := []string{s.liveView(r.Table)}
	rows, err := tx.Query(ctx, `select lower(x.privilege_type), x.column, case x.grantee when 0 then '' else pg_get_userbyid(x.grantee) end, x.is_grantable
from pg_class c cross join lateral (
    select a.privilege_type, '' as column, a.grantee, a.is_grantable from aclexplode(c.relacl) a
    union all
    select a.privilege_type, t.attname, a.grantee, a.is_grantable from pg_attribute t, aclexplode(t.attacl) a where t.attrelid = c.oid and not t.attisdropped) x
where c.oid = to_regclass($1) and x.grantee <> c.relowner order by 3, 2, 1`, s.schema+"."+r.Table+"_live")
	if err != nil {
		return nil, fmt.Errorf("read the grants of %s_live: %w", r.Table, err)
	}
	var privilege, column, grantee string
	var grantable bool
	_, err = pgx.ForEachRow(rows, []any{&privilege, &column, &grantee, &grantable}, func() error {
		if slices.Contains(lost, column) {
			return nil
		}
		to, what, option := "public", privilege, ""
		if grantee != "" {
			to = pgx.Identifier{grantee}.Sanitize()
		}
		if column != "" {
			what += " (" + pgx.Identifier{column}.Sanitize() + ")"
		}
		if grantable {
			option = " with grant option"
		}
		sql = append(sql, fmt.Sprintf("grant %s on %s.%s_live to %s%s", what, s.schema, r.Table, to, option))
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the grants of %s_live: %w", r.Table, err)
	}
	return sql, nil
}

// notIncomplete forgets that what goes lacked anything.
func (s *Store) notIncomplete(table string, columns []string, whole bool) string {
	gone := fmt.Sprintf("split_part(w, '.', 1) = %s", literal(table))
	if !whole {
		gone = fmt.Sprintf("w = any (%s)", literal("{"+table+"."+strings.Join(columns, ","+table+".")+"}"))
	}
	return fmt.Sprintf("update %s.sync_status set incomplete = array(select w from unnest(incomplete) w where not (%s))", s.schema, gone)
}

// tellLeftover says what of the schema is left over, or that nothing is.
func (s *Store) tellLeftover(drops []string) {
	s.leftover.Store(len(drops) > 0)
	if s.o.Leftover == nil {
		return
	}
	reason := ""
	if len(drops) > 0 {
		reason = fmt.Sprintf("schema %s holds what the configuration leaves out, and it is kept up to date until somebody agrees to its removal: %s; rollcall store apply %s --confirm-drop removes it",
			s.o.Schema, strings.Join(drops, ", "), s.o.Name)
	}
	s.o.Leftover(reason)
}

// WatchLeftover looks every so often, while something is left over, whether it
// has been dropped, until the context ends.
func (s *Store) WatchLeftover(ctx context.Context, every time.Duration) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if s.leftover.Load() && s.isTidy(ctx) {
			s.tellLeftover(nil)
		}
	}
}

// isTidy reports whether nothing is left over; a database that doesn't answer is
// the sink's to report.
func (s *Store) isTidy(ctx context.Context) bool {
	c, err := s.relationsThere(ctx)
	return err == nil && slices.EqualFunc(s.present(c), s.wanted, sameColumns)
}

// relationsThere reads what the schema holds, as the writer.
func (s *Store) relationsThere(ctx context.Context) (*catalog, error) {
	tx, err := s.pool.Begin(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect to the database: %w", err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	return readRelations(ctx, tx, s.o.Schema)
}
