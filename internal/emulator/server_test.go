package emulator_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/clerk/clerk-sdk-go/v2"
	"github.com/clerk/clerk-sdk-go/v2/jwks"
	"github.com/clerk/clerk-sdk-go/v2/jwt"
	clerkuser "github.com/clerk/clerk-sdk-go/v2/user"
	"github.com/google/go-cmp/cmp"

	"github.com/rollcall-dev/rollcall/internal/emulator"
	"github.com/rollcall-dev/rollcall/internal/emulator/delivery"
	"github.com/rollcall-dev/rollcall/internal/emulator/state"
)

func TestAChangeIsDeliveredSigned(t *testing.T) {
	t.Parallel()
	hook := receive(t, nil)
	r := start(t, emulator.Options{WebhookURLs: []string{hook.URL}, EnvFile: filepath.Join(t.TempDir(), "clerk.env")})
	user := r.api(200, "POST", "/v1/users", `{"email_address":["ada@example.com"]}`)
	if c := ask[counts](r, "GET", "/_emu/settled", ""); !c.Settled || c.Messages != 1 || c.Delivered != 1 {
		t.Fatalf("counts %+v", c)
	}
	r.api(200, "GET", "/v1/jwks", "")
	r.do(200, "GET", "/.well-known/jwks.json", "")
	if got := ask[map[string]int](r, "GET", "/_emu/requests", ""); got["backend_api"] != 2 || got["jwks"] != 1 {
		t.Errorf("requests %v", got)
	}
	got := hook.got()
	secret := environment(t, r.server)["CLERK_WEBHOOK_SIGNING_SECRET"]
	if len(got) != 1 || got[0].kind(t) != "user.created" || !got[0].verified(t, secret) {
		t.Fatalf("delivered %d: %s", len(got), got[0].body)
	}
	log := ask[deliveries](r, "GET", "/_emu/deliveries?type=user.created&state=delivered&since=1", "")
	if len(log.Data) != 1 || log.Data[0].EntityID != user["id"] || log.Data[0].MessageID != got[0].header.Get("svix-id") {
		t.Errorf("log %+v", log)
	}
	if log := ask[deliveries](r, "GET", "/_emu/deliveries?type=user.deleted", ""); len(log.Data) != 0 {
		t.Errorf("a type that wasn't sent: %+v", log)
	}
}

func environment(t *testing.T, s *emulator.Server) map[string]string {
	t.Helper()
	vars, err := s.Environment()
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]string{}
	for _, v := range vars {
		m[v.Name] = v.Value
	}
	return m
}

func TestEnvironmentFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "clerk.env")
	if err := os.WriteFile(path, []byte("OLD=1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	server, err := emulator.New(emulator.Options{EnvFile: path, WebhookSecret: secret})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("an old file is there before it serves")
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	eventually(t, func() bool { _, err := os.Stat(path); return err == nil })
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	got := map[string]string{}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		got[name] = value
	}
	if diff := cmp.Diff(environment(t, server), got); diff != "" {
		t.Error(diff)
	}
	pem := strings.ReplaceAll(got["CLERK_JWT_KEY"], `\n`, "\n")
	if _, err := clerk.JSONWebKeyFromPEM(pem); err != nil {
		t.Errorf("CLERK_JWT_KEY: %v", err)
	}
	if got["CLERK_WEBHOOK_SIGNING_SECRET"] != secret || got["CLERK_API_URL"] != server.URL() || got["CLERK_ISSUER"] != "https://clerk.app.example" ||
		!strings.HasPrefix(got["CLERK_SECRET_KEY"], "sk_live_") || !strings.HasPrefix(got["CLERK_PUBLISHABLE_KEY"], "pk_live_") {
		t.Errorf("environment %v", got)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func eventually(t *testing.T, is func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it hasn't come about")
		}
	}
}

// Clerk's own library reads the Backend API, and verifies a token with the keys
// that it finds there.
func TestGoSDK(t *testing.T) {
	t.Parallel()
	r := start(t, emulator.Options{})
	env := environment(t, r.server)
	config := clerk.ClientConfig{BackendConfig: clerk.BackendConfig{
		HTTPClient: r.client, URL: clerk.String(env["CLERK_API_URL"] + "/v1"), Key: clerk.String(env["CLERK_SECRET_KEY"]),
	}}
	users, err := clerkuser.NewClient(&config).List(t.Context(), &clerkuser.ListParams{})
	if err != nil || users.TotalCount != 20 {
		t.Fatalf("users %v, %v", users, err)
	}
	member := r.api(200, "GET", "/v1/organization_memberships?limit=1", "")["data"].([]any)[0].(map[string]any)
	userID := member["public_user_data"].(map[string]any)["user_id"].(string)
	orgID := member["organization"].(map[string]any)["id"].(string)
	for version := 1; version <= 2; version++ {
		made := ask[struct {
			JWT       string
			SessionID string `json:"session_id"`
			Cookies   map[string]string
		}](r, "POST", "/_emu/tokens", fmt.Sprintf(`{"user_id":%q,"organization_id":%q,"version":%d,"azp":"https://app.example","act":{"sub":"user_2"},
			"claims":{"metadata":{"platform":"ios"}},"cookies":true}`, userID, orgID, version))
		claims, err := jwt.Verify(t.Context(), &jwt.VerifyParams{Token: made.JWT, JWKSClient: jwks.NewClient(&config)})
		if err != nil {
			t.Fatalf("version %d: %v", version, err)
		}
		if claims.Subject != userID || claims.ActiveOrganizationID != orgID || claims.ActiveOrganizationRole != member["role"] ||
			claims.SessionID != made.SessionID || claims.AuthorizedParty != "https://app.example" || string(claims.Actor) != `{"sub":"user_2"}` ||
			claims.Issuer != env["CLERK_ISSUER"] {
			t.Errorf("version %d: claims %+v", version, claims)
		}
		if made.Cookies["__session"] != made.JWT || made.Cookies["__client_uat"] == "" {
			t.Errorf("cookies %v", made.Cookies)
		}
		// The Backend API makes tokens of the same session.
		for _, template := range []string{"", "/hasura"} {
			made := r.api(200, "POST", "/v1/sessions/"+made.SessionID+"/tokens"+template, "{}")
			claims, err := jwt.Verify(t.Context(), &jwt.VerifyParams{Token: made["jwt"].(string), JWKSClient: jwks.NewClient(&config)})
			if err != nil || claims.Subject != userID || template == "" && claims.ActiveOrganizationID != orgID {
				t.Errorf("a token of the Backend API: %+v, %v", claims, err)
			}
		}
	}
}

func TestTokensThatMustBeRefused(t *testing.T) {
	t.Parallel()
	r := start(t, emulator.Options{})
	env := environment(t, r.server)
	key, err := clerk.JSONWebKeyFromPEM(strings.ReplaceAll(env["CLERK_JWT_KEY"], `\n`, "\n"))
	if err != nil {
		t.Fatal(err)
	}
	key.KeyID = r.firstID()
	verify := func(body string) error {
		made := ask[struct{ JWT string }](r, "POST", "/_emu/tokens", body)
		_, err := jwt.Verify(t.Context(), &jwt.VerifyParams{Token: made.JWT, JWK: key})
		return err
	}
	if err := verify(`{"user_id":"user_x","session_id":"sess_x"}`); err != nil {
		t.Fatalf("of a user that need not exist: %v", err)
	}
	for _, wrong := range []string{`"expired":true`, `"not_yet_valid":true`, `"flaw":"wrong_key"`, `"flaw":"bad_signature"`} {
		if verify(`{"user_id":"user_x","session_id":"sess_x",`+wrong+`}`) == nil {
			t.Errorf("accepted with %s", wrong)
		}
	}
	ask[map[string]string](r, "POST", "/_emu/keys/rotate", "")
	if verify(`{"user_id":"user_x","session_id":"sess_x"}`) == nil {
		t.Error("the old key verifies what the new one signs")
	}
	for _, refused := range []struct {
		body   string
		status int
		code   string
	}{
		{`{}`, 422, "form_param_missing"},
		{`{"user_id":"user_none"}`, 404, "resource_not_found"},
		{`{"user_id":"user_x","session_id":"s","organization_id":"org_none"}`, 404, "resource_not_found"},
		{`{"user_id":"user_x","session_id":"s","flaw":"ugly"}`, 422, "form_param_value_invalid"},
		{`{"user":"x"}`, 400, "request_body_invalid"},
		{`{`, 400, "request_body_invalid"},
	} {
		r.refused(refused.status, refused.code, "POST", "/_emu/tokens", refused.body)
	}
	// Neither of these is a session's token.
	for _, body := range []string{`{"machine_id":"mch_1","scopes":["mch_2"]}`, `{"user_id":"user_x","template":"hasura","claims":{"aud":"h"}}`} {
		if made := ask[struct{ JWT string }](r, "POST", "/_emu/tokens", body); strings.Count(made.JWT, ".") != 2 {
			t.Errorf("%s: %q", body, made.JWT)
		}
	}
}

// firstID is the id of the first instance.
func (r *rig) firstID() string {
	r.t.Helper()
	return ask[instances](r, "GET", "/_emu/instances", "").Data[0].ID
}

// refused wants an error in Clerk's form.
func (r *rig) refused(status int, code, method, path, body string, headers ...string) {
	r.t.Helper()
	var answer struct {
		Errors []struct {
			Code        string
			Message     string
			LongMessage string `json:"long_message"`
		}
	}
	decode(r.t, r.do(status, method, path, body, headers...), &answer)
	if len(answer.Errors) != 1 || answer.Errors[0].Code != code || answer.Errors[0].Message == "" || answer.Errors[0].LongMessage == "" {
		r.t.Errorf("%s %s %s: %+v, want %s", method, path, body, answer, code)
	}
}

func TestInstancesDoNotSeeEachOther(t *testing.T) {
	t.Parallel()
	hooks := []*receiver{receive(t, nil), receive(t, nil)}
	r := start(t, emulator.Options{Instances: []string{"one", "two"}, WebhookURLs: []string{hooks[0].URL}})
	ask[any](r, "POST", "/_emu/instances", `{"name":"three"}`)
	ask[endpoint](r, "POST", "/_emu/endpoints?instance=two", fmt.Sprintf(`{"url":%q}`, hooks[1].URL))
	user := r.api(200, "POST", "/v1/users", `{"email_address":["ada@example.com"]}`, "two")
	r.api(404, "GET", "/v1/users/"+user["id"].(string), "", "one")
	r.api(404, "GET", "/v1/users/"+user["id"].(string), "", "three")
	ask[counts](r, "GET", "/_emu/settled", "")
	if a, b := len(hooks[0].got()), len(hooks[1].got()); a != 0 || b != 1 {
		t.Errorf("%d events of the first instance, %d of the second", a, b)
	}
	keys, hosts := map[string]bool{}, map[string]bool{}
	all := ask[instances](r, "GET", "/_emu/instances", "").Data
	for _, in := range all {
		keys[string(r.do(200, "GET", "/instances/"+in.Name+"/.well-known/jwks.json", ""))] = true
		hosts[string(r.do(200, "GET", "/.well-known/jwks.json", "", "Host: clerk."+in.Name+".example"))] = true
	}
	if len(all) != 3 || len(keys) != 3 || len(hosts) != 3 {
		t.Errorf("%d instances have %d key sets by name and %d by host", len(all), len(keys), len(hosts))
	}
	// A token of one means nothing to the other.
	made := ask[struct{ JWT string }](r, "POST", "/_emu/tokens?instance=two", `{"user_id":"`+user["id"].(string)+`"}`)
	config := clerk.ClientConfig{BackendConfig: clerk.BackendConfig{
		HTTPClient: r.client, URL: clerk.String(r.server.URL() + "/v1"), Key: clerk.String(all[0].SecretKey),
	}}
	if _, err := jwt.Verify(t.Context(), &jwt.VerifyParams{Token: made.JWT, JWKSClient: jwks.NewClient(&config)}); err == nil {
		t.Error("the first instance's keys verify the second's token")
	}
	r.refused(422, "form_identifier_exists", "POST", "/_emu/instances", `{"name":"two"}`)
	r.refused(422, "form_param_value_invalid", "POST", "/_emu/instances", `{"name":"A b"}`)
	r.refused(404, "resource_not_found", "GET", "/_emu/chaos?instance=four", "")
}

func TestChaosIsSwitched(t *testing.T) {
	t.Parallel()
	hook := receive(t, nil)
	r := start(t, emulator.Options{WebhookURLs: []string{hook.URL}, Instances: []string{"one", "two"}})
	ask[any](r, "PUT", "/_emu/chaos", `{"drop":1,"equal_updated_at":1}`)
	if c := ask[delivery.Chaos](r, "GET", "/_emu/chaos?instance=two", ""); c.Drop != 1 {
		t.Errorf("the second instance: %+v", c)
	}
	user := r.api(200, "POST", "/v1/users", `{"email_address":["ada@example.com"]}`)
	same := r.api(200, "PATCH", "/v1/users/"+user["id"].(string), `{"first_name":"Ada"}`)
	if same["updated_at"] != user["updated_at"] || same["first_name"] != "Ada" {
		t.Errorf("equal_updated_at: %v, then %v", user["updated_at"], same["updated_at"])
	}
	if c := ask[delivery.Chaos](r, "PATCH", "/_emu/chaos", `{"equal_updated_at":0}`); c.Drop != 1 || c.EqualUpdatedAt != 0 {
		t.Errorf("after a patch: %+v", c)
	}
	if c := ask[delivery.Chaos](r, "PUT", "/_emu/chaos", `{"duplicate":1}`); c.Drop != 0 || c.Duplicate != 1 {
		t.Errorf("after a put: %+v", c)
	}
	later := r.api(200, "PATCH", "/v1/users/"+user["id"].(string), `{"first_name":"Eve"}`)
	if later["updated_at"].(float64) <= user["updated_at"].(float64) {
		t.Error("updated_at isn't advanced")
	}
	if c := ask[counts](r, "GET", "/_emu/settled", ""); c.Dropped != 2 || c.Delivered != 1 || len(hook.got()) != 2 {
		t.Errorf("%+v, and %d requests", c, len(hook.got()))
	}
	// What was dropped is missing, and can be had.
	ids := ask[struct {
		MessageIDs []string `json:"message_ids"`
	}](r, "POST", "/_emu/replay", `{"missing_since":0}`).MessageIDs
	if c := ask[counts](r, "GET", "/_emu/settled", ""); len(ids) != 2 || c.Dropped != 0 || c.Delivered != 3 {
		t.Errorf("replayed %v: %+v", ids, c)
	}
	ask[any](r, "POST", "/_emu/replay", fmt.Sprintf(`{"message_id":%q}`, ids[0]))
	ask[counts](r, "GET", "/_emu/settled", "")
	if n := len(hook.got()); n != 5 {
		t.Errorf("%d requests after a replay, want 5", n)
	}
	r.refused(422, "form_param_value_invalid", "PUT", "/_emu/chaos", `{"drop":1.5}`)
	r.refused(422, "form_param_value_invalid", "PUT", "/_emu/chaos", `{"dorp":0.5}`)
	r.refused(404, "resource_not_found", "POST", "/_emu/replay", `{"message_id":"msg_none"}`)
	r.refused(422, "form_param_missing", "POST", "/_emu/replay", `{}`)
}

func TestEndpoints(t *testing.T) {
	t.Parallel()
	hook := receive(t, nil)
	r := start(t, emulator.Options{})
	spare := environment(t, r.server)["CLERK_WEBHOOK_SIGNING_SECRET"]
	e := ask[endpoint](r, "POST", "/_emu/endpoints", fmt.Sprintf(`{"url":%q,"events":["user.created"]}`, hook.URL))
	if e.Secrets[0] != spare {
		t.Error("the first endpoint hasn't the secret of the environment")
	}
	other := ask[endpoint](r, "POST", "/_emu/endpoints", fmt.Sprintf(`{"url":%q}`, hook.URL))
	if other.Secrets[0] == spare {
		t.Error("two endpoints share a secret")
	}
	ask[any](r, "DELETE", "/_emu/endpoints/"+other.ID, "")
	rotated := ask[endpoint](r, "POST", "/_emu/endpoints/"+e.ID+"/rotate", "")
	user := r.api(200, "POST", "/v1/users", `{"email_address":["ada@example.com"]}`)
	r.api(200, "PATCH", "/v1/users/"+user["id"].(string), `{"first_name":"Ada"}`) // not wanted
	ask[counts](r, "GET", "/_emu/settled", "")
	got := hook.got()
	if len(got) != 1 || len(rotated.Secrets) != 2 || !got[0].verified(t, rotated.Secrets[0]) || !got[0].verified(t, spare) {
		t.Errorf("%d delivered, signed with %v", len(got), rotated.Secrets)
	}
	if e := ask[endpoint](r, "PATCH", "/_emu/endpoints/"+e.ID, `{"disabled":true,"events":[]}`); !e.Disabled || len(e.Events) != 0 || e.URL != hook.URL {
		t.Errorf("%+v", e)
	}
	r.refused(409, "endpoint_disabled", "POST", "/_emu/replay", fmt.Sprintf(`{"missing_since":0,"endpoint_id":%q}`, e.ID))
	r.refused(404, "resource_not_found", "DELETE", "/_emu/endpoints/ep_none", "")
	r.refused(422, "form_param_value_invalid", "POST", "/_emu/endpoints", `{"url":"somewhere"}`)
}

func TestEventsThatNoChangeMakes(t *testing.T) {
	t.Parallel()
	hook := receive(t, nil)
	r := start(t, emulator.Options{WebhookURLs: []string{hook.URL}})
	ask[any](r, "POST", "/_emu/events", `{"type":"galaxy.born","data":{"id":"gal_1","stars":9007199254740993}}`)
	ask[counts](r, "GET", "/_emu/settled", "")
	if got := hook.got(); len(got) != 1 || !bytes.Contains(got[0].body, []byte(`"stars":9007199254740993`)) || got[0].kind(t) != "galaxy.born" {
		t.Errorf("%s", got)
	}
	r.refused(422, "form_param_missing", "POST", "/_emu/events", `{"type":"a.b"}`)
}

func TestSettledWaits(t *testing.T) {
	t.Parallel()
	answer := make(chan struct{})
	hook := receive(t, func(int) int { <-answer; return 204 })
	r := start(t, emulator.Options{WebhookURLs: []string{hook.URL}})
	r.api(200, "POST", "/v1/users", `{"email_address":["ada@example.com"]}`)
	var c counts
	decode(t, r.do(504, "GET", "/_emu/settled?timeout=50ms", ""), &c)
	if c.Settled || c.Open != 1 {
		t.Errorf("%+v", c)
	}
	var all sync.WaitGroup
	all.Go(func() {
		if c := ask[counts](r, "GET", "/_emu/settled?timeout=30s", ""); !c.Settled || c.Delivered != 1 {
			t.Errorf("%+v", c)
		}
	})
	eventually(t, func() bool { return len(hook.got()) == 1 })
	close(answer)
	all.Wait()
	r.refused(422, "form_param_format_invalid", "GET", "/_emu/settled?timeout=soon", "")
}

func TestTraffic(t *testing.T) {
	t.Parallel()
	hook := receive(t, nil)
	r := start(t, emulator.Options{WebhookURLs: []string{hook.URL}})
	made := ask[map[string]int](r, "POST", "/_emu/traffic", `{"changes":200}`)
	if made["changes"] != 200 || made["events"] < 150 {
		t.Errorf("made %v", made)
	}
	ask[counts](r, "GET", "/_emu/settled", "")
	if n := len(hook.got()); n != made["events"] {
		t.Errorf("%d events were delivered of %d", n, made["events"])
	}
	ask[any](r, "PUT", "/_emu/traffic", `{"rate":500}`)
	eventually(t, func() bool { return len(hook.got()) > made["events"]+50 })
	ask[any](r, "PUT", "/_emu/traffic", `{"rate":0}`)
	if rate := ask[map[string]float64](r, "GET", "/_emu/traffic", "")["rate"]; rate != 0 {
		t.Errorf("rate %v", rate)
	}
	r.refused(422, "form_param_format_invalid", "PUT", "/_emu/traffic", `{"rate":-1}`)
	r.refused(422, "form_param_format_invalid", "POST", "/_emu/traffic", `{"changes":0}`)
	r.refused(422, "form_param_format_invalid", "POST", "/_emu/traffic", `{"changes":1,"kinds":["sing_up"]}`)
	before := ask[instances](r, "GET", "/_emu/instances", "").Data[0].Users
	ask[any](r, "POST", "/_emu/traffic", `{"changes":10,"kinds":["sign_up"]}`)
	if now := ask[instances](r, "GET", "/_emu/instances", "").Data[0].Users; now != before+10 {
		t.Errorf("10 sign-ups made %d users", now-before)
	}
}

func TestSaveLoadAndReset(t *testing.T) {
	t.Parallel()
	hook := receive(t, nil)
	r := start(t, emulator.Options{WebhookURLs: []string{hook.URL}, Seed: 7})
	before, env := r.do(200, "GET", "/_emu/state", ""), environment(t, r.server)
	change := func() {
		t.Helper()
		ask[any](r, "POST", "/_emu/traffic", `{"changes":100}`)
		ask[any](r, "POST", "/_emu/keys/rotate", `{"new_kid":true}`)
		ask[any](r, "POST", "/_emu/instances", `{"name":"more"}`)
		ask[any](r, "PUT", "/_emu/chaos", `{"drop":1}`)
		ask[any](r, "PUT", "/_emu/traffic", `{"rate":100}`)
	}
	likeAtFirst := func() {
		t.Helper()
		if diff := cmp.Diff(parsed(t, before), parsed(t, r.do(200, "GET", "/_emu/state", ""))); diff != "" {
			t.Errorf("the state isn't as it was: %s", diff)
		}
		if diff := cmp.Diff(env, environment(t, r.server)); diff != "" {
			t.Error(diff)
		}
		c, chaos := ask[counts](r, "GET", "/_emu/settled", ""), ask[delivery.Chaos](r, "GET", "/_emu/chaos", "")
		if rate := ask[map[string]float64](r, "GET", "/_emu/traffic", "")["rate"]; rate != 0 || c.Messages != 0 || chaos != (delivery.Chaos{}) {
			t.Errorf("rate %v, %+v, %+v", rate, c, chaos)
		}
	}
	change()
	ask[any](r, "POST", "/_emu/reset", "")
	likeAtFirst()

	change()
	changed := r.do(200, "GET", "/_emu/state", "")
	ask[any](r, "PUT", "/_emu/state", string(before))
	likeAtFirst()
	ask[any](r, "PUT", "/_emu/state", string(changed))
	if n := len(ask[instances](r, "GET", "/_emu/instances", "").Data); n != 2 {
		t.Errorf("%d instances were loaded of 2", n)
	}
	ask[any](r, "POST", "/_emu/traffic", `{"changes":100}`)
	ask[any](r, "POST", "/_emu/reset", "")
	if diff := cmp.Diff(parsed(t, changed), parsed(t, r.do(200, "GET", "/_emu/state", ""))); diff != "" {
		t.Errorf("a reset doesn't return to what was loaded: %s", diff)
	}
	r.refused(422, "state_invalid", "PUT", "/_emu/state", `{"version":99}`)
	r.refused(422, "state_invalid", "PUT", "/_emu/state", `nonsense`)
}

// parsed is a state but for its clock and random numbers, which a save may
// have moved on.
func parsed(t *testing.T, text []byte) map[string]any {
	t.Helper()
	var v map[string]any
	decode(t, text, &v)
	delete(v, "clock")
	return v
}

func TestStateFileSurvivesAStopInFlight(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state.json")
	release := make(chan struct{})
	hook := receive(t, func(n int) int {
		if n == 1 {
			<-release
			return 204
		}
		return 500 // waits for a retry
	})
	r := start(t, emulator.Options{WebhookURLs: []string{hook.URL}, StateFile: path, Traffic: 200})
	eventually(t, func() bool { return len(hook.got()) > 20 })
	waits := make(chan int, 1)
	go func() {
		resp, err := r.client.Get(r.server.URL() + "/_emu/settled?timeout=5m")
		if err != nil {
			waits <- 0
			return
		}
		resp.Body.Close()
		waits <- resp.StatusCode
	}()
	ended := make(chan error, 1)
	go func() { ended <- r.end() }()
	close(release)
	select {
	case err := <-ended:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(patience):
		t.Fatal("it doesn't stop")
	}
	<-waits
	if _, err := net.DialTimeout("tcp", strings.TrimPrefix(r.server.URL(), "http://"), time.Second); err == nil {
		t.Error("it listens still")
	}
	// All that was delivered is of the state that was saved.
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	saved, err := state.Load(f, state.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range hook.got() {
		var e struct {
			Type string
			Data struct{ ID string }
		}
		decode(t, d.body, &e)
		in := saved.Instances()[0]
		if _, deleted := in.Deleted("users", e.Data.ID); e.Type == "user.created" && in.User(e.Data.ID) == nil && !deleted {
			t.Errorf("%s was created, and isn't in the saved state", e.Data.ID)
		}
	}
	env := environment(t, r.server)
	again := start(t, emulator.Options{WebhookURLs: []string{hook.URL}, StateFile: path})
	env["CLERK_API_URL"] = again.server.URL()
	if diff := cmp.Diff(env, environment(t, again.server)); diff != "" {
		t.Errorf("another environment after a restart: %s", diff)
	}
	if n := len(ask[struct{ Data []endpoint }](again, "GET", "/_emu/endpoints", "").Data); n != 1 {
		t.Errorf("%d endpoints for one URL", n)
	}
}

// A saved endpoint is as it was: a disabled one isn't sent to again.
func TestEndpointsAreSaved(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state.json")
	first := start(t, emulator.Options{})
	e := ask[endpoint](first, "POST", "/_emu/endpoints", `{"url":"http://127.0.0.1:1/","events":["user.created"],"header_family":"both"}`)
	want := ask[endpoint](first, "PATCH", "/_emu/endpoints/"+e.ID, `{"disabled":true}`)
	saved := ask[json.RawMessage](first, "GET", "/_emu/state", "")
	if err := os.WriteFile(path, saved, 0o600); err != nil {
		t.Fatal(err)
	}
	again := start(t, emulator.Options{StateFile: path})
	got := ask[struct{ Data []endpoint }](again, "GET", "/_emu/endpoints", "").Data
	if len(got) != 1 || !got[0].Disabled || !cmp.Equal(got[0].Events, want.Events) || got[0].HeaderFamily != "both" {
		t.Errorf("after a restart %+v, was %+v", got, want)
	}
}

func TestStateIsSavedMeanwhile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state.json")
	r := start(t, emulator.Options{StateFile: path, SaveEvery: time.Millisecond})
	user := r.api(200, "POST", "/v1/users", `{"email_address":["ada@example.com"]}`)
	eventually(t, func() bool {
		text, err := os.ReadFile(path)
		return err == nil && bytes.Contains(text, []byte(user["id"].(string)))
	})
}

func TestPagesOfOthersAreRefused(t *testing.T) {
	t.Parallel()
	r := start(t, emulator.Options{})
	own := strings.TrimPrefix(r.server.URL(), "http://")
	for _, headers := range [][]string{
		{"Origin: https://evil.example"},
		{"Origin: null"},
		{"Origin: http://evil.example", "Host: evil.example"}, // rebinding
		{"Sec-Fetch-Site: cross-site"},
		{"Sec-Fetch-Site: same-origin", "Host: evil.example"},
	} {
		r.refused(403, "origin_not_allowed", "POST", "/_emu/reset", "", headers...)
	}
	for _, headers := range [][]string{
		{}, {"Origin: http://" + own}, {"Sec-Fetch-Site: none"}, {"Sec-Fetch-Site: same-origin"},
		{"Origin: http://clerkemu:8090", "Host: clerkemu:8090"}, {"Host: clerkemu.test.svc.cluster.local"},
	} {
		r.do(200, "GET", "/_emu", "", headers...)
	}
}

func TestPathsAndMethods(t *testing.T) {
	t.Parallel()
	r := start(t, emulator.Options{})
	r.refused(404, "resource_not_found", "GET", "/_emu/nowhere", "")
	r.refused(404, "resource_not_found", "GET", "/nowhere", "")
	r.refused(405, "method_not_allowed", "DELETE", "/_emu/chaos", "")
	if got := string(r.do(200, "GET", "/healthz", "")); got != "ok\n" {
		t.Errorf("healthz: %q", got)
	}
	page := string(r.do(200, "GET", "/", ""))
	var list struct {
		Routes []struct{ Method, Path, About string }
	}
	decode(t, r.do(200, "GET", "/_emu", ""), &list)
	for _, route := range list.Routes {
		if route.About == "" || !strings.Contains(page, route.Path) {
			t.Errorf("the page says nothing of %s", route.Path)
		}
		// Each route answers something of its own, whatever is wrong with the request.
		if route.Method != "GET" {
			r.reaches(route.Method, strings.ReplaceAll(route.Path, "{id}", "ep_x"))
		}
	}
}

// reaches sends a body that no route takes, and wants an answer of the route.
func (r *rig) reaches(method, path string) {
	t := r.t
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, r.server.URL()+path, strings.NewReader("[]"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := r.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == 405 || resp.StatusCode >= 500 {
		t.Errorf("%s %s: %d", method, path, resp.StatusCode)
	}
	var v any
	if err := json.NewDecoder(resp.Body).Decode(&v); err != nil {
		t.Errorf("%s %s: no JSON: %v", method, path, err)
	}
}

func TestWrongOptions(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	bad := filepath.Join(t.TempDir(), "bad.json")
	if err := os.WriteFile(bad, []byte(`{"version":1,"instances":[{"users":[{"id":1}]}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, o := range map[string]emulator.Options{
		"can't listen on " + taken.Addr().String(): {Addr: taken.Addr().String()},
		"a name is of a-z":                         {Instances: []string{"a.b"}},
		"is there twice":                           {Instances: []string{"a", "a"}},
		"whsec_ and base64":                        {WebhookSecret: "whsec_%"},
		"its url must be like":                     {WebhookURLs: []string{"nowhere"}},
		"drop is 2":                                {Chaos: delivery.Chaos{Drop: 2}},
		"bad.json: loading the state: instances":   {StateFile: bad},
	} {
		if _, err := emulator.New(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
