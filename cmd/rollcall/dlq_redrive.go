package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9/logging"
	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/rollcall-dev/rollcall/internal/broker"
	"github.com/rollcall-dev/rollcall/internal/config"
	"github.com/rollcall-dev/rollcall/internal/consume"
	"github.com/rollcall-dev/rollcall/internal/ingest"
	"github.com/rollcall-dev/rollcall/internal/invalidate"
	"github.com/rollcall-dev/rollcall/streams"
)

func newDLQRedrive(o *options) *cobra.Command {
	var s selecting
	var dryRun bool
	c := &cobra.Command{
		Use: "redrive [ID...]", Short: "Apply dead letters through the sink that failed, once the cause is mended",
		Long: `Apply dead letters, all or those selected, through the sink that failed and no
other: a store's are written into its database by this command, ingest's are put
into the log. Sinks may go on running; an event that has been overtaken changes
nothing.

A letter is deleted once its effect is committed. One that fails again stays, with
the new reason. Whatever interrupts this command loses no letter: run it again.
While a database or NATS is away it waits, until Ctrl-C.

Exit code 1 if a letter failed again.`,
		Example: `  rollcall dlq redrive
  rollcall dlq redrive --sink store-app --reason no_eve --dry-run
  rollcall dlq redrive store-app:1795449600000000000:42:1`,
		RunE: func(c *cobra.Command, ids []string) error {
			selection, err := s.selection(ids)
			if err != nil {
				return err
			}
			return o.withLetters(c.Context(), selection, func(ctx context.Context, cfg *config.Config, conn *broker.Conn, letters []consume.Letter) error {
				sinks, err := o.openSinks(cfg, conn, letters)
				if err != nil {
					return err
				}
				defer sinks.close()
				if dryRun {
					return printDryRun(c.OutOrStdout(), sinks, letters, s.asJSON)
				}
				bar := newBar(len(letters), "redriving", "letters")
				result, err := sinks.deadLetters(cfg, conn, bar).Redrive(ctx, letters)
				_ = bar.Finish()
				return errors.Join(printRedriven(c.OutOrStdout(), result, s.asJSON), redriveError(ctx, result, len(letters), err))
			})
		},
	}
	s.flags(c, "print a JSON object")
	c.Flags().BoolVar(&dryRun, "dry-run", false, "only show which letters would be applied")
	return c
}

func redriveError(ctx context.Context, r *consume.Redriven, selected int, err error) error {
	switch {
	case ctx.Err() != nil:
		done := int(r.Applied()) + len(r.Failed) + len(r.Kept) + r.Gone
		return fmt.Errorf("interrupted with %d of %d letters to go; none is lost, run it again", selected-done, selected)
	case err != nil:
		return err
	case len(r.Failed) > 0:
		return fmt.Errorf("%s failed again", counted(len(r.Failed), "letter"))
	}
	return nil
}

// openedSinks are the sinks that letters can go through.
type openedSinks struct {
	list   []consume.Redriver
	opened []func() // how to close them
}

func (s *openedSinks) close() {
	for _, end := range s.opened {
		end()
	}
}

// openSinks opens those of the configuration that the letters are of; without
// letters those that show how many they have.
func (o *options) openSinks(cfg *config.Config, conn *broker.Conn, letters []consume.Letter) (_ *openedSinks, err error) {
	all := &openedSinks{}
	defer func() {
		if err != nil {
			all.close()
		}
	}()
	wanted := func(sink string) bool {
		return slices.ContainsFunc(letters, func(l consume.Letter) bool { return l.Sink == sink })
	}
	shown := func(sink string) bool { return len(letters) == 0 || wanted(sink) }
	if wanted(streams.SinkIngest) {
		all.list = append(all.list, ingest.NewRedriver(ingestOptions(cfg), conn.JetStream))
	}
	for _, c := range cfg.Stores {
		if shown(streams.SinkStore(c.Name)) {
			s, err := openStore(cfg, c.Name)
			if err != nil {
				return nil, err
			}
			all.list, all.opened = append(all.list, s), append(all.opened, s.Close)
		}
	}
	if err := o.findAudit(cfg); err != nil {
		return nil, err
	}
	if shown(streams.SinkAudit) && cfg.Audit.DatabaseURL != "" {
		l, err := newAuditLog(cfg)
		if err != nil {
			return nil, err
		}
		all.list, all.opened = append(all.list, l), append(all.opened, l.Close)
	}
	if wanted(streams.SinkInvalidate) && cfg.RequireInvalidate() == nil {
		logging.Disable() // what the client of Redis retries it also prints
		v, targets, err := newInvalidator(cfg, conn, zap.NewNop(), invalidate.NewMetrics(prometheus.NewRegistry()))
		if err != nil {
			return nil, err
		}
		all.list = append(all.list, v)
		for _, t := range targets {
			all.opened = append(all.opened, func() { _ = t.Close() }) // the command ends
		}
	}
	if wanted(streams.SinkRevoke) {
		all.list = append(all.list, newRevokeSink(cfg, conn))
	}
	return all, nil
}

func (s *openedSinks) has(l consume.Letter) bool {
	return slices.ContainsFunc(s.list, func(r consume.Redriver) bool { return r.Name() == l.Sink })
}

func (s *openedSinks) deadLetters(cfg *config.Config, conn *broker.Conn, bar *progressbar.ProgressBar) *consume.DeadLetters {
	trouble := &troubles{bar: bar, said: map[string]string{}}
	d := &consume.DeadLetters{
		Broker: conn, Names: streams.Names{Prefix: cfg.NATS.Prefix}, Sinks: s.list, By: operator(),
		Done: func(n int) { _ = bar.Add(n) }, Trouble: trouble.tell,
	}
	if len(cfg.Instances) == 1 {
		d.InstanceID = cfg.Instances[0].ID
	}
	return d
}

// operator is who runs the command, as the operating system knows them.
func operator() string {
	name := "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return name + "@" + host
}

func printDryRun(w io.Writer, sinks *openedSinks, letters []consume.Letter, asJSON bool) error {
	var would, kept []consume.Letter
	for _, l := range letters {
		if sinks.has(l) {
			would = append(would, l)
		} else {
			kept = append(kept, l)
		}
	}
	if asJSON {
		return json.NewEncoder(w).Encode(map[string]any{"would_redrive": orEmpty(would), "kept": orEmpty(kept)})
	}
	if err := printLetters(w, would, false); err != nil {
		return err
	}
	if len(would) > 0 {
		fmt.Fprintf(w, "\n%s would be redriven (%s)\n", counted(len(would), "letter"), bySink(would))
	}
	printKept(w, kept)
	return nil
}

func printKept(w io.Writer, kept []consume.Letter) {
	if len(kept) > 0 {
		fmt.Fprintf(w, "kept %s of sinks that this configuration doesn't have (%s)\n", counted(len(kept), "letter"), bySink(kept))
	}
}

func printRedriven(w io.Writer, r *consume.Redriven, asJSON bool) error {
	if asJSON {
		if r.Sinks == nil {
			r.Sinks = []streams.SinkRedriven{}
		}
		return json.NewEncoder(w).Encode(map[string]any{"sinks": r.Sinks, "failed": orEmpty(r.Failed), "kept": orEmpty(r.Kept), "gone": r.Gone})
	}
	if len(r.Sinks)+len(r.Kept) == 0 {
		fmt.Fprintln(w, "no dead letters")
	}
	for _, s := range r.Sinks {
		fmt.Fprintf(w, "%s: %s applied\n", s.Sink, counted(int(s.Applied), "letter"))
	}
	if r.Gone > 0 {
		fmt.Fprintf(w, "passed over %s that somebody else redrove or dropped meanwhile\n", counted(r.Gone, "letter"))
	}
	printKept(w, r.Kept)
	if len(r.Failed) == 0 {
		return nil
	}
	fmt.Fprintf(w, "\n%s failed again:\n", counted(len(r.Failed), "letter"))
	return printLetters(w, r.Failed, false)
}
