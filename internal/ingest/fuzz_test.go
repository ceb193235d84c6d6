package ingest_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	svix "github.com/svix/svix-webhooks/go"
	"go.uber.org/zap"

	"github.com/rollcall-dev/rollcall/internal/ingest"
	"github.com/rollcall-dev/rollcall/internal/publish"
	"github.com/rollcall-dev/rollcall/streams"
)

// recorder takes messages as JetStream would. A real server in a fuzzed process
// makes each input look new, and the fuzzer minimizes for ever; the other tests
// have real ones.
type recorder struct {
	t     testing.TB
	taken []publish.Message
}

func (r *recorder) Publish(m publish.Message) (bool, error) {
	size := 0
	for key, values := range m.Header {
		for _, v := range values {
			size += len(key) + len(v) + 4
			if strings.ContainsAny(v, "\r\n\x00") {
				r.t.Errorf("header %s: %q", key, v)
			}
		}
	}
	if size > 64<<10-100 || len(m.Subject) > 2000 || strings.ContainsAny(m.Subject, " \t\r\n*>") || strings.Contains(m.Subject, "..") {
		r.t.Errorf("JetStream would refuse this: %d bytes of headers, subject %q", size, m.Subject)
	}
	r.taken = append(r.taken, m)
	return false, nil
}

// Whatever comes is answered with a status of the contract, and with a 2xx only
// if the svix library finds it authentic; then just that was published, to the
// log under a subject that reads as the body does, or to the dead letters.
func FuzzWebhook(f *testing.F) {
	const limit = 512
	letters := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "letters"}, []string{"sink"})
	published := &recorder{}
	handler, err := ingest.New(ingest.Options{
		Instances: []ingest.Instance{{ID: "ins_1", Secrets: []string{secretA}}},
		MaxBody:   limit, MaxMemory: mebi, Codes: ingest.CodesRedact, MessageTTL: time.Hour, SessionTTL: time.Hour,
		Publisher: published, Log: zap.NewNop(), Metrics: ingest.NewMetrics(prometheus.NewRegistry(), letters),
	})
	must(f, err)
	verifier, err := svix.NewWebhook(secretA)
	must(f, err)
	// Short ones: the fuzzer's minimizing takes the square of their length.
	f.Add(true, []byte(`{"type":"user.created","data":{"id":"a"},"timestamp":1716883200}`), "msg_1", "", "", "00-1-2-01")
	f.Add(true, []byte(`{"type":"email.created","data":{"body":"7","subject":"1234"}}`), "msg_1", "", "", "")
	f.Add(true, []byte(event("a.b * > %", "")), "ü", "", "", "")
	f.Add(true, []byte(event("x", `,"a":[[[`)), "m", "", "", "x")
	f.Add(true, []byte(`{"type":"sms.created","data":{"message":"1","data":{"otp_code":"1"}}}`), "msg", "", "", "")
	f.Add(false, []byte(`{}`), "msg_1", "1716883200", "v1,AAAA v1,", "")
	f.Add(false, []byte(`{}`), "", "-1", ",", "")

	f.Fuzz(func(t *testing.T, sign bool, body []byte, id, timestamp, signature, trace string) {
		published.t, published.taken = t, nil
		h := http.Header{"Svix-Id": {id}, "Svix-Timestamp": {timestamp}, "Svix-Signature": {signature}, "Traceparent": {trace}}
		size := 0
		for _, v := range h {
			v[0] = strings.Trim(v[0], " \t") // as net/http does
			if size += len(v[0]); strings.ContainsFunc(v[0], func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }) || size > 20<<10 {
				t.Skip("net/http lets none of this through")
			}
		}
		if sign {
			for k, v := range signedAt(t, secretA, "svix", h.Get("Svix-Id"), time.Now(), string(body)) {
				h[k] = v
			}
		}
		authentic := verifier.Verify(body, h) == nil
		req := httptest.NewRequest(http.MethodPost, ingest.Path, bytes.NewReader(body))
		req.Header = h.Clone()
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, req)
		got, err := readReply(w.Result())
		must(t, err)
		if !slices.Contains([]int{204, 202, 400, 401, 413}, got.status) {
			t.Fatalf("status %d %s %s", got.status, got.code, got.message)
		}
		if accepted := got.status < 300; accepted != (authentic && len(body) <= limit) || accepted != (len(published.taken) == 1) {
			t.Fatalf("authentic %v, answered %d %s, published %d", authentic, got.status, got.message, len(published.taken))
		}
		if got.status >= 300 {
			return
		}
		m := published.taken[0]
		if s, err := (streams.Names{}).ParseSubject(m.Subject); (err == nil) != (got.status == 204) || err == nil && s.InstanceID != "ins_1" {
			t.Errorf("%d under %s", got.status, m.Subject)
		}
		if m.Header.Get(streams.HeaderSvixID) != h.Get("Svix-Id") {
			t.Errorf("Svix-Id %q, sent %q", m.Header.Get(streams.HeaderSvixID), h.Get("Svix-Id"))
		}
		if m.Header.Get(streams.HeaderRedacted) == "" && !bytes.Equal(m.Data, body) {
			t.Errorf("published %q, sent %q", m.Data, body)
		}
	})
}
