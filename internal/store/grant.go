package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Grant is what lets a role read a store.
type Grant struct {
	Role string   `json:"role"`
	Made bool     `json:"made"` // there was no such role, and now there is
	SQL  []string `json:"sql"`
}

// NoRoleError says that the role has to be made by somebody else.
type NoRoleError struct{ Role, User string }

func (e *NoRoleError) Error() string {
	return fmt.Sprintf("there is no role %s, and %s may not make roles: have an administrator run create role %s login, then run this again",
		e.Role, e.User, pgx.Identifier{e.Role}.Sanitize())
}

// PlanGrant is what Grant would run. Nothing is changed, and no lock is taken.
func (s *Store) PlanGrant(ctx context.Context, role string) (g Grant, err error) {
	err = s.asOwner(ctx, false, func(o *owner) error {
		g, err = s.planGrant(ctx, o, role)
		return err
	})
	if e := (*NoRoleError)(nil); errors.As(err, &e) {
		err = nil // whoever runs the SQL may be another
	}
	return g, err
}

// Grant lets a role read the store, now and after its schema changes, point
// foreign keys at users and organizations, and make their stubs; it can write
// nothing else. The role is made, without a password, unless it is there. Of a
// role that can't be made (*NoRoleError) it returns what would have to be run.
func (s *Store) Grant(ctx context.Context, role string) (g Grant, err error) {
	err = s.asOwner(ctx, true, func(o *owner) error {
		if g, err = s.planGrant(ctx, o, role); err != nil {
			return err
		}
		return s.run(ctx, o, additive(g.SQL))
	})
	return g, err
}

// planGrant returns its plan with a *NoRoleError too.
func (s *Store) planGrant(ctx context.Context, o *owner, role string) (g Grant, err error) {
	c, err := readRelations(ctx, o.tx, s.o.Schema)
	if err != nil {
		return g, err
	}
	if _, ours := c.columns["schema_version"]; !ours {
		return g, fmt.Errorf("schema %s isn't there yet: run rollcall store apply %s first", s.o.Schema, s.o.Name)
	}
	var exists, mayMake bool
	var schemaOwner string
	err = o.tx.QueryRow(ctx, `select exists (select from pg_roles where rolname = $1), (select rolsuper or rolcreaterole from pg_roles where rolname = current_user),
(select pg_get_userbyid(relowner) from pg_class where oid = to_regclass($2))`, role, s.schema+".schema_version").Scan(&exists, &mayMake, &schemaOwner)
	if err != nil {
		return g, fmt.Errorf("read roles: %w", err)
	}
	if role == schemaOwner || role == o.writer {
		return g, fmt.Errorf("role %s writes the store: name a role of the service's own, which then can only read", role)
	}
	g = Grant{Role: role, Made: !exists, SQL: s.readerGrants(c, role, schemaOwner)}
	if exists {
		return g, nil
	}
	g.SQL = append([]string{"create role " + pgx.Identifier{role}.Sanitize() + " login"}, g.SQL...)
	if !mayMake {
		return g, &NoRoleError{role, c.user}
	}
	return g, nil
}

// readerGrants are a reader's. Tables and views that are made later come under
// the default privileges, which Postgres keeps; columns under their table's.
func (s *Store) readerGrants(c *catalog, role, schemaOwner string) []string {
	to := pgx.Identifier{role}.Sanitize()
	var readable, referable []string
	for _, name := range s.relations(c) {
		if name != "schema_version" && slices.Contains(c.relations, name) {
			readable = append(readable, s.schema+"."+name)
		}
	}
	for _, table := range []string{"users", "organizations"} { // of which there can be stubs
		if _, exists := c.columns[table]; exists {
			referable = append(referable, s.schema+"."+table)
		}
	}
	grants := []string{
		fmt.Sprintf("grant usage on schema %s to %s", s.schema, to),
		fmt.Sprintf("grant select on %s to %s", strings.Join(readable, ", "), to),
		fmt.Sprintf("alter default privileges for role %s in schema %s grant select on tables to %s", pgx.Identifier{schemaOwner}.Sanitize(), s.schema, to),
		fmt.Sprintf("grant execute on function %[1]s.ensure_user(text), %[1]s.ensure_organization(text) to %[2]s", s.schema, to), // PUBLIC's may be gone
	}
	if referable != nil {
		grants = append(grants, fmt.Sprintf("grant references (id) on %s to %s", strings.Join(referable, ", "), to))
	}
	return grants
}
