package store

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
)

// tenants is a service's database: tables with rows of two organizations and of
// nobody, and an ordinary role. What isn't org_a's says "secret".
type tenants struct {
	t     *testing.T
	owner *pgx.Conn
	url   string // as the ordinary role; through PgBouncer in that pass
	role  string
}

const ordersOfAll = `truncate public.orders, public.days, public.parent, public.child;
insert into public.orders select 'a' || i, 'org_a', 'mine' from generate_series(1, 5) i;
insert into public.orders select 'b' || i, 'org_b', 'secret' from generate_series(1, 50) i;
insert into public.orders values ('n1', null, 'secret'), ('e1', '', 'secret');
insert into public.days values (1, 'org_a', 'mine'), (1, 'org_b', 'secret'), (15, 'org_b', 'secret');
insert into public.parent values ('org_a', 'mine'), ('org_b', 'secret');
insert into public.child values ('org_a', 'mine'), ('org_b', 'secret');
analyze public.orders, public.days, public.parent, public.child`

func newTenants(t *testing.T) *tenants {
	t.Helper()
	other := stacktest.Database(t)
	d := stacktest.Database(t)
	if err := newStore(t, d).Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	h := &tenants{t: t, owner: connect(t, d.OwnerURL)}
	h.url, h.role = asRole(t, d, other)
	execute(t, h.owner,
		`create table public.orders (id text primary key, organization_id text, note text)`, `create index on public.orders (organization_id)`,
		`create table public.days (day int, org_id text, note text) partition by range (day)`,
		`create table public.days_1 partition of public.days for values from (0) to (10)`, `create table public.days_2 partition of public.days for values from (10) to (20)`,
		`create table public.parent (organization_id text, note text)`, `create table public.child () inherits (public.parent)`,
		`create view public.invoked with (security_invoker = true) as select * from public.orders`, `create view public.owned as select * from public.orders`,
		`create function public.invoked_f() returns setof public.orders language sql stable as 'select * from public.orders'`,
		`create function public.owned_f() returns setof public.orders language plpgsql security definer as 'begin return query select * from public.orders; end'`,
		`create sequence public.numbers`,
		`grant usage, create on schema public to `+h.role, `grant usage on schema clerk to `+h.role, `grant select, insert, update, delete on all tables in schema public to `+h.role)
	h.fill()
	app := connect(t, h.url)
	execute(t, app, `create function public.leak(text) returns boolean language plpgsql cost 0.0000001 as $$ begin raise notice 'leaked %', $1; return true; end $$`,
		`create function public.leaking(text, text) returns boolean language plpgsql cost 0.0000001 as $$ begin raise notice 'leaked %', $1; return true; end $$`,
		`create operator public.<<<< (leftarg = text, rightarg = text, function = public.leaking)`)
	return h
}

func (h *tenants) isolate() {
	h.t.Helper()
	execute(h.t, h.owner, `select clerk.isolate('public.orders', 'organization_id'), clerk.isolate('public.days', 'org_id'), clerk.isolate('public.parent', 'organization_id')`)
}

func (h *tenants) unisolate() {
	h.t.Helper()
	execute(h.t, h.owner, `select clerk.unisolate('public.orders'), clerk.unisolate('public.days'), clerk.unisolate('public.parent')`)
}

// fill is the owner's own work, which force binds too.
func (h *tenants) fill() {
	h.t.Helper()
	if _, err := h.owner.PgConn().Exec(h.t.Context(), ordersOfAll).ReadAll(); err != nil {
		h.t.Fatal(err)
	}
}

// digest is of all rows that aren't org_a's.
func (h *tenants) digest() string {
	h.t.Helper()
	h.unisolate()
	return scan[string](h.t, h.owner, `select string_agg(r, ' ' order by r) from (
select o::text from public.orders o where organization_id is distinct from 'org_a' union all
select d::text from public.days d where org_id is distinct from 'org_a' union all
select p::text from public.parent p where organization_id is distinct from 'org_a') as x(r)`)
}

// asOrgA is a transaction as a used connection sees it: after one of org_b's.
const asOrgA = `begin; select clerk.act_as('user_2', 'org_b'); select count(*) from public.orders; commit; begin; select clerk.act_as('user_1', 'org_a'); %s; commit;`

// attacks read or write rows that aren't org_a's, were they not isolated.
var attacks = []string{
	`select * from public.orders`,
	`table public.orders`,
	`select * from public.orders where organization_id = 'org_b'`,
	`select * from public.orders where organization_id is null or organization_id = ''`,
	`select * from public.orders a join public.orders b on a.id <> b.id`,
	`select o.* from (values (1)) as x left join lateral (select * from public.orders) o on true`,
	`select (select string_agg(note, ',') from public.orders)`,
	`select 1 where exists (select from public.orders where note = 'secret' and 1 / (case when note = 'secret' then 0 else 1 end) = 1)`,
	`with o as (select row_to_json(o) from public.orders o) select * from o`,
	`select * from public.invoked`,
	`select * from public.owned`,
	`select * from public.invoked_f()`,
	`select * from public.owned_f()`,
	`create view public.own as select * from public.orders; select * from public.own; drop view public.own`,
	`create temporary table mine_now on commit drop as select * from public.orders; select * from mine_now`,
	`select query_to_xml('select * from public.orders', true, true, '')`,
	`copy public.orders to stdout`,
	`copy (select * from public.orders) to stdout`,
	"copy public.orders from stdin;\nx1\torg_b\tfoisted\n\\.\n",
	`insert into public.orders values ('x1', 'org_b', 'foisted')`,
	`insert into public.orders values ('x1', null, 'foisted')`,
	`insert into public.orders values ('x1', '', 'foisted')`,
	`insert into public.orders values ('b1', 'org_a', 'mine') on conflict (id) do update set note = 'foisted', organization_id = 'org_a' returning *`,
	`insert into public.orders values ('b1', 'org_b', 'mine') on conflict (id) do update set note = 'foisted' returning orders.*`,
	`insert into public.orders values ('a1', 'org_a', 'mine') on conflict (id) do update set organization_id = 'org_b'`,
	`update public.orders set note = 'foisted'`,
	`update public.orders set note = 'foisted' where id = 'b1' returning *`,
	`update public.orders set organization_id = 'org_b'`,
	`update public.orders set organization_id = null where id = 'a1'`,
	`update public.orders o set note = 'foisted' from public.orders b where b.organization_id = 'org_b' and b.id = o.id`,
	`delete from public.orders`,
	`delete from public.orders where id = 'b1' returning *`,
	`with gone as (delete from public.orders returning *) select * from gone`,
	`merge into public.orders o using (values ('b1')) as s(id) on o.id = s.id when matched then update set note = 'foisted'`,
	`merge into public.orders o using (values ('b1')) as s(id) on o.id = s.id when matched then delete`,
	`merge into public.orders o using (values ('x1')) as s(id) on o.id = s.id when not matched then insert values ('x1', 'org_b', 'foisted')`,
	`select * from public.orders for update`,
	`declare c cursor for select * from public.orders; fetch all from c`,
	`prepare p as select * from public.orders; execute p; deallocate p`,
	`set local plan_cache_mode = force_generic_plan; prepare p as select * from public.orders; select clerk.act_as('user_2', 'org_b'); create temporary table theirs on commit drop as execute p; select clerk.act_as('user_1', 'org_a'); execute p; deallocate p`,
	`do $$ declare o record; begin for o in select * from public.orders loop raise notice '%', o; end loop; end $$`,
	`select * from public.orders where public.leak(note)`,
	`select * from public.orders where note operator(public.<<<<) 'x'`,
	`select count(*) from public.orders group by public.leak(note)`,
	`select * from public.orders where case when organization_id = 'org_b' then note::int end = 1`, // the error would quote it
	`set local row_security = off; select * from public.orders`,
	`set local row_security = off; update public.orders set note = 'foisted'`,
	`select most_common_vals from pg_stats where tablename = 'orders'`,
	`select histogram_bounds, most_common_vals from pg_stats where tablename in ('days_1', 'days_2', 'parent', 'child')`,
	`select * from public.days`,
	`select * from public.days_1`,
	`select * from public.days_2`,
	`insert into public.days_2 values (12, 'org_b', 'foisted')`,
	`update public.days set day = day + 1`,
	`update public.days_1 set org_id = 'org_b'`,
	`select * from public.parent`,
	`select * from only public.parent`,
	`select * from public.child`,
	`delete from public.child`,
}

// via runs statements as the ordinary role, and returns all that it is told.
type via func(script string) string

func (h *tenants) pgx() via {
	config, err := pgx.ParseConfig(h.url)
	if err != nil {
		h.t.Fatal(err)
	}
	var said strings.Builder
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { fmt.Fprintln(&said, n.Message, n.Detail) }
	c, err := pgx.ConnectConfig(h.t.Context(), config)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { c.Close(context.Background()) })
	return func(script string) string {
		said.Reset()
		results, err := c.PgConn().Exec(h.t.Context(), script).ReadAll()
		for _, r := range results {
			for _, row := range r.Rows {
				fmt.Fprintf(&said, "%s\n", row)
			}
		}
		if err != nil {
			fmt.Fprintln(&said, err)
			_, _ = c.Exec(h.t.Context(), "rollback")
		}
		return said.String()
	}
}

func (h *tenants) psql() via {
	path, err := exec.LookPath("psql")
	if err != nil {
		h.t.Skip("psql is not in PATH")
	}
	return func(script string) string {
		c := exec.CommandContext(h.t.Context(), path, "--no-psqlrc", "--quiet", h.url)
		c.Stdin = strings.NewReader(strings.Replace(script, "\\.\n;", "\\.\n", 1))
		out, err := c.CombinedOutput()
		if err != nil {
			h.t.Fatalf("%v\n%s", err, out)
		}
		return string(out)
	}
}

// Nothing of another tenant's is read or written; and each attack would succeed
// on a table that isn't isolated.
func TestIsolated(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(*tenants) via{"pgx": (*tenants).pgx, "psql": (*tenants).psql} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newTenants(t)
			run, untouched := open(h), h.digest()
			for _, attack := range attacks {
				copies := strings.HasPrefix(attack, "copy")
				if name == "pgx" && copies {
					continue // psql does
				}
				breached := func() string {
					said := run(fmt.Sprintf(asOrgA, attack))
					now := h.digest() // nothing is isolated from here on
					h.fill()
					if now != untouched {
						return "wrote: " + now
					}
					if strings.Contains(said, "secret") || strings.Contains(said, "division by zero") {
						return "read: " + said
					}
					return ""
				}
				if copies || name == "pgx" {
					if got := breached(); got == "" {
						t.Errorf("%s: does nothing where nothing is isolated", attack)
					}
				}
				h.isolate()
				if got := breached(); got != "" {
					t.Errorf("%s\n%s", attack, got)
				}
			}
			h.isolate()
			if said := run(fmt.Sprintf(asOrgA, `select string_agg(id || note, ' ' order by id) from public.orders`)); !strings.Contains(said, "a1mine a2mine a3mine a4mine a5mine") {
				t.Errorf("its own: %s", said)
			}
		})
	}
}

// Without settings, with empty ones, or on a connection that another has used,
// there are no rows, never all.
func TestNoSettingsNoRows(t *testing.T) {
	t.Parallel()
	h := newTenants(t)
	h.isolate()
	app := connect(t, h.url)
	for _, before := range []string{
		`select 1`,
		`select set_config('clerk.organization_id', '', true)`,
		`select clerk.act_as('user_1', null)`, `select clerk.act_as(null, '')`, `select clerk.act_as('user_1')`,
		`commit; begin; select clerk.act_as('user_2', 'org_b', '{org:a}'); select count(*) from public.orders; commit; begin`,
		`savepoint s; select clerk.act_as('user_2', 'org_b'); rollback to s`,
		`select set_config('clerk.organization_id', 'org_A', true)`, `select set_config('clerk.organization_id', ' org_a', true)`, `select set_config('clerk.organization_id', '%', true)`,
	} {
		execute(t, app, `begin`)
		if _, err := app.PgConn().Exec(t.Context(), before).ReadAll(); err != nil {
			t.Fatal(err)
		}
		if n := scan[int](t, app, `select (select count(*) from public.orders) + (select count(*) from public.days) + (select count(*) from public.days_1)`); n != 0 {
			t.Errorf("%s: %d rows", before, n)
		}
		_, err := app.Exec(t.Context(), `insert into public.orders values ('x', nullif(current_setting('clerk.organization_id', true), 'org_b'), '')`)
		if state := sqlState(err); state != "42501" && !strings.Contains(before, "'org_A'") && !strings.Contains(before, "' org_a'") && !strings.Contains(before, "'%'") {
			t.Errorf("%s: insert: %v", before, err)
		}
		execute(t, app, `rollback`)
	}
	// The owner of the table is bound too.
	if n := scan[int](t, h.owner, `select count(*) from public.orders`); n != 0 {
		t.Errorf("the owner sees %d rows", n)
	}
}

// What act_as says holds until the transaction ends, and no longer. What the
// documentation warns of is so: a session's setting outlives it.
func TestActAs(t *testing.T) {
	t.Parallel()
	h := newTenants(t)
	app := connect(t, h.url)
	const acting = `select concat_ws('|', clerk.user_id(), clerk.organization_id(), clerk.has_permission('org:a'), clerk.has_permission('org:b'), clerk.has_permission('a'), clerk.has_permission(null), clerk.has_permission(''))`
	execute(t, app, `begin`, `select clerk.act_as('user_1', 'org_a', '{org:a,org:c}')`)
	if got := scan[string](t, app, acting); got != "user_1|org_a|t|f|f|f|f" {
		t.Error(got)
	}
	execute(t, app, `select clerk.act_as('user_2')`) // takes the rest away
	if got := scan[string](t, app, acting); got != "user_2|f|f|f|f|f" {
		t.Error(got)
	}
	execute(t, app, `commit`)
	if got := scan[string](t, app, acting); got != "f|f|f|f|f" {
		t.Error(got)
	}
	_, err := app.Exec(t.Context(), `select clerk.act_as('user_1', 'org_a', '{"org:a,org:b"}')`)
	refused(t, err, "a permission holds a comma")

	h.isolate()
	execute(t, app, `begin`, `select set_config('clerk.organization_id', 'org_b', false)`, `commit`, `begin`)
	session := scan[int](t, app, `select count(*) from public.orders`)
	execute(t, app, `select clerk.act_as('user_1', 'org_a')`)
	if now := scan[int](t, app, `select count(*) from public.orders`); session != 50 || now != 5 {
		t.Errorf("%d rows by the session's setting, %d after act_as", session, now)
	}
	execute(t, app, `rollback`, `reset clerk.organization_id`)
}

// What the documentation admits: a key tells that somebody has it, and who may
// truncate needs no rows.
func TestIsolateLimits(t *testing.T) {
	t.Parallel()
	h := newTenants(t)
	execute(t, h.owner, `create table public.lines (order_id text references public.orders, organization_id text)`, `grant insert on public.lines to `+h.role)
	h.isolate()
	app := connect(t, h.url)
	for statement, state := range map[string]string{
		`insert into public.orders values ('b1', 'org_a', '')`:                                                               "23505",
		`insert into public.orders values ('b1', 'org_a', '') on conflict do nothing`:                                        "<nil>",
		`insert into public.lines values ('b1', 'org_a')`:                                                                    "<nil>",
		`insert into public.lines values ('none', 'org_a')`:                                                                  "23503",
		`truncate public.orders cascade`:                                                                                     "42501",
		`alter table public.orders disable row level security`:                                                               "42501",
		`drop policy rollcall_isolate on public.orders`:                                                                      "42501",
		`create policy mine on public.orders using (true)`:                                                                   "42501",
		`select clerk.unisolate('public.orders')`:                                                                            "42501",
		`create trigger t before update on public.orders for each row execute function suppress_redundant_updates_trigger()`: "42501",
		`set role ` + pgx.Identifier{scan[string](t, h.owner, `select current_user`)}.Sanitize():                             "42501",
	} {
		execute(t, app, `begin`, `select clerk.act_as('user_1', 'org_a')`)
		tag, err := app.Exec(t.Context(), statement)
		if sqlState(err) != state || strings.Contains(statement, "do nothing") && tag.RowsAffected() != 0 {
			t.Errorf("%s: %v, want %s", statement, err, state)
		}
		execute(t, app, `rollback`)
	}
}

// isolate can be run again, says what it can't do, and unisolate leaves the
// table as it was.
func TestIsolateAndBack(t *testing.T) {
	t.Parallel()
	h := newTenants(t)
	const state = `select string_agg(concat_ws(' ', c.relname, c.relrowsecurity, c.relforcerowsecurity, p.polname, p.oid), E'\n' order by c.relname, p.polname)
from pg_class c left join pg_policy p on p.polrelid = c.oid where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p')`
	execute(t, h.owner, `create table public.half (organization_id varchar(40))`, `alter table public.half enable row level security`, `create policy theirs on public.half as restrictive using (true)`,
		`create table public.forced (org text)`, `alter table public.forced enable row level security, force row level security`)
	before := scan[string](t, h.owner, state)
	all := `select clerk.isolate(c::regclass, n) from (values ('public.orders', 'organization_id'), ('public.days', 'org_id'), ('public.parent', 'organization_id'), ('public.half', 'organization_id'), ('public.forced', 'org')) as x(c, n)`
	execute(t, h.owner, all)
	once := scan[string](t, h.owner, state)
	execute(t, h.owner, all)
	if twice := scan[string](t, h.owner, state); twice != once || strings.Count(once, "t t rollcall_isolate") != 8 {
		t.Errorf("from\n%s\nto\n%s", once, twice)
	}
	// A partition that came later, a column that is another now, a policy that was changed.
	execute(t, h.owner, `create table public.days_3 partition of public.days for values from (20) to (30)`, `alter table public.orders add column other text`,
		`alter policy rollcall_isolate on public.forced to public using (true)`, `alter policy rollcall_isolate on public.forced to `+h.role)
	execute(t, h.owner, all, `select clerk.isolate('public.orders', 'other')`)
	if got := scan[string](t, h.owner, `select string_agg(tablename || coalesce(substring(qual from '\w+ ='), '') || roles::text, ' ' order by 1) from pg_policies where policyname = 'rollcall_isolate' and tablename in ('orders', 'days_3', 'forced')`); got != "days_3org_id ={public} forcedorg ={public} ordersother ={public}" {
		t.Error(got)
	}
	execute(t, h.owner, `drop table public.days_3`)
	for range 2 {
		execute(t, h.owner, `select clerk.unisolate(c) from unnest(array['public.orders', 'public.days', 'public.parent', 'public.half', 'public.forced']) as c`)
	}
	if after := scan[string](t, h.owner, state); after != before {
		t.Errorf("from\n%s\nto\n%s", before, after)
	}

	execute(t, h.owner, `create table public.odd (n bigint, u uuid, c char(40), "case" text)`, `create materialized view public.mat as select * from public.orders`,
		`create collation public.nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false)`, `alter table public.odd add column ci text collate public.nocase`)
	for call, says := range map[string][]string{
		`'public.orders', 'tenant'`:           {"42703", "table public.orders has no column tenant"},
		`'public.odd', 'n'`:                   {"42804", "column n of table public.odd is bigint"},
		`'public.odd', 'u'`:                   {"42804", "uuid"},
		`'public.odd', 'c'`:                   {"42804", "character"},
		`'public.odd', 'ci'`:                  {"42P22", "takes different ids for equal"},
		`'public.invoked', 'id'`:              {"42809", "public.invoked is a view"},
		`'public.mat', 'id'`:                  {"42809", "public.mat is a view"},
		`'public.numbers', 'last_value'`:      {"42809", "no table"},
		`'public.days_1', 'org_id'`:           {"42809", "public.days_1 is a partition"},
		`'clerk.users', 'id'`:                 {"42809", "Rollcall's own"},
		`'public.nowhere', 'id'`:              {"42P01"},
		`null::regclass, 'organization_id'`:   {"22004"},
		`'public.orders'::regclass, null`:     {"42703"},
		`'pg_catalog.pg_class', 'relname'`:    {"42804"},
		`'public.odd', 'case'); select ('ok'`: nil,
	} {
		_, err := h.owner.Exec(t.Context(), `select clerk.isolate(`+call+`)`)
		if says == nil && err == nil {
			continue
		}
		refused(t, err, says...)
	}
}

// An index on the column is used, whatever else the query asks for.
func TestIsolatedPlans(t *testing.T) {
	t.Parallel()
	h := newTenants(t)
	execute(t, h.owner, `insert into public.orders select i, 'org_' || i % 500, i from generate_series(1, 20000) i`, `create index on public.orders (organization_id, note)`, `analyze public.orders`)
	h.isolate()
	app := connect(t, h.url)
	execute(t, app, `begin`, `select clerk.act_as('user_1', 'org_7')`)
	for _, query := range []string{`select * from public.orders`, `select * from public.orders order by note limit 5`, `select count(*) from public.orders where note > '5'`, `select * from public.orders where id = '7'`, `update public.orders set note = ''`} {
		rows, _ := app.Query(t.Context(), `explain (costs off) `+query)
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if plan := strings.Join(lines, "\n"); err != nil || strings.Contains(plan, "Seq Scan") || strings.Contains(plan, "Sort") {
			t.Errorf("%v %s\n%s", err, query, plan)
		}
	}
}
