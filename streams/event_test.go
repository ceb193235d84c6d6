package streams_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/rollcall-dev/rollcall/streams"
)

func TestParseEvent(t *testing.T) {
	t.Parallel()
	body := `{"data":{"id":"user_1"},"object":"event","type":"user.created","timestamp":1700000000123,"instance_id":"ins_1",
		"event_attributes":{"http_request":{"client_ip":"192.0.2.1","user_agent":"curl"}},"new":[1]}`
	header := nats.Header{}
	header.Set(streams.HeaderMsgID, "msg_1")
	header.Set(streams.HeaderSvixID, "msg_1")
	header.Set(streams.HeaderSource, string(streams.SourceWebhook))
	header.Set(streams.HeaderReceivedAt, "1700000000456")
	header.Set(streams.HeaderRedacted, "data.body,data.data.otp_code")
	header.Set(streams.HeaderTraceparent, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	got, err := streams.ParseEvent(header, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	want := streams.Event{
		ID: "msg_1", Type: "user.created", InstanceID: "ins_1",
		Timestamp:   time.UnixMilli(1700000000123).UTC(),
		HTTPRequest: streams.HTTPRequest{ClientIP: "192.0.2.1", UserAgent: "curl"},
		Data:        json.RawMessage(`{"id":"user_1"}`), Raw: json.RawMessage(body),
		Source:      streams.SourceWebhook,
		ReceivedAt:  time.UnixMilli(1700000000456).UTC(),
		Redacted:    []string{"data.body", "data.data.otp_code"},
		Traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	// An event of Rollcall's own has no svix-id.
	own, err := streams.ParseEvent(nats.Header{streams.HeaderMsgID: {"snap:1:users:user_1"}}, []byte(`{}`))
	if err != nil || own.ID != "snap:1:users:user_1" {
		t.Errorf("%+v, %v", own, err)
	}
}

// One odd field costs that field, not the event.
func TestParseEventTolerates(t *testing.T) {
	t.Parallel()
	for _, field := range []string{
		`"timestamp":"soon"`, `"timestamp":null`, `"timestamp":{}`, `"timestamp":1e400`, `"timestamp":1e18`,
		`"instance_id":5`, `"instance_id":null`, `"event_attributes":null`, `"event_attributes":"x"`, `"object":1`,
		`"event_attributes":{"http_request":[]}`, `"event_attributes":{"http_request":{"client_ip":1,"user_agent":null}}`,
	} {
		e, err := streams.ParseEvent(nats.Header{streams.HeaderReceivedAt: {"soon"}}, []byte(`{`+field+`,"type":"user.updated","data":{"id":"user_1"}}`))
		if err != nil {
			t.Errorf("%s: %v", field, err)
			continue
		}
		if e.Type != "user.updated" || !e.Timestamp.IsZero() || !e.ReceivedAt.IsZero() || e.InstanceID != "" || e.HTTPRequest != (streams.HTTPRequest{}) {
			t.Errorf("%s: %+v", field, e)
		}
		if u := payload[*streams.User](t, e); u.ID != "user_1" {
			t.Errorf("%s: %+v", field, u)
		}
	}
	for _, body := range []string{"", "null", "[]", `"x"`, "1", "{", `{"type":"a.b"}}`} {
		if _, err := streams.ParseEvent(nil, []byte(body)); err == nil {
			t.Errorf("body %q: no error", body)
		}
	}
}

func TestParseTimestamp(t *testing.T) {
	t.Parallel()
	for number, want := range map[string]time.Time{
		"1716883200":      time.Date(2024, 5, 28, 8, 0, 0, 0, time.UTC),
		"1716883200.9":    time.Date(2024, 5, 28, 8, 0, 0, 0, time.UTC),
		"1716883200123":   time.Date(2024, 5, 28, 8, 0, 0, 123e6, time.UTC),
		"1.7168832e12":    time.Date(2024, 5, 28, 8, 0, 0, 0, time.UTC),
		"99999999999":     time.Date(5138, 11, 16, 9, 46, 39, 0, time.UTC),
		"100000000000":    time.Date(1973, 3, 3, 9, 46, 40, 0, time.UTC),
		"0":               time.Unix(0, 0).UTC(),
		"-1":              time.Unix(-1, 0).UTC(),
		"253402300800000": {}, "9223372036854775807": {}, "1e19": {}, "NaN": {}, "Inf": {}, "": {}, "null": {}, `"1716883200"`: {}, "x": {},
	} {
		if got := streams.ParseTimestamp(number); got != want {
			t.Errorf("ParseTimestamp(%s) = %v, want %v", number, got, want)
		}
	}
}

func FuzzParseEvent(f *testing.F) {
	for _, seed := range []string{
		`{"type":"user.updated","timestamp":1716883200,"data":{"id":"user_1","email_addresses":[{"verification":{}}]}}`,
		`{"type":"user.deleted","data":{"id":5,"deleted":"yes"}}`,
		`{"type":"organizationMembership.deleted","data":{"organization":{"id":"org_1"},"public_user_data":null}}`,
		`{"type":"subscription.active","data":{"items":[{"plan":{"unit_prices":[{"tiers":[1]}]}}]}}`,
		`{"type":"robot.made","data":[1]}`, `{"type":7,"data":"x"}`, `[]`, `null`, `{`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		e, err := streams.ParseEvent(nil, body)
		var object map[string]json.RawMessage
		if isObject := json.Unmarshal(body, &object) == nil && object != nil; isObject != (err == nil) {
			t.Fatalf("object: %v, error: %v", isObject, err)
		}
		if err != nil {
			return
		}
		if _, err := e.Timestamp.MarshalJSON(); err != nil {
			t.Fatal(err)
		}
		p, err := e.Payload()
		if (p == nil) != (err != nil) {
			t.Fatalf("payload %v with error %v", p, err)
		}
		if err != nil {
			return
		}
		if _, err := json.Marshal(p); err != nil {
			t.Fatalf("encode what was decoded: %v", err)
		}
	})
}
