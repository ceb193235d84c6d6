package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/nats-io/nats.go"

	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
	"github.com/rollcall-dev/rollcall/streams"
)

func TestMain(m *testing.M) { stacktest.Main(m) }

// subject of the tests: a store on a database of its own, and a log of
// messages that only the test knows.
type fixture struct {
	*Store
	t    testing.TB
	db   *pgx.Conn // as the service would read it
	at   streams.Position
	next uint64
}

func newFixture(t testing.TB, change ...func(*Options)) *fixture {
	t.Helper()
	d := stacktest.Database(t)
	s := newStore(t, d, change...)
	if _, err := s.Position(t.Context()); err != nil {
		t.Fatal(err)
	}
	f := &fixture{Store: s, t: t, db: connect(t, d.OwnerURL)}
	f.commit(nil, streams.Position{Epoch: 1})
	return f
}

// t0 is some time in milliseconds: 22:13:20 UTC.
const t0 = 1_700_000_000_000

// event makes a message of the log.
func event(sequence uint64, eventID, eventType string, timestamp int64, data map[string]any) streams.Message {
	body, err := json.Marshal(map[string]any{"type": eventType, "object": "event", "instance_id": "ins_1", "timestamp": timestamp, "data": data})
	if err != nil {
		panic(err)
	}
	resource, action, _ := streams.SplitType(eventType)
	id, _ := data["id"].(string)
	return streams.Message{
		Subject: streams.Names{}.Subject(streams.Subject{InstanceID: "ins_1", Resource: resource, Action: action, EntityID: id}),
		Header:  nats.Header{streams.HeaderSvixID: {eventID}, streams.HeaderSource: {"webhook"}},
		Data:    body, Sequence: sequence, Time: time.UnixMilli(int64(sequence)),
	}
}

func (f *fixture) commit(work any, to streams.Position) {
	f.t.Helper()
	if err := f.Commit(f.t.Context(), work, f.at, to, 0, 0); err != nil {
		f.t.Fatal(err)
	}
	f.at = to
}

// apply applies one batch.
func (f *fixture) apply(messages ...streams.Message) {
	f.t.Helper()
	work, rejected := f.Prepare(messages)
	if len(rejected) > 0 {
		f.t.Fatalf("rejected: %v", rejected)
	}
	last := messages[len(messages)-1]
	f.commit(work, streams.Position{Epoch: 1, Sequence: last.Sequence, Time: last.Time})
}

// one reads one row as text, column by column.
func (f *fixture) one(query string, args ...any) string {
	f.t.Helper()
	rows, err := f.db.Query(f.t.Context(), query, args...)
	if err != nil {
		f.t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (string, error) {
		values, err := r.Values()
		var parts []string
		for _, v := range values {
			if at, ok := v.(time.Time); ok {
				v = at.UTC().Format("15:04:05.000")
			}
			parts = append(parts, fmt.Sprint(v))
		}
		return strings.Join(parts, "|"), err
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return strings.Join(all, "\n")
}

func (f *fixture) want(want, query string, args ...any) {
	f.t.Helper()
	if got := f.one(query, args...); got != want {
		f.t.Errorf("%s\n got %s\nwant %s", query, got, want)
	}
}

func TestLifeOfAMember(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	user := func(seq uint64, action string, at int64, first string) streams.Message {
		at += t0
		return event(seq, fmt.Sprintf("msg_%d", seq), "user."+action, at, map[string]any{
			"id": "user_1", "first_name": first, "last_name": "Lovelace", "banned": false, "updated_at": at, "created_at": 1000,
			"primary_email_address_id": "idn_2", "email_addresses": []map[string]any{
				{"id": "idn_1", "email_address": "old@example.org"},
				{"id": "idn_2", "email_address": "ada@example.org", "verification": map[string]any{"status": "verified"}},
			}, "public_metadata": map[string]any{"n": json.Number("12345678901234567890")},
		})
	}
	org := event(3, "msg_3", "organization.created", t0+1000, map[string]any{"id": "org_1", "name": "Acme", "slug": "acme", "updated_at": 1000})
	member := event(4, "msg_4", "organizationMembership.created", t0+1000, map[string]any{
		"id": "orgmem_1", "role": "org:admin", "permissions": []string{"org:a:b", `q"u\o`}, "updated_at": 1000,
		"organization": map[string]any{"id": "org_1"}, "public_user_data": map[string]any{"user_id": "user_1"},
	})
	f.apply(user(2, "updated", 2000, "Ada"), user(1, "created", 1000, "A."), org, member)

	f.want("Ada Lovelace|ada@example.org|true|ins_1|webhook|1|2", `select name, email, email_verified, instance_id, source, stream_epoch, stream_seq from clerk.users`)
	f.want("12345678901234567890", `select public_metadata->>'n' from clerk.users_live`)
	f.want(`org_1|user_1|org:admin|[org:a:b q"u\o]`, `select organization_id, user_id, role, permissions from clerk.organization_memberships_live`)
	f.want("app|1|4|0", `select store, epoch, position, dead_letters from clerk.sync_status where complete_since is not null`)

	f.apply(event(5, "msg_5", "user.deleted", t0+5000, map[string]any{"id": "user_1", "deleted": true}))
	f.want("user_1|<nil>|<nil>|22:13:25.000|5", `select id, name, email, deleted_at, stream_seq from clerk.users`)
	f.want("orgmem_1|org:admin|22:13:25.000", `select id, role, deleted_at from clerk.organization_memberships`)
	f.want("0|0|1", `select (select count(*) from clerk.users_live), (select count(*) from clerk.organization_memberships_live), (select count(*) from clerk.organizations_live)`)

	// What comes late brings nothing back.
	f.apply(user(6, "updated", 9000, "Zombie"))
	f.want("user_1|<nil>|22:13:25.000|6", `select id, name, deleted_at, stream_seq from clerk.users`)
}

func TestDeletionBeforeCreation(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.apply(event(1, "msg_1", "organization.deleted", t0+7, map[string]any{"id": "org_1"}))
	f.want("org_1|22:13:20.007||", `select id, deleted_at, coalesce(name, ''), encode(version, 'hex') from clerk.organizations`)
	f.apply(event(2, "msg_2", "organizationMembership.created", 9000, map[string]any{"id": "orgmem_1", "updated_at": 9000, "organization": map[string]any{"id": "org_1"}}))
	f.want("22:13:20.007", `select deleted_at from clerk.organization_memberships`)
}

func TestCommitMovesThePositionOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	m := event(1, "msg_1", "user.created", 1, map[string]any{"id": "user_1", "updated_at": 1})
	work, _ := f.Prepare([]streams.Message{m})
	from, to := f.at, streams.Position{Epoch: 1, Sequence: 1, Time: m.Time}
	f.commit(work, to)
	err := f.Commit(t.Context(), work, from, to, 0, 0)
	if !isMoved(err) {
		t.Fatalf("a second commit from the same position: %v, want Moved", err)
	}
	if at, err := f.Position(t.Context()); err != nil || at.Sequence != 1 || !at.Time.Equal(m.Time) {
		t.Errorf("position %+v, %v", at, err)
	}
}

func TestPoison(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	_, rejected := f.Prepare([]streams.Message{
		event(1, "msg_1", "user.created", 1, map[string]any{"id": "user_1"}),
		event(2, "msg_2", "user.created", 1, map[string]any{"id": "user_2", "banned": map[string]any{}}),
		event(3, "msg_3", "user.created", 1, map[string]any{}),
	})
	if len(rejected) != 2 || rejected[1].Error() != "users.banned: data.banned is an object, which is no boolean" || rejected[2].Error() != "the event has no data.id" {
		t.Errorf("rejected %v", rejected)
	}
	// What only Postgres refuses: a number that numeric can't hold.
	work, rejected := f.Prepare([]streams.Message{event(4, "msg_4", "user.created", 1, map[string]any{"id": "user_4", "public_metadata": map[string]any{"n": json.Number("1e400000")}})})
	if len(rejected) > 0 {
		t.Fatalf("rejected %v", rejected)
	}
	err := f.Commit(t.Context(), work, f.at, streams.Position{Epoch: 1, Sequence: 4}, 0, 0)
	if p := (*Error)(nil); !errors.As(err, &p) || !p.Poison() {
		t.Fatalf("%v, want Poison", err)
	}
	if at, err := f.Position(t.Context()); err != nil || at != f.at {
		t.Errorf("the position moved to %+v, %v", at, err)
	}
	f.apply(event(5, "msg_5", "user.created", 1, map[string]any{"id": "user_5"}))
}

// A full queue of notes has SQLSTATE 54000, as a value too long for an index has;
// it takes 8 GB to fill one.
func TestFullNotifyQueueIsNoPoison(t *testing.T) {
	t.Parallel()
	if full := (&Error{&pgconn.PgError{Code: "54000", Routine: "PreCommit_Notify"}}); full.Poison() {
		t.Error("it is the batch's")
	}
	if long := (&Error{&pgconn.PgError{Code: "54000", Routine: "index_form_tuple_context"}}); !long.Poison() {
		t.Error("a value too long isn't")
	}
}

func TestUnstorableCharacters(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	m := event(1, "msg_1", "user.created", 1, nil)
	m.Data = []byte(`{"type":"user.created","timestamp":1,"data":{"id":"user_1","first_name":"a\u0000b\ud800c","public_metadata":{"x\udead":"\u0000","n":9007199254740993}}}`)
	f.apply(m)
	f.want("a\uFFFDb\uFFFDc|{\"n\": 9007199254740993, \"x\uFFFD\": \"\uFFFD\"}", `select first_name, public_metadata::text from clerk.users`)
}

func isMoved(err error) bool {
	var moved errMoved
	return errors.As(err, &moved)
}

func TestDroppedSchemaIsMadeAgain(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	if _, err := f.db.Exec(t.Context(), `drop schema clerk cascade`); err != nil {
		t.Fatal(err)
	}
	if err := f.Commit(t.Context(), nil, f.at, streams.Position{Epoch: 1, Sequence: 1}, 0, 0); !isMoved(err) {
		t.Fatalf("commit: %v, want Moved", err)
	}
	if at, err := f.Position(t.Context()); err != nil || at.Sequence != 0 || at.Epoch != 0 {
		t.Errorf("position %+v, %v; want the beginning", at, err)
	}
}
