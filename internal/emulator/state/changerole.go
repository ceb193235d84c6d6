package state

import (
	"net/http"
	"slices"
	"strings"
)

// CreateDomain gives an organization a domain.
func (in *Instance) CreateDomain(req Request, p DomainParams) (*OrganizationDomain, error) {
	c := in.begin(req)
	defer c.end()
	d := &OrganizationDomain{
		OrganizationID: p.OrganizationID, Name: strings.ToLower(p.Name), EnrollmentMode: p.EnrollmentMode,
		AffiliationEmailAddress: OptString(p.AffiliationEmailAddress),
	}
	if d.EnrollmentMode == "" {
		d.EnrollmentMode = "manual_invitation"
	}
	switch {
	case c.organizations.get(d.OrganizationID) == nil:
		return nil, NotFound("organization", d.OrganizationID)
	case d.Name == "":
		return nil, Missing("name")
	case validEmail("a@"+d.Name) != nil:
		return nil, Invalid("name", "a valid domain name")
	case !validEnrollment(d.EnrollmentMode):
		return nil, InvalidValue("enrollment_mode", d.EnrollmentMode)
	}
	if slices.ContainsFunc(c.domains.in(c.orgDomains[d.OrganizationID]), func(o *OrganizationDomain) bool { return o.Name == d.Name }) {
		return nil, taken("name", "domain name")
	}
	d.ID, d.UpdatedAt = c.newID("orgdmn_"), c.tick()
	d.CreatedAt = d.UpdatedAt
	if p.Verified {
		d.Verification = verifiedDomain(d.UpdatedAt)
	}
	c.addDomain(d)
	c.emit("organizationDomain.created", d.ID, c.domainView(d))
	return d, nil
}

func verifiedDomain(at int64) *DomainVerification {
	return &DomainVerification{Status: "verified", Strategy: "email_code", Attempts: 1, VerifiedAt: OptInt(at)}
}

func validEnrollment(mode string) bool {
	switch mode {
	case "manual_invitation", "automatic_invitation", "automatic_suggestion", "enterprise_sso":
		return true
	}
	return false
}

// UpdateDomain changes what the update names.
func (in *Instance) UpdateDomain(req Request, id string, p DomainUpdate) (*OrganizationDomain, error) {
	c := in.begin(req)
	defer c.end()
	old := c.domains.get(id)
	if old == nil {
		return nil, NotFound("organization domain", id)
	}
	if p.EnrollmentMode != nil && !validEnrollment(*p.EnrollmentMode) {
		return nil, InvalidValue("enrollment_mode", *p.EnrollmentMode)
	}
	d := *old
	set(&d.EnrollmentMode, p.EnrollmentMode)
	d.UpdatedAt = c.advance(d.UpdatedAt)
	if p.Verified != nil {
		d.Verification = nil
		if *p.Verified {
			d.Verification = verifiedDomain(c.lastTick)
		}
	}
	c.domains.put(&d)
	c.emit("organizationDomain.updated", id, c.domainView(&d))
	return &d, nil
}

// DeleteDomain takes a domain from its organization.
func (in *Instance) DeleteDomain(req Request, id string) (*OrganizationDomain, error) {
	c := in.begin(req)
	defer c.end()
	d := c.domains.get(id)
	if d == nil {
		return nil, NotFound("organization domain", id)
	}
	c.orgDomains.remove(d.OrganizationID, id)
	c.domains.remove(id, c.tick())
	c.emit("organizationDomain.deleted", id, stub{Object: "organization_domain", ID: id, Deleted: true})
	return d, nil
}

// CreateRole creates a role.
func (in *Instance) CreateRole(req Request, p RoleParams) (*Role, error) {
	c := in.begin(req)
	defer c.end()
	r := &Role{Name: p.Name, Key: p.Key, Description: OptString(p.Description)}
	var err error
	if r.Permissions, err = c.permissionIDs(p.Permissions); err != nil {
		return nil, err
	}
	if err := c.checkRoleFields(&Role{}, r); err != nil {
		return nil, err
	}
	r.ID, r.UpdatedAt = c.newID("role_"), c.tick()
	r.CreatedAt = r.UpdatedAt
	c.roles.put(r)
	c.emit("role.created", r.ID, c.roleView(r))
	return r, nil
}

func (c *change) checkRoleFields(old, r *Role) error {
	switch {
	case r.Name == "":
		return Missing("name")
	case r.Key == "":
		return Missing("key")
	case !strings.HasPrefix(r.Key, "org:") || len(r.Key) == len("org:"):
		return Invalid("key", "org:<role>")
	case r.Key != old.Key && c.roleByKey(r.Key) != nil:
		return taken("key", "role key")
	}
	return nil
}

// permissionIDs resolves ids and keys.
func (c *change) permissionIDs(names []string) (ids []string, err error) {
	for _, name := range names {
		p := c.permissions.get(name)
		if p == nil {
			p = c.permissionByKey(name)
		}
		if p == nil {
			return nil, NotFound("permission", name)
		}
		if !slices.Contains(ids, p.ID) {
			ids = append(ids, p.ID)
		}
	}
	return ids, nil
}

// changeRole stores a changed copy of a role and emits it.
func (c *change) changeRole(id string, edit func(*Role) error) (*Role, error) {
	old := c.roles.get(id)
	if old == nil {
		return nil, NotFound("organization role", id)
	}
	r := *old
	if err := edit(&r); err != nil {
		return nil, err
	}
	r.UpdatedAt = c.tick() // always: it tells which memberships show an older role
	c.roles.put(&r)
	c.emit("role.updated", id, c.roleView(&r))
	return &r, nil
}

// UpdateRole changes what the update names. Members keep the role under a new
// key, which no event says.
func (in *Instance) UpdateRole(req Request, id string, p RoleUpdate) (*Role, error) {
	c := in.begin(req)
	defer c.end()
	var before string
	r, err := c.changeRole(id, func(r *Role) (err error) {
		old := *r
		before = r.Key
		set(&r.Name, p.Name)
		set(&r.Key, p.Key)
		setText(&r.Description, p.Description)
		if p.Permissions != nil {
			if r.Permissions, err = c.permissionIDs(*p.Permissions); err != nil {
				return err
			}
		}
		return c.checkRoleFields(&old, r)
	})
	if err == nil && r.Key != before {
		c.rekey(before, r.Key)
	}
	return r, err
}

// rekey gives what names a role its new key.
func (c *change) rekey(before, after string) {
	for _, m := range c.memberships.all() {
		if m.Role == before {
			moved := *m
			moved.Role = after
			c.memberships.put(&moved)
		}
	}
	for _, i := range c.orgInvites.all() {
		if i.Role == before {
			moved := *i
			moved.Role = after
			c.orgInvites.put(&moved)
		}
	}
}

// DeleteRole deletes a role that no member has and no pending invitation gives.
func (in *Instance) DeleteRole(req Request, id string) (*Role, error) {
	c := in.begin(req)
	defer c.end()
	r := c.roles.get(id)
	if r == nil {
		return nil, NotFound("organization role", id)
	}
	if r.IsCreatorEligible && c.creatorRole() == r.Key {
		return nil, refused(http.StatusBadRequest, "organization_role_used_as_creator_role",
			"The role can't be deleted: it is the role of an organization's creator.")
	}
	used := slices.ContainsFunc(c.memberships.all(), func(m *OrganizationMembership) bool { return m.Role == r.Key }) ||
		slices.ContainsFunc(c.orgInvites.all(), func(i *OrganizationInvitation) bool { return i.Role == r.Key && i.Status == StatusPending })
	if used {
		return nil, refused(http.StatusBadRequest, "organization_role_assigned_to_members",
			"The role can't be deleted: members or invitations have it.")
	}
	c.roles.remove(id, c.tick())
	c.emit("role.deleted", id, roleStub{"role", id, nil, true})
	return r, nil
}

// roleStub has a slug of null, as the official example.
type roleStub struct {
	Object  string `json:"object"`
	ID      string `json:"id"`
	Slug    any    `json:"slug"`
	Deleted bool   `json:"deleted"`
}

// AddRolePermission lets a role do more. Its memberships are not updated.
func (in *Instance) AddRolePermission(req Request, roleID, permissionID string) (*Role, error) {
	c := in.begin(req)
	defer c.end()
	return c.changeRole(roleID, func(r *Role) error {
		ids, err := c.permissionIDs([]string{permissionID})
		if err != nil {
			return err
		}
		if r.Has(ids[0]) {
			return refused(http.StatusBadRequest, "organization_role_permission_exists", "The role has the permission already.")
		}
		r.Permissions = append(slices.Clone(r.Permissions), ids[0])
		return nil
	})
}

// RemoveRolePermission lets a role do less. Its memberships are not updated.
func (in *Instance) RemoveRolePermission(req Request, roleID, permissionID string) (*Role, error) {
	c := in.begin(req)
	defer c.end()
	return c.changeRole(roleID, func(r *Role) error {
		ids, err := c.permissionIDs([]string{permissionID})
		if err != nil {
			return err
		}
		if !r.Has(ids[0]) {
			return NotFound("permission of the role", permissionID)
		}
		r.Permissions = slices.DeleteFunc(slices.Clone(r.Permissions), func(id string) bool { return id == ids[0] })
		return nil
	})
}

// CreatePermission creates a permission of the application's own.
func (in *Instance) CreatePermission(req Request, p PermissionParams) (*Permission, error) {
	c := in.begin(req)
	defer c.end()
	perm := &Permission{Name: p.Name, Key: p.Key, Description: p.Description, Type: "custom"}
	if err := c.checkPermission(&Permission{}, perm); err != nil {
		return nil, err
	}
	perm.ID, perm.UpdatedAt = c.newID("perm_"), c.tick()
	perm.CreatedAt = perm.UpdatedAt
	c.permissions.put(perm)
	c.emit("permission.created", perm.ID, perm)
	return perm, nil
}

func (c *change) checkPermission(old, p *Permission) error {
	switch {
	case p.Name == "":
		return Missing("name")
	case p.Key == "":
		return Missing("key")
	case old.Type == "system":
		return forbidden("organization_system_permission_not_modifiable", "System permissions can't be changed.")
	case p.Key == old.Key:
		return nil
	case strings.Count(p.Key, ":") != 2 || !strings.HasPrefix(p.Key, "org:") || strings.HasPrefix(p.Key, "org:sys_"):
		return Invalid("key", "org:<feature>:<permission>, and not a system one")
	case c.permissionByKey(p.Key) != nil:
		return taken("key", "permission key")
	}
	return nil
}

// UpdatePermission changes what the update names.
func (in *Instance) UpdatePermission(req Request, id string, p PermissionUpdate) (*Permission, error) {
	c := in.begin(req)
	defer c.end()
	old := c.permissions.get(id)
	if old == nil {
		return nil, NotFound("permission", id)
	}
	perm := *old
	set(&perm.Name, p.Name)
	set(&perm.Key, p.Key)
	set(&perm.Description, p.Description)
	if err := c.checkPermission(old, &perm); err != nil {
		return nil, err
	}
	perm.UpdatedAt = c.advance(perm.UpdatedAt)
	c.permissions.put(&perm)
	c.emit("permission.updated", id, &perm)
	return &perm, nil
}

// DeletePermission deletes a permission and takes it from all roles, each of
// which changes by that.
func (in *Instance) DeletePermission(req Request, id string) (*Permission, error) {
	c := in.begin(req)
	defer c.end()
	p := c.permissions.get(id)
	if p == nil {
		return nil, NotFound("permission", id)
	}
	if p.Type == "system" {
		return nil, forbidden("organization_system_permission_not_modifiable", "System permissions can't be deleted.")
	}
	for _, r := range c.roles.all() {
		if r.Has(id) {
			drop := func(r *Role) error {
				r.Permissions = slices.DeleteFunc(slices.Clone(r.Permissions), func(other string) bool { return other == id })
				return nil
			}
			if _, err := c.changeRole(r.ID, drop); err != nil {
				return nil, err
			}
		}
	}
	c.permissions.remove(id, c.tick())
	c.emit("permission.deleted", id, stub{Object: "permission", ID: id, Deleted: true})
	return p, nil
}
