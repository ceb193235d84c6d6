package state_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/rollcall-dev/rollcall/internal/emulator/state"
)

// replica is what a naive reader makes of the events: the last one of an entity
// wins, a deletion is final and takes children along.
type replica map[string]map[string]any // by id: the data

// decode keeps numbers as they are written.
func decode(t *rapid.T, text []byte) (object map[string]any) {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	if err := dec.Decode(&object); err != nil {
		t.Fatal(err)
	}
	return object
}

func (r replica) apply(t *rapid.T, e state.Event) {
	data, _ := decode(t, e.Body)["data"].(map[string]any)
	if !strings.HasSuffix(e.Type, ".deleted") {
		r[e.EntityID] = data
		return
	}
	delete(r, e.EntityID)
	for id, data := range r {
		org, _ := data["organization"].(map[string]any)
		user, _ := data["public_user_data"].(map[string]any)
		for _, parent := range []any{data["user_id"], data["organization_id"], org["id"], user["user_id"]} {
			_, invitation := data["inviter_id"] // names who accepted it, and stays
			if parent == e.EntityID && !(invitation && strings.HasPrefix(e.EntityID, "user_")) {
				delete(r, id)
			}
		}
	}
}

// derived are fields that change without an event of the entity itself, or that
// only one of event and Backend API has.
var derived = map[string]bool{
	"object": true, "members_count": true, "pending_invitations_count": true, "last_active_at": true, "user": true,
	"last_active_organization_id": true, "organization": true, "public_user_data": true, "permissions": true, "role_name": true,
	"public_inviter_data": true, "public_organization_data": true, "data": true, "user_id": true, "invitation": true,
}

func comparable(data map[string]any) map[string]any {
	kept := map[string]any{}
	for name, value := range data {
		if !derived[name] {
			kept[name] = value
		}
	}
	return kept
}

// truth is the state as the Backend API renders it.
func truth(t *rapid.T, in *state.Instance) replica {
	all := replica{}
	add := func(list any) {
		for i := range reflect.ValueOf(list).Len() {
			text, err := json.Marshal(in.View(reflect.ValueOf(list).Index(i).Interface()))
			if err != nil {
				t.Fatal(err)
			}
			data := decode(t, text)
			all[data["id"].(string)] = data
		}
	}
	for _, list := range []any{
		in.Users(), in.Organizations(), in.Memberships(), in.OrganizationInvitations(), in.Domains(), in.Roles(),
		in.Permissions(), in.Sessions(), in.Invitations(), in.WaitlistEntries(),
	} {
		add(list)
	}
	return all
}

// world is one random history.
type world struct {
	*state.Instance
	state  *state.State
	events replica
	emails map[string]bool // ever used
	n      int
}

func newWorld(t *rapid.T) *world {
	s := state.New(state.Options{Seed: rapid.Uint64().Draw(t, "seed"), Now: fixedClock})
	w := &world{state: s, emails: map[string]bool{}}
	w.Instance = s.AddInstance(state.InstanceOptions{EmitCascade: rapid.Bool().Draw(t, "emit cascade")})
	w.Seed(state.SeedOptions{Users: 5, Organizations: 2, Memberships: 5})
	w.events = truth(t, w.Instance)
	w.OnEvent(func(e state.Event) { w.events.apply(t, e) })
	return w
}

// pick is one of a list, the zero T if it is empty.
func pick[T any](t *rapid.T, list []T) (one T) {
	if len(list) > 0 {
		one = list[rapid.IntRange(0, len(list)-1).Draw(t, "which")]
	}
	return one
}

func (w *world) email(t *rapid.T) string {
	address := fmt.Sprintf("p%d@example.com", rapid.IntRange(0, 12).Draw(t, "address"))
	w.emails[address] = true
	return address
}

func (w *world) userID(t *rapid.T) string {
	if u := pick(t, w.Users()); u != nil {
		return u.ID
	}
	return "user_none"
}

func (w *world) orgID(t *rapid.T) string {
	if o := pick(t, w.Organizations()); o != nil {
		return o.ID
	}
	return "org_none"
}

// allowed fails on anything but a refusal of Clerk's.
func allowed(t *rapid.T, err error) {
	if refusal, ok := err.(*state.Error); err != nil && (!ok || refusal.Status < 400 || refusal.Code == "") {
		t.Fatalf("no refusal of Clerk's: %v", err)
	}
}

func (w *world) actions() map[string]func(*rapid.T) {
	req := state.Request{ClientIP: "203.0.113.7"}
	user := func(do func(t *rapid.T, id string) error) func(*rapid.T) {
		return func(t *rapid.T) { allowed(t, do(t, w.userID(t))) }
	}
	member := func(do func(t *rapid.T, orgID, userID string) error) func(*rapid.T) {
		return func(t *rapid.T) {
			if m := pick(t, w.Memberships()); m != nil {
				allowed(t, do(t, m.OrganizationID, m.UserID))
			}
		}
	}
	role := func(t *rapid.T) string { return pick(t, []string{"org:admin", "org:member", "org:nobody"}) }
	return map[string]func(*rapid.T){
		"create user": func(t *rapid.T) {
			w.n++
			_, err := w.CreateUser(req, state.UserParams{FirstName: "P", ExternalID: fmt.Sprint(w.n), EmailAddresses: []string{w.email(t)}})
			allowed(t, err)
		},
		"merge metadata": user(func(t *rapid.T, id string) error {
			patch := pick(t, []string{`{"a":1}`, `{"a":{"b":"\ud83d"}}`, `{"a":null}`, `{"a":{"b":null,"c":9007199254740993}}`, `[]`})
			_, err := w.MergeUserMetadata(req, id, state.MetadataPatch{Public: json.RawMessage(patch)})
			return err
		}),
		"ban":         user(func(_ *rapid.T, id string) error { _, err := w.BanUser(req, id); return err }),
		"unban":       user(func(_ *rapid.T, id string) error { _, err := w.UnbanUser(req, id); return err }),
		"delete user": user(func(_ *rapid.T, id string) error { _, err := w.DeleteUser(req, id); return err }),
		"add email":   user(func(t *rapid.T, id string) error { _, _, err := w.AddEmail(req, id, w.email(t), true); return err }),
		"remove email": user(func(t *rapid.T, id string) error {
			if u := w.User(id); u != nil && len(u.EmailAddresses) > 0 {
				_, err := w.RemoveEmail(req, id, pick(t, u.EmailAddresses).ID)
				return err
			}
			return nil
		}),
		"link": user(func(t *rapid.T, id string) error {
			_, err := w.LinkExternalAccount(req, id, state.ExternalAccountParams{Provider: "oauth_google", EmailAddress: w.email(t)})
			return err
		}),
		"sign in": user(func(t *rapid.T, id string) error {
			_, err := w.CreateSession(req, state.SessionParams{UserID: id})
			return err
		}),
		"sign out": func(t *rapid.T) {
			if s := pick(t, w.Sessions()); s != nil {
				_, err := w.EndSession(req, s.ID)
				allowed(t, err)
			}
		},
		"touch": func(t *rapid.T) {
			if s := pick(t, w.Sessions()); s != nil {
				_, err := w.TouchSession(req, s.ID, nil)
				allowed(t, err)
			}
		},
		"create organization": user(func(_ *rapid.T, id string) error {
			_, err := w.CreateOrganization(req, state.OrganizationParams{Name: "O", CreatedBy: id})
			return err
		}),
		"delete organization": func(t *rapid.T) { _, err := w.DeleteOrganization(req, w.orgID(t)); allowed(t, err) },
		"join": user(func(t *rapid.T, id string) error {
			_, err := w.CreateMembership(req, state.MembershipParams{OrganizationID: w.orgID(t), UserID: id, Role: role(t)})
			return err
		}),
		"change role": member(func(t *rapid.T, orgID, userID string) error {
			_, err := w.UpdateMembershipRole(req, orgID, userID, role(t))
			return err
		}),
		"leave": member(func(_ *rapid.T, orgID, userID string) error {
			_, err := w.DeleteMembership(req, orgID, userID)
			return err
		}),
		"invite": func(t *rapid.T) {
			_, err := w.CreateOrganizationInvitation(req, state.OrganizationInvitationParams{
				OrganizationID: w.orgID(t), EmailAddress: w.email(t), Role: role(t), InviterUserID: w.userID(t),
			})
			allowed(t, err)
		},
		"answer invitation": func(t *rapid.T) {
			i := pick(t, w.OrganizationInvitations())
			if i == nil {
				return
			}
			_, err := w.RevokeOrganizationInvitation(req, i.ID)
			if rapid.Bool().Draw(t, "accept") {
				_, _, err = w.AcceptOrganizationInvitation(req, i.ID, w.userID(t))
			}
			allowed(t, err)
		},
		"add domain": func(t *rapid.T) {
			_, err := w.CreateDomain(req, state.DomainParams{OrganizationID: w.orgID(t), Name: "a.example"})
			allowed(t, err)
		},
		"waitlist": func(t *rapid.T) {
			entry, err := w.JoinWaitlist(req, w.email(t))
			allowed(t, err)
			_, err = w.InviteWaitlistEntry(req, entry.ID)
			allowed(t, err)
		},
		"permission": func(t *rapid.T) {
			p, err := w.CreatePermission(req, state.PermissionParams{Name: "P", Key: pick(t, []string{"org:a:b", "org:a:c"})})
			if allowed(t, err); err != nil {
				return
			}
			_, err = w.AddRolePermission(req, w.RoleByKey("org:member").ID, p.ID)
			allowed(t, err)
			if rapid.Bool().Draw(t, "delete") {
				_, err = w.DeletePermission(req, p.ID)
				allowed(t, err)
			}
		},
		"": w.check,
	}
}

// check runs after every action.
func (w *world) check(t *rapid.T) {
	for address := range w.emails {
		if u := w.UserByEmail(address); u != nil && !has(u, address) {
			t.Fatalf("%s leads to %s, who has it not", address, u.ID)
		}
	}
	for _, u := range w.Users() {
		for _, e := range u.EmailAddresses {
			if w.UserByEmail(e.EmailAddress) != u {
				t.Fatalf("%s does not lead to %s", e.EmailAddress, u.ID)
			}
		}
		if (len(u.EmailAddresses) > 0) != (u.Email() != nil) {
			t.Fatalf("%s has addresses and no primary one: %+v", u.ID, u)
		}
	}
	for _, m := range w.Memberships() {
		if w.User(m.UserID) == nil || w.Organization(m.OrganizationID) == nil || w.Membership(m.OrganizationID, m.UserID) != m {
			t.Fatalf("%+v has no user, no organization, or is not found", m)
		}
	}
	for _, o := range w.Organizations() {
		pending := 0
		for _, i := range w.InvitationsOfOrganization(o.ID) {
			if i.Status == state.StatusPending {
				pending++
			}
		}
		if int(o.MembersCount) != len(w.MembershipsOfOrganization(o.ID)) || int(o.PendingInvitationsCount) != pending {
			t.Fatalf("%s counts %d members and %d invitations", o.ID, o.MembersCount, o.PendingInvitationsCount)
		}
	}
}

func has(u *state.User, address string) bool {
	for _, e := range u.EmailAddresses {
		if strings.EqualFold(e.EmailAddress, address) {
			return true
		}
	}
	return false
}

func TestAnyHistory(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		t.Repeat(w.actions())
		want := truth(t, w.Instance)
		for id := range w.events {
			if want[id] == nil && !strings.HasPrefix(id, "ema_") {
				t.Fatalf("%s is known from events and not there", id)
			}
		}
		for id, data := range want {
			if diff := cmp.Diff(comparable(data), comparable(w.events[id])); diff != "" {
				t.Fatalf("%s: the state and its last event differ (-state +event):\n%s", id, diff)
			}
		}
		var b strings.Builder
		if err := w.state.Save(&b); err != nil {
			t.Fatal(err)
		}
		again, err := state.Load(strings.NewReader(b.String()), state.Options{Now: fixedClock})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, truth(t, again.Instances()[0])); diff != "" {
			t.Fatalf("saved and loaded (-before +after):\n%s", diff)
		}
	})
}
