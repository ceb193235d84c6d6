package store

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rollcall-dev/rollcall/internal/projection"
	"github.com/rollcall-dev/rollcall/streams"
)

// officialExamples are the messages that Clerk's own examples would become.
func officialExamples(t *testing.T) []streams.Message {
	t.Helper()
	files, err := filepath.Glob("../../cmd/rollcall/examples/*.json")
	if err != nil || len(files) != 45 {
		t.Fatalf("%d examples, %v, want 45", len(files), err)
	}
	var messages []streams.Message
	for i, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var head struct {
			Type       string
			InstanceID string `json:"instance_id"`
			Data       struct{ ID string }
		}
		if err := json.Unmarshal(body, &head); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		resource, action, _ := streams.SplitType(head.Type)
		messages = append(messages, streams.Message{
			Subject: streams.Names{}.Subject(streams.Subject{InstanceID: head.InstanceID, Resource: resource, Action: action, EntityID: head.Data.ID}),
			Header:  nats.Header{streams.HeaderSvixID: {"msg_" + filepath.Base(file)}, streams.HeaderSource: {"webhook"}},
			Data:    body, Sequence: uint64(i + 1), Time: time.UnixMilli(int64(i + 1)),
		})
	}
	return messages
}

func TestOfficialExamples(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func([]streams.Message){"forwards": func([]streams.Message) {}, "backwards": slices.Reverse[[]streams.Message]} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			messages := officialExamples(t)
			change(messages)
			sequence := f.at.Sequence
			for i := range messages { // one by one
				sequence++
				messages[i].Sequence = sequence
				f.apply(messages[i])
			}
			// Each resource's example of a delete has the others' id: what is left
			// is the newest content, without what is personal.
			f.want("user_2g7np7Hrk0SN6kj5EDMLDaKNL0S|<nil>|<nil>|08:00:00.000|ins_2g7np7Hrk0SN6kj5EDMLDaKNL0S",
				`select id, name, public_metadata, deleted_at, instance_id from clerk.users`)
			f.want("org_2g7np7Hrk0SN6kj5EDMLDaKNL0S|<nil>|<nil>|3|10|08:05:00.000|08:00:00.000",
				`select id, name, slug, members_count, max_allowed_memberships, updated_at, deleted_at from clerk.organizations`)
			f.want("orgmem_2g7np7Hrk0SN6kj5EDMLDaKNL0S|org_2g7np7Hrk0SN6kj5EDMLDaKNL0S|user_2h8op3Isl1QR7tKu5FGNfaLKEoU|org:admin|Admin|[org:posts:read org:posts:write org:posts:delete org:members:manage]|08:00:00.000",
				`select id, organization_id, user_id, role, role_name, permissions, deleted_at from clerk.organization_memberships`)
		})
	}
}

// The same without the deletes: all columns of the contract.
func TestOfficialExamplesAlive(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.apply(slices.DeleteFunc(officialExamples(t), func(m streams.Message) bool { return strings.Contains(m.Subject, ".deleted.") })...)
	f.want("user_2g7np7Hrk0SN6kj5EDMLDaKNL0S|John|Doe Updated|John Doe Updated|true|false",
		`select id, first_name, last_name, name, password_enabled, banned from clerk.users_live`)
	f.want("Acme Corp Updated|acme-corp-updated|user_2g7np7Hrk0SN6kj5EDMLDaKNL0S|true|map[department:engineering]",
		`select name, slug, created_by, admin_delete_enabled, public_metadata from clerk.organizations_live`)
	f.want("org:admin|map[]", `select role, public_metadata from clerk.organization_memberships_live`)
}

// Each example lands in its table, with each member in its column; read here
// with encoding/json.
func TestOfficialExamplesInTheirTables(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	execute(t, f.db, `set timezone = 'UTC'`)
	landed := 0
	for _, m := range officialExamples(t) {
		var event struct {
			Type string
			Data map[string]any
		}
		if err := json.Unmarshal(m.Data, &event); err != nil {
			t.Fatal(err)
		}
		object, action, _ := streams.SplitType(event.Type)
		i := slices.IndexFunc(f.layout().resources, func(r *projection.Resource) bool { return r.Object == object })
		f.next++
		m.Sequence = f.next
		f.apply(m)
		if action == "deleted" {
			execute(t, f.db, `delete from clerk.tombstones`)
		}
		if i < 0 || action == "deleted" {
			continue
		}
		landed++
		r := f.layout().resources[i]
		row := asJSON(scan[string](t, f.db, `select to_jsonb(t)::text from clerk.`+r.Table+` t where id = $1`, event.Data["id"])).(map[string]any)
		for _, c := range r.Columns {
			if c.Path == "" {
				continue
			}
			if got, want := fmt.Sprint(row[c.Name]), shown(c, at(event.Data, c.Path)); got != want {
				t.Errorf("%s: %s.%s is %s, want %s", event.Type, r.Table, c.Name, got, want)
			}
		}
		execute(t, f.db, `delete from clerk.`+r.Table)
	}
	if landed != 37 { // of 45: six deletes, an e-mail and an SMS
		t.Errorf("%d landed", landed)
	}
}

func at(data any, path string) any {
	for _, name := range strings.Split(path, ".") {
		object, _ := data.(map[string]any)
		data = object[name]
	}
	return data
}

func shown(c projection.Column, v any) string {
	switch n, number := v.(float64); {
	case v == nil, v == "" && c.Type == projection.ID:
		return "<nil>"
	case c.Type == projection.Timestamp:
		return strings.TrimSuffix(time.UnixMilli(int64(n)).UTC().Format("2006-01-02T15:04:05.999"), ".") + "+00:00"
	case number:
		return strconv.FormatInt(int64(n), 10)
	case c.Type == projection.JSON:
		text, err := json.Marshal(v)
		if err != nil {
			panic(err)
		}
		return fmt.Sprint(asJSON(string(text)))
	}
	return fmt.Sprint(v)
}

// The same as whoever reads the tables sees them: a session that ended, an item
// with its payer, a permission by the name that its own event has.
func TestOfficialExamplesTell(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.apply(slices.DeleteFunc(officialExamples(t), func(m streams.Message) bool { return strings.Contains(m.Subject, ".deleted.") })...)
	f.want("revoked|<nil>|org_2g7np7Hrk0SN6kj5EDMLDaKNL0S", `select status, user_id, organization_id from clerk.organization_invitations_live`)
	f.want("editor|Editor|2", `select key, name, jsonb_array_length(permissions) from clerk.roles_live`)
	f.want("org:posts:create|custom\norg:posts:publish|custom", `select permission_key, permission_type from clerk.role_permissions_live order by permission_id`)
	f.want("invited|inv_2g7np7Hrk0SN6kj5EDMLDaKNL0S", `select status, invitation_id from clerk.waitlist_entries_live`)
	f.want("user_34D368EufHwugfYh4yyGNEheM0S|<nil>|cplan_2g7np7Hrk0SN6kj5EDMLDaKNL0S", `select user_id, organization_id, plan_id from clerk.subscription_items_live`)
	f.want("user_2g7np7Hrk0SN6kj5EDMLDaKNL0S|visa|2200", `select user_id, payment_source->>'card_type', totals->'grand_total'->>'amount' from clerk.payment_attempts_live`)
	f.want("true", `select status in ('ended', 'removed', 'revoked') from clerk.sessions_live`)
	// No role with the member's key is known: its own list.
	f.want("org:members:manage|false|membership\norg:posts:delete|false|membership\norg:posts:read|false|membership\norg:posts:write|false|membership",
		`select permission, system, source from clerk.member_permissions order by 1`)
}
