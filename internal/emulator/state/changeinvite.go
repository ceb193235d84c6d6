package state

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

const dayMillis = int64(24 * time.Hour / time.Millisecond)

// expiry is when an invitation ends: 30 days from now by default.
func expiry(at int64, days int) OptInt {
	if days == 0 {
		days = 30
	}
	return OptInt(at + int64(days)*dayMillis)
}

// CreateOrganizationInvitation invites an e-mail address into an organization.
func (in *Instance) CreateOrganizationInvitation(req Request, p OrganizationInvitationParams) (*OrganizationInvitation, error) {
	c := in.begin(req)
	defer c.end()
	i := &OrganizationInvitation{
		OrganizationID: p.OrganizationID, EmailAddress: p.EmailAddress, Role: p.Role, InviterID: OptString(p.InviterUserID), Status: StatusPending,
	}
	if err := c.checkOrgInvite(i); err != nil {
		return nil, err
	}
	var err error
	if i.PublicMetadata, err = metadata("public_metadata", "", p.PublicMetadata); err != nil {
		return nil, err
	}
	if i.PrivateMetadata, err = metadata("private_metadata", "", p.PrivateMetadata); err != nil {
		return nil, err
	}
	i.ID, i.UpdatedAt = c.newID("orginv_"), c.tick()
	i.CreatedAt, i.ExpiresAt = i.UpdatedAt, expiry(i.UpdatedAt, p.ExpiresInDays)
	i.URL = OptString(c.ticketURL(p.RedirectURL, i.ID))
	c.addOrgInvite(i)
	c.recount(i.OrganizationID, 0, 1)
	c.emit("organizationInvitation.created", i.ID, c.invitationView(i))
	return i, nil
}

// ticketURL is where the invited goes.
func (in *Instance) ticketURL(redirect, id string) string {
	url := strings.Replace(in.Issuer, "//clerk.", "//accounts.", 1) + "/v1/tickets/accept?ticket=" + id
	if redirect != "" {
		url += "&redirect_url=" + redirect
	}
	return url
}

func (c *change) checkOrgInvite(i *OrganizationInvitation) error {
	if c.organizations.get(i.OrganizationID) == nil {
		return NotFound("organization", i.OrganizationID)
	}
	if err := validEmail(i.EmailAddress); err != nil {
		return err
	}
	if err := c.checkRole(i.Role); err != nil {
		return err
	}
	if i.InviterID != "" && c.users.get(string(i.InviterID)) == nil {
		return NotFound("user", string(i.InviterID))
	}
	if owner := c.emails[strings.ToLower(i.EmailAddress)]; owner != "" && c.membership(i.OrganizationID, owner) != nil {
		return refused(http.StatusBadRequest, "already_a_member_in_organization",
			i.EmailAddress+" is already a member of the organization.")
	}
	pending := func(other *OrganizationInvitation) bool {
		return other.Status == StatusPending && strings.EqualFold(other.EmailAddress, i.EmailAddress)
	}
	if slices.ContainsFunc(c.orgInvites.in(c.orgInviteIDs[i.OrganizationID]), pending) {
		return duplicate(i.EmailAddress)
	}
	return nil
}

func duplicate(address string) *Error {
	return &Error{
		Status: http.StatusBadRequest, Code: "duplicate_record", Message: "duplicate invitation",
		LongMessage: fmt.Sprintf("There are already pending invitations for the following email addresses: %s", address),
		Meta:        map[string]any{"email_addresses": []string{address}},
	}
}

// moveOrgInvite stores a pending invitation in another status; its event is its
// caller's.
func (c *change) moveOrgInvite(id, status, userID string) (*OrganizationInvitation, error) {
	old := c.orgInvites.get(id)
	if old == nil {
		return nil, NotFound("organization invitation", id)
	}
	if old.Status != StatusPending {
		return nil, refused(http.StatusBadRequest, "organization_invitation_not_pending",
			"The organization invitation is not pending but "+old.Status+".")
	}
	i := *old
	i.Status, i.UserID, i.UpdatedAt = status, userID, c.advance(i.UpdatedAt)
	c.orgInvites.put(&i)
	c.recount(i.OrganizationID, 0, -1)
	return &i, nil
}

// AcceptOrganizationInvitation makes the user a member.
func (in *Instance) AcceptOrganizationInvitation(req Request, id, userID string) (*OrganizationInvitation, *OrganizationMembership, error) {
	c := in.begin(req)
	defer c.end()
	old := c.orgInvites.get(id)
	if old == nil {
		return nil, nil, NotFound("organization invitation", id)
	}
	m := &OrganizationMembership{
		OrganizationID: old.OrganizationID, UserID: userID, Role: old.Role, PublicMetadata: old.PublicMetadata, PrivateMetadata: old.PrivateMetadata,
	}
	if err := c.checkNewMembership(m); err != nil {
		return nil, nil, err
	}
	i, err := c.moveOrgInvite(id, StatusAccepted, userID)
	if err != nil {
		return nil, nil, err
	}
	c.emit("organizationInvitation.accepted", id, acceptedInvitation{
		invitationView: c.invitationView(i), UserID: userID, Data: acceptedData{c.publicOrganization(i.OrganizationID)},
	})
	c.recount(m.OrganizationID, 1, 0)
	c.storeNewMembership(m)
	return i, m, nil
}

// RevokeOrganizationInvitation takes a pending invitation back.
func (in *Instance) RevokeOrganizationInvitation(req Request, id string) (*OrganizationInvitation, error) {
	c := in.begin(req)
	defer c.end()
	i, err := c.moveOrgInvite(id, StatusRevoked, "")
	if err != nil {
		return nil, err
	}
	c.emit("organizationInvitation.revoked", id, c.invitationView(i))
	return i, nil
}

// CreateInvitation invites an e-mail address to sign up.
func (in *Instance) CreateInvitation(req Request, p InvitationParams) (*Invitation, error) {
	c := in.begin(req)
	defer c.end()
	return c.createInvitation(p)
}

func (c *change) createInvitation(p InvitationParams) (*Invitation, error) {
	if err := validEmail(p.EmailAddress); err != nil {
		return nil, err
	}
	if !p.IgnoreExisting {
		if c.emails[strings.ToLower(p.EmailAddress)] != "" {
			return nil, taken("email_address", "email address")
		}
		if c.invited[strings.ToLower(p.EmailAddress)] != "" {
			return nil, duplicate(p.EmailAddress)
		}
	}
	public, err := metadata("public_metadata", "", p.PublicMetadata)
	if err != nil {
		return nil, err
	}
	i := &Invitation{ID: c.newID("inv_"), EmailAddress: p.EmailAddress, PublicMetadata: public, Status: StatusPending, UpdatedAt: c.tick()}
	i.CreatedAt, i.ExpiresAt = i.UpdatedAt, expiry(i.UpdatedAt, p.ExpiresInDays)
	i.URL = c.ticketURL(p.RedirectURL, i.ID)
	c.storeInvitation(i)
	c.emit("invitation.created", i.ID, i)
	return i, nil
}

// storeInvitation keeps the index of pending invitations right.
func (in *Instance) storeInvitation(i *Invitation) {
	in.invitations.put(i)
	address := strings.ToLower(i.EmailAddress)
	switch {
	case i.Status == StatusPending:
		in.invited[address] = i.ID
	case in.invited[address] == i.ID:
		delete(in.invited, address)
	}
}

// moveInvitation stores a pending invitation in another status and emits it.
func (c *change) moveInvitation(id, status string) (*Invitation, error) {
	old := c.invitations.get(id)
	if old == nil {
		return nil, NotFound("invitation", id)
	}
	if old.Status != StatusPending {
		return nil, refused(http.StatusBadRequest, "invitation_already_"+old.Status, "Invitation has already been "+old.Status+".")
	}
	i := *old
	i.Status, i.UpdatedAt = status, c.advance(i.UpdatedAt)
	c.storeInvitation(&i)
	c.emit("invitation."+status, id, &i)
	return &i, nil
}

// RevokeInvitation takes a pending invitation back.
func (in *Instance) RevokeInvitation(req Request, id string) (*Invitation, error) {
	c := in.begin(req)
	defer c.end()
	return c.moveInvitation(id, StatusRevoked)
}

// AcceptInvitation signs up the invited: p's first e-mail address and public
// metadata are the invitation's.
func (in *Instance) AcceptInvitation(req Request, id string, p UserParams) (*Invitation, *User, error) {
	c := in.begin(req)
	defer c.end()
	i := c.invitations.get(id)
	if i == nil {
		return nil, nil, NotFound("invitation", id)
	}
	if i.Status == StatusPending {
		p.EmailAddresses = append([]string{i.EmailAddress}, p.EmailAddresses...)
		p.PublicMetadata = []byte(i.PublicMetadata.JSON())
		u, err := c.createUser(p)
		if err != nil {
			return nil, nil, err
		}
		i, err = c.moveInvitation(id, StatusAccepted)
		return i, u, err
	}
	_, err := c.moveInvitation(id, StatusAccepted)
	return nil, nil, err
}

// JoinWaitlist puts an e-mail address on the waitlist. Who is on it already
// stays as is.
func (in *Instance) JoinWaitlist(req Request, address string) (*WaitlistEntry, error) {
	c := in.begin(req)
	defer c.end()
	if err := validEmail(address); err != nil {
		return nil, err
	}
	if id := c.waiting[strings.ToLower(address)]; id != "" {
		return c.waitlist.get(id), nil
	}
	w := &WaitlistEntry{ID: c.newID("wle_"), EmailAddress: address, Status: StatusPending, UpdatedAt: c.tick()}
	w.CreatedAt = w.UpdatedAt
	c.storeWaitlistEntry(w)
	c.emit("waitlistEntry.created", w.ID, c.waitlistView(w, "waitlistEntry"))
	return w, nil
}

func (in *Instance) storeWaitlistEntry(w *WaitlistEntry) {
	in.waitlist.put(w)
	in.waiting[strings.ToLower(w.EmailAddress)] = w.ID
}

// moveWaitlistEntry stores an entry in another status and emits it; edit may be nil.
func (in *Instance) moveWaitlistEntry(req Request, id, status string, edit func(*change, *WaitlistEntry) error) (*WaitlistEntry, error) {
	c := in.begin(req)
	defer c.end()
	old := c.waitlist.get(id)
	if old == nil {
		return nil, NotFound("waitlist entry", id)
	}
	if old.Status == status || old.Status == StatusCompleted {
		return nil, refused(http.StatusConflict, "waitlist_entry_already_"+old.Status, "The waitlist entry is already "+old.Status+".")
	}
	w := *old
	w.Status = status
	if edit != nil {
		if err := edit(c, &w); err != nil {
			return nil, err
		}
	}
	w.UpdatedAt = c.advance(w.UpdatedAt)
	c.storeWaitlistEntry(&w)
	c.emit("waitlistEntry.updated", id, c.waitlistView(&w, "waitlistEntry"))
	return &w, nil
}

// InviteWaitlistEntry invites who waits.
func (in *Instance) InviteWaitlistEntry(req Request, id string) (*WaitlistEntry, error) {
	return in.moveWaitlistEntry(req, id, StatusInvited, func(c *change, w *WaitlistEntry) error {
		i, err := c.createInvitation(InvitationParams{EmailAddress: w.EmailAddress, IgnoreExisting: true})
		if err != nil {
			return err
		}
		w.InvitationID = i.ID
		return nil
	})
}

// CompleteWaitlistEntry notes that the invited has signed up.
func (in *Instance) CompleteWaitlistEntry(req Request, id string) (*WaitlistEntry, error) {
	return in.moveWaitlistEntry(req, id, StatusCompleted, nil)
}

// RejectWaitlistEntry turns an e-mail address down.
func (in *Instance) RejectWaitlistEntry(req Request, id string) (*WaitlistEntry, error) {
	return in.moveWaitlistEntry(req, id, StatusRejected, nil)
}

// DeleteWaitlistEntry removes an entry. No event exists for it.
func (in *Instance) DeleteWaitlistEntry(req Request, id string) (*WaitlistEntry, error) {
	c := in.begin(req)
	defer c.end()
	w := c.waitlist.get(id)
	if w == nil {
		return nil, NotFound("waitlist entry", id)
	}
	delete(c.waiting, strings.ToLower(w.EmailAddress))
	c.waitlist.remove(id, c.tick())
	return w, nil
}
