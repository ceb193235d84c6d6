package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/rollcall-dev/rollcall/internal/broker"
	"github.com/rollcall-dev/rollcall/internal/cli"
	"github.com/rollcall-dev/rollcall/internal/config"
	"github.com/rollcall-dev/rollcall/internal/consume"
)

func newDLQDrop(o *options) *cobra.Command {
	var s selecting
	var yes bool
	c := &cobra.Command{
		Use: "drop ID...", Short: "Give dead letters up and delete them",
		Long: `Delete the dead letters that are selected; it asks first. The log keeps a note of
each, with who dropped it and why it was a letter, but not what was in it. What
a store's letter is about stays in the log, and a rebuild meets it again; a letter
of ingest is nowhere else.`,
		Example: `  rollcall dlq drop store-app:1795449600000000000:42:1
  rollcall dlq drop --sink ingest --reason "not JSON" --yes`,
		RunE: func(c *cobra.Command, ids []string) error {
			selection, err := s.selection(ids)
			if err != nil {
				return err
			}
			if selection.Empty() {
				return cli.Usagef("%s needs the IDs of letters, as dlq list prints them, or a flag that selects; see %[1]s --help", c.CommandPath())
			}
			if !yes && !term.IsTerminal(int(os.Stdin.Fd())) {
				return cli.Usagef("%s asks before it deletes, and there is no terminal to ask on: look with dlq list, then give --yes", c.CommandPath())
			}
			return o.withLetters(c.Context(), selection, func(ctx context.Context, cfg *config.Config, conn *broker.Conn, letters []consume.Letter) error {
				if len(letters) == 0 {
					return printDropped(c.OutOrStdout(), 0, s.asJSON)
				}
				if !yes {
					if err := cli.Confirm(ctx, c.InOrStdin(), c.ErrOrStderr(), fmt.Sprintf("Delete %s (%s)? They can't be brought back", counted(len(letters), "letter"), bySink(letters))); err != nil {
						return err
					}
				}
				return o.drop(ctx, c.OutOrStdout(), cfg, conn, letters, s.asJSON)
			})
		},
	}
	s.flags(c, "print a JSON object")
	c.Flags().BoolVar(&yes, "yes", false, "don't ask")
	return c
}

func (o *options) drop(ctx context.Context, out io.Writer, cfg *config.Config, conn *broker.Conn, letters []consume.Letter, asJSON bool) error {
	sinks, err := o.openSinks(cfg, conn, letters)
	if err != nil {
		return err
	}
	defer sinks.close()
	bar := newBar(len(letters), "dropping", "letters")
	n, err := sinks.deadLetters(cfg, conn, bar).Drop(ctx, letters)
	_ = bar.Finish()
	if ctx.Err() != nil {
		err = fmt.Errorf("interrupted with %d of %d letters to go", len(letters)-n, len(letters))
	}
	return errors.Join(printDropped(out, n, asJSON), err)
}

func printDropped(w io.Writer, n int, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(map[string]int{"dropped": n})
	}
	if n == 0 {
		_, err := fmt.Fprintln(w, "no dead letters")
		return err
	}
	_, err := fmt.Fprintln(w, counted(n, "letter"), "dropped")
	return err
}
