package state

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/brianvoe/gofakeit/v7"
)

// Seeded resources are of the years before this date, whatever the clock says,
// so that a seed makes the same values on any day.
func seedSpan() (start, half, end int64) {
	at := func(year int) int64 { return time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli() }
	return at(2022), at(2025), at(2026)
}

// seedRoles makes the roles and permissions that every instance of Clerk has.
func (in *Instance) seedRoles() {
	start, _, _ := seedSpan()
	in.builtIn = map[string]bool{}
	permission := func(name, key, kind string) string {
		p := &Permission{
			ID: in.newID("perm_"), Name: name, Key: key, Description: name, Type: kind, CreatedAt: start, UpdatedAt: start,
		}
		in.permissions.put(p)
		in.builtIn[p.ID] = true
		return p.ID
	}
	admin := []string{
		permission("Manage organization", "org:sys_profile:manage", "system"),
		permission("Delete organization", "org:sys_profile:delete", "system"),
		permission("Read members", "org:sys_memberships:read", "system"),
		permission("Manage members", "org:sys_memberships:manage", "system"),
		permission("Read domains", "org:sys_domains:read", "system"),
		permission("Manage domains", "org:sys_domains:manage", "system"),
		permission("Read billing", "org:sys_billing:read", "system"),
		permission("Manage billing", "org:sys_billing:manage", "system"),
		permission("Read invoices", "org:invoices:read", "custom"),
		permission("Manage invoices", "org:invoices:manage", "custom"),
	}
	role := func(name, key, description string, creator bool, permissions ...string) {
		id := in.newID("role_")
		in.builtIn[id] = true
		in.roles.put(&Role{
			ID: id, Name: name, Key: key, Description: OptString(description), IsCreatorEligible: creator,
			Permissions: permissions, CreatedAt: start, UpdatedAt: start,
		})
	}
	role("Admin", "org:admin", "Role with elevated permissions", true, admin...)
	role("Member", "org:member", "Role with non-privileged permissions", false, admin[2], admin[6], admin[8])
}

// SeedOptions say how much to make. Memberships count those of the
// organizations' creators; there are never more than one of a user in an
// organization.
type SeedOptions struct {
	Users         int
	Organizations int
	Memberships   int
}

// Seed fills the instance without events: people of many scripts, with and
// without names, e-mail addresses, accounts and metadata. The same seed and
// options make the same.
func (in *Instance) Seed(o SeedOptions) {
	in.mu.Lock()
	defer in.mu.Unlock()
	_, _, end := seedSpan()
	s := &seeder{Instance: in, fake: gofakeit.NewFaker(in.chacha, false), pool: metadataPool(), foreign: foreignNames()}
	users := s.users(o.Users)
	orgs := s.organizations(o.Organizations, users)
	s.memberships(o.Memberships-len(orgs), users, orgs)
	s.sessions(users)
	s.waiting(o.Users / 100)
	s.billing(users, orgs)
	in.lastTick = max(in.lastTick, end)
}

type seeder struct {
	*Instance
	fake    *gofakeit.Faker
	pool    []Metadata
	foreign [][2]string
}

// one says yes once in n times.
func (s *seeder) one(n int) bool { return s.rng.IntN(n) == 0 }

// after is the i-th of n ascending times in a span.
func (s *seeder) after(from, to int64, i, n int) int64 {
	step := (to - from) / int64(max(n, 1))
	return from + step*int64(i) + s.rng.Int64N(max(step, 1))
}

func (s *seeder) users(n int) []*User {
	start, half, _ := seedSpan()
	users := make([]*User, n)
	for i := range users {
		u := s.user(i, s.after(start, half, i, n))
		s.storeUser(nil, u)
		users[i] = u
	}
	return users
}

func (s *seeder) user(i int, at int64) *User {
	_, half, end := seedSpan()
	u := &User{
		ID: s.newID("user_"), CreatedAt: at, UpdatedAt: at, DeleteSelfEnabled: true, CreateOrganizationEnabled: !s.one(50),
		PasswordEnabled: !s.one(3), Banned: s.one(200), Locked: s.one(300),
	}
	first, last := s.fake.FirstName(), s.fake.LastName()
	u.FirstName, u.LastName = OptString(first), OptString(last)
	if s.one(4) {
		name := s.foreign[s.rng.IntN(len(s.foreign))]
		u.FirstName, u.LastName = OptString(name[0]), OptString(name[1])
	}
	switch s.rng.IntN(25) {
	case 0:
		u.FirstName, u.LastName = "", ""
	case 1, 2:
		u.LastName = ""
	}
	if u.UpdatedAt = at; s.one(2) {
		u.UpdatedAt = half + s.rng.Int64N(end-half)
		u.LastSignInAt, u.LastActiveAt = OptInt(u.UpdatedAt), OptInt(u.UpdatedAt)
	}
	if u.PasswordEnabled {
		u.PasswordLastUpdatedAt = OptInt(at)
	}
	if s.one(10) {
		u.TOTPEnabled, u.TwoFactorEnabled, u.MFAEnabledAt = true, true, OptInt(u.UpdatedAt)
	}
	if s.one(3) {
		u.ImageID = u.ID
	}
	s.identify(u, i, strings.ToLower(first), strings.ToLower(last))
	s.describe(u, i)
	return u
}

// identify gives most users addresses, and some a name of their own.
func (s *seeder) identify(u *User, i int, first, last string) {
	number := strconv.FormatInt(int64(i), 36)
	domains := [...]string{"example.com", "example.org", "mail.example.net", "firma.example", "acme.example"}
	domain := domains[s.rng.IntN(len(domains))]
	if !s.one(30) {
		u.EmailAddresses = List[EmailAddress]{s.newEmail(first+"."+last+number+"@"+domain, true, u.CreatedAt)}
	}
	if s.one(10) {
		u.EmailAddresses = append(u.EmailAddresses, s.newEmail(number+"-"+first+"@second.example", !s.one(3), u.UpdatedAt))
	}
	if s.one(8) {
		u.PhoneNumbers = List[PhoneNumber]{s.newPhone("+1555"+digits(uint64(i), 7), !s.one(4), u.CreatedAt)}
	}
	u.fixPrimaries()
	if s.one(4) {
		u.Username = OptString(first + "_" + number + "x")
	}
	if s.one(5) {
		u.ExternalID = OptString("ext-" + strconv.Itoa(i))
	}
	email := u.Email()
	switch {
	case email == nil:
	case s.one(30):
		a := s.newEnterpriseAccount(EnterpriseAccountParams{
			Provider: "saml_okta", EmailAddress: email.EmailAddress, FirstName: string(u.FirstName), LastName: string(u.LastName),
			ConnectionID: "entconn_" + domain,
		}, u.CreatedAt)
		u.EnterpriseAccounts = List[EnterpriseAccount]{a}
	case s.one(6):
		s.social(u, email)
	}
}

func (s *seeder) social(u *User, email *EmailAddress) {
	provider := [...]string{"oauth_google", "oauth_github", "oauth_microsoft"}[s.rng.IntN(3)]
	a := ExternalAccount{
		ID: s.newID("eac_"), Provider: provider, IdentificationID: s.newID("idn_"), ProviderUserID: "1" + digits(s.rng.Uint64(), 20),
		ApprovedScopes: "email openid profile", EmailAddress: email.EmailAddress, FirstName: string(u.FirstName), LastName: string(u.LastName),
		CreatedAt: u.CreatedAt, UpdatedAt: u.CreatedAt,
		Verification: &Verification{Object: "verification_oauth", Status: "verified", Strategy: provider, ExpireAt: OptInt(u.CreatedAt + 600_000)},
	}
	u.ExternalAccounts = List[ExternalAccount]{a}
	email.LinkedTo = List[IdentificationLink]{{Type: provider, ID: a.IdentificationID}}
	email.Verification = s.shared(Verification{Object: "verification_from_oauth", Status: "verified", Strategy: "from_" + provider})
}

// describe gives some users a language and metadata.
func (s *seeder) describe(u *User, i int) {
	if s.one(3) {
		u.Locale = OptString([...]string{"en-US", "de-DE", "ja-JP", "ar-EG", "pt-BR"}[s.rng.IntN(5)])
	}
	switch {
	case s.one(4):
		u.PublicMetadata = s.pool[s.rng.IntN(len(s.pool))]
	case s.one(8):
		u.PublicMetadata = Metadata(fmt.Sprintf(`{"department":"d%d","seat":%d,"tags":["a","b"]}`, s.rng.IntN(40), i))
	}
	if s.one(10) {
		u.PrivateMetadata = Metadata(fmt.Sprintf(`{"stripe_id":"cus_%s"}`, digits(s.rng.Uint64(), 14)))
	}
	if s.one(12) {
		u.UnsafeMetadata = s.pool[s.rng.IntN(len(s.pool))]
	}
}

func (s *seeder) organizations(n int, users []*User) []*Organization {
	start, half, _ := seedSpan()
	if len(users) == 0 {
		return nil
	}
	orgs := make([]*Organization, n)
	for i := range orgs {
		at := s.after(start, half, i, n)
		creator := users[s.rng.IntN(1+i*len(users)/n)] // who was there by then
		o := &Organization{
			ID: s.newID("org_"), Name: s.fake.Company(), CreatedBy: creator.ID, AdminDeleteEnabled: !s.one(20),
			CreatedAt: max(at, creator.CreatedAt), UpdatedAt: max(at, creator.CreatedAt),
		}
		if s.one(5) {
			o.Name = s.foreign[s.rng.IntN(len(s.foreign))][1] + " " + strconv.Itoa(i)
		}
		o.Slug = s.newSlug(o.Name)
		if s.one(3) {
			o.PublicMetadata = s.pool[s.rng.IntN(len(s.pool))]
		}
		s.storeOrganization(nil, o)
		s.member(o, creator, "org:admin", o.CreatedAt)
		s.equip(o, creator)
		orgs[i] = o
	}
	return orgs
}

// member makes a membership; the organization is the seeder's own still, so its
// count may be changed in place.
func (s *seeder) member(o *Organization, u *User, role string, at int64) {
	o.MembersCount++
	m := &OrganizationMembership{ID: s.newID("orgmem_"), OrganizationID: o.ID, UserID: u.ID, Role: role, CreatedAt: at, UpdatedAt: at}
	if s.one(20) {
		m.PublicMetadata = s.pool[s.rng.IntN(len(s.pool))]
	}
	s.addMembership(m)
}

// equip gives some organizations a domain and someone invited.
func (s *seeder) equip(o *Organization, creator *User) {
	if s.one(10) {
		s.addDomain(&OrganizationDomain{
			ID: s.newID("orgdmn_"), OrganizationID: o.ID, Name: o.Slug + ".example", EnrollmentMode: "automatic_invitation",
			Verification: verifiedDomain(o.CreatedAt), CreatedAt: o.CreatedAt, UpdatedAt: o.CreatedAt,
		})
	}
	if s.one(5) {
		i := &OrganizationInvitation{
			ID: s.newID("orginv_"), OrganizationID: o.ID, EmailAddress: "invited@" + o.Slug + ".example", Role: "org:member",
			InviterID: OptString(creator.ID), Status: StatusPending, ExpiresAt: expiry(o.CreatedAt, 0), CreatedAt: o.CreatedAt, UpdatedAt: o.CreatedAt,
		}
		i.URL = OptString(s.ticketURL("", i.ID))
		o.PendingInvitationsCount++
		s.addOrgInvite(i)
	}
}

// memberships makes n further memberships, more of them in the older organizations.
func (s *seeder) memberships(n int, users []*User, orgs []*Organization) {
	_, half, end := seedSpan()
	if len(users) == 0 || len(orgs) == 0 {
		return
	}
	n = min(n, len(users)*len(orgs)-len(orgs))
	for i := range max(n, 0) {
		u, o := s.rng.IntN(len(users)), int(s.rng.Float64()*s.rng.Float64()*float64(len(orgs)))
		for s.membership(orgs[o].ID, users[u].ID) != nil { // the next pair that is free
			if u = (u + 1) % len(users); u == 0 {
				o = (o + 1) % len(orgs)
			}
		}
		role := "org:member"
		if s.one(10) {
			role = "org:admin"
		}
		s.member(orgs[o], users[u], role, s.after(half, end, i, n))
	}
}

// sessions signs some in who may.
func (s *seeder) sessions(users []*User) {
	_, half, end := seedSpan()
	n := len(users) / 20
	for i := range n {
		u := users[s.rng.IntN(len(users))]
		if u.Banned || u.Locked {
			continue
		}
		at := s.after(half, end, i, n)
		session := &Session{
			ID: s.newID("sess_"), UserID: u.ID, ClientID: s.newID("client_"), Status: SessionActive, LastActiveAt: at,
			ExpireAt: at + sessionDays*dayMillis, AbandonAt: at + abandonDays*dayMillis, CreatedAt: at, UpdatedAt: at,
		}
		if s.one(3) {
			session.Status = SessionEnded
		}
		s.addSession(session)
	}
}

func (s *seeder) waiting(n int) {
	_, half, end := seedSpan()
	for i := range n {
		at := s.after(half, end, i, n)
		w := &WaitlistEntry{
			ID: s.newID("wle_"), EmailAddress: "waiting" + strconv.Itoa(i) + "@example.com", Status: StatusPending, CreatedAt: at, UpdatedAt: at,
		}
		if s.one(3) {
			inv := &Invitation{
				ID: s.newID("inv_"), EmailAddress: w.EmailAddress, Status: StatusPending, ExpiresAt: expiry(at, 0), CreatedAt: at, UpdatedAt: at,
			}
			inv.URL = s.ticketURL("", inv.ID)
			s.storeInvitation(inv)
			w.Status, w.InvitationID = StatusInvited, inv.ID
		}
		s.storeWaitlistEntry(w)
	}
}

func (s *seeder) billing(users []*User, orgs []*Organization) {
	_, _, end := seedSpan()
	subscribe := func(p Payer, slug string) {
		plan := s.plan(slug)
		p.ID, p.CreatedAt, p.UpdatedAt = s.newID("cpayer_"), end, end
		sub := &Subscription{
			ID: s.newID("csub_"), Status: BillingActive, Payer: p, PaymentSourceID: OptString(s.newID("cps_")),
			ActiveAt: OptInt(end), CreatedAt: end, UpdatedAt: end,
		}
		s.addSubscription(sub)
		s.addItem(&SubscriptionItem{
			ID: s.newID("csub_item_"), SubscriptionID: sub.ID, PlanID: plan.ID, PlanPeriod: "month", Status: BillingActive,
			Seats: OptInt(plan.Seats), PeriodStart: end, PeriodEnd: OptInt(end + 30*dayMillis), CreatedAt: end, UpdatedAt: end,
		})
	}
	for i := 0; i < len(users); i += 100 {
		plan := "pro_user"
		if i%300 == 0 {
			plan = "free_user"
		}
		subscribe(Payer{UserID: users[i].ID}, plan)
	}
	for i := 0; i < len(orgs); i += 10 {
		subscribe(Payer{OrganizationID: orgs[i].ID}, "team_org")
	}
}

// metadataPool is metadata of shapes that have broken readers before: numbers
// beyond 2^53, a NUL, a lone surrogate, deep and large ones. Users share it.
func metadataPool() []Metadata {
	return []Metadata{
		`{"plan":"pro"}`, `{"plan":"free","beta":true}`, `{"role":"engineer","level":3,"remote":null}`,
		`{"ratio":0.1,"big":9007199254740993}`, `{"nested":{"a":{"b":{"c":[1,[2,[3]]]}}}}`,
		`{"text":"a\u0000b"}`, `{"text":"\ud83d"}`, `{"emoji":"👩‍👩‍👧‍👦","rtl":"مرحبا","html":"<b>&</b>"}`,
		`{"":"empty key","a.b":1,"a b":2}`, `{"list":[],"object":{},"no":false}`,
		Metadata(`{"blob":"` + strings.Repeat("x", 4000) + `"}`),
	}
}

// foreignNames are first and last names of scripts that gofakeit has not, with
// combining marks, joiners, right-to-left text, quotes and very long ones.
func foreignNames() [][2]string {
	return [][2]string{
		{"太郎", "山田"}, {"さくら", "佐藤"}, {"伟", "王"}, {"秀英", "李"}, {"민준", "김"}, {"서연", "이"},
		{"Дмитрий", "Иванов"}, {"Олена", "Шевченко"}, {"Γιώργος", "Παπαδόπουλος"}, {"محمد", "العلي"}, {"نور", "حسين"},
		{"דוד", "כהן"}, {"आरव", "शर्मा"}, {"প্রিয়া", "দাস"}, {"สมชาย", "ใจดี"}, {"გიორგი", "ბერიძე"}, {"Հայկ", "Պետրոսյան"},
		{"Zoë", "O'Brien"}, {"Nguyễn", "Thị Minh Khai"}, {"José\u0301", "Nu\u0303n\u0303ez"}, {"Søren", "Ångström"},
		{"İpek", "Yıldız"}, {"Łukasz", "Żółć"}, {"👩‍💻 Ada", "🚀"}, {"Sami\u200f", "\u202bעברית\u202c"}, {"D\"Arcy", "\\Back<slash>&"},
		{"Null", "Undefined"}, {"X", "Æ A-12"}, {"Wolfeschlegelsteinhausenbergerdorff", "Blaine Charles David Earl Frederick Gerald"},
	}
}
