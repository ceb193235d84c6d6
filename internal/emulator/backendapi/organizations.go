package backendapi

import (
	"encoding/json"
	"strings"

	"github.com/rollcall-dev/rollcall/internal/emulator/state"
)

var organizationOrders = orders[*state.Organization]{
	"created_at":    nil,
	"name":          func(v *state.Organization) sortKey { return sortKey{text: v.Name} },
	"members_count": func(v *state.Organization) sortKey { return sortKey{number: v.MembersCount} },
}

func listOrganizations(r *request) (any, error) {
	q := r.query()
	query, ids, users := strings.ToLower(q.text("query")), q.signed("organization_id"), q.signed("user_id")
	omit := readOmissions(q)
	o, p := readOrder(q, organizationOrders), q.page()
	if err := q.err(); err != nil {
		return nil, err
	}
	wanted, unwanted := organizationsOf(r.inst, users.include), organizationsOf(r.inst, users.exclude)
	found := where(r.inst.Organizations(), func(org *state.Organization) bool {
		return ids.allows(org.ID) && (wanted == nil || wanted[org.ID]) && !unwanted[org.ID] &&
			(query == "" || strings.EqualFold(org.ID, query) || contains(org.Name, query) || contains(org.Slug, query))
	})
	page := o.cut(found, p)
	l := listed{Data: make([]any, len(page)), TotalCount: len(found)}
	for i, org := range page {
		l.Data[i] = withoutFields{org, omit}
	}
	return l, nil
}

// readOmissions are the fields that Clerk has only for who asks for them.
func readOmissions(q *query) (omit []string) {
	for _, field := range []string{"members_count", "missing_member_with_elevated_permissions"} {
		if asked, _ := q.boolean("include_" + field); !asked {
			omit = append(omit, field)
		}
	}
	return omit
}

// withoutFields renders a resource but for some fields.
type withoutFields struct {
	resource any
	omit     []string
}

func (w withoutFields) MarshalJSON() ([]byte, error) {
	whole, err := json.Marshal(w.resource)
	if err != nil {
		return nil, err
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(whole, &fields); err != nil {
		return nil, err
	}
	for _, field := range w.omit {
		delete(fields, field)
	}
	return json.Marshal(fields)
}

// organizationsOf are the ids of the organizations that one of the users is in;
// nil if there are no users.
func organizationsOf(in *state.Instance, users map[string]bool) map[string]bool {
	if len(users) == 0 {
		return nil
	}
	ids := map[string]bool{}
	for user := range users {
		for _, m := range in.MembershipsOfUser(user) {
			ids[m.OrganizationID] = true
		}
	}
	return ids
}

// organization is the one of the path, by its id or its slug.
func (r *request) organization() (*state.Organization, error) {
	idOrSlug := r.PathValue("organization_id")
	if org := r.inst.Organization(idOrSlug); org != nil {
		return org, nil
	}
	if org := r.inst.OrganizationBySlug(idOrSlug); org != nil {
		return org, nil
	}
	return nil, errOrganization
}

func getOrganization(r *request) (any, error) {
	q := r.query()
	omit := readOmissions(q)
	if err := q.err(); err != nil {
		return nil, err
	}
	org, err := r.organization()
	if err != nil {
		return nil, err
	}
	return withoutFields{org, omit}, nil
}

func createOrganization(r *request) (any, error) {
	b, err := r.object()
	if err != nil {
		return nil, err
	}
	p := state.OrganizationParams{
		Name:                  b.required("name"),
		Slug:                  b.text("slug").value,
		CreatedBy:             b.text("created_by").value,
		PublicMetadata:        b.metadata("public_metadata"),
		PrivateMetadata:       b.metadata("private_metadata"),
		MaxAllowedMemberships: b.integer("max_allowed_memberships").pointer(),
		CreatedAt:             b.instant("created_at").value,
	}
	readRoleSetKey(b)
	if err := b.err(); err != nil {
		return nil, err
	}
	return r.show(r.inst.CreateOrganization(r.change(), p))
}

func updateOrganization(r *request) (any, error) {
	b, err := r.object()
	if err != nil {
		return nil, err
	}
	p := state.OrganizationUpdate{
		Name:                  b.text("name").pointer(),
		Slug:                  b.text("slug").pointer(),
		MaxAllowedMemberships: b.integer("max_allowed_memberships").pointer(),
		AdminDeleteEnabled:    b.boolean("admin_delete_enabled").pointer(),
		CreatedAt:             b.instant("created_at").pointer(),
	}
	if r.version < versionNoMetadataInUpdate {
		p.PublicMetadata, p.PrivateMetadata = b.metadata("public_metadata"), b.metadata("private_metadata")
	}
	readRoleSetKey(b)
	if err := b.err(); err != nil {
		return nil, err
	}
	org, err := r.organization()
	if err != nil {
		return nil, err
	}
	return r.show(r.inst.UpdateOrganization(r.change(), org.ID, p))
}

// readRoleSetKey allows the one role set that there is.
func readRoleSetKey(b *body) {
	if key := b.text("role_set_key"); key.has() && key.value != defaultRoleSetKey {
		b.reject(formResource("role_set_key"))
	}
}

func mergeOrganizationMetadata(r *request) (any, error) {
	p, err := r.metadata("public_metadata", "private_metadata")
	if err != nil {
		return nil, err
	}
	org, err := r.organization()
	if err != nil {
		return nil, err
	}
	return r.show(r.inst.MergeOrganizationMetadata(r.change(), org.ID, p))
}

func replaceOrganizationMetadata(r *request) (any, error) {
	p, err := r.metadata("public_metadata", "private_metadata")
	if err != nil {
		return nil, err
	}
	org, err := r.organization()
	if err != nil {
		return nil, err
	}
	return r.show(r.inst.UpdateOrganization(r.change(), org.ID, state.OrganizationUpdate{
		PublicMetadata: p.Public, PrivateMetadata: p.Private,
	}))
}

func deleteOrganization(r *request) (any, error) {
	org, err := r.organization()
	if err != nil {
		return nil, err
	}
	if _, err := r.inst.DeleteOrganization(r.change(), org.ID); err != nil {
		return nil, err
	}
	return deleted{Object: "organization", ID: org.ID, Slug: org.Slug, Deleted: true}, nil
}
