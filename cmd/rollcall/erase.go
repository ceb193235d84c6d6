package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9/logging"
	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"golang.org/x/term"

	"github.com/rollcall-dev/rollcall/internal/audit"
	"github.com/rollcall-dev/rollcall/internal/broker"
	"github.com/rollcall-dev/rollcall/internal/cli"
	"github.com/rollcall-dev/rollcall/internal/config"
	"github.com/rollcall-dev/rollcall/internal/erase"
	"github.com/rollcall-dev/rollcall/internal/invalidate"
	"github.com/rollcall-dev/rollcall/streams"
)

type eraseOptions struct {
	*options
	dryRun, yes, json bool
}

func newErase(o *options) *cobra.Command {
	e := &eraseOptions{options: o}
	c := &cobra.Command{
		Use: "erase USER_ID", Short: "Forget a person, everywhere", Args: cli.Exactly(1, "the id of a user"),
		Long: `Take what is personal of a user out of every store, the log, the dead letters, the
audit log and what invalidation remembers. Only ids stay, so that nothing brings
the person back: no retry or replay of a webhook, no backfill, no rebuild.

Delete the user in Clerk first: what Clerk still has it still sends, and shows.
Let ingest, audit and invalidate run meanwhile. A run that is interrupted is
finished by starting it again.

Keep the report (--json): it has no personal data, and says what no command can
reach, such as backups.`,
		Example: `  rollcall erase user_2g7np7Hrk0SN6kj5EDMLDaKNL0S --dry-run
  rollcall erase user_2g7np7Hrk0SN6kj5EDMLDaKNL0S --yes --json > erased.json`,
		RunE: func(c *cobra.Command, args []string) error {
			if !e.dryRun && !e.yes && !term.IsTerminal(int(os.Stdin.Fd())) {
				return cli.Usagef("%s asks before it erases, and there is no terminal to ask on: look with --dry-run, then give --yes", c.CommandPath())
			}
			if args[0] == "" || len(streams.Token(args[0])) > streams.MaxToken {
				return cli.Usagef("%q is no user's id", args[0])
			}
			return o.withBroker(c.Context(), func(ctx context.Context, cfg *config.Config, conn *broker.Conn) error {
				return e.run(ctx, c, cfg, conn, args[0])
			})
		},
	}
	c.Flags().BoolVar(&e.dryRun, "dry-run", false, "only list what would be touched")
	c.Flags().BoolVar(&e.yes, "yes", false, "don't ask")
	c.Flags().BoolVar(&e.json, "json", false, "print the report as a JSON object")
	return c
}

func (e *eraseOptions) run(ctx context.Context, c *cobra.Command, cfg *config.Config, conn *broker.Conn, userID string) error {
	bar := newBar(-1, "", "messages")
	o, done, err := e.open(cfg, conn, bar)
	if err != nil {
		return err
	}
	defer done()
	o.UserID, o.DryRun = userID, e.dryRun
	if !e.dryRun && !e.yes {
		o.DryRun = true
		report, err := erase.Run(ctx, o)
		if err != nil {
			return err
		}
		_ = bar.Clear() // the terminal's own trouble
		if err := printErasure(c.ErrOrStderr(), report, false); err != nil {
			return err
		}
		if err := cli.Confirm(ctx, c.InOrStdin(), c.ErrOrStderr(), "Erase "+userID+"? It can't be undone"); err != nil {
			return err
		}
		o.DryRun = false
	}
	report, err := erase.Run(ctx, o)
	_ = bar.Finish() // the terminal's own trouble
	if err != nil && ctx.Err() != nil {
		return errors.New("interrupted; rollcall erase goes on when it is started again")
	}
	if report == nil {
		return err
	}
	if err == nil && !e.dryRun {
		err = e.recount(ctx, cfg, conn, bar)
	}
	return errors.Join(err, printErasure(c.OutOrStdout(), report, e.json))
}

// open opens all that may have the person.
func (e *eraseOptions) open(cfg *config.Config, conn *broker.Conn, bar *progressbar.ProgressBar) (o erase.Options, done func(), err error) {
	var opened []func()
	done = func() {
		for _, end := range opened {
			end()
		}
	}
	defer func() {
		if err != nil {
			done()
		}
	}()
	if o.JetStream, err = conn.JetStream(); err != nil {
		return o, nil, err
	}
	o.Names = streams.Names{Prefix: cfg.NATS.Prefix}
	if len(cfg.Instances) == 1 {
		o.InstanceID = cfg.Instances[0].ID
	}
	o.Progress = func(what string, n, of int) {
		bar.Describe(what)
		if of > 0 {
			bar.ChangeMax(of)
			_ = bar.Set(n) // the terminal's own trouble
		}
	}
	for _, s := range cfg.Stores {
		opening, err := openStore(cfg, s.Name)
		if err != nil {
			return o, nil, err
		}
		o.Stores, opened = append(o.Stores, opening), append(opened, opening.Close)
	}
	if err := e.findAudit(cfg); err != nil {
		return o, nil, err
	}
	if cfg.Audit.DatabaseURL != "" {
		l, err := newAuditLog(cfg)
		if err != nil {
			return o, nil, err
		}
		o.Audit, opened = auditLog{l}, append(opened, l.Close)
	}
	if cfg.RequireInvalidate() == nil {
		logging.Disable() // what the client of Redis retries it also prints
		v, targets, err := newInvalidator(cfg, conn, zap.NewNop(), invalidate.NewMetrics(prometheus.NewRegistry()))
		if err != nil {
			return o, nil, err
		}
		o.Keys = v
		for _, t := range targets {
			opened = append(opened, func() { _ = t.Close() }) // the command ends
		}
	}
	return o, done, nil
}

// recount tells the stores how many letters they still have.
func (e *eraseOptions) recount(ctx context.Context, cfg *config.Config, conn *broker.Conn, bar *progressbar.ProgressBar) error {
	sinks, err := e.openSinks(cfg, conn, nil)
	if err != nil {
		return err
	}
	defer sinks.close()
	_, err = sinks.deadLetters(cfg, conn, bar).Redrive(ctx, nil)
	return err
}

// auditLog is the audit log as an erasure needs it.
type auditLog struct{ *audit.Log }

func (l auditLog) Count(ctx context.Context, userID string, texts []string) (int64, error) {
	return l.Log.Count(ctx, audit.Match{UserID: userID, Texts: texts})
}

func (l auditLog) Redact(ctx context.Context, userID string, texts []string) (int64, error) {
	return l.Log.Redact(ctx, audit.Match{UserID: userID, Texts: texts}, "erased")
}

func printErasure(w io.Writer, r *erase.Report, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(r)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "STREAM\tOWN\tBY ADDRESS\tCUT\tSHARED")
	for _, s := range r.Streams {
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\n", s.Stream, s.Own, s.ByAddress, s.Cut, s.Shared)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	did := "erased"
	switch {
	case !r.Finished:
		did = "is not erased everywhere yet"
	case r.DryRun:
		did = "would be erased"
	}
	for _, name := range r.Stores {
		fmt.Fprintln(w, name)
	}
	fmt.Fprintf(w, "audit: %d rows\n", r.AuditRows)
	if !r.DryRun {
		fmt.Fprintf(w, "remembered keys: %d\n", r.Keys)
	}
	fmt.Fprintf(w, "%s %s; out of reach:\n", r.UserID, did)
	for _, what := range r.OutOfReach {
		fmt.Fprintln(w, "  "+what)
	}
	return nil
}
