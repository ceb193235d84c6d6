package erase

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
	"github.com/rollcall-dev/rollcall/streams"
)

func TestMain(m *testing.M) { stacktest.Main(m) }

// put stores an event, or a letter about one.
func put(t *testing.T, js jetstream.JetStream, subject, id, body string, header ...string) {
	t.Helper()
	m := &nats.Msg{Subject: subject, Data: []byte(body), Header: nats.Header{streams.HeaderMsgID: {id}, streams.HeaderSvixID: {id}}}
	for i := 0; i < len(header); i += 2 {
		m.Header.Set(header[i], header[i+1])
	}
	if _, err := js.PublishMsg(t.Context(), m); err != nil {
		t.Fatal(err)
	}
}

// What isn't the person's stays; letters and a mirror lose what is; a second run
// finds nothing.
func TestStreams(t *testing.T) {
	t.Parallel()
	js, err := jetstream.New(stacktest.NATS(t).Connect(t))
	if err != nil {
		t.Fatal(err)
	}
	d := streams.Names{}.Definitions(streams.Options{})
	if _, err := streams.Apply(t.Context(), js, streams.Names{}.Definitions(streams.Options{})); err != nil {
		t.Fatal(err)
	}
	mirror := jetstream.StreamConfig{Name: "COPY", Mirror: &jetstream.StreamSource{Name: d.Streams[0].Name}, AllowMsgTTL: true}
	if _, err := js.CreateStream(t.Context(), mirror); err != nil {
		t.Fatal(err)
	}
	user := func(id, address string) string {
		return fmt.Sprintf(`{"type":"user.created","timestamp":1790000000000,"instance_id":"ins_1","data":{"id":%q,"email_addresses":[{"email_address":%q}]}}`, id, address)
	}
	put(t, js, "clerk.ins_1.user.created.user_1", "a", user("user_1", "ada@x.org"))
	put(t, js, "clerk.ins_1.user.created.user_2", "b", user("user_2", "Ada@x.org")) // e-mails aren't unique
	put(t, js, "clerk.ins_1.user.created.user_3", "c", user("user_3", "n.ada@x.org"))
	put(t, js, "clerk.ins_1.user.deleted.user_1", "d", `{"type":"user.deleted","timestamp":1790000000005,"instance_id":"ins_1","data":{"id":"user_1","deleted":true,"slug":"ada"}}`)
	invitation := `{"type":"organizationInvitation.created","data":{"id":"i_2","email_address":"bob@x.org","public_inviter_data":{"user_id":"user_1","first_name":"Ada"}}}`
	put(t, js, "rollcall.dead.store-app.organizationInvitation.created.i_2", "store-app:1:9:1", invitation, streams.HeaderSink, "store-app", streams.HeaderAttempts, "1")
	put(t, js, "rollcall.dead.ingest._._._", "e", `{broken user_1`, streams.HeaderSink, "ingest")

	stacktest.Eventually(t, 30*time.Second, func() error {
		copied, err := js.Stream(t.Context(), "COPY")
		if err == nil && copied.CachedInfo().State.LastSeq < 4 {
			err = fmt.Errorf("the mirror is at %d", copied.CachedInfo().State.LastSeq)
		}
		return err
	})
	o := Options{JetStream: js, UserID: "user_1", Settle: time.Millisecond}
	report, err := Run(t.Context(), o)
	want := []Stream{{"CLERK", 2, 0, 0, 1}, {"CLERK_DEAD", 1, 0, 1, 0}, {"COPY", 2, 0, 0, 1}}
	if err != nil || !slices.Equal(report.Streams, want) {
		t.Fatalf("%+v, %v", report, err)
	}
	log := all(t, js, "CLERK")
	if len(log) != 3 || !strings.Contains(log[0]+log[1], "Ada@x.org") || !strings.Contains(log[1], "n.ada@x.org") || !strings.Contains(log[2], `"timestamp":1790000000005`) {
		t.Errorf("the log has %q", log)
	}
	letters := all(t, js, "CLERK_DEAD")
	if len(letters) != 1 || !strings.HasPrefix(letters[0], "store-app:1:9:2 ") || strings.Contains(letters[0], "Ada") || !strings.Contains(letters[0], "bob@x.org") {
		t.Errorf("letters: %q", letters)
	}
	again, err := Run(t.Context(), o)
	if err != nil || again.Streams[0].Own+again.Streams[1].Own+again.Streams[1].Cut+again.Streams[2].Own > 0 {
		t.Errorf("again: %+v, %v", again, err)
	}
	if now := all(t, js, "CLERK"); !slices.Equal(now, log) {
		t.Errorf("a second run changes the log: %q", now)
	}
}

// all are a stream's messages: id and body.
func all(t *testing.T, js jetstream.JetStream, name string) (list []string) {
	t.Helper()
	r := &run{Options: Options{JetStream: js}}
	err := r.read(context.Background(), name, "", func(m jetstream.Msg, _ uint64) {
		list = append(list, m.Headers().Get(streams.HeaderMsgID)+" "+string(m.Data()))
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestFind(t *testing.T) {
	t.Parallel()
	r := &run{texts: []string{"ada@x.org", "+15550100"}}
	for text, want := range map[string]bool{
		"ADA@x.org": true, "to Ada@x.org.": true, "<ada@x.org>": true, "nada@x.org": false, "n.ada@x.org": false, "ada@x.org.uk": false,
		"nada@x.org ada@x.org": true, "+15550100": true, "+155501007": false, "": false,
	} {
		f := &findings{spellings: map[string]bool{}}
		if got := r.in(f, text); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}
