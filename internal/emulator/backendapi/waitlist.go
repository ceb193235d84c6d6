package backendapi

import (
	"strings"

	"github.com/rollcall-dev/rollcall/internal/emulator/state"
)

const maxBulkWaitlist = 50

func waitlistOrders(in *state.Instance) orders[*state.WaitlistEntry] {
	invitedAt := func(e *state.WaitlistEntry) int64 {
		if i := in.Invitation(e.InvitationID); i != nil {
			return i.CreatedAt
		}
		return 0
	}
	return orders[*state.WaitlistEntry]{
		"created_at":    nil,
		"email_address": func(v *state.WaitlistEntry) sortKey { return sortKey{text: v.EmailAddress} },
		"invited_at":    func(v *state.WaitlistEntry) sortKey { return sortKey{number: invitedAt(v)} },
	}
}

func listWaitlist(r *request) (any, error) {
	q := r.query()
	status := q.oneOf("status", state.StatusPending, state.StatusInvited, state.StatusCompleted, state.StatusRejected)
	query := strings.ToLower(q.text("query"))
	o, p := readOrder(q, waitlistOrders(r.inst)), q.page()
	if err := q.err(); err != nil {
		return nil, err
	}
	found := where(r.inst.WaitlistEntries(), func(e *state.WaitlistEntry) bool {
		return (status == "" || e.Status == status) &&
			(query == "" || contains(e.EmailAddress, query) || contains(e.ID, query))
	})
	return paged(r, found, o, p), nil
}

func createWaitlistEntry(r *request) (any, error) {
	b, err := r.object()
	if err != nil {
		return nil, err
	}
	address := b.required("email_address")
	b.boolean("notify")
	if err := b.err(); err != nil {
		return nil, err
	}
	return r.show(r.inst.JoinWaitlist(r.change(), address))
}

func createWaitlistEntries(r *request) (any, error) {
	bodies, err := readArray(r.Request, maxBulkWaitlist)
	if err != nil {
		return nil, err
	}
	addresses, seen := make([]string, len(bodies)), map[string]bool{}
	for i, b := range bodies {
		addresses[i] = b.required("email_address")
		b.boolean("notify")
		if seen[strings.ToLower(addresses[i])] {
			b.reject(formDuplicate("email_address"))
		}
		seen[strings.ToLower(addresses[i])] = true
		if err := b.err(); err != nil {
			return nil, err
		}
	}
	entries := make([]*state.WaitlistEntry, len(addresses))
	for i, address := range addresses {
		if entries[i], err = r.inst.JoinWaitlist(r.change(), address); err != nil {
			return nil, err
		}
	}
	return views(r, entries), nil
}

func inviteWaitlistEntry(r *request) (any, error) {
	b, err := r.object()
	if err != nil {
		return nil, err
	}
	b.boolean("ignore_existing")
	if err := b.err(); err != nil {
		return nil, err
	}
	return r.show(r.inst.InviteWaitlistEntry(r.change(), r.PathValue("waitlist_entry_id")))
}

func rejectWaitlistEntry(r *request) (any, error) {
	return r.show(r.inst.RejectWaitlistEntry(r.change(), r.PathValue("waitlist_entry_id")))
}

func deleteWaitlistEntry(r *request) (any, error) {
	e, err := r.inst.DeleteWaitlistEntry(r.change(), r.PathValue("waitlist_entry_id"))
	if err != nil {
		return nil, err
	}
	return deleted{Object: "waitlist_entry", ID: e.ID, Deleted: true}, nil
}
