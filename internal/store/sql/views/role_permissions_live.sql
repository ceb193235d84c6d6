create view {schema}.role_permissions_live with (security_invoker = true) as
select t.* from {schema}.role_permissions t where t.deleted_at is null
