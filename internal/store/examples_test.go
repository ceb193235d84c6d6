package store

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

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
