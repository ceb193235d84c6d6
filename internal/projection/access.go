package projection

// access are roles and their permissions, sessions and the waitlist.
var access = []*Resource{
	{
		Table: "roles", Object: "role", Doc: "roles that members of organizations have",
		Columns: []Column{
			{Name: "id", Type: Text, Path: "id", Doc: "Clerk's id, role_…"},
			{Name: "key", Type: Text, Path: "key", Index: true, Needed: permissionViews, Doc: "org:admin; it can change"},
			{Name: "name", Type: Text, Path: "name"},
			{Name: "description", Type: Text, Path: "description"},
			{Name: "is_creator_eligible", Type: Bool, Path: "is_creator_eligible"},
			{Name: "permissions", Type: JSON, Path: "permissions", Needed: permissionViews, Doc: "all of the role's; one a row: role_permissions"},
			{Name: "created_at", Type: Timestamp, Path: "created_at"},
			{Name: "updated_at", Type: Timestamp, Path: "updated_at"},
		},
		Omits: map[string]string{"object": kindOf},
	},
	{
		Table: "permissions", Object: "permission", Doc: "permissions that roles can have",
		Columns: []Column{
			{Name: "id", Type: Text, Path: "id", Doc: "Clerk's id, perm_…"},
			{Name: "key", Type: Text, Path: "key", Index: true, Needed: permissionViews, Doc: "org:invoices:read; org:sys_… are Clerk's own"},
			{Name: "name", Type: Text, Path: "name", Needed: permissionViews},
			{Name: "description", Type: Text, Path: "description"},
			{Name: "type", Type: Text, Path: "type", Needed: permissionViews, Doc: "system or custom"},
			{Name: "created_at", Type: Timestamp, Path: "created_at"},
			{Name: "updated_at", Type: Timestamp, Path: "updated_at"},
		},
		Omits: map[string]string{"object": kindOf},
	},
	{
		Table: "sessions", Object: "session", Doc: "sign-ins",
		Columns: []Column{
			{Name: "id", Type: Text, Path: "id", Doc: "Clerk's id, sess_…"},
			{Name: "user_id", Type: ID, Path: "user_id", Index: true},
			{Name: "client_id", Type: ID, Path: "client_id", Doc: "the browser or device"},
			{Name: "actor", Type: JSON, Path: "actor", Personal: true, Doc: "who impersonates the user"},
			{Name: "status", Type: Text, Path: "status", Doc: "active, pending, ended, removed, revoked, expired, abandoned, replaced; Clerk sends no event when expire_at passes"},
			{Name: "last_active_organization_id", Type: ID, Path: "last_active_organization_id"},
			{Name: "last_active_at", Type: Timestamp, Path: "last_active_at", Personal: true, Volatile: true},
			{Name: "latest_activity", Type: JSON, Path: "latest_activity", Personal: true, Doc: "device, address, place"},
			{Name: "expire_at", Type: Timestamp, Path: "expire_at"},
			{Name: "abandon_at", Type: Timestamp, Path: "abandon_at"},
			{Name: "created_at", Type: Timestamp, Path: "created_at"},
			{Name: "updated_at", Type: Timestamp, Path: "updated_at"},
		},
		Parents:  []Parent{{"users", "user_id"}},
		Terminal: []string{"ended", "removed", "revoked", "expired", "abandoned", "replaced"},
		Omits:    map[string]string{"object": kindOf, "user": embeddedUser},
	},
	{
		Table: "waitlist_entries", Object: "waitlistEntry", Doc: "who waits to be let in",
		Columns: []Column{
			{Name: "id", Type: Text, Path: "id", Doc: "Clerk's id, wle_…"},
			{Name: "email_address", Type: Text, Path: "email_address", Personal: true, Index: true},
			{Name: "status", Type: Text, Path: "status", Doc: "pending, invited, completed, rejected"},
			{Name: "is_locked", Type: Bool, Path: "is_locked"},
			{Name: "invitation_id", Type: ID, Path: "invitation.id", Doc: "the invitation to the application; its url lets whoever has it accept, and is left out"},
			{Name: "created_at", Type: Timestamp, Path: "created_at"},
			{Name: "updated_at", Type: Timestamp, Path: "updated_at"},
		},
		Omits: map[string]string{"object": kindOf},
	},
}
