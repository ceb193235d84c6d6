package auth

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	keysFresh  = 5 * time.Minute         // after which they are fetched again, in the background
	keysOld    = keysFresh + time.Minute // after which a token waits for the fetch
	keysStale  = 24 * time.Hour          // how long they are good while they can't be fetched
	refetch    = 10 * time.Second        // unknown keys and failures cause no more fetches than one in this time
	firstRetry = time.Second             // as long as there are no keys; doubles up to refetch
	fetchLimit = 5 * time.Second
	maxKeySet  = 256 << 10 // bytes of a response
	minRSABits = 2048
)

// keySource finds the public keys that a token may be signed with.
type keySource interface {
	// keys are those of that id; version names the set that they are from.
	keys(ctx context.Context, kid string) (found []crypto.PublicKey, version int, err error)
	// newer waits for a set after that version, false where none may be fetched
	// now: a key can change under its id.
	newer(ctx context.Context, version int) bool
	close()
}

// fixedKey is a key from the dashboard. Its id is nowhere, so any will do.
type fixedKey struct{ key crypto.PublicKey }

func (f fixedKey) keys(context.Context, string) ([]crypto.PublicKey, int, error) {
	return []crypto.PublicKey{f.key}, 0, nil
}

func (fixedKey) newer(context.Context, int) bool { return false }
func (fixedKey) close()                          {}

// readPEM takes a public RSA key; a backslash and an n may stand for a line
// break, since environment files hold one line.
func readPEM(text string) (*rsa.PublicKey, error) {
	block, _ := pem.Decode([]byte(strings.ReplaceAll(text, `\n`, "\n")))
	if block == nil {
		return nil, errors.New("not PEM: copy the whole key, from -----BEGIN PUBLIC KEY----- on")
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("not a public key: %w", err)
	}
	public, ok := key.(*rsa.PublicKey)
	if !ok || !fits(public, jose.RS256) {
		return nil, fmt.Errorf("a %T, and Clerk signs with RSA, %d bits at least", key, minRSABits)
	}
	return public, nil
}

// keySet is a published JWKS, fetched once in its life whoever asks.
//
//	none ──fetch──▶ fresh ──5 min──▶ used, fetched behind ──6 min──▶ waited for ──24 h──▶ none
//
// While fetches fail nobody waits for the next, and the keys at hand go on being
// used for as long as they are not stale.
type keySet struct {
	url, bearer string
	algorithm   jose.SignatureAlgorithm
	client      *http.Client
	clock       func() time.Time
	ctx         context.Context // ends fetches
	stop        context.CancelFunc

	mu        sync.Mutex
	byID      map[string][]crypto.PublicKey // nil: none yet
	version   int                           // counts sets
	fetched   time.Time                     // when byID came
	attempted time.Time                     // when the last fetch began
	failures  int                           // in a row
	failure   error                         // of the last fetch; nil after a good one
	running   *fetch
}

// fetch is one in progress.
type fetch struct{ done chan struct{} }

func newKeySet(url, bearer string, algorithm jose.SignatureAlgorithm, client *http.Client, clock func() time.Time) *keySet {
	ctx, stop := context.WithCancel(context.Background())
	return &keySet{url: url, bearer: bearer, algorithm: algorithm, client: client, clock: clock, ctx: ctx, stop: stop}
}

// close ends a fetch in progress and waits for it.
func (s *keySet) close() {
	s.stop()
	s.mu.Lock()
	running := s.running
	s.mu.Unlock()
	if running != nil {
		<-running.done
	}
}

func (s *keySet) keys(ctx context.Context, kid string) ([]crypto.PublicKey, int, error) {
	if err := s.refresh(ctx); err != nil {
		return nil, 0, err
	}
	found, version, err := s.find(kid)
	if found == nil && err == nil && s.newer(ctx, version) {
		found, version, err = s.find(kid)
	}
	switch {
	case err != nil:
		return nil, 0, err
	case found == nil:
		return nil, 0, s.unknown()
	}
	return found, version, nil
}

// find has an error where there are no keys that are still good.
func (s *keySet) find(kid string) ([]crypto.PublicKey, int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byID == nil || s.clock().Sub(s.fetched) >= keysStale {
		return nil, 0, s.unavailable()
	}
	return s.byID[kid], s.version, nil
}

// unknown says whose fault it is that a key isn't known.
func (s *keySet) unknown() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failure != nil {
		return s.unavailable()
	}
	return refuse(CodeKeyUnknown, "the token names a key that its issuer doesn't publish")
}

// The lock is held.
func (s *keySet) unavailable() error {
	e := &Error{Code: CodeKeysUnavailable, Status: http.StatusServiceUnavailable, Message: "the keys that verify tokens can't be fetched at the moment"}
	if s.failure != nil {
		e.Err = fmt.Errorf("fetch %s: %w", s.url, s.failure)
	}
	return e
}

// refresh starts the fetch that the keys' age asks for, and waits for it where
// they are too old to go on.
func (s *keySet) refresh(ctx context.Context) error {
	s.mu.Lock()
	age := s.clock().Sub(s.fetched)
	if s.byID != nil && age < keysFresh {
		s.mu.Unlock()
		return nil
	}
	running := s.start()
	wait := s.byID == nil || age >= keysStale || age >= keysOld && s.failure == nil
	s.mu.Unlock()
	if running == nil || !wait {
		return nil
	}
	return running.wait(ctx)
}

func (s *keySet) newer(ctx context.Context, version int) bool {
	s.mu.Lock()
	if s.version != version {
		s.mu.Unlock()
		return true
	}
	running := s.start()
	s.mu.Unlock()
	if running == nil || running.wait(ctx) != nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.version != version
}

func (f *fetch) wait(ctx context.Context) error {
	select {
	case <-f.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("auth: wait for the keys that verify tokens: %w", context.Cause(ctx))
	}
}

// start begins a fetch, or joins the one in progress; nil where the last is too
// recent. The lock is held.
func (s *keySet) start() *fetch {
	if s.running != nil {
		return s.running
	}
	pause := refetch
	if s.byID == nil && s.failures < 5 {
		pause = min(refetch, firstRetry<<max(0, s.failures-1))
	}
	if !s.attempted.IsZero() && s.clock().Sub(s.attempted) < pause || s.ctx.Err() != nil {
		return nil
	}
	running := &fetch{done: make(chan struct{})}
	s.running, s.attempted = running, s.clock()
	go func() {
		defer close(running.done)
		byID, err := s.get()
		s.mu.Lock()
		defer s.mu.Unlock()
		s.running, s.failure = nil, err
		if err != nil {
			s.failures++
			return
		}
		s.byID, s.fetched, s.failures = byID, s.clock(), 0
		s.version++
	}()
	return running
}

// get fetches the set. A set without a usable key is an error: it would lock
// everyone out.
func (s *keySet) get() (map[string][]crypto.PublicKey, error) {
	ctx, cancel := context.WithTimeout(s.ctx, fetchLimit)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/json")
	if s.bearer != "" {
		request.Header.Set("Authorization", "Bearer "+s.bearer)
	}
	response, err := s.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close() //nolint:errcheck // what was read is what counts
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the answer is %s", response.Status)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxKeySet+1))
	if err != nil {
		return nil, fmt.Errorf("read the key set: %w", err)
	}
	if len(body) > maxKeySet {
		return nil, fmt.Errorf("the answer is longer than %d KiB: no key set", maxKeySet>>10)
	}
	return readKeySet(body, s.algorithm)
}

// readKeySet passes over keys of other kinds and uses.
func readKeySet(body []byte, algorithm jose.SignatureAlgorithm) (map[string][]crypto.PublicKey, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(body, &set); err != nil {
		return nil, fmt.Errorf("the answer is no key set: %w", err)
	}
	byID := map[string][]crypto.PublicKey{}
	for _, text := range set.Keys {
		var key jose.JSONWebKey
		if json.Unmarshal(text, &key) == nil && usable(&key, algorithm) {
			byID[key.KeyID] = append(byID[key.KeyID], key.Key)
		}
	}
	if len(byID) == 0 {
		return nil, fmt.Errorf("none of the %d keys in the answer is for %s", len(set.Keys), algorithm)
	}
	return byID, nil
}

func usable(key *jose.JSONWebKey, algorithm jose.SignatureAlgorithm) bool {
	if key.Use != "" && key.Use != "sig" || key.Algorithm != "" && key.Algorithm != string(algorithm) {
		return false
	}
	return fits(key.Key, algorithm)
}
