package backendapi

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/rollcall-dev/rollcall/internal/emulator/state"
)

// A userFilter is what the lists of users and of memberships can ask of a user.
type userFilter struct {
	ids, externalIDs, organizations    choice
	emails, phones, usernames, wallets choice
	query, emailQuery, phoneQuery      string
	usernameQuery, nameQuery           string
	banned, bannedGiven                bool
	created, lastActive, lastSignIn    span
	activeSince                        *int64
	provider                           string
	providerUsers                      choice
}

func readUserFilter(q *query) userFilter {
	f := userFilter{
		ids:           q.signed("user_id"),
		externalIDs:   q.signed("external_id"),
		organizations: q.signed("organization_id"),
		emails:        lowered(q.set("email_address")),
		phones:        q.set("phone_number"),
		usernames:     q.set("username"),
		wallets:       q.set("web3_wallet"),
		query:         strings.ToLower(q.text("query")),
		emailQuery:    strings.ToLower(q.text("email_address_query")),
		phoneQuery:    strings.ToLower(q.text("phone_number_query")),
		usernameQuery: strings.ToLower(q.text("username_query")),
		nameQuery:     strings.ToLower(q.text("name_query")),
		created:       q.span("created_at"),
		lastActive:    q.span("last_active_at"),
		lastSignIn:    q.span("last_sign_in_at"),
		activeSince:   q.millis("last_active_at_since"),
		provider:      q.text("provider"),
		providerUsers: q.set("provider_user_id"),
	}
	f.banned, f.bannedGiven = q.boolean("banned")
	if f.provider != "" && f.providerUsers.empty() {
		q.reject(formRequiredWith("provider_user_id", "provider"))
	}
	if f.provider == "" && !f.providerUsers.empty() {
		q.reject(formRequiredWith("provider", "provider_user_id"))
	}
	return f
}

func lowered(c choice) choice {
	into := choice{include: map[string]bool{}}
	for v := range c.include {
		into.include[strings.ToLower(v)] = true
	}
	return into
}

// from returns who is wanted among some users.
func (f *userFilter) from(in *state.Instance, users []*state.User) []*state.User {
	wanted, unwanted := members(in, f.organizations.include), members(in, f.organizations.exclude)
	return where(users, func(u *state.User) bool {
		return f.matches(u) && (wanted == nil || wanted[u.ID]) && !unwanted[u.ID]
	})
}

// members are the ids of who is in one of the organizations; nil if there are
// no organizations.
func members(in *state.Instance, organizations map[string]bool) map[string]bool {
	if len(organizations) == 0 {
		return nil
	}
	ids := map[string]bool{}
	for org := range organizations {
		for _, m := range in.MembershipsOfOrganization(org) {
			ids[m.UserID] = true
		}
	}
	return ids
}

// candidates are the users that an index leaves for the filter, in order of
// creation: all of them if there is no such index.
func (f *userFilter) candidates(in *state.Instance) []*state.User {
	found := map[*state.User]bool{}
	lookUp := func(keys map[string]bool, get func(string) *state.User) {
		for key := range keys {
			if u := get(key); u != nil {
				found[u] = true
			}
		}
	}
	switch {
	case len(f.ids.include) > 0:
		lookUp(f.ids.include, in.User)
	case len(f.externalIDs.include) > 0:
		lookUp(f.externalIDs.include, in.UserByExternalID)
	case len(f.emails.include) > 0:
		lookUp(f.emails.include, in.UserByEmail)
	case len(f.phones.include) > 0:
		lookUp(f.phones.include, in.UserByPhone)
	case len(f.usernames.include) > 0:
		lookUp(f.usernames.include, in.UserByUsername)
	case len(f.organizations.include) > 0:
		lookUp(members(in, f.organizations.include), in.User)
	default:
		return in.Users()
	}
	return slices.SortedFunc(maps.Keys(found), byCreation)
}

func byCreation(a, b *state.User) int {
	return cmp.Or(cmp.Compare(a.CreatedAt, b.CreatedAt), cmp.Compare(a.ID, b.ID))
}

// matches reports whether a user is wanted, organizations aside.
func (f *userFilter) matches(u *state.User) bool {
	return f.matchesIdentifiers(u) && f.matchesQueries(u) && f.matchesTimes(u) &&
		(!f.bannedGiven || u.Banned == f.banned) &&
		(f.provider == "" || f.hasAccount(u))
}

func (f *userFilter) matchesIdentifiers(u *state.User) bool {
	return (f.ids.empty() || f.ids.allows(u.ID)) &&
		(f.externalIDs.empty() || f.externalIDs.allows(string(u.ExternalID))) &&
		(f.usernames.empty() || f.usernames.allows(string(u.Username))) &&
		(f.emails.empty() || slices.ContainsFunc(u.EmailAddresses, func(e state.EmailAddress) bool {
			return f.emails.include[strings.ToLower(e.EmailAddress)]
		})) &&
		(f.phones.empty() || slices.ContainsFunc(u.PhoneNumbers, func(p state.PhoneNumber) bool {
			return f.phones.include[p.PhoneNumber]
		})) &&
		f.wallets.empty() // no user has a wallet
}

func (f *userFilter) matchesQueries(u *state.User) bool {
	return (f.query == "" || f.matchesQuery(u)) &&
		(f.emailQuery == "" || hasEmail(u, f.emailQuery)) &&
		(f.phoneQuery == "" || hasPhone(u, f.phoneQuery)) &&
		(f.usernameQuery == "" || contains(string(u.Username), f.usernameQuery)) &&
		(f.nameQuery == "" || contains(u.Name(), f.nameQuery))
}

func (f *userFilter) matchesQuery(u *state.User) bool {
	return hasEmail(u, f.query) || hasPhone(u, f.query) || contains(string(u.Username), f.query) ||
		contains(u.ID, f.query) || contains(u.Name(), f.query)
}

func (f *userFilter) matchesTimes(u *state.User) bool {
	return f.created.holds(u.CreatedAt) && f.lastActive.holds(int64(u.LastActiveAt)) &&
		f.lastSignIn.holds(int64(u.LastSignInAt)) &&
		(f.activeSince == nil || int64(u.LastActiveAt) >= *f.activeSince)
}

func (f *userFilter) hasAccount(u *state.User) bool {
	return slices.ContainsFunc(u.ExternalAccounts, func(a state.ExternalAccount) bool {
		return a.Provider == f.provider && f.providerUsers.include[a.ProviderUserID]
	})
}

func hasEmail(u *state.User, part string) bool {
	return slices.ContainsFunc(u.EmailAddresses, func(e state.EmailAddress) bool { return contains(e.EmailAddress, part) })
}

func hasPhone(u *state.User, part string) bool {
	return slices.ContainsFunc(u.PhoneNumbers, func(p state.PhoneNumber) bool { return contains(p.PhoneNumber, part) })
}

// userOrders are the fields that users can be ordered by.
var userOrders = orders[*state.User]{
	"created_at":      nil,
	"updated_at":      func(v *state.User) sortKey { return sortKey{number: v.UpdatedAt} },
	"last_active_at":  func(v *state.User) sortKey { return sortKey{number: int64(v.LastActiveAt)} },
	"last_sign_in_at": func(v *state.User) sortKey { return sortKey{number: int64(v.LastSignInAt)} },
	"email_address":   func(v *state.User) sortKey { return sortKey{text: primaryEmail(v)} },
	"phone_number":    func(v *state.User) sortKey { return sortKey{text: primaryPhone(v)} },
	"username":        func(v *state.User) sortKey { return sortKey{text: string(v.Username)} },
	"first_name":      func(v *state.User) sortKey { return sortKey{text: string(v.FirstName)} },
	"last_name":       func(v *state.User) sortKey { return sortKey{text: string(v.LastName)} },
	"web3wallet":      nil, // no user has one
}

func primaryEmail(u *state.User) string {
	if e := u.Email(); e != nil {
		return e.EmailAddress
	}
	return ""
}

func primaryPhone(u *state.User) string {
	if p := u.Phone(); p != nil {
		return p.PhoneNumber
	}
	return ""
}
