package backendapi

import "github.com/rollcall-dev/rollcall/internal/emulator/state"

// membershipOrders are those of an instance, by its users' fields.
func membershipOrders(in *state.Instance) orders[*state.OrganizationMembership] {
	by := orders[*state.OrganizationMembership]{"created_at": nil}
	for _, field := range []string{"phone_number", "email_address", "first_name", "last_name", "username"} {
		key := userOrders[field]
		by[field] = func(m *state.OrganizationMembership) sortKey {
			if u := in.User(m.UserID); u != nil {
				return key(u)
			}
			return sortKey{} // deleted a moment ago
		}
	}
	return by
}

func listAllMemberships(r *request) (any, error) {
	q := r.query()
	o, p := readOrder(q, membershipOrders(r.inst)), q.page()
	if err := q.err(); err != nil {
		return nil, err
	}
	return paged(r, r.inst.Memberships(), o, p), nil
}

func listMemberships(r *request) (any, error) {
	q := r.query()
	f, roles := readUserFilter(q), q.set("role")
	o, p := readOrder(q, membershipOrders(r.inst)), q.page()
	// These are about the membership, and not its user.
	created := f.created
	f.created, f.organizations = span{}, choice{}
	if err := q.err(); err != nil {
		return nil, err
	}
	org, err := r.organization()
	if err != nil {
		return nil, err
	}
	found := where(r.inst.MembershipsOfOrganization(org.ID), func(m *state.OrganizationMembership) bool {
		u := r.inst.User(m.UserID)
		return u != nil && f.matches(u) && created.holds(m.CreatedAt) && roles.allows(m.Role)
	})
	return paged(r, found, o, p), nil
}

func listMembershipsOfUser(r *request) (any, error) {
	q := r.query()
	p := q.page()
	if err := q.err(); err != nil {
		return nil, err
	}
	u, err := r.user()
	if err != nil {
		return nil, err
	}
	memberships := r.inst.MembershipsOfUser(u.ID)
	return paged(r, memberships, newestFirst[*state.OrganizationMembership](), p), nil
}

func createMembership(r *request) (any, error) {
	b, err := r.object()
	if err != nil {
		return nil, err
	}
	p := state.MembershipParams{
		UserID:          b.required("user_id"),
		Role:            b.required("role"),
		PublicMetadata:  b.metadata("public_metadata"),
		PrivateMetadata: b.metadata("private_metadata"),
	}
	if err := b.err(); err != nil {
		return nil, err
	}
	org, err := r.organization()
	if err != nil {
		return nil, err
	}
	p.OrganizationID = org.ID
	return r.show(r.inst.CreateMembership(r.change(), p))
}

func updateMembership(r *request) (any, error) {
	b, err := r.object()
	if err != nil {
		return nil, err
	}
	role := b.required("role")
	if err := b.err(); err != nil {
		return nil, err
	}
	org, err := r.organization()
	if err != nil {
		return nil, err
	}
	return r.show(r.inst.UpdateMembershipRole(r.change(), org.ID, r.PathValue("user_id"), role))
}

func mergeMembershipMetadata(r *request) (any, error) {
	p, err := r.metadata("public_metadata", "private_metadata")
	if err != nil {
		return nil, err
	}
	org, err := r.organization()
	if err != nil {
		return nil, err
	}
	return r.show(r.inst.MergeMembershipMetadata(r.change(), org.ID, r.PathValue("user_id"), p))
}

func deleteMembership(r *request) (any, error) {
	org, err := r.organization()
	if err != nil {
		return nil, err
	}
	return r.show(r.inst.DeleteMembership(r.change(), org.ID, r.PathValue("user_id")))
}
