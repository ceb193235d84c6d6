package state

import (
	"math/rand/v2"
	"slices"
	"strings"
)

// read answers what find finds under the instance's lock.
func read[T any](in *Instance, find func() T) T {
	in.mu.RLock()
	defer in.mu.RUnlock()
	return find()
}

// User is the user of this id, nil where there is none.
func (in *Instance) User(id string) *User {
	return read(in, func() *User { return in.users.get(id) })
}

// UserByEmail is who has this e-mail address, in any case.
func (in *Instance) UserByEmail(address string) *User {
	return read(in, func() *User { return in.users.get(in.emails[strings.ToLower(address)]) })
}

// UserByPhone is who has this phone number.
func (in *Instance) UserByPhone(number string) *User {
	return read(in, func() *User { return in.users.get(in.phones[number]) })
}

// UserByExternalID is who has this external id.
func (in *Instance) UserByExternalID(id string) *User {
	return read(in, func() *User { return in.users.get(in.externalIDs[id]) })
}

// UserByUsername is who has this username, in any case.
func (in *Instance) UserByUsername(name string) *User {
	return read(in, func() *User { return in.users.get(in.usernames[strings.ToLower(name)]) })
}

// Users are all users, in order of creation.
func (in *Instance) Users() []*User { return read(in, in.users.all) }

// PickUser is any user, nil where there are none. Unlike Users it is cheap
// between changes; so are the other picks.
func (in *Instance) PickUser(r *rand.Rand) *User {
	return read(in, func() *User { return in.users.pick(r) })
}

// Organization is the organization of this id, nil where there is none.
func (in *Instance) Organization(id string) *Organization {
	return read(in, func() *Organization { return in.organizations.get(id) })
}

// OrganizationBySlug is the organization of this slug.
func (in *Instance) OrganizationBySlug(slug string) *Organization {
	return read(in, func() *Organization { return in.organizations.get(in.slugs[slug]) })
}

// Organizations are all organizations, in order of creation.
func (in *Instance) Organizations() []*Organization { return read(in, in.organizations.all) }

// PickOrganization is any organization, nil where there are none.
func (in *Instance) PickOrganization(r *rand.Rand) *Organization {
	return read(in, func() *Organization { return in.organizations.pick(r) })
}

// Membership is the user's membership in the organization, nil where there is none.
func (in *Instance) Membership(orgID, userID string) *OrganizationMembership {
	return read(in, func() *OrganizationMembership { return in.membership(orgID, userID) })
}

// membership looks among the user's: they are fewer than the organization's.
func (in *Instance) membership(orgID, userID string) *OrganizationMembership {
	for _, id := range in.userMemberships[userID] {
		if m := in.memberships.get(id); m.OrganizationID == orgID {
			return m
		}
	}
	return nil
}

// MembershipByID is the membership of this id, nil where there is none.
func (in *Instance) MembershipByID(id string) *OrganizationMembership {
	return read(in, func() *OrganizationMembership { return in.memberships.get(id) })
}

// Memberships are all memberships, in order of creation.
func (in *Instance) Memberships() []*OrganizationMembership { return read(in, in.memberships.all) }

// PickMembership is any membership, nil where there are none.
func (in *Instance) PickMembership(r *rand.Rand) *OrganizationMembership {
	return read(in, func() *OrganizationMembership { return in.memberships.pick(r) })
}

// MembershipsOfUser are the user's memberships, oldest first.
func (in *Instance) MembershipsOfUser(userID string) []*OrganizationMembership {
	return read(in, func() []*OrganizationMembership { return in.memberships.in(in.userMemberships[userID]) })
}

// MembershipsOfOrganization are the organization's memberships, oldest first.
func (in *Instance) MembershipsOfOrganization(orgID string) []*OrganizationMembership {
	return read(in, func() []*OrganizationMembership { return in.memberships.in(in.orgMemberships[orgID]) })
}

// OrganizationInvitation is the invitation of this id, nil where there is none.
func (in *Instance) OrganizationInvitation(id string) *OrganizationInvitation {
	return read(in, func() *OrganizationInvitation { return in.orgInvites.get(id) })
}

// OrganizationInvitations are those of all organizations, in order of creation.
func (in *Instance) OrganizationInvitations() []*OrganizationInvitation {
	return read(in, in.orgInvites.all)
}

// InvitationsOfOrganization are the organization's invitations, oldest first.
func (in *Instance) InvitationsOfOrganization(orgID string) []*OrganizationInvitation {
	return read(in, func() []*OrganizationInvitation { return in.orgInvites.in(in.orgInviteIDs[orgID]) })
}

// PickOrganizationInvitation is any invitation, nil where there are none.
func (in *Instance) PickOrganizationInvitation(r *rand.Rand) *OrganizationInvitation {
	return read(in, func() *OrganizationInvitation { return in.orgInvites.pick(r) })
}

// Domain is the organization's domain of this id, nil where there is none.
func (in *Instance) Domain(id string) *OrganizationDomain {
	return read(in, func() *OrganizationDomain { return in.domains.get(id) })
}

// Domains are those of all organizations, in order of creation.
func (in *Instance) Domains() []*OrganizationDomain { return read(in, in.domains.all) }

// DomainsOfOrganization are the organization's domains, oldest first.
func (in *Instance) DomainsOfOrganization(orgID string) []*OrganizationDomain {
	return read(in, func() []*OrganizationDomain { return in.domains.in(in.orgDomains[orgID]) })
}

// Role is the role of this id, nil where there is none.
func (in *Instance) Role(id string) *Role {
	return read(in, func() *Role { return in.roles.get(id) })
}

// RoleByKey is the role of this key, nil where there is none.
func (in *Instance) RoleByKey(key string) *Role {
	return read(in, func() *Role { return in.roleByKey(key) })
}

// roleByKey looks through all: an instance has a handful.
func (in *Instance) roleByKey(key string) *Role {
	for _, r := range in.roles.rows {
		if r != nil && r.Key == key {
			return r
		}
	}
	return nil
}

// Roles are all roles, in order of creation.
func (in *Instance) Roles() []*Role { return read(in, in.roles.all) }

// Permission is the permission of this id, nil where there is none.
func (in *Instance) Permission(id string) *Permission {
	return read(in, func() *Permission { return in.permissions.get(id) })
}

// PermissionByKey is the permission of this key, nil where there is none.
func (in *Instance) PermissionByKey(key string) *Permission {
	return read(in, func() *Permission { return in.permissionByKey(key) })
}

func (in *Instance) permissionByKey(key string) *Permission {
	for _, p := range in.permissions.rows {
		if p != nil && p.Key == key {
			return p
		}
	}
	return nil
}

// Permissions are all permissions, in order of creation.
func (in *Instance) Permissions() []*Permission { return read(in, in.permissions.all) }

// PermissionsOfRole are the keys of what a role may do, nil for an unknown role.
func (in *Instance) PermissionsOfRole(key string) []string {
	return read(in, func() []string { _, keys := in.resolveRole(key); return keys })
}

// Session is the session of this id, nil where there is none.
func (in *Instance) Session(id string) *Session {
	return read(in, func() *Session { return in.sessions.get(id) })
}

// Sessions are all sessions, in order of creation.
func (in *Instance) Sessions() []*Session { return read(in, in.sessions.all) }

// SessionsOfUser are the user's sessions, oldest first.
func (in *Instance) SessionsOfUser(userID string) []*Session {
	return read(in, func() []*Session { return in.sessions.in(in.userSessions[userID]) })
}

// PickSession is any session, nil where there are none.
func (in *Instance) PickSession(r *rand.Rand) *Session {
	return read(in, func() *Session { return in.sessions.pick(r) })
}

// Invitation is the invitation to sign up of this id, nil where there is none.
func (in *Instance) Invitation(id string) *Invitation {
	return read(in, func() *Invitation { return in.invitations.get(id) })
}

// Invitations are all invitations to sign up, in order of creation.
func (in *Instance) Invitations() []*Invitation { return read(in, in.invitations.all) }

// WaitlistEntry is the entry of this id, nil where there is none.
func (in *Instance) WaitlistEntry(id string) *WaitlistEntry {
	return read(in, func() *WaitlistEntry { return in.waitlist.get(id) })
}

// WaitlistEntries are all entries, in order of creation.
func (in *Instance) WaitlistEntries() []*WaitlistEntry { return read(in, in.waitlist.all) }

// PickWaitlistEntry is any entry, nil where there are none.
func (in *Instance) PickWaitlistEntry(r *rand.Rand) *WaitlistEntry {
	return read(in, func() *WaitlistEntry { return in.waitlist.pick(r) })
}

// Plans are the plans that can be subscribed to.
func (in *Instance) Plans() []*Plan { return slices.Clone(in.plans) }

// Subscription is the subscription of this id, nil where there is none.
func (in *Instance) Subscription(id string) *Subscription {
	return read(in, func() *Subscription { return in.subscriptions.get(id) })
}

// SubscriptionOf is the newest subscription of a user or an organization, nil
// where there is none.
func (in *Instance) SubscriptionOf(payerID string) *Subscription {
	return read(in, func() *Subscription {
		ids := in.payerSubscriptions[payerID]
		if len(ids) == 0 {
			return nil
		}
		return in.subscriptions.get(ids[len(ids)-1])
	})
}

// Subscriptions are all subscriptions, in order of creation.
func (in *Instance) Subscriptions() []*Subscription { return read(in, in.subscriptions.all) }

// PickSubscription is any subscription, nil where there are none.
func (in *Instance) PickSubscription(r *rand.Rand) *Subscription {
	return read(in, func() *Subscription { return in.subscriptions.pick(r) })
}

// SubscriptionItem is the item of this id, nil where there is none.
func (in *Instance) SubscriptionItem(id string) *SubscriptionItem {
	return read(in, func() *SubscriptionItem { return in.items.get(id) })
}

// SubscriptionItems are all items, in order of creation.
func (in *Instance) SubscriptionItems() []*SubscriptionItem { return read(in, in.items.all) }

// ItemsOfSubscription are the subscription's items, oldest first.
func (in *Instance) ItemsOfSubscription(id string) []*SubscriptionItem {
	return read(in, func() []*SubscriptionItem { return in.items.in(in.subscriptionItems[id]) })
}

// PaymentAttempt is the attempt of this id, nil where there is none.
func (in *Instance) PaymentAttempt(id string) *PaymentAttempt {
	return read(in, func() *PaymentAttempt { return in.payments.get(id) })
}

// PaymentAttempts are all attempts, in order of creation.
func (in *Instance) PaymentAttempts() []*PaymentAttempt { return read(in, in.payments.all) }

// Deleted is when the resource of this id was deleted (Unix ms); the table is
// one of a saved state ("users", "organization_memberships").
func (in *Instance) Deleted(table, id string) (at int64, ok bool) {
	in.mu.RLock()
	defer in.mu.RUnlock()
	at, ok = in.deletions()[table][id]
	return at, ok
}

// deletions are the memories of all tables, by the tables' names.
func (in *Instance) deletions() map[string]map[string]int64 {
	return map[string]map[string]int64{
		"users": in.users.deleted, "organizations": in.organizations.deleted,
		"organization_memberships": in.memberships.deleted, "organization_invitations": in.orgInvites.deleted,
		"organization_domains": in.domains.deleted, "roles": in.roles.deleted, "permissions": in.permissions.deleted,
		"sessions": in.sessions.deleted, "invitations": in.invitations.deleted, "waitlist_entries": in.waitlist.deleted,
		"subscriptions": in.subscriptions.deleted, "subscription_items": in.items.deleted, "payment_attempts": in.payments.deleted,
	}
}
