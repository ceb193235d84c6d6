package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/rollcall-dev/rollcall/internal/broker"
	"github.com/rollcall-dev/rollcall/internal/clerk/backend"
	"github.com/rollcall-dev/rollcall/internal/cli"
	"github.com/rollcall-dev/rollcall/internal/config"
	"github.com/rollcall-dev/rollcall/internal/erased"
	"github.com/rollcall-dev/rollcall/internal/publish"
	"github.com/rollcall-dev/rollcall/internal/reconcile"
	"github.com/rollcall-dev/rollcall/internal/telemetry"
	"github.com/rollcall-dev/rollcall/streams"
)

// recentEvery is how often the recent pass is made beside a full one: often enough
// that webhooks which no longer come are noticed soon.
const recentEvery = 5 * time.Minute

const leastEvery = time.Second

type reconcileOptions struct {
	*options
	store, instance, pass, budget string
	repair, confirmDeletes, json  bool
	every, grace                  time.Duration
}

func newReconcile(o *options) *cobra.Command {
	r := &reconcileOptions{options: o}
	c := &cobra.Command{
		Use: "reconcile", Short: "Compare the stores with what Clerk has, and mend them", Args: cli.NoArgs,
		Long: `Compare the stores with Clerk's Backend API, and print what is missing, stale and
extra. Webhooks may flow meanwhile: a row counts if it still differs after a
grace, and Clerk has said nothing of it since.

Passes:
  counts   totals alone, a request a resource
  recent   what Clerk has changed since the last pass, and totals
  full     every row, and rows that Clerk no longer has (the default)

With --repair what is missing or stale goes into the log as snapshots, and what
Clerk no longer has as deletes, each confirmed by Clerk. More deletes of a
resource than 5% and 10 rows within 24 hours are not made without being asked for.

Exit code 3 if rows still differ.`,
		Example: `  rollcall reconcile                         # is every row as Clerk has it?
  rollcall reconcile --repair                # mend what isn't
  rollcall reconcile --pass counts --json
  rollcall reconcile --every 6h --repair     # as a process: full every 6 hours, recent every 5 minutes`,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := r.check(); err != nil {
				return err
			}
			if r.every > 0 {
				return r.loop(c.Context())
			}
			return r.once(c)
		},
	}
	f := c.Flags()
	f.StringVar(&r.store, "store", "", "only this one (default: all that follow the instance)")
	f.StringVar(&r.instance, "instance", "", "name of the instance; needed with several")
	f.StringVar(&r.pass, "pass", "", "counts, recent or full (default full; with --every full, and recent every 5m)")
	f.BoolVar(&r.repair, "repair", false, "mend what differs, through the log")
	f.BoolVar(&r.confirmDeletes, "confirm-deletes", false, "with --repair: delete however many rows Clerk no longer has")
	f.DurationVar(&r.every, "every", 0, "go on, with a pass this often; several processes share them")
	f.DurationVar(&r.grace, "grace", reconcile.DefaultGrace, "how long a webhook may be on its way before its absence counts")
	f.StringVar(&r.budget, "budget", "20%", "most requests: a share of what Clerk allows the instance, or so many a second (20/s)")
	f.BoolVar(&r.json, "json", false, "print a JSON object")
	return c
}

func (r *reconcileOptions) check() error {
	switch {
	case r.pass != "" && !slices.Contains(reconcile.Passes(), r.pass):
		return cli.Usagef("--pass %s: there are %s", r.pass, strings.Join(reconcile.Passes(), ", "))
	case r.pass == reconcile.Counts && r.repair:
		return cli.Usagef("--pass counts finds totals and no rows, so it has nothing to repair: leave one of the two out")
	case r.confirmDeletes && !r.repair:
		return cli.Usagef("--confirm-deletes is about --repair")
	case r.confirmDeletes && r.every > 0:
		return cli.Usagef("--confirm-deletes is a person's word for one pass, and --every makes many")
	case r.every != 0 && r.every < leastEvery:
		return cli.Usagef("--every %s: it must be 1s or more", r.every)
	case r.grace < 0:
		return cli.Usagef("--grace %s is negative", r.grace)
	}
	return nil
}

// passOptions are what configuration and flags say of a pass. done closes the
// stores.
func (r *reconcileOptions) passOptions(cfg *config.Config, trouble func(error)) (o reconcile.Options, done func(), err error) {
	in, err := cfg.RequireBackend(r.instance)
	if err != nil {
		return o, nil, err
	}
	rate, err := parseBudget(r.budget, backend.LimitOf(in.SecretKey))
	if err != nil {
		return o, nil, err
	}
	if r.store != "" {
		if err := cfg.RequireStore(r.store); err != nil {
			return o, nil, err
		}
	}
	o = reconcile.Options{
		Client: backend.New(backend.Options{URL: in.APIURL, SecretKey: in.SecretKey, Rate: rate, Trouble: trouble}),
		Names:  streams.Names{Prefix: cfg.NATS.Prefix}, InstanceID: in.ID,
		Pass: r.pass, Repair: r.repair, Grace: r.grace, By: operator(), Trouble: trouble,
	}
	opened, err := openStoresOf(cfg, in.Name)
	if err != nil {
		return o, nil, err
	}
	done = func() {
		for _, s := range opened {
			s.Close()
		}
	}
	for _, s := range opened {
		if r.store == "" || s.Name() == streams.SinkStore(r.store) {
			o.Stores = append(o.Stores, s)
		}
	}
	if len(o.Stores) == 0 {
		done()
		return o, nil, cli.Usagef("no store to compare: set DATABASE_URL, or stores in rollcall.yaml that follow the instance")
	}
	return o, done, nil
}

// once makes one pass.
func (r *reconcileOptions) once(c *cobra.Command) error {
	ctx := c.Context()
	cfg, err := r.load()
	if err != nil {
		return err
	}
	if r.pass == "" {
		r.pass = reconcile.Full
	}
	bar := &backfillBar{began: time.Now(), trouble: map[string]bool{}}
	defer bar.finish()
	o, done, err := r.passOptions(cfg, bar.tell)
	if err != nil {
		return err
	}
	defer done()
	conn, err := connectNATS(ctx, cfg)
	if err != nil {
		return err
	}
	defer conn.Close()
	if o.JetStream, err = conn.JetStream(); err != nil {
		return err
	}
	o.Progress, o.Confirm = bar.show, r.confirm(c, bar)
	var report *reconcile.Report
	toLog(ctx, conn, o.Names, func(p *publish.Publisher, people *erased.List) {
		o.Publisher, o.Erased = p, people
		report, err = reconcile.Run(ctx, o)
	})
	bar.finish()
	if err != nil && ctx.Err() != nil {
		return errors.New("interrupted; what was mended stays so, and rollcall reconcile begins anew")
	}
	if report != nil {
		err = errors.Join(err, printReconciled(c.OutOrStdout(), report, r.json))
	}
	switch {
	case err != nil:
		return backfillError(err)
	case report.Drift() > 0:
		return found{fmt.Errorf("%d rows differ from Clerk's", report.Drift())}
	}
	return nil
}

// confirm asks a person before many deletes, or takes the flag for the answer.
func (r *reconcileOptions) confirm(c *cobra.Command, bar *backfillBar) func(reconcile.Bound) bool {
	return func(b reconcile.Bound) bool {
		if r.confirmDeletes || !term.IsTerminal(int(os.Stdin.Fd())) {
			return r.confirmDeletes
		}
		bar.finish()
		question := fmt.Sprintf("Clerk no longer has %d of %d %s. Delete them from the stores?", b.Wanted, b.Living, b.Resource)
		return cli.Confirm(c.Context(), c.InOrStdin(), c.ErrOrStderr(), question) == nil
	}
}

// loop makes passes until it is stopped, with health and metrics like a role.
func (r *reconcileOptions) loop(ctx context.Context) error {
	cfg, err := r.loadOwn()
	if err != nil {
		return err
	}
	if err := cfg.RequireNATS(); err != nil {
		return err
	}
	log, err := telemetry.NewLogger(false, r.logLevel)
	if err != nil {
		return cli.Usage(err)
	}
	defer func() { _ = log.Sync() }() // standard error can't always be synced
	o, done, err := r.passOptions(cfg, func(error) {})
	if err != nil {
		return err
	}
	defer done()
	every := map[string]time.Duration{reconcile.Full: r.every, reconcile.Recent: min(recentEvery, r.every)}
	if r.pass != "" {
		every = map[string]time.Duration{r.pass: r.every}
	}
	p := newProcess(cfg, roles{}, log)
	p.beside = func(ctx context.Context, conn *broker.Conn) error { return p.reconciles(ctx, conn, o, every) }
	endAfter(ctx, stopWithin, func() {
		log.Error("draining took too long")
		os.Exit(exitFailed)
	})
	return p.run(ctx)
}

// reconciles makes passes until the context ends.
func (p *process) reconciles(ctx context.Context, conn *broker.Conn, o reconcile.Options, every map[string]time.Duration) error {
	part := p.health.Part(reconcilePart)
	l := &reconcile.Loop{
		Broker: conn, Every: every, Metrics: reconcile.NewMetrics(p.metrics), Log: p.log,
		Drift: p.showWhile(driftPart),
		Failed: func(err error) {
			if err != nil {
				part.Degraded(err.Error())
				return
			}
			part.OK()
		},
	}
	toLog(ctx, conn, o.Names, func(publisher *publish.Publisher, people *erased.List) {
		o.Publisher, o.Erased = publisher, people
		l.Options = o
		_ = l.Run(ctx) // it returns nil
	})
	return nil
}

// mostShown is how many differences are printed for people.
const mostShown = 20

func printReconciled(w io.Writer, r *reconcile.Report, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(r)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "STORE\tRESOURCE\tCOMPARED\tMISSING\tSTALE\tEXTRA\tMENDED")
	for _, res := range r.Resources {
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%d\t%d\t%d\n", res.Store, res.Resource, res.Compared, res.Missing, res.Stale, res.Extra, res.Mended)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, res := range r.Resources {
		printNotes(w, res)
	}
	shown := 0
	for _, d := range r.Differences {
		if d.Mended {
			continue
		}
		if shown++; shown <= mostShown {
			fmt.Fprintln(w, strings.TrimSpace(fmt.Sprintf("%s: %s %s %s %s", d.Store, d.Kind, d.Resource, d.ID, strings.Join(d.Columns, " "))))
		}
	}
	if more := int64(shown-mostShown) + r.NotListed; more > 0 {
		fmt.Fprintf(w, "… and %d more; --json lists up to 100,000\n", more)
	}
	if r.Silence != nil {
		fmt.Fprintln(w, r.Silence)
	}
	for _, what := range r.OutOfReach {
		fmt.Fprintln(w, "out of reach:", what)
	}
	_, err := fmt.Fprintf(w, "%s pass, instance %s: %d requests\n", r.Pass, r.InstanceID, r.Requests.Requests)
	return err
}

func printNotes(w io.Writer, res *reconcile.Result) {
	if len(res.Columns) > 0 {
		var columns []string
		for _, c := range slices.Sorted(maps.Keys(res.Columns)) {
			columns = append(columns, fmt.Sprintf("%s %d", c, res.Columns[c]))
		}
		fmt.Fprintf(w, "%s: stale %s, by column: %s\n", res.Store, res.Resource, strings.Join(columns, ", "))
	}
	if res.ByCount > 0 {
		fmt.Fprintf(w, "%s: %s: totals differ by %d; rollcall reconcile --pass full names the rows\n", res.Store, res.Resource, res.ByCount)
	}
	if res.Left != "" {
		fmt.Fprintf(w, "%s: %s: %s\n", res.Store, res.Resource, res.Left)
	}
}
