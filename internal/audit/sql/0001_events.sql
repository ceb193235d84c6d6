-- The audit log. {schema} is replaced. deploy/docs/audit.md describes the chain.

create table {schema}.events (
    seq             bigint      not null, -- from 1, without gaps: the chain's order
    event_id        text        collate "C" not null,
    instance_id     text        not null,
    type            text        collate "C" not null,
    resource        text        not null,
    entity_id       text        collate "C" not null,
    actor_id        text        collate "C",
    organization_id text        collate "C",
    occurred_at     timestamptz,
    received_at     timestamptz not null,
    client_ip       text        collate "C",
    user_agent      text,
    changed         json,
    payload         bytea,
    svix_timestamp  text,
    svix_signature  text,
    source          text        not null,
    stream_epoch    bigint      not null,
    stream_seq      bigint      not null,
    redriven        boolean     not null,
    salts           bytea[]     not null,
    digests         bytea[]     not null,
    prev_hash       bytea       not null,
    hash            bytea       not null,
    primary key (seq, received_at)
) partition by range (received_at);
comment on table {schema}.events is 'every event once, in stream order, chained by hash; rows are only appended';
comment on column {schema}.events.event_id is 'the svix-id; of Rollcall''s own events the message id';
comment on column {schema}.events.actor_id is 'who did it, where the event says so: who impersonates, invites or creates';
comment on column {schema}.events.occurred_at is 'Clerk''s clock';
comment on column {schema}.events.received_at is 'when it reached ingest; the month is the partition';
comment on column {schema}.events.changed is 'fields that differ from the entity''s previous event: {"field": {"before", "after"}}, or {"secret": true}';
comment on column {schema}.events.payload is 'the body as received';
comment on column {schema}.events.svix_signature is 'null where the body was redacted before it was stored: it wouldn''t hold';
comment on column {schema}.events.salts is 'of actor_id, client_ip, user_agent, changed, payload; null where the value is, or was redacted';
comment on column {schema}.events.digests is 'SHA-256 over salt and value of the same; null where there never was a value';

create index events_entity on {schema}.events (entity_id, received_at, seq); -- in the partitions' order: the newest is found without looking into all
create index events_organization on {schema}.events (organization_id, seq) where organization_id is not null;
create index events_actor on {schema}.events (actor_id, seq) where actor_id is not null;
create index events_type on {schema}.events (type, seq);
create index events_client_ip on {schema}.events (client_ip, seq) where client_ip is not null;
create index events_received on {schema}.events using brin (received_at);

-- Not partitioned: an id is one over month's ends, and outlives its row's prune.
create table {schema}.event_ids (
    event_id    text        collate "C" primary key,
    received_at timestamptz not null
);
comment on table {schema}.event_ids is 'which events are in the log, kept 100 days at least, and longer than their rows';

create table {schema}.entities (
    resource    text        not null,
    entity_id   text        collate "C" not null,
    user_id     text        collate "C" not null,
    primary key (entity_id, resource)
);
create index entities_user on {schema}.entities (user_id);
comment on table {schema}.entities is 'derived from events: whose sessions, memberships and the like are whose';

create table {schema}.sync_status (
    store          text        primary key default 'audit',
    epoch          bigint      not null default 0, -- the stream's creation time, nanoseconds since 1970
    position       bigint      not null default 0, -- sequence of the last event applied
    position_time  timestamptz,                    -- when that event was stored
    lag            bigint      not null default 0, -- events behind the position, when it was written
    complete_since timestamptz,                    -- since when all that the log held is here; null while filling
    dead_letters   bigint      not null default 0,
    updated_at     timestamptz not null default now(),
    seq            bigint      not null default 0, -- the last row's
    hash           bytea       not null default decode(repeat('00', 32), 'hex')
);
comment on table {schema}.sync_status is 'how far the audit log has come; one row';
insert into {schema}.sync_status default values;

create table {schema}.prunes (
    id          bigint      generated always as identity primary key,
    before      timestamptz not null, -- what was received before is gone
    last_seq    bigint      not null, -- all rows up to this one are gone
    last_hash   bytea       not null, -- that row's
    pruned_at   timestamptz not null default now()
);
comment on table {schema}.prunes is 'where the chain begins after a prune';

create table {schema}.pruned (
    seq  bigint primary key,
    hash bytea  not null
);
comment on table {schema}.pruned is 'rows that a prune took from between rows that stay: events received in one month and stored in the next';

create table {schema}.redactions (
    seq         bigint      not null,
    columns     text[]      not null,
    reason      text        not null,
    redacted_at timestamptz not null default now()
);
create index redactions_seq on {schema}.redactions (seq);
comment on table {schema}.redactions is 'which values were taken out of which rows';

-- refuse keeps rows as they are. A redaction may take personal values away,
-- with their salts, and nothing else.
create function {schema}.refuse() returns trigger
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    if tg_op = 'UPDATE' and current_setting('rollcall_audit.redacting', true) = 'on' then
        if (new.seq, new.event_id, new.instance_id, new.type, new.resource, new.entity_id, new.organization_id, new.occurred_at, new.received_at,
            new.svix_timestamp, new.svix_signature, new.source, new.stream_epoch, new.stream_seq, new.redriven, new.digests, new.prev_hash, new.hash)
           is not distinct from
           (old.seq, old.event_id, old.instance_id, old.type, old.resource, old.entity_id, old.organization_id, old.occurred_at, old.received_at,
            old.svix_timestamp, old.svix_signature, old.source, old.stream_epoch, old.stream_seq, old.redriven, old.digests, old.prev_hash, old.hash)
           and (new.actor_id is null or new.actor_id = old.actor_id)
           and (new.client_ip is null or new.client_ip = old.client_ip)
           and (new.user_agent is null or new.user_agent = old.user_agent)
           and (new.changed is null or new.changed::text = old.changed::text)
           and (new.payload is null or new.payload = old.payload)
           and not exists (select from unnest(new.salts, old.salts) as s(new, old) where s.new is not null and s.new is distinct from s.old)
        then
            return new;
        end if;
    end if;
    raise exception 'the audit log takes no %: rows are only appended', tg_op using errcode = 'RC403';
end
$$;
comment on function {schema}.refuse() is 'keeps rows as they are';

create trigger append_only before update or delete on {schema}.events for each row execute function {schema}.refuse();
create trigger append_only_truncate before truncate on {schema}.events for each statement execute function {schema}.refuse();

-- make_partition makes the partition of a month. Attached rather than made in
-- place, so that readers of the others don't have to leave.
create function {schema}.make_partition(at timestamptz) returns void
    language plpgsql security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    month timestamp := date_trunc('month', at at time zone 'UTC');
    name text := 'events_' || to_char(month, 'YYYY_MM');
begin
    if to_regclass(format('{schema}.%I', name)) is not null then
        return;
    end if;
    execute format('create table {schema}.%I (like {schema}.events including defaults including storage including compression)', name);
    execute format('create trigger append_only_truncate before truncate on {schema}.%I for each statement execute function {schema}.refuse()', name);
    execute format('alter table {schema}.events attach partition {schema}.%I for values from (%L) to (%L)',
        name, month at time zone 'UTC', (month + interval '1 month') at time zone 'UTC');
end
$$;
comment on function {schema}.make_partition(timestamptz) is 'the writer''s: makes the partition of a month, if need be';

-- redact takes values out of rows, for good. The digests stay, so the chain holds.
create function {schema}.redact(seqs bigint[], columns text[], reason text) returns bigint
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    n bigint;
begin
    perform set_config('rollcall_audit.redacting', 'on', true);
    insert into {schema}.redactions (seq, columns, reason) select s, redact.columns, redact.reason from unnest(seqs) as s;
    update {schema}.events as e set
        actor_id   = case when 'actor_id'   = any (redact.columns) then null else e.actor_id end,
        client_ip  = case when 'client_ip'  = any (redact.columns) then null else e.client_ip end,
        user_agent = case when 'user_agent' = any (redact.columns) then null else e.user_agent end,
        changed    = case when 'changed'    = any (redact.columns) then null else e.changed end,
        payload    = case when 'payload'    = any (redact.columns) then null else e.payload end,
        salts = array[
            case when 'actor_id'   = any (redact.columns) then null else e.salts[1] end,
            case when 'client_ip'  = any (redact.columns) then null else e.salts[2] end,
            case when 'user_agent' = any (redact.columns) then null else e.salts[3] end,
            case when 'changed'    = any (redact.columns) then null else e.salts[4] end,
            case when 'payload'    = any (redact.columns) then null else e.salts[5] end]
    where e.seq = any (seqs);
    get diagnostics n = row_count;
    perform set_config('rollcall_audit.redacting', 'off', true);
    return n;
end
$$;
comment on function {schema}.redact(bigint[], text[], text) is 'takes personal values out of rows; the chain holds';

revoke all on function {schema}.refuse(), {schema}.make_partition(timestamptz), {schema}.redact(bigint[], text[], text) from public;
