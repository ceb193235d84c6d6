package state

import (
	"cmp"
	"math/rand/v2"
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

	now func() time.Time

	mu        sync.RWMutex
	chacha    *rand.ChaCha8 // saved, so that ids go on after a load
	rng       *rand.Rand
	lastTick  int64 // newest updated_at, Unix ms
	lastEvent int64 // newest event's timestamp, Unix ms
	listeners []func(Event)
	keys      []SigningKey
	endpoints []Endpoint
}

func newInstance(s *State, index int, o InstanceOptions) *Instance {
	in := &Instance{now: s.now, chacha: newRand(s.seed, index), EmitCascade: o.EmitCascade}
	in.rng = rand.New(in.chacha)
	in.ID = cmp.Or(o.ID, in.newID("ins_"))
	in.Name = cmp.Or(o.Name, "app")
	in.SecretKey = cmp.Or(o.SecretKey, in.newID("sk_live_"))
	in.Issuer = cmp.Or(o.Issuer, "https://clerk."+in.Name+".example")
	in.PublishableKey = cmp.Or(o.PublishableKey, publishableKey(in.Issuer))
	return in
}

func (in *Instance) seedRoles() {}

const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// newID makes an id as Clerk does: the prefix and 27 characters that begin as
// those of today do.
func (in *Instance) newID(prefix string) string {
	id := append(make([]byte, 0, len(prefix)+27), prefix...)
	id = append(id, '3')
	for len(id) < len(prefix)+27 {
		for bits := in.rng.Uint64(); bits > 62 && len(id) < len(prefix)+27; bits /= 62 {
			id = append(id, base62[bits%62])
		}
	}
	return string(id)
}
