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
	name    string
	needs   []string // tables and table.columns; without one of them there is no view
	row     string   // what a row is called
	doc     string
	columns string // as DDL would have them; a test holds them to the view
}

// allViews are in an order in which they can be made.
func allViews() []view {
	const (
		granted = `role_id text not null, permission_id text not null, permission_key text, permission_name text, permission_type text, deleted_at timestamptz, instance_id text not null, synced_at timestamptz not null, stream_epoch bigint not null, stream_seq bigint not null, source text not null`
		member  = `membership_id text not null, organization_id text, user_id text, permission text not null, system boolean not null, source text not null`
		account = `user_id text not null, account_id text, protocol text, provider text, connection_id text, connection_name text, active boolean, connection_active boolean, provider_user_id text, email_address text, domain text, domains text[], last_authenticated_at timestamptz, deprovisioned boolean, listed_in text not null, instance_id text not null`
	)
	return []view{
		{"role_permissions", []string{"roles", "permissions"}, "rolePermission", "which role has which permission", granted},
		{"role_permissions_live", []string{"roles", "permissions"}, "rolePermission", "which role has which permission, without the deleted", granted},
		{"member_permissions", []string{"organization_memberships", "roles", "permissions"}, "memberPermission", "what members may do", member},
		{"user_enterprise_accounts", []string{"users.enterprise_accounts", "users.saml_accounts", "users.deprovisioned"}, "userEnterpriseAccount", "who signs in through which SSO connection", account},
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
