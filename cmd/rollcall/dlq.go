package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/rollcall-dev/rollcall/internal/broker"
	"github.com/rollcall-dev/rollcall/internal/cli"
	"github.com/rollcall-dev/rollcall/internal/config"
	"github.com/rollcall-dev/rollcall/internal/consume"
	"github.com/rollcall-dev/rollcall/internal/projection"
	"github.com/rollcall-dev/rollcall/streams"
)

func newDLQ(o *options) *cobra.Command {
	return cli.Group("dlq", "Look after the dead letters: events that a sink could not apply",
		newDLQList(o), newDLQShow(o), newDLQRedrive(o), newDLQDrop(o))
}

// selecting are the flags that select letters.
type selecting struct {
	sink, reason, resource, since string
	asJSON                        bool
}

func (s *selecting) flags(c *cobra.Command, json string) {
	c.Flags().StringVar(&s.sink, "sink", "", "of this sink: ingest, store-NAME, audit, invalidate, revoke")
	c.Flags().StringVar(&s.reason, "reason", "", "whose reason contains this text")
	c.Flags().StringVar(&s.resource, "resource", "", "about this table's resource, as organization_memberships")
	c.Flags().StringVar(&s.since, "since", "", "that became letters since then: how long ago (90m, 36h, 7d) or when (2026-11-23, RFC 3339)")
	c.Flags().BoolVar(&s.asJSON, "json", false, json)
}

func (s *selecting) selection(ids []string) (consume.Selection, error) {
	selection := consume.Selection{Sink: s.sink, Reason: s.reason}
	var err error
	if s.since != "" {
		if selection.Since, err = cli.Since(s.since, time.Now()); err != nil {
			return selection, fmt.Errorf("--since: %w", err)
		}
	}
	if s.resource != "" {
		if selection.Resource, err = objectOf(s.resource); err != nil {
			return selection, fmt.Errorf("--resource: %w", err)
		}
	}
	if len(ids) > 0 && !selection.Empty() {
		return selection, cli.Usagef("give IDs or flags that select, not both")
	}
	selection.IDs = ids
	return selection, nil
}

// objectOf is Clerk's name of a resource that is named by its table. What has
// no table goes by Clerk's name.
func objectOf(name string) (string, error) {
	if r := projection.ByTable(name); r != nil {
		return r.Object, nil
	}
	tables := map[string]bool{}
	for _, r := range projection.Resources() {
		tables[r.Object] = true
	}
	var others []string
	for _, eventType := range streams.Types() {
		if object, _, _ := streams.SplitType(eventType); !tables[object] && !slices.Contains(others, object) {
			others = append(others, object)
		}
	}
	if slices.Contains(others, name) {
		return name, nil
	}
	var known []string
	for _, r := range projection.Resources() {
		known = append(known, r.Table)
	}
	return "", cli.Usagef("there is no resource %q; there are %s", name, strings.Join(append(known, others...), ", "))
}

// withLetters runs work on the letters that are selected.
func (o *options) withLetters(ctx context.Context, s consume.Selection, work func(context.Context, *config.Config, *broker.Conn, []consume.Letter) error) error {
	return o.withBroker(ctx, func(ctx context.Context, cfg *config.Config, conn *broker.Conn) error {
		js, err := conn.JetStream()
		if err != nil {
			return err
		}
		letters, err := consume.ReadLetters(ctx, js, streams.Names{Prefix: cfg.NATS.Prefix}, s)
		if err != nil {
			return err
		}
		return work(ctx, cfg, conn, letters)
	})
}

func newDLQList(o *options) *cobra.Command {
	var s selecting
	c := &cobra.Command{
		Use: "list [ID...]", Short: "List the dead letters, oldest first",
		Example: "  rollcall dlq list\n  rollcall dlq list --sink store-app --since 24h --json",
		RunE: func(c *cobra.Command, ids []string) error {
			selection, err := s.selection(ids)
			if err != nil {
				return err
			}
			return o.withLetters(c.Context(), selection, func(_ context.Context, _ *config.Config, _ *broker.Conn, letters []consume.Letter) error {
				return printLetters(c.OutOrStdout(), letters, s.asJSON)
			})
		},
	}
	s.flags(c, "print a JSON array")
	return c
}

func printLetters(w io.Writer, letters []consume.Letter, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(orEmpty(letters))
	}
	if len(letters) == 0 {
		_, err := fmt.Fprintln(w, "no dead letters")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tTIME\tTYPE\tENTITY\tREASON")
	for _, l := range letters {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", l.ID, l.Time.Local().Format(time.DateTime), l.Type, l.EntityID, l.Reason)
	}
	return t.Flush()
}

// orEmpty is for JSON, where no letters are [] and not null.
func orEmpty(letters []consume.Letter) []consume.Letter {
	if letters == nil {
		return []consume.Letter{}
	}
	return letters
}

// bySink says how many letters there are of each sink.
func bySink(letters []consume.Letter) string {
	n := map[string]int{}
	for _, l := range letters {
		n[l.Sink]++
	}
	var parts []string
	for _, sink := range slices.Sorted(maps.Keys(n)) {
		parts = append(parts, fmt.Sprintf("%s %d", sink, n[sink]))
	}
	return strings.Join(parts, ", ")
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func newDLQShow(o *options) *cobra.Command {
	var s selecting
	c := &cobra.Command{
		Use: "show ID...", Short: "Show dead letters whole: reason, sink, attempts, headers, body",
		Example: "  rollcall dlq show store-app:1795449600000000000:42:1\n  rollcall dlq show --sink ingest --since 1h",
		RunE: func(c *cobra.Command, ids []string) error {
			selection, err := s.selection(ids)
			if err != nil {
				return err
			}
			if selection.Empty() {
				return cli.Usagef("%s needs the ID of a letter, as dlq list prints it, or a flag that selects; see %[1]s --help", c.CommandPath())
			}
			selection.Whole = true
			return o.withLetters(c.Context(), selection, func(_ context.Context, _ *config.Config, _ *broker.Conn, letters []consume.Letter) error {
				for i, l := range letters {
					if i > 0 && !s.asJSON {
						fmt.Fprintln(c.OutOrStdout())
					}
					if err := printLetter(c.OutOrStdout(), &l, s.asJSON); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	s.flags(c, "print a JSON object a line")
	return c
}

func printLetter(w io.Writer, l *consume.Letter, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(l)
	}
	fmt.Fprintf(w, "id        %s\nreason    %s\nsink      %s\nattempts  %s\ntime      %s\ntype      %s\nentity    %s\n\n",
		l.ID, l.Reason, l.Sink, l.Attempts, l.Time.Format(time.RFC3339), l.Type, l.EntityID)
	for _, k := range slices.Sorted(maps.Keys(l.Header)) {
		fmt.Fprintf(w, "%s: %s\n", k, strings.Join(l.Header[k], ", "))
	}
	_, err := fmt.Fprintf(w, "\n%s\n", l.Body)
	return err
}
