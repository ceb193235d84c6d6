-- policies that let everything through
select i.name, format('policy %s lets %s %s every row', p.polname, case when 0 = any(p.polroles) then 'everybody' else (select string_agg(pg_get_userbyid(r), ', ') from unnest(p.polroles) as r) end,
              case p.polcmd when 'r' then 'read' when 'a' then 'insert' when 'w' then 'update' when 'd' then 'delete' else 'read and write' end),
       format('drop policy %I on %s;', p.polname, i.name),
       not (0 = any(p.polroles) or exists (select from unnest(p.polroles) as r where r <> 0 and pg_has_role(r, 'usage')))
from isolated i join pg_policy p on p.polrelid = i.oid
where p.polpermissive and 'true' in (pg_get_expr(p.polqual, i.oid), pg_get_expr(p.polwithcheck, i.oid))
and not (i.synced and p.polname in ('rollcall_writer', 'rollcall_tenant'))
