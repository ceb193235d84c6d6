// The tables and views that Rollcall keeps in schema clerk. Made by rollcall store schema; not to be edited.
// Import it as a whole (import * as clerk from …), and keep it out of the files that
// drizzle.config.ts names as schema: drizzle-kit would make the tables itself.
import { bigint, boolean, customType, jsonb, pgSchema, primaryKey, text, timestamp } from 'drizzle-orm/pg-core';

const bytea = customType<{ data: Uint8Array }>({ dataType: () => 'bytea' });

export const schema = pgSchema('clerk');

/** people who can sign in */
export const users = schema.table('users', {
  /** Clerk's id, user_… */
  id: text('id').notNull().primaryKey(),
  /** the id that you gave the user */
  external_id: text('external_id'),
  username: text('username'),
  first_name: text('first_name'),
  last_name: text('last_name'),
  /** first and last name */
  name: text('name'),
  /** the primary e-mail address; not unique */
  email: text('email'),
  /** whether the primary e-mail address is verified */
  email_verified: boolean('email_verified'),
  /** the primary phone number */
  phone: text('phone'),
  image_url: text('image_url'),
  /** whether image_url is the user's own and no placeholder */
  has_image: boolean('has_image'),
  /** BCP 47, en-GB */
  locale: text('locale'),
  banned: boolean('banned'),
  /** for a while, after failed sign-ins */
  locked: boolean('locked'),
  /** removed by the directory that provisioned the user; the row stays */
  deprovisioned: boolean('deprovisioned'),
  two_factor_enabled: boolean('two_factor_enabled'),
  totp_enabled: boolean('totp_enabled'),
  backup_code_enabled: boolean('backup_code_enabled'),
  /** stays when it is disabled again */
  mfa_enabled_at: timestamp('mfa_enabled_at', { withTimezone: true }),
  mfa_disabled_at: timestamp('mfa_disabled_at', { withTimezone: true }),
  password_enabled: boolean('password_enabled'),
  password_last_updated_at: timestamp('password_last_updated_at', { withTimezone: true }),
  delete_self_enabled: boolean('delete_self_enabled'),
  create_organization_enabled: boolean('create_organization_enabled'),
  /** 0: no limit */
  create_organizations_limit: bigint('create_organizations_limit', { mode: 'number' }),
  bypass_client_trust: boolean('bypass_client_trust'),
  legal_accepted_at: timestamp('legal_accepted_at', { withTimezone: true }),
  last_sign_in_at: timestamp('last_sign_in_at', { withTimezone: true }),
  last_active_at: timestamp('last_active_at', { withTimezone: true }),
  lockout_expires_in_seconds: bigint('lockout_expires_in_seconds', { mode: 'number' }),
  verification_attempts_remaining: bigint('verification_attempts_remaining', { mode: 'number' }),
  /** one of email_addresses */
  primary_email_address_id: text('primary_email_address_id'),
  /** one of phone_numbers */
  primary_phone_number_id: text('primary_phone_number_id'),
  /** one of web3_wallets */
  primary_web3_wallet_id: text('primary_web3_wallet_id'),
  email_addresses: jsonb('email_addresses'),
  phone_numbers: jsonb('phone_numbers'),
  web3_wallets: jsonb('web3_wallets'),
  passkeys: jsonb('passkeys'),
  /** accounts with OAuth providers */
  external_accounts: jsonb('external_accounts'),
  /** accounts with identity providers; in columns: user_enterprise_accounts */
  enterprise_accounts: jsonb('enterprise_accounts'),
  /** older than enterprise_accounts; in columns: user_enterprise_accounts */
  saml_accounts: jsonb('saml_accounts'),
  /** the directory that provisioned the user */
  scim: jsonb('scim'),
  public_metadata: jsonb('public_metadata'),
  /** the user may write it */
  unsafe_metadata: jsonb('unsafe_metadata'),
  created_at: timestamp('created_at', { withTimezone: true }),
  updated_at: timestamp('updated_at', { withTimezone: true }),
  /** null while it lives */
  deleted_at: timestamp('deleted_at', { withTimezone: true }),
  /** Clerk's instance */
  instance_id: text('instance_id').notNull(),
  /** when Rollcall wrote the row */
  synced_at: timestamp('synced_at', { withTimezone: true }).notNull(),
  /** with stream_seq: the event that the row is from */
  stream_epoch: bigint('stream_epoch', { mode: 'bigint' }).notNull(),
  stream_seq: bigint('stream_seq', { mode: 'number' }).notNull(),
  /** webhook, backfill, …; stub: made by ensure_user or ensure_organization, before its event */
  source: text('source').notNull(),
  /** by which the newer of two contents is known */
  version: bytea('version').notNull(),
});

/** people who can sign in, without the deleted */
export const usersLive = schema.view('users_live', {
  /** Clerk's id, user_… */
  id: text('id').notNull(),
  /** the id that you gave the user */
  external_id: text('external_id'),
  username: text('username'),
  first_name: text('first_name'),
  last_name: text('last_name'),
  /** first and last name */
  name: text('name'),
  /** the primary e-mail address; not unique */
  email: text('email'),
  /** whether the primary e-mail address is verified */
  email_verified: boolean('email_verified'),
  /** the primary phone number */
  phone: text('phone'),
  image_url: text('image_url'),
  /** whether image_url is the user's own and no placeholder */
  has_image: boolean('has_image'),
  /** BCP 47, en-GB */
  locale: text('locale'),
  banned: boolean('banned'),
  /** for a while, after failed sign-ins */
  locked: boolean('locked'),
  /** removed by the directory that provisioned the user; the row stays */
  deprovisioned: boolean('deprovisioned'),
  two_factor_enabled: boolean('two_factor_enabled'),
  totp_enabled: boolean('totp_enabled'),
  backup_code_enabled: boolean('backup_code_enabled'),
  /** stays when it is disabled again */
  mfa_enabled_at: timestamp('mfa_enabled_at', { withTimezone: true }),
  mfa_disabled_at: timestamp('mfa_disabled_at', { withTimezone: true }),
  password_enabled: boolean('password_enabled'),
  password_last_updated_at: timestamp('password_last_updated_at', { withTimezone: true }),
  delete_self_enabled: boolean('delete_self_enabled'),
  create_organization_enabled: boolean('create_organization_enabled'),
  /** 0: no limit */
  create_organizations_limit: bigint('create_organizations_limit', { mode: 'number' }),
  bypass_client_trust: boolean('bypass_client_trust'),
  legal_accepted_at: timestamp('legal_accepted_at', { withTimezone: true }),
  last_sign_in_at: timestamp('last_sign_in_at', { withTimezone: true }),
  last_active_at: timestamp('last_active_at', { withTimezone: true }),
  lockout_expires_in_seconds: bigint('lockout_expires_in_seconds', { mode: 'number' }),
  verification_attempts_remaining: bigint('verification_attempts_remaining', { mode: 'number' }),
  /** one of email_addresses */
  primary_email_address_id: text('primary_email_address_id'),
  /** one of phone_numbers */
  primary_phone_number_id: text('primary_phone_number_id'),
  /** one of web3_wallets */
  primary_web3_wallet_id: text('primary_web3_wallet_id'),
  email_addresses: jsonb('email_addresses'),
  phone_numbers: jsonb('phone_numbers'),
  web3_wallets: jsonb('web3_wallets'),
  passkeys: jsonb('passkeys'),
  /** accounts with OAuth providers */
  external_accounts: jsonb('external_accounts'),
  /** accounts with identity providers; in columns: user_enterprise_accounts */
  enterprise_accounts: jsonb('enterprise_accounts'),
  /** older than enterprise_accounts; in columns: user_enterprise_accounts */
  saml_accounts: jsonb('saml_accounts'),
  /** the directory that provisioned the user */
  scim: jsonb('scim'),
  public_metadata: jsonb('public_metadata'),
  /** the user may write it */
  unsafe_metadata: jsonb('unsafe_metadata'),
  created_at: timestamp('created_at', { withTimezone: true }),
  updated_at: timestamp('updated_at', { withTimezone: true }),
  /** null while it lives */
  deleted_at: timestamp('deleted_at', { withTimezone: true }),
  /** Clerk's instance */
  instance_id: text('instance_id').notNull(),
  /** when Rollcall wrote the row */
  synced_at: timestamp('synced_at', { withTimezone: true }).notNull(),
  /** with stream_seq: the event that the row is from */
  stream_epoch: bigint('stream_epoch', { mode: 'bigint' }).notNull(),
  stream_seq: bigint('stream_seq', { mode: 'number' }).notNull(),
  /** webhook, backfill, …; stub: made by ensure_user or ensure_organization, before its event */
  source: text('source').notNull(),
  /** by which the newer of two contents is known */
  version: bytea('version').notNull(),
}).existing();

/** what users are members of */
export const organizations = schema.table('organizations', {
  /** Clerk's id, org_… */
  id: text('id').notNull().primaryKey(),
  name: text('name'),
  slug: text('slug'),
  image_url: text('image_url'),
  /** whether image_url is the organization's own and no placeholder */
  has_image: boolean('has_image'),
  /** the user who made it */
  created_by: text('created_by'),
  members_count: bigint('members_count', { mode: 'number' }),
  pending_invitations_count: bigint('pending_invitations_count', { mode: 'number' }),
  missing_member_with_elevated_permissions: boolean('missing_member_with_elevated_permissions'),
  /** 0: no limit */
  max_allowed_memberships: bigint('max_allowed_memberships', { mode: 'number' }),
  admin_delete_enabled: boolean('admin_delete_enabled'),
  /** the set of roles that members can have */
  role_set_key: text('role_set_key'),
  last_active_at: timestamp('last_active_at', { withTimezone: true }),
  public_metadata: jsonb('public_metadata'),
  created_at: timestamp('created_at', { withTimezone: true }),
  updated_at: timestamp('updated_at', { withTimezone: true }),
  /** null while it lives */
  deleted_at: timestamp('deleted_at', { withTimezone: true }),
  /** Clerk's instance */
  instance_id: text('instance_id').notNull(),
  /** when Rollcall wrote the row */
  synced_at: timestamp('synced_at', { withTimezone: true }).notNull(),
  /** with stream_seq: the event that the row is from */
  stream_epoch: bigint('stream_epoch', { mode: 'bigint' }).notNull(),
  stream_seq: bigint('stream_seq', { mode: 'number' }).notNull(),
  /** webhook, backfill, …; stub: made by ensure_user or ensure_organization, before its event */
  source: text('source').notNull(),
  /** by which the newer of two contents is known */
  version: bytea('version').notNull(),
});

/** what users are members of, without the deleted */
export const organizationsLive = schema.view('organizations_live', {
  /** Clerk's id, org_… */
  id: text('id').notNull(),
  name: text('name'),
  slug: text('slug'),
  image_url: text('image_url'),
  /** whether image_url is the organization's own and no placeholder */
  has_image: boolean('has_image'),
  /** the user who made it */
  created_by: text('created_by'),
  members_count: bigint('members_count', { mode: 'number' }),
  pending_invitations_count: bigint('pending_invitations_count', { mode: 'number' }),
  missing_member_with_elevated_permissions: boolean('missing_member_with_elevated_permissions'),
  /** 0: no limit */
  max_allowed_memberships: bigint('max_allowed_memberships', { mode: 'number' }),
  admin_delete_enabled: boolean('admin_delete_enabled'),
  /** the set of roles that members can have */
  role_set_key: text('role_set_key'),
  last_active_at: timestamp('last_active_at', { withTimezone: true }),
  public_metadata: jsonb('public_metadata'),
  created_at: timestamp('created_at', { withTimezone: true }),
  updated_at: timestamp('updated_at', { withTimezone: true }),
  /** null while it lives */
  deleted_at: timestamp('deleted_at', { withTimezone: true }),
  /** Clerk's instance */
  instance_id: text('instance_id').notNull(),
  /** when Rollcall wrote the row */
  synced_at: timestamp('synced_at', { withTimezone: true }).notNull(),
  /** with stream_seq: the event that the row is from */
  stream_epoch: bigint('stream_epoch', { mode: 'bigint' }).notNull(),
  stream_seq: bigint('stream_seq', { mode: 'number' }).notNull(),
  /** webhook, backfill, …; stub: made by ensure_user or ensure_organization, before its event */
  source: text('source').notNull(),
  /** by which the newer of two contents is known */
  version: bytea('version').notNull(),
}).existing();

/** who is a member of which organization, and as what */
export const organizationMemberships = schema.table('organization_memberships', {
  /** Clerk's id, orgmem_…; a new one after a re-join */
  id: text('id').notNull().primaryKey(),
  organization_id: text('organization_id'),
  user_id: text('user_id'),
  /** the role's key, org:admin */
  role: text('role'),
  role_name: text('role_name'),
  /** as the membership's own event had them; what holds is member_permissions */
  permissions: text('permissions').array(),
  public_metadata: jsonb('public_metadata'),
  created_at: timestamp('created_at', { withTimezone: true }),
  updated_at: timestamp('updated_at', { withTimezone: true }),
  /** null while it lives */
  deleted_at: timestamp('deleted_at', { withTimezone: true }),
  /** Clerk's instance */
  instance_id: text('instance_id').notNull(),
  /** when Rollcall wrote the row */
  synced_at: timestamp('synced_at', { withTimezone: true }).notNull(),
  /** with stream_seq: the event that the row is from */
  stream_epoch: bigint('stream_epoch', { mode: 'bigint' }).notNull(),
  stream_seq: bigint('stream_seq', { mode: 'number' }).notNull(),
  /** webhook, backfill, …; stub: made by ensure_user or ensure_organization, before its event */
  source: text('source').notNull(),
  /** by which the newer of two contents is known */
  version: bytea('version').notNull(),
});

/** who is a member of which organization, and as what, without the deleted */
export const organizationMembershipsLive = schema.view('organization_memberships_live', {
  /** Clerk's id, orgmem_…; a new one after a re-join */
  id: text('id').notNull(),
  organization_id: text('organization_id'),
  user_id: text('user_id'),
  /** the role's key, org:admin */
  role: text('role'),
  role_name: text('role_name'),
  /** as the membership's own event had them; what holds is member_permissions */
  permissions: text('permissions').array(),
  public_metadata: jsonb('public_metadata'),
  created_at: timestamp('created_at', { withTimezone: true }),
  updated_at: timestamp('updated_at', { withTimezone: true }),
  /** null while it lives */
  deleted_at: timestamp('deleted_at', { withTimezone: true }),
  /** Clerk's instance */
  instance_id: text('instance_id').notNull(),
  /** when Rollcall wrote the row */
  synced_at: timestamp('synced_at', { withTimezone: true }).notNull(),
  /** with stream_seq: the event that the row is from */
  stream_epoch: bigint('stream_epoch', { mode: 'bigint' }).notNull(),
  stream_seq: bigint('stream_seq', { mode: 'number' }).notNull(),
  /** webhook, backfill, …; stub: made by ensure_user or ensure_organization, before its event */
  source: text('source').notNull(),
  /** by which the newer of two contents is known */
  version: bytea('version').notNull(),
}).existing();

/** invitations to join an organization */
export const organizationInvitations = schema.table('organization_invitations', {
  /** Clerk's id, orginv_… */
  id: text('id').notNull().primaryKey(),
  organization_id: text('organization_id'),
  /** who is invited */
  email_address: text('email_address'),
  /** the key of the role that the member will have */
  role: text('role'),
  role_name: text('role_name'),
  /** pending, accepted, revoked, expired */
  status: text('status'),
  /** the user who invites */
  inviter_id: text('inviter_id'),
  /** the user who accepted */
  user_id: text('user_id'),
  public_metadata: jsonb('public_metadata'),
  expires_at: timestamp('expires_at', { withTimezone: true }),
  created_at: timestamp('created_at', { withTimezone: true }),
  updated_at: timestamp('updated_at', { withTimezone: true }),
  /** null while it lives */
  deleted_at: timestamp('deleted_at', { withTimezone: true }),
  /** Clerk's instance */
  instance_id: text('instance_id').notNull(),
  /** when Rollcall wrote the row */
  synced_at: timestamp('synced_at', { withTimezone: true }).notNull(),
  /** with stream_seq: the event that the row is from */
  stream_epoch: bigint('stream_epoch', { mode: 'bigint' }).notNull(),
  stream_seq: bigint('stream_seq', { mode: 'number' }).notNull(),
  /** webhook, backfill, …; stub: made by ensure_user or ensure_organization, before its event */
  source: text('source').notNull(),
  /** by which the newer of two contents is known */
  version: bytea('version').notNull(),
});

/** invitations to join an organization, without the deleted */
export const organizationInvitationsLive = schema.view('organization_invitations_live', {
  /** Clerk's id, orginv_… */
  id: text('id').notNull(),
  organization_id: text('organization_id'),
  /** who is invited */
  email_address: text('email_address'),
  /** the key of the role that the member will have */
  role: text('role'),
  role_name: text('role_name'),
  /** pending, accepted, revoked, expired */
  status: text('status'),
  /** the user who invites */
  inviter_id: text('inviter_id'),
  /** the user who accepted */
  user_id: text('user_id'),
  public_metadata: jsonb('public_metadata'),
  expires_at: timestamp('expires_at', { withTimezone: true }),
  created_at: timestamp('created_at', { withTimezone: true }),
  updated_at: timestamp('updated_at', { withTimezone: true }),
  /** null while it lives */
  deleted_at: timestamp('deleted_at', { withTimezone: true }),
  /** Clerk's instance */
  instance_id: text('instance_id').notNull(),
  /** when Rollcall wrote the row */
  synced_at: timestamp('synced_at', { withTimezone: true }).notNull(),
  /** with stream_seq: the event that the row is from */
  stream_epoch: bigint('stream_epoch', { mode: 'bigint' }).notNull(),
  stream_seq: bigint('stream_seq', { mode: 'number' }).notNull(),
  /** webhook, backfill, …; stub: made by ensure_user or ensure_organization, before its event */
  source: text('source').notNull(),
  /** by which the newer of two contents is known */
  version: bytea('version').notNull(),
}).existing();

/** e-mail domains of an organization */
export const organizationDomains = schema.table('organization_domains', {
  /** Clerk's id, orgdmn_… */
  id: text('id').notNull().primaryKey(),
  organization_id: text('organization_id'),
  /** acme.com */
  name: text('name'),
  /** manual_invitation, automatic_invitation, automatic_suggestion, enterprise_sso */
  enrollment_mode: text('enrollment_mode'),
  affiliation_email_address: text('affiliation_email_address'),
  /** older than the two below */
  verification: jsonb('verification'),
  affiliation_verification: jsonb('affiliation_verification'),
  ownership_verification: jsonb('ownership_verification'),
  total_pending_invitations: bigint('total_pending_invitations', { mode: 'number' }),
  total_pending_suggestions: bigint('total_pending_suggestions', { mode: 'number' }),
  created_at: timestamp('created_at', { withTimezone: true }),
  updated_at: timestamp('updated_at', { withTimezone: true }),
  /** null while it lives */
  deleted_at: timestamp('deleted_at', { withTimezone: true }),
  /** Clerk's instance */
  instance_id: text('instance_id').notNull(),
  /** when Rollcall wrote the row */
  synced_at: timestamp('synced_at', { withTimezone: true }).notNull(),
  /** with stream_seq: the event that the row is from */
  stream_epoch: bigint('stream_epoch', { mode: 'bigint' }).notNull(),
  stream_seq: bigint('stream_seq', { mode: 'number' }).notNull(),
  /** webhook, backfill, …; stub: made by ensure_user or ensure_organization, before its event */
  source: text('source').notNull(),
  /** by which the newer of two contents is known */
  version: bytea('version').notNull(),
});

/** e-mail domains of an organization, without the deleted */
export const organizationDomainsLive = schema.view('organization_domains_live', {
  /** Clerk's id, orgdmn_… */
  id: text('id').notNull(),
  organization_id: text('organization_id'),
  /** acme.com */
  name: text('name'),
  /** manual_invitation, automatic_invitation, automatic_suggestion, enterprise_sso */
  enrollment_mode: text('enrollment_mode'),
  affiliation_email_address: text('affiliation_email_address'),
  /** older than the two below */
  verification: jsonb('verification'),
  affiliation_verification: jsonb('affiliation_verification'),
  ownership_verification: jsonb('ownership_verification'),
  total_pending_invitations: bigint('total_pending_invitations', { mode: 'number' }),
  total_pending_suggestions: bigint('total_pending_suggestions', { mode: 'number' }),
  created_at: timestamp('created_at', { withTimezone: true }),
  updated_at: timestamp('updated_at', { withTimezone: true }),
  /** null while it lives */
  deleted_at: timestamp('deleted_at', { withTimezone: true }),
  /** Clerk's instance */
  instance_id: text('instance_id').notNull(),
  /** when Rollcall wrote the row */
  synced_at: timestamp('synced_at', { withTimezone: true }).notNull(),
  /** with stream_seq: the event that the row is from */
  stream_epoch: bigint('stream_epoch', { mode: 'bigint' }).notNull(),
  stream_seq: bigint('stream_seq', { mode: 'number' }).notNull(),
  /** webhook, backfill, …; stub: made by ensure_user or ensure_organization, before its event */
  source: text('source').notNull(),
  /** by which the newer of two contents is known */
  version: bytea('version').notNull(),
}).existing();

/** roles that members of organizations have */
export const roles = schema.table('roles', {
  /** Clerk's id, role_… */
  id: text('id').notNull().primaryKey(),
  /** org:admin; it can change */
  key: text('key'),
  name: text('name'),
  description: text('description'),
  is_creator_eligible: boolean('is_creator_eligible'),
  /** all of the role's; one a row: role_permissions */
  permissions: jsonb('permissions'),
  created_at: timestamp('created_at', { withTimezone: true }),
  updated_at: timestamp('updated_at', { withTimezone: true }),
  /** null while it lives */
  deleted_at: timestamp('deleted_at', { withTimezone: true }),
  /** Clerk's instance */
  instance_id: text('instance_id').notNull(),
  /** when Rollcall wrote the row */
  synced_at: timestamp('synced_at', { withTimezone: true }).notNull(),
  /** with stream_seq: the event that the row is from */
  stream_epoch: bigint('stream_epoch', { mode: 'bigint' }).notNull(),
  stream_seq: bigint('stream_seq', { mode: 'number' }).notNull(),
  /** webhook, backfill, …; stub: made by ensure_user or ensure_organization, before its event */
  source: text('source').notNull(),
  /** by which the newer of two contents is known */
  version: bytea('version').notNull(),
});

/** roles that members of organizations have, without the deleted */
export const rolesLive = schema.view('roles_live', {
  /** Clerk's id, role_… */
  id: text('id').notNull(),
  /** org:admin; it can change */
  key: text('key'),
  name: text('name'),
  description: text('description'),
  is_creator_eligible: boolean('is_creator_eligible'),
  /** all of the role's; one a row: role_permissions */
  permissions: jsonb('permissions'),
  created_at: timestamp('created_at', { withTimezone: true }),
  updated_at: timestamp('updated_at', { withTimezone: true }),
  /** null while it lives */
  deleted_at: timestamp('deleted_at', { withTimezone: true }),
  /** Clerk's instance */
  instance_id: text('instance_id').notNull(),
  /** when Rollcall wrote the row */
  synced_at: timestamp('synced_at', { withTimezone: true }).notNull(),
  /** with stream_seq: the event that the row is from */
  stream_epoch: bigint('stream_epoch', { mode: 'bigint' }).notNull(),
  stream_seq: bigint('stream_seq', { mode: 'number' }).notNull(),
  /** webhook, backfill, …; stub: made by ensure_user or ensure_organization, before its event */
  source: text('source').notNull(),
  /** by which the newer of two contents is known */
  version: bytea('version').notNull(),
}).existing();

/** permissions that roles can have */
export const permissions = schema.table('permissions', {
  /** Clerk's id, perm_… */
  id: text('id').notNull().primaryKey(),
  /** org:invoices:read; org:sys_… are Clerk's own */
  key: text('key'),
  name: text('name'),
  description: text('description'),
  /** system or custom */
  type: text('type'),
  created_at: timestamp('created_at', { withTimezone: true }),
  updated_at: timestamp('updated_at', { withTimezone: true }),
  /** null while it lives */
  deleted_at: timestamp('deleted_at', { withTimezone: true }),
  /** Clerk's instance */
  instance_id: text('instance_id').notNull(),
  /** when Rollcall wrote the row */
  synced_at: timestamp('synced_at', { withTimezone: true }).notNull(),
  /** with stream_seq: the event that the row is from */
  stream_epoch: bigint('stream_epoch', { mode: 'bigint' }).notNull(),
  stream_seq: bigint('stream_seq', { mode: 'number' }).notNull(),
  /** webhook, backfill, …; stub: made by ensure_user or ensure_organization, before its event */
  source: text('source').notNull(),
  /** by which the newer of two contents is known */
  version: bytea('version').notNull(),
});

/** permissions that roles can have, without the deleted */
export const permissionsLive = schema.view('permissions_live', {
  /** Clerk's id, perm_… */
  id: text('id').notNull(),
  /** org:invoices:read; org:sys_… are Clerk's own */
  key: text('key'),
  name: text('name'),
  description: text('description'),
  /** system or custom */
  type: text('type'),
  created_at: timestamp('created_at', { withTimezone: true }),
  updated_at: timestamp('updated_at', { withTimezone: true }),
  /** null while it lives */
  deleted_at: timestamp('deleted_at', { withTimezone: true }),
  /** Clerk's instance */
  instance_id: text('instance_id').notNull(),
  /** when Rollcall wrote the row */
  synced_at: timestamp('synced_at', { withTimezone: true }).notNull(),
  /** with stream_seq: the event that the row is from */
  stream_epoch: bigint('stream_epoch', { mode: 'bigint' }).notNull(),
  stream_seq: bigint('stream_seq', { mode: 'number' }).notNull(),
  /** webhook, backfill, …; stub: made by ensure_user or ensure_organization, before its event */
  source: text('source').notNull(),
  /** by which the newer of two contents is known */
  version: bytea('version').notNull(),
}).existing();

/** sign-ins */
export const sessions = schema.table('sessions', {
  /** Clerk's id, sess_… */
  id: text('id').notNull().primaryKey(),
  user_id: text('user_id'),
  /** the browser or device */
  client_id: text('client_id'),
  /** who impersonates the user */
  actor: jsonb('actor'),
  /** active, pending, ended, removed, revoked, expired, abandoned, replaced; Clerk sends no event when expire_at passes */
  status: text('status'),
  last_active_organization_id: text('last_active_organization_id'),
  last_active_at: timestamp('last_active_at', { withTimezone: true }),
  /** device, address, place */
  latest_activity: jsonb('latest_activity'),
  expire_at: timestamp('expire_at', { withTimezone: true }),
  abandon_at: timestamp('abandon_at', { withTimezone: true }),
  created_at: timestamp('created_at', { withTimezone: true }),
  updated_at: timestamp('updated_at', { withTimezone: true }),
  /** null while it lives */
  deleted_at: timestamp('deleted_at', { withTimezone: true }),
  /** Clerk's instance */
  instance_id: text('instance_id').notNull(),
  /** when Rollcall wrote the row */
  synced_at: timestamp('synced_at', { withTimezone: true }).notNull(),
  /** with stream_seq: the event that the row is from */
  stream_epoch: bigint('stream_epoch', { mode: 'bigint' }).notNull(),
  stream_seq: bigint('stream_seq', { mode: 'number' }).notNull(),
  /** webhook, backfill, …; stub: made by ensure_user or ensure_organization, before its event */
  source: text('source').notNull(),
  /** by which the newer of two contents is known */
  version: bytea('version').notNull(),
});

/** sign-ins, without the deleted */
export const sessionsLive = schema.view('sessions_live', {
  /** Clerk's id, sess_… */
  id: text('id').notNull(),
  user_id: text('user_id'),
  /** the browser or device */
  client_id: text('client_id'),
  /** who impersonates the user */
  actor: jsonb('actor'),
  /** active, pending, ended, removed, revoked, expired, abandoned, replaced; Clerk sends no event when expire_at passes */
  status: text('status'),
  last_active_organization_id: text('last_active_organization_id'),
  last_active_at: timestamp('last_active_at', { withTimezone: true }),
  /** device, address, place */
  latest_activity: jsonb('latest_activity'),
  expire_at: timestamp('expire_at', { withTimezone: true }),
  abandon_at: timestamp('abandon_at', { withTimezone: true }),
  created_at: timestamp('created_at', { withTimezone: true }),
  updated_at: timestamp('updated_at', { withTimezone: true }),
  /** null while it lives */
  deleted_at: timestamp('deleted_at', { withTimezone: true }),
  /** Clerk's instance */
  instance_id: text('instance_id').notNull(),
  /** when Rollcall wrote the row */
  synced_at: timestamp('synced_at', { withTimezone: true }).notNull(),
  /** with stream_seq: the event that the row is from */
  stream_epoch: bigint('stream_epoch', { mode: 'bigint' }).notNull(),
  stream_seq: bigint('stream_seq', { mode: 'number' }).notNull(),
  /** webhook, backfill, …; stub: made by ensure_user or ensure_organization, before its event */
  source: text('source').notNull(),
  /** by which the newer of two contents is known */
  version: bytea('version').notNull(),
}).existing();

/** who waits to be let in */
export const waitlistEntries = schema.table('waitlist_entries', {
  /** Clerk's id, wle_… */
  id: text('id').notNull().primaryKey(),
  email_address: text('email_address'),
  /** pending, invited, completed, rejected */
  status: text('status'),
  is_locked: boolean('is_locked'),
  /** the invitation to the application; its url lets whoever has it accept, and is left out */
  invitation_id: text('invitation_id'),
  created_at: timestamp('created_at', { withTimezone: true }),
  updated_at: timestamp('updated_at', { withTimezone: true }),
  /** null while it lives */
  deleted_at: timestamp('deleted_at', { withTimezone: true }),
  /** Clerk's instance */
  instance_id: text('instance_id').notNull(),
  /** when Rollcall wrote the row */
  synced_at: timestamp('synced_at', { withTimezone: true }).notNull(),
  /** with stream_seq: the event that the row is from */
  stream_epoch: bigint('stream_epoch', { mode: 'bigint' }).notNull(),
  stream_seq: bigint('stream_seq', { mode: 'number' }).notNull(),
  /** webhook, backfill, …; stub: made by ensure_user or ensure_organization, before its event */
  source: text('source').notNull(),
  /** by which the newer of two contents is known */
  version: bytea('version').notNull(),
});

/** who waits to be let in, without the deleted */
export const waitlistEntriesLive = schema.view('waitlist_entries_live', {
  /** Clerk's id, wle_… */
  id: text('id').notNull(),
  email_address: text('email_address'),
  /** pending, invited, completed, rejected */
  status: text('status'),
  is_locked: boolean('is_locked'),
  /** the invitation to the application; its url lets whoever has it accept, and is left out */
  invitation_id: text('invitation_id'),
  created_at: timestamp('created_at', { withTimezone: true }),
  updated_at: timestamp('updated_at', { withTimezone: true }),
  /** null while it lives */
  deleted_at: timestamp('deleted_at', { withTimezone: true }),
  /** Clerk's instance */
  instance_id: text('instance_id').notNull(),
  /** when Rollcall wrote the row */
  synced_at: timestamp('synced_at', { withTimezone: true }).notNull(),
  /** with stream_seq: the event that the row is from */
  stream_epoch: bigint('stream_epoch', { mode: 'bigint' }).notNull(),
  stream_seq: bigint('stream_seq', { mode: 'number' }).notNull(),
  /** webhook, backfill, …; stub: made by ensure_user or ensure_organization, before its event */
  source: text('source').notNull(),
  /** by which the newer of two contents is known */
  version: bytea('version').notNull(),
}).existing();

/** what a user or an organization has subscribed to */
export const subscriptions = schema.table('subscriptions', {
  /** Clerk's id, csub_… */
  id: text('id').notNull().primaryKey(),
  /** who pays, if a user */
  user_id: text('user_id'),
  /** who pays, if an organization */
  organization_id: text('organization_id'),
  payer_id: text('payer_id'),
  /** active, past_due, canceled, ended, abandoned, incomplete */
  status: text('status'),
  active_at: timestamp('active_at', { withTimezone: true }),
  past_due_at: timestamp('past_due_at', { withTimezone: true }),
  canceled_at: timestamp('canceled_at', { withTimezone: true }),
  ended_at: timestamp('ended_at', { withTimezone: true }),
  latest_payment_id: text('latest_payment_id'),
  payment_source_id: text('payment_source_id'),
  created_at: timestamp('created_at', { withTimezone: true }),
  updated_at: timestamp('updated_at', { withTimezone: true }),
  /** null while it lives */
  deleted_at: timestamp('deleted_at', { withTimezone: true }),
  /** Clerk's instance */
  instance_id: text('instance_id').notNull(),
  /** when Rollcall wrote the row */
  synced_at: timestamp('synced_at', { withTimezone: true }).notNull(),
  /** with stream_seq: the event that the row is from */
  stream_epoch: bigint('stream_epoch', { mode: 'bigint' }).notNull(),
  stream_seq: bigint('stream_seq', { mode: 'number' }).notNull(),
  /** webhook, backfill, …; stub: made by ensure_user or ensure_organization, before its event */
  source: text('source').notNull(),
  /** by which the newer of two contents is known */
  version: bytea('version').notNull(),
});

/** what a user or an organization has subscribed to, without the deleted */
export const subscriptionsLive = schema.view('subscriptions_live', {
  /** Clerk's id, csub_… */
  id: text('id').notNull(),
  /** who pays, if a user */
  user_id: text('user_id'),
  /** who pays, if an organization */
  organization_id: text('organization_id'),
  payer_id: text('payer_id'),
  /** active, past_due, canceled, ended, abandoned, incomplete */
  status: text('status'),
  active_at: timestamp('active_at', { withTimezone: true }),
  past_due_at: timestamp('past_due_at', { withTimezone: true }),
  canceled_at: timestamp('canceled_at', { withTimezone: true }),
  ended_at: timestamp('ended_at', { withTimezone: true }),
  latest_payment_id: text('latest_payment_id'),
  payment_source_id: text('payment_source_id'),
  created_at: timestamp('created_at', { withTimezone: true }),
  updated_at: timestamp('updated_at', { withTimezone: true }),
  /** null while it lives */
  deleted_at: timestamp('deleted_at', { withTimezone: true }),
  /** Clerk's instance */
  instance_id: text('instance_id').notNull(),
  /** when Rollcall wrote the row */
  synced_at: timestamp('synced_at', { withTimezone: true }).notNull(),
  /** with stream_seq: the event that the row is from */
  stream_epoch: bigint('stream_epoch', { mode: 'bigint' }).notNull(),
  stream_seq: bigint('stream_seq', { mode: 'number' }).notNull(),
  /** webhook, backfill, …; stub: made by ensure_user or ensure_organization, before its event */
  source: text('source').notNull(),
  /** by which the newer of two contents is known */
  version: bytea('version').notNull(),
}).existing();

/** plans within a subscription */
export const subscriptionItems = schema.table('subscription_items', {
  /** Clerk's id, csub_item_… */
  id: text('id').notNull().primaryKey(),
  subscription_id: text('subscription_id'),
  /** who pays, if a user */
  user_id: text('user_id'),
  /** who pays, if an organization */
  organization_id: text('organization_id'),
  /** active, upcoming, past_due, canceled, ended, abandoned, expired, incomplete */
  status: text('status'),
  is_free_trial: boolean('is_free_trial'),
  plan_id: text('plan_id'),
  /** amounts in the currency's smallest unit */
  plan: jsonb('plan'),
  /** month or annual */
  interval: text('interval'),
  period_start: timestamp('period_start', { withTimezone: true }),
  /** null: without end */
  period_end: timestamp('period_end', { withTimezone: true }),
  /** quantity; null in it: no limit */
  seats: jsonb('seats'),
  created_at: timestamp('created_at', { withTimezone: true }),
  updated_at: timestamp('updated_at', { withTimezone: true }),
  /** null while it lives */
  deleted_at: timestamp('deleted_at', { withTimezone: true }),
  /** Clerk's instance */
  instance_id: text('instance_id').notNull(),
  /** when Rollcall wrote the row */
  synced_at: timestamp('synced_at', { withTimezone: true }).notNull(),
  /** with stream_seq: the event that the row is from */
  stream_epoch: bigint('stream_epoch', { mode: 'bigint' }).notNull(),
  stream_seq: bigint('stream_seq', { mode: 'number' }).notNull(),
  /** webhook, backfill, …; stub: made by ensure_user or ensure_organization, before its event */
  source: text('source').notNull(),
  /** by which the newer of two contents is known */
  version: bytea('version').notNull(),
});

/** plans within a subscription, without the deleted */
export const subscriptionItemsLive = schema.view('subscription_items_live', {
  /** Clerk's id, csub_item_… */
  id: text('id').notNull(),
  subscription_id: text('subscription_id'),
  /** who pays, if a user */
  user_id: text('user_id'),
  /** who pays, if an organization */
  organization_id: text('organization_id'),
  /** active, upcoming, past_due, canceled, ended, abandoned, expired, incomplete */
  status: text('status'),
  is_free_trial: boolean('is_free_trial'),
  plan_id: text('plan_id'),
  /** amounts in the currency's smallest unit */
  plan: jsonb('plan'),
  /** month or annual */
  interval: text('interval'),
  period_start: timestamp('period_start', { withTimezone: true }),
  /** null: without end */
  period_end: timestamp('period_end', { withTimezone: true }),
  /** quantity; null in it: no limit */
  seats: jsonb('seats'),
  created_at: timestamp('created_at', { withTimezone: true }),
  updated_at: timestamp('updated_at', { withTimezone: true }),
  /** null while it lives */
  deleted_at: timestamp('deleted_at', { withTimezone: true }),
  /** Clerk's instance */
  instance_id: text('instance_id').notNull(),
  /** when Rollcall wrote the row */
  synced_at: timestamp('synced_at', { withTimezone: true }).notNull(),
  /** with stream_seq: the event that the row is from */
  stream_epoch: bigint('stream_epoch', { mode: 'bigint' }).notNull(),
  stream_seq: bigint('stream_seq', { mode: 'number' }).notNull(),
  /** webhook, backfill, …; stub: made by ensure_user or ensure_organization, before its event */
  source: text('source').notNull(),
  /** by which the newer of two contents is known */
  version: bytea('version').notNull(),
}).existing();

/** payments that were tried */
export const paymentAttempts = schema.table('payment_attempts', {
  /** Clerk's id */
  id: text('id').notNull().primaryKey(),
  /** who pays, if a user */
  user_id: text('user_id'),
  /** who pays, if an organization */
  organization_id: text('organization_id'),
  payment_id: text('payment_id'),
  invoice_id: text('invoice_id'),
  statement_id: text('statement_id'),
  /** the payment gateway's id */
  gateway_external_id: text('gateway_external_id'),
  /** pending, paid, failed */
  status: text('status'),
  /** checkout or recurring */
  charge_type: text('charge_type'),
  billing_date: timestamp('billing_date', { withTimezone: true }),
  paid_at: timestamp('paid_at', { withTimezone: true }),
  failed_at: timestamp('failed_at', { withTimezone: true }),
  failed_reason: jsonb('failed_reason'),
  /** amounts in the currency's smallest unit */
  totals: jsonb('totals'),
  /** your account with the payment gateway */
  payee: jsonb('payee'),
  /** the card's kind and last digits */
  payment_source: jsonb('payment_source'),
  /** as they were when this was charged */
  subscription_items: jsonb('subscription_items'),
  created_at: timestamp('created_at', { withTimezone: true }),
  updated_at: timestamp('updated_at', { withTimezone: true }),
  /** null while it lives */
  deleted_at: timestamp('deleted_at', { withTimezone: true }),
  /** Clerk's instance */
  instance_id: text('instance_id').notNull(),
  /** when Rollcall wrote the row */
  synced_at: timestamp('synced_at', { withTimezone: true }).notNull(),
  /** with stream_seq: the event that the row is from */
  stream_epoch: bigint('stream_epoch', { mode: 'bigint' }).notNull(),
  stream_seq: bigint('stream_seq', { mode: 'number' }).notNull(),
  /** webhook, backfill, …; stub: made by ensure_user or ensure_organization, before its event */
  source: text('source').notNull(),
  /** by which the newer of two contents is known */
  version: bytea('version').notNull(),
});

/** payments that were tried, without the deleted */
export const paymentAttemptsLive = schema.view('payment_attempts_live', {
  /** Clerk's id */
  id: text('id').notNull(),
  /** who pays, if a user */
  user_id: text('user_id'),
  /** who pays, if an organization */
  organization_id: text('organization_id'),
  payment_id: text('payment_id'),
  invoice_id: text('invoice_id'),
  statement_id: text('statement_id'),
  /** the payment gateway's id */
  gateway_external_id: text('gateway_external_id'),
  /** pending, paid, failed */
  status: text('status'),
  /** checkout or recurring */
  charge_type: text('charge_type'),
  billing_date: timestamp('billing_date', { withTimezone: true }),
  paid_at: timestamp('paid_at', { withTimezone: true }),
  failed_at: timestamp('failed_at', { withTimezone: true }),
  failed_reason: jsonb('failed_reason'),
  /** amounts in the currency's smallest unit */
  totals: jsonb('totals'),
  /** your account with the payment gateway */
  payee: jsonb('payee'),
  /** the card's kind and last digits */
  payment_source: jsonb('payment_source'),
  /** as they were when this was charged */
  subscription_items: jsonb('subscription_items'),
  created_at: timestamp('created_at', { withTimezone: true }),
  updated_at: timestamp('updated_at', { withTimezone: true }),
  /** null while it lives */
  deleted_at: timestamp('deleted_at', { withTimezone: true }),
  /** Clerk's instance */
  instance_id: text('instance_id').notNull(),
  /** when Rollcall wrote the row */
  synced_at: timestamp('synced_at', { withTimezone: true }).notNull(),
  /** with stream_seq: the event that the row is from */
  stream_epoch: bigint('stream_epoch', { mode: 'bigint' }).notNull(),
  stream_seq: bigint('stream_seq', { mode: 'number' }).notNull(),
  /** webhook, backfill, …; stub: made by ensure_user or ensure_organization, before its event */
  source: text('source').notNull(),
  /** by which the newer of two contents is known */
  version: bytea('version').notNull(),
}).existing();

/** which role has which permission */
export const rolePermissions = schema.view('role_permissions', {
  role_id: text('role_id').notNull(),
  permission_id: text('permission_id').notNull(),
  permission_key: text('permission_key'),
  permission_name: text('permission_name'),
  permission_type: text('permission_type'),
  /** null while it lives */
  deleted_at: timestamp('deleted_at', { withTimezone: true }),
  /** Clerk's instance */
  instance_id: text('instance_id').notNull(),
  /** when Rollcall wrote the row */
  synced_at: timestamp('synced_at', { withTimezone: true }).notNull(),
  /** with stream_seq: the event that the row is from */
  stream_epoch: bigint('stream_epoch', { mode: 'bigint' }).notNull(),
  stream_seq: bigint('stream_seq', { mode: 'number' }).notNull(),
  /** webhook, backfill, …; stub: made by ensure_user or ensure_organization, before its event */
  source: text('source').notNull(),
}).existing();

/** which role has which permission, without the deleted */
export const rolePermissionsLive = schema.view('role_permissions_live', {
  role_id: text('role_id').notNull(),
  permission_id: text('permission_id').notNull(),
  permission_key: text('permission_key'),
  permission_name: text('permission_name'),
  permission_type: text('permission_type'),
  /** null while it lives */
  deleted_at: timestamp('deleted_at', { withTimezone: true }),
  /** Clerk's instance */
  instance_id: text('instance_id').notNull(),
  /** when Rollcall wrote the row */
  synced_at: timestamp('synced_at', { withTimezone: true }).notNull(),
  /** with stream_seq: the event that the row is from */
  stream_epoch: bigint('stream_epoch', { mode: 'bigint' }).notNull(),
  stream_seq: bigint('stream_seq', { mode: 'number' }).notNull(),
  /** webhook, backfill, …; stub: made by ensure_user or ensure_organization, before its event */
  source: text('source').notNull(),
}).existing();

/** what members may do */
export const memberPermissions = schema.view('member_permissions', {
  membership_id: text('membership_id').notNull(),
  organization_id: text('organization_id'),
  user_id: text('user_id'),
  permission: text('permission').notNull(),
  system: boolean('system').notNull(),
  /** webhook, backfill, …; stub: made by ensure_user or ensure_organization, before its event */
  source: text('source').notNull(),
}).existing();

/** who signs in through which SSO connection */
export const userEnterpriseAccounts = schema.view('user_enterprise_accounts', {
  user_id: text('user_id').notNull(),
  account_id: text('account_id'),
  protocol: text('protocol'),
  provider: text('provider'),
  connection_id: text('connection_id'),
  connection_name: text('connection_name'),
  active: boolean('active'),
  connection_active: boolean('connection_active'),
  provider_user_id: text('provider_user_id'),
  email_address: text('email_address'),
  domain: text('domain'),
  domains: text('domains').array(),
  last_authenticated_at: timestamp('last_authenticated_at', { withTimezone: true }),
  deprovisioned: boolean('deprovisioned'),
  listed_in: text('listed_in').notNull(),
  /** Clerk's instance */
  instance_id: text('instance_id').notNull(),
}).existing();

/** what was deleted, for ever */
export const tombstones = schema.table('tombstones', {
  resource: text('resource').notNull(),
  id: text('id').notNull(),
  /** null while it lives */
  deleted_at: timestamp('deleted_at', { withTimezone: true }).notNull(),
  /** Clerk's instance */
  instance_id: text('instance_id').notNull(),
  /** webhook, backfill, …; stub: made by ensure_user or ensure_organization, before its event */
  source: text('source').notNull(),
  /** with stream_seq: the event that the row is from */
  stream_epoch: bigint('stream_epoch', { mode: 'bigint' }).notNull(),
  stream_seq: bigint('stream_seq', { mode: 'number' }).notNull(),
  /** when Rollcall wrote the row */
  synced_at: timestamp('synced_at', { withTimezone: true }).notNull(),
  /** by which the newer of two contents is known */
  version: bytea('version'),
}, (t) => [primaryKey({ columns: [t.resource, t.id] })]);

/** how far the store has come; one row */
export const syncStatus = schema.table('sync_status', {
  store: text('store').notNull().primaryKey(),
  epoch: bigint('epoch', { mode: 'bigint' }).notNull(),
  position: bigint('position', { mode: 'number' }).notNull(),
  position_time: timestamp('position_time', { withTimezone: true }),
  lag: bigint('lag', { mode: 'number' }).notNull(),
  complete_since: timestamp('complete_since', { withTimezone: true }),
  dead_letters: bigint('dead_letters', { mode: 'number' }).notNull(),
  updated_at: timestamp('updated_at', { withTimezone: true }).notNull(),
  incomplete: text('incomplete').array().notNull(),
  fill_position: bigint('fill_position', { mode: 'number' }).notNull(),
  fill_to: bigint('fill_to', { mode: 'number' }).notNull(),
  reconciled: jsonb('reconciled').notNull(),
});
