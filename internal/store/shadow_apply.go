package store

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rollcall-dev/rollcall/internal/projection"
)

// Apply applies what differs, and what was added since, to the store's tables in
// one transaction under the writer lock. Before that, with the lock held, last
// adds what the log has by then: its context ends before the lock's other waiters
// would take the holder for frozen. Of every entity the join of both remains, as
// if the events had come again. The position stays.
func (sh *Shadow) Apply(ctx context.Context, last func(context.Context) error) (applied map[string]int64, err error) {
	conn, err := sh.s.pool.Acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect to the database: %w", err)
	}
	defer conn.Release()
	pg := conn.Conn().PgConn()
	applied = map[string]int64{}
	if err := sh.apply(ctx, pg, last, applied); err != nil {
		sh.s.rollBack(ctx, pg)
		return nil, err
	}
	return applied, nil
}

func (sh *Shadow) apply(ctx context.Context, pg *pgconn.PgConn, last func(context.Context) error, applied map[string]int64) error {
	if _, err := pg.Exec(ctx, "begin; set local work_mem = '64MB'; "+sh.s.lockSQL()).ReadAll(); err != nil {
		return sh.s.explain(ctx, err)
	}
	held, cancel := context.WithTimeout(ctx, sh.s.idleTimeout*2/3)
	defer cancel()
	if err := last(held); err != nil {
		return err
	}
	for _, st := range sh.statements() {
		results, err := pg.Exec(ctx, st.sql).ReadAll()
		if err != nil {
			return fmt.Errorf("apply what differs to %s.%s: %w", sh.s.o.Schema, st.table, &Error{err})
		}
		if !st.sweep {
			applied[st.table] += results[len(results)-1].CommandTag.RowsAffected()
		}
	}
	// All columns of all rows that the log explains are right now.
	_, err := pg.Exec(ctx, fmt.Sprintf(`update %s.sync_status set incomplete = '{}', updated_at = now() where store = %s and columns_key = %d and incomplete <> '{}'; commit`,
		sh.s.schema, literal(sh.s.o.Name), sh.l.key)).ReadAll()
	if err != nil {
		return fmt.Errorf("commit: %w", &Error{err})
	}
	return nil
}

// shadowStatement is one that applies; what it returns is no count of rows where
// it sweeps.
type shadowStatement struct {
	table, sql string
	sweep      bool
}

// statements are those of the store's own writer, with the shadow's rows: first
// tombstones and what went, then contents, which consult the tombstones.
func (sh *Shadow) statements() (list []shadowStatement) {
	add := func(table, format string, args ...any) {
		list = append(list, shadowStatement{table: table, sql: fmt.Sprintf(format, args...)})
	}
	sql, epoch := sh.l.sql, fmt.Sprint(sh.at.Epoch)
	for _, w := range sh.l.writers {
		gone := sh.deletions(w.resource) + " as r"
		add("tombstones", "%s", sql.bury(w.resource, gone, epoch))
		if w.remove != "" {
			add(w.resource.Table, "%s", sql.remove(w.resource, gone, epoch))
		}
		for _, child := range sql.kept {
			for _, p := range child.Parents {
				if p.Table == w.resource.Table {
					add(child.Table, "%s", sql.cascade(child, p.Column, gone, epoch))
				}
			}
		}
	}
	for _, r := range sh.l.resources {
		add(r.Table, "%s", sql.upsert(r, sh.rows(r, true)+" as r", epoch, "excluded.version > t.version or excluded.version = t.version and "+sh.differs(r)))
		rows := fmt.Sprintf(`%s.drift as r`, sh.schema)
		add(r.Table, `update %[1]s.%[2]s as t set %[3]s from %[4]s
where r.resource = '%[2]s' and r.kind in ('deleted', 'behind') and r.deleted_at is not null and r.id = t.id and (t.deleted_at is null or t.deleted_at > r.deleted_at)`,
			sh.s.schema, r.Table, sql.marks(r, "r", "r.stream_epoch"), rows)
	}
	for _, w := range sh.l.writers {
		for _, e := range w.erases {
			add(e.table, "%s", strings.Replace(e.sql, "any($1)", sh.erasedIDs(w.resource), 1))
		}
	}
	if sh.s.o.OnDelete == OnDeleteHard {
		for _, r := range sh.l.resources {
			list = append(list, shadowStatement{table: r.Table, sql: sql.sweep(r.Table), sweep: true})
		}
	}
	return list
}

// erasedIDs are those of a resource whose person was erased.
func (sh *Shadow) erasedIDs(r *projection.Resource) string {
	return fmt.Sprintf(`any(array(select id from %[1]s.erased where resource = '%[2]s' union select id from %[1]s.deletions_apply where resource = '%[2]s' and source = 'erase'))`, sh.schema, r.Table)
}

// differs tells a row from what would be written over it.
func (sh *Shadow) differs(r *projection.Resource) string {
	have, want := "t.deleted_at, t.instance_id", "excluded.deleted_at, excluded.instance_id"
	for _, c := range r.Columns {
		have, want = have+", t."+c.Name, want+", excluded."+c.Name
	}
	return fmt.Sprintf("(%s) is distinct from (%s)", have, want)
}
