-- sessions that begin as somebody
select coalesce(pg_get_userbyid(nullif(s.setrole, 0)), d.datname), format('its sessions begin with %s: what says for whom nobody acts would see that one''s rows', c.setting),
       format('alter %s reset %s;', case when s.setrole <> 0 then 'role ' || quote_ident(pg_get_userbyid(s.setrole)) || coalesce(' in database ' || quote_ident(d.datname), '') else 'database ' || quote_ident(d.datname) end, split_part(c.setting, '=', 1)), false
from pg_db_role_setting s left join pg_database d on d.oid = s.setdatabase, unnest(s.setconfig) as c(setting)
where c.setting like 'clerk.%' and (s.setdatabase = 0 or d.datname = current_database())
