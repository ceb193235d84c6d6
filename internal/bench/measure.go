package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"

	"github.com/rollcall-dev/rollcall/internal/publish"
	"github.com/rollcall-dev/rollcall/streams"
)

// sizes of the measurements.
type sizes struct {
	rounds        int
	posts         int // of an ingest round
	alone         int // events, one at a time
	endToEnd      int // events
	backlog       int // events
	backlogRounds int
	curve         []int // users in the store
	curveEvents   int
	organizations int // of the isolated table
	rowsOfEach    int
	revocations   int // entries of the list
}

var (
	full  = sizes{rounds: 5, posts: 20_000, alone: 1000, endToEnd: 20_000, backlog: 200_000, backlogRounds: 3, curve: []int{10_000, 100_000, 1_000_000}, curveEvents: 40_000, organizations: 1000, rowsOfEach: 1000, revocations: 1_000_000}
	quick = sizes{rounds: 3, posts: 6000, alone: 200, endToEnd: 6000, backlog: 30_000, backlogRounds: 1, curve: []int{10_000, 50_000}, curveEvents: 10_000, organizations: 200, rowsOfEach: 200, revocations: 1_000_000}
)

// late duplicates and a peer take long for what they show.
const fewRounds = 3

type bench struct {
	options
	sizes
	databaseURL string
	peers       *peers
	rows        []row
	runs        int
}

// measure runs all measurements, one after the other.
func (b *bench) measure(ctx context.Context) error {
	for _, m := range []struct {
		name string
		run  func(context.Context) error
	}{
		{"ingest 64", b.ingest64},
		{"ingest 256", b.ingest256},
		{"alone", b.alone},
		{"duplicates", b.duplicates},
		{"late", b.lateDuplicates},
		{"end to end", b.endToEnd},
		{"backlog", b.backlog},
		{"curve", b.curve},
		{"audit", b.audit},
		{"invalidate", b.invalidations},
		{"idle", b.idle},
		{"memory", b.memory},
		{"store memory", b.storeMemory},
		{"token", b.tokens},
		{"gateway", b.gateways},
		{"revocation", b.revocation},
		{"rls", b.rowSecurity},
	} {
		if !strings.Contains(m.name, b.only) {
			continue
		}
		began := time.Now()
		fmt.Fprintf(os.Stderr, "%-11s", m.name)
		if err := m.run(ctx); err != nil {
			fmt.Fprintln(os.Stderr)
			return fmt.Errorf("%s: %w", m.name, err)
		}
		fmt.Fprintf(os.Stderr, " %.0f s\n", time.Since(began).Seconds())
	}
	return nil
}

// round shows progress, and begins with a tidy heap: one measurement's garbage
// isn't the next one's to collect.
func (b *bench) round() {
	fmt.Fprint(os.Stderr, ".")
	runtime.GC()
}

func (b *bench) add(r row) { b.rows = append(b.rows, r) }

func (b *bench) signer() (*signer, error) {
	b.runs++
	return newSigner(fmt.Sprintf("%d_%d", os.Getpid(), b.runs))
}

// fresh makes n posts under ids of their own.
func (b *bench) fresh(n int) ([]post, error) {
	s, err := b.signer()
	if err != nil {
		return nil, err
	}
	return s.fresh(0, n)
}

// loadFront posts to an ingest on an empty log, stored first what came before.
func (b *bench) loadFront(ctx context.Context, connections int, before, posts []post) (r result, err error) {
	j, err := newJournal(ctx)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, j.close()) }()
	if len(before) > 0 {
		if _, err := b.loadOnce(ctx, j, connections, before); err != nil {
			return r, err
		}
	}
	return b.loadOnce(ctx, j, connections, posts)
}

// loadOnce starts an ingest that remembers nothing, and loads it.
func (b *bench) loadOnce(ctx context.Context, j *journal, connections int, posts []post) (r result, err error) {
	f, err := newFront(ctx, j.URL())
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	return load(b.client, f.addr, posts, connections)
}

// warmUp lets the first round not pay for a cold process.
func (b *bench) warmUp(ctx context.Context, connections int) error {
	posts, err := b.fresh(b.posts / 4)
	if err != nil {
		return err
	}
	_, err = b.loadFront(ctx, connections, nil, posts)
	return err
}

// besideNull loads ours, the null handler and the bare server in turns.
func (b *bench) besideNull(ctx context.Context, connections int) (beside, bare []pair, err error) {
	if err := b.warmUp(ctx, connections); err != nil {
		return nil, nil, err
	}
	for range b.rounds {
		b.round()
		posts, err := b.fresh(b.posts)
		if err != nil {
			return nil, nil, err
		}
		ours, err := b.loadFront(ctx, connections, nil, posts)
		if err != nil {
			return nil, nil, err
		}
		b.round()
		addr, stop, err := serve(ctx, null)
		if err != nil {
			return nil, nil, err
		}
		ceiling, err := load(b.client, addr, posts, connections)
		if err := errors.Join(err, stop()); err != nil {
			return nil, nil, err
		}
		b.round()
		floor, err := bareBatches(ctx, b.posts, connections)
		if err != nil {
			return nil, nil, err
		}
		beside, bare = append(beside, pair{ours.rate, ceiling.rate}), append(bare, pair{ours.rate, floor})
	}
	return beside, bare, nil
}

func (b *bench) ingest64(ctx context.Context) error {
	rounds, bare, err := b.besideNull(ctx, 64)
	if err != nil {
		return err
	}
	b.add(compare("ingest, 64 connections", "/s", rounds, "null", 0))
	b.add(compare("ingest, 64 connections", "/s", bare, "JetStream alone, batches of 64", 0))
	if b.peers == nil {
		return nil
	}
	var alone, whole []pair
	for range fewRounds {
		posts, err := b.fresh(b.posts)
		if err != nil {
			return err
		}
		b.round()
		ours, err := b.loadFront(ctx, 64, nil, posts)
		if err != nil {
			return err
		}
		b.round()
		theirs, err := b.peers.run(ctx, b.databaseURL, b.posts/4, 64, "watermill", "-sync-always")
		if err != nil {
			return err
		}
		b.round()
		both, err := b.wholePipeline(ctx, 64, posts)
		if err != nil {
			return err
		}
		alone = append(alone, pair{ours.rate, theirs.Ingest.PerSecond})
		whole = append(whole, pair{both.accepted, theirs.Ingest.PerSecond})
	}
	b.add(compare("ingest, 64 connections", "/s", alone, "watermill -sync-always", 4.5))
	b.add(compare("ingest, 64 connections, a store beside it", "/s", whole, "watermill -sync-always", 0))
	return nil
}

func (b *bench) ingest256(ctx context.Context) error {
	rounds, bare, err := b.besideNull(ctx, 256)
	if err != nil {
		return err
	}
	b.add(compare("ingest, 256 connections", "/s", rounds, "null", 0.4))
	b.add(compare("ingest, 256 connections", "/s", bare, "JetStream alone, batches of 256", 0))
	if b.peers == nil {
		return nil
	}
	var theirs []pair
	for _, p := range rounds[:min(fewRounds, len(rounds))] {
		b.round()
		r, err := b.peers.run(ctx, b.databaseURL, b.posts, 256, "null")
		if err != nil {
			return err
		}
		theirs = append(theirs, pair{p.ours, r.Ingest.PerSecond})
	}
	b.add(compare("ingest, 256 connections", "/s", theirs, "peers' null and load", 0))
	return nil
}

func (b *bench) alone(ctx context.Context) error {
	b.round()
	posts, err := b.fresh(b.sizes.alone)
	if err != nil {
		return err
	}
	r, err := b.loadFront(ctx, 1, nil, posts)
	if err != nil {
		return err
	}
	b.add(row{What: "ingest, 1 connection: 2xx p50", Unit: "ms", Ours: milliseconds(r.p50), Target: 3, AtMost: true})
	b.add(row{What: "ingest, 1 connection: 2xx p99", Unit: "ms", Ours: milliseconds(r.p99)})
	return nil
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func (b *bench) duplicates(ctx context.Context) error {
	return b.besideFresh(ctx, "ingest, 64 connections, each event twice", func(s *signer) (before, posts []post, err error) {
		posts, err = s.twice(b.posts / 2)
		return nil, posts, err
	})
}

func (b *bench) lateDuplicates(ctx context.Context) error {
	return b.besideFresh(ctx, "ingest, 64 connections, 5% late duplicates", func(s *signer) (before, posts []post, err error) {
		stored := b.posts/20 + 1
		before, err = s.fresh(0, stored)
		if err != nil {
			return nil, nil, err
		}
		posts, err = s.late(b.posts, stored)
		return before, posts, err
	})
}

// besideFresh compares posts of a kind with as many that are new.
func (b *bench) besideFresh(ctx context.Context, what string, kind func(*signer) (before, posts []post, err error)) error {
	if err := b.warmUp(ctx, 64); err != nil {
		return err
	}
	var rounds []pair
	for range b.rounds {
		b.round()
		s, err := b.signer()
		if err != nil {
			return err
		}
		before, posts, err := kind(s)
		if err != nil {
			return err
		}
		ours, err := b.loadFront(ctx, 64, before, posts)
		if err != nil {
			return err
		}
		b.round()
		if posts, err = b.fresh(b.posts); err != nil {
			return err
		}
		beside, err := b.loadFront(ctx, 64, nil, posts)
		if err != nil {
			return err
		}
		rounds = append(rounds, pair{ours.rate, beside.rate})
	}
	b.add(compare(what, "/s", rounds, "without", 0.8))
	return nil
}

// pipelineRates of one load: posts answered a second, and rows visible a
// second from the first post to the last row.
type pipelineRates struct{ accepted, applied float64 }

func (b *bench) wholePipeline(ctx context.Context, connections int, posts []post) (r pipelineRates, err error) {
	j, err := newJournal(ctx)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, j.close()) }()
	s, err := newStore(ctx, b.databaseURL)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.follow(ctx, j.URL()); err != nil {
		return r, err
	}
	began := time.Now()
	accepted, err := b.loadOnce(ctx, j, connections, posts)
	if err != nil {
		return r, err
	}
	if err := s.applied(ctx, len(posts), len(posts)); err != nil {
		return r, err
	}
	return pipelineRates{accepted.rate, float64(len(posts)) / time.Since(began).Seconds()}, nil
}

func (b *bench) directRate(ctx context.Context, connections int, posts []post) (rate float64, err error) {
	d, err := newDirect(ctx, b.databaseURL)
	if err != nil {
		return 0, err
	}
	defer d.db.Close()
	addr, stop, err := serve(ctx, d.ServeHTTP)
	if err != nil {
		return 0, err
	}
	r, err := load(b.client, addr, posts, connections)
	return r.rate, errors.Join(err, stop())
}

func (b *bench) endToEnd(ctx context.Context) error {
	var own, theirs []pair
	for range fewRounds {
		b.round()
		posts, err := b.fresh(b.sizes.endToEnd)
		if err != nil {
			return err
		}
		ours, err := b.wholePipeline(ctx, 256, posts)
		if err != nil {
			return err
		}
		b.round()
		beside, err := b.directRate(ctx, 256, posts)
		if err != nil {
			return err
		}
		own = append(own, pair{ours.applied, beside})
		if b.peers == nil {
			continue
		}
		b.round()
		peer, err := b.peers.run(ctx, b.databaseURL, b.sizes.endToEnd, 256, "direct")
		if err != nil {
			return err
		}
		theirs = append(theirs, pair{ours.applied, peer.EndToEnd})
	}
	b.add(compare("POST to row, 256 connections", "/s", own, "direct", 2.5))
	if b.peers != nil {
		b.add(compare("POST to row, 256 connections", "/s", theirs, "peers' direct and load", 2.5))
	}
	return nil
}

// fill publishes n events into the log, without HTTP; a later generation is a
// newer version of the same users.
func fill(ctx context.Context, j *journal, n int, generation int) (err error) {
	f, err := newFront(ctx, j.URL())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	var next atomic.Int64
	failed := make(chan error, 256)
	var wg sync.WaitGroup
	for range cap(failed) {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				if _, err := f.publisher.Publish(message(i, generation)); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	wg.Wait()
	select {
	case err := <-failed:
		return fmt.Errorf("fill the log: %w", err)
	default:
		return nil
	}
}

func message(n, generation int) publish.Message {
	user, id, at := userID(n), eventID(n, generation), generationAt(generation)
	return publish.Message{Msg: &nats.Msg{
		Subject: streams.Names{}.Subject(streams.Subject{InstanceID: "ins_2g7np7Hrk0SN6kj5EDMLDaKNL0S", Resource: "user", Action: "updated", EntityID: user}),
		Data:    userEvent(user, at, n),
		Header: nats.Header{
			streams.HeaderMsgID: {id}, streams.HeaderSvixID: {id}, streams.HeaderSource: {string(streams.SourceWebhook)},
			streams.HeaderSvixTimestamp: {fmt.Sprint(at.Unix())}, streams.HeaderSvixSignature: {"v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4="},
			streams.HeaderReceivedAt: {fmt.Sprint(at.UnixMilli())},
		},
	}}
}

func (b *bench) backlog(ctx context.Context) error {
	n := b.sizes.backlog
	var inserts, updates []pair
	for range b.backlogRounds {
		b.round()
		ours, err := b.drain(ctx, n)
		if err != nil {
			return err
		}
		b.round()
		byHand, err := b.byHand(ctx, n)
		if err != nil {
			return err
		}
		inserts = append(inserts, pair{ours[0], byHand[0]})
		updates = append(updates, pair{ours[1], byHand[1]})
	}
	b.add(compare(fmt.Sprintf("backlog of %d new users", n), "/s", inserts, "by hand, from memory", 0.8))
	b.add(compare(fmt.Sprintf("backlog of %d updates of them", n), "/s", updates, "by hand, from memory", 0))
	return nil
}

// drain applies a log of n new users, then as many updates of them.
func (b *bench) drain(ctx context.Context, n int) (rates [2]float64, err error) {
	j, err := newJournal(ctx)
	if err != nil {
		return rates, err
	}
	defer func() { err = errors.Join(err, j.close()) }()
	s, err := newStore(ctx, b.databaseURL)
	if err != nil {
		return rates, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	for generation := range rates {
		if err := fill(ctx, j, n, generation); err != nil {
			return rates, err
		}
		if err := s.checkpoint(ctx); err != nil {
			return rates, err
		}
		runtime.GC()
		began := time.Now()
		if err := s.follow(ctx, j.URL()); err != nil {
			return rates, err
		}
		if err := s.applied(ctx, (generation+1)*n, n); err != nil {
			return rates, err
		}
		rates[generation] = float64(n) / time.Since(began).Seconds()
		if err := s.pause(); err != nil {
			return rates, err
		}
	}
	return rates, nil
}

func (b *bench) byHand(ctx context.Context, n int) (rates [2]float64, err error) {
	s, err := newStore(ctx, b.databaseURL)
	if err != nil {
		return rates, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	for generation := range rates {
		if err := s.checkpoint(ctx); err != nil {
			return rates, err
		}
		if rates[generation], err = fromMemory(ctx, s.db, firstUsers(n), generation); err != nil {
			return rates, err
		}
	}
	return rates, nil
}

// idle measures one event at a time, from its 2xx until a reader sees the row.
func (b *bench) idle(ctx context.Context) (err error) {
	j, err := newJournal(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, j.close()) }()
	s, err := newStore(ctx, b.databaseURL)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.follow(ctx, j.URL()); err != nil {
		return err
	}
	f, err := newFront(ctx, j.URL())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	senders, err := newSenders(b.client, f.addr, 1)
	if err != nil {
		return err
	}
	c := senders[0]
	defer c.Close() //nolint:errcheck // every answer has been read
	posts, err := b.fresh(b.sizes.alone)
	if err != nil {
		return err
	}
	took := make([]time.Duration, len(posts))
	for i, p := range posts {
		if i%100 == 0 {
			b.round()
		}
		if err := c.send(p); err != nil {
			return err
		}
		answered := time.Now()
		if err := visible(ctx, s.db, p.user); err != nil {
			return err
		}
		took[i] = time.Since(answered)
	}
	p50, p99 := percentiles(took)
	b.add(row{What: "idle: from 2xx to a visible row, p50", Unit: "ms", Ours: milliseconds(p50), Target: 5, AtMost: true})
	b.add(row{What: "idle: from 2xx to a visible row, p99", Unit: "ms", Ours: milliseconds(p99), Target: 20, AtMost: true})
	return nil
}

func visible(ctx context.Context, db *pgx.Conn, user string) error {
	for deadline := time.Now().Add(readyWait); time.Now().Before(deadline); {
		var there bool
		err := db.QueryRow(ctx, "select exists (select from "+schema+".users where id = $1)", user).Scan(&there)
		if there || err != nil {
			return err
		}
	}
	return fmt.Errorf("no row within %s", readyWait)
}

func (b *bench) memory(ctx context.Context) (err error) {
	j, err := newJournal(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, j.close()) }()
	b.round()
	p, err := startIngestOnly(ctx, j.URL(), b.options)
	if err != nil {
		return err
	}
	peak, ok, err := b.fullLoad(p)
	objects, bytes, stopErr := p.stop()
	if err := errors.Join(err, stopErr); err != nil {
		return err
	}
	what := "ingest process, 256 connections: "
	b.add(row{What: what + "allocations an event", Ours: objects / float64(b.posts)})
	b.add(row{What: what + "bytes allocated an event", Ours: bytes / float64(b.posts)})
	if program, found := rollcall(); found {
		what = "bin/rollcall run ingest, 256 connections: "
		b.round()
		p, err = startRollcall(ctx, program, []string{"NATS_URL=" + j.URL(), "CLERK_WEBHOOK_SIGNING_SECRET=" + secret, "ROLLCALL_WEBHOOK_SIGNING_SECRETS=" + rotated}, "ingest")
		if err != nil {
			return err
		}
		peak, ok, err = b.fullLoad(p)
		_, _, stopErr = p.stop()
		if err := errors.Join(err, stopErr); err != nil {
			return err
		}
	}
	if ok {
		b.add(row{What: what + "resident memory", Unit: "MB", Ours: peak, Target: 64, AtMost: true})
	}
	return nil
}

func (b *bench) fullLoad(p *process) (peak float64, ok bool, err error) {
	posts, err := b.fresh(b.posts)
	if err != nil {
		return 0, false, err
	}
	if _, err := load(b.client, p.addr, posts, 256); err != nil {
		return 0, false, err
	}
	peak, ok = p.peakMemory()
	return peak, ok, nil
}

// storeMemory measures a store process that has the backlog to apply.
func (b *bench) storeMemory(ctx context.Context) (err error) {
	program, found := rollcall()
	if !found {
		return nil
	}
	j, err := newJournal(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, j.close()) }()
	s, err := newStore(ctx, b.databaseURL)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	b.round()
	if err := fill(ctx, j, b.sizes.backlog, 0); err != nil {
		return err
	}
	b.round()
	file := filepath.Join(j.dir, "rollcall.yaml")
	if err := os.WriteFile(file, []byte("stores: {bench: {schema: "+schema+"}}\n"), 0o600); err != nil {
		return err
	}
	p, err := startRollcall(ctx, program, []string{"NATS_URL=" + j.URL(), "DATABASE_URL=" + b.databaseURL}, "--config", file, "store/bench")
	if err != nil {
		return err
	}
	err = s.applied(ctx, b.sizes.backlog, b.sizes.backlog)
	peak, ok := p.peakMemory()
	_, _, stopErr := p.stop()
	if ok {
		b.add(row{What: fmt.Sprintf("bin/rollcall run store, backlog of %d: resident memory", b.sizes.backlog), Unit: "MB", Ours: peak, Target: 128, AtMost: true})
	}
	return errors.Join(err, stopErr)
}

// rollcall is the program that was built in this working directory, if any.
func rollcall() (program string, found bool) {
	program, err := filepath.Abs(filepath.Join("bin", "rollcall"))
	if err != nil {
		return "", false
	}
	_, err = os.Stat(program)
	return program, err == nil
}
