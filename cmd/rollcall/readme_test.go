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

var update = flag.Bool("update", false, "write the generated tables into README.md")

// TestReadme holds README's tables against the code that they speak of.
func TestReadme(t *testing.T) {
	const file = "../../README.md"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	readme := string(text)
	for name, table := range map[string]string{"columns": columnsTable(), "settings": settingsTable()} {
		before, rest, found := strings.Cut(readme, "<!-- "+name+": made by go test ./cmd/rollcall -run TestReadme -update -->\n")
		have, after, closed := strings.Cut(rest, "<!-- end of "+name+" -->")
		if !found || !closed {
			t.Fatalf("README.md has no place for %s", name)
		}
		if have != table && !*update {
			t.Errorf("README.md's %s aren't the code's: go test ./cmd/rollcall -run TestReadme -update", name)
		}
		readme = before + "<!-- " + name + ": made by go test ./cmd/rollcall -run TestReadme -update -->\n" + table + "<!-- end of " + name + " -->" + after
	}
	if *update {
		if err := os.WriteFile(file, []byte(readme), 0o644); err != nil {
			t.Fatal(err)
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
