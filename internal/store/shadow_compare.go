package store

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/rollcall-dev/rollcall/internal/projection"
	"github.com/rollcall-dev/rollcall/streams"
)

// Drift is how the rows of a table, or its tombstones, differ from the log.
type Drift struct {
	Table string `json:"table"`
	Rows  int64  `json:"rows"` // that the store has
	// What a rebuild mends:
	Missing int64 `json:"missing"` // the log has them, the store hasn't
	Stale   int64 `json:"stale"`   // an event is newer than the store's row
	Changed int64 `json:"changed"` // not as the event that they come from
	Deleted int64 `json:"deleted"` // gone by the log, and not in the store
	// Behind are those that differ by events that the store has yet to apply.
	Behind int64 `json:"behind"`
	// What the log doesn't explain, and is kept:
	Unknown int64 `json:"unknown"` // no event of the log is about them
	Newer   int64 `json:"newer"`   // newer than any event of the log
	// IDs of some, by kind.
	IDs map[string][]string `json:"ids,omitempty"`
}

// Drifted counts what a rebuild mends.
func (d *Drift) Drifted() int64 { return d.Missing + d.Stale + d.Changed + d.Deleted }

// Unverifiable counts what the log doesn't explain.
func (d *Drift) Unverifiable() int64 { return d.Unknown + d.Newer }

// idsShown is how many ids of a kind are named.
const idsShown = 10

// Compare compares what the log says, as far as it has been read, with the
// store's rows. What differs is then ready to be applied, and so is what is added
// from now on. told hears of each table that is begun.
func (sh *Shadow) Compare(ctx context.Context, told func(table string)) (drifts []Drift, err error) {
	if err := sh.together(ctx); err != nil {
		return nil, err
	}
	for _, t := range sh.tables {
		if _, err := sh.s.pool.Exec(ctx, fmt.Sprintf(`analyze %s.%s`, sh.schema, t.name)); err != nil {
			return nil, fmt.Errorf("analyze what the log says: %w", err)
		}
	}
	conn, err := sh.s.pool.Acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect to the database: %w", err)
	}
	defer conn.Release()
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	if err != nil {
		return nil, fmt.Errorf("begin: %w", err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	c := &comparison{Shadow: sh, tx: tx}
	if err := c.begin(ctx); err != nil {
		return nil, err
	}
	for _, r := range sh.l.resources {
		told(r.Table)
		if err := c.compare(ctx, r); err != nil {
			return nil, fmt.Errorf("compare %s.%s: %w", sh.s.o.Schema, r.Table, err)
		}
	}
	told("tombstones")
	if drifts, err = c.finish(ctx); err != nil {
		return nil, err
	}
	if err := tx.Commit(ctx); err != nil {
		return nil, fmt.Errorf("commit: %w", err)
	}
	sh.apart = true
	return drifts, nil
}

// comparison is one, in a transaction with one view of everything.
type comparison struct {
	*Shadow
	tx      pgx.Tx
	applied uint64 // the store's position in the log; all that follows isn't drift
}

func (c *comparison) exec(ctx context.Context, format string, args ...any) (rows int64, err error) {
	tag, err := c.tx.Exec(ctx, fmt.Sprintf(format, args...))
	return tag.RowsAffected(), err
}

// begin makes the tombstones as they should be: the store's and the log's.
func (c *comparison) begin(ctx context.Context) error {
	var epoch int64
	var position uint64
	err := c.tx.QueryRow(ctx, `select epoch, position from `+c.s.schema+`.sync_status where store = $1`, c.s.o.Name).Scan(&epoch, &position)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("read %s.sync_status: %w", c.s.o.Schema, err)
	}
	c.applied = 1<<63 - 1
	if epoch == c.at.Epoch {
		c.applied = position
	}
	_, err = c.exec(ctx, `set local client_min_messages = warning; set local work_mem = '64MB'; truncate %[1]s.drift; drop table if exists %[1]s.tombs, %[1]s.erased`, c.schema)
	if err == nil {
		_, err = c.exec(ctx, `create unlogged table %[1]s.erased as select resource, id from %[1]s.deletions where source = 'erase' union select resource, id from %[2]s.tombstones where source = 'erase'`, c.schema, c.s.schema)
	}
	if err == nil {
		// As bury joins them. lacking: the store has no such tombstone, later: one that
		// says later; fresh: the store has yet to read of it. Of inferred ones the store
		// forgets those that were wrong.
		_, err = c.exec(ctx, `create unlogged table %[1]s.tombs as
select resource, id, case when u.log then n.deleted_at else l.deleted_at end as deleted_at, case when not u.log then l.version end as version,
case when u.log then n.source else l.source end as source, case when u.log then n.stream_seq else l.stream_seq end as stream_seq,
case when u.log then %[3]d else l.stream_epoch end as stream_epoch, n.id is not null as logged,
l.id is null and n.source <> '%[6]s' as lacking, l.id is not null and u.log as later, coalesce(n.stream_seq, 0) > %[4]d as fresh
from %[5]s n full join %[2]s.tombstones l using (resource, id)
cross join lateral (select n.id is not null and (l.id is null or l.version is not null or case when l.source = '%[6]s' then n.source <> '%[6]s' or n.deleted_at > l.deleted_at
    else n.source <> '%[6]s' and n.deleted_at < l.deleted_at end) as log) u`, c.schema, c.s.schema, c.at.Epoch, c.applied, earliest(c.schema+"."+deletionTable), streams.SourceReconcile)
	}
	if err == nil {
		_, err = c.exec(ctx, `create index on %[1]s.tombs (resource, id)`, c.schema)
	}
	if err == nil {
		_, err = c.exec(ctx, `analyze %[1]s.tombs, %[1]s.erased`, c.schema)
	}
	if err != nil {
		return fmt.Errorf("compare tombstones: %w", err)
	}
	return nil
}

// compare finds how a table's rows differ. n is what the log says, t the store's
// row, d when the row should be deleted.
func (c *comparison) compare(ctx context.Context, r *projection.Resource) error {
	newest := `greatest(n.version, t.version)`
	// Content is judged by the parents that it names itself.
	ofLog := `(t.id is null or n.version >= t.version)`
	joins := []string{fmt.Sprintf(`left join %s.tombs d0 on d0.resource = '%s' and d0.id = coalesce(n.id, t.id) and (d0.version is null or d0.version >= %[3]s) and not %[4]s`, c.schema, r.Table, newest, outlived("d0.source", newest, "d0.deleted_at"))}
	at := []string{"d0.deleted_at"}
	for i, p := range r.Parents {
		joins = append(joins, fmt.Sprintf(`left join %s.tombs d%d on d%[2]d.resource = '%s' and d%[2]d.version is null and d%[2]d.id = case when %[4]s then n.%[5]s else t.%[5]s end and not %[6]s`,
			c.schema, i+1, p.Table, ofLog, p.Column, outlived(fmt.Sprintf("d%d.source", i+1), newest, fmt.Sprintf("d%d.deleted_at", i+1))))
		at = append(at, fmt.Sprintf("d%d.deleted_at", i+1))
	}
	of := func(column string) string { // of the tombstone that counts
		s := "case"
		for i, a := range at {
			s += fmt.Sprintf(" when %s = x.d then d%d.%s", a, i, column)
		}
		return s + " end"
	}
	erased := "false"
	if c.l.sql.keep {
		joins = append(joins, fmt.Sprintf(`left join %s.erased e0 on e0.resource = '%s' and e0.id = coalesce(n.id, t.id)`, c.schema, r.Table))
		erased = "e0.id is not null"
		for i, p := range r.Parents {
			joins = append(joins, fmt.Sprintf(`left join %s.erased e%d on e%[2]d.resource = '%s' and e%[2]d.id = case when %[4]s then n.%[5]s else t.%[5]s end`, c.schema, i+1, p.Table, ofLog, p.Column))
			erased += fmt.Sprintf(" or e%d.id is not null", i+1)
		}
	}
	var have, want []string
	for i := range r.Columns {
		column := &r.Columns[i]
		if column.Volatile || column.Name == "id" {
			continue
		}
		v := strings.Replace(value(column), "r.", "n.", 1)
		switch {
		case column.Personal && c.l.sql.keep:
			v = fmt.Sprintf("case when not (%s) then %s end", erased, v)
		case column.Personal:
			v = "case when x.d is null then " + v + " end"
		}
		have, want = append(have, "t."+column.Name), append(want, v)
	}
	absent := "false" // a row of what is deleted needn't be there, if its tombstone is
	if c.s.o.OnDelete == OnDeleteHard {
		absent = "d0.id is not null"
	}
	n, err := c.exec(ctx, `insert into %[1]s.drift (resource, id, kind, deleted_at, source, stream_seq, stream_epoch)
select '%[3]s', y.* from (
    select coalesce(n.id, t.id) as id, case
        when t.id is null and %[8]s then null
        when t.id is null and n.stream_seq > %[7]d then 'behind'
        when t.id is null then 'missing'
        when x.d < t.deleted_at or x.d is not null and t.deleted_at is null then case when %[10]s then 'behind' else 'deleted' end
        when (n.id is null or n.version < t.version) and (t.version = '' or t.deleted_at is not null and x.d = t.deleted_at) then null
        when (n.id is null or n.version < t.version) and t.stream_epoch = %[5]d and t.stream_seq > %[6]d then null
        when n.id is null then 'unknown'
        when n.version < t.version then 'newer'
        when n.version > t.version and n.stream_seq > %[7]d then 'behind'
        when n.version > t.version then 'stale'
        when t.deleted_at is distinct from x.d then case when t.deleted_at is not null and t.stream_epoch = %[5]d and t.stream_seq > %[6]d then null else 'changed' end
        when (%[12]s, t.instance_id) is distinct from (%[13]s, n.instance_id) then 'changed'
    end as kind, x.d, %[14]s, %[15]s, %[16]s
    from %[4]s n full join %[2]s.%[3]s t on t.id = n.id
    %[9]s
    cross join lateral (select least(%[11]s) as d) x
) y where y.kind is not null`,
		c.schema, c.s.schema, r.Table, c.rows(r, false), c.at.Epoch, c.at.Sequence, c.applied, absent,
		strings.Join(joins, "\n    "), of("fresh"), strings.Join(at, ", "), strings.Join(have, ", "), strings.Join(want, ", "), of("source"), of("stream_seq"), of("stream_epoch"))
	if err != nil || n == 0 {
		return err
	}
	return c.pick(ctx, r)
}

// mended are the kinds that are applied.
const mended = `('missing', 'stale', 'changed', 'deleted', 'behind')`

// pick copies the contents that are to be applied, unless they are most.
func (c *comparison) pick(ctx context.Context, r *projection.Resource) error {
	var drifted, all int64
	err := c.tx.QueryRow(ctx, fmt.Sprintf(`select (select count(*) from %[1]s.drift where resource = '%[2]s' and kind in %[3]s), (select greatest(reltuples, 0)::bigint from pg_class where oid = '%[1]s.%[2]s'::regclass)`,
		c.schema, r.Table, mended)).Scan(&drifted, &all)
	if err != nil || drifted == 0 {
		return err
	}
	if drifted > all/4 {
		c.whole[r.Table] = true
		return nil
	}
	_, err = c.exec(ctx, `insert into %[1]s.%[2]s_apply select * from %[1]s.%[2]s where id in (select id from %[1]s.drift where resource = '%[2]s' and kind in %[3]s)`, c.schema, r.Table, mended)
	return err
}

// finish compares tombstones, and counts.
func (c *comparison) finish(ctx context.Context) ([]Drift, error) {
	// Deletions of entities of which there is no row, though one should mark them.
	if c.s.o.OnDelete != OnDeleteHard {
		for _, r := range c.l.resources {
			_, err := c.exec(ctx, `insert into %[1]s.drift (resource, id, kind)
select d.resource, d.id, case when d.fresh then 'behind' else 'missing' end from %[1]s.tombs d
where d.resource = '%[3]s' and d.logged and d.version is null and d.source <> '%[4]s'
and not exists (select from %[2]s.%[3]s t where t.id = d.id) and not exists (select from %[1]s.drift x where x.resource = d.resource and x.id = d.id)`, c.schema, c.s.schema, r.Table, streams.SourceReconcile)
			if err != nil {
				return nil, fmt.Errorf("compare deletions of %s: %w", r.Table, err)
			}
		}
	}
	_, err := c.exec(ctx, `insert into %[1]s.drift (resource, id, kind)
select 'tombstones', resource || ' ' || id, case when fresh then 'behind' when lacking then 'missing' else 'stale' end from %[1]s.tombs where lacking or later`, c.schema)
	if err == nil {
		_, err = c.exec(ctx, `insert into %[1]s.deletions_apply
select n.* from %[3]s n
join %[1]s.tombs d using (resource, id)
where d.lacking or d.later or exists (select from %[1]s.drift x where x.resource = n.resource and x.id = n.id and x.kind in %[2]s)`, c.schema, mended, earliest(c.schema+"."+deletionTable))
	}
	if err != nil {
		return nil, fmt.Errorf("compare tombstones: %w", err)
	}
	return c.count(ctx)
}

func (c *comparison) count(ctx context.Context) (drifts []Drift, err error) {
	tables := []string{"tombstones"}
	for _, r := range c.l.resources {
		tables = append(tables, r.Table)
	}
	for _, table := range tables {
		d := Drift{Table: table}
		if err := c.tx.QueryRow(ctx, `select count(*) from `+c.s.schema+`.`+table).Scan(&d.Rows); err != nil {
			return nil, fmt.Errorf("count rows of %s.%s: %w", c.s.o.Schema, table, err)
		}
		rows, err := c.tx.Query(ctx, fmt.Sprintf(`select kind, count(*), (array_agg(id order by id))[:%d] from %s.drift where resource = $1 group by kind`, idsShown, c.schema), table)
		if err != nil {
			return nil, fmt.Errorf("count drift: %w", err)
		}
		var kind string
		var n int64
		var ids []string
		_, err = pgx.ForEachRow(rows, []any{&kind, &n, &ids}, func() error {
			*d.kind(kind) = n
			if d.IDs == nil {
				d.IDs = map[string][]string{}
			}
			d.IDs[kind] = ids
			ids = nil
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("count drift: %w", err)
		}
		drifts = append(drifts, d)
	}
	return drifts, nil
}

func (d *Drift) kind(name string) *int64 {
	switch name {
	case "missing":
		return &d.Missing
	case "stale":
		return &d.Stale
	case "changed":
		return &d.Changed
	case "deleted":
		return &d.Deleted
	case "behind":
		return &d.Behind
	case "unknown":
		return &d.Unknown
	}
	return &d.Newer
}
