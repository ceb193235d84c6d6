package state

import (
	"encoding/base64"
	"math/rand/v2"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Options of a State.
type Options struct {
	Seed uint64           // the same seed makes the same ids and values
	Now  func() time.Time // default time.Now
}

// State is several instances. Its methods are safe for concurrent use.
type State struct {
	seed uint64
	now  func() time.Time

	mu        sync.RWMutex
	instances []*Instance
}

// New makes a State without instances.
func New(o Options) *State {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &State{seed: o.Seed, now: o.Now}
}

// InstanceOptions of an Instance; what is empty is made from the seed.
type InstanceOptions struct {
	ID             string // ins_…
	Name           string
	SecretKey      string // sk_live_…
	PublishableKey string // default: pk_live_ with the issuer's host
	Issuer         string // default https://clerk.NAME.example
	EmitCascade    bool   // deleting a parent emits its children's deletions
}

// SigningKey signs the instance's tokens.
type SigningKey struct {
	KID string `json:"kid"`
	PEM string `json:"pem"` // PKCS #8 or PKCS #1 private key
}

// Endpoint is a webhook endpoint of the instance.
type Endpoint struct {
	ID      string   `json:"id"`
	URL     string   `json:"url"`
	Secrets []string `json:"secrets"` // whsec_…, newest first
	Events  []string `json:"events"`  // empty: all
	// As package delivery has them.
	HeaderFamily string `json:"header_family,omitempty"`
	Disabled     bool   `json:"disabled,omitempty"`
}

// AddInstance makes an instance with Clerk's default roles and permissions.
func (s *State) AddInstance(o InstanceOptions) *Instance {
	s.mu.Lock()
	defer s.mu.Unlock()
	in := newInstance(s, len(s.instances), o)
	in.seedRoles()
	s.instances = append(s.instances, in)
	return in
}

// Seed is the seed that the state was made with.
func (s *State) Seed() uint64 { return s.seed }

// Instances are all instances, in order of creation.
func (s *State) Instances() []*Instance {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.instances[:len(s.instances):len(s.instances)]
}

// Instance is the instance of this id, nil where there is none.
func (s *State) Instance(id string) *Instance {
	return s.find(func(in *Instance) bool { return in.ID == id })
}

// InstanceBySecretKey is the instance that the key opens, nil where there is none.
func (s *State) InstanceBySecretKey(key string) *Instance {
	return s.find(func(in *Instance) bool { return in.SecretKey == key })
}

func (s *State) find(is func(*Instance) bool) *Instance {
	for _, in := range s.Instances() {
		if is(in) {
			return in
		}
	}
	return nil
}

// Event is what a change emits: the whole body as Clerk sends it.
type Event struct {
	Type       string // user.updated
	InstanceID string
	EntityID   string // data.id
	At         int64  // the envelope's timestamp, Unix ms
	Body       []byte // JSON; not to be modified
}

// publishableKey is how Clerk tells SDKs the frontend API's host.
func publishableKey(issuer string) string {
	host := issuer
	if u, err := url.Parse(issuer); err == nil && u.Host != "" {
		host = u.Host
	}
	return "pk_live_" + strings.TrimRight(base64.StdEncoding.EncodeToString([]byte(host+"$")), "=")
}

func newRand(seed uint64, index int) *rand.ChaCha8 {
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
		key[8+i] = byte(index >> (8 * i))
	}
	return rand.NewChaCha8(key)
}
