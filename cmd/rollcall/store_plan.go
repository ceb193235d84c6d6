package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/rollcall-dev/rollcall/internal/store"
)

func newStorePlan(o *options) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "plan NAME", Short: "Print the SQL that brings a store's schema to what the configuration says; change nothing", Args: oneStore,
		Long: `Print the SQL that store apply would run, as psql takes it. What only adds, a store
does by itself when it starts (migrate: auto). What takes a column or a table away
is marked "destructive" and waits for store apply --confirm-drop.`,
		Example: `  rollcall store plan orders
  rollcall store plan orders --json
  rollcall store plan orders > change.sql    # migrate: off: the schema's owner runs it with psql -f`,
		RunE: func(c *cobra.Command, args []string) error {
			return o.withStore(c.Context(), args[0], func(ctx context.Context, s *store.Store) error {
				plan, err := s.PlanSchema(ctx)
				if err != nil {
					return err
				}
				return printPlan(c.OutOrStdout(), s, plan, asJSON)
			})
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print a JSON array")
	return c
}
