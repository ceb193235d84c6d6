package store

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
)

// configurations are stores as different as they come.
func configurations() map[string]func(*Options) {
	return map[string]func(*Options){
		"all": func(o *Options) {
			o.Include = map[string][]string{"users": {"private_metadata"}, "organization_memberships": {"private_metadata"}}
		},
		"few": func(o *Options) {
			o.Schema, o.OnDelete = "orders", OnDeleteHard
			o.Resources, o.Exclude = []string{"users", "permissions"}, map[string][]string{"users": {"phone", "enterprise_accounts"}}
		},
		"tenancy": func(o *Options) { o.Tenancy = true },
	}
}

// catalogued are the columns that the database has: schema.relation.column, type
// and whether it can be null.
func catalogued(t *testing.T, db *pgx.Conn, schema string) map[string]string {
	t.Helper()
	rows, err := db.Query(t.Context(), `select c.relname, c.relkind = 'v', a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull
from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
where c.relnamespace = ($1::text)::regnamespace and c.relkind in ('r', 'v') and c.relname <> 'schema_version'`, schema)
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]string{}
	var relation, column, columnType string
	var view, notNull bool
	_, err = pgx.ForEachRow(rows, []any{&relation, &view, &column, &columnType, &notNull}, func() error {
		have[relation+"."+column] = columnLine(view, columnType, notNull)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return have
}

func columnLine(view bool, columnType string, notNull bool) string {
	if columnType == "timestamptz" {
		columnType = "timestamp with time zone"
	}
	return fmt.Sprintf("%s view %t not null %t", columnType, view, notNull && !view)
}

// What the description says is what the database has, column by column.
func TestRelationsAreTheSchemas(t *testing.T) {
	t.Parallel()
	for name, change := range configurations() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, _ := onDatabase(t, change)
			have := catalogued(t, f.db, f.Schema())
			for _, r := range f.Relations() {
				for _, a := range r.Attributes {
					column := r.Name + "." + a.Name
					if want := columnLine(r.View, a.Type, a.NotNull); have[column] != want {
						t.Errorf("%s is %q, described as %q", column, have[column], want)
					}
					delete(have, column)
				}
			}
			for column := range have {
				if !strings.HasPrefix(column, "sync_status.") { // the writer's own business
					t.Errorf("%s isn't described", column)
				}
			}
		})
	}
}

// objects are all that a schema holds: columns, views, functions, indexes,
// policies, comments and constraints.
const objects = `select string_agg(x, E'\n' order by x) from (
select concat_ws(' ', c.relname, c.relkind, a.attname, a.attnum, format_type(a.atttypid, a.atttypmod), a.attnotnull, col_description(c.oid, a.attnum), pg_get_viewdef(c.oid))
from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 where c.relnamespace = ($1::text)::regnamespace and c.relkind in ('r', 'v')
union all select concat_ws(' ', pg_get_functiondef(oid), proacl) from pg_proc where pronamespace = ($1::text)::regnamespace
union all select indexdef from pg_indexes where schemaname = $1::text
union all select concat_ws(' ', tablename, policyname, roles, qual, with_check) from pg_policies where schemaname = $1::text
union all select concat_ws(' ', conrelid::regclass, pg_get_constraintdef(oid)) from pg_constraint where connamespace = ($1::text)::regnamespace) as s(x)`

// The SQL for tests makes what a store makes, and a store finds nothing to do.
func TestTemplate(t *testing.T) {
	t.Parallel()
	for name, change := range configurations() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			made, _ := onDatabase(t, change)
			d := stacktest.Database(t)
			s, db := newStore(t, d, change, func(o *Options) { o.Migrate = MigrateOff }), connect(t, d.OwnerURL)
			text, err := s.Template()
			if err != nil {
				t.Fatal(err)
			}
			execute(t, db, text)
			role := scan[string](t, db, `select current_user`)
			madeBy := scan[string](t, made.db, `select current_user`)
			loaded := strings.ReplaceAll(scan[string](t, db, objects, s.Schema()), role, "owner")
			if migrated := strings.ReplaceAll(scan[string](t, made.db, objects, s.Schema()), madeBy, "owner"); loaded != migrated || len(loaded) < 1000 {
				t.Errorf("loaded\n%s\nmigrated\n%s", loaded, migrated)
			}
			if err := newStore(t, d, change).Migrate(t.Context()); err != nil {
				t.Error(err)
			}
			if again, _ := s.Template(); again != text {
				t.Error("another time it is another text")
			}
			execute(t, db, fmt.Sprintf(`create table public.orders (user_id text references %q.users)`, s.Schema()), fmt.Sprintf(`insert into public.orders values (%q.ensure_user('user_1'))`, s.Schema()))
		})
	}
}
