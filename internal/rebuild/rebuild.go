// Package rebuild makes a store right again from the log: it builds what the log
// says beside the store, compares row by row, and applies the difference in one
// transaction, while consumers and readers go on. Memory is a few batches,
// however long the log is. What the log can't explain is reported and kept.
package rebuild

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rollcall-dev/rollcall/internal/replay"
	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/streams"
)

// Options of a rebuild.
type Options struct {
	JetStream jetstream.JetStream
	Names     streams.Names
	Store     *store.Store
	DryRun    bool // only compare
	// Confirm is asked where more rows of a table would be deleted than the breaker
	// lets through; an error stops the rebuild, and nothing is changed.
	Confirm func([]store.Drift) error
	// Progress is told what is done and how far it is; total 0 where that isn't
	// known. May be nil.
	Progress func(doing string, done, total uint64)
}

// Report of a rebuild.
type Report struct {
	Store    string           `json:"store"`
	First    uint64           `json:"first"` // sequence of the log's first event
	Last     uint64           `json:"last"`  // and of the last one that was read
	Events   int64            `json:"events"`
	Resumed  bool             `json:"resumed"`           // a rebuild that was interrupted has read some already
	Rejected int64            `json:"rejected"`          // events that can't be applied: the store has dead letters of them
	Reasons  []string         `json:"reasons,omitempty"` // of some
	Tables   []store.Drift    `json:"tables"`            // as found, before anything was applied
	Applied  bool             `json:"applied"`           // the store is right now
	Seconds  float64          `json:"seconds"`           // in all
	Held     float64          `json:"seconds_locked"`    // other writers of the store waited for, at the end
	Written  map[string]int64 `json:"written,omitempty"` // rows, by table
}

// Drifted counts the rows that weren't right.
func (r *Report) Drifted() (n int64) {
	for i := range r.Tables {
		n += r.Tables[i].Drifted()
	}
	return n
}

// The breaker: a table loses at most this share of its rows, or so many, unless
// somebody confirms.
const (
	breakerShare = 0.05
	breakerRows  = 10
)

// overBreaker are the tables of which too many rows would be deleted.
func overBreaker(tables []store.Drift) (over []store.Drift) {
	for _, d := range tables {
		if float64(d.Deleted) > max(breakerShare*float64(d.Rows), breakerRows) {
			over = append(over, d)
		}
	}
	return over
}

// Run rebuilds a store. Interrupted at any moment it goes on when it is run again;
// nothing has been applied then. The report is what was found, also beside an
// error.
func Run(ctx context.Context, o Options) (*Report, error) {
	if o.Progress == nil {
		o.Progress = func(string, uint64, uint64) {}
	}
	began := time.Now()
	r := &run{Options: o, report: &Report{Store: o.Store.Name()}}
	err := r.all(ctx)
	r.report.Seconds = time.Since(began).Seconds()
	return r.report, err
}

type run struct {
	Options
	report *Report
	shadow *store.Shadow
	stages int // that folded the log so far
}

func (r *run) all(ctx context.Context) error {
	stream, err := r.JetStream.Stream(ctx, r.Names.Stream())
	if err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	info := stream.CachedInfo()
	r.report.First = info.State.FirstSeq
	if !r.DryRun {
		if _, err := r.Store.Position(ctx); err != nil { // makes the schema, where there is none
			return err
		}
	}
	if r.shadow, err = r.Store.OpenShadow(ctx, info.Created.UnixNano()); err != nil {
		return err
	}
	r.report.Resumed = r.shadow.Position().Sequence > 0
	if err := r.fold(ctx); err != nil {
		return err
	}
	r.report.Last = max(r.shadow.Position().Sequence, info.State.LastSeq)
	r.report.Tables, err = r.shadow.Compare(ctx, func(table string) { r.Progress("comparing "+table, 0, 0) })
	if err != nil {
		return err
	}
	if !r.DryRun {
		if err := r.apply(ctx); err != nil {
			return err
		}
	}
	return r.shadow.Drop(ctx)
}

// tries is how often the end of the log is caught up with before the lock: each
// time there is less of it.
const tries = 20

// apply applies what was found, once the breaker lets it through.
func (r *run) apply(ctx context.Context) error {
	if over := overBreaker(r.report.Tables); len(over) > 0 {
		if err := r.Confirm(over); err != nil {
			return err
		}
	}
	for try := 1; ; try++ {
		if err := r.fold(ctx); err != nil {
			return err
		}
		r.Progress("applying", 0, 0)
		began := time.Now()
		written, err := r.shadow.Apply(ctx, r.fold)
		r.report.Held = time.Since(began).Seconds()
		if err == nil {
			r.report.Applied, r.report.Written = true, written
			return nil
		}
		if ctx.Err() != nil || try == tries || !errors.Is(err, context.DeadlineExceeded) && !store.IsLocked(err) {
			return err
		}
	}
}

// fold adds to the shadow what the log has from where that is.
func (r *run) fold(ctx context.Context) error {
	r.stages++
	c := newCopier(ctx, r)
	result, err := replay.Run(ctx, replay.Options{
		JetStream: r.JetStream, Names: r.Names, Target: c, Progress: r.read(),
		Selection: replay.Selection{From: replay.Point{Sequence: r.shadow.Position().Sequence + 1}, Subjects: r.Store.Subjects()},
	})
	err = errors.Join(err, c.close())
	r.report.Events += result.Events
	return err
}

// read tells the progress of one reading, where it is the long one.
func (r *run) read() func(int, uint64) {
	if r.stages > 1 {
		return nil
	}
	var done uint64
	return func(n int, left uint64) {
		if done += uint64(n); done%1024 == 0 {
			r.Progress("reading the log", done, done+left)
		}
	}
}
