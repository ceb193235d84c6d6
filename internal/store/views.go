package store

import (
	"embed"
	"slices"
	"strings"

	"github.com/rollcall-dev/rollcall/internal/projection"
)

//go:embed sql/views/*.sql
var viewFiles embed.FS

// view shows several tables, or the inside of one, in another way.
type view struct {
	name  string
	needs []string // tables and table.columns; without one of them there is no view
}

// views that can be made of what the store keeps, in an order in
// which they can be.
func (s *Store) views() (list []view) {
	for _, v := range []view{
		{"role_permissions", []string{"roles", "permissions"}},
		{"role_permissions_live", []string{"roles", "permissions"}},
		{"member_permissions", []string{"organization_memberships", "roles", "permissions"}},
		{"user_enterprise_accounts", []string{"users.enterprise_accounts", "users.saml_accounts", "users.deprovisioned"}},
	} {
		missing := func(what string) bool {
			table, column, of := strings.Cut(what, ".")
			return !slices.ContainsFunc(s.resources, func(r *projection.Resource) bool {
				return r.Table == table && (!of || r.Column(column) >= 0)
			})
		}
		if !slices.ContainsFunc(v.needs, missing) {
			list = append(list, v)
		}
	}
	return list
}

// missingViews makes those that aren't there. A release that changes one drops
// it in a numbered migration.
func (s *Store) missingViews(c *catalog) (statements []string) {
	for _, v := range s.views() {
		if c.views[v.name] {
			continue
		}
		text, err := viewFiles.ReadFile("sql/views/" + v.name + ".sql")
		if err != nil {
			panic(err) // it is embedded
		}
		statements = append(statements, strings.ReplaceAll(string(text), "{schema}", s.schema))
	}
	return statements
}
