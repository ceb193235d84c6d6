-- views that read with their owner's rights, and those that keep what they have read
, readers as (
    select w.ev_class as oid, i.name as reads from isolated i join pg_depend d on d.refclassid = 'pg_class'::regclass and d.refobjid = i.oid and d.classid = 'pg_rewrite'::regclass join pg_rewrite w on w.oid = d.objid
    union
    select w.ev_class, r.reads from readers r join pg_depend d on d.refclassid = 'pg_class'::regclass and d.refobjid = r.oid and d.classid = 'pg_rewrite'::regclass join pg_rewrite w on w.oid = d.objid)
select c.oid::regclass::text,
       case c.relkind when 'v' then format('reads %s with the rights of its owner %s', t.tables, pg_get_userbyid(c.relowner))
                      else format('keeps rows of %s that were read with the rights of its owner %s: no policy guards it', t.tables, pg_get_userbyid(c.relowner)) end,
       case c.relkind when 'v' then format('alter view %s set (security_invoker = true);', c.oid::regclass)
                      else format('drop materialized view %s; or grant it to no role that acts for an organization', c.oid::regclass) end,
       false
from pg_class c join (select oid, string_agg(distinct reads, ', ') from readers group by oid) as t(oid, tables) on t.oid = c.oid
where c.relkind = 'm' or c.relkind = 'v' and not exists (select from pg_options_to_table(c.reloptions) where option_name = 'security_invoker' and option_value::boolean)
