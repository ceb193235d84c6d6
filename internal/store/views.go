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

// allViews are in an order in which they can be made.
func allViews() []view {
	return []view{
		{"role_permissions", []string{"roles", "permissions"}},
		{"role_permissions_live", []string{"roles", "permissions"}},
		{"member_permissions", []string{"organization_memberships", "roles", "permissions"}},
		{"user_enterprise_accounts", []string{"users.enterprise_accounts", "users.saml_accounts", "users.deprovisioned"}},
	}
}

// viewsOf are those that can be made of the resources.
func viewsOf(kept []*projection.Resource) []view {
	return slices.DeleteFunc(allViews(), func(v view) bool {
		return v.lacks(func(table, column string) bool {
			return !slices.ContainsFunc(kept, func(r *projection.Resource) bool {
				return r.Table == table && (column == "" || r.Column(column) >= 0)
			})
		})
	})
}

// lacks reports whether something that the view needs is missing.
func (v view) lacks(missing func(table, column string) bool) bool {
	return slices.ContainsFunc(v.needs, func(what string) bool {
		table, column, _ := strings.Cut(what, ".")
		return missing(table, column)
	})
}

// missingViews makes those that aren't there. A release that changes one drops
// it in a numbered migration.
func (s *Store) missingViews(c *catalog) (statements []string) {
	for _, v := range viewsOf(s.wanted) {
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
