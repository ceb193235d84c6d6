package traffic

import "github.com/rollcall-dev/rollcall/internal/emulator/state"

// organization is a change of any organization.
func (t *Traffic) organization(change func(state.Request, *state.Organization) error) error {
	o := t.in.PickOrganization(t.rng)
	if o == nil {
		return errNothing
	}
	return change(t.request(), o)
}

// membership is a change of any membership.
func (t *Traffic) membership(change func(state.Request, *state.OrganizationMembership) error) error {
	m := t.in.PickMembership(t.rng)
	if m == nil {
		return errNothing
	}
	return change(t.request(), m)
}

// role is the key of any role, mostly of one that may do little.
func (t *Traffic) role() string {
	if !t.one(5) && t.in.RoleByKey("org:member") != nil {
		return "org:member"
	}
	return oneOf(t, t.in.Roles()...).Key
}

func (t *Traffic) join() error {
	return t.organization(func(req state.Request, o *state.Organization) error {
		u := t.in.PickUser(t.rng)
		if u == nil {
			return errNothing
		}
		_, err := t.in.CreateMembership(req, state.MembershipParams{OrganizationID: o.ID, UserID: u.ID, Role: t.role()})
		return err
	})
}

func (t *Traffic) leave() error {
	return t.membership(func(req state.Request, m *state.OrganizationMembership) error {
		_, err := t.in.DeleteMembership(req, m.OrganizationID, m.UserID)
		if err == nil {
			t.left.add(t.rng, [2]string{m.OrganizationID, m.UserID})
		}
		return err
	})
}

// rejoin makes another membership of the same two: it has a new id.
func (t *Traffic) rejoin() error {
	who, ok := t.left.take(t.rng)
	if !ok {
		return errNothing
	}
	_, err := t.in.CreateMembership(t.request(), state.MembershipParams{OrganizationID: who[0], UserID: who[1], Role: t.role()})
	return err
}

func (t *Traffic) changeRole() error {
	return t.membership(func(req state.Request, m *state.OrganizationMembership) error {
		to := t.role()
		if to == m.Role {
			to = "org:admin"
		}
		if to == m.Role {
			return errNothing
		}
		_, err := t.in.UpdateMembershipRole(req, m.OrganizationID, m.UserID, to)
		return err
	})
}

func (t *Traffic) membershipMetadata() error {
	return t.membership(func(req state.Request, m *state.OrganizationMembership) error {
		p := state.MetadataPatch{Public: object(`{"desk":%d}`, t.rng.IntN(400))}
		_, err := t.in.MergeMembershipMetadata(req, m.OrganizationID, m.UserID, p)
		return err
	})
}

func (t *Traffic) createOrganization() error {
	return t.user(func(req state.Request, u *state.User) error {
		p := state.OrganizationParams{Name: t.fake.Company(), CreatedBy: u.ID, MaxAllowedMemberships: new(int64)}
		_, err := t.in.CreateOrganization(req, p)
		if err == nil {
			t.orgs++
		}
		return err
	})()
}

func (t *Traffic) renameOrganization() error {
	return t.organization(func(req state.Request, o *state.Organization) error {
		name := t.fake.Company()
		_, err := t.in.UpdateOrganization(req, o.ID, state.OrganizationUpdate{Name: &name})
		return err
	})
}

func (t *Traffic) organizationMetadata() error {
	return t.organization(func(req state.Request, o *state.Organization) error {
		p := state.MetadataPatch{Public: object(`{"industry":%q}`, t.fake.JobDescriptor()), Private: object(`{"account":"acc_%s"}`, t.suffix())}
		_, err := t.in.MergeOrganizationMetadata(req, o.ID, p)
		return err
	})
}

func (t *Traffic) deleteOrganization() error {
	if t.orgs <= fewest {
		return errNothing
	}
	return t.organization(func(req state.Request, o *state.Organization) error {
		_, err := t.in.DeleteOrganization(req, o.ID)
		if err == nil {
			t.orgs--
		}
		return err
	})
}

// domain adds one, or verifies or removes the one that there is.
func (t *Traffic) domain() error {
	return t.organization(func(req state.Request, o *state.Organization) (err error) {
		of := t.in.DomainsOfOrganization(o.ID)
		switch {
		case len(of) == 0:
			_, err = t.in.CreateDomain(req, state.DomainParams{OrganizationID: o.ID, Name: o.Slug + ".example"})
		case of[0].Verification == nil || of[0].Verification.Status != "verified":
			yes := true
			_, err = t.in.UpdateDomain(req, of[0].ID, state.DomainUpdate{Verified: &yes})
		default:
			_, err = t.in.DeleteDomain(req, of[0].ID)
		}
		return err
	})
}

func (t *Traffic) inviteMember() error {
	return t.organization(func(req state.Request, o *state.Organization) error {
		p := state.OrganizationInvitationParams{OrganizationID: o.ID, EmailAddress: t.address("guest", t.fake.LastName()), Role: t.role()}
		i, err := t.in.CreateOrganizationInvitation(req, p)
		if err == nil {
			t.joining.add(t.rng, i.ID)
		}
		return err
	})
}

func (t *Traffic) acceptMembership() error {
	id, ok := t.joining.take(t.rng)
	u := t.in.PickUser(t.rng)
	if !ok || u == nil {
		return errNothing
	}
	_, _, err := t.in.AcceptOrganizationInvitation(t.request(), id, u.ID)
	return err
}

func (t *Traffic) revokeMembership() error {
	id, ok := t.joining.take(t.rng)
	if !ok {
		return errNothing
	}
	_, err := t.in.RevokeOrganizationInvitation(t.request(), id)
	return err
}

func (t *Traffic) invite() error {
	i, err := t.in.CreateInvitation(t.request(), state.InvitationParams{EmailAddress: t.address("new", t.fake.LastName())})
	if err == nil {
		t.invited.add(t.rng, i.ID)
	}
	return err
}

func (t *Traffic) accept() error {
	id, ok := t.invited.take(t.rng)
	if !ok {
		return errNothing
	}
	_, _, err := t.in.AcceptInvitation(t.request(), id, state.UserParams{FirstName: t.fake.FirstName(), LastName: t.fake.LastName()})
	if err == nil {
		t.people++
	}
	return err
}

func (t *Traffic) revoke() error {
	id, ok := t.invited.take(t.rng)
	if !ok {
		return errNothing
	}
	_, err := t.in.RevokeInvitation(t.request(), id)
	return err
}

func (t *Traffic) joinWaitlist() error {
	_, err := t.in.JoinWaitlist(t.request(), t.address("waiting", t.fake.LastName()))
	return err
}

func (t *Traffic) inviteFromWaitlist() error {
	w := t.in.PickWaitlistEntry(t.rng)
	if w == nil || w.Status != state.StatusPending {
		return errNothing
	}
	_, err := t.in.InviteWaitlistEntry(t.request(), w.ID)
	return err
}

// rolePermissions lets members read invoices, or no longer.
func (t *Traffic) rolePermissions() error {
	role, permission := t.in.RoleByKey("org:member"), t.in.PermissionByKey("org:invoices:read")
	if role == nil || permission == nil {
		return errNothing
	}
	change := t.in.AddRolePermission
	if role.Has(permission.ID) {
		change = t.in.RemoveRolePermission
	}
	_, err := change(t.request(), role.ID, permission.ID)
	return err
}
