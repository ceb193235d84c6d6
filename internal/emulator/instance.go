package emulator

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	mathrand "math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/rollcall-dev/rollcall/internal/emulator/backendapi"
	"github.com/rollcall-dev/rollcall/internal/emulator/delivery"
	"github.com/rollcall-dev/rollcall/internal/emulator/state"
	"github.com/rollcall-dev/rollcall/internal/emulator/token"
	"github.com/rollcall-dev/rollcall/internal/emulator/traffic"
)

// instance is one Clerk instance with all that acts on it.
type instance struct {
	*state.Instance
	keys    *token.Keys
	minter  *token.Minter
	sender  *delivery.Sender
	traffic *traffic.Traffic

	mu     sync.Mutex
	rng    *mathrand.Rand // of keepsUpdatedAt and fault
	secret string         // of the first endpoint that is added without one
}

// newInstance equips an instance of a state. It makes a signing key where there
// is none.
func newInstance(in *state.Instance, o Options) (*instance, error) {
	i := &instance{Instance: in, rng: mathrand.New(mathrand.NewPCG(o.Seed, 'u')), secret: o.WebhookSecret}
	if i.secret == "" {
		i.secret = newSecret()
	}
	var err error
	if i.keys, err = signingKeys(in, o.Clock); err != nil {
		return nil, fmt.Errorf("instance %s: %w", in.ID, err)
	}
	i.minter = &token.Minter{Keys: i.keys, Issuer: in.Issuer, Clock: o.Clock}
	i.sender, err = delivery.New(delivery.Config{
		Seed: o.Seed, Instance: in.ID, Clock: o.Clock, RetryScale: o.RetryScale, Chaos: o.Chaos,
	})
	if err != nil {
		return nil, err
	}
	for _, e := range in.Endpoints() {
		if _, err := i.sender.Add(delivery.Endpoint{ID: e.ID, URL: e.URL, Secrets: e.Secrets, Events: e.Events, HeaderFamily: e.HeaderFamily, Disabled: e.Disabled}); err != nil {
			return nil, fmt.Errorf("instance %s: %w", in.ID, err)
		}
	}
	in.OnEvent(func(e state.Event) {
		// It refuses only once it is closed: then nobody is there to be told.
		_, _ = i.sender.Send(delivery.Message{Type: e.Type, EntityID: e.EntityID, At: e.At, Body: e.Body})
	})
	i.traffic = traffic.New(in, traffic.Options{Seed: o.Seed, Rate: o.Traffic, EqualUpdatedAt: o.Chaos.EqualUpdatedAt})
	return i, nil
}

func signingKeys(in *state.Instance, clock func() time.Time) (*token.Keys, error) {
	saved := in.SigningKeys()
	if len(saved) == 0 {
		return token.NewKeys(in.ID, clock)
	}
	keys := make([]token.SigningKey, len(saved))
	for i, k := range saved {
		keys[i] = token.SigningKey{KID: k.KID, PEM: k.PEM}
	}
	return token.LoadKeys(keys, clock)
}

// record puts keys and endpoints into the state, to be saved with it. Keys that
// are retired already are not worth keeping.
func (i *instance) record() error {
	saved, err := i.keys.Save()
	if err != nil {
		return err
	}
	var keys []state.SigningKey
	for _, k := range saved {
		if k.Until == 0 {
			keys = append(keys, state.SigningKey{KID: k.KID, PEM: k.PEM})
		}
	}
	i.SetSigningKeys(keys)
	var endpoints []state.Endpoint
	for _, e := range i.sender.Endpoints() {
		endpoints = append(endpoints, state.Endpoint{ID: e.ID, URL: e.URL, Secrets: e.Secrets, Events: e.Events, HeaderFamily: e.HeaderFamily, Disabled: e.Disabled})
	}
	i.SetEndpoints(endpoints)
	return nil
}

// addEndpoint gives an endpoint that comes without a secret one of its own.
func (i *instance) addEndpoint(e delivery.Endpoint) (delivery.Endpoint, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	own := len(e.Secrets) == 0
	if own {
		e.Secrets = []string{i.secret}
	}
	added, err := i.sender.Add(e)
	if err == nil && own {
		i.secret = newSecret()
	}
	return added, err
}

// setChaos changes how bad the internet is, and Clerk's clock.
func (i *instance) setChaos(c delivery.Chaos) error {
	if err := i.sender.SetChaos(c); err != nil {
		return err
	}
	i.traffic.SetEqualUpdatedAt(c.EqualUpdatedAt)
	return nil
}

// keepsUpdatedAt says of one change whether chaos has it leave updated_at alone.
func (i *instance) keepsUpdatedAt() bool {
	probability := i.sender.Chaos().EqualUpdatedAt
	i.mu.Lock()
	defer i.mu.Unlock()
	return probability > 0 && i.rng.Float64() < probability
}

// fault says what chaos has go wrong with one request to the Backend API.
func (i *instance) fault() (f backendapi.Fault) {
	c := i.sender.Chaos()
	i.mu.Lock()
	defer i.mu.Unlock()
	happens := func(probability float64) bool { return probability > 0 && i.rng.Float64() < probability }
	f.Limited, f.Error, f.Truncated = happens(c.APILimited), happens(c.APIError), happens(c.APITruncated)
	if happens(c.APITimeout) {
		f.Timeout = cmp.Or(time.Duration(c.DelayMS)*time.Millisecond, time.Second)
	}
	return f
}

// settled returns when no delivery is open, or with ctx's error.
func (i *instance) settled(ctx context.Context) error {
	for i.sender.Counts().Open > 0 { // a change may come between
		if err := i.sender.Settled(ctx); err != nil {
			return err
		}
	}
	return nil
}

// sessionToken is the token of a session as Clerk makes it for the session's
// active organization.
func (i *instance) sessionToken(r backendapi.TokenRequest) (string, error) {
	o := token.Options{Lifetime: r.Life}
	if r.Template != "" {
		o.Claims = map[string]any{"sid": r.Session.ID}
		return i.minter.Template(token.TemplateClaims{Options: o, UserID: r.Session.UserID})
	}
	c := token.SessionClaims{Options: o, UserID: r.Session.UserID, SessionID: r.Session.ID, Status: r.Session.Status}
	c.Organization = i.membershipClaims(string(r.Session.LastActiveOrganizationID), r.Session.UserID)
	return i.minter.Session(c)
}

// membershipClaims are what a token says of a member, nil where the user is none.
func (i *instance) membershipClaims(orgID, userID string) *token.Organization {
	m, o := i.Membership(orgID, userID), i.Organization(orgID)
	if m == nil || o == nil {
		return nil
	}
	return &token.Organization{ID: o.ID, Slug: o.Slug, Role: m.Role, Permissions: i.PermissionsOfRole(m.Role)}
}

// EnvVar is one setting of an application that uses the emulator.
type EnvVar struct{ Name, Value string }

// environment is what an application, an SDK and Rollcall need to know of the
// instance.
func (i *instance) environment(url string) ([]EnvVar, error) {
	pem, err := i.keys.PublicPEM()
	if err != nil {
		return nil, err
	}
	i.mu.Lock()
	secret := i.secret
	i.mu.Unlock()
	if endpoints := i.sender.Endpoints(); len(endpoints) > 0 {
		secret = endpoints[0].Secrets[0]
	}
	return []EnvVar{
		{"CLERK_API_URL", url},
		{"CLERK_SECRET_KEY", i.SecretKey},
		{"CLERK_PUBLISHABLE_KEY", i.PublishableKey},
		{"CLERK_JWT_KEY", strings.ReplaceAll(strings.TrimSpace(pem), "\n", `\n`)},
		{"CLERK_WEBHOOK_SIGNING_SECRET", secret},
		{"CLERK_ISSUER", i.Issuer},
	}, nil
}

// newSecret is as Svix's dashboard makes them. Unlike all else it doesn't hang
// on the seed: with a secret that everybody knows anybody could forge events.
func newSecret() string {
	key := make([]byte, 24)
	_, _ = rand.Read(key) // never fails
	return "whsec_" + base64.StdEncoding.EncodeToString(key)
}
