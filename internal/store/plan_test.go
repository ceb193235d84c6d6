package store

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
	"github.com/rollcall-dev/rollcall/streams"
)

// told is what a store says is left over.
type told struct {
	mu     sync.Mutex
	reason string
}

func (l *told) tell(reason string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reason = reason
}

func (l *told) now() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.reason
}

// again is a process of the same store, with another configuration.
func (f *fixture) again(d stacktest.DB, change ...func(*Options)) *fixture {
	f.t.Helper()
	next := &fixture{Store: newStore(f.t, d, change...), t: f.t, db: f.db, next: f.next}
	var err error
	if next.at, err = next.Position(f.t.Context()); err != nil {
		f.t.Fatal(err)
	}
	return next
}

// readAgain reads the position, as who is told Moved does.
func (f *fixture) readAgain() {
	f.t.Helper()
	var err error
	if f.at, err = f.Position(f.t.Context()); err != nil {
		f.t.Fatal(err)
	}
}

func onDatabase(t *testing.T, change ...func(*Options)) (*fixture, stacktest.DB) {
	t.Helper()
	d := stacktest.Database(t)
	f := (&fixture{t: t, db: connect(t, d.OwnerURL)}).again(d, change...)
	f.commit(nil, streams.Position{Epoch: 1})
	return f, d
}

func without(table string, columns ...string) func(*Options) {
	return func(o *Options) { o.Exclude = map[string][]string{table: columns} }
}

func (f *fixture) planned() string {
	f.t.Helper()
	plan, err := f.PlanSchema(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	return strings.Join(plan.Drops(), ", ")
}

const phones = `[{"id":"p","phone_number":"+44"}]`

// What the configuration leaves out is written until somebody agrees to its
// removal; a process that was running finds out.
func TestColumnGoesAndComesBack(t *testing.T) {
	t.Parallel()
	other := stacktest.Database(t)
	all, d := onDatabase(t)
	_, role := asRole(t, d, other)
	execute(t, all.db, fmt.Sprintf(`grant usage on schema clerk to %s; grant select on clerk.users_live to public; grant select (id, email, phone), update (email) on clerk.users_live to %[1]s with grant option`, role))
	all.event("user.created", 1, `{"id":"u1","updated_at":1,"primary_phone_number_id":"p","phone_numbers":`+phones+`}`)

	var left told
	narrow := all.again(d, without("users", "phone", "phone_numbers", "enterprise_accounts"), func(o *Options) { o.Leftover = left.tell })
	for _, word := range []string{"users.phone", "user_enterprise_accounts", "rollcall store apply app --confirm-drop"} {
		if !strings.Contains(left.now(), word) {
			t.Errorf("%q does not say %q", left.now(), word)
		}
	}
	narrow.event("user.updated", 2, `{"id":"u1","updated_at":2,"primary_phone_number_id":"p","phone_numbers":[{"id":"p","phone_number":"+49"}]}`)
	narrow.event("user.created", 2, `{"id":"u2","updated_at":2,"primary_phone_number_id":"p","phone_numbers":`+phones+`}`)
	narrow.event("user.deleted", 3, `{"id":"u2"}`)
	narrow.want("u1|+49|false\nu2|<nil>|true", `select id, phone, phone_numbers is null from clerk.users order by id`)

	// A letter that another process applies has all of it too.
	beside := newStore(t, d, without("users", "phone", "phone_numbers", "enterprise_accounts"))
	letter := event(99, "msg_99", "user.updated", t0+3, map[string]any{"id": "u1", "updated_at": 3, "primary_phone_number_id": "p", "phone_numbers": []map[string]any{{"id": "p", "phone_number": "+1"}}})
	for tries := range 2 {
		work, _ := beside.Prepare([]streams.Message{letter})
		if err := beside.Apply(t.Context(), work); isMoved(err) != (tries == 0) || err != nil && tries > 0 {
			t.Errorf("try %d: %v", tries, err)
		}
	}
	narrow.want("+1", `select phone from clerk.users where id = 'u1'`)

	const drops = "view user_enterprise_accounts, column users.phone, column users.phone_numbers, column users.enterprise_accounts"
	if got := narrow.planned(); got != drops {
		t.Errorf("the plan drops %s, want %s", got, drops)
	}
	applied, kept, err := narrow.ApplySchema(t.Context(), false)
	if err != nil || len(applied) != 0 || len(kept) != 1 {
		t.Fatalf("unconfirmed: %v, %v, %v", applied, kept, err)
	}
	narrow.want("+1", `select phone from clerk.users_live`)
	if _, kept, err = narrow.ApplySchema(t.Context(), true); err != nil || len(kept) != 0 {
		t.Fatalf("confirmed: %v, %v", kept, err)
	}
	if got := narrow.planned(); got != "" {
		t.Errorf("the plan still drops %s", got)
	}
	narrow.want("0|true", `select count(*), to_regclass('clerk.user_enterprise_accounts') is null from pg_attribute
where attrelid in ('clerk.users'::regclass, 'clerk.users_live'::regclass) and attname in ('phone', 'phone_numbers', 'enterprise_accounts')`)
	narrow.want("true|true|true|false", `select has_table_privilege('public', 'clerk.users_live', 'select'), has_column_privilege($1, 'clerk.users_live', 'id', 'select with grant option'),
has_column_privilege($1, 'clerk.users_live', 'email', 'update'), has_column_privilege($1, 'clerk.users_live', 'id', 'update')`, role)

	// The one that is running still writes the columns: it looks again, once.
	next := event(narrow.next+1, "msg_9", "user.updated", t0+9, map[string]any{"id": "u1", "updated_at": 9, "first_name": "Ada"})
	to := streams.Position{Epoch: 1, Sequence: next.Sequence, Time: next.Time}
	stale, _ := all.Prepare([]streams.Message{next})
	all.at = narrow.at
	all.selection, all.wanted = narrow.selection, narrow.wanted // as if it had been configured so
	if err := all.Commit(t.Context(), stale, all.at, to, 0, 0); !isMoved(err) {
		t.Fatalf("commit of what was prepared before: %v, want Moved", err)
	}
	all.readAgain()
	work, _ := all.Prepare([]streams.Message{next})
	all.commit(work, to)
	all.want("Ada", `select first_name from clerk.users_live`)

	whole := all.again(d)
	whole.want("<nil>|[users.phone users.phone_numbers users.enterprise_accounts]", `select u.phone, s.incomplete from clerk.users_live u, clerk.sync_status s`)
	if whole.again(d, without("users", "phone_numbers")); whole.planned() != "" {
		t.Error("a store of all has something to drop")
	}
	if _, _, err := whole.again(d, without("users", "phone_numbers")).ApplySchema(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	whole.want("[users.phone users.enterprise_accounts]", `select incomplete from clerk.sync_status`)
}

func TestResourceGoesAndComesBack(t *testing.T) {
	t.Parallel()
	all, d := onDatabase(t)
	all.event("role.created", 1, `{"id":"r1","key":"org:admin"}`)
	all.event("session.created", 1, `{"id":"s1","user_id":"u1","status":"active"}`)
	few := func(o *Options) { o.Resources = []string{"users", "organization_memberships", "permissions"} }
	narrow := all.again(d, few)
	narrow.event("session.ended", 2, `{"id":"s1","user_id":"u1","status":"ended"}`)
	narrow.event("user.deleted", 3, `{"id":"u1"}`)
	narrow.want("ended|true", `select status, deleted_at is not null from clerk.sessions`)

	if got := narrow.planned(); !strings.Contains(got, "table sessions, view member_permissions, view role_permissions_live, view role_permissions, table roles") {
		t.Errorf("the plan drops %s", got)
	}
	if _, _, err := narrow.ApplySchema(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	narrow = all.again(d, few)
	narrow.want("organization_memberships organization_memberships_live permissions permissions_live schema_version sync_status tombstones user_enterprise_accounts users users_live",
		`select string_agg(relname, ' ' order by relname) from pg_class where relnamespace = 'clerk'::regnamespace and relkind in ('r', 'v')`)
	if s := narrow.Subjects(); strings.Contains(strings.Join(s, " "), "session") {
		t.Errorf("it still reads %v", s)
	}
	narrow.event("session.created", 4, `{"id":"s2","user_id":"u2","status":"active"}`)

	whole := narrow.again(d)
	whole.want("true|false|0", `select 'sessions' = any(incomplete), 'users' = any(incomplete), (select count(*) from clerk.sessions) from clerk.sync_status`)
	whole.event("role.created", 5, `{"id":"r1","key":"org:admin","permissions":[{"id":"p1","key":"org:a"}]}`)
	whole.want("r1|org:a", `select role_id, permission_key from clerk.role_permissions_live`)
}

// What isn't ours is never dropped, and nothing is changed because of it.
func TestDropStopsAtTheServicesOwn(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		theirs []string
		change func(*Options)
		says   []string
	}{
		"a view on a column":    {[]string{`create view public.mine as select phone from clerk.users`}, without("users", "phone", "scim"), []string{"view mine depends on column phone of table clerk.users", "column users.phone", "column users.scim"}},
		"a view on a live view": {[]string{`create view public.mine as select id from clerk.users_live`}, without("users", "phone"), []string{"view mine depends on view clerk.users_live"}},
		"a foreign key":         {[]string{`create table public.logins (session_id text references clerk.sessions)`}, func(o *Options) { o.Resources = []string{"users"} }, []string{"constraint logins_session_id_fkey on table logins depends on table clerk.sessions"}},
		"a key on a column": {[]string{`alter table clerk.users add unique (username)`, `create table public.t (name text references clerk.users (username))`},
			without("users", "username"), []string{"constraint t_name_fkey on table t depends on"}},
		"a policy": {[]string{`create policy mine on clerk.users using (locale = 'en')`}, without("users", "locale"), []string{"policy mine on table clerk.users depends on column locale"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, d := onDatabase(t)
			execute(t, f.db, c.theirs...)
			before := scan[string](t, f.db, shape)
			narrow := f.again(d, c.change)
			_, _, err := narrow.ApplySchema(t.Context(), true)
			refused(t, err, append(c.says, "Rollcall drops only what is its own")...)
			if after := scan[string](t, f.db, shape); after != before {
				t.Errorf("changed from\n%s\nto\n%s", before, after)
			}
			narrow.event("user.created", 1, `{"id":"u1"}`) // and goes on
		})
	}
}

// What this release doesn't know is another's.
func TestDropLeavesTheUnknown(t *testing.T) {
	t.Parallel()
	f, d := onDatabase(t)
	execute(t, f.db, `alter table clerk.users add column of_a_newer_release text, add column theirs int`, `create table clerk.newer (id text primary key, version bytea)`,
		`drop table clerk.sessions cascade`, `create table clerk.sessions (id text)`, // one of the service's
		`update clerk.schema_version set version = 99`)
	narrow := f.again(d, func(o *Options) { o.Resources, o.Exclude = []string{"users"}, map[string][]string{"users": {"phone"}} })
	if got := narrow.planned(); strings.Contains(got, "newer") || strings.Contains(got, "theirs") || strings.Contains(got, "sessions") || !strings.Contains(got, "users.phone") {
		t.Errorf("the plan drops %s", got)
	}
	if _, _, err := narrow.ApplySchema(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	f.want("2|false|false", `select count(*), to_regclass('clerk.sessions') is null, to_regclass('clerk.newer') is null from pg_attribute
where attrelid = 'clerk.users'::regclass and attname in ('of_a_newer_release', 'theirs')`)
	narrow.readAgain()
	narrow.event("user.created", 1, `{"id":"u1"}`)
}

// Who may not change the schema says what has to be run, and goes on once it was.
func TestMigrateOffSaysWhatToRun(t *testing.T) {
	t.Parallel()
	other := stacktest.Database(t)
	d := stacktest.Database(t)
	app, role := asRole(t, d, other)
	core, logs := observer.New(zap.InfoLevel)
	off := func(o *Options) {
		o.DatabaseURL, o.MigrateDatabaseURL, o.Migrate, o.Log = app, app, MigrateOff, zap.New(core)
	}
	s := newStore(t, d, off)
	for range 2 {
		refused(t, s.Migrate(t.Context()), "migrate is off", "rollcall store apply app", "rollcall store plan app", `create schema "clerk"`)
	}
	said := logs.FilterMessage("what the schema's owner has to run").All()
	if len(said) != 1 {
		t.Fatalf("it was said %d times", len(said))
	}
	script := said[0].ContextMap()["sql"].(string)
	db := connect(t, d.OwnerURL)
	if _, err := db.PgConn().Exec(t.Context(), script).ReadAll(); err != nil {
		t.Fatalf("%v\n%s", err, script)
	}
	writeOne(t, s, "user_1")
	execute(t, db, fmt.Sprintf(`revoke all on all tables in schema clerk from %s`, role))
	refused(t, newStore(t, d, off).Migrate(t.Context()), "have the schema's owner run: grant usage")
	execute(t, db, fmt.Sprintf(`grant select, insert, update, delete on all tables in schema clerk to %s`, role))
	// What is left over doesn't stop it.
	writeOne(t, newStore(t, d, off, without("users", "phone")), "user_2")
	// apply is an owner's own will.
	narrow := newStore(t, d, func(o *Options) { o.DatabaseURL, o.Migrate = app, MigrateOff }, without("users", "phone"))
	if _, _, err := narrow.ApplySchema(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	writeOne(t, newStore(t, d, off, without("users", "phone")), "user_3")
}

// The script does what apply does.
func TestScriptOfDrops(t *testing.T) {
	t.Parallel()
	f, d := onDatabase(t)
	narrow := f.again(d, func(o *Options) {
		o.Resources, o.Include = []string{"users"}, map[string][]string{"users": {"private_metadata"}}
	})
	narrow = narrow.again(d, func(o *Options) { o.Resources = []string{"users", "sessions"} })
	plan, err := narrow.PlanSchema(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	script := narrow.Script(plan)
	if !strings.Contains(script, "-- destructive: drops column users.private_metadata\n") {
		t.Errorf("the script doesn't mark what is destructive:\n%s", script)
	}
	if _, err := f.db.PgConn().Exec(t.Context(), script).ReadAll(); err != nil {
		t.Fatalf("%v\n%s", err, script)
	}
	if plan, err := narrow.PlanSchema(t.Context()); err != nil || len(plan) != 0 {
		t.Errorf("%v, %v is left", plan, err)
	}
}

// The one that runs says so no longer once it is dropped.
func TestWatchLeftover(t *testing.T) {
	t.Parallel()
	f, d := onDatabase(t)
	var left told
	narrow := f.again(d, without("users", "phone"), func(o *Options) { o.Leftover = left.tell })
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- narrow.WatchLeftover(ctx, time.Millisecond) }()
	if _, _, err := f.again(d, without("users", "phone")).ApplySchema(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	stacktest.Eventually(t, 10*time.Second, func() error {
		if reason := left.now(); reason != "" {
			return fmt.Errorf("it says %s", reason)
		}
		return nil
	})
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
