-- What a store remembers beside its rows. {schema} is replaced.

create table {schema}.tombstones (
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
comment on table {schema}.tombstones is 'what was deleted, for ever: a late event brings nothing back';

create table {schema}.sync_status (
    store          text        primary key,
    epoch          bigint      not null default 0, -- the stream's creation time, nanoseconds since 1970
    position       bigint      not null default 0, -- sequence of the last event applied
    position_time  timestamptz,                    -- when that event was stored
    lag            bigint      not null default 0, -- events behind the position, when it was written
    complete_since timestamptz,                    -- since when all that the log held is applied; null while filling
    dead_letters   bigint      not null default 0,
    updated_at     timestamptz not null default now()
);
comment on table {schema}.sync_status is 'how far the store has come; one row';
