package backendapi_test

import (
	"encoding/json"
	"errors"
	"slices"
	"testing"

	"github.com/clerk/clerk-sdk-go/v2"
	"github.com/clerk/clerk-sdk-go/v2/invitation"
	"github.com/clerk/clerk-sdk-go/v2/jwks"
	"github.com/clerk/clerk-sdk-go/v2/organization"
	"github.com/clerk/clerk-sdk-go/v2/organizationinvitation"
	"github.com/clerk/clerk-sdk-go/v2/organizationmembership"
	"github.com/clerk/clerk-sdk-go/v2/session"
	"github.com/clerk/clerk-sdk-go/v2/user"
)

// sdk is the configuration of Clerk's own library for Go, unchanged but for the
// address.
func sdk(f *fixture) *clerk.ClientConfig {
	c := &clerk.ClientConfig{}
	c.URL, c.Key = &f.url, &f.in.SecretKey
	c.HTTPClient = f.client
	return c
}

func raw(s string) *json.RawMessage {
	r := json.RawMessage(s)
	return &r
}

// wantCode checks the code that the library found in an error.
func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	var api *clerk.APIErrorResponse
	if !errors.As(err, &api) || len(api.Errors) == 0 || api.Errors[0].Code != code || api.TraceID == "" {
		t.Errorf("%v, want the code %s", err, code)
	}
}

func TestGoSDKUsers(t *testing.T) {
	t.Parallel()
	f, ctx := start(t), t.Context()
	users := user.NewClient(sdk(f))
	var made []string
	for _, name := range []string{"ann", "bob", "cid"} {
		u, err := users.Create(ctx, &user.CreateParams{
			EmailAddresses: &[]string{name + "@example.com"}, FirstName: clerk.String(name), Username: clerk.String(name + "_1"),
			PublicMetadata: raw(`{"deep":{"a":1}}`), Password: clerk.String("correct horse"),
		})
		if err != nil {
			t.Fatal(err)
		}
		made = append([]string{u.ID}, made...)
	}
	_, err := users.Create(ctx, &user.CreateParams{EmailAddresses: &[]string{"ann@example.com"}})
	wantCode(t, err, "form_identifier_exists")

	var paged []string
	for {
		p := &user.ListParams{}
		p.Limit, p.Offset = clerk.Int64(2), clerk.Int64(int64(len(paged)))
		l, err := users.List(ctx, p)
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range l.Users {
			paged = append(paged, u.ID)
		}
		if len(l.Users) < 2 {
			break
		}
	}
	if !slices.Equal(paged, made) {
		t.Errorf("paged %q, want %q", paged, made)
	}
	if n, err := users.Count(ctx, &user.ListParams{EmailAddresses: []string{"ann@example.com", "bob@example.com"}}); err != nil || n.TotalCount != 2 {
		t.Errorf("count: %+v, %v", n, err)
	}
	bob := made[1]
	if u, err := users.Update(ctx, bob, &user.UpdateParams{LastName: clerk.String("Ant")}); err != nil || *u.LastName != "Ant" {
		t.Errorf("update: %+v, %v", u, err)
	}
	u, err := users.ReplaceMetadata(ctx, bob, &user.ReplaceMetadataParams{PrivateMetadata: raw(`{"k":1}`)})
	if err != nil || string(u.PrivateMetadata) != `{"k":1}` || string(u.PublicMetadata) != `{"deep":{"a":1}}` {
		t.Errorf("replace: %+v, %v", u, err)
	}
	u, err = users.UpdateMetadata(ctx, bob, &user.UpdateMetadataParams{PublicMetadata: raw(`{"deep":{"b":2}}`)})
	if err != nil || string(u.PublicMetadata) != `{"deep":{"a":1,"b":2}}` {
		t.Errorf("merge: %s, %v", u.PublicMetadata, err)
	}
	for what, change := range map[string]func() (*clerk.User, error){
		"ban": func() (*clerk.User, error) { return users.Ban(ctx, bob) }, "lock": func() (*clerk.User, error) { return users.Lock(ctx, bob) },
	} {
		if u, err := change(); err != nil || !u.Banned && !u.Locked {
			t.Errorf("%s: %+v, %v", what, u, err)
		}
	}
	if gone, err := users.Delete(ctx, bob); err != nil || !gone.Deleted || gone.ID != bob {
		t.Errorf("delete: %+v, %v", gone, err)
	}
	_, err = users.Get(ctx, bob)
	wantCode(t, err, "resource_not_found")
}

func TestGoSDKOrganizations(t *testing.T) {
	t.Parallel()
	f, ctx := start(t), t.Context()
	users, orgs := user.NewClient(sdk(f)), organization.NewClient(sdk(f))
	members, invites := organizationmembership.NewClient(sdk(f)), organizationinvitation.NewClient(sdk(f))
	ann := must(users.Create(ctx, &user.CreateParams{EmailAddresses: &[]string{"ann@example.com"}}))
	bob := must(users.Create(ctx, &user.CreateParams{EmailAddresses: &[]string{"bob@example.com"}}))

	acme := must(orgs.Create(ctx, &organization.CreateParams{Name: clerk.String("Acme"), Slug: clerk.String("acme"), CreatedBy: &ann.ID}))
	must(orgs.Create(ctx, &organization.CreateParams{Name: clerk.String("Beta")}))
	if o, err := orgs.Get(ctx, "acme"); err != nil || o.ID != acme.ID {
		t.Errorf("by slug: %+v, %v", o, err)
	}
	if l, err := orgs.List(ctx, &organization.ListParams{Query: clerk.String("ACM")}); err != nil || l.TotalCount != 1 || l.Organizations[0].ID != acme.ID {
		t.Errorf("list: %+v, %v", l, err)
	}
	if o, err := orgs.Update(ctx, acme.ID, &organization.UpdateParams{Name: clerk.String("Acme Ltd")}); err != nil || o.Name != "Acme Ltd" {
		t.Errorf("update: %+v, %v", o, err)
	}
	if o, err := orgs.UpdateMetadata(ctx, acme.ID, &organization.UpdateMetadataParams{PublicMetadata: raw(`{"p":1}`)}); err != nil || string(o.PublicMetadata) != `{"p":1}` {
		t.Errorf("merge: %+v, %v", o, err)
	}

	m := must(members.Create(ctx, &organizationmembership.CreateParams{OrganizationID: acme.ID, UserID: &bob.ID, Role: clerk.String("org:member")}))
	if m.Organization.ID != acme.ID || m.PublicUserData.UserID != bob.ID {
		t.Errorf("membership: %+v", m)
	}
	if l, err := members.List(ctx, &organizationmembership.ListParams{OrganizationID: acme.ID, Roles: []string{"org:member"}}); err != nil || l.TotalCount != 1 {
		t.Errorf("memberships: %+v, %v", l, err)
	}
	if m, err := members.Update(ctx, &organizationmembership.UpdateParams{OrganizationID: acme.ID, UserID: bob.ID, Role: clerk.String("org:admin")}); err != nil || m.Role != "org:admin" {
		t.Errorf("role: %+v, %v", m, err)
	}
	if l, err := users.ListOrganizationMemberships(ctx, bob.ID, &user.ListOrganizationMembershipsParams{}); err != nil || l.TotalCount != 1 {
		t.Errorf("of the user: %+v, %v", l, err)
	}
	if m, err := members.Delete(ctx, &organizationmembership.DeleteParams{OrganizationID: acme.ID, UserID: bob.ID}); err != nil || m.ID == "" {
		t.Errorf("leave: %+v, %v", m, err)
	}

	i := must(invites.Create(ctx, &organizationinvitation.CreateParams{
		OrganizationID: acme.ID, EmailAddress: clerk.String("bob@example.com"), Role: clerk.String("org:member"), InviterUserID: &ann.ID,
	}))
	if l, err := invites.List(ctx, &organizationinvitation.ListParams{OrganizationID: acme.ID}); err != nil || l.TotalCount != 1 || l.OrganizationInvitations[0].ID != i.ID {
		t.Errorf("invitations: %+v, %v", l, err)
	}
	if i, err := invites.Revoke(ctx, &organizationinvitation.RevokeParams{OrganizationID: acme.ID, ID: i.ID}); err != nil || i.Status != "revoked" {
		t.Errorf("revoke: %+v, %v", i, err)
	}
	if gone, err := orgs.Delete(ctx, acme.ID); err != nil || !gone.Deleted {
		t.Errorf("delete: %+v, %v", gone, err)
	}
}

func TestGoSDKInvitationsAndSessions(t *testing.T) {
	t.Parallel()
	f, ctx := start(t), t.Context()
	invitations, sessions := invitation.NewClient(sdk(f)), session.NewClient(sdk(f))
	i := must(invitations.Create(ctx, &invitation.CreateParams{EmailAddress: "new@example.com", PublicMetadata: raw(`{"a":1}`)}))
	if l, err := invitations.List(ctx, &invitation.ListParams{}); err != nil || len(l.Invitations) != 1 {
		t.Errorf("list: %+v, %v", l, err)
	}
	if i, err := invitations.Revoke(ctx, i.ID); err != nil || i.Status != "revoked" {
		t.Errorf("revoke: %+v, %v", i, err)
	}
	_, err := invitations.Revoke(ctx, i.ID)
	wantCode(t, err, "invitation_already_revoked")

	u := must(user.NewClient(sdk(f)).Create(ctx, &user.CreateParams{Username: clerk.String("ann_1")}))
	s := must(sessions.Create(ctx, &session.CreateParams{UserID: u.ID}))
	if l, err := sessions.List(ctx, &session.ListParams{UserID: &u.ID}); err != nil || l.TotalCount != 1 || l.Sessions[0].ID != s.ID {
		t.Errorf("sessions: %+v, %v", l, err)
	}
	if s, err := sessions.Revoke(ctx, &session.RevokeParams{ID: s.ID}); err != nil || s.Status != "revoked" {
		t.Errorf("revoke: %+v, %v", s, err)
	}
	if keys, err := jwks.NewClient(sdk(f)).Get(ctx, &jwks.GetParams{}); err != nil || len(keys.Keys) != 1 {
		t.Errorf("jwks: %+v, %v", keys, err)
	}
}
