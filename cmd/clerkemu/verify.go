package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/rollcall-dev/rollcall/internal/cli"
	"github.com/rollcall-dev/rollcall/internal/emulator/truth"
)

type verifyOptions struct {
	remote      remote
	file        string
	databaseURL string
	truth       truth.Options
}

func newVerify() *cobra.Command {
	v := &verifyOptions{}
	c := &cobra.Command{
		Use: "verify", Short: "Compare a Rollcall store with what Clerk knows", Args: cli.NoArgs,
		Long: `Compare a Rollcall store with what Clerk knows: resource by resource, field by
field, all that the store keeps. Wait first until all is delivered (clerkemu
settled) and applied.

Exit code 0 if they are equal, 3 if not.`,
		Example: `  clerkemu verify --database-url postgres://127.0.0.1/app
  clerkemu verify --state saved.json --database-url postgres://127.0.0.1/app --schema clerk --json`,
		RunE: func(c *cobra.Command, _ []string) error {
			report, err := v.compare(c.Context())
			if err != nil {
				return err
			}
			return v.print(c.OutOrStdout(), report)
		},
	}
	v.remote.addURL(c)
	f := c.Flags()
	f.StringVar(&v.file, "state", "", "a saved state, instead of the clerkemu at --url")
	f.StringVar(&v.databaseURL, "database-url", "", "the store's Postgres (default: DATABASE_URL)")
	f.StringVar(&v.truth.Schema, "schema", "clerk", "the store's schema")
	f.StringVar(&v.truth.InstanceID, "instance", "", "id of the instance to compare (default: all)")
	f.StringArrayVar(&v.truth.Resources, "resource", nil, "a resource to compare, such as users (repeatable; default: all that the store keeps)")
	f.BoolVar(&v.remote.asJSON, "json", false, "print the report as JSON")
	return c
}

func (v *verifyOptions) compare(ctx context.Context) (truth.Report, error) {
	databaseURL := cmp.Or(v.databaseURL, os.Getenv("DATABASE_URL"))
	if databaseURL == "" {
		return truth.Report{}, cli.Usagef("which store? Give --database-url, or set DATABASE_URL")
	}
	config, err := pgx.ParseConfig(databaseURL)
	if err != nil {
		return truth.Report{}, cli.Usage(err)
	}
	state, err := v.open(ctx)
	if err != nil {
		return truth.Report{}, err
	}
	defer state.Close()
	db, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return truth.Report{}, fmt.Errorf("the store can't be reached: %w", err)
	}
	report, err := truth.Compare(ctx, state, db, v.truth)
	return report, errors.Join(err, db.Close(context.WithoutCancel(ctx)))
}

// open reads the state from the file or from a clerkemu.
func (v *verifyOptions) open(ctx context.Context) (io.ReadCloser, error) {
	if v.file != "" {
		if v.remote.url != "" {
			return nil, cli.Usagef("verify takes --url or --state, not both")
		}
		f, err := os.Open(v.file)
		if err != nil {
			return nil, cli.Usage(err)
		}
		return f, nil
	}
	resp, err := v.remote.send(ctx, http.MethodGet, "/_emu/state", "", nil)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		return nil, refusal(resp)
	}
	return resp.Body, nil
}

func (v *verifyOptions) print(w io.Writer, report truth.Report) error {
	var err error
	if v.remote.asJSON {
		err = json.NewEncoder(w).Encode(report)
	} else {
		err = report.Write(w)
	}
	if err == nil && !report.Equal() {
		return fmt.Errorf("%w: differences: %d", errDifferent, len(report.Differences))
	}
	return err
}
