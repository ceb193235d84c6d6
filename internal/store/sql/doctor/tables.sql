-- tables with a tenant's column that no policy guards
select name,
       case when not enabled then format('has the column %s and no row-level security', tenant)
            when not forced then format('row-level security isn''t forced: its owner %s reads and writes all rows', pg_get_userbyid(owner))
            else 'row-level security is on without a policy: nobody reads or writes a row' end,
       case when enabled and not forced and exists (select from pg_policy where polrelid = concerned.oid) then format('alter table %s force row level security;', name)
            else format('select %I.isolate(%L, %L);', (select schema from given), coalesce(pg_partition_root(oid)::regclass::text, name), tenant) end,
       false
from concerned
where not synced and tenant is not null
and not (enabled and forced and exists (select from pg_policy where polrelid = concerned.oid))
and not (relispartition and exists (select from concerned r where r.oid = pg_partition_root(concerned.oid) and not r.enabled)) -- one line is enough
