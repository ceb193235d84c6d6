package state

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
)

const stateVersion = 1

// Forms of saved resources: the Backend API's, and beside it what only events
// say or only the emulator needs.
type (
	// savedMembership names its organization and user, which are saved themselves:
	// with all of them, half of a file would be memberships.
	savedMembership struct {
		Object          string       `json:"object"`
		ID              string       `json:"id"`
		Role            string       `json:"role"`
		RoleName        string       `json:"role_name"`
		Permissions     List[string] `json:"permissions"`
		PublicMetadata  Metadata     `json:"public_metadata"`
		PrivateMetadata Metadata     `json:"private_metadata"`
		OrganizationID  string       `json:"organization_id"`
		UserID          string       `json:"user_id"`
		CreatedAt       int64        `json:"created_at"`
		UpdatedAt       int64        `json:"updated_at"`
		// What a state from elsewhere may have in their place.
		Organization   *struct{ ID string } `json:"organization,omitempty"`
		PublicUserData *struct {
			UserID string `json:"user_id"`
		} `json:"public_user_data,omitempty"`
	}
	savedInvitation struct {
		invitationView
		UserID string `json:"user_id,omitempty"`
	}
	savedSubscription struct {
		subscriptionView
		Payer           payerEvent `json:"payer"`
		PaymentSourceID OptString  `json:"payment_source_id"`
		LatestPaymentID OptString  `json:"latest_payment_id"`
		CanceledAt      OptInt     `json:"canceled_at"`
		EndedAt         OptInt     `json:"ended_at"`
	}
	savedItem struct {
		itemView
		SubscriptionID string `json:"subscription_id"`
		Interval       string `json:"interval"`
	}
	savedPayment struct {
		paymentView
		SubscriptionID string `json:"subscription_id"`
	}
)

// saver writes JSON piece by piece: a state of 100,000 users is too large to be
// built in memory. The first error stays.
type saver struct {
	w   *bufio.Writer
	err error
}

func (s *saver) text(text string) {
	if s.err == nil {
		_, s.err = s.w.WriteString(text)
	}
}

func (s *saver) value(v any) {
	if s.err != nil {
		return
	}
	var text []byte
	if text, s.err = marshal(v); s.err == nil {
		_, s.err = s.w.Write(text)
	}
}

func (s *saver) member(name string, v any) {
	s.text(`,"` + name + `":`)
	s.value(v)
}

// saveTable writes one array, a resource a line.
func saveTable[T resource](s *saver, name string, t *table[T], view func(T) any) {
	s.text(`,` + "\n" + `"` + name + `":[`)
	for i, row := range t.all() {
		if i > 0 {
			s.text(",")
		}
		s.text("\n")
		s.value(view(row))
	}
	s.text("]")
}

// Save writes the state as one JSON object. No change happens meanwhile.
func (s *State) Save(w io.Writer) error {
	instances := s.Instances()
	clock := int64(0)
	for _, in := range instances {
		in.mu.RLock()
		defer in.mu.RUnlock()
		clock = max(clock, in.lastTick, in.lastEvent)
	}
	out := &saver{w: bufio.NewWriterSize(w, 64<<10)}
	out.text(fmt.Sprintf(`{"version":%d,"seed":%d,"clock":%d,"instances":[`, stateVersion, s.seed, clock))
	for i, in := range instances {
		if i > 0 {
			out.text(",")
		}
		in.save(out)
	}
	out.text("]}\n")
	if out.err == nil {
		out.err = out.w.Flush()
	}
	if out.err != nil {
		return fmt.Errorf("saving the state: %w", out.err)
	}
	return nil
}

func (in *Instance) savedMembership(m *OrganizationMembership) any {
	name, permissions := in.resolveRole(m.Role)
	return &savedMembership{
		Object: "organization_membership", ID: m.ID, Role: m.Role, RoleName: name, Permissions: permissions,
		PublicMetadata: m.PublicMetadata, PrivateMetadata: m.PrivateMetadata,
		OrganizationID: m.OrganizationID, UserID: m.UserID, CreatedAt: m.CreatedAt, UpdatedAt: m.UpdatedAt,
	}
}

func (in *Instance) save(out *saver) {
	random, err := in.chacha.MarshalBinary()
	out.err = errors.Join(out.err, err)
	out.text("\n" + `{"id":`)
	out.value(in.ID)
	out.member("name", in.Name)
	out.member("secret_key", in.SecretKey)
	out.member("publishable_key", in.PublishableKey)
	out.member("issuer", in.Issuer)
	out.member("emit_cascade", in.EmitCascade)
	out.member("random", random)
	out.member("built_in", List[string](slices.Sorted(maps.Keys(in.builtIn))))
	out.member("signing_keys", List[SigningKey](in.keys))
	out.member("endpoints", List[Endpoint](in.endpoints))
	view := in.view
	saveTable(out, "permissions", in.permissions, func(p *Permission) any { return p })
	saveTable(out, "roles", in.roles, func(r *Role) any { return view(r) })
	saveTable(out, "users", in.users, func(u *User) any { return u.rendered() })
	saveTable(out, "organizations", in.organizations, func(o *Organization) any { return o })
	saveTable(out, "organization_memberships", in.memberships, in.savedMembership)
	saveTable(out, "organization_invitations", in.orgInvites, func(i *OrganizationInvitation) any {
		return savedInvitation{*in.invitationView(i), i.UserID}
	})
	saveTable(out, "organization_domains", in.domains, func(d *OrganizationDomain) any { return view(d) })
	saveTable(out, "sessions", in.sessions, func(s *Session) any { return s })
	saveTable(out, "invitations", in.invitations, func(i *Invitation) any { return i })
	saveTable(out, "waitlist_entries", in.waitlist, func(w *WaitlistEntry) any { return view(w) })
	saveTable(out, "subscriptions", in.subscriptions, func(s *Subscription) any {
		return savedSubscription{*in.subscriptionView(s), in.payerEvent(s.Payer), s.PaymentSourceID, s.LatestPaymentID, s.CanceledAt, s.EndedAt}
	})
	saveTable(out, "subscription_items", in.items, func(i *SubscriptionItem) any {
		return savedItem{*in.itemView(i), i.SubscriptionID, i.PlanPeriod}
	})
	saveTable(out, "payment_attempts", in.payments, func(p *PaymentAttempt) any {
		return savedPayment{*in.paymentView(p), p.SubscriptionID}
	})
	out.text(",\n")
	out.text(`"deleted":`)
	out.value(in.deletions())
	out.text("}")
}

// Load reads what Save wrote, or the same by hand: what is absent is made as by
// AddInstance. The seed is the file's, the clock goes on from the file's.
func Load(r io.Reader, o Options) (*State, error) {
	s := New(o)
	l := &loader{dec: json.NewDecoder(bufio.NewReaderSize(r, 64<<10)), state: s}
	if err := l.load(); err != nil {
		return nil, fmt.Errorf("loading the state: %w", err)
	}
	return s, nil
}

// loader reads the state resource by resource.
type loader struct {
	dec     *json.Decoder
	state   *State
	version int
	clock   int64
}

func (l *loader) load() error {
	err := l.object(func(name string) error {
		switch name {
		case "version":
			return l.dec.Decode(&l.version)
		case "seed":
			return l.dec.Decode(&l.state.seed)
		case "clock":
			return l.dec.Decode(&l.clock)
		case "instances":
			return l.array(l.instance)
		}
		return fmt.Errorf("%q is not a part of a state", name)
	})
	if err != nil {
		return err
	}
	if l.version != stateVersion {
		return fmt.Errorf("version is %d, this is for %d", l.version, stateVersion)
	}
	for _, in := range l.state.instances {
		in.lastTick = max(in.lastTick, l.clock)
		in.lastEvent = max(in.lastEvent, l.clock)
	}
	return nil
}

// object calls member with each name, to read the value.
func (l *loader) object(member func(name string) error) error {
	if err := l.expect('{'); err != nil {
		return err
	}
	for l.dec.More() {
		token, err := l.token()
		if err != nil {
			return err
		}
		name, _ := token.(string)
		if err := member(name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return l.expect('}')
}

// array calls element at each element, to read it.
func (l *loader) array(element func() error) error {
	if err := l.expect('['); err != nil {
		return err
	}
	for i := 0; l.dec.More(); i++ {
		if err := element(); err != nil {
			return fmt.Errorf("[%d]: %w", i, err)
		}
	}
	return l.expect(']')
}

func (l *loader) expect(delim json.Delim) error {
	token, err := l.token()
	if err == nil && token != delim {
		err = fmt.Errorf("there is %v where %v should be", token, delim)
	}
	return err
}

// token is the next one: where a state goes on, an end is none to expect.
func (l *loader) token() (json.Token, error) {
	token, err := l.dec.Token()
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return token, err
}

func (l *loader) instance() error {
	var head struct {
		ID, Name, SecretKey, PublishableKey, Issuer string
		EmitCascade                                 bool
		Random                                      []byte
		BuiltIn                                     []string
	}
	// The ids of what the file does not name are made before its own random
	// state is set, so they cost it nothing.
	in := newInstance(l.state, len(l.state.instances), InstanceOptions{})
	scalars := map[string]any{
		"id": &head.ID, "name": &head.Name, "secret_key": &head.SecretKey, "publishable_key": &head.PublishableKey,
		"issuer": &head.Issuer, "emit_cascade": &head.EmitCascade, "random": &head.Random, "built_in": &head.BuiltIn,
		"signing_keys": &in.keys, "endpoints": &in.endpoints,
	}
	deleted := map[string]map[string]int64{}
	err := l.object(func(name string) error {
		if target, ok := scalars[name]; ok {
			return l.dec.Decode(target)
		}
		if name == "deleted" {
			return l.dec.Decode(&deleted)
		}
		return l.table(in, name)
	})
	if err != nil {
		return err
	}
	o := InstanceOptions{
		ID: head.ID, Name: head.Name, SecretKey: head.SecretKey, PublishableKey: head.PublishableKey, Issuer: head.Issuer,
		EmitCascade: head.EmitCascade,
	}
	in.identify(o)
	if len(head.Random) > 0 {
		if err := in.chacha.UnmarshalBinary(head.Random); err != nil {
			return fmt.Errorf("random: %w", err)
		}
	} else {
		*in.chacha = *newRand(l.state.seed^uint64(l.clock), len(l.state.instances))
	}
	in.rng = rand.New(in.chacha)
	in.builtIn = map[string]bool{}
	for _, id := range head.BuiltIn {
		in.builtIn[id] = true
	}
	return l.finish(in, deleted)
}

// finish checks and indexes what an instance was given.
func (l *loader) finish(in *Instance, deleted map[string]map[string]int64) error {
	if in.roles.len() == 0 {
		in.seedRoles()
	}
	memories := in.deletions()
	for table, ids := range deleted {
		if memories[table] == nil {
			return fmt.Errorf("deleted: %q is no resource", table)
		}
		for id, at := range ids {
			memories[table][id] = at
		}
	}
	if err := in.reindex(); err != nil {
		return err
	}
	l.state.instances = append(l.state.instances, in)
	return nil
}
