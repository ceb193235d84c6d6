package backendapi

import "github.com/rollcall-dev/rollcall/internal/emulator/state"

// routes are the operations that there are, in the specification's order of
// resources; its patterns word for word, so that a test can set them against it.
var routes = []route{
	{"GET", "/jwks", getJWKS},

	{"POST", "/email_addresses", emailAddresses.create},
	{"GET", "/email_addresses/{email_address_id}", emailAddresses.get},
	{"PATCH", "/email_addresses/{email_address_id}", emailAddresses.update},
	{"DELETE", "/email_addresses/{email_address_id}", emailAddresses.delete},
	{"PUT", "/users/{user_id}/email_address", emailAddresses.replace},

	{"POST", "/phone_numbers", phoneNumbers.create},
	{"GET", "/phone_numbers/{phone_number_id}", phoneNumbers.get},
	{"PATCH", "/phone_numbers/{phone_number_id}", phoneNumbers.update},
	{"DELETE", "/phone_numbers/{phone_number_id}", phoneNumbers.delete},
	{"PUT", "/users/{user_id}/phone_number", phoneNumbers.replace},

	{"GET", "/sessions", listSessions},
	{"POST", "/sessions", createSession},
	{"GET", "/sessions/{session_id}", getSession},
	{"POST", "/sessions/{session_id}/refresh", refreshSession},
	{"POST", "/sessions/{session_id}/revoke", revokeSession},
	{"POST", "/sessions/{session_id}/tokens", createToken},
	{"POST", "/sessions/{session_id}/tokens/{template_name}", createToken},

	{"GET", "/users", listUsers},
	{"POST", "/users", createUser},
	{"GET", "/users/count", countUsers},
	{"POST", "/users/ban", changeUsers((*state.Instance).BanUser)},
	{"POST", "/users/unban", changeUsers((*state.Instance).UnbanUser)},
	{"GET", "/users/{user_id}", getUser},
	{"PATCH", "/users/{user_id}", updateUser},
	{"DELETE", "/users/{user_id}", deleteUser},
	{"POST", "/users/{user_id}/ban", changeUser((*state.Instance).BanUser)},
	{"POST", "/users/{user_id}/unban", changeUser((*state.Instance).UnbanUser)},
	{"POST", "/users/{user_id}/lock", changeUser((*state.Instance).LockUser)},
	{"POST", "/users/{user_id}/unlock", changeUser((*state.Instance).UnlockUser)},
	{"DELETE", "/users/{user_id}/profile_image", deleteProfileImage},
	{"PATCH", "/users/{user_id}/metadata", mergeUserMetadata},
	{"PUT", "/users/{user_id}/metadata", replaceUserMetadata},
	{"POST", "/users/{user_id}/remove_password", removePassword},
	{"DELETE", "/users/{user_id}/mfa", disableFactors(state.UserUpdate{TOTPEnabled: new(bool), BackupCodeEnabled: new(bool)})},
	{"DELETE", "/users/{user_id}/totp", disableFactors(state.UserUpdate{TOTPEnabled: new(bool)})},
	{"DELETE", "/users/{user_id}/backup_code", disableFactors(state.UserUpdate{BackupCodeEnabled: new(bool)})},
	{"DELETE", "/users/{user_id}/external_accounts/{external_account_id}", deleteExternalAccount},
	{"GET", "/users/{user_id}/organization_memberships", listMembershipsOfUser},
	{"GET", "/users/{user_id}/organization_invitations", listOrganizationInvitationsOfUser},
	{"GET", "/users/{user_id}/billing/subscription", getUserSubscription},

	{"GET", "/invitations", listInvitations},
	{"POST", "/invitations", createInvitation},
	{"POST", "/invitations/bulk", createInvitations},
	{"POST", "/invitations/{invitation_id}/revoke", revokeInvitation},

	{"GET", "/instance", getInstance},
	{"GET", "/instance/organization_settings", getOrganizationSettings},

	{"GET", "/organizations", listOrganizations},
	{"POST", "/organizations", createOrganization},
	{"GET", "/organizations/{organization_id}", getOrganization},
	{"PATCH", "/organizations/{organization_id}", updateOrganization},
	{"DELETE", "/organizations/{organization_id}", deleteOrganization},
	{"PATCH", "/organizations/{organization_id}/metadata", mergeOrganizationMetadata},
	{"PUT", "/organizations/{organization_id}/metadata", replaceOrganizationMetadata},
	{"GET", "/organizations/{organization_id}/billing/subscription", getOrganizationSubscription},

	{"GET", "/organization_invitations", listAllOrganizationInvitations},
	{"GET", "/organizations/{organization_id}/invitations", listOrganizationInvitations},
	{"POST", "/organizations/{organization_id}/invitations", createOrganizationInvitation},
	{"POST", "/organizations/{organization_id}/invitations/bulk", createOrganizationInvitations},
	{"GET", "/organizations/{organization_id}/invitations/pending", listPendingOrganizationInvitations},
	{"GET", "/organizations/{organization_id}/invitations/{invitation_id}", getOrganizationInvitation},
	{"POST", "/organizations/{organization_id}/invitations/{invitation_id}/revoke", revokeOrganizationInvitation},

	{"GET", "/organization_roles", listRoles},
	{"POST", "/organization_roles", createRole},
	{"GET", "/organization_roles/{organization_role_id}", getRole},
	{"PATCH", "/organization_roles/{organization_role_id}", updateRole},
	{"DELETE", "/organization_roles/{organization_role_id}", deleteRole},
	{"POST", "/organization_roles/{organization_role_id}/permissions/{permission_id}", addRolePermission},
	{"DELETE", "/organization_roles/{organization_role_id}/permissions/{permission_id}", removeRolePermission},

	{"GET", "/organization_permissions", listPermissions},
	{"POST", "/organization_permissions", createPermission},
	{"GET", "/organization_permissions/{permission_id}", getPermission},
	{"PATCH", "/organization_permissions/{permission_id}", updatePermission},
	{"DELETE", "/organization_permissions/{permission_id}", deletePermission},

	{"GET", "/role_sets", listRoleSets},
	{"GET", "/role_sets/{role_set_key_or_id}", getRoleSet},

	{"GET", "/organization_memberships", listAllMemberships},
	{"GET", "/organizations/{organization_id}/memberships", listMemberships},
	{"POST", "/organizations/{organization_id}/memberships", createMembership},
	{"PATCH", "/organizations/{organization_id}/memberships/{user_id}", updateMembership},
	{"DELETE", "/organizations/{organization_id}/memberships/{user_id}", deleteMembership},
	{"PATCH", "/organizations/{organization_id}/memberships/{user_id}/metadata", mergeMembershipMetadata},

	{"GET", "/organization_domains", listAllDomains},
	{"GET", "/organizations/{organization_id}/domains", listDomains},
	{"POST", "/organizations/{organization_id}/domains", createDomain},
	{"PATCH", "/organizations/{organization_id}/domains/{domain_id}", updateDomain},
	{"DELETE", "/organizations/{organization_id}/domains/{domain_id}", deleteDomain},

	{"GET", "/enterprise_connections", listEnterpriseConnections},

	{"GET", "/waitlist_entries", listWaitlist},
	{"POST", "/waitlist_entries", createWaitlistEntry},
	{"POST", "/waitlist_entries/bulk", createWaitlistEntries},
	{"DELETE", "/waitlist_entries/{waitlist_entry_id}", deleteWaitlistEntry},
	{"POST", "/waitlist_entries/{waitlist_entry_id}/invite", inviteWaitlistEntry},
	{"POST", "/waitlist_entries/{waitlist_entry_id}/reject", rejectWaitlistEntry},

	{"GET", "/billing/subscription_items", listSubscriptionItems},
	{"DELETE", "/billing/subscription_items/{subscription_item_id}", cancelSubscriptionItem},
}
