// Package projection says what a row is made of, and which of two events about
// an entity wins. It is pure: events in, rows out, no I/O.
//
// Which column comes from where is one table, in people.go, access.go and
// billing.go; the DDL, the writer and the documentation read it.
package projection

import (
	"slices"
	"strings"
)

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
	// Made computes the column from the members that it Reads.
	Made  func(*Fields) (Value, error)
	Reads []string
	// Personal columns are null once the entity is deleted.
	Personal bool
	// Volatile columns change without the entity's version, such as the name of a
	// member's role; drift checks pass over them.
	Volatile bool
	// Optional columns are off unless they are asked for.
	Optional bool
	// Index is made for look-ups by this column.
	Index bool
	// Needed says what can't do without the column: no store leaves it out.
	Needed string
	Doc    string
}

// Parent is an entity whose deletion deletes the row too.
type Parent struct {
	Table  string // the parent's table: its name as a resource
	Column string // of this resource, holding the parent's id
}

// Embed is a list in a resource's events whose elements are entities of another
// resource. They are contents of [ClassEmbedded], of the event's times and id,
// so that an event of the element's own always wins.
type Embed struct {
	Member string // of the event's data, holding the list
	Table  string // the elements' resource
	// ParentID is the element's member that stands for the event's entity, filled
	// where the element lacks it.
	ParentID string
	// Inherits are members that an element without them has from the event.
	Inherits []string
}

// Resource is one of Clerk's resources and the table that it becomes.
type Resource struct {
	Table   string // "organization_memberships"
	Object  string // Clerk's name in event types: "organizationMembership"
	Doc     string // what a row is
	Columns []Column
	Parents []Parent
	// Terminal are the statuses that no other follows: a content that has one
	// beats any that has none, since Clerk needn't advance updated_at for it.
	Terminal []string
	Embeds   []Embed
	// Omits are the members of the event's data that become no column, and why.
	Omits map[string]string
}

// members are all that is read of the event's data.
func (r *Resource) members() []string {
	all := r.outerMembers()
	if len(r.Terminal) > 0 {
		all = append(all, "status")
	}
	for _, c := range r.Columns {
		if c.Made == nil {
			all = append(all, c.member())
		}
		all = append(all, c.Reads...)
	}
	return all
}

// outerMembers are what is read of the event of a resource that isn't kept.
func (r *Resource) outerMembers() []string {
	all := []string{"id", "updated_at"}
	for _, e := range r.Embeds {
		all = append(append(all, e.Member), e.Inherits...)
	}
	return all
}

// member of the event's data in which the column's value stands.
func (c *Column) member() string {
	first, _, _ := strings.Cut(c.Path, ".")
	return first
}

// terminal reports whether the status is one that no other follows. Where the
// event has none, its action says it.
func (r *Resource) terminal(status, action string) bool {
	if status == "" {
		status = action
	}
	return slices.Contains(r.Terminal, status)
}

// Resources are all that a store holds unless it asks for something else,
// parents first: without the optional columns. The first column of each is its
// id.
func Resources() []*Resource { return resources }

// Declared are the same with the optional columns.
func Declared() []*Resource { return declared }

var (
	declared  = slices.Concat(people, access, billing)
	resources = Pick(func(_ *Resource, c *Column) bool { return !c.Optional })
)

// ByTable finds a resource by its table's name.
func ByTable(table string) *Resource { return keeps(resources, table) }

// HasParent reports whether the deletion of one of the table's rows deletes
// rows of the resource.
func (r *Resource) HasParent(table string) bool {
	return slices.ContainsFunc(r.Parents, func(p Parent) bool { return p.Table == table })
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
