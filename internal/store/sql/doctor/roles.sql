-- roles that log in and that no policy binds; each cluster has the first superuser
select r.rolname,
       case when r.rolsuper then 'is a superuser' when r.rolbypassrls then 'has BYPASSRLS' else format('may become %s, whom policies don''t bind', u.rolname) end
       || case when r.rolname = current_user then ', and is who this database URL logs in as: no policy binds the application' else ': no policy binds it' end,
       case when r.rolname = current_user then 'let the service log in as a role that is neither, and owns nothing'
            when r.oid = 10 then 'let no service log in as it'
            when r.rolsuper or r.rolbypassrls then format('alter role %I nosuperuser nobypassrls; or let no service log in as it (--ignore-role %1$s)', r.rolname)
            else format('revoke %I from %I; or let no service log in as it (--ignore-role %2$s)', u.rolname, r.rolname) end,
       r.oid = 10 and r.rolname <> current_user
from pg_roles r join lateral (select * from unbound b where b.oid = r.oid or not r.rolsuper and pg_has_role(r.oid, b.oid, 'member') order by b.oid = r.oid desc limit 1) as u on true
where r.rolcanlogin and r.rolname <> all ((select ignored from given)::text[])
union all
select current_user, format('is who this database URL logs in as, and owns %s: it can take the policies away', string_agg(name, ', ' order by name)), 'let the service log in as a role that owns nothing', false
from isolated where not synced and (select application from given) and pg_has_role(owner, 'usage') and not exists (select from unbound where rolname = current_user) having count(*) > 0
union all
select current_user, format('is who this database URL logs in as, and the writer of schema %s: its policies don''t bind it', (select schema from given)), 'let the service log in as a role of its own', false
where (select application from given) and not exists (select from unbound where rolname = current_user)
and exists (select from isolated i join pg_policy p on p.polrelid = i.oid, unnest(p.polroles) as r where i.synced and p.polname = 'rollcall_writer' and pg_has_role(r, 'usage'))
