package state_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall-dev/rollcall/internal/emulator/state"
)

var request = state.Request{ClientIP: "203.0.113.7", UserAgent: "Mozilla/5.0"}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// all makes every change there is.
func all(t testing.TB, in *state.Instance) {
	t.Helper()
	user, org, session := must[*state.User](t), must[*state.Organization](t), must[*state.Session](t)
	ada := user(in.CreateUser(request, state.UserParams{
		FirstName: "Ada", LastName: "Lovelace", EmailAddresses: []string{"ada@acme.example"}, PhoneNumbers: []string{"+15551234567"},
		ExternalID: "ex_1", PublicMetadata: json.RawMessage(`{"a":{"b":1,"c":2}}`), TOTP: true,
	}))
	bob := user(in.CreateUser(request, state.UserParams{FirstName: "Bob", Username: "bobby", EmailAddresses: []string{"bob@acme.example"}, Unverified: true}))
	first := "Augusta"
	user(in.UpdateUser(request, ada.ID, state.UserUpdate{FirstName: &first}))
	user(in.MergeUserMetadata(request, ada.ID, state.MetadataPatch{Public: json.RawMessage(`{"a":{"b":null}}`)}))
	user(in.VerifyEmail(request, bob.ID, bob.EmailAddresses[0].ID))
	user(in.LinkExternalAccount(request, ada.ID, state.ExternalAccountParams{Provider: "oauth_google", EmailAddress: "ada@acme.example"}))
	user(in.LinkEnterpriseAccount(request, bob.ID, state.EnterpriseAccountParams{EmailAddress: "bob@acme.example"}))
	if err := in.SendEmailCode(request, ada.ID); err != nil {
		t.Fatal(err)
	}
	if err := in.SendSMSCode(request, ada.ID); err != nil {
		t.Fatal(err)
	}
	acme := org(in.CreateOrganization(request, state.OrganizationParams{Name: "Acme", CreatedBy: ada.ID}))
	name := "Acme & Co"
	org(in.UpdateOrganization(request, acme.ID, state.OrganizationUpdate{Name: &name}))
	members(t, in, acme, ada, bob)
	roles(t, in)
	for _, end := range []func(state.Request, string) (*state.Session, error){in.EndSession, in.RemoveSession, in.RevokeSession, in.ExpireSession} {
		session(end(request, session(in.CreateSession(request, state.SessionParams{UserID: ada.ID})).ID))
	}
	pending := session(in.CreateSession(request, state.SessionParams{UserID: bob.ID, Pending: true, Actor: json.RawMessage(`{"sub":"user_x"}`)}))
	session(in.ActivateSession(request, pending.ID))
	session(in.TouchSession(request, pending.ID, &acme.ID))
	invitations(t, in)
	billing(t, in, ada, acme)
	user(in.BanUser(request, bob.ID))
	user(in.DeleteUser(request, ada.ID))
	gone := org(in.CreateOrganization(request, state.OrganizationParams{Name: "Gone", CreatedBy: bob.ID}))
	org(in.DeleteOrganization(request, gone.ID))
}

func members(t testing.TB, in *state.Instance, acme *state.Organization, ada, bob *state.User) {
	t.Helper()
	invite := must[*state.OrganizationInvitation](t)
	accepted := invite(in.CreateOrganizationInvitation(request, state.OrganizationInvitationParams{
		OrganizationID: acme.ID, EmailAddress: "bob@acme.example", Role: "org:member", InviterUserID: ada.ID,
	}))
	if _, _, err := in.AcceptOrganizationInvitation(request, accepted.ID, bob.ID); err != nil {
		t.Fatal(err)
	}
	revoked := invite(in.CreateOrganizationInvitation(request, state.OrganizationInvitationParams{
		OrganizationID: acme.ID, EmailAddress: "eve@acme.example", Role: "org:member",
	}))
	invite(in.RevokeOrganizationInvitation(request, revoked.ID))
	member := must[*state.OrganizationMembership](t)
	member(in.UpdateMembershipRole(request, acme.ID, bob.ID, "org:admin"))
	member(in.DeleteMembership(request, acme.ID, bob.ID))
	member(in.CreateMembership(request, state.MembershipParams{OrganizationID: acme.ID, UserID: bob.ID, Role: "org:member"}))
	domain := must[*state.OrganizationDomain](t)
	verified := true
	d := domain(in.CreateDomain(request, state.DomainParams{OrganizationID: acme.ID, Name: "acme.example"}))
	domain(in.UpdateDomain(request, d.ID, state.DomainUpdate{Verified: &verified}))
	domain(in.DeleteDomain(request, d.ID))
	domain(in.CreateDomain(request, state.DomainParams{OrganizationID: acme.ID, Name: "acme.example", Verified: true}))
}

func roles(t testing.TB, in *state.Instance) {
	t.Helper()
	role, permission := must[*state.Role](t), must[*state.Permission](t)
	p := permission(in.CreatePermission(request, state.PermissionParams{Name: "Write posts", Key: "org:posts:write"}))
	name := "Write all posts"
	permission(in.UpdatePermission(request, p.ID, state.PermissionUpdate{Name: &name}))
	r := role(in.CreateRole(request, state.RoleParams{Name: "Writer", Key: "org:writer", Permissions: []string{"org:posts:write"}}))
	role(in.RemoveRolePermission(request, r.ID, p.ID))
	role(in.AddRolePermission(request, r.ID, p.ID))
	permission(in.DeletePermission(request, p.ID))
	role(in.DeleteRole(request, r.ID))
}

func invitations(t testing.TB, in *state.Instance) {
	t.Helper()
	invite, entry := must[*state.Invitation](t), must[*state.WaitlistEntry](t)
	i := invite(in.CreateInvitation(request, state.InvitationParams{EmailAddress: "new@acme.example"}))
	if _, _, err := in.AcceptInvitation(request, i.ID, state.UserParams{FirstName: "New"}); err != nil {
		t.Fatal(err)
	}
	i = invite(in.CreateInvitation(request, state.InvitationParams{EmailAddress: "never@acme.example"}))
	invite(in.RevokeInvitation(request, i.ID))
	w := entry(in.JoinWaitlist(request, "wait@acme.example"))
	entry(in.InviteWaitlistEntry(request, w.ID))
	entry(in.CompleteWaitlistEntry(request, w.ID))
}

func billing(t testing.TB, in *state.Instance, ada *state.User, acme *state.Organization) {
	t.Helper()
	sub, item, payment := must[*state.Subscription](t), must[*state.SubscriptionItem](t), must[*state.PaymentAttempt](t)
	sub(in.CreateSubscription(request, state.SubscriptionParams{UserID: ada.ID, Plan: "pro_user"}))
	s := sub(in.CreateSubscription(request, state.SubscriptionParams{OrganizationID: acme.ID, Plan: "team_org", FreeTrial: true, Annual: true}))
	i := item(in.AddSubscriptionItem(request, state.ItemParams{SubscriptionID: s.ID, Plan: "enterprise_org"}))
	for _, status := range []string{"active", "past_due", "canceled", "incomplete", "upcoming"} {
		item(in.UpdateSubscriptionItemStatus(request, i.ID, status))
	}
	for _, status := range []string{"ended", "abandoned", "expired"} {
		over := item(in.AddSubscriptionItem(request, state.ItemParams{SubscriptionID: s.ID, Plan: "enterprise_org"}))
		item(in.UpdateSubscriptionItemStatus(request, over.ID, status))
		if _, err := in.UpdateSubscriptionItemStatus(request, over.ID, "active"); err == nil {
			t.Errorf("an item that is %s is active again", status)
		}
	}
	item(in.UpdateSubscriptionItemSeats(request, i.ID, 7))
	item(in.AnnounceFreeTrialEnding(request, i.ID))
	for _, code := range []string{"", "card_declined"} {
		p := payment(in.CreatePaymentAttempt(request, state.PaymentParams{SubscriptionID: s.ID}))
		payment(in.SettlePaymentAttempt(request, p.ID, code))
	}
	for _, status := range []string{"past_due", "active", "canceled"} {
		sub(in.UpdateSubscriptionStatus(request, s.ID, status))
	}
}

func record(in *state.Instance) *[]state.Event {
	events := &[]state.Event{}
	in.OnEvent(func(e state.Event) { *events = append(*events, e) })
	return events
}

// TestEveryEventType compares with the list of all known types (testdata/types.txt).
func TestEveryEventType(t *testing.T) {
	t.Parallel()
	_, in := newInstance(t, 7)
	events := record(in)
	all(t, in)
	emitted := map[string]bool{}
	for _, e := range *events {
		emitted[e.Type] = true
	}
	known, err := os.ReadFile("testdata/types.txt")
	if err != nil {
		t.Fatal(err)
	}
	for kind := range strings.Lines(string(known)) {
		kind = strings.TrimSpace(kind)
		if !emitted[kind] {
			t.Errorf("%s: nothing emits it", kind)
		}
		delete(emitted, kind)
	}
	for kind := range emitted {
		t.Errorf("%s: Clerk has no such event", kind)
	}
}

// TestEventsHaveTheExamplesFields compares the names of all fields, down into
// objects and arrays, with Clerk's official examples in testdata/examples.
func TestEventsHaveTheExamplesFields(t *testing.T) {
	t.Parallel()
	_, in := newInstance(t, 7)
	events := record(in)
	all(t, in)
	files, err := filepath.Glob("testdata/examples/*.json")
	if err != nil || len(files) != 45 {
		t.Fatalf("%d examples, %v", len(files), err)
	}
	for _, file := range files {
		kind := strings.TrimSuffix(filepath.Base(file), ".json")
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var example any
		if err := json.Unmarshal(text, &example); err != nil {
			t.Fatal(err)
		}
		missing := []string{"none was emitted"}
		for _, e := range *events {
			if e.Type != kind {
				continue
			}
			var ours any
			if err := json.Unmarshal(e.Body, &ours); err != nil {
				t.Fatal(err)
			}
			if m := lacks("", example, ours); missing == nil || len(m) < len(missing) || missing[0] == "none was emitted" {
				missing = m
			}
		}
		if len(missing) > 0 {
			t.Errorf("%s: %s", kind, strings.Join(missing, ", "))
		}
	}
}

// lacks lists the fields of the example that ours has not, and those that are
// of another type. Metadata are the application's; null matches anything.
func lacks(path string, example, ours any) (missing []string) {
	if example == nil || ours == nil || strings.HasSuffix(path, "_metadata") {
		return nil
	}
	switch want := example.(type) {
	case map[string]any:
		have, ok := ours.(map[string]any)
		if !ok {
			return []string{path + " is no object"}
		}
		for name, value := range want {
			if _, ok := have[name]; !ok {
				missing = append(missing, path+"."+name)
				continue
			}
			missing = append(missing, lacks(path+"."+name, value, have[name])...)
		}
	case []any:
		have, ok := ours.([]any)
		if !ok {
			return []string{path + " is no array"}
		}
		if len(want) > 0 && len(have) > 0 {
			return lacks(path+"[]", want[0], have[0])
		}
	case string:
		if _, ok := ours.(string); !ok {
			return []string{path + " is no string"}
		}
	case float64:
		if _, ok := ours.(float64); !ok {
			return []string{path + " is no number"}
		}
	case bool:
		if _, ok := ours.(bool); !ok {
			return []string{path + " is no boolean"}
		}
	}
	slices.Sort(missing)
	return missing
}

func TestEventsAreInOrder(t *testing.T) {
	t.Parallel()
	_, in := newInstance(t, 7)
	events := record(in)
	all(t, in)
	last, seen := int64(0), map[int64]string{}
	for _, e := range *events {
		var body struct {
			Object     string `json:"object"`
			Type       string `json:"type"`
			Timestamp  int64  `json:"timestamp"`
			InstanceID string `json:"instance_id"`
			Data       struct {
				ID        string `json:"id"`
				UpdatedAt int64  `json:"updated_at"`
			} `json:"data"`
			Attributes struct {
				HTTPRequest map[string]string `json:"http_request"`
			} `json:"event_attributes"`
		}
		if err := json.Unmarshal(e.Body, &body); err != nil {
			t.Fatal(err)
		}
		if body.Timestamp <= last || body.Timestamp != e.At || body.Timestamp <= body.Data.UpdatedAt {
			t.Errorf("%s at %d after %d, updated at %d", e.Type, body.Timestamp, last, body.Data.UpdatedAt)
		}
		last = body.Timestamp
		if body.Object != "event" || body.Type != e.Type || body.InstanceID != in.ID || body.Data.ID != e.EntityID {
			t.Errorf("%s of %s: the envelope says %+v", e.Type, e.EntityID, body)
		}
		want := map[string]string{"client_ip": request.ClientIP, "user_agent": request.UserAgent}
		if diff := cmp.Diff(want, body.Attributes.HTTPRequest); diff != "" {
			t.Errorf("%s: %s", e.Type, diff)
		}
		if at := body.Data.UpdatedAt; at != 0 && e.Type != "organizationMembership.deleted" {
			if other, ok := seen[at]; ok {
				t.Errorf("%s and %s share updated_at %d", other, e.Type, at)
			}
			seen[at] = e.Type
		}
	}
}

func TestKeepUpdatedAt(t *testing.T) {
	t.Parallel()
	_, in := newInstance(t, 7)
	u := must[*state.User](t)(in.CreateUser(request, state.UserParams{FirstName: "Ada"}))
	events := record(in)
	name := "Augusta"
	v := must[*state.User](t)(in.UpdateUser(state.Request{KeepUpdatedAt: true}, u.ID, state.UserUpdate{FirstName: &name}))
	w := must[*state.User](t)(in.UpdateUser(state.Request{KeepUpdatedAt: true}, u.ID, state.UserUpdate{LastName: &name}))
	if v.UpdatedAt != u.UpdatedAt || w.UpdatedAt != u.UpdatedAt || w.Name() != "Augusta Augusta" {
		t.Errorf("updated at %d, then %d and %d: %s", u.UpdatedAt, v.UpdatedAt, w.UpdatedAt, w.Name())
	}
	if e := *events; len(e) != 2 || e[1].At <= e[0].At {
		t.Errorf("the timestamps do not advance: %v", e)
	}
}
