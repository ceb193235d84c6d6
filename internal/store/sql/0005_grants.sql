-- Functions that write are for those to whom they are granted, see rollcall store
-- grant. Who could call them until now still can. {schema} is replaced.
do $do$
declare
    holder oid;
begin
    for holder in
        select a.grantee from pg_namespace n, aclexplode(n.nspacl) a
        where n.oid = $q${schema}$q$::regnamespace and a.privilege_type = 'USAGE' and a.grantee not in (0, n.nspowner)
    loop
        execute format('grant execute on function {schema}.ensure_user(text), {schema}.ensure_organization(text) to %s', holder::regrole);
    end loop;
end
$do$;
revoke execute on function {schema}.ensure_user(text), {schema}.ensure_organization(text) from public;
