package clerk

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	svix "github.com/svix/svix-webhooks/go"
)

const (
	secretA = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	secretB = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
)

func signed(t *testing.T, secret, family, id string, at time.Time, body string) http.Header {
	t.Helper()
	w, err := svix.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	sig, err := w.Sign(id, at, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	h := http.Header{}
	h.Set(family+"-id", id)
	h.Set(family+"-timestamp", strconv.FormatInt(at.Unix(), 10))
	h.Set(family+"-signature", sig)
	return h
}

func TestVerify(t *testing.T) {
	t.Parallel()
	v, err := NewVerifier([]string{secretA, secretB})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	set := func(h http.Header, key, value string) http.Header { h.Set(key, value); return h }
	const body = `{"type":"user.created"}`
	for name, c := range map[string]struct {
		header http.Header
		body   string
		want   error
	}{
		"first secret":        {signed(t, secretA, "svix", "msg_1", now, body), body, nil},
		"second secret":       {signed(t, secretB, "svix", "msg_1", now, body), body, nil},
		"webhook headers":     {signed(t, secretA, "webhook", "msg_1", now, body), body, nil},
		"two signatures":      {set(signed(t, secretA, "svix", "msg_1", now, body), "svix-signature", "v1,AAAA v2,x "+signed(t, secretA, "svix", "msg_1", now, body).Get("svix-signature")), body, nil},
		"one byte changed":    {signed(t, secretA, "svix", "msg_1", now, body), body + " ", ErrSignature},
		"id changed":          {set(signed(t, secretA, "svix", "msg_1", now, body), "svix-id", "msg_2"), body, ErrSignature},
		"other secret":        {signed(t, "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "svix", "msg_1", now, body), body, ErrSignature},
		"only another scheme": {set(signed(t, secretA, "svix", "msg_1", now, body), "svix-signature", "v2,AAAA"), body, ErrSignature},
		"too old":             {signed(t, secretA, "svix", "msg_1", now.Add(-301*time.Second), body), body, ErrTooOld},
		"from the future":     {signed(t, secretA, "svix", "msg_1", now.Add(302*time.Second), body), body, ErrTooOld},
		"no headers":          {http.Header{}, body, ErrHeadersMissing},
		"no id":               {set(signed(t, secretA, "svix", "msg_1", now, body), "svix-id", ""), body, ErrHeadersMissing},
		"time is not seconds": {set(signed(t, secretA, "svix", "msg_1", now, body), "svix-timestamp", now.Format(time.RFC3339)), body, ErrHeadersMalformed},
		"signature malformed": {set(signed(t, secretA, "svix", "msg_1", now, body), "svix-signature", "v1"), body, ErrHeadersMalformed},
	} {
		d, err := v.Verify(c.header, []byte(c.body))
		if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if err == nil && d.ID != "msg_1" {
			t.Errorf("%s: id %q", name, d.ID)
		}
	}
}

func TestNewVerifierRefusesBadSecrets(t *testing.T) {
	t.Parallel()
	for _, secrets := range [][]string{nil, {""}, {"whsec_"}, {secretA, "whsec_not base64"}} {
		if _, err := NewVerifier(secrets); err == nil {
			t.Errorf("NewVerifier(%q) accepted", secrets)
		} else if strings.Contains(err.Error(), "not base64") && strings.Contains(err.Error(), "whsec_not") {
			t.Errorf("the error quotes the secret: %v", err)
		}
	}
}

func TestParseHead(t *testing.T) {
	t.Parallel()
	h, err := ParseHead([]byte(`{"data":{"id":"x","x":{"id":"no"},"id":"user_1"},"object":"event","instance_id":"ins_1","timestamp":1716883200,"type":"user.updated"}`))
	if err != nil || h.Type() != "user.updated" || h.EntityID != "user_1" || h.InstanceID != "ins_1" || h.Timestamp.UnixMilli() != 1716883200000 {
		t.Errorf("%+v, %v", h, err)
	}
	if h, err := ParseHead([]byte(`{"type":"user.updated"}`)); err != nil || h.EntityID != "" || h.InstanceID != "" || !h.Timestamp.IsZero() {
		t.Errorf("bare: %+v, %v", h, err)
	}
	event := func(id string) string {
		b, _ := json.Marshal(map[string]any{"type": "user.updated", "data": map[string]string{"id": id}})
		return string(b)
	}
	for _, id := range []string{"a.b", "a b", "*", ">", "%", "ü", "\u0000"} {
		if h, err := ParseHead([]byte(event(id))); err != nil || h.EntityID != id {
			t.Errorf("id %q: %q, %v", id, h.EntityID, err)
		}
	}
	for name, body := range map[string]string{
		"not JSON":              `{"type":`,
		"not an object":         `[]`,
		"no type":               `{"data":{}}`,
		"type is no string":     `{"type":5}`,
		"type without action":   `{"type":"user"}`,
		"type of three":         `{"type":"user.created.twice"}`,
		"id of 2,000 letters":   event(strings.Repeat("a", 2000)),
		"id of 2,000 spaces":    event(strings.Repeat(" ", 2000)),
		"100,000 levels":        `{"type":"user.created","data":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + `}`,
		"instance id over-long": `{"type":"user.created","instance_id":"` + strings.Repeat("i", 300) + `"}`,
	} {
		var unusable *Unusable
		if _, err := ParseHead([]byte(body)); !errors.As(err, &unusable) {
			t.Errorf("%s: %v, want Unusable", name, err)
		}
	}
}

func example(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("../../cmd/rollcall/examples/" + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRedactExamples(t *testing.T) {
	t.Parallel()
	for name, want := range map[string][]string{
		"email.created": {"data.body", "data.body_plain", "data.data.otp_code", "data.subject"},
		"sms.created":   {"data.message"},
	} {
		body := example(t, name)
		before := string(body)
		out, paths := Redact(body)
		if string(body) != before {
			t.Errorf("%s: the input was changed", name)
		}
		if strings.Contains(string(out), "123456 is") || strings.Contains(string(out), `"123456"`) || !json.Valid(out) {
			t.Errorf("%s: code left or broken:\n%s", name, out)
		}
		for _, p := range want {
			if !slices.Contains(paths, p) {
				t.Errorf("%s: %v lacks %s", name, paths, p)
			}
		}
		var a, b map[string]any
		if json.Unmarshal(body, &a) != nil || json.Unmarshal(out, &b) != nil {
			t.Fatal("broken")
		}
		for k, v := range a["data"].(map[string]any) {
			got, kept := b["data"].(map[string]any)[k]
			if redacted := slices.Contains(paths, "data."+k); !kept || redacted && got != nil || !redacted && k != "data" && fmt.Sprint(got) != fmt.Sprint(v) {
				t.Errorf("%s: data.%s became %v", name, k, got)
			}
		}
	}
}

func TestRedactEscapedAndDoubled(t *testing.T) {
	t.Parallel()
	out, _ := Redact([]byte(`{"data":{"\u0062ody":"987654","body":"987654","subject":"hi","note":"use \u0039\u003876\u00354","data":{"x":{"magic_link":"https://a/987"},"list":["987654"],"otp_code":"987654"}},"type":"email.created"}`))
	want := `{"data":{"\u0062ody":null,"body":null,"subject":"hi","note":null,"data":{"x":{"magic_link":null},"list":null,"otp_code":null}},"type":"email.created"}`
	if string(out) != want {
		t.Errorf("got  %s\nwant %s", out, want)
	}
}

func BenchmarkVerifyAndHead(b *testing.B) {
	body := []byte(`{"data":{"id":"user_1","x":"` + strings.Repeat("y", 1300) + `"},"type":"user.updated","instance_id":"ins_1","timestamp":1716883200000}`)
	v, _ := NewVerifier([]string{secretA})
	w, _ := svix.NewWebhook(secretA)
	now := time.Now()
	sig, _ := w.Sign("msg_1", now, body)
	h := http.Header{"Svix-Id": {"msg_1"}, "Svix-Timestamp": {strconv.FormatInt(now.Unix(), 10)}, "Svix-Signature": {sig}}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(h, body); err != nil {
			b.Fatal(err)
		}
		if _, err := ParseHead(body); err != nil {
			b.Fatal(err)
		}
	}
}
