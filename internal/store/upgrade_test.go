package store

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"testing"

	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
)

// runPrevious writes as the release before does: its statements, with its
// parameters.
func runPrevious(t *testing.T, f *fixture) {
	t.Helper()
	text, err := os.ReadFile("testdata/previous_writer.json")
	if err != nil {
		t.Fatal(err)
	}
	var statements []struct {
		SQL    string
		Params []struct {
			OID   uint32
			Value string
		}
	}
	if err := json.Unmarshal(text, &statements); err != nil {
		t.Fatal(err)
	}
	for _, s := range statements {
		var values [][]byte
		var oids []uint32
		for _, p := range s.Params {
			value, err := hex.DecodeString(p.Value)
			if err != nil {
				t.Fatal(err)
			}
			values, oids = append(values, value), append(oids, p.OID)
		}
		if result := f.db.PgConn().ExecParams(t.Context(), s.SQL, values, oids, []int16{1}, nil).Read(); result.Err != nil {
			t.Errorf("%s: %v", s.SQL, result.Err)
		}
	}
}

// A store of the release before gets this one's tables and columns, says which
// of them came too late, keeps its rows, and that release still writes.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	d := stacktest.Database(t)
	f := &fixture{Store: newStore(t, d), t: t, db: connect(t, d.OwnerURL)}
	ddl, err := os.ReadFile("testdata/previous_schema.sql")
	if err != nil {
		t.Fatal(err)
	}
	execute(t, f.db, string(ddl))
	runPrevious(t, f)
	execute(t, f.db, `update clerk.sync_status set epoch = 1, position = 6`, `create view public.mine as select id, name from clerk.users_live`)

	refused(t, newStore(t, d, func(o *Options) { o.Migrate = MigrateOff }).Migrate(t.Context()), "migrate is off")
	if f.at, err = f.Position(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.next = f.at.Sequence
	f.want(fmt.Sprint(newestMigration(), "|0"), `select version, needs from clerk.schema_version`)
	f.want("user_old|Ada|<nil>", `select id, first_name, deprovisioned from clerk.users_live`)
	f.want("true|true|false", `select 'sessions' = any(incomplete), 'users.deprovisioned' = any(incomplete), 'users.banned' = any(incomplete) from clerk.sync_status`)
	f.event("user.updated", 9, `{"id":"user_old","updated_at":1800000000000,"first_name":"Ada","deprovisioned":true}`)
	f.event("session.created", 9, `{"id":"sess_1","user_id":"user_gone","status":"active"}`)
	f.want("user_old|true", `select id, deprovisioned from clerk.users_live`)
	f.want("sess_1|true", `select id, deleted_at is not null from clerk.sessions`)
	f.want("user_old|Ada", `select * from public.mine`)

	runPrevious(t, f) // what it wrote before loses against what is newer
	f.want("user_old|true", `select id, deprovisioned from clerk.users_live`)

	// Rolled back for a while, once all had been filled: that is found.
	execute(t, f.db, `update clerk.sync_status set incomplete = '{}', epoch = 1, position = 20`)
	f.readAgain()
	f.want("true|8|20", `select 'users' = any(incomplete), fill_position, fill_to from clerk.sync_status`)
	if err := newStore(t, d).Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// A new store lacks nothing.
func TestNewStoreIsComplete(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.want("[]", `select incomplete from clerk.sync_status`)
	f.want("people who can sign in|the primary e-mail address; not unique", `select obj_description('clerk.users'::regclass), col_description('clerk.users'::regclass, attnum)
from pg_attribute where attrelid = 'clerk.users'::regclass and attname = 'email'`)
}
