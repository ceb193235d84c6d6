package backendapi

func getJWKS(r *request) (any, error) {
	if r.JWKS == nil {
		return raw(`{"keys":[]}`), nil
	}
	keys, err := r.JWKS(r.inst)
	return raw(keys), err
}

func getInstance(r *request) (any, error) {
	return struct {
		Object          string   `json:"object"`
		ID              string   `json:"id"`
		EnvironmentType string   `json:"environment_type"`
		AllowedOrigins  []string `json:"allowed_origins"`
		WorkspaceID     *string  `json:"workspace_id"`
	}{Object: "instance", ID: r.inst.ID, EnvironmentType: "production"}, nil
}

// getOrganizationSettings answers how the emulator behaves; they can't be changed.
func getOrganizationSettings(*request) (any, error) {
	return map[string]any{
		"object":                   "organization_settings",
		"enabled":                  true,
		"max_allowed_memberships":  5,
		"max_allowed_roles":        10,
		"max_allowed_domains":      10,
		"creator_role":             creatorRoleKey,
		"initial_role_set_key":     defaultRoleSetKey,
		"admin_delete_enabled":     true,
		"domains_enabled":          true,
		"domains_enrollment_modes": enrollmentModes[:3],
		"domains_default_role":     memberRoleKey,
	}, nil
}

// listEnterpriseConnections: an instance has users with enterprise accounts, but
// the connections themselves aren't kept.
func listEnterpriseConnections(r *request) (any, error) {
	q := r.query()
	q.boolean("active")
	q.page()
	if err := q.err(); err != nil {
		return nil, err
	}
	return listed{Data: []any{}}, nil
}
