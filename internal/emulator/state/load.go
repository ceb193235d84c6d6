package state

import (
	"fmt"
	"strings"
)

// loadTable reads one array into a table; from makes the resource of what was read.
func loadTable[F any, T resource](l *loader, t *table[T], from func(F) T) error {
	return l.array(func() error {
		var saved F
		if err := l.dec.Decode(&saved); err != nil {
			return err
		}
		row := from(saved)
		if row.key() == "" {
			return fmt.Errorf("the id is missing")
		}
		t.put(row)
		return nil
	})
}

// table reads the array of this name.
func (l *loader) table(in *Instance, name string) error {
	switch name {
	case "users":
		return loadTable(l, in.users, func(u *User) *User { in.compact(u); return u })
	case "organizations":
		return loadTable(l, in.organizations, func(o *Organization) *Organization { return o })
	case "organization_memberships":
		return loadTable(l, in.memberships, in.membershipOf)
	case "organization_invitations":
		return loadTable(l, in.orgInvites, invitationOf)
	case "organization_domains":
		return loadTable(l, in.domains, func(d *OrganizationDomain) *OrganizationDomain { return d })
	case "roles":
		return loadTable(l, in.roles, roleOf)
	case "permissions":
		return loadTable(l, in.permissions, func(p *Permission) *Permission { return p })
	case "sessions":
		return loadTable(l, in.sessions, sessionOf)
	case "invitations":
		return loadTable(l, in.invitations, func(i *Invitation) *Invitation { return i })
	case "waitlist_entries":
		return loadTable(l, in.waitlist, waitlistEntryOf)
	case "subscriptions":
		return loadTable(l, in.subscriptions, subscriptionOf)
	case "subscription_items":
		return loadTable(l, in.items, itemOf)
	case "payment_attempts":
		return loadTable(l, in.payments, paymentOf)
	}
	return fmt.Errorf("%q is not a part of an instance", name)
}

// compact lets a loaded user share what others have too.
func (in *Instance) compact(u *User) {
	share := func(v **Verification) {
		if *v != nil {
			*v = in.shared(**v)
		}
	}
	for i := range u.EmailAddresses {
		share(&u.EmailAddresses[i].Verification)
		if u.EmailAddresses[i].ID == string(u.PrimaryEmailAddressID) {
			u.PrimaryEmailAddressID = OptString(u.EmailAddresses[i].ID)
		}
	}
	for i := range u.PhoneNumbers {
		share(&u.PhoneNumbers[i].Verification)
	}
	for i := range u.ExternalAccounts {
		share(&u.ExternalAccounts[i].Verification)
	}
	for i := range u.EnterpriseAccounts {
		share(&u.EnterpriseAccounts[i].Verification)
	}
	for _, m := range []*Metadata{&u.PublicMetadata, &u.PrivateMetadata, &u.UnsafeMetadata} {
		*m = Metadata(in.text(string(*m)))
	}
	u.Locale = OptString(in.text(string(u.Locale)))
}

// text is the one copy of a text that many resources have.
func (in *Instance) text(s string) string {
	if s == "" {
		return ""
	}
	if one, ok := in.texts[s]; ok {
		return one
	}
	in.texts[s] = s
	return s
}

func (in *Instance) membershipOf(v savedMembership) *OrganizationMembership {
	if v.Organization != nil {
		v.OrganizationID = v.Organization.ID
	}
	if v.PublicUserData != nil {
		v.UserID = v.PublicUserData.UserID
	}
	return &OrganizationMembership{
		ID: v.ID, Role: in.text(v.Role), PublicMetadata: Metadata(in.text(string(v.PublicMetadata))), PrivateMetadata: v.PrivateMetadata,
		OrganizationID: in.text(v.OrganizationID), UserID: in.text(v.UserID), CreatedAt: v.CreatedAt, UpdatedAt: v.UpdatedAt,
	}
}

func invitationOf(v savedInvitation) *OrganizationInvitation {
	return &OrganizationInvitation{
		ID: v.ID, OrganizationID: v.OrganizationID, EmailAddress: v.EmailAddress, Role: v.Role, InviterID: v.InviterID,
		Status: v.Status, UserID: v.UserID, PublicMetadata: v.PublicMetadata, PrivateMetadata: v.PrivateMetadata, URL: v.URL,
		ExpiresAt: v.ExpiresAt, CreatedAt: v.CreatedAt, UpdatedAt: v.UpdatedAt,
	}
}

func roleOf(v roleView) *Role {
	r := &Role{
		ID: v.ID, Name: v.Name, Key: v.Key, Description: v.Description, IsCreatorEligible: v.IsCreatorEligible,
		CreatedAt: v.CreatedAt, UpdatedAt: v.UpdatedAt,
	}
	for _, p := range v.Permissions {
		r.Permissions = append(r.Permissions, p.ID)
	}
	return r
}

func sessionOf(s *Session) *Session {
	if absent(s.Actor) {
		s.Actor = nil
	}
	return s
}

func waitlistEntryOf(v waitlistView) *WaitlistEntry {
	w := &WaitlistEntry{
		ID: v.ID, EmailAddress: v.EmailAddress, Status: v.Status, IsLocked: v.IsLocked, CreatedAt: v.CreatedAt, UpdatedAt: v.UpdatedAt,
	}
	if v.Invitation != nil {
		w.InvitationID = v.Invitation.ID
	}
	return w
}

func subscriptionOf(v savedSubscription) *Subscription {
	p := v.Payer
	return &Subscription{
		ID: v.ID, Status: v.Status, Payer: Payer{p.ID, p.UserID, p.OrganizationID, p.CreatedAt, p.UpdatedAt},
		PaymentSourceID: v.PaymentSourceID, LatestPaymentID: v.LatestPaymentID, ActiveAt: v.ActiveAt, PastDueAt: v.PastDueAt,
		CanceledAt: v.CanceledAt, EndedAt: v.EndedAt, CreatedAt: v.CreatedAt, UpdatedAt: v.UpdatedAt,
	}
}

func itemOf(v savedItem) *SubscriptionItem {
	i := &SubscriptionItem{
		ID: v.ID, SubscriptionID: v.SubscriptionID, PlanID: v.PlanID, PlanPeriod: v.PlanPeriod, Status: v.Status,
		IsFreeTrial: v.IsFreeTrial, PeriodStart: v.PeriodStart, PeriodEnd: v.PeriodEnd, CanceledAt: v.CanceledAt,
		PastDueAt: v.PastDueAt, EndedAt: v.EndedAt, CreatedAt: v.CreatedAt, UpdatedAt: v.UpdatedAt,
	}
	if v.Seats != nil {
		i.Seats = v.Seats.Quantity
	}
	return i
}

func paymentOf(v savedPayment) *PaymentAttempt {
	p := &PaymentAttempt{
		ID: v.ID, SubscriptionID: v.SubscriptionID, PaymentID: v.PaymentID, InvoiceID: v.InvoiceID, StatementID: v.StatementID,
		GatewayExternalID: v.GatewayExternalID, Status: v.Status, ChargeType: v.ChargeType, Subtotal: v.Totals.Subtotal.Amount,
		Tax: v.Totals.TaxTotal.Amount, PaidAt: v.PaidAt, FailedAt: v.FailedAt, BillingDate: v.BillingDate,
		CreatedAt: v.CreatedAt, UpdatedAt: v.UpdatedAt,
	}
	if v.FailedReason != nil {
		p.FailureCode = v.FailedReason.Code
	}
	return p
}

// reindex makes the indexes of loaded tables anew, and checks that what they
// lead to exists.
func (in *Instance) reindex() error {
	in.texts = nil
	for _, u := range in.users.all() {
		in.eachUserKey(u, func(m map[string]string, key string) { m[key] = u.ID })
	}
	for _, o := range in.organizations.all() {
		in.slugs[o.Slug] = o.ID
	}
	for _, m := range in.memberships.all() {
		u, o := in.users.get(m.UserID), in.organizations.get(m.OrganizationID)
		if u == nil || o == nil {
			return fmt.Errorf("organization_memberships: %s is of user %q and organization %q, one of which is not in the state", m.ID, m.UserID, m.OrganizationID)
		}
		m.UserID, m.OrganizationID = u.ID, o.ID
		in.userMemberships.add(m.UserID, m.ID)
		in.orgMemberships.add(m.OrganizationID, m.ID)
	}
	for _, i := range in.orgInvites.all() {
		in.orgInviteIDs.add(i.OrganizationID, i.ID)
	}
	for _, d := range in.domains.all() {
		in.orgDomains.add(d.OrganizationID, d.ID)
	}
	for _, s := range in.sessions.all() {
		u := in.users.get(s.UserID)
		if u == nil {
			return fmt.Errorf("sessions: %s is of user %q, who is not in the state", s.ID, s.UserID)
		}
		s.UserID = u.ID
		in.userSessions.add(s.UserID, s.ID)
	}
	for _, i := range in.invitations.all() {
		in.storeInvitation(i)
	}
	for _, w := range in.waitlist.all() {
		in.waiting[strings.ToLower(w.EmailAddress)] = w.ID
	}
	for _, s := range in.subscriptions.all() {
		in.payerSubscriptions.add(s.Payer.UserID+s.Payer.OrganizationID, s.ID)
	}
	for _, i := range in.items.all() {
		if in.subscriptions.get(i.SubscriptionID) == nil {
			return fmt.Errorf("subscription_items: %s is of subscription %q, which is not in the state", i.ID, i.SubscriptionID)
		}
		in.subscriptionItems.add(i.SubscriptionID, i.ID)
	}
	return nil
}
