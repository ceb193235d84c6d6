package backendapi

import (
	"strings"

	"github.com/rollcall-dev/rollcall/internal/emulator/state"
)

// An instance has one role set, Clerk's initial one, with all its roles.
const (
	defaultRoleSetKey = "role_set:default"
	creatorRoleKey    = "org:admin"
	memberRoleKey     = "org:member"
)

type roleSet struct {
	Object      string        `json:"object"`
	ID          string        `json:"id"`
	Name        string        `json:"name"`
	Key         string        `json:"key"`
	Description *string       `json:"description"`
	Type        string        `json:"type"`
	Roles       []roleSetItem `json:"roles"`
	DefaultRole *roleSetItem  `json:"default_role,omitempty"`
	CreatorRole *roleSetItem  `json:"creator_role,omitempty"`
	CreatedAt   int64         `json:"created_at"`
	UpdatedAt   int64         `json:"updated_at"`
}

type roleSetItem struct {
	Object      string          `json:"object"`
	ID          string          `json:"id"`
	Name        string          `json:"name"`
	Key         string          `json:"key"`
	Description state.OptString `json:"description"`
	CreatedAt   int64           `json:"created_at"`
	UpdatedAt   int64           `json:"updated_at"`
}

// initialRoleSet has an id that is the instance's, so that it stays the same.
func initialRoleSet(in *state.Instance) roleSet {
	set := roleSet{
		Object: "role_set", ID: "roleset_" + strings.TrimPrefix(in.ID, "ins_"), Type: "initial",
		Name: "Default", Key: defaultRoleSetKey, Roles: []roleSetItem{},
	}
	for _, role := range in.Roles() {
		item := roleSetItem{"role_set_item", role.ID, role.Name, role.Key, role.Description, role.CreatedAt, role.UpdatedAt}
		set.Roles = append(set.Roles, item)
		switch role.Key {
		case memberRoleKey:
			set.DefaultRole = &item
		case creatorRoleKey:
			set.CreatorRole = &item
		}
		if set.CreatedAt == 0 || role.CreatedAt < set.CreatedAt {
			set.CreatedAt = role.CreatedAt
		}
		set.UpdatedAt = max(set.UpdatedAt, role.UpdatedAt)
	}
	return set
}

func listRoleSets(r *request) (any, error) {
	q := r.query()
	query, p := strings.ToLower(q.text("query")), q.page()
	readOrder(q, orders[roleSet]{"created_at": nil, "name": nil, "key": nil})
	if err := q.err(); err != nil {
		return nil, err
	}
	var all []roleSet
	if set := initialRoleSet(r.inst); matchesKeyed(query, set.ID, set.Name, set.Key) {
		all = append(all, set)
	}
	l := listed{Data: []any{}, TotalCount: len(all)}
	for _, set := range newestFirst[roleSet]().cut(all, p) {
		l.Data = append(l.Data, set)
	}
	return l, nil
}

func getRoleSet(r *request) (any, error) {
	set, key := initialRoleSet(r.inst), r.PathValue("role_set_key_or_id")
	if key != set.ID && key != set.Key {
		return nil, state.NotFound("role set", key)
	}
	return set, nil
}
