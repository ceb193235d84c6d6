-- The role of a member, and when that was said; keys are compared as
-- member_permissions does.
with m as (
    select id, instance_id, version, deleted_at, case when role = 'basic_member' then 'org:member' when role like 'org:%' then role else 'org:' || role end as role
    from {schema}.organization_memberships
    where organization_id = $1 and user_id = $2
    order by deleted_at is null desc, version desc
    limit 1
)
select coalesce(m.role, ''), m.version, m.deleted_at, coalesce((
        select r.version from {schema}.roles r
        where r.instance_id = m.instance_id and r.deleted_at is null
        and case when r.key = 'basic_member' then 'org:member' when r.key like 'org:%' then r.key else 'org:' || r.key end = m.role
        order by r.version desc limit 1
    ), ''::bytea),
    array(select permission from {schema}.member_permissions p where p.membership_id = m.id and not p.system order by 1)
from m
