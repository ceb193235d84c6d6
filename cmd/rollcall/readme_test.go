package main

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/rollcall-dev/rollcall/internal/config"
	"github.com/rollcall-dev/rollcall/internal/projection"
)

var update = flag.Bool("update", false, "write the generated tables into the documentation")

// TestReadme holds the tables in the documentation against the code that they
// speak of.
func TestReadme(t *testing.T) {
	for _, c := range []struct{ file, name, table string }{
		{"../../README.md", "settings", settingsTable()},
		{"../../deploy/docs/stores.md", "columns", columnsTable()},
	} {
		text, err := os.ReadFile(c.file)
		if err != nil {
			t.Fatal(err)
		}
		begin := "<!-- " + c.name + ": made by go test ./cmd/rollcall -run TestReadme -update -->\n"
		end := "<!-- end of " + c.name + " -->"
		before, rest, found := strings.Cut(string(text), begin)
		have, after, closed := strings.Cut(rest, end)
		if !found || !closed {
			t.Fatalf("%s has no place for %s", c.file, c.name)
		}
		switch {
		case have == c.table:
		case *update:
			if err := os.WriteFile(c.file, []byte(before+begin+c.table+end+after), 0o644); err != nil {
				t.Fatal(err)
			}
		default:
			t.Errorf("%s: its %s aren't the code's: go test ./cmd/rollcall -run TestReadme -update", c.file, c.name)
		}
	}
}

func columnsTable() string {
	var b strings.Builder
	for _, r := range projection.Declared() {
		fmt.Fprintf(&b, "\n**%s**: %s\n\n| column | type | from | |\n|---|---|---|---|\n", r.Table, r.Doc)
		for _, c := range r.Columns {
			from := "`data." + c.Path + "`"
			if c.Made != nil {
				from = "made"
			}
			var notes []string
			if c.Doc != "" {
				notes = append(notes, c.Doc)
			}
			if c.Personal {
				notes = append(notes, "*personal*")
			}
			if c.Optional {
				notes = append(notes, "off")
			}
			if c.Index {
				notes = append(notes, "indexed")
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", c.Name, c.Type, from, strings.Join(notes, "; "))
		}
		if list := omitted(r); list != "" {
			b.WriteString("\nLeft out: " + list + ".\n")
		}
	}
	return b.String() + "\n"
}

// omitted names what of an event becomes no column, and why; that every row's
// kind is its table's needs no saying.
func omitted(r *projection.Resource) string {
	var list []string
	for _, member := range slices.Sorted(maps.Keys(r.Omits)) {
		if member != "object" {
			list = append(list, fmt.Sprintf("`%s` (%s)", member, r.Omits[member]))
		}
	}
	return strings.Join(list, ", ")
}

func settingsTable() string {
	var b strings.Builder
	b.WriteString("\n| setting | default | environment | |\n|---|---|---|---|\n")
	for _, s := range config.Table() {
		value := ""
		if s.Default != "" {
			value = "`" + s.Default + "`"
		}
		env := "`" + s.Env + "`"
		if s.Also != "" {
			env = "`" + strings.ReplaceAll(s.Also, ", ", "`, `") + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", s.Path, value, env, strings.ReplaceAll(s.Doc, "|", "\\|"))
	}
	return b.String() + "\n"
}
