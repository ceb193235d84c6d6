package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rollcall-dev/rollcall/internal/cli"
	"github.com/rollcall-dev/rollcall/internal/store"
)

func newStoreGrant(o *options) *cobra.Command {
	var role string
	var onlyPrint, asJSON bool
	c := &cobra.Command{
		Use: "grant NAME --role ROLE", Short: "Let a service's role read a store", Args: oneStore,
		Long: `Let a role read a store's tables and views, those of later changes of the schema too,
point foreign keys at users and organizations, and call ensure_user and
ensure_organization. It can write nothing.

A role that isn't there is made, without a password. Where migrate_database_url may
make no roles, the SQL is printed for somebody who may, and the exit code is 1.`,
		Example: `  rollcall store grant orders --role orders_app
  rollcall store grant orders --role orders_app --print > grant.sql    # for psql -f, as the schema's owner`,
		RunE: func(c *cobra.Command, args []string) error {
			if role == "" {
				return cli.Usagef("%s needs --role, the name of the service's role; see %[1]s --help", c.CommandPath())
			}
			return o.withStore(c.Context(), args[0], func(ctx context.Context, s *store.Store) error {
				grant := s.Grant
				if onlyPrint {
					grant = s.PlanGrant
				}
				g, err := grant(ctx, role)
				var none *store.NoRoleError
				if err != nil && !errors.As(err, &none) {
					return err
				}
				return errors.Join(err, printGrant(c.OutOrStdout(), s, g, onlyPrint || err != nil, asJSON))
			})
		},
	}
	c.Flags().StringVar(&role, "role", "", "the service's role")
	c.Flags().BoolVar(&onlyPrint, "print", false, "print the SQL, and run nothing")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON: role, made, sql")
	return c
}

func printGrant(w io.Writer, s *store.Store, g store.Grant, asSQL, asJSON bool) error {
	var err error
	switch name := g.Role; {
	case asJSON:
		g.Made = g.Made && !asSQL
		err = json.NewEncoder(w).Encode(g)
	case asSQL:
		_, err = fmt.Fprintln(w, strings.Join(g.SQL, ";\n")+";")
	default:
		if g.Made {
			if _, err = fmt.Fprintf(w, "made role %s; it has no password yet: \\password %[1]s in psql gives it one\n", name); err != nil {
				return err
			}
		}
		_, err = fmt.Fprintf(w, "role %s reads schema %s, and calls ensure_user and ensure_organization\n", name, s.Schema())
	}
	return err
}
