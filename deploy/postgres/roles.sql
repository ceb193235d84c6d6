-- The two roles of a store, neither a superuser:
--
--   rollcall_owner  makes and changes the tables (migrate_database_url)
--   rollcall_app    reads and writes rows (database_url)
--
-- Run it once as a superuser, connected to the store's database:
--
--   ROLLCALL_OWNER_PASSWORD=… ROLLCALL_APP_PASSWORD=… psql -f roles.sql DATABASE
--
-- A service's own role, which reads a whole store, is made and granted by
--   rollcall store grant NAME --role billing
-- One that sees less gets a grant of yours, for example
--   grant usage on schema clerk to billing;
--   grant select on clerk.users, clerk.users_live to billing;

\set ON_ERROR_STOP on
\getenv owner_password ROLLCALL_OWNER_PASSWORD
\getenv app_password ROLLCALL_APP_PASSWORD

create role rollcall_owner login password :'owner_password';
create role rollcall_app login password :'app_password';

-- Or make the schema yourself and give it to rollcall_owner.
select format('grant create on database %I to rollcall_owner', current_database()) \gexec

-- What the owner makes from now on, the app may use. Migrations need no grants.
alter default privileges for role rollcall_owner grant usage on schemas to rollcall_app;
alter default privileges for role rollcall_owner grant select, insert, update, delete on tables to rollcall_app;
alter default privileges for role rollcall_owner grant usage on sequences to rollcall_app;
