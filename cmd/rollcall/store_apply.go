package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rollcall-dev/rollcall/internal/store"
)

func newStoreApply(o *options) *cobra.Command {
	var confirmDrop, asJSON bool
	c := &cobra.Command{
		Use: "apply NAME", Short: "Bring a store's schema to what the configuration says", Args: oneStore,
		Long: `Run what store plan prints, as migrate_database_url, in one transaction, and print
it. Columns and tables that the configuration leaves out are dropped only with
--confirm-drop, with all they hold; without it they stay, and the exit code is 1.

Processes of the store may run meanwhile. Give them the new configuration first: one
with the old configuration would make again what is dropped.`,
		Example: `  rollcall store apply orders
  rollcall store apply orders --confirm-drop`,
		RunE: func(c *cobra.Command, args []string) error {
			return o.withStore(c.Context(), args[0], func(ctx context.Context, s *store.Store) error {
				applied, left, err := s.ApplySchema(ctx, confirmDrop)
				if err != nil {
					return err
				}
				if len(applied) > 0 || len(left) == 0 || asJSON {
					if err := printPlan(c.OutOrStdout(), s, applied, asJSON); err != nil {
						return err
					}
				}
				if len(left) > 0 {
					return fmt.Errorf("not dropped: %s; rollcall store plan %s shows how it would be, rollcall store apply %[2]s --confirm-drop does it",
						strings.Join(left.Drops(), ", "), args[0])
				}
				return nil
			})
		},
	}
	c.Flags().BoolVar(&confirmDrop, "confirm-drop", false, "drop what the configuration leaves out")
	c.Flags().BoolVar(&asJSON, "json", false, "print a JSON array of what was run")
	return c
}
