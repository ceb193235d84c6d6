package state

import "io"

// CreateUser signs a user up.
func (in *Instance) CreateUser(req Request, p UserParams) (*User, error) { panic("soon") }

// UpdateUser changes what the update names.
func (in *Instance) UpdateUser(req Request, id string, p UserUpdate) (*User, error) { panic("soon") }

// MergeUserMetadata merges into the user's metadata.
func (in *Instance) MergeUserMetadata(req Request, id string, p MetadataPatch) (*User, error) { panic("soon") }

// DeleteUser deletes the user, the user's memberships and sessions, and returns what was deleted.
func (in *Instance) DeleteUser(req Request, id string) (*User, error) { panic("soon") }

// BanUser bans the user and revokes the user's sessions.
func (in *Instance) BanUser(req Request, id string) (*User, error) { panic("soon") }

// UnbanUser lifts a ban.
func (in *Instance) UnbanUser(req Request, id string) (*User, error) { panic("soon") }

// LockUser locks the user out.
func (in *Instance) LockUser(req Request, id string) (*User, error) { panic("soon") }

// UnlockUser lets a locked user in again.
func (in *Instance) UnlockUser(req Request, id string) (*User, error) { panic("soon") }

// AddEmail gives the user an e-mail address and returns its id too.
func (in *Instance) AddEmail(req Request, userID, address string, verified bool) (*User, string, error) { panic("soon") }

// VerifyEmail marks an e-mail address as verified.
func (in *Instance) VerifyEmail(req Request, userID, emailID string) (*User, error) { panic("soon") }

// RemoveEmail takes an e-mail address from the user. Another becomes the primary one.
func (in *Instance) RemoveEmail(req Request, userID, emailID string) (*User, error) { panic("soon") }

// AddPhone gives the user a phone number and returns its id too.
func (in *Instance) AddPhone(req Request, userID, number string, verified bool) (*User, string, error) { panic("soon") }

// VerifyPhone marks a phone number as verified.
func (in *Instance) VerifyPhone(req Request, userID, phoneID string) (*User, error) { panic("soon") }

// RemovePhone takes a phone number from the user.
func (in *Instance) RemovePhone(req Request, userID, phoneID string) (*User, error) { panic("soon") }

// LinkExternalAccount links an account with a social provider.
func (in *Instance) LinkExternalAccount(req Request, userID string, p ExternalAccountParams) (*User, error) { panic("soon") }

// UnlinkExternalAccount removes an account with a social provider.
func (in *Instance) UnlinkExternalAccount(req Request, userID, accountID string) (*User, error) { panic("soon") }

// LinkEnterpriseAccount links an account with an enterprise connection.
func (in *Instance) LinkEnterpriseAccount(req Request, userID string, p EnterpriseAccountParams) (*User, error) { panic("soon") }

// DeprovisionUser is what a directory (SCIM) does to a user who left: the accounts become inactive, the user stays.
func (in *Instance) DeprovisionUser(req Request, userID string) (*User, error) { panic("soon") }

// SendEmailCode sends a one-time code to the user's primary e-mail address.
func (in *Instance) SendEmailCode(req Request, userID string) error { panic("soon") }

// SendSMSCode sends a one-time code to the user's primary phone number.
func (in *Instance) SendSMSCode(req Request, userID string) error { panic("soon") }

// CreateOrganization creates an organization; its creator becomes a member of the creator's role.
func (in *Instance) CreateOrganization(req Request, p OrganizationParams) (*Organization, error) { panic("soon") }

// UpdateOrganization changes what the update names.
func (in *Instance) UpdateOrganization(req Request, id string, p OrganizationUpdate) (*Organization, error) { panic("soon") }

// MergeOrganizationMetadata merges into the organization's metadata.
func (in *Instance) MergeOrganizationMetadata(req Request, id string, p MetadataPatch) (*Organization, error) { panic("soon") }

// DeleteOrganization deletes the organization and all that is its, and returns what was deleted.
func (in *Instance) DeleteOrganization(req Request, id string) (*Organization, error) { panic("soon") }

// CreateMembership makes a user a member of an organization; who rejoins gets a new id.
func (in *Instance) CreateMembership(req Request, p MembershipParams) (*OrganizationMembership, error) { panic("soon") }

// UpdateMembershipRole gives a member another role.
func (in *Instance) UpdateMembershipRole(req Request, orgID, userID, role string) (*OrganizationMembership, error) { panic("soon") }

// MergeMembershipMetadata merges into the membership's metadata.
func (in *Instance) MergeMembershipMetadata(req Request, orgID, userID string, p MetadataPatch) (*OrganizationMembership, error) { panic("soon") }

// DeleteMembership ends a membership and returns it as the event has it: render it with DeletedView.
func (in *Instance) DeleteMembership(req Request, orgID, userID string) (*OrganizationMembership, error) { panic("soon") }

// CreateOrganizationInvitation invites an e-mail address into an organization.
func (in *Instance) CreateOrganizationInvitation(req Request, p OrganizationInvitationParams) (*OrganizationInvitation, error) { panic("soon") }

// AcceptOrganizationInvitation makes the user a member.
func (in *Instance) AcceptOrganizationInvitation(req Request, id, userID string) (*OrganizationInvitation, *OrganizationMembership, error) { panic("soon") }

// RevokeOrganizationInvitation takes a pending invitation back.
func (in *Instance) RevokeOrganizationInvitation(req Request, id string) (*OrganizationInvitation, error) { panic("soon") }

// CreateDomain gives an organization a domain.
func (in *Instance) CreateDomain(req Request, p DomainParams) (*OrganizationDomain, error) { panic("soon") }

// UpdateDomain changes what the update names.
func (in *Instance) UpdateDomain(req Request, id string, p DomainUpdate) (*OrganizationDomain, error) { panic("soon") }

// DeleteDomain takes a domain from its organization.
func (in *Instance) DeleteDomain(req Request, id string) (*OrganizationDomain, error) { panic("soon") }

// CreateRole creates a role.
func (in *Instance) CreateRole(req Request, p RoleParams) (*Role, error) { panic("soon") }

// UpdateRole changes what the update names. Members keep the role under a new key.
func (in *Instance) UpdateRole(req Request, id string, p RoleUpdate) (*Role, error) { panic("soon") }

// DeleteRole deletes a role that no member has.
func (in *Instance) DeleteRole(req Request, id string) (*Role, error) { panic("soon") }

// AddRolePermission lets a role do more. Its memberships are not updated.
func (in *Instance) AddRolePermission(req Request, roleID, permissionID string) (*Role, error) { panic("soon") }

// RemoveRolePermission lets a role do less. Its memberships are not updated.
func (in *Instance) RemoveRolePermission(req Request, roleID, permissionID string) (*Role, error) { panic("soon") }

// CreatePermission creates a permission of the application's own.
func (in *Instance) CreatePermission(req Request, p PermissionParams) (*Permission, error) { panic("soon") }

// UpdatePermission changes what the update names.
func (in *Instance) UpdatePermission(req Request, id string, p PermissionUpdate) (*Permission, error) { panic("soon") }

// DeletePermission deletes a permission and takes it from all roles.
func (in *Instance) DeletePermission(req Request, id string) (*Permission, error) { panic("soon") }

// CreateSession signs a user in.
func (in *Instance) CreateSession(req Request, p SessionParams) (*Session, error) { panic("soon") }

// ActivateSession ends a pending session's tasks.
func (in *Instance) ActivateSession(req Request, id string) (*Session, error) { panic("soon") }

// TouchSession notes activity, and the active organization unless nil ("" is none). No event exists for it.
func (in *Instance) TouchSession(req Request, id string, activeOrganizationID *string) (*Session, error) { panic("soon") }

// EndSession signs out of a session.
func (in *Instance) EndSession(req Request, id string) (*Session, error) { panic("soon") }

// RemoveSession signs out of a session and removes it from its client.
func (in *Instance) RemoveSession(req Request, id string) (*Session, error) { panic("soon") }

// RevokeSession ends a session from the outside.
func (in *Instance) RevokeSession(req Request, id string) (*Session, error) { panic("soon") }

// ExpireSession lets a session reach its expire_at. No event exists for it.
func (in *Instance) ExpireSession(req Request, id string) (*Session, error) { panic("soon") }

// CreateInvitation invites an e-mail address to sign up.
func (in *Instance) CreateInvitation(req Request, p InvitationParams) (*Invitation, error) { panic("soon") }

// RevokeInvitation takes a pending invitation back.
func (in *Instance) RevokeInvitation(req Request, id string) (*Invitation, error) { panic("soon") }

// AcceptInvitation signs up the invited: p's first e-mail address and public metadata are the invitation's.
func (in *Instance) AcceptInvitation(req Request, id string, p UserParams) (*Invitation, *User, error) { panic("soon") }

// JoinWaitlist puts an e-mail address on the waitlist.
func (in *Instance) JoinWaitlist(req Request, address string) (*WaitlistEntry, error) { panic("soon") }

// InviteWaitlistEntry invites who waits.
func (in *Instance) InviteWaitlistEntry(req Request, id string) (*WaitlistEntry, error) { panic("soon") }

// CompleteWaitlistEntry notes that the invited has signed up.
func (in *Instance) CompleteWaitlistEntry(req Request, id string) (*WaitlistEntry, error) { panic("soon") }

// RejectWaitlistEntry turns an e-mail address down.
func (in *Instance) RejectWaitlistEntry(req Request, id string) (*WaitlistEntry, error) { panic("soon") }

// DeleteWaitlistEntry removes an entry. No event exists for it.
func (in *Instance) DeleteWaitlistEntry(req Request, id string) (*WaitlistEntry, error) { panic("soon") }

// CreateSubscription subscribes a payer to a plan.
func (in *Instance) CreateSubscription(req Request, p SubscriptionParams) (*Subscription, error) { panic("soon") }

// UpdateSubscriptionStatus moves a subscription; its items stay.
func (in *Instance) UpdateSubscriptionStatus(req Request, id, status string) (*Subscription, error) { panic("soon") }

// AddSubscriptionItem adds a plan to a subscription.
func (in *Instance) AddSubscriptionItem(req Request, p ItemParams) (*SubscriptionItem, error) { panic("soon") }

// UpdateSubscriptionItemStatus moves an item of a subscription.
func (in *Instance) UpdateSubscriptionItemStatus(req Request, id, status string) (*SubscriptionItem, error) { panic("soon") }

// UpdateSubscriptionItemSeats changes how many seats are paid.
func (in *Instance) UpdateSubscriptionItemSeats(req Request, id string, seats int64) (*SubscriptionItem, error) { panic("soon") }

// EndFreeTrial announces that an item's free trial ends soon; it changes nothing but its updated_at.
func (in *Instance) AnnounceFreeTrialEnding(req Request, id string) (*SubscriptionItem, error) { panic("soon") }

// CreatePaymentAttempt starts to collect for a subscription.
func (in *Instance) CreatePaymentAttempt(req Request, p PaymentParams) (*PaymentAttempt, error) { panic("soon") }

// SettlePaymentAttempt ends an attempt: paid, or failed with the gateway's code.
func (in *Instance) SettlePaymentAttempt(req Request, id string, failureCode string) (*PaymentAttempt, error) { panic("soon") }

// User is the user of this id, nil where there is none.
func (in *Instance) User(id string) *User { panic("soon") }

// UserByEmail is who has this e-mail address, in any case.
func (in *Instance) UserByEmail(address string) *User { panic("soon") }

// UserByPhone is who has this phone number.
func (in *Instance) UserByPhone(number string) *User { panic("soon") }

// UserByExternalID is who has this external id.
func (in *Instance) UserByExternalID(id string) *User { panic("soon") }

// UserByUsername is who has this username, in any case.
func (in *Instance) UserByUsername(name string) *User { panic("soon") }

// Users are all users, in order of creation.
func (in *Instance) Users() []*User { panic("soon") }

// Organization is the organization of this id.
func (in *Instance) Organization(id string) *Organization { panic("soon") }

// OrganizationBySlug is the organization of this slug.
func (in *Instance) OrganizationBySlug(slug string) *Organization { panic("soon") }

// Organizations are all organizations, in order of creation.
func (in *Instance) Organizations() []*Organization { panic("soon") }

// Membership is the user's membership in the organization.
func (in *Instance) Membership(orgID, userID string) *OrganizationMembership { panic("soon") }

// MembershipByID is the membership of this id.
func (in *Instance) MembershipByID(id string) *OrganizationMembership { panic("soon") }

// Memberships are all memberships, in order of creation.
func (in *Instance) Memberships() []*OrganizationMembership { panic("soon") }

// MembershipsOfUser are the user's, in order of creation.
func (in *Instance) MembershipsOfUser(userID string) []*OrganizationMembership { panic("soon") }

// MembershipsOfOrganization are the organization's, in order of creation.
func (in *Instance) MembershipsOfOrganization(orgID string) []*OrganizationMembership { panic("soon") }

// OrganizationInvitation is the invitation of this id.
func (in *Instance) OrganizationInvitation(id string) *OrganizationInvitation { panic("soon") }

// OrganizationInvitations are all, in order of creation.
func (in *Instance) OrganizationInvitations() []*OrganizationInvitation { panic("soon") }

// Domain is the organization's domain of this id.
func (in *Instance) Domain(id string) *OrganizationDomain { panic("soon") }

// Domains are the domains of all organizations, in order of creation.
func (in *Instance) Domains() []*OrganizationDomain { panic("soon") }

// Role is the role of this id.
func (in *Instance) Role(id string) *Role { panic("soon") }

// RoleByKey is the role of this key.
func (in *Instance) RoleByKey(key string) *Role { panic("soon") }

// Roles are all roles, in order of creation.
func (in *Instance) Roles() []*Role { panic("soon") }

// Permission is the permission of this id.
func (in *Instance) Permission(id string) *Permission { panic("soon") }

// PermissionByKey is the permission of this key.
func (in *Instance) PermissionByKey(key string) *Permission { panic("soon") }

// Permissions are all permissions, in order of creation.
func (in *Instance) Permissions() []*Permission { panic("soon") }

// Session is the session of this id.
func (in *Instance) Session(id string) *Session { panic("soon") }

// Sessions are all sessions, in order of creation.
func (in *Instance) Sessions() []*Session { panic("soon") }

// SessionsOfUser are the user's, in order of creation.
func (in *Instance) SessionsOfUser(userID string) []*Session { panic("soon") }

// Invitation is the invitation to sign up of this id.
func (in *Instance) Invitation(id string) *Invitation { panic("soon") }

// Invitations are all invitations to sign up, in order of creation.
func (in *Instance) Invitations() []*Invitation { panic("soon") }

// WaitlistEntry is the entry of this id.
func (in *Instance) WaitlistEntry(id string) *WaitlistEntry { panic("soon") }

// WaitlistEntries are all entries, in order of creation.
func (in *Instance) WaitlistEntries() []*WaitlistEntry { panic("soon") }

// Plans are the plans that can be subscribed to.
func (in *Instance) Plans() []*Plan { panic("soon") }

// Subscription is the subscription of this id.
func (in *Instance) Subscription(id string) *Subscription { panic("soon") }

// SubscriptionOf is the newest subscription of a user or an organization.
func (in *Instance) SubscriptionOf(payerID string) *Subscription { panic("soon") }

// Subscriptions are all subscriptions, in order of creation.
func (in *Instance) Subscriptions() []*Subscription { panic("soon") }

// SubscriptionItem is the item of this id.
func (in *Instance) SubscriptionItem(id string) *SubscriptionItem { panic("soon") }

// SubscriptionItems are all items, in order of creation.
func (in *Instance) SubscriptionItems() []*SubscriptionItem { panic("soon") }

// PaymentAttempt is the attempt of this id.
func (in *Instance) PaymentAttempt(id string) *PaymentAttempt { panic("soon") }

// PaymentAttempts are all attempts, in order of creation.
func (in *Instance) PaymentAttempts() []*PaymentAttempt { panic("soon") }

// Deleted is when the resource of this id was deleted (Unix ms), of a table by its name ("users").
func (in *Instance) Deleted(table, id string) (at int64, ok bool) { panic("soon") }

// View is what renders a resource (a pointer of this package) in the Backend API's shape; see the package's comment.
func (in *Instance) View(resource any) any { panic("soon") }

// InvitationWithOrganization renders an organization's invitation with the organization, as lists over organizations do.
func (in *Instance) InvitationWithOrganization(inv *OrganizationInvitation) any { panic("soon") }

// OnEvent adds a function that gets every event from now on.
func (in *Instance) OnEvent(fn func(Event)) { panic("soon") }

// Seed fills the instance, without events.
func (in *Instance) Seed(o SeedOptions) { panic("soon") }

// SetSigningKeys replaces the keys that tokens are signed with.
func (in *Instance) SetSigningKeys(keys []SigningKey) { panic("soon") }

// SigningKeys are the keys that tokens are signed with.
func (in *Instance) SigningKeys() []SigningKey { panic("soon") }

// SetEndpoints replaces the webhook endpoints.
func (in *Instance) SetEndpoints(endpoints []Endpoint) { panic("soon") }

// Endpoints are the webhook endpoints.
func (in *Instance) Endpoints() []Endpoint { panic("soon") }

// Save writes the state.
func (s *State) Save(w io.Writer) error { panic("soon") }

// Load reads what Save wrote.
func Load(r io.Reader, o Options) (*State, error) { panic("soon") }
