// Package projection says what a row is made of, and which of two events about
// an entity wins. It is pure: events in, rows out, no I/O.
//
// Which column comes from where is one table, in resources.go; the DDL, the
// writer and the documentation read it.
package projection

import "strings"

// Type is a column's type.
type Type int

// The types, with the Postgres type that they become.
const (
	Text      Type = iota // text
	ID                    // text; "" is null
	Bool                  // boolean
	Integer               // bigint
	Timestamp             // timestamptz; Clerk's milliseconds since 1970
	JSON                  // jsonb
	TextArray             // text[]
)

// Column is one column of a resource's table.
type Column struct {
	Name string
	Type Type
	// Path in the event's data, with dots between members; "" for a made column.
	Path string
	// Made computes the column from several members.
	Made func(*Fields) (Value, error)
	// Personal columns are null once the entity is deleted.
	Personal bool
	// Volatile columns change without the entity's version; drift checks pass over them.
	Volatile bool
	// Index is made for look-ups by this column.
	Index bool
	Doc   string
}

// Parent is an entity whose deletion deletes the row too.
type Parent struct {
	Table  string // the parent's table: its name as a resource
	Column string // of this resource, holding the parent's id
}

// Resource is one of Clerk's resources and the table that it becomes.
type Resource struct {
	Table   string // "organization_memberships"
	Object  string // Clerk's name in event types: "organizationMembership"
	Columns []Column
	// Reads are members of the event's data that made columns read.
	Reads   []string
	Parents []Parent
}

// members are all that is read of the event's data.
func (r *Resource) members() []string {
	all := append([]string{"id", "updated_at"}, r.Reads...)
	for _, c := range r.Columns {
		if c.Made == nil {
			first, _, _ := strings.Cut(c.Path, ".")
			all = append(all, first)
		}
	}
	return all
}

// ByTable finds a resource by its table's name.
func ByTable(table string) *Resource {
	for _, r := range Resources() {
		if r.Table == table {
			return r
		}
	}
	return nil
}

// Column finds a column's place, -1 where there is none of that name.
func (r *Resource) Column(name string) int {
	for i := range r.Columns {
		if r.Columns[i].Name == name {
			return i
		}
	}
	return -1
}
