// Package freshness asserts what a store knows of a member's role and
// permissions where it knows that later than the session token, which says what
// was true when it was made, up to a minute ago.
//
// A store can lag as well. So of each of the two, role and permissions, the one
// that was said later counts: the token at its iat, the membership and the role at
// their events' timestamps. While the store can't be asked the token's word counts.
package freshness

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rollcall-dev/rollcall/internal/projection"
	"github.com/rollcall-dev/rollcall/streams/auth"
)

const (
	// life is how long an answer is used, and how long a store that failed is
	// left alone.
	life       = time.Second
	askTimeout = 500 * time.Millisecond
	// generation is how many members are remembered at least.
	generation  = 8192
	connections = 4
)

//go:embed member.sql
var memberSQL string

// Options of a [Store].
type Options struct {
	DatabaseURL string // may be a transaction pooler
	Schema      string
	// Status is told each change: nil while the store answers.
	Status func(error)
}

// Store asks a store about members. Safe for concurrent use.
type Store struct {
	pool   *pgxpool.Pool
	query  string
	status func(error)
	asking sync.WaitGroup

	mu         sync.Mutex
	young, old map[member]*answer // the young become the old when there are too many
	failedAt   time.Time          // when it last couldn't be asked; zero: it can
}

type member struct{ organizationID, userID string }

// answer is one that is coming, or has come.
type answer struct {
	done   chan struct{}
	until  time.Time
	place  *place // nil: the store knows nothing, or couldn't be asked
	mu     sync.Mutex
	claims map[*auth.Claims]*auth.Claims // made of this answer
}

// place is a member's in an organization, as the store has it.
type place struct {
	role           string
	permissions    []string
	roleSince      time.Time // when the membership was said to be so
	permittedSince time.Time // or its role, whichever is later
	deleted        time.Time // zero: not
}

// New makes one; the database is asked with the first request.
func New(o Options) (*Store, error) {
	c, err := pgxpool.ParseConfig(o.DatabaseURL)
	if err != nil {
		return nil, errors.New("freshness: the store's database_url isn't a connection string") // err quotes it
	}
	c.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec // a pooler keeps nothing prepared
	c.MaxConns, c.MaxConnIdleTime = connections, time.Minute
	pool, err := pgxpool.NewWithConfig(context.Background(), c)
	if err != nil {
		return nil, fmt.Errorf("freshness: %w", err)
	}
	query := strings.ReplaceAll(memberSQL, "{schema}", pgx.Identifier{o.Schema}.Sanitize())
	return &Store{pool: pool, query: query, status: o.Status, young: map[member]*answer{}}, nil
}

// Close waits for queries that run.
func (s *Store) Close() {
	s.asking.Wait()
	s.pool.Close()
}

// Freshen returns the claims, with what the store knows later. It never refuses.
func (s *Store) Freshen(r *http.Request, c *auth.Claims) (*auth.Claims, error) {
	if c.Organization.ID == "" {
		return c, nil
	}
	a := s.ask(member{c.Organization.ID, c.UserID}, time.Now())
	select {
	case <-a.done:
	case <-r.Context().Done():
		return c, nil
	}
	if a.place == nil {
		return c, nil
	}
	return a.freshened(c), nil
}

// ask begins to ask, unless it is known already.
func (s *Store) ask(m member, now time.Time) *answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, ok := s.young[m]
	if !ok {
		a, ok = s.old[m]
	}
	if ok && now.Before(a.until) {
		return a
	}
	a = &answer{done: make(chan struct{}), until: now.Add(life), claims: map[*auth.Claims]*auth.Claims{}}
	if now.Sub(s.failedAt) < life {
		close(a.done)
		return a
	}
	if len(s.young) >= generation {
		s.old, s.young = s.young, map[member]*answer{}
	}
	s.young[m] = a
	s.asking.Go(func() {
		defer close(a.done)
		place, err := s.read(m)
		a.place = place
		s.note(err)
	})
	return a
}

func (s *Store) note(err error) {
	s.mu.Lock()
	changed := s.failedAt.IsZero() == (err != nil)
	s.failedAt = time.Time{}
	if err != nil {
		s.failedAt = time.Now()
	}
	s.mu.Unlock()
	if changed {
		s.status(err)
	}
}

func (s *Store) read(m member) (*place, error) {
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	var p place
	var version, role []byte
	var deleted *time.Time
	err := s.pool.QueryRow(ctx, s.query, m.organizationID, m.userID).Scan(&p.role, &version, &deleted, &role, &p.permissions)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("ask the store about a member: %w", err)
	}
	said, ok := projection.Version(version).Timestamp()
	if !ok {
		return nil, nil // a row that only holds a place
	}
	p.roleSince = time.UnixMilli(said)
	p.permittedSince = p.roleSince
	if of, ok := projection.Version(role).Timestamp(); ok && of > said {
		p.permittedSince = time.UnixMilli(of)
	}
	if deleted != nil {
		p.deleted = *deleted
	}
	return &p, nil
}

// freshened makes claims once, so that what is made of them can be kept by them.
func (a *answer) freshened(c *auth.Claims) *auth.Claims {
	a.mu.Lock()
	defer a.mu.Unlock()
	if made, ok := a.claims[c]; ok {
		return made
	}
	made := a.place.over(c)
	a.claims[c] = made
	return made
}

// over returns claims with what was said after them.
func (p *place) over(c *auth.Claims) *auth.Claims {
	newer := *c
	switch {
	case p.deleted.After(c.IssuedAt):
		newer.Organization = auth.Organization{}
	case !p.deleted.IsZero():
		return c // the token is of a later membership
	case p.roleSince.After(c.IssuedAt):
		newer.Organization.Role, newer.Organization.Permissions = p.role, p.permissions
	case p.permittedSince.After(c.IssuedAt) && p.role == c.Organization.Role:
		newer.Organization.Permissions = p.permissions
	default:
		return c
	}
	return &newer
}
