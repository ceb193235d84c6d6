package streams_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"strings"
	"testing"
)

// The tables of README.md that list constants or types, and its example, are
// made from the source.
func TestREADME(t *testing.T) {
	t.Parallel()
	s := parseSource(t)
	text := string(readFile(t, "README.md"))
	stores := constant{value: "store-<name>", comment: "could not become a row of the store of that name"}
	for marker, content := range map[string]string{
		"headers":      table("Header", s.eventHeaders()),
		"dead headers": table("Header", s.deadHeaders()),
		"sources":      table("Source", s.sources()),
		"sinks":        table("Sink", append(s.sinks(), stores)),
		"payloads":     payloadTable(t),
		"example":      "```go\n" + exampleSource(t) + "```\n",
	} {
		before, rest, ok := strings.Cut(text, "<!-- "+marker+" -->\n")
		_, after, closed := strings.Cut(rest, "<!-- end -->")
		if !ok || !closed {
			t.Fatalf("README.md has no place for %q", marker)
		}
		text = before + "<!-- " + marker + " -->\n" + content + "<!-- end -->" + after
	}
	holds(t, "README.md", text)
}

func table(head string, constants []constant) string {
	var b strings.Builder
	fmt.Fprintf(&b, "| %s | |\n|---|---|\n", head)
	for _, c := range constants {
		fmt.Fprintf(&b, "| `%s` | %s |\n", c.value, c.comment)
	}
	return b.String()
}

func payloadTable(t *testing.T) string {
	var b strings.Builder
	b.WriteString("| Go | Types |\n|---|---|\n")
	for _, p := range payloadTypes(t) {
		types := "`" + strings.Join(p.types, "`, `") + "`"
		if len(p.types) == 0 {
			types = "of any other resource"
		}
		fmt.Fprintf(&b, "| `%s` | %s |\n", p.name, types)
	}
	return b.String()
}

// exampleSource is the text of the functions in example_test.go.
func exampleSource(t *testing.T) string {
	t.Helper()
	text := readFile(t, "example_test.go")
	files := token.NewFileSet()
	f, err := parser.ParseFile(files, "example_test.go", text, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, d := range f.Decls {
		if function, ok := d.(*ast.FuncDecl); ok {
			if b.Len() > 0 {
				b.WriteString("\n")
			}
			b.Write(text[files.Position(function.Pos()).Offset:files.Position(function.End()).Offset])
			b.WriteString("\n")
		}
	}
	return b.String()
}
