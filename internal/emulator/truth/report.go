package truth

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// Kind is what is wrong with a row.
type Kind string

// The kinds.
const (
	Missing   Kind = "missing"   // Clerk has the entity, the store has no live row
	Extra     Kind = "extra"     // the store has a live row, Clerk has no such entity
	Different Kind = "different" // both have it, one column differs
)

// Difference is one thing in which a store isn't as Clerk is.
type Difference struct {
	Resource string `json:"resource"`
	ID       string `json:"id"`
	Kind     Kind   `json:"kind"`
	// Field, Clerk and Store are set where Kind is Different: the column and its two
	// values as canonical JSON, times in Unix milliseconds.
	Field string `json:"field,omitempty"`
	Clerk string `json:"clerk,omitempty"`
	Store string `json:"store,omitempty"`
	// Reason says more where Kind is Missing or Extra.
	Reason string `json:"reason,omitempty"`
}

func (d Difference) String() string {
	if d.Kind == Different {
		return fmt.Sprintf("%s %s %s: %s in Clerk, %s in the store", d.Resource, d.ID, d.Field, d.Clerk, d.Store)
	}
	return fmt.Sprintf("%s %s: %s: %s", d.Resource, d.ID, d.Kind, d.Reason)
}

// Summary is one resource's.
type Summary struct {
	Resource string `json:"resource"`
	// Kept: the store has the resource's table. All below is zero where it hasn't.
	Kept     bool `json:"kept"`
	Compared int  `json:"compared"` // live entities of Clerk
	Missing  int  `json:"missing"`
	Extra    int  `json:"extra"`
	// Different are entities, of which each may differ in several fields.
	Different int `json:"different"`
	// NotCompared are columns of the table that the contract doesn't have.
	NotCompared []string `json:"not_compared,omitempty"`
}

// Report is what Compare has found, in the contract's order of resources, then
// by id and field.
type Report struct {
	Resources   []Summary    `json:"resources"`
	Differences []Difference `json:"differences"`
}

// Equal says that the store is as Clerk is.
func (r Report) Equal() bool { return len(r.Differences) == 0 }

// Write prints the differences, a line each, and a table of the resources.
func (r Report) Write(w io.Writer) error {
	for _, d := range r.Differences {
		if _, err := fmt.Fprintln(w, d); err != nil {
			return fmt.Errorf("print the differences: %w", err)
		}
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "resource\tcompared\tmissing\textra\tdifferent\t") //nolint:errcheck // Flush tells
	for _, s := range r.Resources {
		note := ""
		if len(s.NotCompared) > 0 {
			note = "not compared: " + strings.Join(s.NotCompared, ", ")
		}
		if s.Kept {
			fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t%s\n", s.Resource, s.Compared, s.Missing, s.Extra, s.Different, note) //nolint:errcheck // Flush tells
		} else {
			fmt.Fprintf(t, "%s\tnot kept by this store\n", s.Resource) //nolint:errcheck // Flush tells
		}
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("print the summary: %w", err)
	}
	return nil
}

// finish sorts the differences and counts them.
func (r *Report) finish() {
	place := map[string]int{}
	for i, s := range r.Resources {
		place[s.Resource] = i
	}
	slices.SortFunc(r.Differences, func(a, b Difference) int {
		return cmp.Or(cmp.Compare(place[a.Resource], place[b.Resource]), cmp.Compare(a.ID, b.ID), cmp.Compare(a.Field, b.Field), cmp.Compare(a.Kind, b.Kind))
	})
	for i, d := range r.Differences {
		s := &r.Resources[place[d.Resource]]
		switch d.Kind {
		case Missing:
			s.Missing++
		case Extra:
			s.Extra++
		case Different:
			if i == 0 || r.Differences[i-1].Resource != d.Resource || r.Differences[i-1].ID != d.ID {
				s.Different++
			}
		}
	}
}
