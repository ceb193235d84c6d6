package audit

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/internal/schema"
	"github.com/rollcall-dev/rollcall/streams"
)

func TestRowHoldsWhatTheEventSays(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	session := r.event("session.created", "sess_1", `{"id":"sess_1","object":"session","user_id":"user_1","last_active_organization_id":"org_1","actor":{"sub":"user_admin"},"user":{"id":"user_1"}}`)
	membership := r.event("organizationMembership.created", "orgmem_1", `{"id":"orgmem_1","organization":{"id":"org_2","created_by":"user_9"},"public_user_data":{"user_id":"user_1"},"role":"org:admin"}`)
	odd := r.event("sms.created", "", `"\u0000"`)
	odd.Data = []byte("no JSON\x00\xff")
	odd.Header.Set(streams.HeaderRedacted, "data.message")
	r.append(session, membership, odd)

	var got struct{ resource, entity, actor, org, ip, agent, payload string }
	r.query(`select resource, entity_id, actor_id, organization_id, client_ip, user_agent, convert_from(payload, 'utf8') from rollcall_audit.events where seq = 1`,
		&got.resource, &got.entity, &got.actor, &got.org, &got.ip, &got.agent, &got.payload)
	if got.resource != "sessions" || got.entity != "sess_1" || got.actor != "user_admin" || got.org != "org_1" || got.ip != "203.0.113.1" || !strings.Contains(got.agent, "Macintosh") || got.payload != string(session.Data) {
		t.Errorf("%+v", got)
	}
	var occurred, received time.Time
	var actor *string
	r.query(`select resource, organization_id, actor_id, occurred_at, received_at from rollcall_audit.events where seq = 2`, &got.resource, &got.org, &actor, &occurred, &received)
	if got.resource != "organization_memberships" || got.org != "org_2" || actor != nil || !occurred.Equal(start.Add(2*time.Second)) || !received.Equal(occurred) {
		t.Errorf("membership: %+v, actor %v, %s, %s", got, actor, occurred, received)
	}
	var signature *string
	var payload []byte
	r.query(`select resource, payload, svix_signature from rollcall_audit.events where seq = 3`, &got.resource, &payload, &signature)
	if got.resource != "sms" || string(payload) != string(odd.Data) || signature != nil {
		t.Errorf("sms: %s, %q, %v", got.resource, payload, signature)
	}
}

func TestChanged(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.append(
		r.event("user.created", "user_1", `{"id":"user_1","first_name":"Ada","password_enabled":false,"private_metadata":{},"public_metadata":{"a":1,"b":2},"updated_at":1,"phone_numbers":[]}`),
		r.event("user.updated", "user_1", `{"id":"user_1","first_name":"Ada","password_enabled":true,"private_metadata":{"x":1},"public_metadata": {"b":2, "a":1},"updated_at":2,"phone_numbers":[]}`))
	r.append(
		r.event("user.updated", "user_2", `{"id":"user_2","first_name":"Bob"}`),
		r.event("user.updated", "user_1", `{"id":"user_1","first_name":"Eve","last_name":"L\u0000","phone_numbers":[{"backup_codes":["1"],"n":1}]}`),
		r.event("user.deleted", "user_1", `{"id":"user_1","deleted":true}`),
		r.event("user.updated", "user_1", `{"id":"user_1","first_name":"Eve"}`))
	for seq, want := range map[int]string{
		1: ``,
		2: `{"password_enabled":{"before":false,"after":true},"private_metadata":{"secret":true}}`,
		3: ``,
		4: `{"first_name":{"before":"Ada","after":"Eve"},"phone_numbers":{"before":[],"after":[{"backup_codes":"[secret]","n":1}]}}`,
		5: ``,
		6: ``,
	} {
		var got string
		r.query(`select coalesce(changed::text, '') from rollcall_audit.events where seq = `+string(rune('0'+seq)), &got)
		if got != want {
			t.Errorf("row %d: %s, want %s", seq, got, want)
		}
	}
}

// Each event once: twice in a batch, in another batch, over a month's end, after
// a rewind.
func TestEachEventOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.fill(20)
	before := r.n
	again := r.user("updated", 1, "")
	again.Header.Set(streams.HeaderSvixID, "msg_0003")
	again.Header.Set(streams.HeaderReceivedAt, "1798761600000") // January 2027
	fresh := r.user("updated", 1, "")
	r.append(again, fresh, fresh)
	r.commit(nil, streams.Position{Epoch: epoch + 1})
	work, _ := r.log.Prepare([]streams.Message{fresh, again})
	r.commit(work, streams.Position{Epoch: epoch + 1, Sequence: 2})
	var rows, ids, last int
	r.query(`select count(*), count(distinct event_id), max(seq) from rollcall_audit.events`, &rows, &ids, &last)
	if want := before + 1; rows != want || ids != want || last != want || r.head.Seq != int64(want) {
		t.Errorf("%d rows, %d ids, last %d, head %d; want %d", rows, ids, last, r.head.Seq, want)
	}
}

func TestBackfillIsOneRow(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	snapshot, run, repair := r.user("snapshot", 1, ""), r.event("rollcall.backfill", "run_1", `{"id":"run_1","by":"ops@host"}`), r.user("snapshot", 1, "")
	snapshot.Header.Set(streams.HeaderSource, string(streams.SourceBackfill))
	run.Header.Set(streams.HeaderSource, string(streams.SourceBackfill))
	repair.Header.Set(streams.HeaderSource, string(streams.SourceReconcile))
	r.append(snapshot, run, repair)
	var types string
	r.query(`select string_agg(concat_ws(' ', resource, type, actor_id), ', ' order by seq) from rollcall_audit.events`, &types)
	if want := "rollcall rollcall.backfill ops@host, users user.snapshot"; types != want {
		t.Errorf("rows %q, want %q", types, want)
	}
}

func TestZombieChangesNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	old := r.at
	r.fill(5)
	work, _ := r.log.Prepare([]streams.Message{r.user("updated", 1, "")})
	err := r.log.Commit(t.Context(), work, old, streams.Position{Epoch: epoch, Sequence: 99}, 0, 0)
	var moved schema.Moved
	if !errors.As(err, &moved) || !moved.Moved() {
		t.Errorf("a commit from an old position: %v", err)
	}
	var rows int
	r.query(`select count(*) from rollcall_audit.events`, &rows)
	if rows != 5 {
		t.Errorf("%d rows", rows)
	}
}

// Neither the writer nor the owner changes rows; partitions are no way around.
func TestAppendOnly(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	url := r.writer()
	r.log = r.open(Options{DatabaseURL: url, MigrateDatabaseURL: r.db.OwnerURL})
	var err error
	if r.at, err = r.log.Position(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.fill(20)
	for _, sql := range []string{
		`update rollcall_audit.events set type = 'x' where seq = 3`,
		`update rollcall_audit.events_2026_10 set payload = null`,
		`delete from rollcall_audit.events where seq = 3`,
		`delete from rollcall_audit.events_2026_10`,
		`truncate rollcall_audit.events`,
		`truncate rollcall_audit.events_2026_10`,
		`begin; set local rollcall_audit.redacting = 'on'; update rollcall_audit.events set type = 'x'`,
		`begin; set local rollcall_audit.redacting = 'on'; delete from rollcall_audit.events`,
	} {
		for who, url := range map[string]string{"the writer": url, "the owner": r.db.OwnerURL, "a superuser": r.db.AdminURL} {
			if err := r.as(url, sql); err == nil {
				t.Errorf("%s may: %s", who, sql)
			} else if who == "the owner" && !strings.Contains(err.Error(), "only appended") {
				t.Errorf("%s: %s: %v", who, sql, err)
			}
		}
	}
	for _, sql := range []string{`select rollcall_audit.redact('{1}', '{payload}', 'x')`, `delete from rollcall_audit.event_ids`, `insert into rollcall_audit.prunes (before, last_seq, last_hash) values (now(), 1, '')`} {
		if err := r.as(url, sql); err == nil {
			t.Errorf("the writer may: %s", sql)
		}
	}
}

// Full or read-only: an error that is retried, and nothing is lost by it.
func TestReadOnlyIsTransient(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var name string
	r.query(`select current_database()`, &name)
	set := func(on string) {
		t.Helper()
		if err := r.as(r.db.AdminURL, "begin read write; alter database "+name+" set default_transaction_read_only = "+on+"; commit; select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"); err != nil {
			t.Fatal(err)
		}
	}
	set("on")
	message := r.user("updated", 1, "")
	work, _ := r.log.Prepare([]streams.Message{message})
	to := streams.Position{Epoch: epoch, Sequence: message.Sequence}
	for range 3 {
		err := r.log.Commit(t.Context(), work, r.at, to, 0, 0)
		var poison interface{ Poison() bool }
		if err == nil || errors.As(err, &poison) && poison.Poison() {
			t.Errorf("a commit to a read-only database: %v", err)
		}
	}
	set("off")
	var err error
	for range 10 { // the pool finds out which connections are gone
		if err = r.log.Commit(t.Context(), work, r.at, to, 0, 0); err == nil {
			break
		}
	}
	if err != nil || r.head.Seq != 1 {
		t.Errorf("afterwards: %v, head %d", err, r.head.Seq)
	}
}

func TestMigrateRefusesAForeignSchema(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if err := r.as(r.db.OwnerURL, `create schema other; create table other.mine ()`); err != nil {
		t.Fatal(err)
	}
	l := r.open(Options{DatabaseURL: r.db.URL, MigrateDatabaseURL: r.db.OwnerURL, Schema: "other"})
	if _, err := l.Position(context.Background()); err == nil || !strings.Contains(err.Error(), "aren't Rollcall's (mine)") {
		t.Errorf("a schema with tables of somebody else's: %v", err)
	}
}
