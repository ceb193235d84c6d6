package backendapi

import (
	"strings"

	"github.com/rollcall-dev/rollcall/internal/emulator/state"
)

var invitationOrders = orders[*state.Invitation]{
	"created_at":    nil,
	"email_address": func(v *state.Invitation) sortKey { return sortKey{text: v.EmailAddress} },
	"expires_at":    func(v *state.Invitation) sortKey { return sortKey{number: int64(v.ExpiresAt)} },
}

// listInvitations leaves the revoked ones out, unless they are asked for.
func listInvitations(r *request) (any, error) {
	q := r.query()
	status, query := q.oneOf("status", invitationStatuses...), strings.ToLower(q.text("query"))
	o, p := readOrder(q, invitationOrders), q.page()
	found := where(r.inst.Invitations(), func(i *state.Invitation) bool {
		if status == "" && i.Status == state.StatusRevoked || status != "" && i.Status != status {
			return false
		}
		return query == "" || contains(i.EmailAddress, query) || contains(i.ID, query)
	})
	return maybePaged(r, q, found, o, p)
}

func readInvitation(b *body) state.InvitationParams {
	p := state.InvitationParams{
		EmailAddress:   b.required("email_address"),
		PublicMetadata: b.metadata("public_metadata"),
		RedirectURL:    b.url("redirect_url"),
		ExpiresInDays:  b.days("expires_in_days"),
		IgnoreExisting: b.boolean("ignore_existing").value,
	}
	b.boolean("notify")
	b.oneOf("template_slug", "invitation", "waitlist_invitation")
	return p
}

func createInvitation(r *request) (any, error) {
	b, err := r.object()
	if err != nil {
		return nil, err
	}
	p := readInvitation(b)
	if err := b.err(); err != nil {
		return nil, err
	}
	return r.show(r.inst.CreateInvitation(r.change(), p))
}

// createInvitations makes several. All are read before the first is made; one
// that state refuses leaves those before it.
func createInvitations(r *request) (any, error) {
	bodies, err := readArray(r.Request, maxBulkInvitations)
	if err != nil {
		return nil, err
	}
	params := make([]state.InvitationParams, len(bodies))
	for i, b := range bodies {
		params[i] = readInvitation(b)
		if err := b.err(); err != nil {
			return nil, err
		}
	}
	made := make([]*state.Invitation, len(params))
	for i, p := range params {
		if made[i], err = r.inst.CreateInvitation(r.change(), p); err != nil {
			return nil, err
		}
	}
	return views(r, made), nil
}

func revokeInvitation(r *request) (any, error) {
	return r.show(r.inst.RevokeInvitation(r.change(), r.PathValue("invitation_id")))
}
