package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rollcall-dev/rollcall/internal/erase"
	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
)

const ada = "user_2adaadaadaadaadaadaadaadaad"

// traces are what must be nowhere once she is erased.
var traces = []string{"ada.byron@example.org", "Ada.Byron@Example.org", "Byronovna", "+15550100777"}

// story has the person as Clerk tells of her: her own events, others' that embed
// her, and what was only sent to her address.
var story = []struct{ name, body string }{
	{"other", `{"type":"user.created","data":{"id":"user_2bob","first_name":"Bob","email_addresses":[{"id":"idn_2","email_address":"bob@example.org"}],"primary_email_address_id":"idn_2","updated_at":1}}`},
	{"invitation", `{"type":"organizationInvitation.created","data":{"id":"orginv_1","organization_id":"org_1","email_address":"Ada.Byron@Example.org","status":"pending","updated_at":1}}`},
	{"waitlist", `{"type":"waitlistEntry.created","data":{"id":"wle_1","email_address":"ada.byron@example.org","status":"pending","updated_at":1}}`},
	{"user", `{"type":"user.created","data":{"id":"` + ada + `","first_name":"Ada","last_name":"Byronovna","email_addresses":[{"id":"idn_1","email_address":"ada.byron@example.org"}],"primary_email_address_id":"idn_1","phone_numbers":[{"id":"idn_3","phone_number":"+15550100777"}],"updated_at":2},"event_attributes":{"http_request":{"client_ip":"192.0.2.7"}}}`},
	{"session", `{"type":"session.created","data":{"id":"sess_1","user_id":"` + ada + `","status":"active","latest_activity":{"city":"Byronovna"},"updated_at":2}}`},
	{"member", `{"type":"organizationMembership.created","data":{"id":"orgmem_1","organization":{"id":"org_1","name":"Acme"},"public_user_data":{"user_id":"` + ada + `","first_name":"Ada","last_name":"Byronovna","identifier":"ada.byron@example.org"},"role":"org:admin","updated_at":2}}`},
	{"mail", `{"type":"email.created","data":{"id":"ema_1","to_email_address":"ada.byron@example.org","subject":"Hello Byronovna","user_id":null,"status":"queued"}}`},
	{"inviter", `{"type":"organizationInvitation.created","data":{"id":"orginv_2","organization_id":"org_1","email_address":"bob@example.org","status":"pending","public_inviter_data":{"user_id":"` + ada + `","last_name":"Byronovna","identifier":"ada.byron@example.org"},"updated_at":2}}`},
	{"again", `{"type":"user.updated","data":{"id":"` + ada + `","first_name":"Eve","last_name":"Byronovna","email_addresses":[{"id":"idn_1","email_address":"ada.byron@example.org"}],"updated_at":3}}`}, // a dead letter of the store
}

// forgetting is all roles on a Postgres and a NATS of its own.
type forgetting struct {
	*letterbox
	files  string // of Postgres
	sender *sender
}

func newForgetting(t *testing.T) *forgetting {
	t.Helper()
	pg := stacktest.Postgres(t)
	f := &forgetting{letterbox: &letterbox{pipeline: &pipeline{t, stacktest.NATS(t), pg.Database(t)}}}
	f.config = filepath.Join(t.TempDir(), "rollcall.yaml")
	text := "stores:\n  app: {database_url: \"${DB}\", on_delete: keep}\naudit: {database_url: \"${DB}\"}\ninvalidate: {after: [app], keys: {users: [\"user:{id}\", \"user:email:{email}\"]}}\n"
	if err := os.WriteFile(f.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(stacktest.FreePort(t)))
	f.env = []string{"NATS_URL=" + f.nats.URL, "DB=" + f.db.OwnerURL, "ROLLCALL_INSTANCE_ID=ins_1", "CLERK_WEBHOOK_SIGNING_SECRET=" + secret}
	f.running = newProc(t, addr, []string{"run", "ingest", "store", "audit", "invalidate", "--config", f.config}, append(f.env, "ROLLCALL_INGEST_ADDR="+addr)...).start()
	f.running.is("ok")
	f.exec(`alter table clerk.users add constraint no_eve check (first_name <> 'Eve')`)
	f.sender = newSender(t, addr, secret)
	conn, err := pgx.Connect(t.Context(), pg.AdminURL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if err := conn.QueryRow(t.Context(), `show data_directory`).Scan(&f.files); err != nil {
		t.Fatal(err)
	}
	return f
}

// tell sends the story under ids of its own, and waits until store and audit
// have all that is in the log.
func (f *forgetting) tell(prefix string) {
	f.t.Helper()
	for i, e := range story {
		body := fmt.Sprintf(`{"timestamp":%d,"instance_id":"ins_1","object":"event",%s`, 1_790_000_000_000+int64(i), e.body[1:])
		if got := f.sender.post(&event{id: prefix + e.name, body: []byte(body)}); got.code != 204 {
			f.t.Fatalf("%s: answered %d", e.name, got.code)
		}
	}
	last := f.stream().State.LastSeq
	stacktest.Eventually(f.t, patience, func() error {
		var store, audit int64
		err := f.query([]any{&store, &audit}, `select (select position from clerk.sync_status), (select position from rollcall_audit.sync_status)`)
		if err == nil && (uint64(store) < last || uint64(audit) < last) {
			err = fmt.Errorf("store at %d, audit at %d, the log at %d", store, audit, last)
		}
		return err
	})
}

// found are the files that hold a trace. What can't be reached is left out: the
// write-ahead log, and old revisions of the state's keys.
func (f *forgetting) found() (files []string) {
	f.t.Helper()
	admin, err := pgx.Connect(f.t.Context(), f.db.AdminURL)
	if err != nil {
		f.t.Fatal(err)
	}
	defer admin.Close(context.Background())
	for _, sql := range []string{"vacuum full", "analyze", "checkpoint"} {
		if _, err := admin.Exec(f.t.Context(), sql); err != nil {
			f.t.Fatal(err)
		}
	}
	for _, dir := range []string{f.files, f.nats.Dir} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // it goes while Postgres works
			}
			if d.IsDir() && (d.Name() == "pg_wal" || d.Name() == "KV_CLERK_STATE") {
				return fs.SkipDir
			}
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			text, err := os.ReadFile(path)
			for _, trace := range traces {
				if bytes.Contains(text, []byte(trace)) {
					files = append(files, path+": "+trace)
				}
			}
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		})
		if err != nil {
			f.t.Fatal(err)
		}
	}
	return files
}

func (f *forgetting) forgotten() {
	f.t.Helper()
	if files := f.found(); len(files) > 0 {
		f.t.Errorf("still there:\n%s", strings.Join(files, "\n"))
	}
	f.has("t,", `select string_agg(concat(deleted_at is not null, ',', email), ' ') from clerk.users where id = '`+ada+`'`)
	f.has("bob@example.org bob@example.org", `select concat((select email from clerk.users where id = 'user_2bob'), ' ', (select email_address from clerk.organization_invitations where id = 'orginv_2'))`)
	if said := f.command(0, []string{"audit", "verify", "--json"}); !json.Valid([]byte(said)) {
		f.t.Error(said)
	}
}

// After an erasure no file has a trace, and nothing brings the person back.
func TestErase(t *testing.T) {
	t.Parallel()
	f := newForgetting(t)
	f.tell("msg_")
	if letters := f.letters(); len(letters) != 1 || letters[0].EntityID != ada {
		t.Fatalf("letters: %+v", letters)
	}
	if files := f.found(); !slices.ContainsFunc(files, func(s string) bool { return strings.Contains(s, "CLERK_DEAD") }) || len(files) < 6 {
		t.Fatalf("the search finds no more than %v", files)
	}
	f.command(exitUsage, []string{"erase", ada})

	var dry, did erase.Report
	if err := json.Unmarshal([]byte(f.command(0, []string{"erase", ada, "--dry-run", "--json"})), &dry); err != nil {
		t.Fatal(err)
	}
	said := f.command(0, []string{"erase", ada, "--yes", "--json"})
	if err := json.Unmarshal([]byte(said), &did); err != nil {
		t.Fatal(err)
	}
	want := []erase.Stream{{Stream: "CLERK", Own: 4, ByAddress: 3, Cut: 1}, {Stream: "CLERK_DEAD", Own: 1}}
	for what, r := range map[string]erase.Report{"a dry run": dry, "erase": did} {
		if !slices.Equal(r.Streams, want) || r.AuditRows < 8 || len(r.Stores) != 1 || !r.Finished {
			t.Errorf("%s reports %+v", what, r)
		}
	}
	for _, trace := range traces {
		if strings.Contains(said, trace) {
			t.Errorf("the report has %s", trace)
		}
	}
	f.forgotten()
	if letters := f.letters(); len(letters) != 0 {
		t.Errorf("letters: %+v", letters)
	}
	f.has("0", `select dead_letters::text from clerk.sync_status`)

	// A late replay, beyond what JetStream remembers of message ids.
	f.tell("msg_again_")
	f.forgotten()
	f.fresh()
}

// fresh fills a second store from the log, and expects no trace of her in it.
func (f *forgetting) fresh() {
	f.t.Helper()
	config := filepath.Join(f.t.TempDir(), "rollcall.yaml")
	if err := os.WriteFile(config, []byte("stores: {second: {database_url: \"${DB}\", schema: second, on_delete: keep}}\n"), 0o600); err != nil {
		f.t.Fatal(err)
	}
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(stacktest.FreePort(f.t)))
	newProc(f.t, addr, []string{"run", "store", "--config", config}, append(f.env, "ROLLCALL_HEALTH_ADDR="+addr)...).start().is("ok")
	f.has(fmt.Sprint(f.stream().State.LastSeq), `select position::text from second.sync_status`)
	f.has("user_2bob bob@example.org, "+ada+" ", `select string_agg(concat(id, ' ', email), ', ' order by email) from second.users`)
	f.has("true", `select (count(*) = 2 and count(email_address) = 1)::text from second.organization_invitations`)
}

// Killed at random moments it ends right when it is started again.
func TestSoakEraseKilled(t *testing.T) {
	t.Parallel()
	const seed = 7
	random := rand.New(rand.NewPCG(seed, 1))
	t.Logf("seed %d", seed)
	f := newForgetting(t)
	f.tell("msg_")
	for range sized(3, 20) {
		p := f.start([]string{"erase", ada, "--yes"})
		time.Sleep(time.Duration(random.IntN(7000)) * time.Millisecond) // where the kill falls is the test's input
		p.kill()
	}
	f.command(0, []string{"erase", ada, "--yes"})
	f.forgotten()
}
