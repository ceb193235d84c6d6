package projection

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Selection is what a store asks for.
type Selection struct {
	Tables  []string            // the resources; none means all
	Include map[string][]string // by table: optional columns that it wants
	Exclude map[string][]string // by table: columns that it doesn't
}

// Problem is a mistake in a selection.
type Problem struct {
	At    string   // "resources[1]", "exclude.users[0]", as in rollcall.yaml
	What  string   // reads on after At
	Name  string   // that is unknown, and
	Known []string // those that there are
}

func (p Problem) String() string {
	if p.Known == nil {
		return p.At + " " + p.What
	}
	return p.At + " " + p.What + "; known are " + strings.Join(p.Known, ", ")
}

// Pick are the resources with those of all columns that are wanted, parents
// first. A resource goes with its id.
func Pick(want func(*Resource, *Column) bool) (list []*Resource) {
	for _, r := range declared {
		on := *r
		on.Columns = nil
		for _, c := range r.Columns {
			if want(r, &c) {
				on.Columns = append(on.Columns, c)
			}
		}
		if len(on.Columns) > 0 && on.Columns[0].Name == "id" {
			list = append(list, &on)
		}
	}
	return list
}

// Resources are those selected, each with the columns selected, parents first.
func (s Selection) Resources() []*Resource { return Pick(s.Has) }

// Has reports whether a column is selected.
func (s Selection) Has(r *Resource, c *Column) bool {
	return s.keeps(r.Table) && !slices.Contains(s.Exclude[r.Table], c.Name) &&
		(!c.Optional || slices.Contains(s.Include[r.Table], c.Name))
}

func (s Selection) keeps(table string) bool {
	return len(s.Tables) == 0 || slices.Contains(s.Tables, table)
}

// Problems are the mistakes in a selection, none if it can be kept.
func (s Selection) Problems() (list []Problem) {
	for i, table := range s.Tables {
		if declaredTable(table) == nil {
			list = append(list, noResource(fmt.Sprintf("resources[%d]", i), table))
		}
	}
	for _, table := range slices.Sorted(maps.Keys(s.Include)) {
		list = append(list, s.columnProblems("include", table, s.Include[table])...)
	}
	for _, table := range slices.Sorted(maps.Keys(s.Exclude)) {
		list = append(list, s.columnProblems("exclude", table, s.Exclude[table])...)
	}
	return list
}

// columnProblems are those of one table's columns under a key.
func (s Selection) columnProblems(key, table string, columns []string) (list []Problem) {
	r := declaredTable(table)
	switch {
	case r == nil:
		return []Problem{noResource(key+"."+table, table)}
	case !s.keeps(table):
		return []Problem{{At: key + "." + table, What: "is of no use, since resources leaves " + table + " out; take one of them away"}}
	}
	for i, name := range columns {
		at := fmt.Sprintf("%s.%s[%d]", key, table, i)
		column := r.Column(name)
		switch {
		case column < 0:
			list = append(list, Problem{at, fmt.Sprintf("is %q, which %s doesn't have", name, table), name, r.columnNames()})
		case key == "include":
		case slices.Contains(s.Include[table], name):
			list = append(list, Problem{At: at, What: fmt.Sprintf("is %s, which include.%s asks for; keep one of them", name, table)})
		case r.needs(&r.Columns[column]) != "":
			list = append(list, Problem{At: at, What: fmt.Sprintf("is %s, which no store can leave out: %s", name, r.needs(&r.Columns[column]))})
		}
	}
	return list
}

func noResource(at, table string) Problem {
	known := make([]string, len(declared))
	for i, r := range declared {
		known[i] = r.Table
	}
	return Problem{at, fmt.Sprintf("is %q, which is no resource", table), table, known}
}

func declaredTable(table string) *Resource { return keeps(declared, table) }

func (r *Resource) columnNames() (names []string) {
	for _, c := range r.Columns {
		names = append(names, c.Name)
	}
	return names
}

// needs says what can't do without the column, "" where nothing needs it.
func (r *Resource) needs(c *Column) string {
	if c.Name == "id" {
		return "an event finds its row by it"
	}
	for _, p := range r.Parents {
		if p.Column == c.Name {
			return "rows go by it when one of " + p.Table + " is deleted"
		}
	}
	return c.Needed
}
