package orm

import (
	"fmt"
	"slices"
	"strings"

	"github.com/rollcall-dev/rollcall/internal/store"
)

const prismaHead = `// The tables and views that Rollcall keeps in schema %[1]s. Made by rollcall store schema; not to be edited
// but for the other side of relations that your own models have.
//
// The datasource needs schemas = ["public", "%[1]s"], the generator previewFeatures = ["views"],
// and prisma.config.ts has to name the tables as external ones.
`

// prisma has no relations among the tables: they would be foreign keys, which
// the tables don't have, since a child's event may come before its parent's.
func prisma(schema string, relations []store.Relation) string {
	var b strings.Builder
	fmt.Fprintf(&b, prismaHead, schema)
	for _, r := range relations {
		kind, name := "model", "Clerk"+pascal(r.Row)
		if r.View {
			kind = "view"
		}
		if strings.HasSuffix(r.Name, "_live") {
			name += "Live"
		}
		fmt.Fprintf(&b, "\n/// %s\n%s %s {\n", r.Doc, kind, name)
		for _, a := range r.Attributes {
			b.WriteString(prismaField(r, a))
		}
		if len(r.Key) > 1 {
			fmt.Fprintf(&b, "\n  @@id([%s])", strings.Join(r.Key, ", "))
		}
		fmt.Fprintf(&b, "\n  @@map(%q)\n  @@schema(%q)\n}\n", r.Name, schema)
	}
	return b.String()
}

func prismaField(r store.Relation, a store.Attribute) string {
	field := "  " + a.Name + " " + prismaType(a)
	if a.Type == "timestamptz" {
		field += " @db.Timestamptz(6)"
	}
	if slices.Equal(r.Key, []string{a.Name}) {
		field += " @id"
	}
	if a.Doc != "" {
		field = "  /// " + a.Doc + "\n" + field
	}
	return field + "\n"
}

func prismaType(a store.Attribute) string {
	t := map[string]string{
		"text": "String", "boolean": "Boolean", "bigint": "BigInt", "timestamptz": "DateTime", "jsonb": "Json", "text[]": "String[]", "bytea": "Bytes",
	}[a.Type]
	if a.NotNull || strings.HasSuffix(t, "[]") { // Prisma reads a null list as an empty one
		return t
	}
	return t + "?"
}
