// Command rollcall keeps every service of a company in step with its Clerk
// users, organizations, roles and sessions. One file a command; this one is the
// entry and the exit codes.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/rollcall-dev/rollcall/internal/config"
)

// version is set by the linker.
var version = "devel"

// Exit codes.
const (
	exitFailed = 1
	exitUsage  = 2 // wrong usage or configuration
	// 3: drift or a broken chain found; no command finds any yet
)

// usageError is a mistake in how a command was called or configured.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

func main() { os.Exit(Main()) }

// Main runs the command line and returns the exit code.
func Main() int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	// The first signal drains; a second one, however soon, ends the process at once.
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		cancel()
		<-signals
		os.Exit(exitFailed)
	}()
	err := newRoot().ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, "rollcall:", err)
	var usage usageError
	var mistakes *config.Error
	if errors.As(err, &usage) || errors.As(err, &mistakes) {
		return exitUsage
	}
	return exitFailed
}

// options that all commands share.
type options struct {
	configFile string
	dataDir    string
	logLevel   string
}

func newRoot() *cobra.Command {
	o := &options{}
	root := &cobra.Command{
		Use:   "rollcall",
		Short: "Keep your services in step with their Clerk users, organizations, roles and sessions",
		Example: `  rollcall dev                      # everything on this machine, no account needed
  rollcall send user.created        # in a second terminal: an event, as Clerk sends it
  rollcall run ingest store         # production, configured by rollcall.yaml and the environment`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          noArgs,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usagef("%w; see %s --help", err, c.CommandPath())
	})
	flags := root.PersistentFlags()
	flags.StringVar(&o.configFile, "config", "", "configuration file (default: rollcall.yaml, if there is one)")
	flags.StringVar(&o.dataDir, "data", ".rollcall", "directory of the dev stack")
	flags.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
	root.AddCommand(newDev(o), newRun(o), newSend(o), newStreams(o), newDLQ(o), newConfig(o), newHealth(o), newVersion())
	return root
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(c.OutOrStdout(), "rollcall", version)
			return err
		},
	}
}

// noArgs and exactly are cobra's checks with our exit code and a way out.
func noArgs(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if c.HasParent() {
		return usagef("%s takes no argument %q; see %s --help", c.CommandPath(), args[0], c.CommandPath())
	}
	hint := ""
	c.SuggestionsMinimumDistance = 2
	if similar := c.SuggestionsFor(args[0]); len(similar) > 0 {
		hint = fmt.Sprintf(" Did you mean %s?", similar[0])
	}
	return usagef("there is no command %q.%s See %s --help", args[0], hint, c.CommandPath())
}

func exactly(n int, what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) != n {
			return usagef("%s needs %s; see %s --help", c.CommandPath(), what, c.CommandPath())
		}
		return nil
	}
}

// group is a command that only has subcommands.
func group(use, short string, children ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{
		Use: use, Short: short,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("%s has no command %q; see %s --help", c.CommandPath(), args[0], c.CommandPath())
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(children...)
	return c
}
