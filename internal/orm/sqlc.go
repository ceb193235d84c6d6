package orm

import (
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/rollcall-dev/rollcall/internal/store"
)

const sqlcHead = `-- The tables and views that Rollcall keeps in schema %s, for sqlc to read: views stand here as
-- tables, so that their columns have types. Made by rollcall store schema; not to be edited.
-- To make a schema for tests: rollcall store schema NAME --format sql
`

func sqlc(schema string, relations []store.Relation) string {
	var b strings.Builder
	quoted := pgx.Identifier{schema}.Sanitize()
	fmt.Fprintf(&b, sqlcHead+"create schema if not exists %[2]s;\n", schema, quoted)
	for _, r := range relations {
		name := quoted + "." + r.Name
		fmt.Fprintf(&b, "\ncreate table %s (\n", name)
		for i, a := range r.Attributes {
			if i > 0 {
				b.WriteString(",\n")
			}
			fmt.Fprintf(&b, "    %s %s", a.Name, a.Type)
			if a.NotNull {
				b.WriteString(" not null")
			}
		}
		if r.Key != nil {
			fmt.Fprintf(&b, ",\n    primary key (%s)", strings.Join(r.Key, ", "))
		}
		b.WriteString("\n);\n")
		fmt.Fprintf(&b, "comment on table %s is %s;\n", name, literal(r.Doc))
		for _, a := range r.Attributes {
			if a.Doc != "" {
				fmt.Fprintf(&b, "comment on column %s.%s is %s;\n", name, a.Name, literal(a.Doc))
			}
		}
	}
	for _, r := range relations {
		if ensured := map[string]string{"users": "ensure_user", "organizations": "ensure_organization"}[r.Name]; ensured != "" {
			fmt.Fprintf(&b, "\ncreate function %s.%s(id text) returns text language sql as 'select id';\n", quoted, ensured)
		}
	}
	return b.String()
}

func literal(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
