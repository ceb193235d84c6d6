package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/rollcall-dev/rollcall/internal/cli"
	"github.com/rollcall-dev/rollcall/internal/config"
	"github.com/rollcall-dev/rollcall/internal/store"
)

// askDatabase is how long a look at one database may take.
const askDatabase = 30 * time.Second

// doctor is what was asked of rollcall doctor. A check is a method, and a flag
// that asks for it.
type doctor struct {
	*options
	tenancy            bool
	store, url, schema string
	ignoredRoles       []string
	canary             canary
	asJSON             bool
}

func newDoctor(o *options) *cobra.Command {
	d := &doctor{options: o}
	c := &cobra.Command{
		Use: "doctor --tenancy|--canary", Short: "Look for what is wrong around Rollcall", Args: cli.NoArgs,
		Long: `Look for what is wrong around Rollcall.

--tenancy looks for tables with an organization's column and no row-level
security, and for ways around it: roles that policies don't bind, policies that
let everything through, views, functions and privileges. Each line is followed
by what to run. Give the URL that your service uses, so that its role is judged. Nothing
is changed.

--canary proves that webhooks come: it notes the time in the private metadata of a
user whom you name, under rollcall_canary, and waits for the event to be in the
log. Name a user of your own.

Exit code 3 if anything is found. A note alone is nothing found.`,
		Example: `  rollcall doctor --tenancy --database-url "$ORDERS_DATABASE_URL"    # as the service logs in
  rollcall doctor --tenancy --store orders --json                   # as the store logs in
  rollcall doctor --tenancy --ignore-role cloudadmin                # no service logs in as that one
  rollcall doctor --canary --user user_2g7np7Hrk0SN6kj5EDMLDaKNL0S  # do webhooks come?`,
		RunE: func(c *cobra.Command, _ []string) error { return d.run(c.Context(), c.OutOrStdout()) },
	}
	f := c.Flags()
	f.BoolVar(&d.tenancy, "tenancy", false, "check row-level security")
	f.StringVar(&d.store, "store", "", "the database of this store (default: of all in the configuration)")
	f.StringVar(&d.url, "database-url", "", "a service's database, as the service logs in; its password is better in PGPASSWORD")
	f.StringVar(&d.schema, "schema", "clerk", "the store's schema in --database-url")
	f.StringArrayVar(&d.ignoredRoles, "ignore-role", nil, "say nothing of this role, since no service logs in as it; can be repeated")
	f.BoolVar(&d.canary.asked, "canary", false, "change a user's metadata in Clerk, and wait for its webhook")
	f.StringVar(&d.canary.user, "user", "", "with --canary: the id of a user to be changed")
	f.StringVar(&d.canary.instance, "instance", "", "with --canary: name of the instance; needed with several")
	f.DurationVar(&d.canary.wait, "wait", time.Minute, "with --canary: how long the webhook may take")
	f.BoolVar(&d.asJSON, "json", false, "print JSON: an array of findings, or what became of the canary")
	c.MarkFlagsMutuallyExclusive("store", "database-url")
	return c
}

func (d *doctor) run(ctx context.Context, w io.Writer) error {
	switch {
	case d.canary.asked && d.tenancy:
		return cli.Usagef("--tenancy looks and --canary changes a user: ask for one of the two")
	case d.canary.asked:
		return d.sendCanary(ctx, w)
	case !d.tenancy:
		return cli.Usagef("rollcall doctor needs to be told what to check: --tenancy or --canary; see rollcall doctor --help")
	}
	all, err := d.checkTenancy(ctx)
	if err != nil {
		return err
	}
	problems := 0
	for _, f := range all {
		if !f.Note {
			problems++
		}
	}
	if err := d.print(w, all, problems); err != nil || problems == 0 {
		return err
	}
	if problems == 1 {
		return found{errors.New("one finding")}
	}
	return found{fmt.Errorf("%d findings", problems)}
}

func (d *doctor) print(w io.Writer, all []store.Finding, problems int) error {
	if d.asJSON {
		return json.NewEncoder(w).Encode(all)
	}
	for _, f := range all {
		note := ""
		if f.Note {
			note = "note: "
		}
		if _, err := fmt.Fprintf(w, "%s%s %s\n    %s\n", note, f.Object, f.What, f.Run); err != nil {
			return err
		}
	}
	if problems > 0 {
		return nil
	}
	_, err := fmt.Fprintln(w, "tenancy: nothing found")
	return err
}

// checkTenancy looks at the databases asked for, each once.
func (d *doctor) checkTenancy(ctx context.Context) ([]store.Finding, error) {
	q := store.TenancyQuestion{Schema: d.schema, Application: true, IgnoredRoles: d.ignoredRoles}
	if d.url != "" {
		return tenancyOf(ctx, d.url, q)
	}
	cfg, err := d.load()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, s := range cfg.Stores {
		names = append(names, s.Name)
	}
	if d.store != "" {
		names = []string{d.store}
	} else if len(names) == 0 {
		names = []string{config.DefaultStore} // the error says how to name one
	}
	q.Application = false
	all := []store.Finding{}
	for _, name := range names {
		if err := cfg.RequireStore(name); err != nil {
			return nil, err
		}
		s, _ := cfg.Store(name)
		q.Schema = s.Schema
		more, err := tenancyOf(ctx, s.DatabaseURL, q)
		if err != nil {
			return nil, fmt.Errorf("store %s: %w", s.Name, err)
		}
		for _, f := range more {
			if !slices.Contains(all, f) { // another store of the same database may have had it
				all = append(all, f)
			}
		}
	}
	return all, nil
}

func tenancyOf(ctx context.Context, databaseURL string, q store.TenancyQuestion) ([]store.Finding, error) {
	ctx, cancel := context.WithTimeout(ctx, askDatabase)
	defer cancel()
	parsed, err := pgx.ParseConfig(databaseURL)
	if err != nil {
		return nil, cli.Usagef("the database URL can't be parsed: %w", errors.Unwrap(err)) // the outer error quotes it
	}
	conn, err := pgx.ConnectConfig(ctx, parsed)
	if err != nil {
		return nil, fmt.Errorf("connect to the database: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return store.CheckTenancy(ctx, conn, q)
}
