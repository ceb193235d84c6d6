package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"golang.org/x/term"

	"github.com/rollcall-dev/rollcall/internal/backfill"
	"github.com/rollcall-dev/rollcall/internal/broker"
	"github.com/rollcall-dev/rollcall/internal/clerk/backend"
	"github.com/rollcall-dev/rollcall/internal/cli"
	"github.com/rollcall-dev/rollcall/internal/config"
	"github.com/rollcall-dev/rollcall/internal/erased"
	"github.com/rollcall-dev/rollcall/internal/publish"
	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/streams"
)

type backfillOptions struct {
	*options
	instance      string
	resources     []string
	budget        string
	dryRun        bool
	restart       bool
	withoutStores bool
	json          bool
}

func newBackfill(o *options) *cobra.Command {
	b := &backfillOptions{options: o}
	c := &cobra.Command{
		Use: "backfill", Short: "Put all that Clerk has into the log, from its Backend API", Args: cli.NoArgs,
		Long: `Read what Clerk's Backend API lists and put it into the log as snapshots, from
where each store takes it: for those who had customers before they had Rollcall.
Let ingest run meanwhile: what changes while it is read wins.

Resources: ` + strings.Join(backfill.Resources(), ", ") + `.

A run that is interrupted, by Ctrl-C or by a crash, goes on where it was when the
command is started again. Progress and lease are in NATS, so that may be on another
machine.`,
		Example: `  rollcall backfill --dry-run            # how many there are, and how long it takes
  rollcall backfill                      # with half of the requests that Clerk allows
  rollcall backfill --resource users --resource organizations --budget 20/s`,
		RunE: func(c *cobra.Command, _ []string) error {
			return b.run(c.Context(), c.OutOrStdout())
		},
	}
	f := c.Flags()
	f.StringVar(&b.instance, "instance", "", "name of the instance; needed with several")
	f.StringArrayVar(&b.resources, "resource", nil, "only this one (repeatable; default: all)")
	f.StringVar(&b.budget, "budget", "50%", "most requests: a share of what Clerk allows the instance, or so many a second (20/s)")
	f.BoolVar(&b.dryRun, "dry-run", false, "only count, by Clerk's totals; needs no NATS")
	f.BoolVar(&b.restart, "restart", false, "begin anew, though a run was interrupted")
	f.BoolVar(&b.withoutStores, "without-stores", false, "don't ask the stores what they have: their databases can't be reached from here")
	f.BoolVar(&b.json, "json", false, "print a JSON object")
	return c
}

func (b *backfillOptions) run(ctx context.Context, w io.Writer) error {
	cfg, err := b.load()
	if err != nil {
		return err
	}
	in, err := cfg.RequireBackend(b.instance)
	if err != nil {
		return err
	}
	rate, err := parseBudget(b.budget, backend.LimitOf(in.SecretKey))
	if err != nil {
		return err
	}
	for _, r := range b.resources {
		if !slices.Contains(backfill.Resources(), r) {
			return cli.Usagef("--resource %s: a backfill has %s", r, strings.Join(backfill.Resources(), ", "))
		}
	}
	bar := &backfillBar{began: time.Now(), trouble: map[string]bool{}}
	defer bar.finish()
	o := backfill.Options{
		Client:     backend.New(backend.Options{URL: in.APIURL, SecretKey: in.SecretKey, Rate: rate, Trouble: bar.tell}),
		Names:      streams.Names{Prefix: cfg.NATS.Prefix},
		InstanceID: in.ID, Resources: b.resources, Restart: b.restart, By: operator(), Progress: bar.show, Waiting: bar.tell,
	}
	if !b.withoutStores {
		stores, err := openStoresOf(cfg, in.Name)
		if err != nil {
			return err
		}
		for _, s := range stores {
			defer s.Close()
			o.Stores = append(o.Stores, s)
		}
	}
	if b.dryRun {
		report, err := backfill.Totals(ctx, o)
		if err != nil {
			return backfillError(err)
		}
		return printTotals(w, report, rate, b.json)
	}
	report, err := b.fill(ctx, cfg, o)
	bar.finish()
	if report != nil {
		err = errors.Join(err, printBackfill(w, report, b.json))
	}
	if err != nil && ctx.Err() != nil {
		return errors.New("interrupted; rollcall backfill goes on from here")
	}
	return backfillError(err)
}

// fill runs it with a connection and a publisher of its own.
func (b *backfillOptions) fill(ctx context.Context, cfg *config.Config, o backfill.Options) (report *backfill.Report, err error) {
	conn, err := connectNATS(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if o.JetStream, err = conn.JetStream(); err != nil {
		return nil, err
	}
	toLog(ctx, conn, o.Names, func(p *publish.Publisher, people *erased.List) {
		o.Publisher, o.Erased = p, people
		report, err = backfill.Run(ctx, o)
	})
	return report, err
}

// toLog does work that publishes; what is under way when the context ends is
// stored.
func toLog(ctx context.Context, conn *broker.Conn, names streams.Names, work func(*publish.Publisher, *erased.List)) {
	publisher := publish.New(conn, zap.NewNop(), publish.NewMetrics(prometheus.NewRegistry()), func() {})
	people := erased.NewList(conn, names, nil)
	publishing, stop := context.WithCancel(context.WithoutCancel(ctx))
	var ended sync.WaitGroup
	ended.Go(func() { _ = people.Run(publishing) })    // it returns nil
	ended.Go(func() { _ = publisher.Run(publishing) }) // it returns nil
	defer ended.Wait()
	defer stop()
	work(publisher, people)
}

// openStoresOf opens the stores that follow an instance.
func openStoresOf(cfg *config.Config, instance string) (opened []*store.Store, err error) {
	for _, c := range cfg.Stores {
		if c.Instance != "" && c.Instance != instance {
			continue
		}
		s, err := openStore(cfg, c.Name)
		if err != nil {
			for _, s := range opened {
				s.Close()
			}
			return nil, err
		}
		opened = append(opened, s)
	}
	return opened, nil
}

// backfillError has the exit code of a mistake where the key is one.
func backfillError(err error) error {
	var wrong *backfill.WrongInstanceError
	var unfinished *backfill.UnfinishedError
	if errors.Is(err, backend.ErrSecretKey) || errors.As(err, &wrong) || errors.As(err, &unfinished) {
		return cli.Usage(err)
	}
	return err
}

// parseBudget reads 50% of a limit, or 20/s: requests a second.
func parseBudget(text string, limit float64) (float64, error) {
	number, isShare := strings.CutSuffix(text, "%")
	if !isShare {
		number = strings.TrimSuffix(text, "/s")
	}
	n, err := strconv.ParseFloat(number, 64)
	if isShare {
		n *= limit / 100
	}
	switch {
	case err != nil || !(n > 0) || math.IsInf(n, 0) || !isShare && number == text:
		return 0, cli.Usagef("--budget %q is neither a share, such as 50%%, nor requests a second, such as 20/s", text)
	case isShare && n > limit:
		return 0, cli.Usagef("--budget %s: Clerk allows this instance %g requests a second, which is 100%%", text, limit)
	}
	return n, nil
}

// printTotals prints what there is, and what reading it takes.
func printTotals(w io.Writer, r *backfill.Report, rate float64, asJSON bool) error {
	var requests int64
	for _, res := range r.Resources {
		requests += res.Total/backend.MaxPage + 2
	}
	took := time.Duration(float64(requests) / rate * float64(time.Second)).Round(time.Second)
	if asJSON {
		return json.NewEncoder(w).Encode(map[string]any{"instance_id": r.InstanceID, "resources": r.Resources, "requests": requests, "seconds": took.Seconds()})
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, res := range r.Resources {
		fmt.Fprintf(t, "%d\t %s%s\n", res.Total, res.Resource, left(res))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "about %d requests, %s at %g a second\n", requests, took, rate)
	return err
}

func left(r backfill.Result) string {
	if r.Left == "" {
		return ""
	}
	return ": " + r.Left
}

func printBackfill(w io.Writer, r *backfill.Report, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(r)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "RESOURCE\tFETCHED\tNEW\tNEWER\tSAME\tCOMPARED WITH")
	for _, res := range r.Resources {
		switch {
		case res.Left != "":
			fmt.Fprintf(t, "%s\t-\t\t\t\t%s\n", res.Resource, res.Left)
		case res.Store == "":
			fmt.Fprintf(t, "%s\t%d\t\t\t\t\n", res.Resource, res.Fetched)
		default:
			fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t%s\n", res.Resource, res.Fetched, res.New, res.Newer, res.Same, res.Store)
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	state := "finished"
	if !r.Finished {
		state = "not finished"
	}
	_, err := fmt.Fprintf(w, "%s, instance %s: %d requests, %d of them in this process, %d answered 429\n", state, r.InstanceID, r.Requests, r.Process.Requests, r.Process.Limited)
	return err
}

// backfillBar shows how far it is: a bar on a terminal, else a line now and then.
type backfillBar struct {
	mu      sync.Mutex
	bar     *progressbar.ProgressBar
	began   time.Time
	from    int64 // done before this process
	last    time.Time
	trouble map[string]bool // said
}

const sayEvery = 10 * time.Second

func (b *backfillBar) show(resource string, done, total int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.last.IsZero() {
		b.last, b.from = b.began, done
	}
	if term.IsTerminal(int(os.Stderr.Fd())) {
		if b.bar == nil {
			b.bar = newBar(int(total), "", "rows")
			_ = b.bar.Set64(done) // the terminal's own trouble
			b.bar.StartWithoutRender()
		}
		b.bar.ChangeMax64(total)
		b.bar.Describe(resource)
		_ = b.bar.Set64(done) // the terminal's own trouble
		return
	}
	if time.Since(b.last) < sayEvery {
		return
	}
	b.last = time.Now()
	fmt.Fprintf(os.Stderr, "%s: %d of about %d rows in all%s\n", resource, done, total, b.estimate(done, total))
}

// estimate is how long the rest takes at the pace so far.
func (b *backfillBar) estimate(done, total int64) string {
	if done <= b.from {
		return ""
	}
	rest := float64(total-done) / float64(done-b.from) * float64(time.Since(b.began))
	return fmt.Sprintf(", about %s left", time.Duration(rest).Round(time.Second))
}

// tell says what is being retried, each trouble once.
func (b *backfillBar) tell(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	text := err.Error()
	kind, _, _ := strings.Cut(text, "?") // addresses differ in their parameters
	if b.trouble[kind] || len(b.trouble) > 100 {
		return
	}
	b.trouble[kind] = true
	if b.bar != nil {
		_ = b.bar.Clear() // the terminal's own trouble
	}
	fmt.Fprintf(os.Stderr, "rollcall: %s; trying again\n", text)
}

func (b *backfillBar) finish() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bar != nil {
		_ = b.bar.Finish() // the terminal's own trouble
		b.bar = nil
	}
}
