package erased

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestCut(t *testing.T) {
	t.Parallel()
	ids := NewIDs("user_1", "orginv_9", "a.b")
	for name, c := range map[string]struct{ body, want string }{
		"nobody's": {`{"type":"user.updated","data":{"id":"user_12","first_name":"Ada"}}`, ""},
		"the person": {
			`{"data":{"id":"user_1","object":"user","first_name":"Ada","external_id":"ada-1","email_addresses":[{"id":"idn_1","email_address":"ada@x.org"}],"created_at":1,"updated_at":2},"type":"user.updated","object":"event","timestamp":3,"instance_id":"ins_1","event_attributes":{"http_request":{"client_ip":"192.0.2.1"}}}`,
			`{"data":{"id":"user_1","object":"user","created_at":1,"updated_at":2},"type":"user.updated","object":"event","timestamp":3,"instance_id":"ins_1"}`,
		},
		"a membership": {
			`{"type":"organizationMembership.created","data":{"id":"m_1","role":"org:admin","organization":{"id":"org_1","name":"Acme"},"public_user_data":{"user_id":"user_1","identifier":"ada@x.org"}}}`,
			`{"type":"organizationMembership.created","data":{"id":"m_1","organization":{"id":"org_1"},"public_user_data":{"user_id":"user_1"}}}`,
		},
		"what was theirs":      {`{"type":"organizationInvitation.created","data":{"id":"orginv_9","email_address":"ada@x.org"}}`, `{"type":"organizationInvitation.created","data":{"id":"orginv_9"}}`},
		"a strange id":         {`{"type":"user.created","data":{"id":"a.b","username":"ada"}}`, `{"type":"user.created","data":{"id":"a.b"}}`},
		"an id in escapes":     {`{"type":"user.created","data":{"id":"\u0075ser_1","username":"ada"}}`, `{"type":"user.created","data":{"id":"\u0075ser_1"}}`},
		"made by the person":   {`{"type":"organization.created","data":{"id":"org_1","name":"Acme","created_by":"user_1"}}`, ""},
		"another's invitation": {`{"type":"organizationInvitation.created","data":{"id":"orginv_2","email_address":"bob@x.org","public_inviter_data":{"user_id":"user_1","first_name":"Ada"}} }`, `{"type":"organizationInvitation.created","data":{"id":"orginv_2","email_address":"bob@x.org","public_inviter_data":{"user_id":"user_1"}} }`},
		"impersonated":         {`{"type":"session.created","data":{"id":"s","user_id":"user_2","actor":{"sub":"user_1","name":"Ada"}}}`, `{"type":"session.created","data":{"id":"s","user_id":"user_2","actor":{"sub":"user_1"}}}`},
		"billing":              {`{"type":"subscription.created","data":{"id":"sub_1","payer":{"user_id":"user_1","email":"ada@x.org"},"items":[{"id":"si_1"}]}}`, `{"type":"subscription.created","data":{"id":"sub_1","payer":{"user_id":"user_1"}}}`},
	} {
		if c.want == "" {
			c.want = c.body
		}
		got, paths := ids.Cut([]byte(c.body))
		if string(got) != c.want || (paths == nil) != (c.want == c.body) || !json.Valid(got) {
			t.Errorf("%s: took %v\ngot  %s\nwant %s", name, paths, got, c.want)
		}
	}
	if got, paths := ids.Cut([]byte(`{"broken": "user_1`)); len(got) > 0 || paths == nil {
		t.Errorf("a body that is no JSON stays: %s", got)
	}
	if got, paths := NewIDs().Cut([]byte(`{"broken`)); string(got) != `{"broken` || paths != nil {
		t.Errorf("without anybody erased a body becomes %s", got)
	}
}

func TestWithoutTexts(t *testing.T) {
	t.Parallel()
	e, ok := Read([]byte(`{"type":"organizationDomain.updated","data":{"id":"d","name":"x.org","affiliation_email_address":"Ada@x.org","seen":["bob@x.org","ada@x.org"]}}`))
	if !ok {
		t.Fatal("not read")
	}
	got, paths := e.Without(NewIDs("user_1"), func(text string) bool { return strings.EqualFold(text, "ada@x.org") })
	want := `{"type":"organizationDomain.updated","data":{"id":"d","name":"x.org","affiliation_email_address":null,"seen":["bob@x.org",null]}}`
	if string(got) != want || len(paths) != 2 {
		t.Errorf("took %v\ngot  %s\nwant %s", paths, got, want)
	}
}

func BenchmarkCutNobody(b *testing.B) {
	body := []byte(`{"type":"user.updated","data":{"id":"user_12","x":"` + strings.Repeat("some text here ", 100) + `"}}`)
	ids := NewIDs("user_1")
	for b.Loop() {
		ids.Cut(body)
	}
}
