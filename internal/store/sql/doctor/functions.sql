-- functions with the rights of an owner whom policies don't bind; which tables
-- one reads can only be guessed from its text
select p.oid::regprocedure::text, format('runs with the rights of %s, whom policies don''t bind, and names %s', pg_get_userbyid(p.proowner), string_agg(i.name, ', ' order by i.name)),
       format('alter function %s security invoker;', p.oid::regprocedure), false
from pg_proc p join isolated i on exists (select from pg_depend d where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.refobjid = i.oid)
    or p.prosrc ~* ('\m' || regexp_replace(i.relname, '(\W)', '\\\1', 'g') || '\M')
where p.prosecdef and not (i.synced and i.relname in ('roles', 'permissions')) and p.pronamespace not in (select oid from stores)
and (p.proowner in (select oid from unbound)
     or not i.forced and pg_has_role(p.proowner, i.owner, 'usage')
     or exists (select from pg_policy w, unnest(w.polroles) as r where w.polrelid = i.oid and w.polpermissive and pg_get_expr(w.polqual, i.oid) = 'true' and r <> 0 and pg_has_role(p.proowner, r, 'usage')))
group by p.oid, p.proowner
