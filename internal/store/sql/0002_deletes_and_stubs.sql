-- Deletes that take rows away, and rows before their event. {schema} is replaced.

alter table {schema}.tombstones add column version bytea;
comment on column {schema}.tombstones.version is
    'of a row that went with its parent (on_delete: hard): content up to this version went with it; null: the entity itself was deleted';

alter table {schema}.sync_status add column incomplete text[] not null default '{}';
comment on column {schema}.sync_status.incomplete is
    'tables and columns that came when events had been applied already; a rebuild fills them';

-- sweep removes the rows of a table that this transaction marked as deleted,
-- and returns how many it couldn't: those that a foreign key holds, or another
-- transaction, stay as tombstones. A batch must not fail for them.
create function {schema}.sweep(resource text) returns bigint
    language plpgsql
    set search_path = pg_catalog, pg_temp
    set lock_timeout = '1s'
as $$
declare
    held bigint := 0;
    marked text[];
    one text;
begin
    execute format($q$insert into {schema}.tombstones as t (resource, id, deleted_at, instance_id, source, stream_epoch, stream_seq, version)
        select $1, id, deleted_at, instance_id, source, stream_epoch, stream_seq, version from {schema}.%I
        where deleted_at is not null and synced_at = now() order by id
        on conflict (resource, id) do update set deleted_at = excluded.deleted_at, version = excluded.version
        where t.version < excluded.version$q$, resource) using resource;
    -- A foreign key that is deferred would fail the commit instead.
    set constraints all immediate;
    begin
        execute format('delete from {schema}.%I where id in (select id from {schema}.%1$I where deleted_at is not null and synced_at = now() for update skip locked)', resource);
    exception when others then
        if left(sqlstate, 2) in ('40', '53', '57', '58', 'XX') then raise; end if; -- the server's trouble, not the row's
    end;
    execute format('select array_agg(id) from {schema}.%I where deleted_at is not null and synced_at = now()', resource) into marked;
    foreach one in array coalesce(marked, '{}') loop
        begin
            execute format('delete from {schema}.%I where id in (select id from {schema}.%1$I where id = $1 for update skip locked)', resource) using one;
        exception when others then
            if left(sqlstate, 2) in ('40', '53', '57', '58', 'XX') then raise; end if;
        end;
    end loop;
    execute format('select count(*) from {schema}.%I where deleted_at is not null and synced_at = now()', resource) into held;
    return held;
end
$$;
comment on function {schema}.sweep(text) is 'the writer''s: takes deleted rows away where on_delete is hard';

-- ensure makes a row of the lowest version, which any event replaces. It takes
-- no writer lock: the service's transaction may be a long one. A deletion in
-- flight has written the row itself before it looks for anything else, so one of
-- the two waits for the other.
create function {schema}.ensure(resource text, id text) returns text
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    gone timestamptz;
    found_row boolean := false;
begin
    if id is null or id = '' then
        raise exception 'an id is needed' using errcode = '22023';
    end if;
    while not found_row loop
        execute format($q$insert into {schema}.%I (id, instance_id, synced_at, stream_epoch, stream_seq, source, version)
            values ($1, '', now(), 0, 0, 'stub', '') on conflict (id) do nothing$q$, resource) using id;
        -- Held until the caller's transaction ends, so that its foreign key finds the row.
        execute format('select true, deleted_at from {schema}.%I where id = $1 for key share', resource) into found_row, gone using id;
        found_row := coalesce(found_row, false); -- deleted between the two
    end loop;
    if gone is null then
        select t.deleted_at into gone from {schema}.tombstones t where t.resource = ensure.resource and t.id = ensure.id;
    end if;
    if gone is null and current_setting('transaction_isolation') in ('repeatable read', 'serializable') then
        -- The snapshot may be older than a deletion; a unique index isn't.
        begin
            insert into {schema}.tombstones (resource, id, deleted_at, source, stream_epoch, stream_seq) values (ensure.resource, ensure.id, now(), 'stub', 0, 0);
            raise exception 'undone' using errcode = 'RC000';
        exception
            when sqlstate 'RC000' then null;
            when unique_violation then gone := now();
        end;
    end if;
    if gone is not null then
        raise exception '% % was deleted', resource, id using errcode = 'RC410', hint = 'Clerk never uses an id again.';
    end if;
    return id;
end
$$;
comment on function {schema}.ensure(text, text) is 'see ensure_user and ensure_organization';

create function {schema}.ensure_user(id text) returns text
    language sql security definer
    set search_path = pg_catalog, pg_temp
as $$ select {schema}.ensure('users', id) $$;
comment on function {schema}.ensure_user(text) is
    'makes a user''s row for a foreign key to hold, before the webhook lands, and returns the id; SQLSTATE RC410 where the user was deleted';

create function {schema}.ensure_organization(id text) returns text
    language sql security definer
    set search_path = pg_catalog, pg_temp
as $$ select {schema}.ensure('organizations', id) $$;
comment on function {schema}.ensure_organization(text) is
    'makes an organization''s row for a foreign key to hold, before the webhook lands, and returns the id; SQLSTATE RC410 where it was deleted';
