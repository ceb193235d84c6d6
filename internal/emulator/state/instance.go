package state

import (
	"cmp"
	"math/rand/v2"
	"strings"
	"sync"
	"time"
)

// MaxMetadata is what one kind of metadata may hold, in bytes of compact JSON.
const MaxMetadata = 8192

// Instance is one Clerk instance. What is exported never changes after
// AddInstance.
type Instance struct {
	ID             string
	Name           string
	SecretKey      string
	PublishableKey string
	Issuer         string
	EmitCascade    bool

	now   func() time.Time
	plans []*Plan

	mu            sync.RWMutex
	chacha        *rand.ChaCha8 // saved, so that ids go on after a load
	rng           *rand.Rand
	texts         map[string]string // of a load
	lastTick      int64             // newest updated_at, Unix ms
	lastEvent     int64             // newest event's timestamp, Unix ms
	listeners     []func(Event)
	verifications map[Verification]*Verification
	keys          []SigningKey
	endpoints     []Endpoint
	builtIn       map[string]bool // roles and permissions that no event has told of

	users         *table[*User]
	organizations *table[*Organization]
	memberships   *table[*OrganizationMembership]
	orgInvites    *table[*OrganizationInvitation]
	domains       *table[*OrganizationDomain]
	roles         *table[*Role]
	permissions   *table[*Permission]
	sessions      *table[*Session]
	invitations   *table[*Invitation]
	waitlist      *table[*WaitlistEntry]
	subscriptions *table[*Subscription]
	items         *table[*SubscriptionItem]
	payments      *table[*PaymentAttempt]

	// To one user or organization; e-mail addresses and usernames in lower case.
	emails, phones, externalIDs, usernames, slugs map[string]string
	invited, waiting                              map[string]string // pending invitations and waitlist entries, by e-mail address
	// To a parent's children.
	userMemberships, orgMemberships, userSessions, orgInviteIDs, orgDomains, subscriptionItems index
	// A payer's (user's or organization's) subscriptions.
	payerSubscriptions index
}

func newInstance(s *State, number int, o InstanceOptions) *Instance {
	in := &Instance{
		now: s.now, chacha: newRand(s.seed, number), texts: map[string]string{},
		users: newTable[*User](), organizations: newTable[*Organization](), memberships: newTable[*OrganizationMembership](),
		orgInvites: newTable[*OrganizationInvitation](), domains: newTable[*OrganizationDomain](),
		roles: newTable[*Role](), permissions: newTable[*Permission](), sessions: newTable[*Session](),
		invitations: newTable[*Invitation](), waitlist: newTable[*WaitlistEntry](),
		subscriptions: newTable[*Subscription](), items: newTable[*SubscriptionItem](), payments: newTable[*PaymentAttempt](),
		verifications: map[Verification]*Verification{}, emails: map[string]string{}, phones: map[string]string{}, externalIDs: map[string]string{},
		usernames: map[string]string{}, slugs: map[string]string{}, invited: map[string]string{}, waiting: map[string]string{},
		userMemberships: index{}, orgMemberships: index{}, userSessions: index{}, orgInviteIDs: index{},
		orgDomains: index{}, subscriptionItems: index{}, payerSubscriptions: index{},
	}
	in.rng = rand.New(in.chacha)
	in.identify(o)
	return in
}

// identify sets what an instance is known by; what is not given is made.
func (in *Instance) identify(o InstanceOptions) {
	in.ID = cmp.Or(o.ID, in.newID("ins_"))
	in.Name = cmp.Or(o.Name, "app")
	in.SecretKey = cmp.Or(o.SecretKey, in.newID("sk_live_"))
	in.Issuer = cmp.Or(o.Issuer, "https://clerk."+in.Name+".example")
	in.PublishableKey = cmp.Or(o.PublishableKey, publishableKey(in.Issuer))
	in.plans = makePlans(in.ID)
	in.EmitCascade = o.EmitCascade
}

const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// newID makes an id as Clerk does: the prefix and 27 characters that begin as
// those of today do.
func (in *Instance) newID(prefix string) string {
	id := append(make([]byte, 0, len(prefix)+27), prefix...)
	id = append(id, '3')
	for len(id) < len(prefix)+27 {
		bits := in.rng.Uint64()
		for range min(10, len(prefix)+27-len(id)) { // 62^10 < 2^60
			id = append(id, base62[bits%62])
			bits /= 62
		}
	}
	return string(id)
}

// tick is the next updated_at.
func (in *Instance) tick() int64 {
	in.lastTick = max(in.now().UnixMilli(), in.lastTick+1)
	return in.lastTick
}

// OnEvent adds a function that gets every event from now on.
func (in *Instance) OnEvent(fn func(Event)) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.listeners = append(in.listeners, fn)
}

// SetSigningKeys replaces the keys that tokens are signed with.
func (in *Instance) SetSigningKeys(keys []SigningKey) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.keys = keys
}

// SigningKeys are the keys that tokens are signed with.
func (in *Instance) SigningKeys() []SigningKey {
	in.mu.RLock()
	defer in.mu.RUnlock()
	return in.keys
}

// SetEndpoints replaces the webhook endpoints that a save writes.
func (in *Instance) SetEndpoints(endpoints []Endpoint) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.endpoints = endpoints
}

// Endpoints are the webhook endpoints.
func (in *Instance) Endpoints() []Endpoint {
	in.mu.RLock()
	defer in.mu.RUnlock()
	return in.endpoints
}

// storeUser puts a new version of a user, nil for none, in place of the old one
// and keeps the indexes right.
func (in *Instance) storeUser(old, new *User) {
	if old != nil {
		in.eachUserKey(old, func(m map[string]string, key string) { delete(m, key) })
	}
	if new != nil {
		in.eachUserKey(new, func(m map[string]string, key string) { m[key] = new.ID })
		in.users.put(new)
	}
}

func (in *Instance) eachUserKey(u *User, do func(m map[string]string, key string)) {
	for i := range u.EmailAddresses {
		do(in.emails, strings.ToLower(u.EmailAddresses[i].EmailAddress))
	}
	for i := range u.PhoneNumbers {
		do(in.phones, u.PhoneNumbers[i].PhoneNumber)
	}
	if u.ExternalID != "" {
		do(in.externalIDs, string(u.ExternalID))
	}
	if u.Username != "" {
		do(in.usernames, strings.ToLower(string(u.Username)))
	}
}

func (in *Instance) storeOrganization(old, new *Organization) {
	if old != nil {
		delete(in.slugs, old.Slug)
	}
	if new != nil {
		in.slugs[new.Slug] = new.ID
		in.organizations.put(new)
	}
}

func (in *Instance) addMembership(m *OrganizationMembership) {
	in.memberships.put(m)
	in.userMemberships.add(m.UserID, m.ID)
	in.orgMemberships.add(m.OrganizationID, m.ID)
}

func (in *Instance) addOrgInvite(i *OrganizationInvitation) {
	in.orgInvites.put(i)
	in.orgInviteIDs.add(i.OrganizationID, i.ID)
}

func (in *Instance) addDomain(d *OrganizationDomain) {
	in.domains.put(d)
	in.orgDomains.add(d.OrganizationID, d.ID)
}

func (in *Instance) addSession(s *Session) {
	in.sessions.put(s)
	in.userSessions.add(s.UserID, s.ID)
}

func (in *Instance) addSubscription(s *Subscription) {
	in.subscriptions.put(s)
	in.payerSubscriptions.add(s.Payer.UserID+s.Payer.OrganizationID, s.ID)
}

func (in *Instance) addItem(i *SubscriptionItem) {
	in.items.put(i)
	in.subscriptionItems.add(i.SubscriptionID, i.ID)
}
