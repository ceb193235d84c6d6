package backendapi_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"

	"github.com/rollcall-dev/rollcall/internal/emulator/backendapi"
	"github.com/rollcall-dev/rollcall/internal/emulator/state"
)

// specification is Clerk's, as published (testdata/openapi).
var specification = sync.OnceValue(func() *openapi3.T {
	packed := must(os.Open("testdata/openapi/bapi-2026-05-12.yml.gz"))
	defer packed.Close()
	return must(openapi3.NewLoader().LoadFromIoReader(must(gzip.NewReader(packed))))
})

// resources are the specification's tags that the API is about.
var resources = []string{
	"Users", "Email Addresses", "Phone Numbers", "Sessions", "Invitations", "Waitlist Entries", "Organizations",
	"Organization Memberships", "Organization Invitations", "Organization Domains", "Organization Roles",
	"Organization Permissions", "Role Sets", "Instance Settings", "Enterprise Connections", "Billing", "JWKS",
}

// left are the operations of those resources that aren't there, and why.
var left = map[string]string{
	"POST /email_addresses/{email_address_id}/prepare_verification": "no codes are sent",
	"POST /email_addresses/{email_address_id}/attempt_verification": "no codes are sent",
	"POST /phone_numbers/{phone_number_id}/prepare_verification":    "no codes are sent",
	"POST /phone_numbers/{phone_number_id}/attempt_verification":    "no codes are sent",

	"POST /users/{user_id}/profile_image":                                  "images aren't kept",
	"PUT /organizations/{organization_id}/logo":                            "images aren't kept",
	"DELETE /organizations/{organization_id}/logo":                         "images aren't kept",
	"GET /users/{user_id}/oauth_access_tokens/{provider}":                  "no provider issues any",
	"POST /users/{user_id}/verify_password":                                "passwords aren't kept",
	"POST /users/{user_id}/password/set_compromised":                       "passwords aren't kept",
	"POST /users/{user_id}/password/unset_compromised":                     "passwords aren't kept",
	"POST /users/{user_id}/verify_totp":                                    "secrets aren't kept",
	"DELETE /users/{user_id}/passkeys/{passkey_identification_id}":         "no user has one",
	"GET /users/{user_id}/trusted_devices":                                 "no user has one",
	"DELETE /users/{user_id}/trusted_devices/{trusted_device_id}":          "no user has one",
	"DELETE /users/{user_id}/web3_wallets/{web3_wallet_identification_id}": "no user has one",

	"POST /organizations/{organization_id}/domains/{domain_id}/verify_ownership": "ownership isn't kept",

	"POST /role_sets":                                    "an instance has the initial role set only",
	"PATCH /role_sets/{role_set_key_or_id}":              "an instance has the initial role set only",
	"POST /role_sets/{role_set_key_or_id}/replace":       "an instance has the initial role set only",
	"POST /role_sets/{role_set_key_or_id}/roles":         "an instance has the initial role set only",
	"POST /role_sets/{role_set_key_or_id}/roles/replace": "an instance has the initial role set only",

	"PATCH /instance":                            "settings don't change how the emulator behaves",
	"PATCH /instance/restrictions":               "settings don't change how the emulator behaves",
	"GET /instance/protect":                      "settings don't change how the emulator behaves",
	"PATCH /instance/protect":                    "settings don't change how the emulator behaves",
	"GET /instance/communication":                "settings don't change how the emulator behaves",
	"PATCH /instance/communication":              "settings don't change how the emulator behaves",
	"GET /instance/oauth_application_settings":   "settings don't change how the emulator behaves",
	"PATCH /instance/oauth_application_settings": "settings don't change how the emulator behaves",
	"PATCH /instance/organization_settings":      "settings don't change how the emulator behaves",

	"POST /enterprise_connections":                                      "connections aren't kept",
	"GET /enterprise_connections/{enterprise_connection_id}":            "connections aren't kept",
	"PATCH /enterprise_connections/{enterprise_connection_id}":          "connections aren't kept",
	"DELETE /enterprise_connections/{enterprise_connection_id}":         "connections aren't kept",
	"GET /enterprise_connections/{enterprise_connection_id}/test_runs":  "connections aren't kept",
	"POST /enterprise_connections/{enterprise_connection_id}/test_runs": "connections aren't kept",

	"GET /billing/plans":   "plans and prices are fixed",
	"GET /billing/prices":  "plans and prices are fixed",
	"POST /billing/prices": "plans and prices are fixed",
	"POST /billing/subscription_items/{subscription_item_id}/extend_free_trial":         "plans and prices are fixed",
	"POST /billing/subscription_items/{subscription_item_id}/price_transition":          "plans and prices are fixed",
	"POST /billing/subscription_items/{subscription_item_id}/discounts":                 "plans and prices are fixed",
	"DELETE /billing/subscription_items/{subscription_item_id}/discounts/{discount_id}": "plans and prices are fixed",
	"GET /billing/statements":                                "no statements are drawn up",
	"GET /billing/statements/{statementID}":                  "no statements are drawn up",
	"GET /billing/statements/{statementID}/payment_attempts": "no statements are drawn up",
	"GET /users/{user_id}/billing/credits":                   "no credits are kept",
	"POST /users/{user_id}/billing/credits":                  "no credits are kept",
	"GET /organizations/{organization_id}/billing/credits":   "no credits are kept",
	"POST /organizations/{organization_id}/billing/credits":  "no credits are kept",
}

func TestOperations(t *testing.T) {
	t.Parallel()
	served := map[string]bool{}
	for _, op := range backendapi.Operations() {
		served[op] = true
	}
	specified := map[string]bool{}
	for path, item := range specification().Paths.Map() {
		for method, operation := range item.Operations() {
			op := method + " " + path
			specified[op] = true
			ours := slices.ContainsFunc(operation.Tags, func(tag string) bool { return slices.Contains(resources, tag) })
			switch reason := left[op]; {
			case served[op] && reason != "":
				t.Errorf("%s is served; it is on the list of those that aren't", op)
			case ours && !served[op] && reason == "":
				t.Errorf("%s is neither served nor on the list of those that aren't", op)
			}
		}
	}
	for op := range served {
		if !specified[op] {
			t.Errorf("%s is served, and not in the specification", op)
		}
	}
	for op := range left {
		if !specified[op] {
			t.Errorf("%s is on the list of those that aren't served, and not in the specification", op)
		}
	}
}

// A step is one request of a valid history. Path parameters and $names in query
// and body are ids that former steps kept.
type step struct {
	op, query, body string
	keep            string // the name for the answer's id
}

// history does every operation once at least, with answers that hold something.
var history = []step{
	{op: "GET /jwks"},
	{op: "GET /instance"},
	{op: "GET /instance/organization_settings"},

	{op: "POST /users", keep: "admin", body: `{"email_address":["ann@example.com"],"first_name":"Ann","username":"ann_a","external_id":"e1",
		"public_metadata":{"a":{"b":1}},"private_metadata":{},"unsafe_metadata":{"c":null},"password":"correct horse","totp_secret":"AAAA","backup_codes":["x"]}`},
	{op: "POST /users", keep: "user_id", body: `{"email_address":["bob@example.com","b2@example.com"],"phone_number":["+15555550101"],
		"email_address_identification_status":["reserved","reserved"],"created_at":"2024-01-02T03:04:05.678Z","locale":"en-US","locked":true,"banned":true}`},
	{op: "GET /users/{user_id}"},
	{op: "GET /users", query: "limit=2&order_by=-created_at&email_address=bob@example.com"},
	{op: "GET /users/count", query: "query=bob"},
	{op: "PATCH /users/{user_id}", body: `{"first_name":"Bob","last_name":null,"external_id":"e2","password":"correct horse","sign_out_of_other_sessions":true}`},
	{op: "PATCH /users/{user_id}/metadata", body: `{"public_metadata":{"a":{"c":2},"d":[1,2]},"unsafe_metadata":{"x":null}}`},
	{op: "PUT /users/{user_id}/metadata", body: `{"private_metadata":{"big":12345678901234567890}}`},
	{op: "POST /users/{user_id}/ban"}, {op: "POST /users/{user_id}/lock"},
	{op: "POST /users/{user_id}/unban"}, {op: "POST /users/{user_id}/unlock"},
	{op: "POST /users/ban", body: `{"user_ids":["$user_id","$admin"]}`},
	{op: "POST /users/unban", body: `{"user_ids":["$user_id","$admin"]}`},
	{op: "POST /users/{user_id}/remove_password", body: `{"sign_out_of_other_sessions":true}`},
	{op: "DELETE /users/{user_id}/mfa"}, {op: "DELETE /users/{user_id}/totp"}, {op: "DELETE /users/{user_id}/backup_code"},
	{op: "DELETE /users/{user_id}/profile_image"},
	{op: "DELETE /users/{user_id}/external_accounts/{external_account_id}"},

	{op: "POST /email_addresses", keep: "email_address_id", body: `{"user_id":"$user_id","email_address":"b3@example.com","verified":false}`},
	{op: "GET /email_addresses/{email_address_id}"},
	{op: "PATCH /email_addresses/{email_address_id}", body: `{"verified":true,"primary":true}`},
	{op: "DELETE /email_addresses/{email_address_id}"},
	{op: "PUT /users/{user_id}/email_address", body: `{"email_address":"b4@example.com"}`},
	{op: "POST /phone_numbers", keep: "phone_number_id", body: `{"user_id":"$user_id","phone_number":"+15555550102","verified":false}`},
	{op: "GET /phone_numbers/{phone_number_id}"},
	{op: "PATCH /phone_numbers/{phone_number_id}", body: `{"verified":true,"primary":true}`},
	{op: "DELETE /phone_numbers/{phone_number_id}"},
	{op: "PUT /users/{user_id}/phone_number", body: `{"phone_number":"+15555550103","identification_status":"unverified"}`},

	{op: "POST /organizations", keep: "organization_id", body: `{"name":"Acme","slug":"acme","created_by":"$admin","public_metadata":{"plan":"x"},"max_allowed_memberships":50}`},
	{op: "GET /organizations/{organization_id}", query: "include_members_count=true"},
	{op: "GET /organizations", query: "query=acm&order_by=-members_count"},
	{op: "PATCH /organizations/{organization_id}", body: `{"name":"Acme Ltd","admin_delete_enabled":false}`},
	{op: "PATCH /organizations/{organization_id}/metadata", body: `{"public_metadata":{"plan":null,"n":1}}`},
	{op: "PUT /organizations/{organization_id}/metadata", body: `{"private_metadata":{"s":1}}`},
	{op: "POST /organizations/{organization_id}/memberships", body: `{"user_id":"$user_id","role":"org:member","public_metadata":{"m":1}}`},
	{op: "GET /organizations/{organization_id}/memberships", query: "role=org:member&order_by=-email_address"},
	{op: "GET /organization_memberships", query: "order_by=%2Bcreated_at"},
	{op: "GET /users/{user_id}/organization_memberships"},
	{op: "PATCH /organizations/{organization_id}/memberships/{user_id}", body: `{"role":"org:admin"}`},
	{op: "PATCH /organizations/{organization_id}/memberships/{user_id}/metadata", body: `{"public_metadata":{"m":2},"private_metadata":{}}`},
	{op: "POST /organizations/{organization_id}/invitations", keep: "invitation_id", body: `{"email_address":"new@example.com","role":"org:member","inviter_user_id":"$admin","expires_in_days":7}`},
	{op: "POST /organizations/{organization_id}/invitations/bulk", body: `[{"email_address":"n2@example.com","role":"org:admin"},{"email_address":"n3@example.com","role":"org:member","notify":false}]`},
	{op: "GET /organizations/{organization_id}/invitations", query: "status=pending"},
	{op: "GET /organizations/{organization_id}/invitations/pending"},
	{op: "GET /organizations/{organization_id}/invitations/{invitation_id}"},
	{op: "GET /organization_invitations", query: "status=pending&query=example"},
	{op: "GET /users/{user_id}/organization_invitations"},
	{op: "POST /organizations/{organization_id}/invitations/{invitation_id}/revoke", body: `{"requesting_user_id":"$admin"}`},
	{op: "POST /organizations/{organization_id}/domains", keep: "domain_id", body: `{"name":"acme.example","enrollment_mode":"automatic_invitation","verified":true}`},
	{op: "PATCH /organizations/{organization_id}/domains/{domain_id}", body: `{"enrollment_mode":"automatic_suggestion"}`},
	{op: "GET /organizations/{organization_id}/domains", query: "verified=true"},
	{op: "GET /organization_domains", query: "verified=true&query=acme"},

	{op: "POST /organization_permissions", keep: "permission_id", body: `{"name":"Read ledgers","key":"org:ledgers:read","description":"…"}`},
	{op: "GET /organization_permissions"}, {op: "GET /organization_permissions/{permission_id}"},
	{op: "PATCH /organization_permissions/{permission_id}", body: `{"name":"See ledgers"}`},
	{op: "POST /organization_roles", keep: "organization_role_id", body: `{"name":"Clerk","key":"org:clerk","permissions":[]}`},
	{op: "GET /organization_roles", query: "query=clerk"}, {op: "GET /organization_roles/{organization_role_id}"},
	{op: "PATCH /organization_roles/{organization_role_id}", body: `{"description":"Keeps the books"}`},
	{op: "POST /organization_roles/{organization_role_id}/permissions/{permission_id}"},
	{op: "DELETE /organization_roles/{organization_role_id}/permissions/{permission_id}"},
	{op: "DELETE /organization_roles/{organization_role_id}"},
	{op: "DELETE /organization_permissions/{permission_id}"},
	{op: "GET /role_sets", keep: "-"}, {op: "GET /role_sets/{role_set_key_or_id}"},
	{op: "GET /enterprise_connections", query: "active=true"},

	{op: "POST /sessions", keep: "session_id", body: `{"user_id":"$user_id","active_organization_id":"$organization_id"}`},
	{op: "GET /sessions", query: "user_id=$user_id&status=active"},
	{op: "GET /sessions/{session_id}"},
	{op: "POST /sessions/{session_id}/tokens", body: `{"expires_in_seconds":60}`},
	{op: "POST /sessions/{session_id}/tokens/{template_name}"},
	{op: "POST /sessions/{session_id}/refresh", body: `{"expired_token":"a","refresh_token":"b","request_origin":"https://example.com"}`},
	{op: "POST /sessions/{session_id}/revoke"},

	{op: "POST /invitations", keep: "invitation_id", body: `{"email_address":"guest@example.com","public_metadata":{"a":1},"redirect_url":"https://example.com/in","expires_in_days":3}`},
	{op: "POST /invitations/bulk", body: `[{"email_address":"g2@example.com"},{"email_address":"g3@example.com","notify":false}]`},
	{op: "GET /invitations", query: "status=pending&order_by=-expires_at"},
	{op: "POST /invitations/{invitation_id}/revoke"},
	{op: "POST /waitlist_entries", keep: "waitlist_entry_id", body: `{"email_address":"wait@example.com"}`},
	{op: "POST /waitlist_entries/bulk", keep: "-", body: `[{"email_address":"w2@example.com"},{"email_address":"w3@example.com"}]`},
	{op: "GET /waitlist_entries", query: "status=pending"},
	{op: "DELETE /waitlist_entries/{waitlist_entry_id}"},
	{op: "POST /waitlist_entries", keep: "waitlist_entry_id", body: `{"email_address":"w4@example.com"}`},
	{op: "POST /waitlist_entries/{waitlist_entry_id}/invite", body: `{"ignore_existing":true}`},
	{op: "GET /waitlist_entries", query: "order_by=-invited_at"},
	{op: "POST /waitlist_entries", keep: "waitlist_entry_id", body: `{"email_address":"w5@example.com"}`},
	{op: "POST /waitlist_entries/{waitlist_entry_id}/reject"},

	{op: "GET /users/{user_id}/billing/subscription"},
	{op: "GET /organizations/{organization_id}/billing/subscription"},
	{op: "GET /billing/subscription_items", query: "include_free=true"},
	{op: "DELETE /billing/subscription_items/{subscription_item_id}", query: "end_now=true"},

	{op: "DELETE /organizations/{organization_id}/domains/{domain_id}"},
	{op: "DELETE /organizations/{organization_id}/memberships/{user_id}"},
	{op: "DELETE /organizations/{organization_id}"},
	{op: "DELETE /users/{user_id}"},
}

var placeholder = regexp.MustCompile(`\{(\w+)\}|\$(\w+)`)

func TestAnswersFollowTheSpecification(t *testing.T) {
	t.Parallel()
	f := start(t)
	known := map[string]string{"template_name": "hasura", "role_set_key_or_id": "role_set:default"}
	fill := func(s string) string {
		return placeholder.ReplaceAllStringFunc(s, func(m string) string {
			name := strings.Trim(m, "{}$")
			if known[name] == "" {
				t.Fatalf("no id is known for %s", m)
			}
			return known[name]
		})
	}
	done := map[string]bool{}
	for _, s := range history {
		done[s.op] = true
		if strings.Contains(s.op, "external_account") || strings.Contains(s.op, "billing") {
			seedBeyondTheAPI(f, known)
		}
		method, pattern, _ := strings.Cut(s.op, " ")
		path := fill(pattern)
		if s.query != "" {
			path += "?" + fill(s.query)
		}
		a := f.do(method, path, fill(s.body))
		if a.StatusCode != http.StatusOK {
			t.Fatalf("%s: %d %s", s.op, a.StatusCode, a.body)
		}
		validate(t, f, pattern, a, fill(s.body), known)
		if id := (object{}); s.keep != "" && s.keep != "-" {
			if err := json.Unmarshal(a.body, &id); err != nil {
				t.Fatal(err)
			}
			known[s.keep] = id.ID
		}
	}
	for _, op := range backendapi.Operations() {
		if !done[op] {
			t.Errorf("%s isn't in the history", op)
		}
	}
}

// The varied resources of a seeded instance follow the specification too.
func TestSeededAnswersFollowTheSpecification(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.in.Seed(state.SeedOptions{Users: 500, Organizations: 60, Memberships: 900})
	for _, list := range []string{
		"/users", "/organizations", "/organization_memberships", "/organization_invitations", "/organization_domains",
		"/organization_roles", "/organization_permissions", "/invitations", "/waitlist_entries", "/billing/subscription_items",
	} {
		a := f.do("GET", list+"?limit=500", "")
		if found, _ := ids(f, list); len(found) == 0 {
			t.Errorf("%s: nothing is seeded", list)
		}
		validate(t, f, list, a, "", nil)
	}
	paid := 0
	for _, s := range f.in.Subscriptions() {
		pattern, id := "/users/{user_id}/billing/subscription", s.Payer.UserID
		if id == "" {
			pattern, id = "/organizations/{organization_id}/billing/subscription", s.Payer.OrganizationID
		}
		paid++
		validate(t, f, pattern, f.do("GET", placeholder.ReplaceAllString(pattern, id), ""), "",
			map[string]string{"user_id": id, "organization_id": id})
	}
	if paid == 0 {
		t.Error("no subscription is seeded")
	}
}

// seedBeyondTheAPI makes what Clerk's Backend API has no request for.
func seedBeyondTheAPI(f *fixture, known map[string]string) {
	f.Helper()
	if known["external_account_id"] == "" {
		u := must(f.in.LinkExternalAccount(state.Request{}, known["user_id"], state.ExternalAccountParams{
			Provider: "oauth_google", EmailAddress: "bob@gmail.example",
		}))
		known["external_account_id"] = u.ExternalAccounts[0].ID
	}
	if org := known["organization_id"]; org != "" && known["subscription_item_id"] == "" {
		must(f.in.CreateSubscription(state.Request{}, state.SubscriptionParams{UserID: known["user_id"], Plan: planFor(f.in, false)}))
		s := must(f.in.CreateSubscription(state.Request{}, state.SubscriptionParams{OrganizationID: org, Plan: planFor(f.in, true)}))
		for _, i := range f.in.SubscriptionItems() {
			if i.SubscriptionID == s.ID {
				known["subscription_item_id"] = i.ID
			}
		}
	}
}

// planFor is the slug of a plan that costs something.
func planFor(in *state.Instance, orgs bool) string {
	for _, p := range in.Plans() {
		if p.ForOrgs == orgs && p.Amount > 0 {
			return p.Slug
		}
	}
	panic("no paid plan")
}

// validate holds a request and its answer against the specification.
func validate(t *testing.T, f *fixture, pattern string, a answer, body string, params map[string]string) {
	t.Helper()
	spec := specification()
	item := spec.Paths.Value(pattern)
	req := a.Request.Clone(t.Context())
	req.Body = http.NoBody
	if body != "" {
		req.Body = readCloser{bytes.NewReader([]byte(body))}
	}
	req.URL = must(url.Parse("https://api.clerk.com" + strings.TrimPrefix(req.URL.String(), strings.TrimSuffix(f.url, "/v1"))))
	input := &openapi3filter.RequestValidationInput{
		Request: req, PathParams: params,
		Route: &routers.Route{
			Spec: spec, Server: spec.Servers[0], Path: pattern, PathItem: item,
			Method: req.Method, Operation: item.GetOperation(req.Method),
		},
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, MultiError: true},
	}
	if err := openapi3filter.ValidateRequest(t.Context(), input); err != nil {
		t.Errorf("the test's request %s %s: %v", req.Method, pattern, err)
	}
	response := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: input, Status: a.StatusCode, Header: a.Header, Options: input.Options,
	}
	response.SetBodyBytes(a.body)
	if err := openapi3filter.ValidateResponse(t.Context(), response); err != nil {
		t.Errorf("%s %s: %.1500v\n%.1500s", req.Method, pattern, err, a.body)
	}
}

type readCloser struct{ *bytes.Reader }

func (readCloser) Close() error { return nil }
