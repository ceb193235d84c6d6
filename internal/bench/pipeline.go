package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/rollcall-dev/rollcall/internal/broker"
	"github.com/rollcall-dev/rollcall/internal/consume"
	"github.com/rollcall-dev/rollcall/internal/ingest"
	"github.com/rollcall-dev/rollcall/internal/publish"
	"github.com/rollcall-dev/rollcall/internal/stack"
	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/streams"
)

const (
	readyWait = time.Minute           // bounds everything that is waited for
	pollEvery = 10 * time.Millisecond // rare enough to cost the database nothing
)

// journal is an embedded JetStream with an empty log, on a directory of its own.
type journal struct {
	*stack.NATS
	dir string
}

func newJournal(ctx context.Context) (*journal, error) {
	dir, err := os.MkdirTemp("", "rollcall-bench-")
	if err != nil {
		return nil, err
	}
	n, err := stack.StartNATS(stack.NATSOptions{Dir: dir, Port: -1})
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	j := &journal{n, dir}
	if err := j.makeStreams(ctx); err != nil {
		return nil, errors.Join(err, j.close())
	}
	return j, nil
}

func (j *journal) makeStreams(ctx context.Context) error {
	nc, err := nats.Connect(j.URL())
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	_, err = streams.Apply(ctx, js, streams.Names{}.Definitions(streams.Options{}))
	return err
}

func (j *journal) close() error {
	j.Shutdown()
	return os.RemoveAll(j.dir)
}

// role is a running part of Rollcall.
type role struct {
	cancel context.CancelFunc
	group  *errgroup.Group
}

func start(ctx context.Context, runs ...func(context.Context) error) *role {
	ctx, cancel := context.WithCancel(ctx)
	g, ctx := errgroup.WithContext(ctx)
	for _, run := range runs {
		g.Go(func() error { return run(ctx) })
	}
	return &role{cancel, g}
}

func (r *role) stop() error {
	r.cancel()
	return r.group.Wait()
}

// connect dials as a process of its own would: over TCP.
func connect(url, name string) (*broker.Conn, error) {
	return broker.Dial(broker.Options{Name: name, URL: url, Log: zap.NewNop()})
}

// front is the ingest role.
type front struct {
	addr      string
	publisher *publish.Publisher
	broker    *broker.Conn
	publishes *role
	serves    *role
}

func newFront(ctx context.Context, natsURL string) (*front, error) {
	b, err := connect(natsURL, "bench ingest")
	if err != nil {
		return nil, err
	}
	registry := prometheus.NewRegistry()
	p := publish.New(b, zap.NewNop(), publish.NewMetrics(registry), func() {})
	h, err := ingest.New(ingest.Options{
		Instances: []ingest.Instance{{Secrets: []string{secret, rotated}}},
		MaxBody:   1 << 20, MaxMemory: 32 << 20, Codes: ingest.CodesRedact,
		Publisher: p, Log: zap.NewNop(),
		Metrics: ingest.NewMetrics(registry, consume.NewDeadLetters(registry)),
	})
	if err != nil {
		b.Close()
		return nil, err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Close()
		return nil, err
	}
	return &front{
		addr: ln.Addr().String(), publisher: p, broker: b,
		publishes: start(context.WithoutCancel(ctx), p.Run),
		serves: start(ctx, func(ctx context.Context) error {
			return ingest.Serve(ctx, ln, h, 10*time.Second, zap.NewNop())
		}),
	}, nil
}

func (f *front) close() error {
	err := errors.Join(f.serves.stop(), f.publishes.stop())
	f.broker.Close()
	return err
}

// trouble remembers why a sink is degraded: a measurement of trouble is none.
type trouble struct {
	mu     sync.Mutex
	reason string
}

func (t *trouble) OK() {}

func (t *trouble) Degraded(reason string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reason = reason
}

func (t *trouble) err() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.reason == "" {
		return nil
	}
	return errors.New("store: " + t.reason)
}

// back is the store role, on a schema of its own that is dropped at the end.
type back struct {
	db     *pgx.Conn
	store  *store.Store
	broker *broker.Conn
	runs   *role
	status *trouble
}

// schema is where the bench writes; whatever it holds is dropped.
const schema = "rollcall_bench"

// newStore makes an empty store, which follows nothing yet.
func newStore(ctx context.Context, databaseURL string) (*back, error) {
	db, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		return nil, fmt.Errorf("connect to the database: %w", err)
	}
	s, err := store.New(store.Options{
		Name: "bench", DatabaseURL: databaseURL, Migrate: store.MigrateAuto, Schema: schema,
		Log: zap.NewNop(), Metrics: store.NewMetrics(prometheus.NewRegistry()),
	})
	if err != nil {
		return nil, errors.Join(err, db.Close(ctx))
	}
	b := &back{db: db, store: s, status: &trouble{}}
	_, err = db.Exec(ctx, "set client_min_messages = warning; drop schema if exists "+schema+" cascade", pgx.QueryExecModeSimpleProtocol)
	if err == nil {
		err = b.checkpoint(ctx)
	}
	if err == nil {
		_, err = s.Position(ctx) // makes the schema
	}
	if err != nil {
		return nil, errors.Join(err, b.close())
	}
	return b, nil
}

// follow begins to apply the log.
func (b *back) follow(ctx context.Context, natsURL string) error {
	conn, err := connect(natsURL, "bench store")
	if err != nil {
		return err
	}
	b.broker = conn
	registry := prometheus.NewRegistry()
	runner := consume.New(b.store, consume.Options{
		Broker: conn, Log: zap.NewNop(), Status: b.status, NoStream: func() {},
		Metrics: consume.NewMetrics(registry, consume.NewDeadLetters(registry)),
	})
	b.runs = start(ctx, runner.Run)
	// It has the lease and reads once the epoch is in the position.
	return b.until(ctx, func() (bool, error) {
		p, err := b.store.Position(ctx)
		return p.Epoch != 0, err
	})
}

// applied waits until the log is applied up to a sequence, and checks that the
// users are there.
func (b *back) applied(ctx context.Context, sequence, users int) error {
	err := b.until(ctx, func() (bool, error) {
		p, err := b.store.Position(ctx)
		return p.Sequence >= uint64(sequence), err
	})
	if err != nil {
		return err
	}
	var rows int
	err = b.db.QueryRow(ctx, "select count(*) from "+schema+".users").Scan(&rows)
	if err == nil && rows != users {
		err = fmt.Errorf("%d rows of %d users", rows, users)
	}
	return err
}

func (b *back) until(ctx context.Context, there func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, readyWait)
	defer cancel()
	for {
		ok, err := there()
		if err == nil && !ok {
			err = b.status.err()
		}
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("store: not there within %s", readyWait)
		case <-time.After(pollEvery):
		}
	}
}

// pause stops following.
func (b *back) pause() error {
	if b.runs == nil {
		return nil
	}
	err := b.runs.stop()
	b.broker.Close()
	b.runs = nil
	return err
}

// checkpoint lets the next measurement begin with nothing to write back, where
// the role may.
func (b *back) checkpoint(ctx context.Context) error {
	_, err := b.db.Exec(ctx, "checkpoint")
	var refused *pgconn.PgError
	if errors.As(err, &refused) && refused.Code == "42501" { // insufficient_privilege
		return nil
	}
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	return nil
}

func (b *back) close() error {
	err := b.pause()
	b.store.Close()
	ctx := context.Background()
	_, dropErr := b.db.Exec(ctx, "drop schema if exists "+schema+" cascade")
	return errors.Join(err, dropErr, b.db.Close(ctx))
}

// serve answers with any handler, as the baselines do.
func serve(ctx context.Context, h http.HandlerFunc) (addr string, stop func() error, err error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	s := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second}
	r := start(ctx, func(ctx context.Context) error {
		if err := s.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	return ln.Addr().String(), func() error {
		err := s.Close()
		return errors.Join(err, r.stop())
	}, nil
}
