package streams_test

import (
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write asyncapi.yaml and the tables of README.md")

// constant is one of the package's, with what its comment says.
type constant struct{ name, value, comment string }

// source is what asyncapi.yaml and README.md take from the package's source.
type source struct {
	constants []constant
	comments  map[string]string // of "Type" and "Type.Field"
}

func parseSource(t *testing.T) source {
	t.Helper()
	s := source{comments: map[string]string{}}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			if decl, ok := d.(*ast.GenDecl); ok {
				for _, spec := range decl.Specs {
					s.add(decl, spec)
				}
			}
		}
	}
	return s
}

func (s *source) add(decl *ast.GenDecl, spec ast.Spec) {
	switch spec := spec.(type) {
	case *ast.ValueSpec:
		if len(spec.Values) != 1 {
			return
		}
		if literal, ok := spec.Values[0].(*ast.BasicLit); ok && decl.Tok == token.CONST && literal.Kind == token.STRING {
			value, _ := strconv.Unquote(literal.Value)
			s.constants = append(s.constants, constant{spec.Names[0].Name, value, prose(spec.Comment)})
		}
	case *ast.TypeSpec:
		doc := spec.Doc
		if doc == nil {
			doc = decl.Doc
		}
		s.comments[spec.Name.Name] = prose(doc)
		if structure, ok := spec.Type.(*ast.StructType); ok {
			for _, field := range structure.Fields.List {
				comment := field.Comment
				if comment == nil {
					comment = field.Doc
				}
				for _, name := range field.Names {
					s.comments[spec.Name.Name+"."+name.Name] = prose(comment)
				}
			}
		}
	}
}

var docLink = regexp.MustCompile(`\*?\[([A-Z][A-Za-z.]*)\]`)

// prose is a comment as one line, without Go's links.
func prose(c *ast.CommentGroup) string {
	if c == nil {
		return ""
	}
	return docLink.ReplaceAllString(strings.Join(strings.Fields(c.Text()), " "), "$1")
}

// section is the constants of one block of the source,
// from the one called from to the one called to.
func (s source) section(from, to string) []constant {
	var found []constant
	for _, c := range s.constants {
		if c.name == from || len(found) > 0 {
			found = append(found, c)
		}
		if c.name == to {
			break
		}
	}
	return found
}

func (s source) eventHeaders() []constant { return s.section("HeaderMsgID", "HeaderTraceparent") }
func (s source) deadHeaders() []constant  { return s.section("HeaderReason", "HeaderAttempts") }
func (s source) sources() []constant      { return s.section("SourceWebhook", "SourceOperator") }
func (s source) sinks() []constant        { return s.section("SinkIngest", "SinkRevoke") }

// holds compares a generated file with what is there, or writes it.
func holds(t *testing.T, file, want string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(strings.Split(string(readFile(t, file)), "\n"), strings.Split(want, "\n")); diff != "" {
		t.Errorf("%s is not what the code says; run go test ./streams -update (-file +code):\n%s", file, diff)
	}
}
