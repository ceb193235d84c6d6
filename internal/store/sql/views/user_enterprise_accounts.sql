-- Payloads are trusted in nothing: a value of another JSON type is null. An
-- account that both lists have is shown once.
create view {schema}.user_enterprise_accounts with (security_invoker = true) as
select u.id as user_id, a.o ->> 'id' as account_id,
       coalesce(a.o ->> 'protocol', c.o ->> 'protocol', case a.list when 'saml_accounts' then 'saml' end) as protocol,
       coalesce(a.o ->> 'provider', c.o ->> 'provider') as provider,
       coalesce(nullif(a.o ->> 'enterprise_connection_id', ''), nullif(c.o ->> 'id', '')) as connection_id,
       c.o ->> 'name' as connection_name,
       case when jsonb_typeof(a.o -> 'active') = 'boolean' then (a.o ->> 'active')::boolean end as active,
       case when jsonb_typeof(c.o -> 'active') = 'boolean' then (c.o ->> 'active')::boolean end as connection_active,
       nullif(a.o ->> 'provider_user_id', '') as provider_user_id,
       a.o ->> 'email_address' as email_address,
       coalesce(nullif(c.o ->> 'domain', ''), d.domains[1]) as domain,
       coalesce(d.domains, array[nullif(c.o ->> 'domain', '')]) as domains,
       case when jsonb_typeof(a.o -> 'last_authenticated_at') = 'number' and (a.o ->> 'last_authenticated_at')::numeric between -62135596800000 and 253402300799999
            then timestamptz 'epoch' + trunc((a.o ->> 'last_authenticated_at')::numeric)::bigint * interval '1 millisecond' end as last_authenticated_at,
       u.deprovisioned, a.list as listed_in, u.instance_id
from {schema}.users u
cross join lateral (
    select 'enterprise_accounts' as list, e.o
    from jsonb_array_elements(case jsonb_typeof(u.enterprise_accounts) when 'array' then u.enterprise_accounts else '[]' end) as e(o)
    union all
    select 'saml_accounts', s.o
    from jsonb_array_elements(case jsonb_typeof(u.saml_accounts) when 'array' then u.saml_accounts else '[]' end) as s(o)
    where s.o ->> 'id' is null or not coalesce(u.enterprise_accounts @> jsonb_build_array(jsonb_build_object('id', s.o ->> 'id')), false)) as a
cross join lateral (select coalesce(a.o -> 'enterprise_connection', a.o -> 'saml_connection')) as c(o)
left join lateral (
    select array_agg(x.name order by x.n) as domains
    from jsonb_array_elements_text(case jsonb_typeof(c.o -> 'domains') when 'array' then c.o -> 'domains' else '[]' end) with ordinality as x(name, n)
    where x.name <> '') as d on true
where u.deleted_at is null and jsonb_typeof(a.o) = 'object';
comment on view {schema}.user_enterprise_accounts is 'who signs in through which SSO connection; Clerk has no events for the connections themselves'
