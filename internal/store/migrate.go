package store

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/rollcall-dev/rollcall/internal/projection"
)

//go:embed sql/*.sql
var migrations embed.FS

// minPostgres is the oldest server: security_invoker views came with 15.
const minPostgres = 150000

// Migrate brings the schema to what this release and the configuration need, as
// the owner, in one transaction under the writer lock. Migration libraries take
// a session's advisory lock instead, which breaks behind a pooler. It only adds:
// what the configuration leaves out stays, and is written, until somebody agrees
// to its removal. With MigrateOff it only checks.
func (s *Store) Migrate(ctx context.Context) error {
	var present []*projection.Resource
	var drops []string
	err := s.asOwner(ctx, true, func(o *owner) error {
		plan, all, err := s.plan(ctx, o.tx, o.writer)
		if err != nil {
			return err
		}
		missing, left := plan.Split()
		present, drops = all, left.Drops()
		if s.o.Migrate == MigrateOff && len(missing) > 0 {
			s.owedOnce.Do(func() {
				s.o.Log.Info("what the schema's owner has to run", zap.String("sink", s.Name()), zap.String("sql", s.Script(missing)))
			})
			return s.owed(missing)
		}
		return s.run(ctx, o, missing)
	})
	if err != nil {
		return err
	}
	s.lay(present)
	s.tellLeftover(drops)
	return nil
}

// owner is a transaction of whoever may change the schema.
type owner struct {
	tx     pgx.Tx
	writer string // the role that writes the rows
}

// asOwner runs work in a transaction, with the writer lock where it is asked for.
func (s *Store) asOwner(ctx context.Context, locked bool, work func(*owner) error) error {
	o := &owner{}
	if err := s.pool.QueryRow(ctx, `select current_user`).Scan(&o.writer); err != nil {
		return fmt.Errorf("connect to the database: %w", err)
	}
	config, err := pgx.ParseConfig(s.o.MigrateDatabaseURL)
	if err != nil {
		return fmt.Errorf("migrate_database_url can't be parsed")
	}
	forPooler(config)
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return fmt.Errorf("connect to the database as the schema's owner: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if o.tx, err = conn.Begin(ctx); err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer o.tx.Rollback(context.WithoutCancel(ctx))
	if locked {
		if _, err := conn.PgConn().Exec(ctx, s.lockSQL()).ReadAll(); err != nil {
			return s.explain(ctx, err)
		}
	}
	if err := work(o); err != nil {
		return err
	}
	if err := o.tx.Commit(ctx); err != nil {
		return fmt.Errorf("commit schema %s: %w", s.o.Schema, err)
	}
	return nil
}

// run runs a plan.
func (s *Store) run(ctx context.Context, o *owner, p Plan) error {
	if len(p) == 0 {
		return nil
	}
	for _, st := range p {
		if _, err := o.tx.Conn().PgConn().Exec(ctx, st.SQL).ReadAll(); err != nil {
			return s.refusal(st, err)
		}
	}
	fields := []zap.Field{zap.String("sink", s.Name()), zap.Int("statements", len(p))}
	if drops := p.Drops(); len(drops) > 0 {
		fields = append(fields, zap.Strings("dropped", drops))
	}
	s.o.Log.Info("schema changed", fields...)
	return nil
}

// plan is what is missing, in order, then what is left over; and what the store
// has to write until that is dropped.
func (s *Store) plan(ctx context.Context, tx pgx.Tx, writer string) (Plan, []*projection.Resource, error) {
	c, err := readCatalog(ctx, tx, s.o.Schema, s.schema, s.relations)
	if c != nil && stateOf(err) == "42501" { // insufficient_privilege
		err = fmt.Errorf("%w; have the schema's owner run: %s", err, strings.Join(s.grants(c, writer), "; "))
	}
	if err != nil {
		return nil, nil, err
	}
	if err := s.checkOurs(c); err != nil {
		return nil, nil, err
	}
	statements, err := s.additions(c, writer)
	if err != nil {
		return nil, nil, err
	}
	present := s.present(c)
	drops, err := s.drops(ctx, tx, c, present)
	return append(additive(statements), drops...), present, err
}

// additions are the statements that add what isn't there.
func (s *Store) additions(c *catalog, writer string) ([]string, error) {
	statements, err := s.numbered(c)
	if err != nil {
		return nil, err
	}
	for _, r := range s.wanted {
		changes, err := s.tableChanges(c, r)
		if err != nil {
			return nil, err
		}
		statements = append(statements, changes...)
	}
	statements = append(statements, s.missingViews(c)...)
	statements = append(statements, s.policyChanges(c, writer)...)
	if !c.stores[s.o.Name] {
		statements = append(statements, fmt.Sprintf(`insert into %s.sync_status (store) values (%s) on conflict do nothing`, s.schema, literal(s.o.Name)))
	}
	// Whoever migrates is the writer where nobody else is named; with MigrateOff
	// somebody else will.
	if writer != "" && (writer != c.user || s.o.Migrate == MigrateOff) && (len(statements) > 0 || !c.granted[writer]) {
		statements = append(statements, s.grants(c, writer)...)
	}
	return statements, nil
}

// grants are what the writer needs.
func (s *Store) grants(c *catalog, writer string) []string {
	role := pgx.Identifier{writer}.Sanitize()
	return []string{
		fmt.Sprintf(`grant usage on schema %s to %s`, s.schema, role),
		fmt.Sprintf(`grant select, insert, update, delete on %s to %s`, s.schema+"."+strings.Join(s.relations(c), ", "+s.schema+"."), role),
	}
}

// relations are the tables and views that the writer needs. What else there may
// be in the schema is its owner's to grant.
func (s *Store) relations(c *catalog) []string {
	names := []string{"schema_version", "tombstones", "sync_status"}
	for _, r := range s.present(c) {
		names = append(names, r.Table)
		if _, whole := s.leftOver(r); !whole || c.views[r.Table+"_live"] {
			names = append(names, r.Table+"_live")
		}
	}
	wanted := viewsOf(s.wanted)
	for _, v := range allViews() {
		if c.views[v.name] || slices.ContainsFunc(wanted, func(w view) bool { return w.name == v.name }) {
			names = append(names, v.name)
		}
	}
	return names
}

// checkOurs refuses a schema that isn't Rollcall's to change.
func (s *Store) checkOurs(c *catalog) error {
	switch {
	case c.server < minPostgres:
		return fmt.Errorf("PostgreSQL %d is too old: Rollcall needs 15 or newer", c.server/10000)
	case c.version == 0 && len(c.relations) > 0:
		return fmt.Errorf("schema %s holds tables that aren't Rollcall's (%s): set schema of store %s to one that is empty or doesn't exist", s.o.Schema, c.relations[0], s.o.Name)
	case c.needs > newestMigration():
		return fmt.Errorf("schema %s needs a newer release of Rollcall (its version is %d, this release knows %d): upgrade this process", s.o.Schema, c.version, newestMigration())
	}
	for other := range c.stores {
		if other != s.o.Name {
			return fmt.Errorf("schema %s of this database belongs to store %s: give store %s a schema of its own", s.o.Schema, other, s.o.Name)
		}
	}
	return nil
}

func migrationFiles() []string {
	files, err := fs.Glob(migrations, "sql/*.sql")
	if err != nil {
		panic(err) // the pattern is constant
	}
	slices.Sort(files)
	return files
}

func newestMigration() int { return len(migrationFiles()) }

// numbered are the migrations that haven't run: functions, tombstones, status.
func (s *Store) numbered(c *catalog) ([]string, error) {
	var statements []string
	if c.version == 0 {
		if !c.exists {
			statements = append(statements, "create schema "+s.schema)
		}
		statements = append(statements,
			fmt.Sprintf(`create table %s.schema_version (version int not null, needs int not null, applied_at timestamptz not null default now())`, s.schema),
			fmt.Sprintf(`comment on table %s.schema_version is 'one row; needs is the oldest release''s version that can still run on this schema'`, s.schema),
			fmt.Sprintf(`insert into %s.schema_version (version, needs) values (0, 0)`, s.schema))
	}
	for i, file := range migrationFiles() {
		if i+1 <= c.version {
			continue
		}
		text, err := migrations.ReadFile(file)
		if err != nil {
			return nil, err
		}
		statements = append(statements,
			strings.ReplaceAll(string(text), "{schema}", s.schema),
			fmt.Sprintf(`update %s.schema_version set version = %d, applied_at = now()`, s.schema, i+1))
	}
	return statements, nil
}

// tableChanges compares a resource's columns with the catalog.
func (s *Store) tableChanges(c *catalog, r *projection.Resource) ([]string, error) {
	var statements []string
	have, exists := c.columns[r.Table]
	if !exists {
		statements = append(statements, s.createTable(r))
		if c.version > 0 {
			statements = append(statements, s.incomplete(r.Table))
		}
	} else if have["version"] != "bytea" {
		return nil, fmt.Errorf("table %s.%s isn't Rollcall's: rename or drop it", s.o.Schema, r.Table)
	}
	for _, column := range r.Columns {
		switch t, ok := have[column.Name]; {
		case !exists:
		case !ok:
			statements = append(statements, fmt.Sprintf(`alter table %s.%s add column %s %s`, s.schema, r.Table, column.Name, column.Type)+s.columnComment(r, column),
				s.incomplete(r.Table+"."+column.Name))
		case t != pgName(column.Type):
			return nil, fmt.Errorf("column %s.%s.%s is %s, and should be %s: rename or drop it", s.o.Schema, r.Table, column.Name, t, pgName(column.Type))
		}
	}
	statements = append(statements, s.missingIndexes(c, r)...)
	if len(statements) > 0 || !c.views[r.Table+"_live"] {
		// t.* at this moment: columns that are added later are added to the view too.
		statements = append(statements, s.liveView(r.Table))
	}
	return statements, nil
}

func (s *Store) liveView(table string) string {
	return fmt.Sprintf(`create or replace view %[1]s.%[2]s_live with (security_invoker = true) as select t.* from %[1]s.%[2]s t where t.deleted_at is null`, s.schema, table)
}

func (s *Store) missingIndexes(c *catalog, r *projection.Resource) (statements []string) {
	for _, column := range r.Columns {
		name := r.Table + "_" + column.Name
		if column.Index && !c.indexes[name] {
			statements = append(statements, fmt.Sprintf(`create index %s on %s.%s (%s) where %s is not null`, name, s.schema, r.Table, column.Name, column.Name))
		}
	}
	if name := fellowsIndex; r.Table == "organization_memberships" && s.o.Tenancy && !c.indexes[name] {
		statements = append(statements, fmt.Sprintf(`create index %s on %s.%s (organization_id, user_id) where deleted_at is null`, name, s.schema, r.Table))
	}
	// By which sweep finds what a transaction has marked.
	if name := r.Table + "_swept"; s.o.OnDelete == OnDeleteHard && !c.indexes[name] {
		statements = append(statements, fmt.Sprintf(`create index %s on %s.%s (synced_at) where deleted_at is not null`, name, s.schema, r.Table))
	}
	return statements
}

// incomplete notes a table or a column that came too late for the events that
// have been applied: it has to be filled from the log's start.
func (s *Store) incomplete(what string) string {
	return fmt.Sprintf(`update %s.sync_status set incomplete = array_append(array_remove(incomplete, %[2]s), %[2]s), %s where epoch > 0`, s.schema, literal(what), fillFromStart)
}

// createTable is the table with its comments.
func (s *Store) createTable(r *projection.Resource) string {
	var b strings.Builder
	fmt.Fprintf(&b, "create table %s.%s (\n", s.schema, r.Table)
	for _, c := range r.Columns {
		fmt.Fprintf(&b, "    %s %s", c.Name, c.Type)
		if c.Name == "id" {
			b.WriteString(" primary key")
		}
		b.WriteString(",\n")
	}
	for i, c := range strings.Split(bookkeeping, ", ") {
		if i > 0 {
			b.WriteString(",\n")
		}
		b.WriteString("    " + c)
	}
	fmt.Fprintf(&b, "\n);\ncomment on table %s.%s is %s", s.schema, r.Table, literal(r.Doc))
	for _, c := range r.Columns {
		b.WriteString(s.columnComment(r, c))
	}
	return b.String()
}

// columnComment is a further statement, or none.
func (s *Store) columnComment(r *projection.Resource, c projection.Column) string {
	if c.Doc == "" {
		return ""
	}
	return fmt.Sprintf(";\ncomment on column %s.%s.%s is %s", s.schema, r.Table, c.Name, literal(c.Doc))
}

func pgName(t projection.Type) string {
	if t == projection.Timestamp {
		return "timestamp with time zone"
	}
	return t.String()
}

// catalog is what the database has.
type catalog struct {
	server         int    // server_version_num
	user           string // who migrates
	exists         bool   // the schema does
	version, needs int    // 0 before the first migration
	relations      []string
	columns        map[string]map[string]string // by table: name to type
	views, indexes map[string]bool
	security       map[string]security // by table
	stores         map[string]bool     // names in sync_status
	granted        map[string]bool     // roles that may write
}

func readCatalog(ctx context.Context, tx pgx.Tx, name, quoted string, relations func(*catalog) []string) (*catalog, error) {
	c, err := readRelations(ctx, tx, name)
	if err != nil {
		return nil, err
	}
	if _, ours := c.columns["schema_version"]; !ours {
		return c, nil
	}
	if c.security, err = readSecurity(ctx, tx, name); err != nil {
		return nil, err
	}
	return c, c.readOurs(ctx, tx, name, quoted, relations(c))
}

func readRelations(ctx context.Context, tx pgx.Tx, name string) (*catalog, error) {
	c := &catalog{columns: map[string]map[string]string{}, views: map[string]bool{}, indexes: map[string]bool{}, stores: map[string]bool{}, granted: map[string]bool{}}
	err := tx.QueryRow(ctx, `select current_setting('server_version_num')::int, current_user, exists (select from pg_namespace where nspname = $1)`, name).
		Scan(&c.server, &c.user, &c.exists)
	if err != nil {
		return nil, fmt.Errorf("read the catalog: %w", err)
	}
	rows, err := tx.Query(ctx, `select c.relname, c.relkind::text, coalesce(a.attname, ''), coalesce(format_type(a.atttypid, a.atttypmod), '')
from pg_class c join pg_namespace n on n.oid = c.relnamespace
left join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and c.relkind in ('r', 'p')
where n.nspname = $1 and c.relkind in ('r', 'p', 'v', 'm', 'f', 'i') order by 1`, name)
	if err != nil {
		return nil, fmt.Errorf("read the catalog: %w", err)
	}
	var relation, kind, column, columnType string
	_, err = pgx.ForEachRow(rows, []any{&relation, &kind, &column, &columnType}, func() error {
		c.add(relation, kind, column, columnType)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the catalog: %w", err)
	}
	return c, nil
}

func (c *catalog) add(relation, kind, column, columnType string) {
	switch kind {
	case "i":
		c.indexes[relation] = true
		return
	case "v":
		c.views[relation] = true
	case "r", "p":
		if c.columns[relation] == nil {
			c.columns[relation] = map[string]string{}
		}
		c.columns[relation][column] = columnType
	}
	c.relations = append(c.relations, relation)
}

func (c *catalog) readOurs(ctx context.Context, tx pgx.Tx, name, quoted string, relations []string) error {
	err := tx.QueryRow(ctx, `select version, needs from `+quoted+`.schema_version`).Scan(&c.version, &c.needs)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("read %s.schema_version: %w", name, err)
	}
	rows, err := tx.Query(ctx, `select store from `+quoted+`.sync_status`)
	if err != nil {
		return fmt.Errorf("read %s.sync_status: %w", name, err)
	}
	var store string
	if _, err := pgx.ForEachRow(rows, []any{&store}, func() error { c.stores[store] = true; return nil }); err != nil {
		return fmt.Errorf("read %s.sync_status: %w", name, err)
	}
	rows, err = tx.Query(ctx, `select r.rolname from pg_roles r where has_schema_privilege(r.oid, $1, 'usage')
and (select bool_and(has_table_privilege(r.oid, c.oid, 'select') and has_table_privilege(r.oid, c.oid, 'insert') and has_table_privilege(r.oid, c.oid, 'update') and has_table_privilege(r.oid, c.oid, 'delete'))
     from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = $1 and c.relname = any($2))`, name, relations)
	if err != nil {
		return fmt.Errorf("read grants: %w", err)
	}
	var role string
	_, err = pgx.ForEachRow(rows, []any{&role}, func() error { c.granted[role] = true; return nil })
	return err
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
