// Package store is the sink that keeps a service's copy of what Clerk has, in a
// schema of the service's own Postgres.
//
// Every write is a join: of two contents of an entity the greater version
// stays, of two deletions the earlier, so that events may come in any order and
// any number of times. Whatever writes a store takes the schema's advisory lock
// for the length of its transaction, so that a delete with its cascade and a
// child's insert can't miss each other. There is no session state: any
// statement may run behind a pooler in transaction mode.
package store

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"

	"github.com/rollcall-dev/rollcall/internal/projection"
	"github.com/rollcall-dev/rollcall/streams"
)

// MigrateAuto and MigrateOff say who changes the schema.
const (
	MigrateAuto = "auto"
	MigrateOff  = "off"
)

// Options of a Store.
type Options struct {
	Name               string // "app"; the sink is then "store-app"
	DatabaseURL        string // may lead through a pooler in transaction mode
	MigrateDatabaseURL string // of the schema's owner; "" means DatabaseURL
	Migrate            string // MigrateAuto or MigrateOff
	Schema             string
	Resources          []string            // by table; none means all
	Include, Exclude   map[string][]string // by table: columns beside, and out of, those that are on
	Tenancy            bool                // row-level security on the store's own tables
	Notify             bool                // listeners are told what changed
	OnDelete           string              // OnDeleteTombstone, OnDeleteHard or OnDeleteKeep; "" means tombstone
	InstanceID         string              // the only one followed; "" follows all
	Names              streams.Names
	Log                *zap.Logger
	Metrics            *Metrics
	// Leftover is told what the schema holds that the configuration leaves out, ""
	// for nothing, whenever that was looked at; nil tells nobody.
	Leftover func(reason string)
}

// Store is one store. It is a sink of the log.
type Store struct {
	o         Options
	pool      *pgxpool.Pool
	schema    string // quoted
	lock      int64
	selection projection.Selection
	wanted    []*projection.Resource // by the configuration
	laid      atomic.Pointer[layout] // what is wanted, and what is left over
	looked    atomic.Bool            // for the latter
	leftover  atomic.Bool            // there is some
	prepared  bool                   // the schema is as this release needs it
	heldOnce  sync.Once
	owedOnce  sync.Once

	lockTimeout, idleTimeout time.Duration
}

// New makes a store. It doesn't connect: a database that can't be reached is
// trouble, not a mistake. A URL that can't be parsed is one.
func New(o Options) (*Store, error) {
	if o.MigrateDatabaseURL == "" {
		o.MigrateDatabaseURL = o.DatabaseURL
	}
	for _, url := range []string{o.DatabaseURL, o.MigrateDatabaseURL} {
		if _, err := pgx.ParseConfig(url); err != nil {
			return nil, fmt.Errorf("store %s: the database URL can't be parsed: %w", o.Name, errors.Unwrap(err)) // the outer error quotes it
		}
	}
	if o.OnDelete == "" {
		o.OnDelete = OnDeleteTombstone
	}
	selection := projection.Selection{Tables: o.Resources, Include: o.Include, Exclude: o.Exclude}
	if problems := selection.Problems(); len(problems) > 0 {
		return nil, fmt.Errorf("store %s: %s", o.Name, problems[0])
	}
	pool, err := pgxpool.NewWithConfig(context.Background(), poolConfig(o.DatabaseURL))
	if err != nil {
		return nil, fmt.Errorf("store %s: %w", o.Name, err)
	}
	s := &Store{
		o: o, pool: pool, schema: pgx.Identifier{o.Schema}.Sanitize(), lock: lockKey(o.Schema),
		selection: selection, wanted: selection.Resources(),
		lockTimeout: defaultLockTimeout, idleTimeout: defaultIdleTimeout,
	}
	s.lay(s.wanted)
	return s, nil
}

// Close ends the store's connections.
func (s *Store) Close() { s.pool.Close() }

func poolConfig(url string) *pgxpool.Config {
	c, err := pgxpool.ParseConfig(url)
	if err != nil {
		panic(err) // parsed before
	}
	// One writes, one reads the status; whatever else there is belongs to the service.
	c.MaxConns = 4
	forPooler(c.ConnConfig)
	return c
}

const connectTimeout = 5 * time.Second

// forPooler makes a connection do without prepared statements, which a pooler
// in transaction mode loses.
func forPooler(c *pgx.ConnConfig) {
	c.DefaultQueryExecMode = pgx.QueryExecModeExec
	c.StatementCacheCapacity = 0
	c.DescriptionCacheCapacity = 0
	if c.ConnectTimeout == 0 { // not in the URL; trouble has to show within seconds
		c.ConnectTimeout = connectTimeout
		c.DialFunc = (&net.Dialer{Timeout: connectTimeout, KeepAlive: time.Minute}).DialContext
	}
}

// lockKey is the advisory lock of whoever writes the schema.
func lockKey(schema string) int64 {
	h := fnv.New64a()
	h.Write([]byte("rollcall store " + schema))
	return int64(h.Sum64())
}

// Name of the sink.
func (s *Store) Name() string { return streams.SinkStore(s.o.Name) }

// Schema in which the tables are.
func (s *Store) Schema() string { return s.o.Schema }

// Subjects of the log that the store wants. A store of all resources reads
// every event, so that it can count those of types that it doesn't know.
func (s *Store) Subjects() []string {
	kept := s.layout().resources
	if len(kept) == len(projection.Resources()) {
		return []string{s.o.Names.InstanceSubjects(s.o.InstanceID)}
	}
	var subjects []string
	for _, r := range append(projection.Concerned(kept), kept...) {
		subjects = append(subjects, s.o.Names.ResourceSubjects(s.o.InstanceID, r.Object))
	}
	return subjects
}

// Position reads how far the store has come. The first time it makes or checks
// the schema; where somebody else has written before, it finds out what is
// incomplete since.
func (s *Store) Position(ctx context.Context) (streams.Position, error) {
	if !s.prepared {
		if err := s.Migrate(ctx); err != nil {
			return streams.Position{}, err
		}
		s.prepared = true
	}
	p, ours, err := s.readPosition(ctx)
	if err == nil && !ours {
		if err = s.takeOver(ctx); err == nil {
			p, _, err = s.readPosition(ctx)
		}
	}
	if errors.Is(err, pgx.ErrNoRows) || missing(err) {
		s.prepared = false // dropped under our feet: make it again
	}
	return p, err
}

// readPosition reads the position; ours tells whether this store's own writer,
// or one that writes the same columns, has moved it there.
func (s *Store) readPosition(ctx context.Context) (p streams.Position, ours bool, err error) {
	var at *time.Time
	err = s.pool.QueryRow(ctx, `select epoch, position, position_time, columns_key = $2 and columns_epoch = epoch and columns_position = position
from `+s.schema+`.sync_status where store = $1`, s.o.Name, s.layout().key).Scan(&p.Epoch, &p.Sequence, &at, &ours)
	if err != nil {
		return p, false, fmt.Errorf("read %s.sync_status: %w", s.o.Schema, err)
	}
	p.Time = orZero(at)
	return p, ours, nil
}

// missing tells that a table, a column or the schema isn't there.
func missing(err error) bool {
	state := stateOf(err)
	return state == "42P01" || state == "42703" || state == "3F000"
}

// stateOf is the SQLSTATE, "" where the error isn't Postgres's.
func stateOf(err error) string {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return ""
	}
	return pg.Code
}

// Prepare decodes and folds messages of one epoch. Work of another type than
// *Work isn't ours.
func (s *Store) Prepare(messages []streams.Message) (any, map[int]error) {
	w, rejected, unknown := s.prepare(messages, nil)
	s.o.Metrics.unknown(s.o.Name, unknown)
	return w, rejected
}

// prepare decodes and folds messages, and leaves out contents of tables that
// aren't wanted. It counts those of types that the store doesn't know.
func (s *Store) prepare(messages []streams.Message, unwanted func(*projection.Resource) bool) (w *Work, rejected map[int]error, unknown int) {
	l := s.layout()
	batch := l.decoder.Begin()
	defer batch.Release() // the work has its own copy
	for i := range messages {
		known, err := batch.Decode(messages[i])
		switch {
		case err != nil:
			if rejected == nil {
				rejected = map[int]error{}
			}
			rejected[i] = err
		case !known:
			unknown++
		}
	}
	folded := batch.Fold()
	if unwanted != nil {
		maps.DeleteFunc(folded.Contents, func(r *projection.Resource, _ []*projection.Change) bool { return unwanted(r) })
	}
	w = s.pack(l, folded)
	if len(messages) > 0 {
		w.epoch = messages[0].Epoch
	}
	return w, rejected, unknown
}
