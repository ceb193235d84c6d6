package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/rollcall-dev/rollcall/internal/cli"
	"github.com/rollcall-dev/rollcall/internal/config"
)

// loadOwn reads configuration for a production process: a dev stack that
// happens to run beside it is none of its business.
func (o *options) loadOwn() (*config.Config, error) {
	return config.Load(o.configFile, os.LookupEnv)
}

func newConfig(o *options) *cobra.Command {
	return cli.Group("config", "Look at the configuration", &cobra.Command{
		Use: "print", Short: "Print the configuration in force, secrets masked, and where each value comes from", Args: cli.NoArgs,
		Example: `  rollcall config print
  ROLLCALL_INGEST_ADDR=:9000 rollcall config print --config production.yaml`,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := o.load()
			if err != nil {
				return err
			}
			return cfg.Print(c.OutOrStdout())
		},
	})
}
