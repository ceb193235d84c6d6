package gateway

import (
	"net/http"
	"sync"
	"time"

	"github.com/rollcall-dev/rollcall/streams/auth"
)

const (
	// reuse leaves an identity token three quarters of its life.
	reuse = auth.IdentityLife / 4
	// generation is how many assertions are kept at least, at some 2 kB each.
	generation = 4096
)

// assertions are the headers made for claims. They are used again for a while: a
// page asks for many things at once, and a signature costs as much as all the
// rest of a request.
type assertions struct {
	signer Signer
	clock  func() time.Time

	mu         sync.Mutex
	young, old map[assertionKey]assertion // the young become the old when there are too many
}

// assertionKey goes by the claims' address: of a token that is remembered it stays.
type assertionKey struct {
	claims   *auth.Claims
	audience string
}

type assertion struct {
	headers http.Header
	until   time.Time
}

func newAssertions(signer Signer, clock func() time.Time) *assertions {
	return &assertions{signer: signer, clock: clock, young: map[assertionKey]assertion{}}
}

// of returns headers that may be shared: don't change them.
func (a *assertions) of(c *auth.Claims, audience string) (http.Header, error) {
	key, now := assertionKey{c, audience}, a.clock()
	if headers := a.made(key, now); headers != nil {
		return headers, nil
	}
	id := c.Identity()
	if c.Impersonated() && id.ActorID == "" {
		id.ActorID = unknownActor
	}
	text, err := a.signer.Sign(id, audience)
	if err != nil {
		return nil, err
	}
	headers, clean := headersOf(id, text)
	if !clean {
		return nil, &auth.Error{Code: auth.CodeTokenClaims, Status: http.StatusUnauthorized, Message: "a claim of the token can't stand in a header"}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.young) >= generation {
		a.old, a.young = a.young, map[assertionKey]assertion{}
	}
	a.young[key] = assertion{headers, now.Add(reuse)}
	return headers, nil
}

func (a *assertions) made(key assertionKey, now time.Time) http.Header {
	a.mu.Lock()
	defer a.mu.Unlock()
	made, ok := a.young[key]
	if !ok {
		made, ok = a.old[key]
	}
	if !ok || !now.Before(made.until) {
		return nil
	}
	return made.headers
}
