package state

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// defaultMaxMemberships is Clerk's limit of members of an organization.
const defaultMaxMemberships = 5

// CreateOrganization creates an organization; its creator becomes a member of
// the creator's role.
func (in *Instance) CreateOrganization(req Request, p OrganizationParams) (*Organization, error) {
	c := in.begin(req)
	defer c.end()
	o := &Organization{
		Name: p.Name, Slug: p.Slug, CreatedBy: p.CreatedBy, MaxAllowedMemberships: defaultMaxMemberships, AdminDeleteEnabled: true,
	}
	set(&o.MaxAllowedMemberships, p.MaxAllowedMemberships)
	if err := c.checkOrganization(&Organization{}, o); err != nil {
		return nil, err
	}
	var err error
	if o.PublicMetadata, err = metadata("public_metadata", "", p.PublicMetadata); err != nil {
		return nil, err
	}
	if o.PrivateMetadata, err = metadata("private_metadata", "", p.PrivateMetadata); err != nil {
		return nil, err
	}
	if err := c.checkCreator(p.CreatedBy); err != nil {
		return nil, err
	}
	o.UpdatedAt = c.tick()
	o.ID, o.CreatedAt = c.newID("org_"), cmp.Or(p.CreatedAt, o.UpdatedAt)
	if o.Slug == "" {
		o.Slug = c.newSlug(o.Name)
	}
	if p.CreatedBy != "" {
		o.MembersCount = 1
	}
	c.storeOrganization(nil, o)
	c.emit("organization.created", o.ID, o)
	if p.CreatedBy != "" {
		m := &OrganizationMembership{OrganizationID: o.ID, UserID: p.CreatedBy, Role: c.creatorRole()}
		c.storeNewMembership(m)
	}
	return o, nil
}

func (c *change) checkCreator(userID string) error {
	if userID == "" {
		return nil
	}
	u := c.users.get(userID)
	if u == nil {
		return &Error{
			Status: http.StatusNotFound, Code: "organization_creator_not_found", Message: "Organization creator not found",
			LongMessage: fmt.Sprintf("The user with id %s who creates the organization was not found.", userID),
		}
	}
	if !u.CreateOrganizationEnabled {
		return forbidden("not_allowed_to_create_organization", "The user is not allowed to create organizations.")
	}
	return nil
}

// creatorRole is the key of the first role that creators may have.
func (c *change) creatorRole() string {
	for _, r := range c.roles.rows {
		if r != nil && r.IsCreatorEligible {
			return r.Key
		}
	}
	return "org:admin"
}

func (c *change) checkOrganization(old, o *Organization) error {
	if o.Name == "" {
		return Missing("name")
	}
	if len([]rune(o.Name)) > maxName {
		return tooLong("name")
	}
	if o.MaxAllowedMemberships < 0 {
		return Invalid("max_allowed_memberships", "0 or more")
	}
	if o.Slug == old.Slug {
		return nil
	}
	if strings.Trim(o.Slug, "abcdefghijklmnopqrstuvwxyz0123456789_-") != "" || o.Slug == "" {
		return Invalid("slug", "of lower-case letters, numbers, dashes and underscores only")
	}
	if c.slugs[o.Slug] != "" {
		return taken("slug", "slug")
	}
	return nil
}

// newSlug makes a free slug of a name, as Clerk does with a number at its end.
func (in *Instance) newSlug(name string) string {
	base := strings.Trim(strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
			return r
		case r == ' ' || r == '-' || r == '_':
			return '-'
		}
		return -1
	}, strings.ToLower(name)), "-")
	if base == "" {
		base = "org"
	}
	for {
		slug := base + "-" + digits(in.rng.Uint64(), 10)
		if in.slugs[slug] == "" {
			return slug
		}
	}
}

// editOrganization stores a changed copy of an organization and emits it.
func (in *Instance) editOrganization(req Request, id string, edit func(*change, *Organization) error) (*Organization, error) {
	c := in.begin(req)
	defer c.end()
	old := c.organizations.get(id)
	if old == nil {
		return nil, NotFound("organization", id)
	}
	o := *old
	if err := edit(c, &o); err != nil {
		return nil, err
	}
	o.UpdatedAt = c.advance(o.UpdatedAt)
	c.storeOrganization(old, &o)
	c.emit("organization.updated", id, &o)
	return &o, nil
}

// UpdateOrganization changes what the update names.
func (in *Instance) UpdateOrganization(req Request, id string, p OrganizationUpdate) (*Organization, error) {
	return in.editOrganization(req, id, func(c *change, o *Organization) (err error) {
		old := *o
		set(&o.Name, p.Name)
		set(&o.Slug, p.Slug)
		set(&o.ImageID, p.ImageID)
		set(&o.MaxAllowedMemberships, p.MaxAllowedMemberships)
		set(&o.AdminDeleteEnabled, p.AdminDeleteEnabled)
		set(&o.CreatedAt, p.CreatedAt)
		if err := c.checkOrganization(&old, o); err != nil {
			return err
		}
		if o.PublicMetadata, err = metadata("public_metadata", o.PublicMetadata, p.PublicMetadata); err != nil {
			return err
		}
		o.PrivateMetadata, err = metadata("private_metadata", o.PrivateMetadata, p.PrivateMetadata)
		return err
	})
}

// MergeOrganizationMetadata merges into the organization's metadata.
func (in *Instance) MergeOrganizationMetadata(req Request, id string, p MetadataPatch) (*Organization, error) {
	return in.editOrganization(req, id, func(_ *change, o *Organization) (err error) {
		if o.PublicMetadata, err = merge("public_metadata", o.PublicMetadata, p.Public); err != nil {
			return err
		}
		o.PrivateMetadata, err = merge("private_metadata", o.PrivateMetadata, p.Private)
		return err
	})
}

// DeleteOrganization deletes the organization and all that is its, and returns
// it as it was.
func (in *Instance) DeleteOrganization(req Request, id string) (*Organization, error) {
	c := in.begin(req)
	defer c.end()
	o := c.organizations.get(id)
	if o == nil {
		return nil, NotFound("organization", id)
	}
	for _, m := range c.memberships.in(c.orgMemberships[id]) {
		c.dropMembership(m, c.EmitCascade)
	}
	for _, inviteID := range c.orgInviteIDs[id] {
		c.orgInvites.remove(inviteID, c.tick())
	}
	for _, d := range c.domains.in(c.orgDomains[id]) {
		c.domains.remove(d.ID, c.tick())
		if c.EmitCascade {
			c.emit("organizationDomain.deleted", d.ID, stub{Object: "organization_domain", ID: d.ID, Deleted: true})
		}
	}
	delete(c.orgInviteIDs, id)
	delete(c.orgDomains, id)
	c.storeOrganization(c.organizations.get(id), nil)
	c.organizations.remove(id, c.tick())
	c.emit("organization.deleted", id, stub{Object: "organization", ID: id, Slug: o.Slug, Deleted: true})
	return o, nil
}

// recount changes an organization's counts; its updated_at stays.
func (c *change) recount(orgID string, members, pending int64) {
	if old := c.organizations.get(orgID); old != nil {
		o := *old
		o.MembersCount += members
		o.PendingInvitationsCount += pending
		c.organizations.put(&o)
	}
}

// CreateMembership makes a user a member of an organization; who rejoins gets a
// new id.
func (in *Instance) CreateMembership(req Request, p MembershipParams) (*OrganizationMembership, error) {
	c := in.begin(req)
	defer c.end()
	m := &OrganizationMembership{OrganizationID: p.OrganizationID, UserID: p.UserID, Role: p.Role}
	var err error
	if m.PublicMetadata, err = metadata("public_metadata", "", p.PublicMetadata); err != nil {
		return nil, err
	}
	if m.PrivateMetadata, err = metadata("private_metadata", "", p.PrivateMetadata); err != nil {
		return nil, err
	}
	if err := c.checkNewMembership(m); err != nil {
		return nil, err
	}
	c.recount(m.OrganizationID, 1, 0)
	c.storeNewMembership(m)
	return m, nil
}

func (c *change) checkNewMembership(m *OrganizationMembership) error {
	o := c.organizations.get(m.OrganizationID)
	switch {
	case o == nil:
		return NotFound("organization", m.OrganizationID)
	case m.UserID == "":
		return Missing("user_id")
	case c.users.get(m.UserID) == nil:
		return NotFound("user", m.UserID)
	}
	if err := c.checkRole(m.Role); err != nil {
		return err
	}
	if c.membership(m.OrganizationID, m.UserID) != nil {
		return refused(http.StatusBadRequest, "already_a_member_in_organization", "The user is already a member of the organization.")
	}
	if o.MaxAllowedMemberships > 0 && o.MembersCount >= o.MaxAllowedMemberships {
		return forbidden("organization_membership_quota_exceeded",
			fmt.Sprintf("You have reached your limit of %d organization memberships, including outstanding invitations.", o.MaxAllowedMemberships))
	}
	return nil
}

func (c *change) checkRole(key string) error {
	if key == "" {
		return Missing("role")
	}
	if c.roleByKey(key) == nil {
		return &Error{
			Status: http.StatusNotFound, Code: "resource_not_found", Message: "Resource not found",
			LongMessage: fmt.Sprintf("Organization role %s was not found.", key), Meta: map[string]any{"param_name": "role"},
		}
	}
	return nil
}

// storeNewMembership stores and emits; the organization's count is its caller's.
func (c *change) storeNewMembership(m *OrganizationMembership) {
	m.ID, m.UpdatedAt = c.newID("orgmem_"), c.tick()
	m.CreatedAt = m.UpdatedAt
	if o, u := c.organizations.get(m.OrganizationID), c.users.get(m.UserID); o != nil && u != nil {
		m.OrganizationID, m.UserID = o.ID, u.ID // one copy of the text
	}
	if r := c.roleByKey(m.Role); r != nil {
		m.Role = r.Key
	}
	c.addMembership(m)
	c.emit("organizationMembership.created", m.ID, c.membershipView(m))
}

// editMembership stores a changed copy of a membership and emits it.
func (in *Instance) editMembership(req Request, orgID, userID string, edit func(*change, *OrganizationMembership) error) (*OrganizationMembership, error) {
	c := in.begin(req)
	defer c.end()
	if c.organizations.get(orgID) == nil {
		return nil, NotFound("organization", orgID)
	}
	old := c.membership(orgID, userID)
	if old == nil {
		return nil, NotFound("organization membership of user", userID)
	}
	m := *old
	if err := edit(c, &m); err != nil {
		return nil, err
	}
	m.UpdatedAt = c.advance(m.UpdatedAt)
	c.memberships.put(&m)
	c.emit("organizationMembership.updated", m.ID, c.membershipView(&m))
	return &m, nil
}

// UpdateMembershipRole gives a member another role.
func (in *Instance) UpdateMembershipRole(req Request, orgID, userID, role string) (*OrganizationMembership, error) {
	return in.editMembership(req, orgID, userID, func(c *change, m *OrganizationMembership) error {
		if err := c.checkRole(role); err != nil {
			return err
		}
		if err := c.checkLeaves(m, role); err != nil {
			return err
		}
		m.Role = c.roleByKey(role).Key
		return nil
	})
}

// minimumPermission is what at least one member has to keep.
const minimumPermission = "org:sys_memberships:manage"

// checkLeaves refuses to take the last member who can manage memberships away;
// role is the member's next one, "" for none.
func (c *change) checkLeaves(m *OrganizationMembership, role string) error {
	manages := func(key string) bool {
		_, permissions := c.resolveRole(key)
		return slices.Contains(permissions, minimumPermission)
	}
	if !manages(m.Role) || manages(role) || len(c.orgMemberships[m.OrganizationID]) == 1 && role == "" {
		return nil
	}
	for _, other := range c.orgMemberships[m.OrganizationID] {
		if other != m.ID && manages(c.memberships.get(other).Role) {
			return nil
		}
	}
	return refused(http.StatusBadRequest, "organization_minimum_permissions_needed",
		"There has to be at least one organization member with the minimum required permissions.")
}

// MergeMembershipMetadata merges into the membership's metadata.
func (in *Instance) MergeMembershipMetadata(req Request, orgID, userID string, p MetadataPatch) (*OrganizationMembership, error) {
	return in.editMembership(req, orgID, userID, func(_ *change, m *OrganizationMembership) (err error) {
		if m.PublicMetadata, err = merge("public_metadata", m.PublicMetadata, p.Public); err != nil {
			return err
		}
		m.PrivateMetadata, err = merge("private_metadata", m.PrivateMetadata, p.Private)
		return err
	})
}

// DeleteMembership ends a membership and returns it; View still renders it.
func (in *Instance) DeleteMembership(req Request, orgID, userID string) (*OrganizationMembership, error) {
	c := in.begin(req)
	defer c.end()
	if c.organizations.get(orgID) == nil {
		return nil, NotFound("organization", orgID)
	}
	m := c.membership(orgID, userID)
	if m == nil {
		return nil, NotFound("organization membership of user", userID)
	}
	if err := c.checkLeaves(m, ""); err != nil {
		return nil, err
	}
	c.dropMembership(m, true)
	return m, nil
}

// dropMembership deletes a membership. Its event is the whole object, whose
// updated_at is not advanced: so Clerk does.
func (c *change) dropMembership(m *OrganizationMembership, emit bool) {
	c.userMemberships.remove(m.UserID, m.ID)
	c.orgMemberships.remove(m.OrganizationID, m.ID)
	c.memberships.remove(m.ID, c.tick())
	c.recount(m.OrganizationID, -1, 0)
	if emit {
		c.emit("organizationMembership.deleted", m.ID, c.membershipView(m))
	}
}
