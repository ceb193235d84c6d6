package backendapi

import (
	"strings"

	"github.com/rollcall-dev/rollcall/internal/emulator/state"
)

const maxBulkInvitations = 10

// invitationStatuses are those that lists of invitations can be filtered by.
var invitationStatuses = []string{state.StatusPending, state.StatusAccepted, state.StatusRevoked, state.StatusExpired}

var organizationInvitationOrders = orders[*state.OrganizationInvitation]{
	"created_at":    nil,
	"email_address": func(v *state.OrganizationInvitation) sortKey { return sortKey{text: v.EmailAddress} },
}

func listAllOrganizationInvitations(r *request) (any, error) {
	q := r.query()
	statuses, query := q.someOf("status", invitationStatuses...), strings.ToLower(q.text("query"))
	o, p := readOrder(q, organizationInvitationOrders), q.page()
	if err := q.err(); err != nil {
		return nil, err
	}
	found := where(r.inst.OrganizationInvitations(), func(i *state.OrganizationInvitation) bool {
		return statuses.allows(i.Status) && (query == "" || contains(i.EmailAddress, query))
	})
	return pagedWithOrganizations(r, found, o, p), nil
}

// listOrganizationInvitationsOfUser lists those to any of the user's addresses.
func listOrganizationInvitationsOfUser(r *request) (any, error) {
	q := r.query()
	statuses, p := q.someOf("status", invitationStatuses...), q.page()
	if err := q.err(); err != nil {
		return nil, err
	}
	u, err := r.user()
	if err != nil {
		return nil, err
	}
	found := where(r.inst.OrganizationInvitations(), func(i *state.OrganizationInvitation) bool {
		return statuses.allows(i.Status) && (i.UserID == u.ID || hasAddress(u, i.EmailAddress))
	})
	return pagedWithOrganizations(r, found, newestFirst[*state.OrganizationInvitation](), p), nil
}

func hasAddress(u *state.User, address string) bool {
	for _, e := range u.EmailAddresses {
		if strings.EqualFold(e.EmailAddress, address) {
			return true
		}
	}
	return false
}

func pagedWithOrganizations(r *request, all []*state.OrganizationInvitation, o order[*state.OrganizationInvitation], p page) listed {
	page := o.cut(all, p)
	rendered := make([]any, len(page))
	for i, inv := range page {
		rendered[i] = r.inst.InvitationWithOrganization(inv)
	}
	return listed{Data: rendered, TotalCount: len(all)}
}

func listOrganizationInvitations(r *request) (any, error) {
	q := r.query()
	return r.organizationInvitations(q, q.someOf("status", invitationStatuses...))
}

func listPendingOrganizationInvitations(r *request) (any, error) {
	return r.organizationInvitations(r.query(), choice{include: map[string]bool{state.StatusPending: true}})
}

func (r *request) organizationInvitations(q *query, statuses choice) (any, error) {
	address := q.text("email_address")
	o, p := readOrder(q, organizationInvitationOrders), q.page()
	if err := q.err(); err != nil {
		return nil, err
	}
	org, err := r.organization()
	if err != nil {
		return nil, err
	}
	found := where(r.inst.OrganizationInvitations(), func(i *state.OrganizationInvitation) bool {
		return i.OrganizationID == org.ID && statuses.allows(i.Status) &&
			(address == "" || strings.EqualFold(i.EmailAddress, address))
	})
	return paged(r, found, o, p), nil
}

// organizationInvitation is the one of the path.
func (r *request) organizationInvitation() (*state.OrganizationInvitation, error) {
	org, err := r.organization()
	if err != nil {
		return nil, err
	}
	id := r.PathValue("invitation_id")
	if i := r.inst.OrganizationInvitation(id); i != nil && i.OrganizationID == org.ID {
		return i, nil
	}
	return nil, state.NotFound("organization invitation", id)
}

func getOrganizationInvitation(r *request) (any, error) { return r.show(r.organizationInvitation()) }

func readOrganizationInvitation(b *body, org *state.Organization) state.OrganizationInvitationParams {
	p := state.OrganizationInvitationParams{
		OrganizationID:  org.ID,
		EmailAddress:    b.required("email_address"),
		Role:            b.required("role"),
		InviterUserID:   b.text("inviter_user_id").value,
		PublicMetadata:  b.metadata("public_metadata"),
		PrivateMetadata: b.metadata("private_metadata"),
		RedirectURL:     b.url("redirect_url"),
		ExpiresInDays:   b.days("expires_in_days"),
	}
	b.boolean("notify")
	return p
}

func createOrganizationInvitation(r *request) (any, error) {
	org, err := r.organization()
	if err != nil {
		return nil, err
	}
	b, err := r.object()
	if err != nil {
		return nil, err
	}
	p := readOrganizationInvitation(b, org)
	if err := b.err(); err != nil {
		return nil, err
	}
	return r.show(r.inst.CreateOrganizationInvitation(r.change(), p))
}

// createOrganizationInvitations makes several. All are read before the first is
// made; one that state refuses leaves those before it.
func createOrganizationInvitations(r *request) (any, error) {
	org, err := r.organization()
	if err != nil {
		return nil, err
	}
	bodies, err := readArray(r.Request, maxBulkInvitations)
	if err != nil {
		return nil, err
	}
	params := make([]state.OrganizationInvitationParams, len(bodies))
	for i, b := range bodies {
		params[i] = readOrganizationInvitation(b, org)
		if err := b.err(); err != nil {
			return nil, err
		}
	}
	made := make([]*state.OrganizationInvitation, len(params))
	for i, p := range params {
		if made[i], err = r.inst.CreateOrganizationInvitation(r.change(), p); err != nil {
			return nil, err
		}
	}
	return paged(r, made, order[*state.OrganizationInvitation]{}, page{limit: len(made)}), nil
}

func revokeOrganizationInvitation(r *request) (any, error) {
	b, err := r.object()
	if err != nil {
		return nil, err
	}
	b.text("requesting_user_id")
	if err := b.err(); err != nil {
		return nil, err
	}
	i, err := r.organizationInvitation()
	if err != nil {
		return nil, err
	}
	return r.show(r.inst.RevokeOrganizationInvitation(r.change(), i.ID))
}
