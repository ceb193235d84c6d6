-- The schema as the release before made it, store app.
create schema "clerk";
create table "clerk".schema_version (version int not null, needs int not null, applied_at timestamptz not null default now());
comment on table "clerk".schema_version is 'one row; needs is the oldest release''s version that can still run on this schema';
insert into "clerk".schema_version (version, needs) values (0, 0);
-- What a store remembers beside its rows. "clerk" is replaced.

create table "clerk".tombstones (
    resource     text        not null,
    id           text        not null,
    deleted_at   timestamptz not null, -- the earliest that any event said
    instance_id  text        not null default '',
    source       text        not null,
    stream_epoch bigint      not null,
    stream_seq   bigint      not null,
    synced_at    timestamptz not null default now(),
    primary key (resource, id)
);
comment on table "clerk".tombstones is 'what was deleted, for ever: a late event brings nothing back';

create table "clerk".sync_status (
    store          text        primary key,
    epoch          bigint      not null default 0, -- the stream's creation time, nanoseconds since 1970
    position       bigint      not null default 0, -- sequence of the last event applied
    position_time  timestamptz,                    -- when that event was stored
    lag            bigint      not null default 0, -- events behind the position, when it was written
    complete_since timestamptz,                    -- since when all that the log held is applied; null while filling
    dead_letters   bigint      not null default 0,
    updated_at     timestamptz not null default now()
);
comment on table "clerk".sync_status is 'how far the store has come; one row';
;
update "clerk".schema_version set version = 1, applied_at = now();
create table "clerk".users (
    id text primary key,
    external_id text,
    username text,
    first_name text,
    last_name text,
    name text,
    email text,
    email_verified boolean,
    phone text,
    image_url text,
    banned boolean,
    locked boolean,
    two_factor_enabled boolean,
    password_enabled boolean,
    last_sign_in_at timestamptz,
    last_active_at timestamptz,
    email_addresses jsonb,
    phone_numbers jsonb,
    external_accounts jsonb,
    enterprise_accounts jsonb,
    public_metadata jsonb,
    unsafe_metadata jsonb,
    created_at timestamptz,
    updated_at timestamptz,
    deleted_at timestamptz,
    instance_id text not null,
    synced_at timestamptz not null,
    stream_epoch bigint not null,
    stream_seq bigint not null,
    source text not null,
    version bytea not null
);
create index users_external_id on "clerk".users (external_id) where external_id is not null;
create index users_email on "clerk".users (email) where email is not null;
create or replace view "clerk".users_live with (security_invoker = true) as select t.* from "clerk".users t where t.deleted_at is null;
create table "clerk".organizations (
    id text primary key,
    name text,
    slug text,
    image_url text,
    created_by text,
    members_count bigint,
    pending_invitations_count bigint,
    max_allowed_memberships bigint,
    admin_delete_enabled boolean,
    public_metadata jsonb,
    created_at timestamptz,
    updated_at timestamptz,
    deleted_at timestamptz,
    instance_id text not null,
    synced_at timestamptz not null,
    stream_epoch bigint not null,
    stream_seq bigint not null,
    source text not null,
    version bytea not null
);
create index organizations_slug on "clerk".organizations (slug) where slug is not null;
create or replace view "clerk".organizations_live with (security_invoker = true) as select t.* from "clerk".organizations t where t.deleted_at is null;
create table "clerk".organization_memberships (
    id text primary key,
    organization_id text,
    user_id text,
    role text,
    role_name text,
    permissions text[],
    public_metadata jsonb,
    created_at timestamptz,
    updated_at timestamptz,
    deleted_at timestamptz,
    instance_id text not null,
    synced_at timestamptz not null,
    stream_epoch bigint not null,
    stream_seq bigint not null,
    source text not null,
    version bytea not null
);
create index organization_memberships_organization_id on "clerk".organization_memberships (organization_id) where organization_id is not null;
create index organization_memberships_user_id on "clerk".organization_memberships (user_id) where user_id is not null;
create or replace view "clerk".organization_memberships_live with (security_invoker = true) as select t.* from "clerk".organization_memberships t where t.deleted_at is null;
insert into "clerk".sync_status (store) values ('app') on conflict do nothing;
