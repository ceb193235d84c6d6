package reconcile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"go.uber.org/zap"

	"github.com/rollcall-dev/rollcall/internal/bucket"
	"github.com/rollcall-dev/rollcall/internal/lease"
)

const (
	firstRetry   = 5 * time.Second
	longestRetry = 5 * time.Minute
	lookEvery    = time.Minute      // whether another process has made the pass
	jitter       = 0.1              // of the time between two passes
	fullAtMost   = 20 * time.Second // apart, where recent passes have them made
)

// Loop makes passes again and again. Several processes share them: a pass is due
// when the last one, whoever made it, is long enough ago.
type Loop struct {
	Broker  bucket.Broker
	Options Options                  // of each pass, but for which, and on which connection
	Every   map[string]time.Duration // by pass
	Metrics *Metrics
	Log     *zap.Logger
	// Drift is told after a pass what is wrong with the stores, "" where nothing is.
	Drift func(reason string)
	// Failed is told why a pass couldn't be made, or nil that one could.
	Failed func(error)

	instanceID string            // once it is known
	spread     float64           // of this process, around 1
	reasons    map[string]string // by pass: what it found wrong
	ended      map[string]int64  // by pass: when this process made the last one
	lastFull   time.Time
}

// Run makes passes until the context ends; it returns only then.
func (l *Loop) Run(ctx context.Context) error {
	retry := firstRetry
	l.spread, l.reasons, l.ended = 1+(rand.Float64()-0.5)*jitter, map[string]string{}, map[string]int64{}
	for ctx.Err() == nil {
		pass, wait, err := l.next(ctx)
		if err == nil && wait <= 0 {
			err = l.make(ctx, pass)
		}
		var held *lease.HeldError
		switch {
		case ctx.Err() != nil:
		case errors.As(err, &held): // who has it makes the pass
			wait = firstRetry
		case err != nil:
			l.Failed(err)
			l.Metrics.failed(pass)
			wait, retry = retry, min(2*retry, longestRetry)
		default:
			retry = firstRetry
			l.Failed(nil)
		}
		select {
		case <-ctx.Done():
		case <-time.After(min(max(wait, 0), lookEvery)):
		}
	}
	return nil
}

// next is the pass that is due first, and when.
func (l *Loop) next(ctx context.Context) (pass string, wait time.Duration, err error) {
	if l.Options.JetStream, err = l.Broker.JetStream(); err != nil {
		return "", 0, err
	}
	o := withDefaults(l.Options)
	if l.instanceID == "" {
		if l.instanceID, _, err = o.Client.Instance(ctx); err != nil {
			return "", 0, err
		}
	}
	k, err := openKeeper(ctx, o, l.instanceID)
	if err != nil {
		return "", 0, err
	}
	for _, each := range []string{Full, Recent, Counts} { // a full pass finds what the others do
		every, asked := l.Every[each]
		if !asked {
			continue
		}
		due := time.Duration(0)
		if ended := k.state.Ended[each]; ended != 0 {
			if ended != l.ended[each] { // another process knows better
				l.Metrics.forget(each)
				l.tell(each, "")
			}
			due = time.UnixMilli(ended).Add(time.Duration(l.spread * float64(every))).Sub(o.Now())
		}
		if pass == "" || due < wait {
			pass, wait = each, due
		}
	}
	return pass, wait, nil
}

// make makes a pass, and shows what it came to.
func (l *Loop) make(ctx context.Context, pass string) error {
	o := l.Options
	o.Pass = pass
	report, err := Run(ctx, o)
	if report == nil {
		return err
	}
	l.Metrics.made(report, err == nil)
	if mended := report.Mended(); mended > 0 {
		l.Log.Info("mended", zap.String("pass", pass), zap.Int64("rows", mended))
	}
	if err != nil {
		return fmt.Errorf("%s pass: %w", pass, err)
	}
	l.ended[pass] = report.ended
	l.tell(pass, report.Reason())
	// Without webhooks only a full pass learns of deletes.
	if o.Pulling && pass == Recent && report.ByCount() > 0 && time.Since(l.lastFull) > fullAtMost {
		l.lastFull = time.Now()
		return l.make(ctx, Full)
	}
	return nil
}

// ByCount is how many rows differ by totals alone.
func (r *Report) ByCount() (n int64) {
	for _, res := range r.Resources {
		n += res.ByCount
	}
	return n
}

// tell says what is wrong by all passes that this process made last.
func (l *Loop) tell(pass, reason string) {
	l.reasons[pass] = reason
	l.Drift(cmp.Or(l.reasons[Full], l.reasons[Recent], l.reasons[Counts]))
}

// Mended is how many rows were.
func (r *Report) Mended() (n int64) {
	for _, res := range r.Resources {
		n += res.Mended
	}
	return n
}

// Reason says what still differs, "" for nothing.
func (r *Report) Reason() string {
	for _, res := range r.Resources {
		if n := res.Drift(); n > 0 && res.Left != "" {
			return fmt.Sprintf("%s: %s: %s", res.Store, res.Resource, res.Left)
		}
	}
	if n := r.Drift(); n > 0 {
		return fmt.Sprintf("%d rows differ from Clerk's: rollcall reconcile lists them, with --repair it mends them", n)
	}
	return ""
}
