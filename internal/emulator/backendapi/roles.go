package backendapi

import (
	"strings"

	"github.com/rollcall-dev/rollcall/internal/emulator/state"
)

var roleOrders = orders[*state.Role]{
	"created_at": nil,
	"name":       func(v *state.Role) sortKey { return sortKey{text: v.Name} },
	"key":        func(v *state.Role) sortKey { return sortKey{text: v.Key} },
}

var permissionOrders = orders[*state.Permission]{
	"created_at": nil,
	"name":       func(v *state.Permission) sortKey { return sortKey{text: v.Name} },
	"key":        func(v *state.Permission) sortKey { return sortKey{text: v.Key} },
}

// matchesKeyed is the query of roles, permissions and role sets: the whole id,
// or a part of name or key.
func matchesKeyed(query, id, name, key string) bool {
	return query == "" || strings.EqualFold(id, query) || contains(name, query) || contains(key, query)
}

func listRoles(r *request) (any, error) {
	q := r.query()
	query, o, p := strings.ToLower(q.text("query")), readOrder(q, roleOrders), q.page()
	if err := q.err(); err != nil {
		return nil, err
	}
	found := where(r.inst.Roles(), func(role *state.Role) bool {
		return matchesKeyed(query, role.ID, role.Name, role.Key)
	})
	return paged(r, found, o, p), nil
}

func (r *request) role() (*state.Role, error) {
	id := r.PathValue("organization_role_id")
	if role := r.inst.Role(id); role != nil {
		return role, nil
	}
	return nil, state.NotFound("organization role", id)
}

func getRole(r *request) (any, error) { return r.show(r.role()) }

func createRole(r *request) (any, error) {
	b, err := r.object()
	if err != nil {
		return nil, err
	}
	p := state.RoleParams{
		Name:        b.required("name"),
		Key:         b.required("key"),
		Description: b.text("description").value,
		Permissions: b.list("permissions").value,
	}
	b.boolean("include_in_initial_role_set") // there is one set, with all roles
	if err := b.err(); err != nil {
		return nil, err
	}
	return r.show(r.inst.CreateRole(r.change(), p))
}

func updateRole(r *request) (any, error) {
	b, err := r.object()
	if err != nil {
		return nil, err
	}
	p := state.RoleUpdate{
		Name:        b.text("name").pointer(),
		Key:         b.text("key").pointer(),
		Description: b.text("description").pointer(),
		Permissions: b.list("permissions").pointer(),
	}
	if err := b.err(); err != nil {
		return nil, err
	}
	return r.show(r.inst.UpdateRole(r.change(), r.PathValue("organization_role_id"), p))
}

func deleteRole(r *request) (any, error) {
	role, err := r.inst.DeleteRole(r.change(), r.PathValue("organization_role_id"))
	if err != nil {
		return nil, err
	}
	return deleted{Object: "role", ID: role.ID, Deleted: true}, nil
}

func addRolePermission(r *request) (any, error) {
	return r.show(r.inst.AddRolePermission(r.change(), r.PathValue("organization_role_id"), r.PathValue("permission_id")))
}

func removeRolePermission(r *request) (any, error) {
	return r.show(r.inst.RemoveRolePermission(r.change(), r.PathValue("organization_role_id"), r.PathValue("permission_id")))
}

func listPermissions(r *request) (any, error) {
	q := r.query()
	query, o, p := strings.ToLower(q.text("query")), readOrder(q, permissionOrders), q.page()
	if err := q.err(); err != nil {
		return nil, err
	}
	found := where(r.inst.Permissions(), func(perm *state.Permission) bool {
		return matchesKeyed(query, perm.ID, perm.Name, perm.Key)
	})
	return paged(r, found, o, p), nil
}

func getPermission(r *request) (any, error) {
	id := r.PathValue("permission_id")
	if p := r.inst.Permission(id); p != nil {
		return r.inst.View(p), nil
	}
	return nil, state.NotFound("organization permission", id)
}

func createPermission(r *request) (any, error) {
	b, err := r.object()
	if err != nil {
		return nil, err
	}
	p := state.PermissionParams{
		Name: b.required("name"), Key: b.required("key"), Description: b.text("description").value,
	}
	if err := b.err(); err != nil {
		return nil, err
	}
	return r.show(r.inst.CreatePermission(r.change(), p))
}

func updatePermission(r *request) (any, error) {
	b, err := r.object()
	if err != nil {
		return nil, err
	}
	p := state.PermissionUpdate{
		Name: b.text("name").pointer(), Key: b.text("key").pointer(), Description: b.text("description").pointer(),
	}
	if err := b.err(); err != nil {
		return nil, err
	}
	return r.show(r.inst.UpdatePermission(r.change(), r.PathValue("permission_id"), p))
}

func deletePermission(r *request) (any, error) {
	p, err := r.inst.DeletePermission(r.change(), r.PathValue("permission_id"))
	if err != nil {
		return nil, err
	}
	return deleted{Object: "permission", ID: p.ID, Deleted: true}, nil
}
