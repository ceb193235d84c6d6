package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/rollcall-dev/rollcall/internal/broker"
	"github.com/rollcall-dev/rollcall/internal/cli"
	"github.com/rollcall-dev/rollcall/internal/config"
	"github.com/rollcall-dev/rollcall/internal/lease"
	"github.com/rollcall-dev/rollcall/internal/rebuild"
	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/streams"
)

const rebuildLease = 30 * time.Second

type rebuildOptions struct {
	*options
	dryRun, yes, json bool
}

func newRebuild(o *options) *cobra.Command {
	r := &rebuildOptions{options: o}
	c := &cobra.Command{
		Use: "rebuild NAME", Short: "Make a store right again from the log, or show how it differs", Args: cli.Exactly(1, "the store's name"),
		Long: `Build what the log says beside the store (schema NAME_rebuild of its database),
compare row by row, and apply the difference in one transaction. Consumers, readers,
grants, foreign keys and policies stay as they are; a reader sees the rows of before
or of after.

What the log can't explain is counted and kept: rows of which it has no event any
more, and rows that are newer than its events. Where a table would lose more than 5%
of its rows, and more than 10, it asks.

Interrupted at any moment it goes on when it is started again.

Exit code 3 with --dry-run if something differs.`,
		Example: `  rollcall rebuild orders --dry-run     # what is wrong
  rollcall rebuild orders               # and mend it`,
		RunE: func(c *cobra.Command, args []string) error { return r.run(c.Context(), c.OutOrStdout(), args[0]) },
	}
	f := c.Flags()
	f.BoolVar(&r.dryRun, "dry-run", false, "only show how the store differs")
	f.BoolVar(&r.yes, "yes", false, "delete what the log has deleted, however much it is")
	f.BoolVar(&r.json, "json", false, "print a JSON object")
	return c
}

func (r *rebuildOptions) run(ctx context.Context, w io.Writer, name string) error {
	return r.withBroker(ctx, func(ctx context.Context, cfg *config.Config, conn *broker.Conn) error {
		s, err := openStore(cfg, name)
		if err != nil {
			return err
		}
		defer s.Close()
		js, err := conn.JetStream()
		if err != nil {
			return err
		}
		names := streams.Names{Prefix: cfg.NATS.Prefix}
		alone, err := lease.Take(ctx, js, names.StateBucket(), "rebuild-"+name, rebuildLease, nil)
		if held := (*lease.HeldError)(nil); errors.As(err, &held) {
			return fmt.Errorf("store %s is being rebuilt: %w (after a crash the lease ends within %s)", name, held, rebuildLease)
		}
		if err != nil {
			return fmt.Errorf("take the lease of the rebuild: %w", err)
		}
		defer alone.Release()
		bar := &rebuildBar{last: time.Now()}
		report, err := rebuild.Run(alone.Context(), rebuild.Options{JetStream: js, Names: names, Store: s, DryRun: r.dryRun, Confirm: r.confirm, Progress: bar.show})
		bar.finish()
		switch {
		case err != nil && ctx.Err() != nil:
			return fmt.Errorf("interrupted; rollcall rebuild %s goes on from here", name)
		case err != nil && report.Tables == nil:
			return err
		}
		if err := errors.Join(r.print(w, report), err); err != nil {
			return err
		}
		if r.dryRun && report.Drifted() > 0 {
			return found{fmt.Errorf("%s of store %s differ from the log: rollcall rebuild %[2]s mends that", counted(int(report.Drifted()), "row"), name)}
		}
		return nil
	})
}

// confirm asks before much is deleted.
func (r *rebuildOptions) confirm(over []store.Drift) error {
	if r.yes {
		return nil
	}
	var what []string
	for _, d := range over {
		what = append(what, fmt.Sprintf("%d of %d %s", d.Deleted, d.Rows, d.Table))
	}
	return fmt.Errorf("the log has deleted %s, more than a rebuild deletes unasked; nothing was changed. Look with --dry-run, and run it with --yes", strings.Join(what, ", "))
}

func (r *rebuildOptions) print(w io.Writer, report *rebuild.Report) error {
	if r.json {
		return json.NewEncoder(w).Encode(report)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "TABLE\tROWS\tMISSING\tSTALE\tCHANGED\tDELETED\tBEHIND\tUNKNOWN\tNEWER")
	for i := range report.Tables {
		d := &report.Tables[i]
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\n", d.Table, d.Rows, d.Missing, d.Stale, d.Changed, d.Deleted, d.Behind, d.Unknown, d.Newer)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, reason := range report.Reasons {
		fmt.Fprintln(w, "can't be applied:", reason)
	}
	state := "right, and nothing had to be changed"
	switch n := report.Drifted(); {
	case n > 0 && report.Applied:
		state = counted(int(n), "row") + " mended"
	case n > 0:
		state = counted(int(n), "row") + " differ"
	case !report.Applied:
		state = "right"
	}
	_, err := fmt.Fprintf(w, "%s: %s, by %s up to sequence %d, in %.1f s\n", report.Store, state, counted(int(report.Events), "event"), report.Last, report.Seconds)
	return err
}

// rebuildBar shows how far it is: a bar on a terminal, else a line now and then.
type rebuildBar struct {
	bar   *progressbar.ProgressBar
	doing string
	last  time.Time
}

func (b *rebuildBar) show(doing string, done, total uint64) {
	if b.bar == nil {
		b.bar = newBar(-1, doing, "events")
	}
	if doing != b.doing {
		b.doing = doing
		b.bar.Describe(doing)
	}
	if total > 0 {
		b.bar.ChangeMax64(int64(total))
	}
	_ = b.bar.Set64(int64(done)) // the terminal's own trouble
	if time.Since(b.last) > sayEvery && !term.IsTerminal(int(os.Stderr.Fd())) {
		b.last = time.Now()
		if total > 0 {
			doing = fmt.Sprintf("%s: %d of %d", doing, done, total)
		}
		fmt.Fprintln(os.Stderr, doing)
	}
}

func (b *rebuildBar) finish() {
	if b.bar != nil {
		_ = b.bar.Finish() // the terminal's own trouble
	}
}
