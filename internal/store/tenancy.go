package store

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/rollcall-dev/rollcall/internal/projection"
)

// The policies of a store's own tables. Those of a service's tables are
// rollcall_isolate, see the function isolate.
const (
	writerPolicy = "rollcall_writer"
	tenantPolicy = "rollcall_tenant"
)

// fellowsIndex answers whether a user is a member, without the table.
const fellowsIndex = "organization_memberships_fellows"

const (
	byOrganization = `organization_id = (select {schema}.organization_id())`
	byUser         = `user_id = (select {schema}.user_id())`
	oneself        = `id = (select {schema}.user_id())`

	// The same condition stands in the memberships' own policy, so that the planner
	// has one of the two to check. A condition on the membership's table needs no
	// function with more rights, which could be called for any organization; nor
	// does it recurse, since memberships don't ask for users.
	member = `organization_id = {schema}.organization_id()`
	// Offset 0 keeps the planner from hashing all members to look one user up.
	fellow = `exists (select from {schema}.organization_memberships m where m.user_id = users.id and m.` + member + ` and m.deleted_at is null offset 0)`
)

// visible are the rows that a transaction may read, by table. A table that isn't
// here is nobody's but the writer's.
var visible = map[string]string{
	"users":                    oneself + " or " + fellow,
	"sessions":                 byUser,
	"organizations":            `id = (select {schema}.organization_id())`,
	"organization_memberships": member,
	"organization_invitations": byOrganization,
	"organization_domains":     byOrganization,
	"subscriptions":            byOrganization + " or " + byUser,
	"subscription_items":       byOrganization + " or " + byUser,
	"payment_attempts":         byOrganization + " or " + byUser,
	"roles":                    "true", // no tenant's, but the instance's
	"permissions":              "true",
	"tombstones":               "resource in ('roles', 'permissions')", // role_permissions asks for these
}

// condition is the table's, "" for none.
func (s *Store) condition(table string) string {
	text := visible[table]
	if table == "users" && !s.wants("organization_memberships") {
		text = oneself // who is a member isn't known here
	}
	return strings.ReplaceAll(text, "{schema}", s.schema)
}

func (s *Store) wants(table string) bool {
	return slices.ContainsFunc(s.wanted, func(r *projection.Resource) bool { return r.Table == table })
}

// guarded are the tables that hold what Clerk has: those that the configuration
// asks for, and those that another one has left.
func (s *Store) guarded(c *catalog) []string {
	tables := []string{"tombstones"}
	for _, r := range projection.Resources() {
		if _, exists := c.columns[r.Table]; exists || s.wants(r.Table) {
			tables = append(tables, r.Table)
		}
	}
	return tables
}

// policyChanges puts the tables under policies, or takes these away.
func (s *Store) policyChanges(c *catalog, writer string) (statements []string) {
	for _, table := range s.guarded(c) {
		if s.o.Tenancy {
			statements = append(statements, s.guard(table, c.security[table], writer)...)
		} else {
			statements = append(statements, s.unguard(table, c.security[table])...)
		}
	}
	if !s.o.Tenancy && c.indexes[fellowsIndex] {
		statements = append(statements, fmt.Sprintf(`drop index %s.%s`, s.schema, fellowsIndex))
	}
	return statements
}

// guard admits the writer and the owner to all rows, others to what is visible
// to them. Roles that were admitted before stay so, as their grants do: they may
// still write while another takes over.
func (s *Store) guard(table string, have security, writer string) (statements []string) {
	name := s.schema + "." + table
	owner := "current_user" // of a table that is made by the same plan
	if have.owner != "" {
		owner = pgx.Identifier{have.owner}.Sanitize()
	}
	roles := []string{owner}
	if writer != "" {
		roles = append(roles, pgx.Identifier{writer}.Sanitize())
	}
	admitted := slices.Clone(have.admitted)
	for _, role := range roles {
		if !slices.Contains(admitted, role) {
			admitted = append(admitted, role)
		}
	}
	switch roles := strings.Join(admitted, ", "); {
	case have.admitted == nil:
		statements = append(statements, fmt.Sprintf(`create policy %s on %s to %s using (true) with check (true)`, writerPolicy, name, roles))
	case len(admitted) > len(have.admitted):
		statements = append(statements, fmt.Sprintf(`alter policy %s on %s to %s`, writerPolicy, name, roles))
	}
	condition := s.condition(table)
	if have.tenant != nil && *have.tenant != condition {
		statements = append(statements, fmt.Sprintf(`drop policy %s on %s`, tenantPolicy, name))
		have.tenant = nil
	}
	if have.tenant == nil && condition != "" {
		statements = append(statements, fmt.Sprintf(`create policy %[1]s on %[2]s for select using (%[3]s); comment on policy %[1]s on %[2]s is %[4]s`, tenantPolicy, name, condition, literal(condition)))
	}
	if !have.enabled || !have.forced {
		statements = append(statements, fmt.Sprintf(`alter table %s enable row level security, force row level security`, name))
	}
	return statements
}

// unguard undoes guard. Where the service has policies of its own by now, these
// stay in force, and the writer stays admitted.
func (s *Store) unguard(table string, have security) (statements []string) {
	name := s.schema + "." + table
	if have.tenant != nil {
		statements = append(statements, fmt.Sprintf(`drop policy %s on %s`, tenantPolicy, name))
	}
	if have.admitted != nil && have.others == 0 {
		statements = append(statements, fmt.Sprintf(`drop policy %s on %s`, writerPolicy, name),
			fmt.Sprintf(`alter table %s no force row level security, disable row level security`, name))
	}
	return statements
}

// security is what the catalog says of a table's.
type security struct {
	owner           string
	enabled, forced bool
	admitted        []string // by the writer's policy, quoted; nil without one
	tenant          *string  // the condition that the tenant's policy was made with; nil without one
	others          int      // policies that aren't ours
}

func readSecurity(ctx context.Context, tx pgx.Tx, schema string) (map[string]security, error) {
	rows, err := tx.Query(ctx, `select c.relname, pg_get_userbyid(c.relowner), c.relrowsecurity, c.relforcerowsecurity,
(select array(select '"' || replace(pg_get_userbyid(r), '"', '""') || '"' from unnest(p.polroles) as r) from pg_policy p where p.polrelid = c.oid and p.polname = $2),
(select coalesce(obj_description(p.oid, 'pg_policy'), '') from pg_policy p where p.polrelid = c.oid and p.polname = $3),
(select count(*) from pg_policy p where p.polrelid = c.oid and p.polname not in ($2, $3))
from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = $1 and c.relkind in ('r', 'p')`, schema, writerPolicy, tenantPolicy)
	if err != nil {
		return nil, fmt.Errorf("read the policies: %w", err)
	}
	all := map[string]security{}
	var table string
	var have security
	_, err = pgx.ForEachRow(rows, []any{&table, &have.owner, &have.enabled, &have.forced, &have.admitted, &have.tenant, &have.others}, func() error {
		all[table] = have
		have = security{}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the policies: %w", err)
	}
	return all, nil
}
