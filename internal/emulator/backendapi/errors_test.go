package backendapi_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/internal/emulator/backendapi"
	"github.com/rollcall-dev/rollcall/internal/emulator/state"
)

// A clerkError is Clerk's form of errors, read strictly.
type clerkError struct {
	Errors []struct {
		Message     string `json:"message"`
		LongMessage string `json:"long_message"`
		Code        string `json:"code"`
		Meta        struct {
			ParamName string `json:"param_name"`
		} `json:"meta"`
	} `json:"errors"`
	TraceID string `json:"clerk_trace_id"`
}

// refused checks that an answer is an error of this status with these codes, in
// order, each followed by @ and its parameter if it has one.
func refused(t *testing.T, what string, a answer, status int, codes string) {
	t.Helper()
	var e clerkError
	if err := json.Unmarshal(a.body, &e); err != nil {
		t.Fatalf("%s: %d %s isn't an error of Clerk's: %v", what, a.StatusCode, a.body, err)
	}
	var got []string
	for _, item := range e.Errors {
		if item.Message == "" || item.LongMessage == "" {
			t.Errorf("%s: an error without a text: %s", what, a.body)
		}
		code := item.Code
		if item.Meta.ParamName != "" {
			code += "@" + item.Meta.ParamName
		}
		got = append(got, code)
	}
	if a.StatusCode != status || strings.Join(got, " ") != codes || e.TraceID == "" {
		t.Errorf("%s: %d %s, want %d %s", what, a.StatusCode, a.body, status, codes)
	}
	if a.Header.Get("Content-Type") != "application/json" {
		t.Errorf("%s: Content-Type %q", what, a.Header.Get("Content-Type"))
	}
}

func TestBadRequests(t *testing.T) {
	t.Parallel()
	f := start(t, func(o *backendapi.Options) { o.MaxBody = 100_000 })
	ann := must(f.in.CreateUser(state.Request{}, state.UserParams{EmailAddresses: []string{"ann@example.com"}, Username: "ann_1"}))
	org := must(f.in.CreateOrganization(state.Request{}, state.OrganizationParams{Name: "Acme", Slug: "acme", CreatedBy: ann.ID}))
	inv := must(f.in.CreateInvitation(state.Request{}, state.InvitationParams{EmailAddress: "i@example.com"}))
	must(f.in.RevokeInvitation(state.Request{}, inv.ID))
	ids := strings.NewReplacer("$ann", ann.ID, "$org", org.ID, "$inv", inv.ID)
	deep := strings.Repeat("x", 8193)

	for _, c := range []struct {
		request, body string
		status        int
		codes         string
	}{
		{"GET /nothing", "", 404, "resource_not_found"},
		{"GET /users/", "", 404, "resource_not_found"},
		{"DELETE /users", "", 405, "method_not_allowed"},
		{"GET /users/user_gone", "", 404, "resource_not_found"},
		{"PATCH /users/user_gone", `{}`, 404, "resource_not_found"},
		{"DELETE /users/user_gone", "", 404, "resource_not_found"},
		{"POST /users/user_gone/ban", "", 404, "resource_not_found"},
		{"GET /organizations/org_gone", "", 404, "resource_not_found"},
		{"GET /organizations/org_gone/memberships", "", 404, "resource_not_found"},
		{"GET /email_addresses/idn_gone", "", 404, "resource_not_found"},
		{"GET /sessions/sess_gone", "", 404, "resource_not_found"},
		{"POST /sessions/sess_gone/revoke", "", 404, "resource_not_found"},
		{"POST /sessions/sess_gone/refresh", `{"expired_token":"a","refresh_token":"b","request_origin":"c"}`, 401, "session_refresh_session_not_found"},
		{"GET /role_sets/role_set:gone", "", 404, "resource_not_found"},
		{"GET /sessions", "", 400, "missing_query_parameter"},

		{"POST /users", `{`, 400, "request_body_invalid"},
		{"POST /users", `[]`, 400, "request_body_invalid"},
		{"POST /users", `{"first_name":"` + strings.Repeat("x", 100_000) + `"}`, 413, "request_body_too_large"},
		{"POST /users", `{}`, 422, "form_data_missing"},
		{"POST /users", `{"email_address":"ann@example.com"}`, 422, "form_param_type_invalid@email_address form_data_missing"},
		{"POST /users", `{"email_address":["nobody"]}`, 422, "form_param_format_invalid@email_address"},
		{"POST /users", `{"email_address":["ANN@example.com"]}`, 422, "form_identifier_exists@email_address"},
		{"POST /users", `{"username":"ANN_1"}`, 422, "form_identifier_exists@username"},
		{"POST /users", `{"username":"bob_1","phone_number":["123"]}`, 422, "form_param_format_invalid@phone_number"},
		{"POST /users", `{"username":"bob_1","shoe_size":44,"created_at":"yesterday"}`, 422, "form_param_invalid_time@created_at form_param_unknown@shoe_size"},
		{"POST /users", `{"username":"bob_1","password":"short","password_digest":"x"}`, 422, "form_password_length_too_short@password form_conditional_param_missing@password_hasher"},
		{"POST /users", `{"username":"bob_1","public_metadata":[]}`, 422, "form_param_value_invalid@public_metadata"},
		{"POST /users", `{"username":"bob_1","public_metadata":{"x":"` + deep + `"}}`, 422, "form_param_exceeds_allowed_size@public_metadata"},
		{"PATCH /users/$ann", `{"public_metadata":{}}`, 422, "form_param_unknown@public_metadata"},
		{"PATCH /users/$ann/metadata", `{"unsafe_metadata":{"x":"` + deep + `"}}`, 422, "form_param_exceeds_allowed_size@unsafe_metadata"},
		{"PATCH /organizations/$org/metadata", `{"unsafe_metadata":{}}`, 422, "form_param_unknown@unsafe_metadata"},
		{"POST /users/ban", `{}`, 422, "form_param_missing@user_ids"},
		{"POST /users/ban", `{"user_ids":["$ann","user_gone"]}`, 404, "resource_not_found"},

		{"GET /users?limit=ten&created_at_after=noon&banned=maybe", "", 422, "form_param_invalid_date@created_at_after form_param_type_invalid@banned form_param_format_invalid@limit"},
		{"GET /users?offset=-1", "", 422, "form_param_value_invalid@offset"},
		{"GET /users?order_by=shoe_size", "", 422, "form_param_value_invalid@order_by"},
		{"GET /users?provider=oauth_google", "", 422, "form_conditional_param_missing@provider_user_id"},
		{"GET /users?user_id=" + strings.Repeat("a&user_id=", 101), "", 422, "form_param_array_size_exceeded@user_id"},
		{"GET /users?starting_after=user_gone", "", 422, "form_resource_not_found@starting_after"},
		{"GET /users?starting_after=$ann&offset=1", "", 422, "form_conditional_param_disallowed@offset"},
		{"GET /users?starting_after=$ann&order_by=-updated_at", "", 422, "form_param_value_invalid@order_by"},
		{"GET /invitations?status=lost", "", 422, "form_param_value_invalid@status"},
		{"GET /organization_domains?query=%20", "", 422, "form_param_value_invalid@query"},

		{"POST /organizations", `{"name":null}`, 422, "form_param_nil@name"},
		{"POST /organizations", `{"name":"A","role_set_key":"role_set:other"}`, 422, "form_resource_not_found@role_set_key"},
		{"POST /organizations/$org/memberships", `{"role":"org:member"}`, 422, "form_param_missing@user_id"},
		{"PATCH /organizations/$org/memberships/user_gone", `{"role":"org:member"}`, 404, "resource_not_found"},
		{"POST /invitations", `{"email_address":"ann@example.com","expires_in_days":400}`, 422, "form_param_format_invalid@expires_in_days"},
		{"POST /invitations", `{"email_address":"x@example.com","redirect_url":"nowhere"}`, 422, "form_param_format_invalid@redirect_url"},
		{"POST /invitations/$inv/revoke", "", 400, "invitation_already_revoked"},
		{"POST /invitations/bulk", `[` + strings.Repeat(`{},`, 10) + `{}]`, 400, "bulk_size_exceeded"},
		{"POST /invitations/bulk", `[]`, 400, "request_body_invalid"},
		{"POST /waitlist_entries/bulk", `[{"email_address":"w@example.com"},{"email_address":"W@example.com"}]`, 422, "form_param_duplicate@email_address"},
	} {
		method, path, _ := strings.Cut(c.request, " ")
		a := f.do(method, ids.Replace(path), ids.Replace(c.body))
		refused(t, c.request+" "+c.body[:min(len(c.body), 80)], a, c.status, c.codes)
		if a.StatusCode == http.StatusMethodNotAllowed && a.Header.Get("Allow") != "GET, POST" {
			t.Errorf("%s: Allow %q", c.request, a.Header.Get("Allow"))
		}
	}
	if u := f.in.User(ann.ID); u.Banned || len(f.in.Users()) != 1 {
		t.Error("a refused request changed something")
	}
}

func TestAuthentication(t *testing.T) {
	t.Parallel()
	f := start(t)
	for header, codes := range map[string]string{
		"Authorization: ":                              "authorization_header_format_invalid",
		"Authorization: " + f.in.SecretKey:             "authorization_header_format_invalid",
		"Authorization: Basic " + f.in.SecretKey:       "authorization_header_format_invalid",
		"Authorization: Bearer sk_live_another":        "clerk_key_invalid",
		"Authorization: Bearer " + f.in.PublishableKey: "clerk_key_invalid",
	} {
		refused(t, header, f.do("GET", "/users", "", header), http.StatusUnauthorized, codes)
	}
	refused(t, "text/plain", f.do("POST", "/users", "{}", "Content-Type: text/plain"), http.StatusUnsupportedMediaType, "unsupported_content_type")
}

func TestVersions(t *testing.T) {
	t.Parallel()
	f := start(t)
	u := must(f.in.CreateUser(state.Request{}, state.UserParams{Username: "ann_1"}))
	for path, header := range map[string]string{
		"/users": "Clerk-API-Version: 2026-05-12", "/users?": "Clerk-API-Version: 2021-02-05",
		"/users?__clerk_api_version=2025-11-10": "X: y",
	} {
		if a := f.do("GET", path, "", header); a.StatusCode != http.StatusOK {
			t.Errorf("%s %s: %d", path, header, a.StatusCode)
		}
	}
	for path, header := range map[string]string{
		"/users": "Clerk-API-Version: 2026-05-13", "/users?__clerk_api_version=2026-05-12": "Clerk-API-Version: 2026-05-12",
	} {
		refused(t, header, f.do("GET", path, "", header), http.StatusBadRequest, "api_version_invalid")
	}
	a := f.do("PATCH", "/users/"+u.ID, `{"public_metadata":{"old":true}}`, "Clerk-API-Version: 2025-11-10")
	if a.StatusCode != http.StatusOK || f.in.User(u.ID).PublicMetadata.JSON() != `{"old":true}` {
		t.Errorf("metadata in an update, before it was taken out: %d %s", a.StatusCode, a.body)
	}
}

// A clock that moves only when it is told to.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func TestRateLimit(t *testing.T) {
	t.Parallel()
	c := &clock{now: time.Date(2026, 5, 12, 10, 0, 0, 0, time.UTC)}
	f := start(t, func(o *backendapi.Options) {
		o.Now, o.RateLimit = c.Now, &backendapi.RateLimit{Requests: 3, Window: 10 * time.Second}
	})
	take := func(want int) answer {
		t.Helper()
		a := f.do("GET", "/users", "")
		if a.StatusCode != want {
			t.Errorf("at %s: %d, want %d", c.Now(), a.StatusCode, want)
		}
		return a
	}
	take(200)
	c.advance(7500 * time.Millisecond)
	take(200)
	a := take(200)
	if date := a.Header.Get("Date"); date != "Tue, 12 May 2026 10:00:07 GMT" {
		t.Errorf("Date %q isn't the clock's", date)
	}
	a = take(429)
	refused(t, "the fourth", a, http.StatusTooManyRequests, "too_many_requests")
	if after := a.Header.Get("Retry-After"); after != "3" {
		t.Errorf("Retry-After %q, want the window's 2.5 s, rounded up", after)
	}
	if a := f.do("GET", "/jwks", ""); a.StatusCode != 200 {
		t.Errorf("jwks: %d; its requests aren't counted", a.StatusCode)
	}
	c.advance(2500 * time.Millisecond)
	for range 3 {
		take(200)
	}
	c.advance(-time.Hour)
	take(200) // a clock set back doesn't shut the API for an hour
}

// Two instances of a server know nothing of each other, and have a rate each.
func TestInstancesAreApart(t *testing.T) {
	t.Parallel()
	s := state.New(state.Options{Seed: 7})
	one, two := s.AddInstance(state.InstanceOptions{Name: "one"}), s.AddInstance(state.InstanceOptions{Name: "two"})
	f := start(t, func(o *backendapi.Options) {
		o.Instance, o.RateLimit = s.InstanceBySecretKey, &backendapi.RateLimit{Requests: 2, Window: time.Hour}
	})
	u := must(one.CreateUser(state.Request{}, state.UserParams{Username: "ann_1"}))
	keys := map[*state.Instance]string{one: "Authorization: Bearer " + one.SecretKey, two: "Authorization: Bearer " + two.SecretKey}
	if a := f.do("GET", "/users/"+u.ID, "", keys[one]); a.StatusCode != 200 {
		t.Errorf("its own: %d", a.StatusCode)
	}
	refused(t, "the other's", f.do("GET", "/users/"+u.ID, "", keys[two]), 404, "resource_not_found")
	f.do("GET", "/users", "", keys[one])
	refused(t, "one too many", f.do("GET", "/users", "", keys[one]), 429, "too_many_requests")
	if a := f.do("GET", "/users", "", keys[two]); a.StatusCode != 200 {
		t.Errorf("the other's rate: %d", a.StatusCode)
	}
}

// What a change came with is in its event.
func TestChangesCarryTheirRequest(t *testing.T) {
	t.Parallel()
	f := start(t, func(o *backendapi.Options) { o.KeepUpdatedAt = func(*state.Instance) bool { return true } })
	events := make(chan state.Event, 10)
	f.in.OnEvent(func(e state.Event) { events <- e })
	var u state.User
	a := f.do("POST", "/users", `{"username":"ann_1"}`, "User-Agent: tester/1")
	if err := json.Unmarshal(a.body, &u); err != nil {
		t.Fatal(err)
	}
	e := <-events
	if e.Type != "user.created" || e.EntityID != u.ID || !strings.Contains(string(e.Body), `"user_agent":"tester/1"`) ||
		!strings.Contains(string(e.Body), `"client_ip":"127.0.0.1"`) {
		t.Errorf("%s %s", e.Type, e.Body)
	}
	f.do("PATCH", "/users/"+u.ID, `{"first_name":"Ann"}`)
	if changed := f.in.User(u.ID); changed.FirstName != "Ann" || changed.UpdatedAt != u.UpdatedAt {
		t.Errorf("updated_at went from %d to %d", u.UpdatedAt, changed.UpdatedAt)
	}
}
