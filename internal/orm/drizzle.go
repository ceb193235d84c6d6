package orm

import (
	"fmt"
	"slices"
	"strings"

	"github.com/rollcall-dev/rollcall/internal/store"
)

const drizzleHead = `// The tables and views that Rollcall keeps in schema %s. Made by rollcall store schema; not to be edited.
// Import it as a whole (import * as clerk from …), and keep it out of the files that
// drizzle.config.ts names as schema: drizzle-kit would make the tables itself.
import { %s } from 'drizzle-orm/pg-core';

const bytea = customType<{ data: Uint8Array }>({ dataType: () => 'bytea' });
`

func drizzle(schema string, relations []store.Relation) string {
	var b strings.Builder
	table, view := "schema.table", "schema.view"
	if schema == "public" { // Drizzle's own word for it is to name none
		table, view = "pgTable", "pgView"
	} else {
		fmt.Fprintf(&b, "\nexport const schema = pgSchema('%s');\n", schema)
	}
	for _, r := range relations {
		maker, end := table, ")"
		switch {
		case r.View:
			maker, end = view, ").existing()"
		case len(r.Key) > 1:
			end = fmt.Sprintf(", (t) => [primaryKey({ columns: [t.%s] })])", strings.Join(r.Key, ", t."))
		}
		fmt.Fprintf(&b, "\n/** %s */\nexport const %s = %s('%s', {\n", r.Doc, camel(r.Name), maker, r.Name)
		for _, a := range r.Attributes {
			b.WriteString(drizzleColumn(r, a))
		}
		b.WriteString("}" + end + ";\n")
	}
	body := b.String()
	return fmt.Sprintf(drizzleHead, schema, strings.Join(drizzleImports(body), ", ")) + body
}

// drizzleImports are those that are used: a compiler may refuse others.
func drizzleImports(body string) []string {
	all := []string{"bigint", "boolean", "customType", "jsonb", "pgSchema", "pgTable", "pgView", "primaryKey", "text", "timestamp"}
	return slices.DeleteFunc(all, func(name string) bool {
		return name != "customType" && !strings.Contains(body, " "+name+"(") && !strings.Contains(body, "["+name+"(")
	})
}

func drizzleColumn(r store.Relation, a store.Attribute) string {
	text := "  " + a.Name + ": " + drizzleType(a)
	if a.NotNull {
		text += ".notNull()"
	}
	if slices.Equal(r.Key, []string{a.Name}) {
		text += ".primaryKey()"
	}
	if a.Doc != "" {
		text = "  /** " + a.Doc + " */\n" + text
	}
	return text + ",\n"
}

func drizzleType(a store.Attribute) string {
	switch a.Type {
	case "bigint":
		mode := "number"
		if strings.HasSuffix(a.Name, "epoch") { // nanoseconds: beyond a number's 53 bits
			mode = "bigint"
		}
		return fmt.Sprintf("bigint('%s', { mode: '%s' })", a.Name, mode)
	case "timestamptz":
		return fmt.Sprintf("timestamp('%s', { withTimezone: true })", a.Name)
	case "text[]":
		return fmt.Sprintf("text('%s').array()", a.Name)
	}
	return fmt.Sprintf("%s('%s')", a.Type, a.Name) // text, boolean, jsonb, bytea
}
