-- Keys are compared with org: before them, since old payloads lack it, and say
-- basic_member for org:member. Of two live roles with one key the newer content
-- counts: a key passes from one to the other.
create view {schema}.member_permissions with (security_invoker = true) as
with role as materialized (
    select distinct on (r.instance_id, k.key) r.id, r.instance_id, k.key
    from {schema}.roles r
    cross join lateral (select case when r.key = 'basic_member' then 'org:member' when r.key like 'org:%' then r.key else 'org:' || r.key end) as k(key)
    where r.deleted_at is null and r.key <> ''
    order by r.instance_id, k.key, r.version desc
), granted as materialized (
    select distinct role.id as role_id, case when l.permission_key like 'org:%' then l.permission_key else 'org:' || l.permission_key end as permission
    from role join {schema}.role_permissions l on l.role_id = role.id
    where l.deleted_at is null and l.permission_key <> ''
)
select m.id as membership_id, m.organization_id, m.user_id, g.permission, g.permission like 'org:sys\_%' as system, 'role' as source
from {schema}.organization_memberships m
join role on role.instance_id = m.instance_id
    and role.key = case when m.role = 'basic_member' then 'org:member' when m.role like 'org:%' then m.role else 'org:' || m.role end
join granted g on g.role_id = role.id
where m.deleted_at is null
union all
select m.id, m.organization_id, m.user_id, own.permission, own.permission like 'org:sys\_%', 'membership'
from {schema}.organization_memberships m
cross join lateral (select distinct case when u.key like 'org:%' then u.key else 'org:' || u.key end as permission from unnest(m.permissions) as u(key) where u.key <> '') as own
where m.deleted_at is null and not exists (
    select from role where role.instance_id = m.instance_id
    and role.key = case when m.role = 'basic_member' then 'org:member' when m.role like 'org:%' then m.role else 'org:' || m.role end);
comment on view {schema}.member_permissions is
    'what members may do: their live role''s permissions, or the membership''s own list where no such role is known (source); system: Clerk''s own, org:sys_…, which session tokens never have'
