package ingest_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/internal/ingest"
	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
	"github.com/rollcall-dev/rollcall/streams"
)

const (
	inLog  = "CLERK"
	inDead = "CLERK_DEAD"
)

// Every line of bad input that an unauthenticated sender can make: it is
// refused, nothing is stored, and the next event passes.
func TestRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t, stacktest.NATS(t))
	body, now := event("user_1", ""), time.Now()
	ok := func() http.Header { return signed(t, secretA, "msg_bad", body) }
	big := event("user_1", `,"x":"`+strings.Repeat("x", mebi)+`"`)
	for _, c := range []struct {
		name, method, path string
		header             http.Header
		body               string
		status             int
		code               string
	}{
		{name: "another secret", header: signed(t, foreign, "msg_bad", body), status: 401, code: "signature_invalid"},
		{name: "body changed by one byte", header: ok(), body: strings.Replace(body, "user_1", "user_2", 1), status: 401, code: "signature_invalid"},
		{name: "a byte more", header: ok(), body: body + "\n", status: 401, code: "signature_invalid"},
		{name: "another id", header: with(ok(), "Svix-Id", "msg_other"), status: 401, code: "signature_invalid"},
		{name: "another time", header: with(ok(), "Svix-Timestamp", strconv.FormatInt(now.Unix()+9, 10)), status: 401, code: "signature_invalid"},
		{name: "only a version unknown", header: with(ok(), "Svix-Signature", "v2,"+ok().Get("Svix-Signature")[3:]), status: 401, code: "signature_invalid"},
		{name: "too old", header: signedAt(t, secretA, "svix", "msg_bad", now.Add(-301*time.Second), body), status: 401, code: "signature_too_old"},
		{name: "from the future", header: signedAt(t, secretA, "svix", "msg_bad", now.Add(303*time.Second), body), status: 401, code: "signature_too_old"},
		{name: "no headers", header: http.Header{}, status: 400, code: "signature_headers_missing"},
		{name: "no signature", header: with(ok(), "Svix-Signature", ""), status: 400, code: "signature_headers_missing"},
		{name: "time is no number", header: with(ok(), "Svix-Timestamp", "yesterday"), status: 400, code: "signature_headers_malformed"},
		{name: "time beyond 64 bits", header: with(ok(), "Svix-Timestamp", "99999999999999999999"), status: 400, code: "signature_headers_malformed"},
		{name: "signature is no pair", header: with(ok(), "Svix-Signature", "v1"), status: 400, code: "signature_headers_malformed"},
		{name: "empty, unsigned", header: http.Header{}, body: "-", status: 400, code: "signature_headers_missing"},
		{name: "GET", method: http.MethodGet, header: ok(), status: 405, code: "method_not_allowed"},
		{name: "PUT", method: http.MethodPut, header: ok(), status: 405, code: "method_not_allowed"},
		{name: "another path", path: "/webhooks/clark", header: ok(), status: 404, code: "not_found"},
		{name: "no instance of that name", path: ingest.Path + "/nobody", header: ok(), status: 404, code: "not_found"},
		{name: "1 MiB and more", header: signed(t, secretA, "msg_bad", big), body: big, status: 413, code: "body_too_large"},
		{name: "too long and unsigned", header: http.Header{}, body: big, status: 413, code: "body_too_large"},
	} {
		sent := c.body
		if sent == "" {
			sent = body
		}
		method, path := c.method, c.path
		if method == "" {
			method = http.MethodPost
		}
		if path == "" {
			path = ingest.Path
		}
		got := r.do(method, path, c.header, strings.NewReader(sent))
		if got.status != c.status || got.code != c.code || got.message == "" {
			t.Errorf("%s: %d %s %q, want %d %s and a message", c.name, got.status, got.code, got.message, c.status, c.code)
		}
		if c.status == 405 && got.header.Get("Allow") != http.MethodPost {
			t.Errorf("%s: Allow is %q", c.name, got.header.Get("Allow"))
		}
		if got := r.send("msg_next "+c.name, body); got.status != 204 {
			t.Errorf("after %s: the next event got %d %s", c.name, got.status, got.message)
		}
		if m, _ := r.last(inLog); m.Header.Get("Svix-Id") != "msg_next "+c.name {
			t.Errorf("after %s the log ends with %s", c.name, m.Header.Get("Svix-Id"))
		}
	}
	if _, n := r.last(inDead); n != 0 {
		t.Errorf("%d dead letters of what is not authentic", n)
	}
	if _, n := r.last(inLog); n != 20 {
		t.Errorf("%d events stored, want the 20 good ones", n)
	}
}

// What an authentic sender may send is stored to the byte: in the log under a
// subject that decodes to its id, or as a dead letter.
func TestAuthentic(t *testing.T) {
	t.Parallel()
	r := newRig(t, stacktest.NATS(t))
	deep := func(n int) string { return event("user_1", `,"x":`+strings.Repeat("[", n)+strings.Repeat("]", n)) }
	exactly := func(n int) string {
		return event("user_1", `,"x":"`+strings.Repeat("x", n-len(event("user_1", `,"x":""`)))+`"`)
	}
	const user = "clerk.ins_1.user.updated."
	for _, c := range []struct {
		name, body, stream, subject string
	}{
		{"exactly 1 MiB", exactly(mebi), inLog, user + "user_1"},
		{"1 MB of metadata", event("user_1", `,"public_metadata":{"a":"`+strings.Repeat("é", 500_000)+`"}`), inLog, user + "user_1"},
		{"id with a dot", event("a.b", ""), inLog, user + "a%2Eb"},
		{"id with a space", event("a b", ""), inLog, user + "a%20b"},
		{"id *", event("*", ""), inLog, user + "%2A"},
		{"id >", event(">", ""), inLog, user + "%3E"},
		{"id %", event("%", ""), inLog, user + "%25"},
		{"id _", event("_", ""), inLog, user + "%5F"},
		{"id in unicode", event("ü☃", ""), inLog, user + "%C3%BC%E2%98%83"},
		{"id with NUL, CR, LF", event("\x00\r\n", ""), inLog, user + "%00%0D%0A"},
		{"id that is no string", `{"type":"user.updated","instance_id":"ins_1","data":{"id":5}}`, inLog, user + "_"},
		{"no data", `{"type":"user.updated","instance_id":"ins_1"}`, inLog, user + "_"},
		{"data is null", `{"type":"user.updated","instance_id":"ins_1","data":null}`, inLog, user + "_"},
		{"data is a list", `{"type":"user.updated","instance_id":"ins_1","data":["id"]}`, inLog, user + "_"},
		{"\\u0000 and lone surrogates", event("user_1", `,"first_name":"a\u0000b","last_name":"\ud800","username":"\udc00\ud83d"`), inLog, user + "user_1"},
		{"bytes that are no UTF-8", event("user_1", `,"first_name":"`+"\xff\xfe"+`"`), inLog, user + "user_1"},
		{"numbers beyond 2^53", event("user_1", `,"n":9007199254740993,"m":1e400,"o":-0.10`), inLog, user + "user_1"},
		{"unknown type", `{"type":"spaceship.launched","instance_id":"ins_1","data":{"id":"x"}}`, inLog, "clerk.ins_1.spaceship.launched.x"},
		{"type to be escaped", `{"type":"a b.*","instance_id":"ins_1","data":{"id":"x"}}`, inLog, "clerk.ins_1.a%20b.%2A.x"},
		{"no instance_id", `{"type":"user.updated","data":{"id":"x"}}`, inLog, user + "x"},
		{"white space around", " \r\n" + event("user_1", "") + "\n\t ", inLog, user + "user_1"},
		{"token of 256 bytes", event(strings.Repeat("a", 256), ""), inLog, user + strings.Repeat("a", 256)},
		{"1,000 levels in all", deep(998), inLog, user + "user_1"},

		{"token of 257 bytes", event(strings.Repeat("a", 257), ""), inDead, "rollcall.dead.ingest.user.updated._"},
		{"id of 2,000 letters", event(strings.Repeat("a", 2000), ""), inDead, "rollcall.dead.ingest.user.updated._"},
		{"id of 2,000 spaces", event(strings.Repeat(" ", 2000), ""), inDead, "rollcall.dead.ingest.user.updated._"},
		{"type of 2,000 letters", `{"type":"` + strings.Repeat("t", 2000) + `.created","data":{"id":"x"}}`, inDead, "rollcall.dead.ingest._.created.x"},
		{"instance of 2,000 spaces", `{"type":"user.updated","instance_id":"` + strings.Repeat(" ", 2000) + `","data":{"id":"x"}}`, inDead, "rollcall.dead.ingest.user.updated.x"},
		{"another instance", `{"type":"user.updated","instance_id":"ins_2","data":{"id":"x"}}`, inDead, "rollcall.dead.ingest.user.updated.x"},
		{"an instance of line feeds", `{"type":"user.updated","instance_id":"\r\n\r\n","data":{"id":"x"}}`, inDead, "rollcall.dead.ingest.user.updated.x"},
		{"1,001 levels", deep(999), inDead, "rollcall.dead.ingest._._._"},
		{"100,000 levels", deep(100_000), inDead, "rollcall.dead.ingest._._._"},
		{"100,000 objects", strings.Repeat(`{"a":`, 100_000) + "1" + strings.Repeat("}", 100_000), inDead, "rollcall.dead.ingest._._._"},
		{"empty", "", inDead, "rollcall.dead.ingest._._._"},
		{"not JSON", "hello", inDead, "rollcall.dead.ingest._._._"},
		{"JSON cut off", event("user_1", "")[:40], inDead, "rollcall.dead.ingest._._._"},
		{"JSON twice", event("user_1", "") + event("user_1", ""), inDead, "rollcall.dead.ingest._._._"},
		{"byte order mark", "\xef\xbb\xbf" + event("user_1", ""), inDead, "rollcall.dead.ingest._._._"},
		{"a list", "[" + event("user_1", "") + "]", inDead, "rollcall.dead.ingest._._._"},
		{"a string", `"user.created"`, inDead, "rollcall.dead.ingest._._._"},
		{"null", "null", inDead, "rollcall.dead.ingest._._._"},
		{"no type", `{"instance_id":"ins_1","data":{"id":"x"}}`, inDead, "rollcall.dead.ingest._._.x"},
		{"type is no string", `{"type":{"user":"updated"},"data":{"id":"x"}}`, inDead, "rollcall.dead.ingest._._.x"},
		{"type without action", `{"type":"user","data":{"id":"x"}}`, inDead, "rollcall.dead.ingest._._.x"},
		{"type of three", `{"type":"user.updated.again","data":{"id":"x"}}`, inDead, "rollcall.dead.ingest._._.x"},
	} {
		other := map[string]string{inLog: inDead, inDead: inLog}[c.stream]
		_, had := r.last(c.stream)
		_, otherHad := r.last(other)
		id := "msg_" + c.name
		for attempt := range 2 { // Svix retries what it believes lost
			got := r.send(id, c.body)
			if want := map[string]int{inLog: 204, inDead: 202}[c.stream]; got.status != want {
				t.Errorf("%s, attempt %d: %d %s, want %d", c.name, attempt, got.status, got.message, want)
			}
		}
		_, have := r.last(c.stream)
		_, otherHave := r.last(other)
		if have != had+1 || otherHave != otherHad {
			t.Errorf("%s: %s grew by %d, %s by %d", c.name, c.stream, have-had, other, otherHave-otherHad)
			continue
		}
		m := r.stored(c.stream, c.subject, id, c.body)
		if c.stream == inDead {
			if m.Header.Get("Rollcall-Reason") == "" || m.Header.Get("Rollcall-Sink") != "ingest" || m.Header.Get("Rollcall-Attempts") != "1" || m.Header.Get("Nats-TTL") != "" {
				t.Errorf("%s: headers %v", c.name, m.Header)
			}
		} else if s, err := (streams.Names{}).ParseSubject(m.Subject); err != nil || s.InstanceID != "ins_1" {
			t.Errorf("%s: %+v, %v", c.name, s, err)
		}
		next := event("user_next", "")
		if got := r.send("next "+c.name, next); got.status != 204 {
			t.Errorf("after %s: the next event got %d %s", c.name, got.status, got.message)
		}
		r.stored(inLog, user+"user_next", "next "+c.name, next)
	}
}

func TestHeadersInTheLog(t *testing.T) {
	t.Parallel()
	r := newRig(t, stacktest.NATS(t))
	const trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	body := event("user_1", "")
	before := time.Now().UnixMilli()
	h := with(signedAt(t, secretA, "webhook", "msg_1", time.Now(), body), "traceparent", trace)
	if got := r.do(http.MethodPost, ingest.Path, h, strings.NewReader(body)); got.status != 204 {
		t.Fatalf("%d %s", got.status, got.message)
	}
	m := r.stored(inLog, "clerk.ins_1.user.updated.user_1", "msg_1", body)
	for key, want := range map[string]string{
		"Nats-Msg-Id": "msg_1", "Svix-Timestamp": h.Get("webhook-timestamp"), "Svix-Signature": h.Get("webhook-signature"),
		"Rollcall-Source": "webhook", "traceparent": trace, "Rollcall-Redacted": "", "Nats-TTL": "",
	} {
		if got := m.Header.Get(key); got != want {
			t.Errorf("%s: %q, want %q", key, got, want)
		}
	}
	if at, err := strconv.ParseInt(m.Header.Get("Rollcall-Received-At"), 10, 64); err != nil || at < before || at > time.Now().UnixMilli() {
		t.Errorf("Rollcall-Received-At: %d, %v", at, err)
	}
	for typ, ttl := range map[string]time.Duration{"session.created": 90 * 24 * time.Hour, "email.created": 7 * 24 * time.Hour, "sms.created": 7 * 24 * time.Hour, "user.created": 0} {
		if got := r.send("msg_"+typ, `{"type":"`+typ+`","data":{"id":"x"}}`); got.status != 204 {
			t.Fatalf("%s: %d %s", typ, got.status, got.message)
		}
		m, _ := r.last(inLog)
		if got, _ := time.ParseDuration(m.Header.Get("Nats-TTL")); got != ttl {
			t.Errorf("%s: Nats-TTL %q, want %s", typ, m.Header.Get("Nats-TTL"), ttl)
		}
	}
}

// Rotation: either secret, both signatures in one header, and the documented
// second endpoint that sends everything twice.
func TestSecrets(t *testing.T) {
	t.Parallel()
	r := newRig(t, stacktest.NATS(t))
	body := event("user_1", "")
	both := signed(t, foreign, "msg_3", body)
	both.Set("Svix-Signature", "v1a,zzz "+both.Get("Svix-Signature")+" "+signed(t, secretB, "msg_3", body).Get("Svix-Signature"))
	for name, h := range map[string]http.Header{
		"first": signed(t, secretA, "msg_1", body), "second": signed(t, secretB, "msg_2", body), "one of two": both,
		"again, by the second endpoint": signed(t, secretB, "msg_1", body),
	} {
		if got := r.do(http.MethodPost, ingest.Path, h, strings.NewReader(body)); got.status != 204 {
			t.Errorf("%s: %d %s", name, got.status, got.message)
		}
	}
	if _, n := r.last(inLog); n != 3 {
		t.Errorf("%d stored, want 3", n)
	}
}

func TestInstances(t *testing.T) {
	t.Parallel()
	r := newRig(t, stacktest.NATS(t), func(s *settings) {
		s.Instances = []ingest.Instance{{Name: "prod", ID: "ins_p", Secrets: []string{secretA}}, {Name: "dev", Secrets: []string{secretB}}}
	})
	bare := `{"type":"user.updated","data":{"id":"x"}}`
	post := func(path, secret, id, body string) int {
		return r.do(http.MethodPost, path, signed(t, secret, id, body), strings.NewReader(body)).status
	}
	for _, c := range []struct {
		path, secret, body string
		status             int
		subject            string
	}{
		{"/webhooks/clerk/prod", secretA, bare, 204, "clerk.ins_p.user.updated.x"},
		{"/webhooks/clerk/prod", secretB, bare, 401, ""},
		{"/webhooks/clerk/prod", secretA, event("x", ""), 202, ""},
		{"/webhooks/clerk/dev", secretB, event("x", ""), 204, "clerk.ins_1.user.updated.x"},
		{"/webhooks/clerk/dev", secretB, bare, 204, "clerk._.user.updated.x"},
		{"/webhooks/clerk", secretA, bare, 404, ""},
		{"/webhooks/clerkprod", secretA, bare, 404, ""},
		{"/prod", secretA, bare, 404, ""},
		{"/webhooks/clerk/prod/x", secretA, bare, 404, ""},
	} {
		id := c.path + c.secret + c.body
		if got := post(c.path, c.secret, id, c.body); got != c.status {
			t.Errorf("%s: %d, want %d", c.path, got, c.status)
		} else if c.subject != "" {
			r.stored(inLog, c.subject, id, c.body)
		}
	}
}

func TestOneTimeCodes(t *testing.T) {
	t.Parallel()
	ns := stacktest.NATS(t)
	email, err := os.ReadFile("../../cmd/rollcall/examples/email.created.json")
	must(t, err)
	const code = "123456"
	if !strings.Contains(string(email), code) {
		t.Fatal("the example carries no code")
	}
	other := strings.Replace(string(email), `"instance_id"`, `"no_instance_id"`, 1)
	for _, mode := range []string{ingest.CodesRedact, ingest.CodesDrop, ingest.CodesKeep} {
		r := newRig(t, ns, func(s *settings) { s.Codes = mode; s.Instances[0].ID = "" })
		_, had := r.last(inLog)
		if got := r.send("msg_"+mode, string(email)); got.status != 204 {
			t.Errorf("%s: %d %s", mode, got.status, got.message)
		}
		m, have := r.last(inLog)
		switch mode {
		case ingest.CodesDrop:
			if have != had {
				t.Error("drop: stored")
			}
		case ingest.CodesKeep:
			if string(m.Data) != string(email) || m.Header.Get("Rollcall-Redacted") != "" {
				t.Errorf("keep: changed, %v", m.Header)
			}
		case ingest.CodesRedact:
			if strings.Contains(string(m.Data), code) || !strings.Contains(m.Header.Get("Rollcall-Redacted"), "data.data.otp_code") {
				t.Errorf("redact: %v\n%s", m.Header, m.Data)
			}
			// An e-mail of another instance becomes a letter: without the code too.
			if got := r.send("msg_other", `{"instance_id":"`+strings.Repeat("i", 300)+`",`+other[1:]); got.status != 202 {
				t.Errorf("redact, unusable: %d %s", got.status, got.message)
			}
			if m, _ := r.last(inDead); m == nil || strings.Contains(string(m.Data), code) || m.Header.Get("Rollcall-Redacted") == "" {
				t.Error("redact: the code is among the dead letters")
			}
		}
	}
}

// JetStream refuses headers of more than 64 KiB: what a body names must not be
// able to make them so long, or the event could never be stored.
func TestManyCodes(t *testing.T) {
	t.Parallel()
	r := newRig(t, stacktest.NATS(t))
	var b strings.Builder
	for i := range 20_000 {
		b.WriteString(`"code` + strconv.Itoa(i) + `":"secret",`)
	}
	got := r.send("msg_1", `{"type":"email.created","instance_id":"ins_1","data":{"id":"ema_1","data":{`+b.String()+`"x":1}}}`)
	if got.status != 204 {
		t.Fatalf("%d %s", got.status, got.message)
	}
	m, _ := r.last(inLog)
	if strings.Contains(string(m.Data), "secret") || m.Header.Get("Rollcall-Redacted") == "" {
		t.Errorf("codes left, or none named: %.200s", m.Header.Get("Rollcall-Redacted"))
	}
	long := strings.Repeat("i", 15<<10)
	if got := r.send(long, event("user_1", "")); got.status != 204 {
		t.Errorf("id of 15 KiB: %d %s", got.status, got.message)
	}
}

func TestDuplicates(t *testing.T) {
	t.Parallel()
	ns := stacktest.NATS(t, stacktest.Sync())
	r := newRig(t, ns)
	const events, copies = 20, 8
	var senders sync.WaitGroup
	for i := range events {
		for range copies {
			senders.Go(func() {
				if got := r.send("msg_"+strconv.Itoa(i), event("user_"+strconv.Itoa(i), "")); got.status != 204 {
					t.Errorf("%d %s", got.status, got.message)
				}
			})
		}
	}
	senders.Wait()
	if _, n := r.last(inLog); n != events {
		t.Errorf("%d stored, want %d", n, events)
	}
	// Another process, whose memory is empty, gets one of them with another body.
	other := newRig(t, ns)
	if got := other.send("msg_7", event("user_other", "")); got.status != 204 {
		t.Errorf("later: %d %s", got.status, got.message)
	}
	if m, n := r.last(inLog); n != events || strings.Contains(m.Subject, "user_other") {
		t.Errorf("the second body won: %s", m.Subject)
	}
}

func TestOfficialExamples(t *testing.T) {
	t.Parallel()
	r := newRig(t, stacktest.NATS(t), func(s *settings) { s.Instances[0].ID, s.Codes = "", ingest.CodesKeep })
	files, err := filepath.Glob("../../cmd/rollcall/examples/*.json")
	must(t, err)
	if len(files) != 45 {
		t.Fatalf("%d examples, want 45", len(files))
	}
	for _, file := range files {
		body, err := os.ReadFile(file)
		must(t, err)
		typ := strings.TrimSuffix(filepath.Base(file), ".json")
		if got := r.send("msg_"+typ, string(body)); got.status != 204 {
			t.Errorf("%s: %d %s", typ, got.status, got.message)
			continue
		}
		m := r.stored(inLog, "", "msg_"+typ, string(body))
		s, err := (streams.Names{}).ParseSubject(m.Subject)
		if err != nil || s.Type() != typ || s.EntityID == "" || !strings.Contains(string(body), `"`+s.EntityID+`"`) {
			t.Errorf("%s: subject %s, %v", typ, m.Subject, err)
		}
	}
	if _, n := r.last(inDead); n != 0 {
		t.Errorf("%d dead letters", n)
	}
}
