-- The contract's tables, with one row each that is as testdata/state.json says.
-- What the contract leaves open is named as Clerk names it.

create schema clerk;

create table clerk.users (id text primary key, external_id text, username text, first_name text, last_name text, name text, email text,
    email_verified boolean, phone text, image_url text, banned boolean, locked boolean, two_factor_enabled boolean, password_enabled boolean,
    last_sign_in_at timestamptz, last_active_at timestamptz, email_addresses jsonb, phone_numbers jsonb, external_accounts jsonb,
    enterprise_accounts jsonb, public_metadata jsonb, unsafe_metadata jsonb, private_metadata jsonb, created_at timestamptz, updated_at timestamptz,
    version bytea, deleted_at timestamptz, instance_id text, synced_at timestamptz, stream_epoch bigint, stream_seq bigint, source text);
insert into clerk.users (id, external_id, username, first_name, last_name, name, email, email_verified, phone, image_url, banned, locked,
    two_factor_enabled, password_enabled, last_sign_in_at, email_addresses, phone_numbers, external_accounts, enterprise_accounts,
    public_metadata, unsafe_metadata, private_metadata, created_at, updated_at, instance_id, source) values
    ('user_1', 'e-1', 'ann', 'Änn', 'O"Lee\', 'Änn O"Lee\', 'ann@a.example', true, '+4930123', 'https://img.example/1', false, false, true, false,
    '2020-01-01T00:00:00Z',
    '[{"id":"idn_0","email_address":"old@a.example","verification":null},{"id":"idn_1","email_address":"ann@a.example","verification":{"status":"verified","expire_at":null}}]',
    '[{"id":"idn_2","phone_number":"+4930123"}]', '[]', '[{"protocol":"saml"}]',
    '{"a":{"y":[1,2],"x":9007199254740993123},"n":1000,"odd":"\ufffd\ufffd","\ufffd":0.5}', '{}', '{"secret":true}',
    '2023-11-14T22:13:20.001Z', '2023-11-14T22:13:21Z', 'ins_1', 'webhook');
insert into clerk.users (id, email_addresses, phone_numbers, external_accounts, instance_id, created_at, updated_at, source) values
    ('user_2', '[]', '[]', '[]', 'ins_1', '2023-11-14T22:13:20Z', '2023-11-14T22:13:20Z', 'webhook');

create table clerk.organizations (id text primary key, name text, slug text, image_url text, created_by text, members_count bigint,
    pending_invitations_count bigint, max_allowed_memberships bigint, admin_delete_enabled boolean, public_metadata jsonb, private_metadata jsonb,
    created_at timestamptz, updated_at timestamptz, deleted_at timestamptz, instance_id text, source text);
insert into clerk.organizations values ('org_1', 'Acme', 'acme', 'https://img.example/o', 'user_1', 7, 7, 5, true, '{}', null,
    '2023-11-14T22:13:20Z', '2023-11-14T22:13:20Z', null, 'ins_1', 'webhook');

create table clerk.organization_memberships (id text primary key, organization_id text, user_id text, role text, role_name text, permissions text[],
    public_metadata jsonb, private_metadata jsonb, created_at timestamptz, updated_at timestamptz, deleted_at timestamptz, instance_id text, source text);
insert into clerk.organization_memberships values ('orgmem_1', 'org_1', 'user_1', 'org:admin', 'Admin', '{org:posts:read,"org:a \"b\":c"}',
    '{"k":1}', '{}', '2023-11-14T22:13:20Z', '2023-11-14T22:13:20Z', null, 'ins_1', 'webhook');

create table clerk.organization_invitations (id text primary key, organization_id text, email_address text, role text, role_name text, status text,
    url text, expires_at timestamptz, public_metadata jsonb, created_at timestamptz, updated_at timestamptz, deleted_at timestamptz, instance_id text, source text);
insert into clerk.organization_invitations values ('orginv_1', 'org_1', 'bob@a.example', 'org:member', 'Member', 'pending', 'https://a.example/i',
    '2023-11-14T22:13:20Z', '{}', '2023-11-14T22:13:20Z', '2023-11-14T22:13:20Z', null, 'ins_1', 'webhook');

create table clerk.organization_domains (id text primary key, organization_id text, name text, enrollment_mode text, affiliation_email_address text,
    verification jsonb, total_pending_invitations int, created_at timestamptz, updated_at timestamptz, deleted_at timestamptz, instance_id text, source text);
insert into clerk.organization_domains values ('orgdmn_1', 'org_1', 'a.example', 'manual_invitation', 'x@a.example', '{"status":"verified"}', 9,
    '2023-11-14T22:13:20Z', '2023-11-14T22:13:20Z', null, 'ins_1', 'webhook');

create table clerk.roles (id text primary key, key text, name text, description text, is_creator_eligible boolean,
    created_at timestamptz, updated_at timestamptz, deleted_at timestamptz, instance_id text, source text);
insert into clerk.roles values ('role_1', 'org:admin', 'Admin', 'All', true, '2023-11-14T22:13:20Z', '2023-11-14T22:13:20Z', null, 'ins_1', 'webhook');

create table clerk.permissions (id text primary key, key text, name text, description text, type text,
    created_at timestamptz, updated_at timestamptz, deleted_at timestamptz, instance_id text, source text);
insert into clerk.permissions values ('perm_1', 'org:posts:read', 'Read', 'Reads', 'user', '2023-11-14T22:13:20Z', '2023-11-14T22:13:20Z', null, 'ins_1', 'webhook');

create table clerk.sessions (id text primary key, user_id text, client_id text, status text, actor jsonb, last_active_organization_id text,
    last_active_at timestamptz, latest_activity jsonb, expire_at timestamptz, abandon_at timestamptz,
    created_at timestamptz, updated_at timestamptz, deleted_at timestamptz, instance_id text, source text);
insert into clerk.sessions values ('sess_1', 'user_1', 'client_1', 'active', '{"sub":"user_2"}', 'org_1', now(), '{}', '2023-11-14T22:13:20Z',
    '2023-11-14T22:13:20Z', '2023-11-14T22:13:20Z', '2023-11-14T22:13:20Z', null, 'ins_1', 'webhook');

create table clerk.subscriptions (id text primary key, status text, payer_id text, user_id text, organization_id text, active_at timestamptz,
    past_due_at timestamptz, canceled_at timestamptz, ended_at timestamptz,
    created_at timestamptz, updated_at timestamptz, deleted_at timestamptz, instance_id text, source text);
insert into clerk.subscriptions values ('csub_1', 'active', 'cpayer_1', 'user_1', null, '2023-11-14T22:13:20Z', null, null, null,
    '2023-11-14T22:13:20Z', '2023-11-14T22:13:20Z', null, 'ins_1', 'webhook');

create table clerk.subscription_items (id text primary key, subscription_id text, status text, interval text, plan_id text, plan jsonb, is_free_trial boolean,
    period_start timestamptz, period_end timestamptz, created_at timestamptz, updated_at timestamptz, deleted_at timestamptz, instance_id text, source text);
insert into clerk.subscription_items values ('csub_item_1', 'csub_1', 'active', 'month', 'cplan_1', '{"amount":2000}', false, '2023-11-14T22:13:20Z', null,
    '2023-11-14T22:13:20Z', '2023-11-14T22:13:20Z', null, 'ins_1', 'webhook');

create table clerk.payment_attempts (id text primary key, payment_id text, statement_id text, status text, charge_type text, failed_reason jsonb,
    billing_date timestamptz, paid_at timestamptz, failed_at timestamptz,
    created_at timestamptz, updated_at timestamptz, deleted_at timestamptz, instance_id text, source text);
insert into clerk.payment_attempts values ('pa_1', 'cpa_1', 'stmt_1', 'pending', 'recurring', null, '2023-11-14T22:13:20Z', null, null,
    '2023-11-14T22:13:20Z', '2023-11-14T22:13:20Z', null, 'ins_1', 'webhook');

create table clerk.waitlist_entries (id text primary key, email_address text, status text, is_locked boolean,
    created_at timestamptz, updated_at timestamptz, deleted_at timestamptz, instance_id text, source text);
insert into clerk.waitlist_entries values ('wle_1', 'w@a.example', 'pending', false, '2023-11-14T22:13:20Z', '2023-11-14T22:13:20Z', null, 'ins_1', 'webhook');
