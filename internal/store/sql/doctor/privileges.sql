-- what row-level security isn't asked for
select i.name, format('%s may %s, which no policy guards', g.who, string_agg(a.privilege_type, ' and ' order by a.privilege_type)),
       format('revoke %s on %s from %s;', lower(string_agg(a.privilege_type, ', ' order by a.privilege_type)), i.name, g.quoted), false
from isolated i cross join aclexplode(i.relacl) as a
cross join lateral (select case when a.grantee = 0 then 'everybody' else pg_get_userbyid(a.grantee) end, case when a.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end) as g(who, quoted)
where a.privilege_type in ('TRUNCATE', 'TRIGGER') and a.grantee <> i.owner and a.grantee not in (select oid from unbound)
group by i.name, g.who, g.quoted
