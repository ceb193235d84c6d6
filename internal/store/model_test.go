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

// fact is one event, or an object embedded in one.
type fact struct {
	table, action, id string
	eventID           string
	updatedAt         int64  // milliseconds; 0: absent
	timestamp         string // as the envelope has it; "" absent
	at                int64  // what it means, milliseconds; 0 where absent
	received          int64  // milliseconds
	status            string // "" absent
	user, org         string // whose it is; "" absent
	fields            []field
	items             []*fact // embedded
	embedded          bool
	parentUpdated     int64 // of the event it is embedded in, milliseconds
	bare              bool  // embedded without a payer: it has the event's
}

// field is one member of data, and the columns that come of it.
type field struct {
	json    string // `"banned":true`
	columns map[string]any
}

// kind is what the model knows of a resource.
type kind struct {
	object   string
	personal []string // columns that a deleted row loses
	terminal []string // statuses that no other follows
	whole    bool     // its deletes carry the whole
	// owner writes whose it is.
	owner func(user, org string) string
	user  bool // a user's deletion is its own too
	org   bool
}

var kinds = map[string]kind{
	"users": {object: "user", personal: []string{"external_id", "username", "first_name", "last_name", "name", "email", "email_verified", "phone",
		"primary_email_address_id", "primary_phone_number_id", "email_addresses", "phone_numbers", "last_sign_in_at", "public_metadata", "unsafe_metadata",
		"saml_accounts", "legal_accepted_at", "locale", "scim"}},
	"organizations": {object: "organization", personal: []string{"name", "slug", "public_metadata"}},
	"organization_memberships": {object: "organizationMembership", personal: []string{"public_metadata"}, whole: true, user: true, org: true,
		owner: func(user, org string) string {
			var s []string
			if org != "" {
				s = append(s, fmt.Sprintf(`"organization":{"id":%q,"updated_at":9999999999999}`, org))
			}
			if user != "" {
				s = append(s, fmt.Sprintf(`"public_user_data":{"identifier":"x","user_id":%q}`, user))
			}
			return strings.Join(s, ",")
		}},
	"organization_invitations": {object: "organizationInvitation", personal: []string{"email_address", "public_metadata"}, terminal: []string{"accepted", "revoked", "expired"},
		org: true, owner: func(_, org string) string { return fmt.Sprintf(`"organization_id":%q`, org) }},
	"organization_domains": {object: "organizationDomain", personal: []string{"name", "affiliation_email_address"},
		org: true, owner: func(_, org string) string { return fmt.Sprintf(`"organization_id":%q`, org) }},
	"roles":       {object: "role", whole: true},
	"permissions": {object: "permission", whole: true},
	"sessions": {object: "session", personal: []string{"actor", "latest_activity", "last_active_at"}, terminal: []string{"ended", "removed", "revoked", "expired", "abandoned", "replaced"},
		user: true, owner: func(user, _ string) string {
			return fmt.Sprintf(`"user_id":%q,"user":{"id":"user_1","first_name":"not this one","updated_at":9999999999999}`, user)
		}},
	"waitlist_entries":   {object: "waitlistEntry", personal: []string{"email_address"}},
	"subscriptions":      {object: "subscription", user: true, org: true, owner: payer},
	"subscription_items": {object: "subscriptionItem", terminal: []string{"ended", "abandoned", "expired"}, user: true, org: true, owner: payer},
	"payment_attempts":   {object: "paymentAttempt", personal: []string{"payment_source", "subscription_items"}, user: true, org: true, owner: payer},
}

func payer(user, org string) string {
	return fmt.Sprintf(`"payer":{"object":"commerce_payer","email":"x@example.org","user_id":%q,"organization_id":%q}`, user, org)
}

// data is the entity as Clerk would write it.
func (f *fact) data() string {
	members := []string{fmt.Sprintf(`"id":%q`, f.id)}
	if f.action == "deleted" && !kinds[f.table].whole {
		return "{" + members[0] + `,"deleted":true}`
	}
	for _, field := range f.fields {
		members = append(members, field.json)
	}
	if f.updatedAt != 0 {
		members = append(members, fmt.Sprintf(`"updated_at":%d`, f.updatedAt))
	}
	if f.status != "" {
		members = append(members, fmt.Sprintf(`"status":%q`, f.status))
	}
	if owner := kinds[f.table].owner; owner != nil && !f.bare {
		if written := owner(f.user, f.org); written != "" {
			members = append(members, written)
		}
	}
	if f.table == "subscriptions" {
		items := []string{}
		for _, item := range f.items {
			items = append(items, item.data())
		}
		members = append(members, `"items":[null,{"status":"ended"},`+strings.Join(append(items, `7`), ",")+`]`)
	}
	return "{" + strings.Join(members, ",") + "}"
}

func (f *fact) message(sequence uint64) streams.Message {
	object := kinds[f.table].object
	envelope := fmt.Sprintf(`"data":%s,"type":"%s.%s"`, f.data(), object, f.action)
	if f.timestamp != "" {
		envelope += `,"timestamp":` + f.timestamp
	}
	header := nats.Header{streams.HeaderMsgID: {f.eventID}, streams.HeaderSource: {"webhook"}, streams.HeaderReceivedAt: {fmt.Sprint(f.received)}}
	if f.action != "snapshot" { // those have a message id only
		header.Set(streams.HeaderSvixID, f.eventID)
	}
	return streams.Message{
		Subject: streams.Names{}.Subject(streams.Subject{InstanceID: "ins_1", Resource: object, Action: f.action, EntityID: f.id}),
		Header:  header, Data: []byte("{" + envelope + "}"), Sequence: sequence, Time: time.UnixMilli(int64(sequence)),
	}
}

// compare is 1 where f is newer.
func (f *fact) compare(g *fact) int {
	rank := func(f *fact) int {
		switch f.action {
		case "pending":
			return 0
		case "created":
			return 1
		}
		return 2
	}
	last := func(f *fact) int {
		if terminal := kinds[f.table].terminal; slices.Contains(terminal, f.status) || f.status == "" && !f.embedded && slices.Contains(terminal, f.action) {
			return 1
		}
		return 0
	}
	own := func(f *fact) int {
		if f.embedded {
			return 0
		}
		return 1
	}
	updated := func(f *fact) int64 { // an embedded object has its event's
		if f.embedded {
			return f.parentUpdated
		}
		return f.updatedAt
	}
	return cmp.Or(cmp.Compare(own(f), own(g)), cmp.Compare(last(f), last(g)), cmp.Compare(updated(f), updated(g)), cmp.Compare(f.at, g.at),
		cmp.Compare(rank(f), rank(g)), strings.Compare(f.eventID, g.eventID))
}

func (f *fact) deletedAt() int64 {
	if f.at == 0 {
		return f.received
	}
	return f.at
}

type rows map[string]map[string]any // by table and id, "users/user_1": its columns that aren't null

// world is what the model makes of all events.
type world struct {
	newest  map[string]*fact
	deleted map[string]int64
}

func newWorld(facts []*fact) world {
	w := world{map[string]*fact{}, map[string]int64{}}
	for _, f := range facts {
		k := f.table + "/" + f.id
		if f.action == "deleted" {
			if at, ok := w.deleted[k]; !ok || f.deletedAt() < at {
				w.deleted[k] = f.deletedAt()
			}
			continue
		}
		for _, f := range append([]*fact{f}, f.items...) {
			k := f.table + "/" + f.id
			if w.newest[k] == nil || f.compare(w.newest[k]) >= 0 { // of equals in one list, the later
				w.newest[k] = f
			}
		}
	}
	return w
}

// goneAt is when an entity, its user or its organization was deleted; 0 never.
func (w world) goneAt(k string, f *fact) (at int64) {
	mortals := []string{k}
	if f != nil && kinds[f.table].user {
		mortals = append(mortals, "users/"+f.user)
	}
	if f != nil && kinds[f.table].org {
		mortals = append(mortals, "organizations/"+f.org)
	}
	for _, mortal := range mortals {
		if d, ok := w.deleted[mortal]; ok && (at == 0 || d < at) {
			at = d
		}
	}
	return at
}

// model works the rows out.
func model(facts []*fact, onDelete string) rows {
	w := newWorld(facts)
	for k := range w.deleted { // a bare row where nothing else is known
		table, id, _ := strings.Cut(k, "/")
		w.newest[k] = cmp.Or(w.newest[k], &fact{table: table, id: id})
	}
	all := rows{}
	for k, f := range w.newest {
		at := w.goneAt(k, f)
		if at != 0 && onDelete == OnDeleteHard {
			continue
		}
		row := f.row()
		if at != 0 {
			row["deleted_at"] = at
			if onDelete == OnDeleteTombstone {
				maps.DeleteFunc(row, func(column string, _ any) bool { return slices.Contains(kinds[f.table].personal, column) })
			}
		}
		all[k] = row
	}
	return all
}

func (f *fact) row() map[string]any {
	row := map[string]any{"id": f.id, "instance_id": "ins_1"}
	for _, field := range f.fields {
		maps.Copy(row, field.columns)
	}
	if f.updatedAt != 0 {
		row["updated_at"] = f.updatedAt
	}
	for column, text := range map[string]string{"status": f.status, "organization_id": f.org, "user_id": f.user} {
		if text != "" && (column != "user_id" || kinds[f.table].user) && (column != "organization_id" || kinds[f.table].org) {
			row[column] = text
		}
	}
	return row
}

// grants works out what members may do: "orgmem_1 org:a:b false role".
func grants(facts []*fact) []string {
	w := newWorld(facts)
	roles := map[string]*fact{}
	for k, f := range w.newest {
		key, _ := f.row()["key"].(string)
		if f.table != "roles" || w.goneAt(k, f) != 0 || key == "" {
			continue
		}
		if r := roles[normal(key)]; r == nil || f.compare(r) > 0 {
			roles[normal(key)] = f
		}
	}
	all := []string{}
	for k, m := range w.newest {
		if m.table != "organization_memberships" || w.goneAt(k, m) != 0 {
			continue
		}
		may := map[string]string{} // permission: source
		name, _ := m.row()["role"].(string)
		r, known := roles[normal(name)]
		if known && name != "" {
			for _, p := range w.keys(r) {
				may[p] = "role"
			}
		} else if list, ok := m.row()["permissions"].([]any); ok {
			for _, p := range list {
				if p, _ := p.(string); p != "" {
					may[prefixed(p)] = "membership"
				}
			}
		}
		for p, source := range may {
			all = append(all, fmt.Sprintf("%s %q %t %s", m.id, p, strings.HasPrefix(p, "org:sys_"), source))
		}
	}
	slices.Sort(all)
	return all
}

// keys are the permissions of a role, by their own events' names if known.
func (w world) keys(role *fact) (keys []string) {
	list, _ := role.row()["permissions"].([]any)
	byID := map[string]string{}
	for _, link := range list {
		if link, ok := link.(map[string]any); ok && link["id"] != "" && link["id"] != nil {
			byID[link["id"].(string)], _ = link["key"].(string)
		}
	}
	for id, key := range byID {
		k := "permissions/" + id
		if _, gone := w.deleted[k]; gone {
			continue
		}
		if own := w.newest[k]; own != nil {
			if named, ok := own.row()["key"].(string); ok {
				key = named
			}
		}
		if key != "" {
			keys = append(keys, prefixed(key))
		}
	}
	return keys
}

func prefixed(key string) string {
	if strings.HasPrefix(key, "org:") {
		return key
	}
	return "org:" + key
}

func normal(role string) string {
	if role == "basic_member" {
		return "org:member"
	}
	return prefixed(role)
}

// readRows reads the tables, without what tells where a row came from.
func readRows(ctx context.Context, db *pgx.Conn) (rows, error) {
	var parts []string
	for table := range kinds {
		parts = append(parts, fmt.Sprintf(`select '%[1]s/' || id, to_jsonb(t) from clerk.%[1]s t`, table))
	}
	var text string
	err := db.QueryRow(ctx, `select coalesce(jsonb_object_agg(k, jsonb_strip_nulls(r - array['synced_at','stream_epoch','stream_seq','source','version'])), '{}')::text from (`+
		strings.Join(parts, " union all ")+`) as x(k, r)`).Scan(&text)
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
			if strings.HasSuffix(column, "_at") || column == "period_end" {
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

func readGrants(ctx context.Context, db *pgx.Conn) ([]string, error) {
	rows, err := db.Query(ctx, `select membership_id, permission, system, source from clerk.member_permissions`)
	if err != nil {
		return nil, err
	}
	all, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (string, error) {
		var m, p, source string
		var system bool
		err := r.Scan(&m, &p, &system, &source)
		return fmt.Sprintf("%s %q %t %s", m, p, system, source), err
	})
	if all == nil {
		all = []string{}
	}
	slices.Sort(all)
	return all, err
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
		field{json: `"primary_email_address_id":""`},
	)
	if email.columns != nil {
		email.columns["primary_email_address_id"] = strings.Split(email.json, `"`)[3]
		email.columns["email_addresses"] = asJSON(strings.Replace(list, `,"verification":null`, "", 1))
	}
	return []field{name, email, d.metadata("public_metadata"), d.metadata("unsafe_metadata"),
		pick(d, "phone", field{json: `"phone_numbers":null`}, field{`"primary_phone_number_id":"idn_4","phone_numbers":[{"id":"idn_4","phone_number":"+1"}]`,
			map[string]any{"primary_phone_number_id": "idn_4", "phone": "+1", "phone_numbers": asJSON(`[{"id":"idn_4","phone_number":"+1"}]`)}}),
		pick(d, "external", sameField("external_id", `"ext_1"`), oneField("external_id", `""`, "")),
		pick(d, "banned", sameField("banned", "true"), sameField("banned", "false"), oneField("banned", "null", "")),
		pick(d, "deprovisioned", sameField("deprovisioned", "true"), field{json: `"totp_enabled":null`}),
		pick(d, "saml", sameField("saml_accounts", `[{"id":"samlacc_1","active":true}]`), sameField("locale", `"en-GB"`), sameField("scim", `{"directory_id":"d"}`),
			field{`"legal_accepted_at":1700000000002`, map[string]any{"legal_accepted_at": int64(1700000000002)}}),
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
	return []field{d.metadata("public_metadata"), sameField("role", pick(d, "role", `"org:admin"`, `"org:member"`, `"admin"`, `"basic_member"`, `"editor"`, `""`)),
		pick(d, "permissions", sameField("permissions", `["org:a:b","q\"u\\o{,}", "NULL", "a:b", "org:sys_x"]`), sameField("permissions", `[]`),
			oneField("permissions", `["",null,"\u0000"]`, `["",null,"\uFFFD"]`), oneField("permissions", "null", "")),
	}
}

// Roles pass keys on, lose permissions, and name some twice.
func (d draw) roleFields() []field {
	key := pick(d, "key", sameField("key", `"org:admin"`), sameField("key", `"admin"`), sameField("key", `"org:member"`), sameField("key", `"basic_member"`),
		sameField("key", `"editor"`), sameField("key", `""`), oneField("key", "null", ""))
	return []field{key, pick(d, "permissions",
		sameField("permissions", `[]`), oneField("permissions", "null", ""), sameField("permissions", `{"id":"perm_1"}`),
		sameField("permissions", `[{"id":"perm_1","key":"org:a:read"}]`),
		sameField("permissions", `[{"id":"perm_1","key":"org:a:read"},{"id":"perm_2","key":"org:sys_a:manage"},{"id":"perm_3","key":"a:three"}]`),
		sameField("permissions", `[{"id":"perm_2","key":"old"},{"id":"perm_2","key":"org:twice"},"perm_1",{"id":""},{"key":"org:no_id"},{"id":"perm_3"}]`))}
}

func (d draw) permissionFields() []field {
	return []field{pick(d, "key", sameField("key", `"org:b:write"`), sameField("key", `"b:bare"`), oneField("key", "null", "")), sameField("type", `"custom"`)}
}

func (d draw) itemFields(subscription string) []field {
	return []field{sameField("plan_id", pick(d, "plan", `"cplan_1"`, `"cplan_2"`)), sameField("interval", `"month"`),
		pick(d, "seats", sameField("seats", `{"quantity":5}`), oneField("seats", "null", "")),
		pick(d, "end", field{`"period_end":1700000000003`, map[string]any{"period_end": int64(1700000000003)}}, oneField("period_end", "null", "")),
		{pick(d, "subscription", `"subscription_id":null`, `"subscription_id":""`, fmt.Sprintf(`"subscription_id":%q`, subscription)), map[string]any{"subscription_id": subscription}}}
}

// otherFields are those of resources that hold few surprises.
func (d draw) otherFields(table string) []field {
	email := sameField("email_address", pick(d, "email", `"a@x.org"`, `"b@x.org"`))
	switch table {
	case "organization_invitations":
		return []field{email, sameField("role", `"org:member"`), d.metadata("public_metadata"), {json: `"url":"https://once"`}}
	case "organization_domains":
		return []field{sameField("name", `"x.org"`), sameField("affiliation_email_address", `"a@x.org"`), sameField("verification", `{"status":"verified"}`)}
	case "sessions":
		return []field{sameField("client_id", pick(d, "client", `"c1"`, `"c2"`)), sameField("latest_activity", `{"city":"Paris"}`),
			pick(d, "actor", sameField("actor", `{"sub":"user_9"}`), oneField("actor", "null", "")), {`"last_active_at":5`, map[string]any{"last_active_at": int64(5)}}}
	case "waitlist_entries":
		return []field{email, {`"invitation":{"id":"inv_1","url":"https://once"}`, map[string]any{"invitation_id": "inv_1"}}}
	case "payment_attempts":
		return []field{sameField("payment_source", `{"last4":"4242"}`), sameField("totals", `{"grand_total":{"amount":2200}}`), sameField("subscription_items", `[{"id":"csub_item_1"}]`), {json: `"instance_id":"other"`}}
	}
	return []field{sameField("latest_payment_id", pick(d, "payment", `"cpa_1"`, `"cpa_2"`))}
}

var worldOfIDs = map[string][]string{
	"users": {"user_1", "user_2"}, "organizations": {"org_1", "org_2"}, "organization_memberships": {"orgmem_1", "orgmem_2", "orgmem_3"},
	"organization_invitations": {"orginv_1"}, "organization_domains": {"orgdmn_1"}, "roles": {"role_1", "role_2"}, "permissions": {"perm_1", "perm_2"},
	"sessions": {"sess_1", "sess_2"}, "waitlist_entries": {"wle_1"}, "subscriptions": {"csub_1"}, "subscription_items": {"csub_item_1", "csub_item_2"}, "payment_attempts": {"pa_1"},
}

var statuses = map[string][]string{
	"organization_invitations": {"", "pending", "accepted", "revoked"}, "sessions": {"", "pending", "active", "ended", "revoked"}, "waitlist_entries": {"pending", "invited"},
	"subscriptions": {"active", "ended"}, "subscription_items": {"", "active", "upcoming", "canceled", "ended", "abandoned"}, "payment_attempts": {"pending", "paid"},
}

// fact draws an event of a small world, so that events meet.
func (d draw) fact(i int, tables []string) *fact {
	table := pick(d, "table", tables...)
	f := &fact{
		table: table, id: pick(d, "id", worldOfIDs[table]...),
		action:   pick(d, "action", "created", "updated", "updated", "deleted", "snapshot", "pending", "somethingNew", "ended", "accepted"),
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
	if s := statuses[table]; s != nil {
		f.status = pick(d, "status", s...)
	}
	f.user, f.org = pick(d, "user", "user_1", "user_2", ""), pick(d, "org", "org_1", "org_1", "org_2", "")
	switch table {
	case "users":
		f.fields = d.userFields()
	case "organizations":
		f.fields = d.organizationFields()
	case "organization_memberships":
		f.fields = d.membershipFields()
	case "roles":
		f.fields = d.roleFields()
	case "permissions":
		f.fields = d.permissionFields()
	case "subscription_items":
		f.fields = append(d.itemFields("csub_1"), field{`"subscription_id":"csub_1"`, nil}) // of an own event it isn't filled
	case "subscriptions":
		f.fields = d.otherFields(table)
		for range rapid.IntRange(0, 3).Draw(d.T, "items") {
			f.items = append(f.items, d.item(f))
		}
	default:
		f.fields = d.otherFields(table)
	}
	return f
}

// item draws an object embedded in a subscription's event.
func (d draw) item(of *fact) *fact {
	item := &fact{table: "subscription_items", id: pick(d, "item", worldOfIDs["subscription_items"]...), embedded: true, fields: d.itemFields(of.id),
		status: pick(d, "item status", "active", "ended", "upcoming"), updatedAt: t0 + rapid.Int64Range(0, 9).Draw(d.T, "item updated_at"),
		eventID: of.eventID, at: of.at, action: of.action, parentUpdated: of.updatedAt, user: of.user, org: of.org, bare: true}
	if pick(d, "payer", true, false) {
		item.bare, item.user, item.org = false, "user_2", ""
	}
	return item
}

// modelStore is a store that is emptied before each case.
type modelStore struct{ *fixture }

func newModelStore(t *testing.T, onDelete string, change ...func(*Options)) modelStore {
	f := newFixture(t, append(change, func(o *Options) { o.OnDelete = onDelete })...)
	if _, err := f.db.Exec(t.Context(), `set timezone = 'UTC'`); err != nil {
		t.Fatal(err)
	}
	return modelStore{f}
}

// empty takes all rows away; the store lacks nothing then.
func (m modelStore) empty(ctx context.Context) error {
	var empty strings.Builder
	for table := range kinds {
		fmt.Fprintf(&empty, "delete from clerk.%s; ", table)
	}
	_, err := m.db.Exec(ctx, empty.String()+`delete from clerk.tombstones; update clerk.sync_status set incomplete = '{}'`)
	return err
}

// difference delivers the facts in batches and compares the rows with the model's.
func (m modelStore) difference(ctx context.Context, facts []*fact, batches [][]*fact) (string, error) {
	if err := m.empty(ctx); err != nil {
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
	return m.compare(ctx, facts)
}

func (m modelStore) compare(ctx context.Context, facts []*fact) (string, error) {
	got, err := readRows(ctx, m.db)
	if err != nil {
		return "", err
	}
	may, err := readGrants(ctx, m.db)
	return gocmp.Diff(model(facts, m.o.OnDelete), got) + gocmp.Diff(grants(facts), may), err
}

// Run by make soak at full size.
func TestModelSoak(t *testing.T) {
	t.Parallel()
	rounds := 1
	if os.Getenv("ROLLCALL_SOAK") == "1" {
		rounds = 50
	}
	for _, mode := range []struct {
		onDelete string
		tenancy  bool // and the writer isn't the owner
	}{{OnDeleteTombstone, false}, {OnDeleteHard, false}, {OnDeleteKeep, false}, {OnDeleteTombstone, true}, {OnDeleteHard, true}} {
		t.Run(fmt.Sprintf("%s tenancy=%t", mode.onDelete, mode.tenancy), func(t *testing.T) {
			t.Parallel()
			var change []func(*Options)
			if mode.tenancy {
				change = append(change, otherWriter(t), func(o *Options) { o.Tenancy = true })
			}
			m := newModelStore(t, mode.onDelete, change...)
			for range rounds {
				m.check(t, slices.Sorted(maps.Keys(kinds))) // everything
				m.check(t, []string{"users", "organizations", "organization_memberships", "organization_memberships", "roles", "permissions"})
				m.check(t, []string{"users", "organizations", "subscriptions", "subscriptions", "subscription_items"})
				m.check(t, []string{"users", "sessions", "sessions", "organizations", "organization_invitations"})
			}
		})
	}
}

// check is 100 cases.
func (m modelStore) check(t *testing.T, tables []string) {
	rapid.Check(t, func(rt *rapid.T) {
		d := draw{rt}
		var facts []*fact
		for i := range rapid.IntRange(1, 16).Draw(rt, "events") {
			facts = append(facts, d.fact(i, tables))
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

// A life of one member, in every order, each split into batches in another way:
// joins twice, with a late delete of the first membership; the user is deleted.
func TestEveryOrderOfALife(t *testing.T) {
	t.Parallel()
	m := newModelStore(t, OnDeleteTombstone)
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

func permute[T any](s []T, from int, visit func([]T)) {
	if from == len(s) {
		visit(s)
	}
	for i := from; i < len(s); i++ {
		s[from], s[i] = s[i], s[from]
		permute(s, from+1, visit)
		s[from], s[i] = s[i], s[from]
	}
}
