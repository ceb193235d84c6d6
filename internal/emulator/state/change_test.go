package state_test

import (
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall-dev/rollcall/internal/emulator/state"
)

// TestRefusals: what Clerk refuses changes nothing and emits nothing.
func TestRefusals(t *testing.T) {
	t.Parallel()
	s, in := newInstance(t, 7)
	user := must[*state.User](t)
	ada := user(in.CreateUser(request, state.UserParams{EmailAddresses: []string{"ada@acme.example"}, Username: "adal", ExternalID: "1"}))
	bob := user(in.CreateUser(request, state.UserParams{Banned: true}))
	acme := must[*state.Organization](t)(in.CreateOrganization(request, state.OrganizationParams{Name: "Acme", Slug: "acme", CreatedBy: ada.ID}))
	full := must[*state.Organization](t)(in.CreateOrganization(request, state.OrganizationParams{Name: "Full", CreatedBy: ada.ID, MaxAllowedMemberships: new(int64(1))}))
	create := func(p state.UserParams) func() error {
		return func() error { _, err := in.CreateUser(request, p); return err }
	}
	join := func(org, user, role string) func() error {
		return func() error {
			_, err := in.CreateMembership(request, state.MembershipParams{OrganizationID: org, UserID: user, Role: role})
			return err
		}
	}
	events := record(in)
	before := saved(t, s)
	for name, c := range map[string]struct {
		do     func() error
		status int
		code   string
		param  string
	}{
		"e-mail taken in other case": {create(state.UserParams{EmailAddresses: []string{"ADA@acme.example"}}), 422, "form_identifier_exists", "email_address"},
		"e-mail twice":               {create(state.UserParams{EmailAddresses: []string{"x@y.example", "X@y.example"}}), 422, "form_identifier_exists", "email_address"},
		"e-mail without a domain":    {create(state.UserParams{EmailAddresses: []string{"ada@"}}), 422, "form_param_format_invalid", "email_address"},
		"phone not E.164":            {create(state.UserParams{PhoneNumbers: []string{"0123"}}), 422, "form_param_format_invalid", "phone_number"},
		"username taken":             {create(state.UserParams{Username: "ADAL"}), 422, "form_identifier_exists", "username"},
		"username short":             {create(state.UserParams{Username: "abc"}), 422, "form_username_invalid_length", "username"},
		"external id taken":          {create(state.UserParams{ExternalID: "1"}), 422, "form_identifier_exists", "external_id"},
		"metadata no object":         {create(state.UserParams{PublicMetadata: json.RawMessage(`[]`)}), 422, "form_param_format_invalid", "public_metadata"},
		"name too long":              {create(state.UserParams{LastName: strings.Repeat("ü", 257)}), 422, "form_param_max_length_exceeded", "last_name"},
		"metadata too large": {func() error {
			_, err := in.MergeUserMetadata(request, ada.ID, state.MetadataPatch{Private: json.RawMessage(`{"a":"` + strings.Repeat("x", state.MaxMetadata) + `"}`)})
			return err
		}, 422, "form_param_exceeds_allowed_size", "private_metadata"},
		"no such user":         {func() error { _, err := in.BanUser(request, "user_x"); return err }, 404, "resource_not_found", ""},
		"no such organization": {join("org_x", ada.ID, "org:member"), 404, "resource_not_found", ""},
		"no such role":         {join(acme.ID, bob.ID, "org:x"), 404, "resource_not_found", "role"},
		"role missing":         {join(acme.ID, bob.ID, ""), 422, "form_param_missing", "role"},
		"a member already":     {join(acme.ID, ada.ID, "org:member"), 400, "already_a_member_in_organization", ""},
		"organization full":    {join(full.ID, bob.ID, "org:member"), 403, "organization_membership_quota_exceeded", ""},
		"last admin demoted": {func() error { _, err := in.UpdateMembershipRole(request, acme.ID, ada.ID, "org:member"); return err },
			400, "organization_minimum_permissions_needed", ""},
		"slug taken": {func() error {
			_, err := in.CreateOrganization(request, state.OrganizationParams{Name: "A", Slug: "acme"})
			return err
		}, 422, "form_identifier_exists", "slug"},
		"banned signs in": {func() error { _, err := in.CreateSession(request, state.SessionParams{UserID: bob.ID}); return err },
			403, "user_banned", ""},
		"system permission": {func() error {
			_, err := in.DeletePermission(request, in.PermissionByKey("org:sys_profile:manage").ID)
			return err
		}, 403, "organization_system_permission_not_modifiable", ""},
		"role in use": {func() error {
			_, err := in.DeleteRole(request, in.RoleByKey("org:admin").ID)
			return err
		}, 400, "organization_role_used_as_creator_role", ""},
	} {
		var refusal *state.Error
		if err := c.do(); !errors.As(err, &refusal) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		param, _ := refusal.Meta["param_name"].(string)
		if refusal.Status != c.status || refusal.Code != c.code || param != c.param || refusal.Message == "" || refusal.LongMessage == "" {
			t.Errorf("%s: %d %s %+v, want %d %s %s", name, refusal.Status, refusal.Code, refusal, c.status, c.code, c.param)
		}
	}
	if len(*events) > 0 {
		t.Errorf("refused, and emitted all the same: %v", *events)
	}
	if diff := cmp.Diff(strings.Split(before, "\n"), strings.Split(saved(t, s), "\n")); diff != "" {
		t.Errorf("refused, and changed all the same:\n%s", diff)
	}
}

func TestMergeMetadata(t *testing.T) {
	t.Parallel()
	_, in := newInstance(t, 7)
	for _, c := range []struct{ old, patch, want string }{
		{`{"a":1}`, `{"b":2}`, `{"a":1,"b":2}`},
		{`{"a":1,"b":2}`, `{"a":null}`, `{"b":2}`},
		{`{"a":{"x":1,"y":2}}`, `{"a":{"y":null,"z":3}}`, `{"a":{"x":1,"z":3}}`},
		{`{"a":1}`, `{"a":{"b":{"c":1}}}`, `{"a":{"b":{"c":1}}}`},
		{`{"a":{"b":1}}`, `{"a":[1]}`, `{"a":[1]}`},
		{`{"n":9007199254740993,"s":"\ud83d","h":"<&>"}`, `{"x":1}`, `{"h":"<&>","n":9007199254740993,"s":"\ud83d","x":1}`},
		{`{"a":1}`, `null`, `{"a":1}`},
		{`{}`, `{"a":{"b":null}}`, `{"a":{}}`},
	} {
		u := must[*state.User](t)(in.CreateUser(request, state.UserParams{PublicMetadata: json.RawMessage(c.old)}))
		u = must[*state.User](t)(in.MergeUserMetadata(request, u.ID, state.MetadataPatch{Public: json.RawMessage(c.patch)}))
		if got := u.PublicMetadata.JSON(); got != c.want {
			t.Errorf("%s with %s is %s, want %s", c.old, c.patch, got, c.want)
		}
	}
}

func TestRejoinAndDelete(t *testing.T) {
	t.Parallel()
	_, in := newInstance(t, 7)
	user := must[*state.User](t)
	ada, bob := user(in.CreateUser(request, state.UserParams{})), user(in.CreateUser(request, state.UserParams{}))
	acme := must[*state.Organization](t)(in.CreateOrganization(request, state.OrganizationParams{Name: "Acme", CreatedBy: ada.ID}))
	join := state.MembershipParams{OrganizationID: acme.ID, UserID: bob.ID, Role: "org:member"}
	member := must[*state.OrganizationMembership](t)
	first := member(in.CreateMembership(request, join))
	events := record(in)
	gone := member(in.DeleteMembership(request, acme.ID, bob.ID))
	second := member(in.CreateMembership(request, join))
	if first.ID == second.ID || gone.UpdatedAt != first.UpdatedAt {
		t.Errorf("joined as %s, left at %d, rejoined as %s", first.ID, gone.UpdatedAt, second.ID)
	}
	var left struct {
		Data struct {
			UpdatedAt      int64          `json:"updated_at"`
			Organization   map[string]any `json:"organization"`
			PublicUserData map[string]any `json:"public_user_data"`
		} `json:"data"`
	}
	if err := json.Unmarshal((*events)[0].Body, &left); err != nil {
		t.Fatal(err)
	}
	if left.Data.UpdatedAt != first.UpdatedAt || left.Data.Organization["id"] != acme.ID || left.Data.PublicUserData["user_id"] != bob.ID {
		t.Errorf("the deletion's event is not the whole membership as it was: %s", (*events)[0].Body)
	}
	if _, ok := in.Deleted("organization_memberships", first.ID); !ok {
		t.Error("the deletion is not remembered")
	}
	must[*state.Organization](t)(in.DeleteOrganization(request, acme.ID))
	if n := len(in.Memberships()); n != 0 || len(in.MembershipsOfUser(ada.ID)) != 0 {
		t.Errorf("%d memberships outlive their organization", n)
	}
	if last := (*events)[len(*events)-1]; last.Type != "organization.deleted" || len(*events) != 3 {
		t.Errorf("%d events, the last %s", len(*events), last.Type)
	}
}

// TestConcurrentUse is for the race detector.
func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	s, in := newInstance(t, 7)
	in.Seed(state.SeedOptions{Users: 50, Organizations: 5, Memberships: 60})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i, u := range in.Users() {
				name := strings.Repeat("x", i%10)
				if _, err := in.UpdateUser(request, u.ID, state.UserUpdate{FirstName: &name}); err != nil {
					t.Error(err)
				}
				if _, err := json.Marshal(in.View(in.Memberships()[i%50])); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Go(func() { saved(t, s) })
	wg.Wait()
}
