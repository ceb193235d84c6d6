package store

import (
	"fmt"
	"strings"
	"sync"

	"github.com/rollcall-dev/rollcall/internal/projection"
	"github.com/rollcall-dev/rollcall/streams"
)

// The values of Options.OnDelete: what becomes of a deleted entity's row.
const (
	OnDeleteTombstone = "tombstone" // stays, without what is personal
	OnDeleteHard      = "hard"      // goes
	OnDeleteKeep      = "keep"      // stays whole
)

// writer holds the statements that write one resource's table. Of a resource
// that the store doesn't keep it writes the tombstones, and the rows below.
type writer struct {
	resource *projection.Resource
	contents string    // upsert of contents; parameters of packContents, then the epoch
	again    string    // the same, of those too whose version the row has already
	bury     string    // tombstones; parameters of packDeletions, then the epoch
	remove   string    // the deleted rows themselves; the same parameters; "" where they aren't kept
	cascades []cascade // rows whose parent of this resource was deleted; the same parameters
	erases   []cascade // take what is personal out of rows and those below; an array of ids, then the epoch
	spare    sync.Pool
}

type cascade struct{ table, sql string }

// bookkeeping are the columns that every table has behind its resource's.
const bookkeeping = `deleted_at timestamptz, instance_id text not null, synced_at timestamptz not null, stream_epoch bigint not null, stream_seq bigint not null, source text not null, version bytea not null`

// statements makes the statements of a store.
type statements struct {
	schema string // quoted
	kept   []*projection.Resource
	keep   bool // deleted rows keep what is personal
}

func (s statements) writer(r *projection.Resource) *writer {
	w := &writer{resource: r, bury: s.bury(r, deletionRows, "$6")}
	for _, child := range s.kept {
		for _, p := range child.Parents {
			if p.Table == r.Table {
				w.cascades = append(w.cascades, cascade{child.Table, s.cascade(child, p.Column, deletionRows, "$6")})
				w.erase(s, child, p.Column)
			}
		}
		if child == r {
			rows, epoch := contentRows(r), fmt.Sprintf("$%d", len(r.Columns)+5)
			w.contents = s.upsert(r, rows, epoch, "excluded.version > t.version")
			w.again = s.upsert(r, rows, epoch, "excluded.version >= t.version")
			w.remove = s.remove(r, deletionRows, "$6")
			w.erase(s, r, "id")
		}
	}
	return w
}

func (w *writer) erase(s statements, r *projection.Resource, column string) {
	if sets, some := s.nulls(r); some != "" {
		w.erases = append(w.erases, cascade{r.Table, fmt.Sprintf(`update %s.%s set %s where %s = any($1) and %s`, s.schema, r.Table, sets, column, some)})
	}
}

// nulls sets all that is personal to null, where any of it is there; "" where a
// resource has nothing personal.
func (s statements) nulls(r *projection.Resource) (sets, some string) {
	var personal, nulls []string
	for _, c := range r.Columns {
		if c.Personal {
			personal, nulls = append(personal, c.Name), append(nulls, c.Name+" = null")
		}
	}
	if len(personal) == 0 {
		return "", ""
	}
	return strings.Join(nulls, ", "), "num_nonnulls(" + strings.Join(personal, ", ") + ") > 0"
}

// sweep takes away the rows that the transaction has marked, once they are
// marked: those that something holds stay as they would with tombstone.
func (s statements) sweep(table string) string {
	return fmt.Sprintf("select %s.sweep('%s')", s.schema, table)
}

// contentRows are the parameters of packContents as rows.
func contentRows(r *projection.Resource) string {
	params := make([]string, len(r.Columns)+4) // version, instance_id, source, stream_seq
	for i := range params {
		params[i] = fmt.Sprintf("$%d", i+1)
	}
	return fmt.Sprintf("unnest(%s) as r(%s, version, instance_id, source, stream_seq)", strings.Join(params, ", "), strings.Join(columnNames(r), ", "))
}

func columnNames(r *projection.Resource) (names []string) {
	for _, c := range r.Columns {
		names = append(names, c.Name)
	}
	return names
}

// value is a column of a content's row, which is r; an array is its text there,
// since an array of arrays can't be ragged.
func value(c *projection.Column) string {
	if c.Type == projection.TextArray {
		return "r." + c.Name + "::text[]"
	}
	return "r." + c.Name
}

// upsert writes contents, those of an SQL expression of rows r, where the
// condition on t and excluded says that they are newer: the greater version wins.
// deleted_at is worked out anew from the tombstones of the entity and of its
// parents, and with it whether personal columns are kept.
//
// A row's columns are those of the event whose version it has. So the same with
// >= for newer changes nothing but what the row lacks of that event.
func (s statements) upsert(r *projection.Resource, rows, epoch, newer string) string {
	var values, sets []string
	for i := range r.Columns {
		c := &r.Columns[i]
		v := value(c)
		if c.Personal && !s.keep {
			v = "case when d.deleted_at is null then " + v + " end"
		}
		values = append(values, v)
		if c.Name != "id" {
			sets = append(sets, c.Name+" = excluded."+c.Name)
		}
	}
	for _, c := range []string{"version", "instance_id", "source", "stream_seq", "deleted_at", "synced_at", "stream_epoch"} {
		sets = append(sets, c+" = excluded."+c)
	}
	return fmt.Sprintf(`insert into %[1]s.%[2]s as t (%[3]s, version, instance_id, source, stream_seq, deleted_at, synced_at, stream_epoch)
select %[4]s, r.version, r.instance_id, r.source, r.stream_seq, d.deleted_at, now(), %[5]s
from %[6]s
cross join lateral (select %[7]s offset 0) as d(deleted_at)
on conflict (id) do update set %[8]s
where %[9]s`,
		s.schema, r.Table, strings.Join(columnNames(r), ", "), strings.Join(values, ", "), epoch, rows, s.deletedAt(r), strings.Join(sets, ", "), newer)
}

// deletedAt looks the tombstones up by key, row by row: as a join, the
// planner would rather read tens of thousands of them for every batch. Offset 0
// keeps it from doing so once for each column that asks. Content that is newer
// than what went with a parent is judged by the parents that it names itself, and
// one that is newer than an inferred deletion shows that nothing was deleted.
func (s statements) deletedAt(r *projection.Resource) string {
	lookUp := func(table, id, of string) string {
		return fmt.Sprintf("(select deleted_at from %s.tombstones where resource = '%s' and id = r.%s and %s and not %s)", s.schema, table, id, of, outlived("source", "r.version", "deleted_at"))
	}
	at := []string{lookUp(r.Table, "id", "(version is null or version >= r.version)")}
	for _, p := range r.Parents {
		at = append(at, lookUp(p.Table, p.Column, "version is null"))
	}
	return "least(" + strings.Join(at, ", ") + ")" // of times; nulls don't count
}

// outlived tells of a deletion whether it was only inferred, and Clerk has said
// something of the entity since.
func outlived(source, version, deletedAt string) string {
	return fmt.Sprintf("(%s = '%s' and %s)", source, streams.SourceReconcile, saidAfter(version, "(extract(epoch from "+deletedAt+") * 1000)::bigint"))
}

// saidAfter tells whether a version's timestamp is after a time in milliseconds.
func saidAfter(version, millis string) string {
	return fmt.Sprintf("substr(%s, 11, 8) > int8send(%s # (-9223372036854775808))", version, millis)
}

const deletionRows = `unnest($1, $2, $3, $4, $5) as r(id, deleted_at, instance_id, source, stream_seq)`

// bury writes tombstones of deletions, which are rows r. It keeps the earliest
// deletion, or the latest of those that were inferred where there is no other.
func (s statements) bury(r *projection.Resource, rows, epoch string) string {
	return fmt.Sprintf(`insert into %[1]s.tombstones as t (resource, id, deleted_at, instance_id, source, stream_epoch, stream_seq)
select '%[2]s', r.id, r.deleted_at, r.instance_id, r.source, %[5]s, r.stream_seq from %[3]s
on conflict (resource, id) do update
set deleted_at = excluded.deleted_at, instance_id = excluded.instance_id, source = excluded.source, stream_epoch = excluded.stream_epoch, stream_seq = excluded.stream_seq, synced_at = excluded.synced_at, version = null
where t.version is not null or case when t.source = '%[4]s' then excluded.source <> '%[4]s' or excluded.deleted_at > t.deleted_at
    else excluded.source <> '%[4]s' and excluded.deleted_at < t.deleted_at end`, s.schema, r.Table, rows, streams.SourceReconcile, epoch)
}

// remove marks the entity's own row, and makes one where there is none: a
// deletion that comes before its entity leaves a row too.
func (s statements) remove(r *projection.Resource, rows, epoch string) string {
	return fmt.Sprintf(`insert into %[1]s.%[2]s as t (id, deleted_at, instance_id, synced_at, stream_epoch, stream_seq, source, version)
select r.id, r.deleted_at, r.instance_id, now(), %[6]s, r.stream_seq, r.source, ''::bytea from %[3]s
on conflict (id) do update set instance_id = coalesce(nullif(t.instance_id, ''), excluded.instance_id), %[4]s
where (t.deleted_at is null or t.deleted_at > excluded.deleted_at) and not %[5]s`, s.schema, r.Table, rows, s.marks(r, "excluded", "excluded.stream_epoch"),
		outlived("excluded.source", "t.version", "excluded.deleted_at"), epoch)
}

func (s statements) cascade(child *projection.Resource, column, rows, epoch string) string {
	return fmt.Sprintf(`update %[1]s.%[2]s as t set %[4]s
from %[3]s
where t.%[5]s = r.id and (t.deleted_at is null or t.deleted_at > r.deleted_at) and not %[6]s`, s.schema, child.Table, rows, s.marks(child, "r", epoch), column,
		outlived("r.source", "t.version", "r.deleted_at"))
}

// clear takes away what is personal in deleted rows, where a writer that doesn't
// know all columns has left it; "" where nothing is.
func (s statements) clear(r *projection.Resource) string {
	sets, some := s.nulls(r)
	if s.keep || some == "" {
		return ""
	}
	return fmt.Sprintf(`update %s.%s set %s where deleted_at is not null and %s`, s.schema, r.Table, sets, some)
}

// marks are what a deletion sets.
func (s statements) marks(r *projection.Resource, from, epoch string) string {
	sets := []string{
		fmt.Sprintf("deleted_at = %s.deleted_at, source = %[1]s.source, stream_seq = %[1]s.stream_seq, stream_epoch = %s, synced_at = now()", from, epoch),
	}
	for _, c := range r.Columns {
		if c.Personal && !s.keep {
			sets = append(sets, c.Name+" = null")
		}
	}
	return strings.Join(sets, ", ")
}
