package backendapi_test

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	diff "github.com/google/go-cmp/cmp"

	"github.com/rollcall-dev/rollcall/internal/emulator/backendapi"
	"github.com/rollcall-dev/rollcall/internal/emulator/state"
)

// A town is a small instance whose ids are known by names.
type town struct {
	*fixture
	ids   map[string]string // by name
	names map[string]string // by id
}

func newTown(t *testing.T) *town {
	w := &town{fixture: start(t), ids: map[string]string{}, names: map[string]string{}}
	w.addUsers()
	w.addOrganizations()
	w.addRest()
	return w
}

func (w *town) name(name, id string) {
	w.ids[name], w.names[id] = id, name
}

func day(n int) int64 { return ms(time.Date(2024, 1, n, 0, 0, 0, 0, time.UTC)) }

func (w *town) addUsers() {
	req := state.Request{}
	for _, p := range []state.UserParams{
		{FirstName: "Ann", LastName: "Ångström", EmailAddresses: []string{"ANN@acme.example"}, Username: "ann_1", ExternalID: "x1", CreatedAt: day(1)},
		{FirstName: "Bob", LastName: "Ant", EmailAddresses: []string{"bob@acme.example", "bob@home.example"}, PhoneNumbers: []string{"+15555550101"}, CreatedAt: day(2)},
		{FirstName: "Cid", EmailAddresses: []string{"cid@other.example"}, ExternalID: "x3", Banned: true, CreatedAt: day(3)},
		{FirstName: "Dee", Username: "dee_4", PhoneNumbers: []string{"+15555550202"}, CreatedAt: day(4)},
	} {
		w.name(strings.ToLower(p.FirstName), must(w.in.CreateUser(req, p)).ID)
	}
	must(w.in.LinkExternalAccount(req, w.ids["cid"], state.ExternalAccountParams{
		Provider: "oauth_google", ProviderUserID: "g-1", EmailAddress: "cid@gmail.example",
	}))
	s := must(w.in.CreateSession(req, state.SessionParams{UserID: w.ids["ann"], ClientID: "client_1"}))
	w.name("s1", s.ID)
	must(w.in.RevokeSession(req, s.ID))
	w.name("s2", must(w.in.CreateSession(req, state.SessionParams{UserID: w.ids["ann"]})).ID)
}

func (w *town) addOrganizations() {
	req := state.Request{}
	for i, p := range []state.OrganizationParams{
		{Name: "Acme", Slug: "acme", CreatedBy: w.ids["ann"], CreatedAt: day(1)},
		{Name: "Beta Acme", Slug: "beta", CreatedBy: w.ids["bob"], CreatedAt: day(2)},
		{Name: "Gamma", Slug: "gamma", CreatedAt: day(3)},
	} {
		name := []string{"acme", "beta", "gamma"}[i]
		w.name(name, must(w.in.CreateOrganization(req, p)).ID)
	}
	for _, m := range [][2]string{{"acme", "bob"}, {"acme", "cid"}} {
		must(w.in.CreateMembership(req, state.MembershipParams{OrganizationID: w.ids[m[0]], UserID: w.ids[m[1]], Role: "org:member"}))
	}
	for _, m := range w.in.Memberships() {
		w.name(w.names[m.OrganizationID]+"/"+w.names[m.UserID], m.ID)
	}
	invite := func(name, org, address string) *state.OrganizationInvitation {
		i := must(w.in.CreateOrganizationInvitation(req, state.OrganizationInvitationParams{
			OrganizationID: w.ids[org], EmailAddress: address, Role: "org:member",
		}))
		w.name(name, i.ID)
		return i
	}
	invite("oi1", "acme", "new@acme.example")
	must(w.in.RevokeOrganizationInvitation(req, invite("oi2", "acme", "gone@acme.example").ID))
	invite("oi3", "beta", "cid@other.example")
	for _, d := range []state.DomainParams{
		{OrganizationID: w.ids["acme"], Name: "acme.example", Verified: true},
		{OrganizationID: w.ids["acme"], Name: "acme.test", EnrollmentMode: "automatic_invitation"},
		{OrganizationID: w.ids["beta"], Name: "beta.example", EnrollmentMode: "automatic_suggestion", Verified: true},
	} {
		w.name(d.Name, must(w.in.CreateDomain(req, d)).ID)
	}
}

func (w *town) addRest() {
	req := state.Request{}
	for i, address := range []string{"i1@acme.example", "i2@other.example"} {
		w.name(fmt.Sprintf("i%d", i+1), must(w.in.CreateInvitation(req, state.InvitationParams{EmailAddress: address})).ID)
	}
	must(w.in.RevokeInvitation(req, w.ids["i2"]))
	for i, address := range []string{"w1@acme.example", "w2@other.example"} {
		w.name(fmt.Sprintf("w%d", i+1), must(w.in.JoinWaitlist(req, address)).ID)
	}
	must(w.in.RejectWaitlistEntry(req, w.ids["w2"]))
	for _, r := range w.in.Roles() {
		w.name(r.Key, r.ID)
	}
	w.name("org:cook:read", must(w.in.CreatePermission(req, state.PermissionParams{Name: "Look", Key: "org:cook:read"})).ID)
	for name, p := range map[string]state.SubscriptionParams{
		"free":  {UserID: w.ids["bob"], Plan: freePlan(w.in)},
		"paid":  {UserID: w.ids["ann"], Plan: planFor(w.in, false)},
		"trial": {OrganizationID: w.ids["acme"], Plan: planFor(w.in, true), FreeTrial: true},
	} {
		s := must(w.in.CreateSubscription(req, p))
		for _, i := range w.in.SubscriptionItems() {
			if i.SubscriptionID == s.ID {
				w.name(name, i.ID)
				w.ids[name+" plan"] = i.PlanID
			}
		}
	}
}

func freePlan(in *state.Instance) string {
	for _, p := range in.Plans() {
		if !p.ForOrgs && p.Amount == 0 {
			return p.Slug
		}
	}
	panic("no free plan")
}

// find does a list and answers the names in it, sorted.
func (w *town) find(path string) string {
	w.Helper()
	found, total := ids(w.fixture, path)
	if total != len(found) {
		w.Errorf("%s: total_count %d of %d", path, total, len(found))
	}
	for i, id := range found {
		found[i] = cmp.Or(w.names[id], id)
	}
	slices.Sort(found)
	return strings.Join(found, " ")
}

// userFilters hold for the users of the town, in lists and counts.
var userFilters = []struct{ query, want string }{
	{"", "ann bob cid dee"},
	{"user_id=$ann&user_id=$bob", "ann bob"},
	{"user_id[]=$ann&user_id[]=$bob", "ann bob"},
	{"user_id=%2B$ann", "ann"},
	{"user_id=+$ann", "ann"},
	{"user_id=-$ann&user_id=-$bob", "cid dee"},
	{"user_id=user_gone", ""},
	{"external_id=x1&external_id=nope", "ann"},
	{"external_id=-x1", "bob cid dee"},
	{"email_address=Ann@ACME.example&email_address=bob@home.example", "ann bob"},
	{"phone_number=%2B15555550101", "bob"},
	{"username=dee_4", "dee"},
	{"web3_wallet=0x0", ""},
	{"organization_id=$acme", "ann bob cid"},
	{"organization_id=-$acme", "dee"},
	{"organization_id=$acme&organization_id=-$beta", "ann cid"},
	{"query=ACME", "ann bob"},
	{"query=ångström", "ann"},
	{"query=5555550202", "dee"},
	{"query=bob+ant", "bob"},
	{"query=nobody", ""},
	{"email_address_query=HOME", "bob"},
	{"phone_number_query=0101", "bob"},
	{"username_query=ANN", "ann"},
	{"name_query=an", "ann bob"},
	{"banned=true", "cid"},
	{"banned=false&name_query=n", "ann bob"},
	{"created_at_before=1704153600000", "ann"},
	{"created_at_after=1704153600000", "cid dee"},
	{"created_at_after=1704067200000&created_at_before=1704240000000", "bob"},
	{"last_active_at_after=1", "ann"},
	{"last_active_at_before=1", ""},
	{"last_active_at_since=1", "ann"},
	{"last_sign_in_at_after=1", "ann"},
	{"last_sign_in_at_before=9999999999999", "ann"},
	{"provider=oauth_google&provider_user_id=g-1", "cid"},
	{"provider=oauth_github&provider_user_id=g-1", ""},
}

// otherFilters are those of the other lists.
var otherFilters = []struct{ op, query, want string }{
	{"/organizations", "", "acme beta gamma"},
	{"/organizations", "query=acme", "acme beta"},
	{"/organizations", "query=$gamma", "gamma"},
	{"/organizations", "user_id=$bob", "acme beta"},
	{"/organizations", "user_id=-$bob", "gamma"},
	{"/organizations", "organization_id=$acme&organization_id=$beta", "acme beta"},
	{"/organizations", "organization_id=-$acme", "beta gamma"},
	{"/organizations", "include_members_count=true&include_missing_member_with_elevated_permissions=true&query=gam", "gamma"},
	{"/organizations/{acme}", "include_members_count=true&include_missing_member_with_elevated_permissions=true", ""},
	{"/organization_memberships", "", "acme/ann acme/bob acme/cid beta/bob"},
	{"/users/{bob}/organization_memberships", "", "acme/bob beta/bob"},
	{"/organizations/{acme}/memberships", "", "acme/ann acme/bob acme/cid"},
	{"/organizations/{acme}/memberships", "user_id=-$ann", "acme/bob acme/cid"},
	{"/organizations/{acme}/memberships", "email_address=bob@acme.example", "acme/bob"},
	{"/organizations/{acme}/memberships", "phone_number=%2B15555550101", "acme/bob"},
	{"/organizations/{acme}/memberships", "username=ann_1", "acme/ann"},
	{"/organizations/{acme}/memberships", "web3_wallet=0x0", ""},
	{"/organizations/{acme}/memberships", "role=org:member", "acme/bob acme/cid"},
	{"/organizations/{acme}/memberships", "query=cid", "acme/cid"},
	{"/organizations/{acme}/memberships", "email_address_query=home", "acme/bob"},
	{"/organizations/{acme}/memberships", "phone_number_query=0101", "acme/bob"},
	{"/organizations/{acme}/memberships", "username_query=ann", "acme/ann"},
	{"/organizations/{acme}/memberships", "name_query=ant", "acme/bob"},
	{"/organizations/{acme}/memberships", "last_active_at_after=1", "acme/ann"},
	{"/organizations/{acme}/memberships", "last_active_at_before=1", ""},
	{"/organizations/{acme}/memberships", "created_at_after=1704240000000", "acme/ann acme/bob acme/cid"},
	{"/organizations/{acme}/memberships", "created_at_before=1704240000000", ""},
	{"/organization_invitations", "", "oi1 oi2 oi3"},
	{"/organization_invitations", "status=revoked", "oi2"},
	{"/organization_invitations", "status=revoked&query=new", ""},
	{"/organizations/{acme}/invitations", "", "oi1 oi2"},
	{"/organizations/{acme}/invitations", "status=pending&status=revoked", "oi1 oi2"},
	{"/organizations/{acme}/invitations", "email_address=NEW@acme.example", "oi1"},
	{"/organizations/{acme}/invitations/pending", "", "oi1"},
	{"/users/{cid}/organization_invitations", "status=pending", "oi3"},
	{"/users/{cid}/organization_invitations", "status=accepted", ""},
	{"/organization_domains", "", "acme.example acme.test beta.example"},
	{"/organization_domains", "organization_id=$beta", "beta.example"},
	{"/organization_domains", "verified=false", "acme.test"},
	{"/organization_domains", "enrollment_mode=manual_invitation,automatic_invitation", "acme.example acme.test"},
	{"/organization_domains", "enrollment_mode=-manual_invitation", "acme.test beta.example"},
	{"/organization_domains", "query=EXAMPLE", "acme.example beta.example"},
	{"/organization_domains", "query=$beta", "beta.example"},
	{"/organization_domains", "domains=acme.test&domains=beta.example", "acme.test beta.example"},
	{"/organizations/{acme}/domains", "verified=true", "acme.example"},
	{"/organizations/{acme}/domains", "enrollment_mode=-manual_invitation", "acme.test"},
	{"/organization_roles", "query=adm", "org:admin"},
	{"/organization_permissions", "query=$org:cook:read", "org:cook:read"},
	{"/organization_permissions", "query=look", "org:cook:read"},
	{"/role_sets", "query=nope", ""},
	{"/sessions", "user_id=$ann", "s1 s2"},
	{"/sessions", "client_id=client_1", "s1"},
	{"/sessions", "user_id=$ann&status=active", "s2"},
	{"/sessions", "user_id=$ann&paginated=true", "s1 s2"},
	{"/invitations", "", "i1"},
	{"/invitations", "status=revoked", "i2"},
	{"/invitations", "query=other", ""},
	{"/invitations", "query=ACME&paginated=true", "i1"},
	{"/waitlist_entries", "", "w1 w2"},
	{"/waitlist_entries", "status=rejected", "w2"},
	{"/waitlist_entries", "query=acme", "w1"},
	{"/billing/subscription_items", "", "paid trial"},
	{"/billing/subscription_items", "include_free=true", "free paid trial"},
	{"/billing/subscription_items", "paginated=true&query=$paid", "paid"},
	{"/billing/subscription_items", "status=free_trial", "trial"},
	{"/billing/subscription_items", "payer_type=user", "paid"},
	{"/billing/subscription_items", "plan_id=$trial plan", "trial"},
	{"/enterprise_connections", "organization_id=$acme&active=true", ""},
}

func TestFilters(t *testing.T) {
	t.Parallel()
	w := newTown(t)
	fill := func(s string) string {
		// The longest first: $ann is no part of $anna.
		names := slices.SortedFunc(maps.Keys(w.ids), func(a, b string) int { return cmp.Compare(len(b), len(a)) })
		for _, name := range names {
			s = strings.ReplaceAll(s, "$"+name, w.ids[name])
			s = strings.ReplaceAll(s, "{"+name+"}", w.ids[name])
		}
		return s
	}
	for _, c := range userFilters {
		if got := w.find("/users?limit=500&" + fill(c.query)); got != c.want {
			t.Errorf("/users?%s: %q, want %q", c.query, got, c.want)
		}
		count := get[struct {
			TotalCount int `json:"total_count"`
		}](w.fixture, "/users/count?"+fill(c.query)).TotalCount
		if count != len(strings.Fields(c.want)) {
			t.Errorf("/users/count?%s: %d, want %q", c.query, count, c.want)
		}
	}
	for _, c := range otherFilters {
		if c.op == "/organizations/{acme}" {
			continue // no list; its parameters change nothing
		}
		if got := w.find(fill(c.op) + "?" + fill(c.query)); got != c.want {
			t.Errorf("%s?%s: %q, want %q", c.op, c.query, got, c.want)
		}
	}
}

// Every parameter that Clerk documents for a list is in the tables above.
func TestFiltersAreAllOfThem(t *testing.T) {
	t.Parallel()
	tested := map[string]bool{}
	note := func(op, query string) {
		for name := range must(url.ParseQuery(query)) {
			tested[op+" "+strings.TrimSuffix(name, "[]")] = true
		}
	}
	for _, c := range userFilters {
		note("/users", c.query)
		note("/users/count", c.query)
	}
	pattern := strings.NewReplacer("{acme}", "{organization_id}", "{bob}", "{user_id}", "{cid}", "{user_id}")
	for _, c := range otherFilters {
		note(pattern.Replace(c.op), c.query)
	}
	elsewhere := []string{"limit", "offset", "order_by", "starting_after", "end_now"}
	for _, op := range backendapi.Operations() {
		path, ok := strings.CutPrefix(op, "GET ")
		if !ok {
			continue
		}
		for _, p := range specification().Paths.Value(path).Get.Parameters {
			if p.Value.In == "query" && !slices.Contains(elsewhere, p.Value.Name) && !tested[path+" "+p.Value.Name] {
				t.Errorf("no test filters %s by %s", path, p.Value.Name)
			}
		}
	}
}

// Counts that cost Clerk something are there for who asks for them.
func TestCountsOnRequest(t *testing.T) {
	t.Parallel()
	w := newTown(t)
	for path, want := range map[string]bool{
		"/organizations/acme": false, "/organizations/acme?include_members_count=true": true, "/organizations/acme?include_members_count=false": false,
	} {
		org := get[map[string]any](w.fixture, path)
		if n, has := org["members_count"]; has != want || has && n != 3. {
			t.Errorf("%s: members_count %v", path, n)
		}
	}
}

func TestPages(t *testing.T) {
	t.Parallel()
	f := start(t)
	var want []string // newest first
	for i := range 25 {
		u := must(f.in.CreateUser(state.Request{}, state.UserParams{EmailAddresses: []string{fmt.Sprintf("u%02d@example.com", i)}}))
		want = append(want, u.ID)
	}
	slices.Reverse(want)
	for query, size := range map[string]int{
		"": 10, "limit=3": 3, "limit=500": 25, "limit=501": 10, "limit=0": 10, "offset=20": 5, "offset=25": 0, "limit=20&offset=10": 15,
	} {
		if got, _ := ids(f, "/users?"+query); len(got) != size {
			t.Errorf("/users?%s: %d users, want %d", query, len(got), size)
		}
	}
	for _, step := range []string{"offset", "starting_after"} {
		for _, sign := range []string{"-", "%2B", "+", ""} {
			var got []string
			for {
				query := "?limit=7&order_by=" + sign + "created_at"
				switch {
				case step == "offset":
					query += fmt.Sprint("&offset=", len(got))
				case len(got) > 0:
					query += "&starting_after=" + got[len(got)-1]
				}
				page, _ := ids(f, "/users"+query)
				got = append(got, page...)
				if len(page) < 7 {
					break
				}
			}
			if sign != "-" {
				slices.Reverse(got)
			}
			if d := diff.Diff(want, got); d != "" {
				t.Errorf("%s by %screated_at (-want +got):\n%s", step, sign, d)
			}
		}
	}
}

func TestOrders(t *testing.T) {
	t.Parallel()
	w := newTown(t)
	// The users who differ in the field, ascending; the others come before.
	for field, want := range map[string]string{
		"created_at": "ann bob cid dee", "first_name": "ann bob cid dee", "last_name": "bob ann",
		"email_address": "ann bob cid", "phone_number": "bob dee", "username": "ann dee",
		"updated_at": "bob dee cid ann", "last_active_at": "ann", "last_sign_in_at": "ann",
	} {
		up, _ := ids(w.fixture, "/users?order_by="+field)
		down, _ := ids(w.fixture, "/users?order_by=-"+field)
		slices.Reverse(down)
		if !slices.Equal(up, down) {
			t.Errorf("by %s: down isn't up reversed", field)
		}
		var names []string
		for _, id := range up {
			if name := w.names[id]; slices.Contains(strings.Fields(want), name) {
				names = append(names, name)
			}
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("by %s: %s, want %s", field, got, want)
		}
		if last := w.names[up[3]]; !strings.HasSuffix(want, last) {
			t.Errorf("by %s: %s comes last", field, last)
		}
	}
	for query, want := range map[string]string{
		"/organizations?order_by=-members_count":                                "acme beta gamma",
		"/organizations?order_by=name":                                          "acme beta gamma",
		"/organization_domains?order_by=-name":                                  "beta.example acme.test acme.example",
		"/organizations/" + w.ids["acme"] + "/memberships?order_by=-first_name": "acme/cid acme/bob acme/ann",
		"/organization_memberships?order_by=created_at&limit=2":                 "acme/ann beta/bob",
		"/organization_roles?order_by=-key":                                     "org:member org:admin",
		"/organization_invitations?order_by=email_address":                      "oi3 oi2 oi1",
		"/waitlist_entries?order_by=-email_address":                             "w2 w1",
	} {
		found, _ := ids(w.fixture, query)
		for i, id := range found {
			found[i] = w.names[id]
		}
		if got := strings.Join(found, " "); got != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
	// What the specification lists as a field is taken, all else isn't.
	for path, fields := range map[string]string{
		"/users":                    "created_at updated_at email_address web3wallet first_name last_name phone_number username last_active_at last_sign_in_at",
		"/organization_memberships": "phone_number email_address created_at first_name last_name username",
		"/invitations":              "created_at email_address expires_at",
		"/waitlist_entries":         "created_at email_address invited_at",
		"/organization_permissions": "created_at name key",
		"/role_sets":                "created_at name key",
	} {
		for _, field := range strings.Fields(fields) {
			ids(w.fixture, path+"?order_by=-"+field)
		}
		if a := w.do("GET", path+"?order_by=private_metadata", ""); a.StatusCode != http.StatusUnprocessableEntity {
			t.Errorf("%s by private_metadata: %d", path, a.StatusCode)
		}
	}
}
