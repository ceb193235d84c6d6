-- The application's tables, made by their owner, which the application isn't.
create table if not exists public.projects (
    id              uuid primary key default gen_random_uuid(),
    organization_id text not null default clerk.organization_id(),
    name            text not null check (name <> ''),
    created_by      text not null default clerk.user_id() references clerk.users (id),
    unique (organization_id, id)
);

-- A foreign key asks no policy: with the organization in it, it needs none.
create table if not exists public.invoices (
    id              uuid primary key default gen_random_uuid(),
    organization_id text not null default clerk.organization_id(),
    project_id      uuid not null,
    cents           bigint not null check (cents > 0),
    foreign key (organization_id, project_id) references public.projects (organization_id, id)
);
create index if not exists invoices_of_project on public.invoices (organization_id, project_id);

select clerk.isolate('public.projects', 'organization_id'), clerk.isolate('public.invoices', 'organization_id');

-- What a member may do, beside whose it is: restrictive, so that both must agree.
do $$
begin
    if not exists (select from pg_policies where schemaname = 'public' and tablename = 'invoices' and policyname = 'reading') then
        create policy reading on public.invoices as restrictive for select using (clerk.has_permission('org:invoices:read'));
        create policy adding on public.invoices as restrictive for insert with check (clerk.has_permission('org:invoices:manage'));
        create policy changing on public.invoices as restrictive for update using (clerk.has_permission('org:invoices:manage'));
        create policy removing on public.invoices as restrictive for delete using (clerk.has_permission('org:invoices:manage'));
    end if;
    if not exists (select from pg_roles where rolname = 'saas_app') then
        create role saas_app login password 'saas_app'; -- on this machine only
    end if;
end
$$;

grant usage on schema clerk to saas_app;
grant select on all tables in schema clerk to saas_app;
grant execute on function clerk.ensure_user(text) to saas_app;
grant select, insert, update, delete on public.projects, public.invoices to saas_app;
