-- Before each check: what it is given, and the tables that are a tenant's.
with recursive given(schema, application, ignored) as (select $1::text, $2::boolean, $3::text[]),
stores as ( -- schemas of stores; the audit log's isn't a service's to isolate either
    select n.oid, n.nspname from pg_namespace n
    where n.nspname = 'rollcall_audit'
    or 2 = (select count(*) from pg_class c where c.relnamespace = n.oid and c.relkind = 'r' and c.relname in ('sync_status', 'schema_version'))),
concerned as (
    select c.oid, c.oid::regclass::text as name, c.relname, c.relrowsecurity as enabled, c.relforcerowsecurity as forced, c.relowner as owner, c.relacl, c.relispartition, s.oid is not null as synced, t.attname as tenant
    from pg_class c join pg_namespace n on n.oid = c.relnamespace left join stores s on s.oid = n.oid
    left join lateral (
        select a.attname from pg_attribute a
        where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and (a.attname in ('organization_id', 'org_id') or exists (
            select from pg_constraint k join pg_class o on o.oid = k.confrelid join stores on stores.oid = o.relnamespace
            where k.conrelid = c.oid and k.contype = 'f' and o.relname = 'organizations' and k.conkey = array[a.attnum]))
        order by a.attname = 'organization_id' desc, a.attnum limit 1) as t on true
    where c.relkind in ('r', 'p') and c.relpersistence <> 't' and n.nspname not like 'pg\_%' and n.nspname <> 'information_schema'
    and (s.oid is null and (t.attname is not null or c.relrowsecurity) or s.nspname = (select schema from given) and c.relname not in ('sync_status', 'schema_version'))),
isolated as (select * from concerned where enabled),
unbound as (select oid, rolname, rolsuper from pg_roles where rolsuper or rolbypassrls)
