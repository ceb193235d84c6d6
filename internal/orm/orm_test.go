package orm

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/rollcall-dev/rollcall/internal/emulator/nodetest"
	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
	"github.com/rollcall-dev/rollcall/internal/store"
)

func TestMain(m *testing.M) { stacktest.Main(m) }

func newStore(t *testing.T, change ...func(*store.Options)) *store.Store {
	t.Helper()
	o := store.Options{Name: "orders", Migrate: store.MigrateAuto, Schema: "clerk", Log: zap.NewNop(), Metrics: store.NewMetrics(prometheus.NewRegistry())}
	for _, c := range change {
		c(&o)
	}
	s, err := store.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	db, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close(context.Background()) })
	return db
}

func run(t *testing.T, db *pgx.Conn, sql string) {
	t.Helper()
	if _, err := db.PgConn().Exec(t.Context(), sql).ReadAll(); err != nil {
		t.Fatalf("%v\n%.2000s", err, sql)
	}
}

func text(t *testing.T, s *store.Store, format string) string {
	t.Helper()
	out, err := Describe(format, s.Schema(), s.Relations())
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := Describe(format, s.Schema(), s.Relations()); again != out {
		t.Errorf("%s: another time it is another text", format)
	}
	return out
}

// want are the columns as the store's own test holds them to the catalog, each
// spelled by a format.
func want(s *store.Store, spell func(store.Attribute) string) map[string]string {
	columns := map[string]string{}
	for _, r := range s.Relations() {
		for _, a := range r.Attributes {
			columns[s.Schema()+"."+r.Name+"."+a.Name] = spell(a)
		}
	}
	return columns
}

func same(t *testing.T, format string, got, want map[string]string) {
	t.Helper()
	for column, is := range want {
		if got[column] != is {
			t.Errorf("%s has %s as %q, want %q", format, column, got[column], is)
		}
	}
	for column := range got {
		if _, known := want[column]; !known && !strings.HasPrefix(column, "public.") {
			t.Errorf("%s has %s, which isn't there", format, column)
		}
	}
}

func few(o *store.Options) {
	o.Schema, o.Resources, o.Exclude = "few", []string{"permissions", "users"}, map[string][]string{"users": {"phone"}}
}

// What sqlc reads, Postgres reads too; the columns are the store's.
func TestSQLC(t *testing.T) {
	t.Parallel()
	for _, s := range []*store.Store{newStore(t), newStore(t, few)} {
		db := connect(t, stacktest.Database(t).OwnerURL)
		run(t, db, text(t, s, SQLC))
		rows, err := db.Query(t.Context(), `select concat_ws('.', table_schema, table_name, column_name), concat(case data_type when 'ARRAY' then 'text[]' when 'timestamp with time zone' then 'timestamptz' else data_type end, ' ', is_nullable = 'NO')
from information_schema.columns where table_schema = $1`, s.Schema())
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		var column, is string
		if _, err := pgx.ForEachRow(rows, []any{&column, &is}, func() error { got[column] = is; return nil }); err != nil {
			t.Fatal(err)
		}
		same(t, SQLC, got, want(s, func(a store.Attribute) string {
			if a.NotNull {
				return a.Type + " t"
			}
			return a.Type + " f"
		}))
		run(t, db, fmt.Sprintf(`select %q.ensure_user('user_1')`, s.Schema()))
	}
}

func TestUnknownFormat(t *testing.T) {
	t.Parallel()
	if _, err := Describe("hibernate", "clerk", nil); err == nil {
		t.Error("it is described")
	}
}

// A schema that is called public has no name in Drizzle.
func TestDrizzleInPublic(t *testing.T) {
	t.Parallel()
	out := text(t, newStore(t, func(o *store.Options) { o.Schema, o.Resources = "public", []string{"permissions"} }), Drizzle)
	for _, wrong := range []string{"pgSchema", "boolean", "integer"} {
		if strings.Contains(out, wrong) {
			t.Errorf("it has %s:\n%.1500s", wrong, out)
		}
	}
	for _, right := range []string{"= pgTable('permissions'", "= pgView('permissions_live'", "import { bigint, customType, jsonb, pgTable, pgView, primaryKey, text, timestamp }"} {
		if !strings.Contains(out, right) {
			t.Errorf("it lacks %s:\n%.1500s", right, out)
		}
	}
}

var file = regexp.MustCompile("(?ms)^```\\w+\n(?://|#) (\\S+)\n(.*?)^```$")

// service writes the files of a service as deploy/docs/orm.md has them, and
// beside them those that are made of its store.
func service(t *testing.T, s *store.Store) string {
	t.Helper()
	page, err := os.ReadFile("../../deploy/docs/orm.md")
	if err != nil {
		t.Fatal(err)
	}
	template, err := s.Template()
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{"prisma/clerk.prisma": text(t, s, Prisma), "src/db/clerk.ts": text(t, s, Drizzle), "db/clerk.sql": template}
	for _, m := range file.FindAllStringSubmatch(string(page), -1) {
		files[m[1]] = m[2]
	}
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// The page's files, with Prisma's and Drizzle's own code: columns as the store
// has them, and migrations that have the service's table and its foreign key,
// and nothing of Rollcall's.
func TestPrismaAndDrizzle(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	d := stacktest.Database(t)
	dir := service(t, s)
	edit(t, filepath.Join(dir, "prisma/clerk.prisma"), "model ClerkUser {", "model ClerkUser {\n  orders Order[]\n")
	modules, err := filepath.Abs("testdata/node/node_modules")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(modules, filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	template, err := s.Template()
	if err != nil {
		t.Fatal(err)
	}
	run(t, connect(t, d.AdminURL), template)
	input, err := json.Marshal(map[string]string{"dir": dir, "url": d.AdminURL})
	if err != nil {
		t.Fatal(err)
	}
	var out struct {
		Prisma, Drizzle struct {
			Columns     map[string]string
			First, Then string // what migrations would do
			Shadow      string
			Rows        []struct{ User string }
		}
	}
	said := nodetest.RunIn(t, "testdata/node", "check.mjs", input)
	if err := json.Unmarshal(said, &out); err != nil {
		t.Fatalf("%v, in %d bytes: %s", err, len(said), said)
	}

	same(t, Prisma, out.Prisma.Columns, want(s, func(a store.Attribute) string {
		t := map[string]string{
			"text": "String ", "boolean": "Boolean ", "bigint": "BigInt ", "timestamptz": "DateTime Timestamptz", "jsonb": "Json ", "text[]": "String[] ", "bytea": "Bytes ",
		}[a.Type]
		return fmt.Sprintf("%s %t", t, a.NotNull || a.Type == "text[]")
	}))
	same(t, Drizzle, out.Drizzle.Columns, want(s, func(a store.Attribute) string {
		t := a.Type
		if t == "timestamptz" {
			t = "timestamp with time zone"
		}
		return fmt.Sprintf("%s %t", t, a.NotNull)
	}))
	for tool, sql := range map[string]string{Prisma: out.Prisma.First, Drizzle: out.Drizzle.First} {
		if strings.Count(sql, "CREATE TABLE") != 1 || strings.Contains(sql, `SCHEMA IF NOT EXISTS "clerk"`) || strings.Contains(sql, `SCHEMA "clerk"`) || strings.Contains(sql, "DROP") ||
			!strings.Contains(sql, `REFERENCES "clerk"."users"("id")`) {
			t.Errorf("%s's first migration:\n%s", tool, sql)
		}
	}
	// Prisma makes the schemas of its shadow database first.
	run(t, connect(t, stacktest.Database(t).OwnerURL), `create schema clerk; `+out.Prisma.Shadow)
	if !strings.Contains(out.Drizzle.Then, "No changes detected") {
		t.Errorf("Drizzle's next push:\n%s", out.Drizzle.Then)
	}
	if rows := out.Drizzle.Rows; len(rows) != 1 || rows[0].User != "Ada" {
		t.Errorf("Drizzle reads %v", rows)
	}
}

func edit(t *testing.T, path, old, with string) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(content), old, with, 1)), 0o644); err != nil {
		t.Fatal(err)
	}
}

// The page's files, with Alembic and with Django where there are such.
func TestPython(t *testing.T) {
	t.Parallel()
	for tool, needs := range map[string]string{"alembic": "alembic, psycopg2", "django": "django, psycopg2"} {
		t.Run(tool, func(t *testing.T) {
			t.Parallel()
			python := findPython(t, needs)
			s := newStore(t)
			d := stacktest.Database(t)
			template, err := s.Template()
			if err != nil {
				t.Fatal(err)
			}
			run(t, connect(t, d.OwnerURL), template)
			script, err := filepath.Abs("testdata/check_" + tool + ".py")
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), python, script, d.OwnerURL)
			cmd.Dir = service(t, s)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// findPython is one that has the modules: the first in PATH, or the system's.
func findPython(t *testing.T, modules string) string {
	t.Helper()
	for _, python := range []string{"python3", "/usr/bin/python3"} {
		if exec.CommandContext(t.Context(), python, "-c", "import "+modules).Run() == nil {
			return python
		}
	}
	t.Skipf("NOT TESTED: there is no python3 with %s", modules)
	return ""
}
