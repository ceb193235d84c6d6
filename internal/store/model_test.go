package store

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"pgregory.net/rapid"

	"github.com/rollcall-dev/rollcall/streams"
)

// The model: what the rows must be, told from all events at once. It shares no
// code with package projection and reads no JSON; a fact knows both how Clerk
// would write it and what the columns must say.

// fact is one event.
type fact struct {
	table, action, id string
	eventID           string
	updatedAt         int64  // milliseconds; 0: absent
	timestamp         string // as the envelope has it; "" absent
	at                int64  // what it means, milliseconds; 0 where absent
	received          int64  // milliseconds
	user, org         string // of a membership; "" absent
	fields            []field
}

// field is one member of data, and the columns that come of it.
type field struct {
	json    string // `"banned":true`
	columns map[string]any
}

var objects = map[string]string{"users": "user", "organizations": "organization", "organization_memberships": "organizationMembership"}

func (f *fact) message(sequence uint64) streams.Message {
	data := []string{fmt.Sprintf(`"id":%q`, f.id)}
	if f.action == "deleted" && f.table != "organization_memberships" {
		data = append(data, `"deleted":true`)
	} else {
		for _, field := range f.fields {
			data = append(data, field.json)
		}
		if f.updatedAt != 0 {
			data = append(data, fmt.Sprintf(`"updated_at":%d`, f.updatedAt))
		}
		if f.org != "" {
			data = append(data, fmt.Sprintf(`"organization":{"id":%q,"updated_at":9999999999999}`, f.org))
		}
		if f.user != "" {
			data = append(data, fmt.Sprintf(`"public_user_data":{"identifier":"x","user_id":%q}`, f.user))
		}
	}
	envelope := fmt.Sprintf(`"data":{%s},"type":"%s.%s"`, strings.Join(data, ","), objects[f.table], f.action)
	if f.timestamp != "" {
		envelope += `,"timestamp":` + f.timestamp
	}
	header := nats.Header{streams.HeaderMsgID: {f.eventID}, streams.HeaderSource: {"webhook"}, streams.HeaderReceivedAt: {fmt.Sprint(f.received)}}
	if f.action != "snapshot" { // those have a message id only
		header.Set(streams.HeaderSvixID, f.eventID)
	}
	return streams.Message{
		Subject: streams.Names{}.Subject(streams.Subject{InstanceID: "ins_1", Resource: objects[f.table], Action: f.action, EntityID: f.id}),
		Header:  header, Data: []byte("{" + envelope + "}"), Sequence: sequence, Time: time.UnixMilli(int64(sequence)),
	}
}

func (f *fact) newer(g *fact) bool {
	ranks := map[string]int{"pending": 0, "created": 1}
	rank := func(action string) int {
		if r, ok := ranks[action]; ok {
			return r
		}
		return 2
	}
	return cmp.Or(cmp.Compare(f.updatedAt, g.updatedAt), cmp.Compare(f.at, g.at),
		cmp.Compare(rank(f.action), rank(g.action)), strings.Compare(f.eventID, g.eventID)) > 0
}

func (f *fact) deletedAt() int64 {
	if f.at == 0 {
		return f.received
	}
	return f.at
}

// columns that a deleted row keeps.
var kept = map[string][]string{
	"users": {"id", "banned", "locked", "two_factor_enabled", "password_enabled",
		"created_at", "updated_at"},
	"organizations": {"id", "created_by", "members_count", "pending_invitations_count", "max_allowed_memberships",
		"admin_delete_enabled", "created_at", "updated_at"},
	"organization_memberships": {"id", "organization_id", "user_id", "role", "role_name", "permissions", "created_at", "updated_at"},
}

type rows map[string]map[string]any // by table and id, "users/user_1": its columns that aren't null

// model works the rows out.
func model(facts []*fact) rows {
	newest, deleted := map[string]*fact{}, map[string]int64{}
	for _, f := range facts {
		k := f.table + "/" + f.id
		if f.action == "deleted" {
			if at, ok := deleted[k]; !ok || f.deletedAt() < at {
				deleted[k] = f.deletedAt()
			}
		} else if newest[k] == nil || f.newer(newest[k]) {
			newest[k] = f
		}
	}
	all := rows{}
	for k := range deleted { // a bare row where nothing else is known
		table, id, _ := strings.Cut(k, "/")
		newest[k] = cmp.Or(newest[k], &fact{table: table, id: id})
	}
	for k, f := range newest {
		row := map[string]any{"id": f.id, "instance_id": "ins_1"}
		for _, field := range f.fields {
			maps.Copy(row, field.columns)
		}
		if f.updatedAt != 0 {
			row["updated_at"] = f.updatedAt
		}
		if f.org != "" {
			row["organization_id"] = f.org
		}
		if f.user != "" {
			row["user_id"] = f.user
		}
		var times []int64
		for _, mortal := range []string{k, "organizations/" + f.org, "users/" + f.user} {
			if at, ok := deleted[mortal]; ok {
				times = append(times, at)
			}
		}
		if len(times) > 0 {
			maps.DeleteFunc(row, func(column string, _ any) bool {
				return column != "instance_id" && !slices.Contains(kept[f.table], column)
			})
			row["deleted_at"] = slices.Min(times)
		}
		all[k] = row
	}
	return all
}

// readRows reads the tables, without what tells where a row came from.
func readRows(ctx context.Context, db *pgx.Conn) (rows, error) {
	var text string
	err := db.QueryRow(ctx, `select jsonb_object_agg(k, jsonb_strip_nulls(r - array['synced_at','stream_epoch','stream_seq','source','version']))::text from (
select 'users/' || id, to_jsonb(t) from clerk.users t union all
select 'organizations/' || id, to_jsonb(t) from clerk.organizations t union all
select 'organization_memberships/' || id, to_jsonb(t) from clerk.organization_memberships t) as x(k, r)`).Scan(&text)
	if err != nil {
		return nil, err
	}
	all := rows{}
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&all); err != nil {
		return nil, err
	}
	for _, row := range all {
		for column, v := range row {
			if strings.HasSuffix(column, "_at") {
				at, err := time.Parse(time.RFC3339Nano, v.(string))
				if err != nil {
					return nil, err
				}
				row[column] = at.UnixMilli()
			}
		}
	}
	return all, nil
}

// asJSON is a column's value as readRows gives it.
func asJSON(text string) any {
	var v any
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		panic(err)
	}
	return v
}

// oneField is a member that becomes the column of its name; "" for null.
func oneField(name, written, column string) field {
	f := field{json: fmt.Sprintf("%q:%s", name, written)}
	if column != "" {
		f.columns = map[string]any{name: asJSON(column)}
	}
	return f
}

func sameField(name, written string) field { return oneField(name, written, written) }

// metadata that Postgres refuses, rounds or prints in another way.
var metadata = [][2]string{
	{`{}`, `{}`},
	{`null`, ""},
	{`{"a":"\u0000","\ud800":["\udfff\ud83d\ude00","\ufffd"]}`, `{"a":"\uFFFD","\uFFFD":["\uFFFD😀","\uFFFD"]}`},
	{`{"n":9007199254740993,"m":12345678901234567890.125,"z":1.10}`, `{"n":9007199254740993,"m":12345678901234567890.125,"z":1.10}`},
	{`{"b":1e30,"a":1,"a":2}`, `{"b":1000000000000000000000000000000,"a":2}`},
	{`[1,{"x":null}]`, `[1,{}]`}, // readRows strips the null
	{`"\\u0000 is text"`, `"\\u0000 is text"`},
}

// draw is a source of choices.
type draw struct{ *rapid.T }

func pick[V any](d draw, what string, from ...V) V { return rapid.SampledFrom(from).Draw(d.T, what) }

func (d draw) metadata(name string) field {
	m := pick(d, name, metadata...)
	return oneField(name, m[0], m[1])
}

func (d draw) userFields() []field {
	name := pick(d, "name",
		field{`"first_name":"Ada","last_name":"Lovelace"`, map[string]any{"first_name": "Ada", "last_name": "Lovelace", "name": "Ada Lovelace"}},
		field{`"first_name":"A\u0000\ud83d","last_name":null`, map[string]any{"first_name": "A\uFFFD\uFFFD", "name": "A\uFFFD\uFFFD"}},
		field{`"last_name":"O'Brien \"\\ é😀"`, map[string]any{"last_name": `O'Brien "\ é😀`, "name": `O'Brien "\ é😀`}},
		field{`"First_Name":"no","first_name":null`, nil},
	)
	const list = `[{"id":"idn_1","email_address":"a@x.org","verification":{"status":"verified"}},{"id":"idn_2","email_address":"b@x.org","verification":null}]`
	email := pick(d, "email",
		field{`"primary_email_address_id":"idn_1","email_addresses":` + list, map[string]any{"email": "a@x.org", "email_verified": true}},
		field{`"primary_email_address_id":"idn_2","email_addresses":` + list, map[string]any{"email": "b@x.org", "email_verified": false}},
		field{`"primary_email_address_id":"idn_3","email_addresses":` + list, map[string]any{}},
		field{json: `"primary_email_address_id":null`},
	)
	if email.columns != nil {
		email.columns["email_addresses"] = asJSON(strings.Replace(list, `,"verification":null`, "", 1))
	}
	return []field{name, email, d.metadata("public_metadata"), d.metadata("unsafe_metadata"),
		pick(d, "phone", field{json: `"phone_numbers":null`}, field{`"primary_phone_number_id":"idn_4","phone_numbers":[{"id":"idn_4","phone_number":"+1"}]`,
			map[string]any{"phone": "+1", "phone_numbers": asJSON(`[{"id":"idn_4","phone_number":"+1"}]`)}}),
		pick(d, "external", sameField("external_id", `"ext_1"`), oneField("external_id", `""`, "")),
		pick(d, "banned", sameField("banned", "true"), sameField("banned", "false"), oneField("banned", "null", "")),
		{`"last_sign_in_at":1700000000001`, map[string]any{"last_sign_in_at": int64(1700000000001)}},
		sameField("username", fmt.Sprintf("%q", pick(d, "username", "", "ada", "grace"))),
	}
}

func (d draw) organizationFields() []field {
	return []field{d.metadata("public_metadata"),
		sameField("name", pick(d, "name", `"Acme"`, `"Emca"`)), sameField("slug", `"acme"`),
		pick(d, "members", sameField("members_count", "3"), oneField("members_count", "2e0", "2"), oneField("members_count", "null", "")),
		pick(d, "by", sameField("created_by", `"user_1"`), oneField("created_by", `""`, "")),
	}
}

func (d draw) membershipFields() []field {
	return []field{d.metadata("public_metadata"), sameField("role", pick(d, "role", `"org:admin"`, `"org:member"`)),
		pick(d, "permissions", sameField("permissions", `["org:a:b","q\"u\\o{,}", "NULL"]`), sameField("permissions", `[]`),
			oneField("permissions", `["",null,"\u0000"]`, `["",null,"\uFFFD"]`), oneField("permissions", "null", "")),
	}
}

// fact draws an event of a small world, so that events meet.
func (d draw) fact(i int) *fact {
	f := &fact{
		table:    pick(d, "table", "users", "organizations", "organization_memberships", "organization_memberships"),
		action:   pick(d, "action", "created", "updated", "updated", "deleted", "snapshot", "pending", "somethingNew"),
		eventID:  fmt.Sprintf("msg_%s%d", pick(d, "order", "a", "B", "\xc3\xa9", "aa"), i),
		received: t0 + 1000*rapid.Int64Range(0, 9).Draw(d.T, "received"),
	}
	if rapid.IntRange(0, 5).Draw(d.T, "updated") > 0 {
		f.updatedAt = t0 + rapid.Int64Range(0, 3).Draw(d.T, "updated_at")
	}
	if n := rapid.Int64Range(0, 4).Draw(d.T, "timestamp"); n > 0 {
		f.at = t0 + 1000*n
		f.timestamp = pick(d, "unit", fmt.Sprint(f.at), fmt.Sprint(f.at/1000), fmt.Sprintf("%d.5", f.at/1000))
	}
	switch f.table {
	case "users":
		f.id, f.fields = pick(d, "id", "user_1", "user_2"), d.userFields()
	case "organizations":
		f.id, f.fields = pick(d, "id", "org_1", "org_2"), d.organizationFields()
	default:
		f.id, f.fields = pick(d, "id", "orgmem_1", "orgmem_2", "orgmem_3"), d.membershipFields()
		f.user, f.org = pick(d, "user", "user_1", "user_2", ""), pick(d, "org", "org_1", "org_1", "org_2", "")
	}
	return f
}

// modelStore is a store that is emptied before each case.
type modelStore struct{ *fixture }

func newModelStore(t *testing.T) modelStore {
	f := newFixture(t)
	if _, err := f.db.Exec(t.Context(), `set timezone = 'UTC'`); err != nil {
		t.Fatal(err)
	}
	return modelStore{f}
}

// difference delivers the facts in batches and compares the rows with the model's.
func (m modelStore) difference(ctx context.Context, facts []*fact, batches [][]*fact) (string, error) {
	if _, err := m.db.Exec(ctx, `delete from clerk.users; delete from clerk.organizations; delete from clerk.organization_memberships; delete from clerk.tombstones`); err != nil {
		return "", err
	}
	for _, batch := range batches {
		var messages []streams.Message
		for _, f := range batch {
			m.next++
			messages = append(messages, f.message(m.next))
		}
		work, rejected := m.Prepare(messages)
		if len(rejected) > 0 {
			return "", fmt.Errorf("rejected: %v", rejected)
		}
		to := streams.Position{Epoch: 1, Sequence: m.next}
		if err := m.Commit(ctx, work, m.at, to, 0, 0); err != nil {
			return "", err
		}
		m.at = to
	}
	got, err := readRows(ctx, m.db)
	return gocmp.Diff(model(facts), got), err
}

// Run by make soak at full size.
func TestModelSoak(t *testing.T) {
	t.Parallel()
	rounds := 3
	if os.Getenv("ROLLCALL_SOAK") == "1" {
		rounds = 50
	}
	m := newModelStore(t)
	for range rounds { // of 100 cases each
		rapid.Check(t, func(rt *rapid.T) {
			d := draw{rt}
			var facts []*fact
			for i := range rapid.IntRange(1, 16).Draw(rt, "events") {
				facts = append(facts, d.fact(i))
			}
			again := rapid.SliceOfN(rapid.SampledFrom(facts), 0, 4).Draw(rt, "duplicates")
			order := rapid.Permutation(append(slices.Clone(facts), again...)).Draw(rt, "order")
			var batches [][]*fact
			for len(order) > 0 {
				n := rapid.IntRange(1, len(order)).Draw(rt, "batch")
				batches, order = append(batches, order[:n]), order[n:]
			}
			diff, err := m.difference(t.Context(), facts, batches)
			if err != nil {
				rt.Fatal(err)
			}
			if diff != "" {
				rt.Fatalf("rows differ (-model +store):\n%s", diff)
			}
		})
	}
}

// A life of one member, in every order, each split into batches in another way:
// joins twice, with a late delete of the first membership; the user is deleted.
func TestEveryOrderOfALife(t *testing.T) {
	t.Parallel()
	m := newModelStore(t)
	life := []*fact{
		{table: "users", action: "created", id: "user_1", eventID: "msg_1", updatedAt: t0, at: t0, timestamp: "1700000000", fields: []field{sameField("username", `"ada"`)}},
		{table: "users", action: "updated", id: "user_1", eventID: "msg_2", updatedAt: t0, at: t0, timestamp: "1700000000000", fields: []field{sameField("banned", "true")}},
		{table: "organization_memberships", action: "created", id: "orgmem_1", eventID: "msg_3", updatedAt: t0, user: "user_1", org: "org_1", fields: []field{sameField("role", `"org:admin"`)}},
		{table: "organization_memberships", action: "deleted", id: "orgmem_1", eventID: "msg_4", updatedAt: t0, at: t0 + 9000, timestamp: "1700000009", user: "user_1", org: "org_1"},
		{table: "organization_memberships", action: "created", id: "orgmem_2", eventID: "msg_5", updatedAt: t0 + 1, user: "user_1", org: "org_1", fields: []field{sameField("public_metadata", `{"a":1}`)}},
		{table: "users", action: "deleted", id: "user_1", eventID: "msg_6", at: t0 + 5000, timestamp: "1700000005"},
	}
	n := 0
	permute(life, 0, func(order []*fact) {
		var batches [][]*fact
		from := 0
		for i := range order {
			if i == len(order)-1 || n>>i&1 == 1 {
				batches, from = append(batches, order[from:i+1]), i+1
			}
		}
		n++
		diff, err := m.difference(t.Context(), life, batches)
		if err != nil || diff != "" {
			t.Fatalf("%v, rows differ (-model +store):\n%s\nof %d batches", err, diff, len(batches))
		}
	})
	if n != 720 {
		t.Errorf("%d orders, want 720", n)
	}
}

func permute(s []*fact, from int, visit func([]*fact)) {
	if from == len(s) {
		visit(s)
	}
	for i := from; i < len(s); i++ {
		s[from], s[i] = s[i], s[from]
		permute(s, from+1, visit)
		s[from], s[i] = s[i], s[from]
	}
}
