package store

import (
	"strings"
)

// Relation is a table or a view, as whoever reads the store sees it.
type Relation struct {
	Name       string // "organization_memberships_live"
	Row        string // what a row is called: "organizationMembership"; a view's may be another's
	Doc        string
	View       bool
	Key        []string // of a table: its primary key
	Attributes []Attribute
}

// Attribute is a column of a Relation.
type Attribute struct {
	Name    string
	Type    string // Postgres's: text, boolean, bigint, timestamptz, jsonb, text[] or bytea
	NotNull bool   // of a view's too, though Postgres doesn't know it of views
	Doc     string
}

// Relations are what the configuration makes of the schema, for those who
// describe it to another tool. Each table is followed by its view of what lives.
// Columns that are only the writer's business are left out of sync_status.
func (s *Store) Relations() (list []Relation) {
	for _, r := range s.wanted {
		table := Relation{Name: r.Table, Row: r.Object, Doc: r.Doc, Key: []string{"id"}}
		for _, c := range r.Columns {
			table.Attributes = append(table.Attributes, Attribute{c.Name, c.Type.String(), c.Name == "id", c.Doc})
		}
		table.Attributes = append(table.Attributes, attributes(bookkeeping)...)
		list = append(list, table, live(table))
	}
	for _, v := range viewsOf(s.wanted) {
		list = append(list, Relation{Name: v.name, Row: v.row, Doc: v.doc, View: true, Attributes: attributes(v.columns)})
	}
	return append(list,
		Relation{Name: "tombstones", Row: "tombstone", Doc: "what was deleted, for ever", Key: []string{"resource", "id"}, Attributes: attributes(tombstoneColumns)},
		Relation{Name: "sync_status", Row: "syncStatus", Doc: "how far the store has come; one row", Key: []string{"store"}, Attributes: attributes(statusColumns)})
}

// live is the view of a table that is without the deleted.
func live(table Relation) Relation {
	return Relation{Name: table.Name + "_live", Row: table.Row, Doc: table.Doc + ", without the deleted", View: true, Attributes: table.Attributes}
}

// Columns of the tables that numbered migrations make; a test holds them to those.
const (
	tombstoneColumns = `resource text not null, id text not null, deleted_at timestamptz not null, instance_id text not null, source text not null, stream_epoch bigint not null, stream_seq bigint not null, synced_at timestamptz not null, version bytea`
	statusColumns    = `store text not null, epoch bigint not null, position bigint not null, position_time timestamptz, lag bigint not null, complete_since timestamptz, dead_letters bigint not null, updated_at timestamptz not null, incomplete text[] not null, fill_position bigint not null, fill_to bigint not null, reconciled jsonb not null`
)

// attributeDocs are of columns that every table has.
var attributeDocs = map[string]string{
	"deleted_at":   "null while it lives",
	"instance_id":  "Clerk's instance",
	"synced_at":    "when Rollcall wrote the row",
	"stream_epoch": "with stream_seq: the event that the row is from",
	"source":       "webhook, backfill, …; stub: made by ensure_user or ensure_organization, before its event",
	"version":      "by which the newer of two contents is known",
}

// attributes reads columns as DDL has them, without defaults.
func attributes(columns string) (list []Attribute) {
	for _, column := range strings.Split(columns, ", ") {
		name, rest, _ := strings.Cut(column, " ")
		t, notNull := strings.CutSuffix(rest, " not null")
		list = append(list, Attribute{name, t, notNull, attributeDocs[name]})
	}
	return list
}

// Template is the whole schema as SQL for psql, of an empty database: what a
// service's own tests need in place of a Rollcall. Whoever runs it owns it.
func (s *Store) Template() (string, error) {
	statements, err := s.additions(&catalog{exists: true}, "")
	if err != nil {
		return "", err
	}
	statements = append([]string{"create schema if not exists " + s.schema}, statements...) // Prisma makes it before
	return s.Script(additive(statements)), nil
}
