package store

import (
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rollcall-dev/rollcall/streams"
)

// withForeignKeys is a store whose service holds users and memberships by
// foreign keys.
func withForeignKeys(t *testing.T, onDelete, kind string) (*fixture, *prometheus.Registry) {
	registry := prometheus.NewRegistry()
	f := newFixture(t, func(o *Options) { o.OnDelete, o.Metrics = onDelete, NewMetrics(registry) })
	execute(t, f.db, `create table public.orders (user_id text not null references clerk.users `+kind+`)`)
	for _, id := range []string{"user_1", "user_2", "user_3"} {
		f.event("user.created", 0, `{"id":"`+id+`","first_name":"Ada","updated_at":1}`)
		f.event("organizationMembership.created", 0, `{"id":"orgmem_`+id+`","organization":{"id":"org_1"},"public_user_data":{"user_id":"`+id+`"}}`)
	}
	execute(t, f.db, `insert into public.orders values ('user_2')`)
	return f, registry
}

func held(t *testing.T, registry *prometheus.Registry) (n float64) {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == "rollcall_store_held_rows_total" {
			for _, m := range family.GetMetric() {
				n += m.GetCounter().GetValue()
			}
		}
	}
	return n
}

// Whatever kind of foreign key there is, the position moves, and what it holds
// stays as a tombstone.
func TestForeignKeysMakeNoPoison(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		onDelete, kind, users, orders string
		held                          float64
	}{
		{OnDeleteTombstone, "", "user_1|true|<nil>\nuser_2|true|<nil>\nuser_3|true|<nil>", "user_2", 0},
		{OnDeleteKeep, "", "user_1|true|Ada\nuser_2|true|Ada\nuser_3|true|Ada", "user_2", 0},
		{OnDeleteHard, "", "user_2|true|<nil>", "user_2", 1},
		{OnDeleteHard, "on delete restrict", "user_2|true|<nil>", "user_2", 1},
		{OnDeleteHard, "deferrable initially deferred", "user_2|true|<nil>", "user_2", 1},
		{OnDeleteHard, "on delete set null", "user_2|true|<nil>", "user_2", 1}, // which not null forbids
		{OnDeleteHard, "on delete cascade", "", "", 0},
	} {
		t.Run(c.onDelete+" "+c.kind, func(t *testing.T) {
			t.Parallel()
			f, registry := withForeignKeys(t, c.onDelete, c.kind)
			f.event("user.deleted", 1, `{"id":"user_1"}`)
			f.event("user.deleted", 2, `{"id":"user_2"}`)
			f.event("user.deleted", 3, `{"id":"user_3"}`)
			f.event("user.updated", 9, `{"id":"user_1","first_name":"Zombie","updated_at":9}`)
			f.want(c.users, `select id, deleted_at is not null, case when id = 'user_1' and first_name = 'Zombie' then 'Ada' else first_name end from clerk.users order by 1`)
			f.want(c.orders, `select user_id from public.orders`)
			f.want("user_1\nuser_2\nuser_3", `select id from clerk.tombstones where resource = 'users' order by 1`)
			members := "3"
			if c.onDelete == OnDeleteHard {
				members = "0"
			}
			f.want(members, `select count(*) from clerk.organization_memberships`)
			f.want("0", `select count(*) from clerk.organization_memberships_live`)
			if n := held(t, registry); n != c.held {
				t.Errorf("%v rows held, want %v", n, c.held)
			}
		})
	}
}

// Many in one batch of which one is held: the others go.
func TestOneOfABatchIsHeld(t *testing.T) {
	t.Parallel()
	f, _ := withForeignKeys(t, OnDeleteHard, "")
	f.apply(event(101, "msg_101", "user.deleted", t0, map[string]any{"id": "user_1"}), event(102, "msg_102", "user.deleted", t0, map[string]any{"id": "user_2"}),
		event(103, "msg_103", "user.deleted", t0, map[string]any{"id": "user_3"}), event(104, "msg_104", "user.created", t0, map[string]any{"id": "user_4"}))
	f.want("user_2\nuser_4", `select id from clerk.users order by 1`)
}

// A row that an open transaction has just referred to isn't waited for.
func TestHeldByAnOpenTransaction(t *testing.T) {
	t.Parallel()
	f, _ := withForeignKeys(t, OnDeleteHard, "")
	service := connect(t, f.o.MigrateDatabaseURL)
	execute(t, service, `begin`, `insert into public.orders values ('user_1')`)
	began := time.Now()
	f.event("user.deleted", 1, `{"id":"user_1"}`)
	if took := time.Since(began); took > 900*time.Millisecond {
		t.Errorf("took %s", took)
	}
	execute(t, service, `commit`)
	f.want("user_1|true", `select id, deleted_at is not null from clerk.users where id = 'user_1'`)
}

// What was held goes once nothing holds it any more, and what still is held
// doesn't keep others.
func TestTidy(t *testing.T) {
	t.Parallel()
	f, _ := withForeignKeys(t, OnDeleteHard, "")
	execute(t, f.db, `insert into public.orders select clerk.ensure_user('user_' || i) from generate_series(1, 150) i`)
	var deletes []streams.Message
	for i := range 150 {
		deletes = append(deletes, event(uint64(101+i), fmt.Sprint("msg_", 101+i), "user.deleted", t0, map[string]any{"id": fmt.Sprint("user_", 1+i)}))
	}
	f.apply(deletes...)
	f.next = 300
	tidy := func(want string) {
		t.Helper()
		if err := f.Tidy(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.want(want, `select count(*), count(deleted_at) from clerk.users`)
	}
	tidy("150|150")
	execute(t, f.db, `delete from public.orders where user_id <> 'user_2'`)
	if err := f.Tidy(t.Context()); err != nil { // where it is among the first hundred, the rest are the next time's
		t.Fatal(err)
	}
	tidy("1|1")
	tidy("1|1")
	execute(t, f.db, `delete from public.orders`)
	tidy("0|0")
	f.event("user.updated", 9, `{"id":"user_2","first_name":"Zombie","updated_at":9}`)
	f.want("0", `select count(*) from clerk.users`)
}

// What went with its parent isn't forgotten: an older event of it that names
// another parent, or none, brings nothing back, its own deletion counts for
// ever, and until then a newer one that lives does.
func TestWentWithItsParent(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(o *Options) { o.OnDelete = OnDeleteHard })
	member := func(at int64, user string) {
		f.event("organizationMembership.updated", at, `{"id":"m1","updated_at":`+string('0'+rune(at))+`,"public_user_data":{"user_id":"`+user+`"}}`)
	}
	member(5, "user_1")
	f.event("user.deleted", 1, `{"id":"user_1"}`)
	f.want("0", `select count(*) from clerk.organization_memberships`)
	member(4, "user_2")
	f.want("0", `select count(*) from clerk.organization_memberships`)
	member(6, "user_2")
	f.want("m1|user_2|<nil>", `select id, user_id, deleted_at from clerk.organization_memberships`)
	member(7, "user_1")
	member(6, "user_2") // again
	f.want("0", `select count(*) from clerk.organization_memberships`)
	f.event("organizationMembership.deleted", 9, `{"id":"m1"}`)
	member(8, "user_2")
	f.want("0", `select count(*) from clerk.organization_memberships`)
}

// An erased person's rows lose what is personal whatever becomes of deleted rows,
// also where the person was deleted before.
func TestErase(t *testing.T) {
	t.Parallel()
	for _, onDelete := range []string{OnDeleteTombstone, OnDeleteKeep} {
		t.Run(onDelete, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, func(o *Options) { o.OnDelete = onDelete })
			for _, id := range []string{"user_1", "user_2"} {
				f.event("user.created", 0, `{"id":"`+id+`","first_name":"Ada","updated_at":1}`)
				f.event("session.created", 0, `{"id":"s_`+id+`","user_id":"`+id+`","actor":{"sub":"x"},"updated_at":1}`)
			}
			f.event("user.deleted", 1, `{"id":"user_1"}`)
			f.next++
			m := event(f.next, "erase:user_1", "user.deleted", t0+2, nil)
			m.Header.Set(streams.HeaderSource, string(streams.SourceErase))
			m.Data = []byte(`{"type":"user.deleted","timestamp":2,"data":{"id":"user_1"}}`)
			f.apply(m)
			f.want("user_1|true|<nil>\nuser_2|false|Ada", `select id, deleted_at is not null, first_name from clerk.users order by 1`)
			f.want("s_user_1|<nil>\ns_user_2|x", `select id, actor->>'sub' from clerk.sessions order by 1`)
		})
	}
}
