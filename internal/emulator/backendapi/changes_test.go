package backendapi_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/rollcall-dev/rollcall/internal/emulator/state"
)

// change does a request that must succeed and decodes its answer.
func change[T any](f *fixture, request, body string) (v T) {
	f.Helper()
	method, path, _ := strings.Cut(request, " ")
	a := f.do(method, path, body)
	if a.StatusCode != http.StatusOK {
		f.Fatalf("%s: %d %s", request, a.StatusCode, a.body)
	}
	if err := json.Unmarshal(a.body, &v); err != nil {
		f.Fatalf("%s: %v in %s", request, err, a.body)
	}
	return v
}

// record answers the types of the events since it was last asked.
func record(f *fixture) func() string {
	var types []string
	f.in.OnEvent(func(e state.Event) { types = append(types, e.Type) })
	return func() string {
		defer func() { types = nil }()
		return strings.Join(types, " ")
	}
}

func TestSigningOut(t *testing.T) {
	t.Parallel()
	f := start(t)
	ann := must(f.in.CreateUser(state.Request{}, state.UserParams{Username: "ann_1", Password: true}))
	signIn := func() *state.Session {
		return must(f.in.CreateSession(state.Request{}, state.SessionParams{UserID: ann.ID}))
	}
	events := record(f)
	for request, body := range map[string]string{
		"PATCH /users/" + ann.ID:                     `{"password":"correct horse","sign_out_of_other_sessions":true}`,
		"POST /users/" + ann.ID + "/remove_password": `{"sign_out_of_other_sessions":true}`,
	} {
		must(f.in.UpdateUser(state.Request{}, ann.ID, state.UserUpdate{PasswordEnabled: &[]bool{true}[0]}))
		s := signIn()
		events()
		change[object](f, request, body)
		if got := events(); got != "user.updated session.revoked" || f.in.Session(s.ID).Live() {
			t.Errorf("%s: %s", request, got)
		}
	}
	must(f.in.UpdateUser(state.Request{}, ann.ID, state.UserUpdate{PasswordEnabled: new(bool)}))
	s := signIn()
	events()
	change[object](f, "POST /users/"+ann.ID+"/remove_password", `{"sign_out_of_other_sessions":true}`)
	if got := events(); got != "" || !f.in.Session(s.ID).Live() {
		t.Errorf("who has no password stays as they are: %s", got)
	}
}

func TestTokens(t *testing.T) {
	t.Parallel()
	f := start(t)
	ann := must(f.in.CreateUser(state.Request{}, state.UserParams{Username: "ann_1"}))
	s := must(f.in.CreateSession(state.Request{}, state.SessionParams{UserID: ann.ID}))
	type token struct {
		Object, JWT string
		Cookies     []string
	}
	session := "POST /sessions/" + s.ID
	if got := change[token](f, session+"/tokens", `{"expires_in_seconds":90}`); got.JWT != "jwt."+s.ID+".1m30s" || got.Object != "token" {
		t.Errorf("%+v", got)
	}
	if got := change[token](f, session+"/tokens/hasura", "null"); got.JWT != "jwt."+s.ID+".hasura0s" {
		t.Errorf("%+v", got)
	}
	refresh := `{"expired_token":"a","refresh_token":"b","request_origin":"https://example.com","format":"cookie"}`
	if got := change[token](f, session+"/refresh", refresh); len(got.Cookies) != 1 || !strings.HasPrefix(got.Cookies[0], "__session=jwt."+s.ID) {
		t.Errorf("%+v", got)
	}
	path := "/sessions/" + s.ID
	refused(t, "a life too short", f.do("POST", path+"/tokens", `{"expires_in_seconds":29}`), 422, "form_param_format_invalid@expires_in_seconds")
	refused(t, "no such template", f.do("POST", path+"/tokens/nope", ""), 404, "resource_not_found")
	change[object](f, session+"/revoke", "")
	refused(t, "after the end", f.do("POST", path+"/tokens", ""), 404, "resource_not_found")
	refused(t, "after the end", f.do("POST", path+"/refresh", refresh), 401, "session_refresh_inactive_session")
}

// What is one organization's isn't found in another.
func TestOrganizationsAreApart(t *testing.T) {
	t.Parallel()
	f := start(t)
	one := must(f.in.CreateOrganization(state.Request{}, state.OrganizationParams{Name: "One"}))
	two := must(f.in.CreateOrganization(state.Request{}, state.OrganizationParams{Name: "Two"}))
	invitation := change[object](f, "POST /organizations/"+one.ID+"/invitations", `{"email_address":"a@example.com","role":"org:member"}`).ID
	domain := change[object](f, "POST /organizations/"+one.ID+"/domains", `{"name":"one.example","enrollment_mode":"manual_invitation"}`).ID
	for _, request := range []string{"GET /invitations/" + invitation, "POST /invitations/" + invitation + "/revoke", "DELETE /domains/" + domain} {
		method, path, _ := strings.Cut(request, " ")
		refused(t, request, f.do(method, "/organizations/"+two.ID+path, ""), 404, "resource_not_found")
	}
	for _, path := range []string{"/invitations", "/domains"} {
		if found, _ := ids(f, "/organizations/"+two.ID+path); len(found) != 0 {
			t.Errorf("%s: %q", path, found)
		}
	}
}

func TestReplacingIdentifiers(t *testing.T) {
	t.Parallel()
	f := start(t)
	ann := must(f.in.CreateUser(state.Request{}, state.UserParams{
		EmailAddresses: []string{"a@example.com", "b@example.com"}, PhoneNumbers: []string{"+15555550101"},
	}))
	change[object](f, "PUT /users/"+ann.ID+"/email_address", `{"email_address":"c@example.com","identification_status":"unverified"}`)
	change[object](f, "PUT /users/"+ann.ID+"/phone_number", `{"phone_number":"+15555550102"}`)
	ann = f.in.User(ann.ID)
	if len(ann.EmailAddresses) != 1 || ann.Email().EmailAddress != "c@example.com" || ann.Email().Verification.Status != "unverified" {
		t.Errorf("%+v", ann.EmailAddresses)
	}
	if len(ann.PhoneNumbers) != 1 || ann.Phone().PhoneNumber != "+15555550102" || ann.Phone().Verification.Status != "verified" {
		t.Errorf("%+v", ann.PhoneNumbers)
	}
	// Free again for another user, and not before.
	change[object](f, "POST /users", `{"email_address":["a@example.com"],"phone_number":["+15555550101"]}`)
}

// Numbers beyond 2^53 come back as they went in, and null takes a key out.
func TestMetadata(t *testing.T) {
	t.Parallel()
	f := start(t)
	type metadata struct {
		Public json.RawMessage `json:"public_metadata"`
	}
	ann := change[object](f, "POST /users", `{"username":"ann_1","public_metadata":{"n":12345678901234567890,"deep":{"a":1,"b":2}}}`).ID
	for _, s := range [][3]string{
		{"PATCH", `{"deep":{"a":null,"c":{"d":3}}}`, `{"deep":{"b":2,"c":{"d":3}},"n":12345678901234567890}`},
		{"PUT", `{"deep":{"n":98765432109876543210}}`, `{"deep":{"n":98765432109876543210}}`},
		{"PATCH", `{"deep":null}`, `{}`},
	} {
		got := change[metadata](f, s[0]+" /users/"+ann+"/metadata", `{"public_metadata":`+s[1]+`}`)
		if string(got.Public) != s[2] {
			t.Errorf("%s %s: %s, want %s", s[0], s[1], got.Public, s[2])
		}
	}
}

func TestBulkChanges(t *testing.T) {
	t.Parallel()
	f := start(t)
	var all []string
	for _, name := range []string{"ann_1", "bob_1", "cid_1"} {
		all = append(all, must(f.in.CreateUser(state.Request{}, state.UserParams{Username: name})).ID)
	}
	body, _ := json.Marshal(map[string][]string{"user_ids": all[:2]})
	var banned []string
	for _, u := range change[[]object](f, "POST /users/ban", string(body)) {
		banned = append(banned, u.ID)
	}
	if !slices.Equal(banned, all[:2]) || !f.in.User(all[0]).Banned || f.in.User(all[2]).Banned {
		t.Errorf("banned %q of %q", banned, all)
	}
	change[[]object](f, "POST /users/unban", string(body))
	if f.in.User(all[1]).Banned {
		t.Error("still banned")
	}
}
