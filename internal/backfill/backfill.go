// Package backfill puts what Clerk's Backend API lists into the log, as
// snapshots, while webhooks keep flowing. Versions decide what of both ends in a
// row: a change made between a snapshot's reading and its arrival wins, since a
// snapshot is as old as the request that read it.
//
//	lease ─▶ checkpoint ─▶ totals ─▶ for each resource: plan, walk, walk, …
//	                                       │
//	             list (budget) ─▶ compare ─▶ publish ─▶ checkpoint
//
// A run may be ended at any moment. What it had read is in the log, and how far
// it was in CLERK_STATE; the next one goes on there, and what is published
// twice has the same message id.
package backfill

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
	"golang.org/x/sync/errgroup"

	"github.com/rollcall-dev/rollcall/internal/clerk/backend"
	"github.com/rollcall-dev/rollcall/internal/lease"
	"github.com/rollcall-dev/rollcall/internal/publish"
	"github.com/rollcall-dev/rollcall/streams"
)

const (
	defaultLease = 10 * time.Second
	graceOfStop  = 5 * time.Second // for pages in hand, once the process stops
	publishers   = 512             // messages on their way to the log at one time
)

// Publisher puts messages into the log.
type Publisher interface {
	Publish(publish.Message) (duplicate bool, err error)
}

// Store is one of the instance's, as a backfill asks it.
type Store interface {
	Name() string
	// Holds reports whether the table is kept.
	Holds(table string) bool
	// UpdatedAt of those of the entities that have a content, in milliseconds since
	// 1970.
	UpdatedAt(ctx context.Context, table string, ids []string) (map[string]int64, error)
	// OtherInstance is one whose rows are there, while none of this one is; "" if
	// there is none.
	OtherInstance(ctx context.Context, instanceID string) (string, error)
}

// Erased is who was erased; erased.List is one.
type Erased interface {
	// Wait returns once all of them are known.
	Wait(context.Context) error
	// Cut is what may be published of a body, and what was taken from it.
	Cut(body []byte) (cut []byte, paths []string)
}

// Options of a run.
type Options struct {
	Client     *backend.Client
	JetStream  jetstream.JetStream
	Publisher  Publisher // its Run must be running
	Erased     Erased    // nil: nobody
	Names      streams.Names
	InstanceID string   // as configured; "" takes whichever the secret key is of
	Resources  []string // by table; none means all, or those of the run that goes on
	Stores     []Store  // that follow the instance; rows are compared with the first that keeps them
	Restart    bool     // leaves a run that was interrupted
	By         string   // who does it, for the log
	// Lease is how long a process that vanished keeps the next one waiting; 0 is 10 s.
	Lease time.Duration
	// Waiting is told who is at it, while a lease is waited for; nil tells nobody.
	Waiting func(error)
	// Progress is told, after each page, how many rows of those that Clerk counted
	// when the run started are in the log; nil tells nobody.
	Progress func(resource string, done, total int64)
	// Now is our clock, for Rollcall-Received-At alone; nil: time.Now.
	Now func() time.Time
}

// Counts are what a resource's rows came to.
type Counts struct {
	Fetched int64 `json:"fetched"`
	// New rows are not in the store, Newer ones newer than it, Same those that it has
	// as they are, or newer. They are 0 where no store keeps
	// the resource, or it couldn't be asked.
	New   int64 `json:"new"`
	Newer int64 `json:"newer"`
	Same  int64 `json:"same"`
}

// Result is what became of a resource.
type Result struct {
	Resource string `json:"resource"`
	Total    int64  `json:"total"` // Clerk's, when the run started
	Counts
	Store string `json:"store,omitempty"` // that the rows were compared with
	Left  string `json:"left,omitempty"`  // why Clerk didn't list it
}

// Report is what a run came to, or how far it is.
type Report struct {
	Run        string         `json:"run"`
	InstanceID string         `json:"instance_id"`
	Resumed    bool           `json:"resumed"` // an earlier process had begun it
	Finished   bool           `json:"finished"`
	Resources  []Result       `json:"resources"`
	Requests   int64          `json:"requests"` // to Clerk, of all processes of the run
	Process    backend.Counts `json:"process"`  // of this one
}

// WrongInstanceError refuses a secret key that is of another instance than it should be.
type WrongInstanceError struct{ Key, Want, Where string }

func (e *WrongInstanceError) Error() string {
	return fmt.Sprintf("the secret key (CLERK_SECRET_KEY) is of instance %s, and %s: %s", e.Key, e.Where, e.Want)
}

// UnfinishedError refuses to leave a run of other resources.
type UnfinishedError struct{ Resources []string }

func (e *UnfinishedError) Error() string {
	return fmt.Sprintf("a backfill of %v was interrupted: go on with it without --resource, or leave it with --restart", e.Resources)
}

type run struct {
	Options
	*checkpoint
	instanceID string
	resumed    bool
	slots      chan struct{}
}

// Instance finds out which instance the secret key is of, and refuses another
// than the one configured, or than the stores'. At is Clerk's clock.
func Instance(ctx context.Context, o Options) (id string, at time.Time, err error) {
	id, at, err = o.Client.Instance(ctx)
	if err != nil {
		return "", at, err
	}
	if o.InstanceID != "" && o.InstanceID != id {
		return "", at, &WrongInstanceError{id, o.InstanceID, "another is configured (instance.id)"}
	}
	for _, s := range o.Stores {
		other, err := s.OtherInstance(ctx, id)
		if err != nil {
			return "", at, err
		}
		if other != "" {
			return "", at, &WrongInstanceError{id, other, s.Name() + " has rows of another"}
		}
	}
	return id, at, nil
}

// Totals are how many of each resource Clerk has: what a run would fetch.
func Totals(ctx context.Context, o Options) (*Report, error) {
	id, _, err := Instance(ctx, o)
	if err != nil {
		return nil, err
	}
	r := &run{Options: o}
	all, err := r.totals(ctx)
	if err != nil {
		return nil, err
	}
	return r.report(&state{InstanceID: id, Resources: all, Requests: o.Client.Counts().Requests}), nil
}

// Run makes a run, or goes on with the one that was interrupted, until it is
// finished or the context ends; pages in hand are then finished. The report says
// how far it is in any case, unless it is nil. Errors are ones of Clerk, NATS or a
// store's database that didn't pass, the context's, and those above.
func Run(ctx context.Context, o Options) (*Report, error) {
	if o.Lease == 0 {
		o.Lease = defaultLease
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Waiting == nil {
		o.Waiting = func(error) {}
	}
	if o.Progress == nil {
		o.Progress = func(string, int64, int64) {}
	}
	id, at, err := Instance(ctx, o)
	if err != nil {
		return nil, err
	}
	r := &run{Options: o, instanceID: id, slots: make(chan struct{}, publishers)}
	if err := r.look(ctx); err != nil {
		return nil, err
	}
	held, err := r.take(ctx)
	if err != nil {
		return nil, err
	}
	defer held.Release()
	if err := r.begin(held.Context(), at); err != nil {
		return nil, err
	}
	err = r.work(held.Context())
	if held.Context().Err() != nil && ctx.Err() == nil {
		err = errors.Join(errors.New("the lease was lost"), err)
	}
	var report *Report
	r.see(func(s *state) { report = r.report(s) })
	report.Finished = err == nil
	return report, err
}

// look checks that what the run needs of NATS is there.
func (r *run) look(ctx context.Context) error {
	if _, err := r.JetStream.Stream(ctx, r.Names.Stream()); err != nil {
		return fmt.Errorf("stream %s: %w; rollcall streams apply makes it", r.Names.Stream(), err)
	}
	kv, err := r.JetStream.KeyValue(ctx, r.Names.StateBucket())
	if err != nil {
		return fmt.Errorf("bucket %s: %w; rollcall streams apply makes it", r.Names.StateBucket(), err)
	}
	r.checkpoint = &checkpoint{kv: kv, key: checkpointKey(r.instanceID), writer: nuid.Next(), requests: func() int64 { return r.Client.Counts().Requests }}
	return nil
}

// take waits for the lease as long as one lives that nobody renews.
func (r *run) take(ctx context.Context) (*lease.Lease, error) {
	until := time.Now().Add(r.Lease + r.Lease/2)
	for {
		held, err := lease.Take(ctx, r.JetStream, r.Names.StateBucket(), "backfill-"+r.instanceID, r.Lease, nil)
		var other *lease.HeldError
		if !errors.As(err, &other) {
			return held, err
		}
		if time.Now().After(until) {
			return nil, fmt.Errorf("a backfill of %s is under way: %w", r.instanceID, other)
		}
		r.Waiting(other)
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(r.Lease / 20):
		}
	}
}

// begin goes on with the run that was interrupted, or starts one.
func (r *run) begin(ctx context.Context, at time.Time) error {
	s, err := r.open(ctx)
	if err != nil && !r.Restart {
		return err
	}
	if s != nil && !r.Restart {
		if len(r.Resources) > 0 && !slices.Equal(sorted(r.Resources), s.tables()) {
			return &UnfinishedError{s.tables()}
		}
		r.resumed = true
		return r.checkpoint.begin(ctx, s)
	}
	s = &state{Run: nuid.Next(), InstanceID: r.instanceID, StartedAt: at.UnixMilli()}
	if s.Resources, err = r.totals(ctx); err != nil {
		return err
	}
	return r.checkpoint.begin(ctx, s)
}

// totals asks Clerk how many there are of each resource.
func (r *run) totals(ctx context.Context) ([]*progress, error) {
	var all []*progress
	for _, table := range sorted(r.Resources) {
		p := &progress{Table: table}
		var err error
		p.Total, err = Total(ctx, r.Client, table)
		var refused *backend.RefusedError
		if errors.As(err, &refused) {
			p.Left, err = refused.Error(), nil // not every instance has organizations, or a waitlist
		}
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, nil
}

// work fetches what is left, and notes beginning and end in the log.
func (r *run) work(ctx context.Context) error {
	var s state
	r.see(func(now *state) { s = *now })
	err := r.note(ctx, s, streams.ActionBackfillStarted, streams.BackfillStarted{ID: s.Run, Resources: s.tables(), By: r.By})
	if err != nil {
		return err
	}
	if err := r.fetch(ctx, s.Resources); err != nil {
		return err
	}
	finished := streams.BackfillFinished{ID: s.Run, StartedAt: streams.Millis{Time: time.UnixMilli(s.StartedAt).UTC()}, By: r.By}
	r.see(func(now *state) {
		finished.Requests = now.Requests
		for _, p := range now.Resources {
			finished.Resources = append(finished.Resources, streams.ResourceBackfilled{Resource: p.Table, Fetched: p.Fetched, Left: p.Left})
		}
	})
	if err := r.note(ctx, s, streams.ActionBackfillFinished, finished); err != nil {
		return err
	}
	return r.remove(ctx)
}

// note puts an event of Rollcall's own into the log, once a run.
func (r *run) note(ctx context.Context, s state, action string, data any) error {
	m, err := r.Names.Act(s.InstanceID, action, s.Run, r.Now(), data)
	if err != nil {
		return err
	}
	return r.publish(ctx, publish.Message{Msg: m})
}

// fetch fetches one resource after the other, and saves how far it came whatever
// ends it.
func (r *run) fetch(ctx context.Context, all []*progress) error {
	g, work := errgroup.WithContext(ctx)
	saving, stop := context.WithCancel(work)
	g.Go(func() error { return r.checkpoint.run(saving) })
	g.Go(func() error {
		defer stop()
		for i := range all {
			if err := r.resource(work, i); err != nil {
				return err
			}
		}
		return nil
	})
	err := g.Wait()
	hand, cancel := context.WithTimeout(context.WithoutCancel(ctx), graceOfStop)
	defer cancel()
	return errors.Join(err, r.save(hand))
}

func (r *run) report(s *state) *Report {
	report := &Report{Run: s.Run, InstanceID: s.InstanceID, Resumed: r.resumed, Requests: s.Requests, Process: r.Client.Counts()}
	for _, p := range s.Resources {
		result := Result{Resource: p.Table, Total: p.Total, Counts: p.Counts, Left: p.Left}
		if s := r.storeOf(p.Table); s != nil && !p.Uncompared {
			result.Store = s.Name()
		} else {
			result.Counts = Counts{Fetched: p.Fetched}
		}
		report.Resources = append(report.Resources, result)
	}
	return report
}

// storeOf is the store that a resource's rows are compared with; nil for none.
func (r *run) storeOf(table string) Store {
	for _, s := range r.Stores {
		if s.Holds(table) {
			return s
		}
	}
	return nil
}
