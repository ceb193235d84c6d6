package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/rollcall-dev/rollcall/internal/broker"
	"github.com/rollcall-dev/rollcall/internal/consume"
	"github.com/rollcall-dev/rollcall/internal/invalidate"
	"github.com/rollcall-dev/rollcall/internal/stack"
	"github.com/rollcall-dev/rollcall/streams"
)

// cache is a redis-server of the benchmark's own.
type cache struct {
	url    string
	client *redis.Client
	child  *stack.Child
}

func newCache(ctx context.Context, dir string) (*cache, error) {
	program, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, fmt.Errorf("%w: .ci/deps test installs it", err)
	}
	socket := filepath.Join(dir, "redis.sock")
	child, err := stack.StartChild(exec.Command(program, "--port", "0", "--unixsocket", socket, "--save", "", "--dir", dir), stack.Account{}, syscall.SIGKILL)
	if err != nil {
		return nil, err
	}
	c := &cache{url: "unix://" + socket, child: child, client: redis.NewClient(&redis.Options{Network: "unix", Addr: socket})}
	for until := time.Now().Add(readyWait); ; time.Sleep(pollEvery) {
		if err := c.client.Ping(ctx).Err(); err == nil || time.Now().After(until) {
			return c, err
		}
	}
}

func (c *cache) close() error {
	err := errors.Join(c.client.Close(), c.child.Signal(syscall.SIGKILL))
	<-c.child.Done()
	return err
}

// invalidator is the invalidate role with one target.
type invalidator struct {
	all    *invalidate.Invalidator
	target invalidate.Target
	broker *broker.Conn
	runs   *role
	status *trouble
}

func newInvalidator(ctx context.Context, natsURL, redisURL string, after ...string) (*invalidator, error) {
	target, err := invalidate.NewRedis(redisURL, "rollcall.invalidate", "")
	if err != nil {
		return nil, err
	}
	conn, err := connect(natsURL, "bench invalidate")
	if err != nil {
		return nil, err
	}
	var stores []invalidate.Prerequisite
	for _, name := range after {
		stores = append(stores, invalidate.Prerequisite{Name: name, Key: consume.PositionKey(name)})
	}
	registry := prometheus.NewRegistry()
	v, err := invalidate.New(invalidate.Options{
		Broker: conn, Keys: map[string][]string{"users": {"user:{id}", "user:email:{email}"}}, After: stores,
		Targets: []invalidate.Target{target}, Log: zap.NewNop(), Metrics: invalidate.NewMetrics(registry),
	})
	if err != nil {
		conn.Close()
		return nil, err
	}
	i := &invalidator{all: v, target: target, broker: conn, status: &trouble{}}
	runner := consume.New(v.Sinks()[0], consume.Options{
		Broker: conn, Log: zap.NewNop(), Status: i.status, NoStream: func() {},
		Metrics: consume.NewMetrics(registry, consume.NewDeadLetters(registry)),
	})
	i.runs = start(ctx, runner.Run)
	return i, nil
}

func (i *invalidator) close() error {
	err := i.runs.stop()
	i.broker.Close()
	return errors.Join(err, i.target.Close(), i.status.err())
}

// invalidations measures how fast a backlog's keys go from a Redis beside it,
// and how soon one key does.
func (b *bench) invalidations(ctx context.Context) (err error) {
	j, err := newJournal(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, j.close()) }()
	c, err := newCache(ctx, j.dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	n := b.sizes.backlog / 2
	for generation, what := range []string{"of users seen first", "of users known"} {
		b.round()
		rate, err := b.invalidateAll(ctx, j, c, n, generation)
		if err != nil {
			return err
		}
		b.add(row{What: "keys removed from a Redis, " + what, Unit: "/s", Ours: rate, Target: 20_000})
	}
	if err := b.invalidateAlone(ctx, j, c, ""); err != nil {
		return err
	}
	return b.invalidateAfterStore(ctx)
}

// invalidateAll is keys a second over a log of n events, two keys each.
func (b *bench) invalidateAll(ctx context.Context, j *journal, c *cache, n, generation int) (rate float64, err error) {
	if err := fill(ctx, j, n, generation); err != nil {
		return 0, err
	}
	end, err := endOf(ctx, j)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	i, err := newInvalidator(ctx, j.URL(), c.url)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, i.close()) }()
	limited, cancel := context.WithTimeout(ctx, readyWait)
	defer cancel()
	if err := i.all.Wait(limited, end); err != nil {
		return 0, err
	}
	return float64(2*n) / time.Since(began).Seconds(), nil
}

func endOf(ctx context.Context, j *journal) (at streams.Position, err error) {
	nc, err := nats.Connect(j.URL())
	if err != nil {
		return at, err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return at, err
	}
	s, err := js.Stream(ctx, streams.Names{}.Stream())
	if err != nil {
		return at, err
	}
	info := s.CachedInfo()
	return streams.Position{Epoch: info.Created.UnixNano(), Sequence: info.State.LastSeq}, nil
}

// invalidateAlone is from an event's acknowledgement to its key being gone, with
// nothing else to do.
func (b *bench) invalidateAlone(ctx context.Context, j *journal, c *cache, label string, after ...string) (err error) {
	i, err := newInvalidator(ctx, j.URL(), c.url, after...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, i.close()) }()
	end, err := endOf(ctx, j)
	if err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, readyWait)
	defer cancel()
	if err := i.all.Wait(limited, end); err != nil {
		return err
	}
	f, err := newFront(ctx, j.URL())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	took := make([]time.Duration, b.sizes.alone)
	for n := range took {
		if n%100 == 0 {
			b.round()
		}
		b.runs++ // a generation of its own
		key := "user:" + userID(n)
		if err := c.client.Set(ctx, key, "x", 0).Err(); err != nil {
			return err
		}
		if _, err := f.publisher.Publish(message(n, 10+b.runs)); err != nil {
			return err
		}
		stored := time.Now()
		for {
			there, err := c.client.Exists(ctx, key).Result()
			if err != nil {
				return err
			}
			if there == 0 {
				break
			}
			time.Sleep(200 * time.Microsecond) // what is measured needs the processor too
		}
		took[n] = time.Since(stored)
	}
	p50, p99 := percentiles(took)
	aims := [2]float64{5, 25}
	if len(after) > 0 {
		aims = [2]float64{} // most of it is the store's
	}
	b.add(row{What: "idle: from stored to key gone" + label + ", p50", Unit: "ms", Ours: milliseconds(p50), Target: aims[0], AtMost: true})
	b.add(row{What: "idle: from stored to key gone" + label + ", p99", Unit: "ms", Ours: milliseconds(p99), Target: aims[1], AtMost: true})
	return nil
}

// invalidateAfterStore is the same behind a store.
func (b *bench) invalidateAfterStore(ctx context.Context) (err error) {
	j, err := newJournal(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, j.close()) }()
	c, err := newCache(ctx, j.dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	s, err := newStore(ctx, b.databaseURL)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.follow(ctx, j.URL()); err != nil {
		return err
	}
	return b.invalidateAlone(ctx, j, c, ", after a store", s.store.Name())
}
