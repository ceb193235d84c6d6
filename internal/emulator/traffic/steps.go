package traffic

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/rollcall-dev/rollcall/internal/emulator/state"
)

// A kind of change, by the name that Mix has for it.
type kind = string

// Mix is how often each kind of change is made, relative to the others.
type Mix map[string]int

// kinds are the kinds in the order of DefaultMix.
func kinds() []kind {
	var all []kind
	for _, w := range defaultWeights() {
		all = append(all, w.kind)
	}
	return all
}

// DefaultMix is that of an application in everyday use, and the names of all
// kinds.
func DefaultMix() Mix {
	m := Mix{}
	for _, w := range defaultWeights() {
		m[w.kind] = w.weight
	}
	return m
}

type weight struct {
	kind   kind
	weight int
}

func defaultWeights() []weight {
	return []weight{
		{"sign_in", 200}, {"sign_out", 110}, {"revoke_session", 20}, {"remove_session", 20}, {"pending_sign_in", 10}, {"finish_sign_in", 10},
		{"profile", 130}, {"metadata", 100}, {"private_metadata", 20}, {"email_code", 50}, {"sms_code", 8}, {"add_email", 15},
		{"sign_up", 60}, {"delete_user", 20}, {"ban", 8}, {"lock", 8}, {"let_in", 14},
		{"social_account", 12}, {"enterprise_account", 10}, {"deprovision", 3},
		{"join", 50}, {"leave", 30}, {"rejoin", 15}, {"role", 30}, {"membership_metadata", 10},
		{"create_organization", 12}, {"rename_organization", 10}, {"organization_metadata", 8}, {"delete_organization", 4}, {"domain", 4},
		{"invite_member", 20}, {"accept_membership", 10}, {"revoke_membership", 6}, {"invite", 10}, {"accept", 5}, {"revoke", 3},
		{"join_waitlist", 8}, {"invite_from_waitlist", 5}, {"role_permissions", 1},
		{"subscribe", 6}, {"subscription_status", 6}, {"subscription_item", 8}, {"pay", 8}, {"settle_payment", 8},
	}
}

// fewest are the users, and the organizations, that are spared from deletion.
const fewest = 10

// errNothing is why a change wasn't made where there is none to make it to.
var errNothing = errors.New("traffic: nothing of that kind to change just now")

// allSteps are the changes by kind. Each is made to what is picked at random; what
// the state refuses (an address that is taken, the last admin) is not made.
func (t *Traffic) allSteps() map[kind]func() error {
	return map[kind]func() error{
		"sign_in": t.signIn, "pending_sign_in": t.pendingSignIn,
		"sign_out":       t.session(&t.live, t.in.EndSession),
		"revoke_session": t.session(&t.live, t.in.RevokeSession),
		"remove_session": t.session(&t.live, t.in.RemoveSession),
		"finish_sign_in": t.session(&t.waiting, t.in.ActivateSession),

		"profile": t.profile, "metadata": t.metadata, "private_metadata": t.privateMetadata, "add_email": t.addEmail,
		"email_code": t.user(func(req state.Request, u *state.User) error { return t.in.SendEmailCode(req, u.ID) }),
		"sms_code":   t.user(func(req state.Request, u *state.User) error { return t.in.SendSMSCode(req, u.ID) }),
		"sign_up":    t.signUp, "delete_user": t.deleteUser,
		"ban":    t.exclude(t.in.BanUser),
		"lock":   t.exclude(t.in.LockUser),
		"let_in": t.letIn,

		"social_account": t.socialAccount, "enterprise_account": t.enterpriseAccount, "deprovision": t.deprovision,

		"join": t.join, "leave": t.leave, "rejoin": t.rejoin, "role": t.changeRole, "membership_metadata": t.membershipMetadata,
		"create_organization": t.createOrganization, "rename_organization": t.renameOrganization,
		"organization_metadata": t.organizationMetadata, "delete_organization": t.deleteOrganization, "domain": t.domain,
		"invite_member": t.inviteMember, "accept_membership": t.acceptMembership, "revoke_membership": t.revokeMembership,
		"invite": t.invite, "accept": t.accept, "revoke": t.revoke,
		"join_waitlist": t.joinWaitlist, "invite_from_waitlist": t.inviteFromWaitlist, "role_permissions": t.rolePermissions,

		"subscribe": t.subscribe, "subscription_status": t.subscriptionStatus, "subscription_item": t.subscriptionItem,
		"pay": t.pay, "settle_payment": t.settlePayment,
	}
}

// one says yes once in n times.
func (t *Traffic) one(n int) bool { return t.rng.IntN(n) == 0 }

// object is a small JSON object.
func object(format string, args ...any) json.RawMessage {
	return json.RawMessage(fmt.Sprintf(format, args...))
}

func oneOf[T any](t *Traffic, of ...T) T { return of[t.rng.IntN(len(of))] }

// user is a change of any user.
func (t *Traffic) user(change func(state.Request, *state.User) error) func() error {
	return func() error {
		u := t.in.PickUser(t.rng)
		if u == nil {
			return errNothing
		}
		return change(t.request(), u)
	}
}

// Sessions.

func (t *Traffic) signIn() error {
	return t.user(func(req state.Request, u *state.User) error {
		p := state.SessionParams{UserID: u.ID}
		if of := t.in.MembershipsOfUser(u.ID); len(of) > 0 && !t.one(4) {
			p.ActiveOrganizationID = oneOf(t, of...).OrganizationID
		}
		s, err := t.in.CreateSession(req, p)
		if err == nil {
			t.live.add(t.rng, s.ID)
		}
		return err
	})()
}

func (t *Traffic) pendingSignIn() error {
	return t.user(func(req state.Request, u *state.User) error {
		s, err := t.in.CreateSession(req, state.SessionParams{UserID: u.ID, Pending: true})
		if err == nil {
			t.waiting.add(t.rng, s.ID)
		}
		return err
	})()
}

// session is a change of a session that is in from, which it leaves; an active
// one can be signed out of.
func (t *Traffic) session(from *recent[string], change func(state.Request, string) (*state.Session, error)) func() error {
	return func() error {
		id, ok := from.take(t.rng)
		if !ok {
			return errNothing
		}
		s, err := change(t.request(), id)
		if err == nil && s.Status == state.SessionActive {
			t.live.add(t.rng, s.ID)
		}
		return err
	}
}

// Users.

// signUp lets one in ten be somebody whose account was deleted.
func (t *Traffic) signUp() error {
	first, last := t.fake.FirstName(), t.fake.LastName()
	p := state.UserParams{FirstName: first, LastName: last, Unverified: t.one(8), Password: !t.one(3), TOTP: t.one(20)}
	if address, ok := "", false; t.one(10) {
		if address, ok = t.gone.take(t.rng); ok {
			p.EmailAddresses = []string{address}
		}
	}
	if p.EmailAddresses == nil && !t.one(40) {
		p.EmailAddresses = []string{t.address(first, last)}
	}
	if t.one(8) || p.EmailAddresses == nil {
		p.PhoneNumbers = []string{fmt.Sprintf("+1%d555%04d", 200+t.rng.IntN(700), t.rng.IntN(10000))}
	}
	if t.one(5) {
		p.Username = strings.ToLower(first) + "_" + t.suffix()
	}
	if t.one(4) {
		p.ExternalID = "ext-" + t.suffix()
	}
	if t.one(3) {
		p.UnsafeMetadata = object(`{"heard_of_us":%q,"newsletter":%t}`, oneOf(t, "friend", "search", "conference"), t.one(2))
	}
	if t.one(20) { // some have no name, or a name that isn't Latin
		p.FirstName, p.LastName = oneOf(t, "", "太郎", "Дмитрий", "محمد", "👩‍💻 Ada"), oneOf(t, "", "山田", "O'Brien", "Ångström")
	}
	_, err := t.in.CreateUser(t.request(), p)
	if err == nil {
		t.people++
	}
	return err
}

func (t *Traffic) address(first, last string) string {
	name := strings.ToLower(first + "." + last)
	return strings.ReplaceAll(name, " ", "") + "." + t.suffix() + "@" + oneOf(t, "example.com", "example.org", "mail.example.net")
}

func (t *Traffic) suffix() string { return strconv.FormatUint(t.rng.Uint64()>>24, 36) }

func (t *Traffic) profile() error {
	return t.user(func(req state.Request, u *state.User) error {
		var p state.UserUpdate
		switch text := ""; t.rng.IntN(6) {
		case 0:
			text = t.fake.LastName()
			p.LastName = &text
		case 1:
			text = oneOf(t, "en-US", "de-DE", "ja-JP", "ar-EG", "")
			p.Locale = &text
		case 2:
			text = "img_" + t.suffix()
			p.ImageID = &text
		case 3:
			text = "u" + t.suffix()
			p.Username = &text
		default:
			text = t.fake.FirstName()
			p.FirstName = &text
		}
		_, err := t.in.UpdateUser(req, u.ID, p)
		return err
	})()
}

func (t *Traffic) metadata() error {
	return t.user(func(req state.Request, u *state.User) error {
		p := state.MetadataPatch{Unsafe: object(`{"theme":%q,"seen":%d}`, oneOf(t, "dark", "light"), t.rng.IntN(1000))}
		switch t.rng.IntN(4) {
		case 0:
			p = state.MetadataPatch{Public: object(`{"plan":%q,"limits":{"seats":%d}}`, oneOf(t, "free", "pro", "team"), t.rng.IntN(50))}
		case 1:
			p = state.MetadataPatch{Public: object(`{"plan":null,"big":%d}`, 1<<53+t.rng.Int64N(1<<60))}
		}
		_, err := t.in.MergeUserMetadata(req, u.ID, p)
		return err
	})()
}

func (t *Traffic) privateMetadata() error {
	return t.user(func(req state.Request, u *state.User) error {
		_, err := t.in.MergeUserMetadata(req, u.ID, state.MetadataPatch{Private: object(`{"crm_id":"crm_%s"}`, t.suffix())})
		return err
	})()
}

func (t *Traffic) addEmail() error {
	return t.user(func(req state.Request, u *state.User) error {
		if len(u.EmailAddresses) > 2 { // the oldest that isn't the primary one goes
			for _, a := range u.EmailAddresses {
				if a.ID != string(u.PrimaryEmailAddressID) {
					_, err := t.in.RemoveEmail(req, u.ID, a.ID)
					return err
				}
			}
		}
		_, _, err := t.in.AddEmail(req, u.ID, t.address("second", "address"), !t.one(3))
		return err
	})()
}

func (t *Traffic) deleteUser() error {
	if t.people <= fewest {
		return errNothing
	}
	return t.user(func(req state.Request, u *state.User) error {
		u, err := t.in.DeleteUser(req, u.ID)
		if err != nil {
			return err
		}
		t.people--
		if e := u.Email(); e != nil {
			t.gone.add(t.rng, e.EmailAddress)
		}
		return nil
	})()
}

// exclude bans or locks.
func (t *Traffic) exclude(change func(state.Request, string) (*state.User, error)) func() error {
	return t.user(func(req state.Request, u *state.User) error {
		if u.Banned || u.Locked {
			return errNothing
		}
		u, err := change(req, u.ID)
		if err == nil {
			t.excluded.add(t.rng, u.ID)
		}
		return err
	})
}

func (t *Traffic) letIn() error {
	id, ok := t.excluded.take(t.rng)
	if !ok {
		return errNothing
	}
	change := t.in.UnlockUser
	if u := t.in.User(id); u != nil && u.Banned {
		change = t.in.UnbanUser
	}
	_, err := change(t.request(), id)
	return err
}

func (t *Traffic) socialAccount() error {
	return t.user(func(req state.Request, u *state.User) error {
		if len(u.ExternalAccounts) > 0 {
			_, err := t.in.UnlinkExternalAccount(req, u.ID, u.ExternalAccounts[0].ID)
			return err
		}
		email := u.Email()
		if email == nil {
			return errNothing
		}
		_, err := t.in.LinkExternalAccount(req, u.ID, state.ExternalAccountParams{
			Provider: oneOf(t, "oauth_google", "oauth_github", "oauth_microsoft"), EmailAddress: email.EmailAddress,
			FirstName: string(u.FirstName), LastName: string(u.LastName), Scopes: "email openid profile",
		})
		return err
	})()
}

func (t *Traffic) enterpriseAccount() error {
	return t.user(func(req state.Request, u *state.User) error {
		email := u.Email()
		if email == nil || len(u.EnterpriseAccounts) > 0 {
			return errNothing
		}
		_, domain, _ := strings.Cut(email.EmailAddress, "@")
		_, err := t.in.LinkEnterpriseAccount(req, u.ID, state.EnterpriseAccountParams{
			Protocol: oneOf(t, "saml", "oauth"), Provider: oneOf(t, "saml_okta", "saml_google", "oidc_custom"),
			EmailAddress: email.EmailAddress, FirstName: string(u.FirstName), LastName: string(u.LastName), ConnectionID: "entconn_" + domain,
		})
		return err
	})()
}

// deprovision tries a few users: not many have an account that a directory keeps.
func (t *Traffic) deprovision() error {
	for range 50 {
		u := t.in.PickUser(t.rng)
		if u != nil && len(u.EnterpriseAccounts) > 0 && !u.Deprovisioned {
			_, err := t.in.DeprovisionUser(t.request(), u.ID)
			return err
		}
	}
	return errNothing
}
