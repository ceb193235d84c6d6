// Package reconcile compares stores with what Clerk's Backend API says, and mends
// them through the log: snapshots of what is missing or stale, deletes of what
// Clerk no longer has.
//
//	lists, page by page ─▶ first look ─▶ a grace ─▶ second look ─▶ drift ─▶ log ─▶ third look
//	rows that no list showed ─▶ Clerk's word on each ─▶ a grace ─▶ drift ─▶ breaker ─▶ log
//
// A row that differs may only be ahead of its webhook, or behind it. So it counts
// as drift if it still differs after a grace, once the store has applied all that
// the log held then, unless Clerk has said something of it since the page was read.
package reconcile

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/rollcall-dev/rollcall/internal/backfill"
	"github.com/rollcall-dev/rollcall/internal/clerk/backend"
	"github.com/rollcall-dev/rollcall/internal/lease"
	"github.com/rollcall-dev/rollcall/internal/publish"
	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/streams"
)

// The passes, cheapest first.
const (
	Counts = "counts" // totals alone
	Recent = "recent" // what Clerk has changed since the last pass, and totals
	Full   = "full"   // every row, and what Clerk no longer has
)

// Passes are their names.
func Passes() []string { return []string{Counts, Recent, Full} }

// Kinds of differences, of a store's rows against Clerk's.
const (
	Missing = "missing" // there is no live row
	Stale   = "stale"   // columns differ
	Extra   = "extra"   // Clerk no longer has it
)

// DefaultGrace is how long a webhook may be on its way.
const DefaultGrace = 10 * time.Second

const (
	defaultLease   = 10 * time.Second
	defaultStuck   = 30 * time.Second
	mostListed     = 100_000 // differences in a report
	overlapOfSince = time.Minute
)

// Publisher puts messages into the log.
type Publisher interface {
	Publish(publish.Message) (duplicate bool, err error)
}

// Options of a pass.
type Options struct {
	Client     *backend.Client
	JetStream  jetstream.JetStream
	Publisher  Publisher // its Run must be running; not needed without Repair
	Erased     backfill.Erased
	Names      streams.Names
	InstanceID string // as configured; "" takes whichever the secret key is of
	Stores     []*store.Store
	Pass       string
	Repair     bool
	// Confirm is asked before deletions that pass the breaker's bound; nil refuses.
	Confirm func(Bound) bool
	By      string        // who does it, for the log
	Grace   time.Duration // 0: none
	// Pulling: no webhook is to be expected, so none is missed.
	Pulling bool
	// Lease is how long a process that vanished keeps the next one waiting; 0 is 10 s.
	Lease time.Duration
	// Trouble is told what is waited for; nil tells nobody.
	Trouble func(error)
	// Progress is told how many rows of about how many have been compared; nil tells
	// nobody.
	Progress func(resource string, done, total int64)
	// Now is our clock, for Rollcall-Received-At and for when a pass ended; nil:
	// time.Now.
	Now func() time.Time

	stuckAfter time.Duration // without the store's moving
}

// Difference is one row of a store that isn't as Clerk has it.
type Difference struct {
	Store    string   `json:"store"`
	Resource string   `json:"resource"`
	ID       string   `json:"id"`
	Kind     string   `json:"kind"`
	Columns  []string `json:"columns,omitempty"` // that are stale
	Mended   bool     `json:"mended"`
}

// Result is what the comparison of one resource with one store came to.
type Result struct {
	Store    string           `json:"store"`
	Resource string           `json:"resource"`
	Compared int64            `json:"compared"` // rows of Clerk's; in a pass of counts, all
	Missing  int64            `json:"missing"`
	Stale    int64            `json:"stale"`
	Extra    int64            `json:"extra"`
	Mended   int64            `json:"mended"`            // of these
	Columns  map[string]int64 `json:"columns,omitempty"` // stale rows, by column
	// ByCount are those of the missing or extra by which only totals differ; a full
	// pass names them.
	ByCount int64 `json:"by_count,omitempty"`
	// Left says what wasn't compared, or not deleted, and why.
	Left string `json:"left,omitempty"`

	left map[string]int64 // by kind: that still differ
}

// Drift is how many rows still differ.
func (r *Result) Drift() int64 { return r.Missing + r.Stale + r.Extra - r.Mended }

// Report is what a pass came to.
type Report struct {
	Run         string         `json:"run"`
	Pass        string         `json:"pass"`
	InstanceID  string         `json:"instance_id"`
	Repair      bool           `json:"repair"`
	Resources   []*Result      `json:"resources"`
	Differences []Difference   `json:"differences"`
	NotListed   int64          `json:"not_listed,omitempty"`   // differences beyond the first 100,000
	OutOfReach  []string       `json:"out_of_reach,omitempty"` // of a full pass
	Silence     *Silence       `json:"silence,omitempty"`
	Requests    backend.Counts `json:"requests"`

	ended int64 // by our clock, milliseconds since 1970
}

// Drift is how many rows still differ.
func (r *Report) Drift() (n int64) {
	for _, res := range r.Resources {
		n += res.Drift()
	}
	return n
}

// outOfReach is what Clerk lists of one user or payer only, or doesn't say.
func outOfReach() []string {
	return []string{
		"sessions, subscriptions, subscription_items, payment_attempts: Clerk has no list of them for an instance",
		"organization_invitations.user_id: who accepted, only the event says",
	}
}

type run struct {
	Options
	*keeper
	origin     backfill.Origin
	instanceID string
	started    time.Time // Clerk's clock
	report     *Report
	suspects   []*page
	waiting    int             // rows in suspects
	unheard    []int64         // when Clerk made the changes that no webhook told, milliseconds since 1970
	insisted   map[string]bool // by table: that many deletes are right
	compared   int64
	total      int64
}

// Run makes a pass. Errors are ones of Clerk, NATS or a store's database that
// didn't pass, a *backfill.WrongInstanceError, and the context's. What was found
// until then is in the report, unless it is nil.
func Run(ctx context.Context, o Options) (*Report, error) {
	o = withDefaults(o)
	before := o.Client.Counts()
	checked := backfill.Options{Client: o.Client, InstanceID: o.InstanceID}
	for _, s := range o.Stores {
		checked.Stores = append(checked.Stores, s)
	}
	id, at, err := backfill.Instance(ctx, checked)
	if err != nil {
		return nil, err
	}
	r := &run{Options: o, instanceID: id, started: at, insisted: map[string]bool{}}
	held, err := r.take(ctx)
	if err != nil {
		return nil, err
	}
	defer held.Release()
	if r.keeper, err = openKeeper(held.Context(), o, id); err != nil {
		return nil, err
	}
	r.report = &Report{Run: nuid.Next(), Pass: o.Pass, InstanceID: id, Repair: o.Repair, Differences: []Difference{}}
	if o.Pass == Full {
		r.report.OutOfReach = outOfReach()
	}
	r.origin = backfill.Origin{Names: o.Names, InstanceID: id, Run: r.report.Run, Source: streams.SourceReconcile, Erased: o.Erased, Now: o.Now}
	err = r.work(held.Context())
	if held.Context().Err() != nil && ctx.Err() == nil {
		err = errors.Join(errors.New("the lease was lost"), err)
	}
	r.report.Requests = o.Client.Counts().Since(before)
	return r.report, err
}

func withDefaults(o Options) Options {
	if o.Lease == 0 {
		o.Lease = defaultLease
	}
	if o.stuckAfter == 0 {
		o.stuckAfter = defaultStuck
	}
	if o.Trouble == nil {
		o.Trouble = func(error) {}
	}
	if o.Progress == nil {
		o.Progress = func(string, int64, int64) {}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// take waits for the lease as long as one lives that nobody renews.
func (r *run) take(ctx context.Context) (*lease.Lease, error) {
	until := time.Now().Add(r.Lease + r.Lease/2)
	for {
		held, err := lease.Take(ctx, r.JetStream, r.Names.StateBucket(), "reconcile-"+r.instanceID, r.Lease, nil)
		var other *lease.HeldError
		if !errors.As(err, &other) {
			return held, err
		}
		if time.Now().After(until) {
			return nil, fmt.Errorf("a reconcile of %s is under way: %w", r.instanceID, other)
		}
		r.Trouble(other)
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(r.Lease / 20):
		}
	}
}

// work makes the pass and keeps what it came to.
func (r *run) work(ctx context.Context) error {
	if err := r.caughtUp(ctx); err != nil {
		return err
	}
	if r.Erased != nil {
		if err := r.Erased.Wait(ctx); err != nil {
			return err
		}
	}
	pass := map[string]func(context.Context) error{Counts: r.counts, Recent: r.recent, Full: r.full}[r.Pass]
	if err := pass(ctx); err != nil {
		return err
	}
	if r.Pass != Counts && !r.Pulling {
		if err := r.listen(ctx); err != nil {
			return err
		}
	}
	if err := r.note(ctx); err != nil {
		return err
	}
	return r.keep(ctx)
}

// result is that of a store and a resource.
func (r *run) result(s *store.Store, table string) *Result {
	for _, res := range r.report.Resources {
		if res.Store == s.Name() && res.Resource == table {
			return res
		}
	}
	res := &Result{Store: s.Name(), Resource: table, left: map[string]int64{Missing: 0, Stale: 0, Extra: 0}}
	r.report.Resources = append(r.report.Resources, res)
	return res
}

// holding are the stores that keep a table.
func (r *run) holding(table string) (list []*store.Store) {
	for _, s := range r.Stores {
		if s.Holds(table) {
			list = append(list, s)
		}
	}
	return list
}

// found adds differences of a store to the report, and says where they stand.
func (r *run) found(s *store.Store, table, kind string, id string, columns []string) (at int) {
	res := r.result(s, table)
	switch kind {
	case Missing:
		res.Missing++
	case Stale:
		res.Stale++
		if res.Columns == nil {
			res.Columns = map[string]int64{}
		}
		for _, c := range columns {
			res.Columns[c]++
		}
	case Extra:
		res.Extra++
	}
	res.left[kind]++
	if len(r.report.Differences) == mostListed {
		r.report.NotListed++
		return -1
	}
	r.report.Differences = append(r.report.Differences, Difference{Store: s.Name(), Resource: table, ID: id, Kind: kind, Columns: columns})
	return len(r.report.Differences) - 1
}

// mended notes that a difference is gone.
func (r *run) mended(s *store.Store, table, kind string, at int) {
	res := r.result(s, table)
	res.Mended++
	res.left[kind]--
	if at >= 0 {
		r.report.Differences[at].Mended = true
	}
}

// note puts what was mended into the log, as an event of Rollcall's own.
func (r *run) note(ctx context.Context) error {
	act := streams.Reconciled{ID: r.report.Run, Pass: r.Pass, By: r.By}
	for _, res := range r.report.Resources {
		if r.Repair && res.Missing+res.Stale+res.Extra > res.ByCount {
			act.Resources = append(act.Resources, streams.ResourceReconciled{
				Store: res.Store, Resource: res.Resource, Missing: res.Missing, Stale: res.Stale, Extra: res.Extra, Mended: res.Mended})
		}
	}
	if act.Resources == nil {
		return nil
	}
	m, err := r.Names.Act(r.instanceID, streams.ActionReconciled, r.report.Run, r.Now(), act)
	if err != nil {
		return err
	}
	return r.publish(ctx, m)
}
