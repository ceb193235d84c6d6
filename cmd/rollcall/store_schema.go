package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rollcall-dev/rollcall/internal/cli"
	"github.com/rollcall-dev/rollcall/internal/orm"
)

// formatSQL is the one that is a store's own to write.
const formatSQL = "sql"

func newStoreSchema(o *options) *cobra.Command {
	formats := []string{orm.Prisma, orm.Drizzle, orm.SQLC, formatSQL}
	var format, output string
	c := &cobra.Command{
		Use: "schema NAME", Short: "Print a store's tables and views for an ORM, or as SQL", Args: oneStore,
		Long: `Print the tables and views that the configuration makes of a store, for those who read
them: no database is asked.

  prisma    models and views, a file beside schema.prisma
  drizzle   a TypeScript module
  sqlc      DDL for sqlc's schema setting
  sql       what makes the whole schema in an empty database, functions included: a
            service's own tests load it with psql, and need no Rollcall`,
		Example: `  rollcall store schema orders --format prisma --output prisma/clerk.prisma
  rollcall store schema orders --format drizzle > src/db/clerk.ts
  rollcall store schema orders --format sql | psql "$TEST_DATABASE_URL"`,
		RunE: func(c *cobra.Command, args []string) error {
			if !slices.Contains(formats, format) {
				return cli.Usagef("--format is %q; it must be one of %s", format, strings.Join(formats, ", "))
			}
			text, err := o.describe(args[0], format)
			if err != nil {
				return err
			}
			if output == "" {
				_, err = fmt.Fprint(c.OutOrStdout(), text)
				return err
			}
			return os.WriteFile(output, []byte(text), 0o644) //nolint:gosec // nothing secret
		},
	}
	c.Flags().StringVar(&format, "format", formatSQL, strings.Join(formats, ", "))
	c.Flags().StringVarP(&output, "output", "o", "", "write to this file (default: print)")
	return c
}

// describe needs no database, and so none in the configuration.
func (o *options) describe(name, format string) (string, error) {
	cfg, err := o.load()
	if err != nil {
		return "", err
	}
	c, known := cfg.Store(name)
	if !known {
		return "", cfg.RequireStore(name)
	}
	s, err := newStoreOf(cfg, c)
	if err != nil {
		return "", err
	}
	defer s.Close()
	if format == formatSQL {
		return s.Template()
	}
	return orm.Describe(format, s.Schema(), s.Relations())
}
