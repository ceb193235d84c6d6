package state

// View is what renders a resource (a pointer of this package) in the Backend
// API's shape: give it to encoding/json. What the resource embeds is looked up
// now; do not call it from an OnEvent function.
func (in *Instance) View(resource any) any {
	in.mu.RLock()
	defer in.mu.RUnlock()
	return in.view(resource)
}

func (in *Instance) view(resource any) any {
	switch r := resource.(type) {
	case *User:
		return r.rendered()
	case *OrganizationMembership:
		return in.membershipView(r)
	case *OrganizationInvitation:
		return in.invitationView(r)
	case *OrganizationDomain:
		return in.domainView(r)
	case *Role:
		return in.roleView(r)
	case *WaitlistEntry:
		return in.waitlistView(r, "waitlist_entry")
	case *Subscription:
		return in.subscriptionView(r)
	case *SubscriptionItem:
		return in.itemView(r)
	case *PaymentAttempt:
		return in.paymentView(r)
	}
	return resource
}

type membershipView struct {
	Object          string          `json:"object"`
	ID              string          `json:"id"`
	Role            string          `json:"role"`
	RoleName        string          `json:"role_name"`
	Permissions     List[string]    `json:"permissions"`
	PublicMetadata  Metadata        `json:"public_metadata"`
	PrivateMetadata Metadata        `json:"private_metadata"`
	Organization    *Organization   `json:"organization"`
	PublicUserData  *publicUserData `json:"public_user_data,omitempty"`
	CreatedAt       int64           `json:"created_at"`
	UpdatedAt       int64           `json:"updated_at"`
}

type publicUserData struct {
	UserID          string    `json:"user_id"`
	FirstName       OptString `json:"first_name"`
	LastName        OptString `json:"last_name"`
	ProfileImageURL string    `json:"profile_image_url"`
	ImageURL        string    `json:"image_url"`
	HasImage        bool      `json:"has_image"`
	Identifier      OptString `json:"identifier"`
	Username        OptString `json:"username"`
	Banned          bool      `json:"banned"`
	Deprovisioned   bool      `json:"deprovisioned"`
}

// membershipView has the role's name and permissions as they are now: Clerk
// keeps no copy with the membership.
func (in *Instance) membershipView(m *OrganizationMembership) *membershipView {
	v := &membershipView{
		Object: "organization_membership", ID: m.ID, Role: m.Role,
		PublicMetadata: m.PublicMetadata, PrivateMetadata: m.PrivateMetadata,
		Organization: in.organizations.get(m.OrganizationID), CreatedAt: m.CreatedAt, UpdatedAt: m.UpdatedAt,
	}
	v.RoleName, v.Permissions = in.resolveRole(m.Role)
	if v.Organization == nil { // deleted since the membership was read
		v.Organization = &Organization{ID: m.OrganizationID}
	}
	if u := in.users.get(m.UserID); u != nil {
		image := imageURL(u.ImageID, u.ID)
		v.PublicUserData = &publicUserData{
			u.ID, u.FirstName, u.LastName, image, image, u.ImageID != "",
			OptString(u.Identifier()), u.Username, u.Banned, u.Deprovisioned,
		}
	}
	return v
}

// resolveRole is the name of the role of this key, and the keys of its
// permissions.
func (in *Instance) resolveRole(key string) (name string, permissions []string) {
	r := in.roleByKey(key)
	if r == nil {
		return "", nil
	}
	for _, id := range r.Permissions {
		if p := in.permissions.get(id); p != nil {
			permissions = append(permissions, p.Key)
		}
	}
	return r.Name, permissions
}

type invitationView struct {
	Object            string             `json:"object"`
	ID                string             `json:"id"`
	EmailAddress      string             `json:"email_address"`
	Role              string             `json:"role"`
	RoleName          string             `json:"role_name"`
	OrganizationID    string             `json:"organization_id"`
	InviterID         OptString          `json:"inviter_id"`
	PublicInviterData *publicInviterData `json:"public_inviter_data"`
	Status            string             `json:"status"`
	PublicMetadata    Metadata           `json:"public_metadata"`
	PrivateMetadata   Metadata           `json:"private_metadata"`
	URL               OptString          `json:"url"`
	ExpiresAt         OptInt             `json:"expires_at"`
	CreatedAt         int64              `json:"created_at"`
	UpdatedAt         int64              `json:"updated_at"`
}

type publicInviterData struct {
	UserID     string    `json:"user_id"`
	FirstName  OptString `json:"first_name"`
	LastName   OptString `json:"last_name"`
	ImageURL   string    `json:"image_url"`
	HasImage   bool      `json:"has_image"`
	Identifier string    `json:"identifier"`
}

func (in *Instance) invitationView(i *OrganizationInvitation) *invitationView {
	v := &invitationView{
		Object: "organization_invitation", ID: i.ID, EmailAddress: i.EmailAddress, Role: i.Role,
		OrganizationID: i.OrganizationID, InviterID: i.InviterID, Status: i.Status,
		PublicMetadata: i.PublicMetadata, PrivateMetadata: i.PrivateMetadata,
		URL: i.URL, ExpiresAt: i.ExpiresAt, CreatedAt: i.CreatedAt, UpdatedAt: i.UpdatedAt,
	}
	v.RoleName, _ = in.resolveRole(i.Role)
	if u := in.users.get(string(i.InviterID)); u != nil {
		v.PublicInviterData = &publicInviterData{
			u.ID, u.FirstName, u.LastName, imageURL(u.ImageID, u.ID), u.ImageID != "", u.Identifier(),
		}
	}
	return v
}

type publicOrganizationData struct {
	ID       string `json:"id"`
	Name     string `json:"name"`
	Slug     string `json:"slug"`
	ImageURL string `json:"image_url"`
	HasImage bool   `json:"has_image"`
}

func (in *Instance) publicOrganization(id string) *publicOrganizationData {
	o := in.organizations.get(id)
	if o == nil {
		return nil
	}
	return &publicOrganizationData{o.ID, o.Name, o.Slug, imageURL(o.ImageID, o.ID), o.ImageID != ""}
}

type invitationWithOrganization struct {
	*invitationView
	PublicOrganizationData *publicOrganizationData `json:"public_organization_data,omitempty"`
}

// InvitationWithOrganization renders an invitation with its organization, as
// the lists over several organizations do.
func (in *Instance) InvitationWithOrganization(i *OrganizationInvitation) any {
	in.mu.RLock()
	defer in.mu.RUnlock()
	return invitationWithOrganization{in.invitationView(i), in.publicOrganization(i.OrganizationID)}
}

type acceptedData struct {
	PublicOrganizationData *publicOrganizationData `json:"public_organization_data,omitempty"`
}

// acceptedInvitation is the event's form: it also says who accepted.
type acceptedInvitation struct {
	*invitationView
	UserID string       `json:"user_id"`
	Data   acceptedData `json:"data"`
}

type domainView struct {
	Object                  string                  `json:"object"`
	AffiliationVerification *DomainVerification     `json:"affiliation_verification"`
	OwnershipVerification   *DomainVerification     `json:"ownership_verification"`
	PublicOrganizationData  *publicOrganizationData `json:"public_organization_data"`
	*OrganizationDomain
}

// domainView renders the one proof that is kept under its old and its new name.
func (in *Instance) domainView(d *OrganizationDomain) *domainView {
	return &domainView{
		Object: "organization_domain", AffiliationVerification: d.Verification, OrganizationDomain: d,
		PublicOrganizationData: in.publicOrganization(d.OrganizationID),
	}
}

type roleView struct {
	Object            string            `json:"object"`
	ID                string            `json:"id"`
	Name              string            `json:"name"`
	Key               string            `json:"key"`
	Description       OptString         `json:"description"`
	IsCreatorEligible bool              `json:"is_creator_eligible"`
	Permissions       List[*Permission] `json:"permissions"`
	CreatedAt         int64             `json:"created_at"`
	UpdatedAt         int64             `json:"updated_at"`
}

func (in *Instance) roleView(r *Role) *roleView {
	v := &roleView{
		Object: "role", ID: r.ID, Name: r.Name, Key: r.Key, Description: r.Description,
		IsCreatorEligible: r.IsCreatorEligible, CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt,
	}
	for _, id := range r.Permissions {
		if p := in.permissions.get(id); p != nil {
			v.Permissions = append(v.Permissions, p)
		}
	}
	return v
}

type waitlistView struct {
	Object       string      `json:"object"`
	ID           string      `json:"id"`
	EmailAddress string      `json:"email_address"`
	Status       string      `json:"status"`
	IsLocked     bool        `json:"is_locked"`
	CreatedAt    int64       `json:"created_at"`
	UpdatedAt    int64       `json:"updated_at"`
	Invitation   *Invitation `json:"invitation"`
}

// waitlistView takes the object's name: the specification says waitlist_entry,
// the official events waitlistEntry.
func (in *Instance) waitlistView(w *WaitlistEntry, object string) *waitlistView {
	return &waitlistView{
		object, w.ID, w.EmailAddress, w.Status, w.IsLocked, w.CreatedAt, w.UpdatedAt, in.invitations.get(w.InvitationID),
	}
}

// sessionEvent is the event's form of a session: with the whole user.
type sessionEvent struct {
	Object string    `json:"object"`
	User   *userView `json:"user"`
	*sessionFields
}

type sessionFields Session
