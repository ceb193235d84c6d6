-- Tenancy: for whom a transaction acts, and policies that hold it to that.
-- {schema} is replaced; the settings are called clerk.… whatever the schema is.
-- A pooled connection keeps an empty string where a setting was: it counts as none.

create function {schema}.user_id() returns text
    language sql stable parallel safe
    return nullif(pg_catalog.current_setting('clerk.user_id', true), '');
comment on function {schema}.user_id() is 'the user for whom this transaction acts; null: none';

create function {schema}.organization_id() returns text
    language sql stable parallel safe
    return nullif(pg_catalog.current_setting('clerk.organization_id', true), '');
comment on function {schema}.organization_id() is 'the organization for which this transaction acts; null: none';

create function {schema}.has_permission(permission text) returns boolean
    language sql stable parallel safe
    return coalesce(permission = any (pg_catalog.string_to_array(nullif(pg_catalog.current_setting('clerk.permissions', true), ''), ',')), false);
comment on function {schema}.has_permission(text) is 'whether the one for whom this transaction acts has the permission (org:invoices:read); never null';

create function {schema}.act_as(user_id text, organization_id text default null, permissions text[] default null) returns void
    language plpgsql
as $$
begin
    if pg_catalog.strpos(pg_catalog.array_to_string(permissions, ''), ',') > 0 then
        raise exception 'a permission holds a comma' using errcode = '22023', hint = 'One element of the array is one permission: org:invoices:read.';
    end if;
    perform pg_catalog.set_config('clerk.user_id', coalesce(act_as.user_id, ''), true),
            pg_catalog.set_config('clerk.organization_id', coalesce(act_as.organization_id, ''), true),
            pg_catalog.set_config('clerk.permissions', coalesce(pg_catalog.array_to_string(act_as.permissions, ','), ''), true);
end
$$;
comment on function {schema}.act_as(text, text, text[]) is 'says for whom the rest of this transaction acts; outside of one it has no effect';

-- tables_below are a table and, as whoever may read a partition or an inheriting
-- table itself is bound by that one's policies only, all below it.
create function {schema}.tables_below(root regclass) returns setof regclass
    language sql stable
    set search_path = pg_catalog, pg_temp
as $$
    with recursive tree(id) as (
        select root::oid
        union
        select i.inhrelid from tree join pg_inherits i on i.inhparent = tree.id)
    select id::regclass from tree order by 1
$$;
comment on function {schema}.tables_below(regclass) is 'see isolate';

-- check_tenant refuses what can't be isolated, and says what to do.
create function {schema}.check_tenant(target regclass, tenant text) returns void
    language plpgsql stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    t pg_class;
    c record;
begin
    select * into t from pg_class where oid = target;
    if target is null then
        raise exception 'which table?' using errcode = '22004';
    elsif t.relnamespace = $q${schema}$q$::regnamespace then
        raise exception '% is Rollcall''s own table', target using errcode = '42809', hint = 'tenancy: true of the store in rollcall.yaml gives all of them policies.';
    elsif t.relkind in ('v', 'm') then
        raise exception '% is a view', target using errcode = '42809',
            hint = 'Isolate the tables that it reads, and make it security_invoker; a materialized view holds the rows of all, and can''t be isolated.';
    elsif t.relkind not in ('r', 'p') then
        raise exception '% is no table', target using errcode = '42809', hint = 'Row-level security is for ordinary and partitioned tables.';
    elsif t.relispartition then
        raise exception '% is a partition', target using errcode = '42809',
            hint = format('Isolate %s: that covers its partitions.', (select inhparent::regclass from pg_inherits where inhrelid = target));
    end if;
    select format_type(a.atttypid, a.atttypmod) as type, coalesce(nullif(y.typbasetype, 0), y.oid) as base, coalesce(l.collisdeterministic, true) as deterministic into c
    from pg_attribute a join pg_type y on y.oid = a.atttypid left join pg_collation l on l.oid = a.attcollation
    where a.attrelid = target and a.attname = tenant and a.attnum > 0 and not a.attisdropped;
    if c is null then
        raise exception 'table % has no column %', target, tenant using errcode = '42703',
            hint = 'Name the column that holds Clerk''s id of the organization (org_…); add one if there is none.';
    elsif c.base not in ('text'::regtype, 'varchar'::regtype) then
        raise exception 'column % of table % is %, and Clerk''s ids are text', tenant, target, c.type using errcode = '42804',
            hint = format('Run alter table %s alter column %I type text, or name a column that holds Clerk''s id (org_…).', target, tenant);
    elsif not c.deterministic then
        raise exception 'column % of table % takes different ids for equal', tenant, target using errcode = '42P22',
            hint = format('Run alter table %s alter column %I type text collate "C": its collation is not deterministic.', target, tenant);
    end if;
end
$$;
comment on function {schema}.check_tenant(regclass, text) is 'see isolate';

-- The condition's subselect runs once a query, and lets an index on the column
-- be used. The comment remembers what unisolate puts back.
create function {schema}.isolate(target regclass, tenant text) returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    t regclass;
    have pg_class;
    mine pg_policy;
    before text;
    other name;
begin
    perform {schema}.check_tenant(target, tenant);
    for t in select {schema}.tables_below(target) loop
        select * into have from pg_class where oid = t;
        if have.relkind not in ('r', 'p') then
            raise warning '% is below % and no table that can be isolated', t, target using hint = 'Let nobody read or write it directly.';
            continue;
        end if;
        for other in select polname from pg_policy where polrelid = t and polname <> 'rollcall_isolate' and polpermissive loop
            raise warning 'policy % of table % lets rows through beside the tenant''s', other, t using hint = 'Make it restrictive, unless it is meant to: create policy … as restrictive …';
        end loop;
        select * into mine from pg_policy where polrelid = t and polname = 'rollcall_isolate';
        before := coalesce(obj_description(mine.oid, 'pg_policy'),
            format('made by isolate; before it row security was %s and %s', case when have.relrowsecurity then 'on' else 'off' end, case when have.relforcerowsecurity then 'forced' else 'not forced' end));
        if not (have.relrowsecurity and have.relforcerowsecurity) then
            execute format('alter table %s enable row level security, force row level security', t);
        end if;
        -- A service may call this at each start: what is right is left alone, without a lock.
        continue when mine.polcmd = '*' and mine.polpermissive and mine.polroles = '{0}' and pg_get_expr(mine.polqual, t) = pg_get_expr(mine.polwithcheck, t) and (
            select bool_and(a.attname = tenant)
            from pg_depend d join pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
            where d.classid = 'pg_policy'::regclass and d.objid = mine.oid and d.refclassid = 'pg_class'::regclass and d.refobjid = t);
        if mine.oid is not null then
            execute format('drop policy rollcall_isolate on %s', t);
        end if;
        execute format('create policy rollcall_isolate on %s using (%I = (select {schema}.organization_id())) with check (%2$I = (select {schema}.organization_id()))', t, tenant);
        execute format('comment on policy rollcall_isolate on %s is %L', t, before);
    end loop;
end
$$;
comment on function {schema}.isolate(regclass, text) is
    'puts a table of the service''s own under row-level security: only rows whose column holds organization_id() are read or written, by its owner too; can be run again';

create function {schema}.isolate(target text, tenant text) returns void
    language sql
begin atomic
    select {schema}.isolate(target::regclass, tenant);
end;
comment on function {schema}.isolate(text, text) is 'see isolate(regclass, text)';

create function {schema}.unisolate(target regclass) returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    t regclass;
    before text;
begin
    for t in select {schema}.tables_below(target) loop
        select obj_description(oid, 'pg_policy') into before from pg_policy where polrelid = t and polname = 'rollcall_isolate';
        continue when not found;
        execute format('drop policy rollcall_isolate on %s', t);
        if before like '%not forced' then
            execute format('alter table %s no force row level security', t);
        end if;
        -- Policies that came since are the service's own, and stay in force.
        if before like '%was off%' and not exists (select from pg_policy where polrelid = t) then
            execute format('alter table %s disable row level security', t);
        end if;
    end loop;
end
$$;
comment on function {schema}.unisolate(regclass) is 'undoes isolate, and nothing else';

create function {schema}.unisolate(target text) returns void
    language sql
begin atomic
    select {schema}.unisolate(target::regclass);
end;
comment on function {schema}.unisolate(text) is 'see unisolate(regclass)';

-- Also where new functions are nobody's by default.
grant execute on function {schema}.user_id(), {schema}.organization_id(), {schema}.has_permission(text), {schema}.act_as(text, text, text[]),
    {schema}.tables_below(regclass), {schema}.check_tenant(regclass, text), {schema}.isolate(regclass, text), {schema}.isolate(text, text),
    {schema}.unisolate(regclass), {schema}.unisolate(text) to public;
