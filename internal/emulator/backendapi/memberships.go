package backendapi

import (
	"cmp"

	"github.com/rollcall-dev/rollcall/internal/emulator/state"
)

// membershipOrders are those of an instance, whose users they compare.
func membershipOrders(in *state.Instance) orders[*state.OrganizationMembership] {
	byUser := func(compare func(a, b *state.User) int) func(a, b *state.OrganizationMembership) int {
		return func(a, b *state.OrganizationMembership) int {
			// A user who was deleted a moment ago counts as one without anything.
			ua, ub := cmp.Or(in.User(a.UserID), &state.User{}), cmp.Or(in.User(b.UserID), &state.User{})
			return compare(ua, ub)
		}
	}
	by := orders[*state.OrganizationMembership]{"created_at": nil}
	for _, field := range []string{"phone_number", "email_address", "first_name", "last_name", "username"} {
		by[field] = byUser(userOrders[field])
	}
	return by
}

func listAllMemberships(r *request) (any, error) {
	q := r.query()
	o, p := readOrder(q, membershipOrders(r.inst)), q.page()
	if err := q.err(); err != nil {
		return nil, err
	}
	return paged(r, o.apply(r.inst.Memberships()), p), nil
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
	return paged(r, o.apply(found), p), nil
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
	return paged(r, newestFirst[*state.OrganizationMembership]().apply(memberships), p), nil
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
