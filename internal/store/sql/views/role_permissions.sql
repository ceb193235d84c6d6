-- A role's links are what its newest content lists, so they can't part from the
-- role's version. What a permission is called is its own row's to say, where
-- there is one.
create view {schema}.role_permissions with (security_invoker = true) as
select r.id as role_id, l.id as permission_id,
       coalesce(p.key, l.key) as permission_key, coalesce(p.name, l.name) as permission_name, coalesce(p.type, l.type) as permission_type,
       least(r.deleted_at, gone.deleted_at) as deleted_at, r.instance_id, r.synced_at, r.stream_epoch, r.stream_seq, r.source
from {schema}.roles r
cross join lateral (
    select distinct on (e.o ->> 'id') e.o ->> 'id' as id, e.o ->> 'key' as key, e.o ->> 'name' as name, e.o ->> 'type' as type
    from jsonb_array_elements(case jsonb_typeof(r.permissions) when 'array' then r.permissions else '[]' end) with ordinality as e(o, n)
    where e.o ->> 'id' <> ''
    order by e.o ->> 'id', e.n desc) as l
left join {schema}.permissions p on p.id = l.id and p.deleted_at is null
left join {schema}.tombstones gone on gone.resource = 'permissions' and gone.id = l.id and gone.version is null;
comment on view {schema}.role_permissions is 'which role has which permission; deleted with the role, or the permission'
