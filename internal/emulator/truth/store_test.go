package truth_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/rollcall-dev/rollcall/internal/emulator/truth"
	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/streams"
)

// Rollcall's own store, fed with the state's entities as events, is right, and
// has no column that isn't compared. The two readings of Clerk meet here.
func TestRollcallsStore(t *testing.T) {
	t.Parallel()
	database := stacktest.Database(t)
	fill(t, database.URL, map[string]string{
		"users": "user", "organizations": "organization", "organization_memberships": "organizationMembership",
		"organization_invitations": "organizationInvitation", "organization_domains": "organizationDomain", "roles": "role", "permissions": "permission",
		"sessions": "session", "subscriptions": "subscription", "subscription_items": "subscriptionItem", "payment_attempts": "paymentAttempt", "waitlist_entries": "waitlistEntry",
	})
	report, err := truth.Compare(t.Context(), strings.NewReader(state(t)), connect(t, database.OwnerURL), truth.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range report.Differences {
		t.Error(d)
	}
	for _, s := range report.Resources {
		if s.Kept && (s.Compared == 0 || len(s.NotCompared) > 0) {
			t.Errorf("%+v", s)
		}
	}
}

// fill runs Rollcall's store over the state's entities.
func fill(t *testing.T, databaseURL string, objects map[string]string) {
	t.Helper()
	s, err := store.New(store.Options{
		Name: "app", DatabaseURL: databaseURL, Schema: "clerk", Migrate: store.MigrateAuto, Log: zap.NewNop(), Metrics: store.NewMetrics(prometheus.NewRegistry()),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	at := streams.Position{Epoch: 1}
	commit := func(work any, to streams.Position) {
		from := at
		if work == nil {
			from = streams.Position{}
		}
		if err := s.Commit(t.Context(), work, from, to, 0, 0); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Position(t.Context()); err != nil {
		t.Fatal(err)
	}
	commit(nil, at)
	messages := events(t, objects)
	work, rejected := s.Prepare(messages)
	if len(rejected) > 0 {
		t.Fatal(rejected)
	}
	commit(work, streams.Position{Epoch: 1, Sequence: uint64(len(messages)), Time: time.UnixMilli(int64(len(messages)))})
}

func events(t *testing.T, objects map[string]string) (messages []streams.Message) {
	t.Helper()
	var saved struct{ Instances []map[string]json.RawMessage }
	if err := json.Unmarshal([]byte(state(t)), &saved); err != nil {
		t.Fatal(err)
	}
	for table, object := range objects {
		var entities []json.RawMessage
		if err := json.Unmarshal(saved.Instances[0][table], &entities); err != nil {
			t.Fatal(err)
		}
		for _, data := range entities {
			var head struct{ ID string }
			if err := json.Unmarshal(data, &head); err != nil {
				t.Fatal(err)
			}
			n := len(messages) + 1
			messages = append(messages, streams.Message{
				Subject:  streams.Names{}.Subject(streams.Subject{InstanceID: "ins_1", Resource: object, Action: "updated", EntityID: head.ID}),
				Header:   nats.Header{streams.HeaderSvixID: {fmt.Sprint("msg_", n)}, streams.HeaderSource: {"webhook"}},
				Data:     fmt.Appendf(nil, `{"type":"%s.updated","object":"event","instance_id":"ins_1","timestamp":1700000002000,"data":%s}`, object, data),
				Sequence: uint64(n), Time: time.UnixMilli(int64(n)),
			})
		}
	}
	return messages
}

// 100,000 users and 300,000 memberships of a good kilobyte each, all of them right.
func BenchmarkCompare(b *testing.B) {
	const users, memberships = 100_000, 300_000
	s := newFixture(b)
	filler := strings.Repeat("x", 100)
	emails := func(i string) string {
		return `[{"id":"idn_` + i + `","email_address":"u` + i + `@a.example","verification":{"status":"verified","strategy":"` + filler + `"}}]`
	}
	quoted := strings.ReplaceAll(emails("~"), "~", `' || i || '`)
	metadata := `{"plan":"pro","notes":["` + filler + `",{"a":1,"b":2}]}`
	s.exec(`truncate clerk.users, clerk.organizations, clerk.organization_memberships;
		insert into clerk.users (id, first_name, name, email, email_verified, email_addresses, public_metadata, created_at, updated_at, instance_id, source)
			select 'user_' || i, 'Ann', 'Ann', 'u' || i || '@a.example', true, ('` + quoted + `')::jsonb, '` + metadata + `', to_timestamp(1700000000), to_timestamp(1700000000), 'ins_1', 'webhook'
			from generate_series(1, ` + fmt.Sprint(users) + `) i;
		insert into clerk.organization_memberships (id, user_id, role, permissions, created_at, updated_at, instance_id, source)
			select 'orgmem_' || i, 'user_' || (i % ` + fmt.Sprint(users) + ` + 1), 'org:member', '{org:posts:read}', to_timestamp(1700000000), to_timestamp(1700000000), 'ins_1', 'webhook'
			from generate_series(1, ` + fmt.Sprint(memberships) + `) i`)
	padding := `"padding":"` + strings.Repeat("y", 900) + `","created_at":1700000000000,"updated_at":1700000000000`
	for b.Loop() {
		r, pipe := io.Pipe()
		go func() {
			w := bufio.NewWriterSize(pipe, 1<<16)
			fmt.Fprint(w, `{"version":1,"instances":[{"id":"ins_1","users":[`) //nolint:errcheck // Compare tells
			for i := 1; i <= users; i++ {
				id := fmt.Sprint(i)
				fmt.Fprint(w, comma(i), `{"id":"user_`, id, `","first_name":"Ann","primary_email_address_id":"idn_`, id, `","email_addresses":`, emails(id), `,"public_metadata":`, metadata, `,`, padding, `}`) //nolint:errcheck // Compare tells
			}
			fmt.Fprint(w, `],"organizations":[],"organization_memberships":[`) //nolint:errcheck // Compare tells
			for i := 1; i <= memberships; i++ {
				fmt.Fprint(w, comma(i), `{"id":"orgmem_`, i, `","role":"org:member","permissions":["org:posts:read"],"public_user_data":{"user_id":"user_`, i%users+1, `"},`, padding, `}`) //nolint:errcheck // Compare tells
			}
			fmt.Fprint(w, `]}]}`)          //nolint:errcheck // Compare tells
			pipe.CloseWithError(w.Flush()) //nolint:errcheck // never fails
		}()
		report, err := truth.Compare(b.Context(), r, s.db, truth.Options{Resources: []string{"users", "organization_memberships"}})
		if err != nil || !report.Equal() || report.Resources[1].Compared != memberships {
			b.Fatalf("%v, %d differences, first %v", err, len(report.Differences), report.Differences[:min(1, len(report.Differences))])
		}
	}
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	b.ReportMetric(float64(memory.Sys)/1e6, "MB-of-the-system")
}

func comma(i int) string {
	if i == 1 {
		return ""
	}
	return ","
}
