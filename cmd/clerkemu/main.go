// Command clerkemu is a Clerk to test against, offline, that can misbehave on
// demand. One file a command; this one is the entry and the exit codes.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// version is set by the linker.
var version = "devel"

// Exit codes.
const (
	exitFailed    = 1
	exitUsage     = 2 // wrong usage
	exitDifferent = 3 // a store isn't as Clerk is
)

// usageError is a mistake in how a command was called.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// errDifferent is what verify has found.
var errDifferent = errors.New("the store isn't as Clerk is")

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
	fmt.Fprintln(os.Stderr, "clerkemu:", err)
	var usage usageError
	switch {
	case errors.As(err, &usage):
		return exitUsage
	case errors.Is(err, errDifferent):
		return exitDifferent
	}
	return exitFailed
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "clerkemu",
		Short: "A Clerk to test against, offline, that can misbehave on demand",
		Long: `A Clerk to test against: its Backend API, its webhooks with signatures and
retries, its tokens, and the ground truth of what Clerk knows. The other commands
change a clerkemu that serves: that of --url, of CLERK_API_URL, or of
` + defaultURL + `.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 verify found differences.`,
		Example: `  clerkemu serve --users 1000 --webhook-url http://127.0.0.1:8080/webhooks/clerk
  clerkemu user create --email ada@example.com --first-name Ada
  clerkemu chaos set drop=0.1 duplicate=0.2
  clerkemu traffic --changes 20000 && clerkemu settled
  clerkemu verify --database-url postgres://127.0.0.1/app`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          noArgs,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usagef("%w; see %s --help", err, c.CommandPath())
	})
	root.AddCommand(newServe(), newVerify(), newUser(), newOrganization(), newMembership(), newToken(), newKeys(), newChaos(), newTraffic(),
		newDeliveries(), newReplay(), newSettled(), newEndpoint(), newState(), newReset(), newInstance(), newVersion())
	return root
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(c.OutOrStdout(), "clerkemu", version)
			return err
		},
	}
}

// noArgs, exactly and atLeastOne are cobra's checks with our exit code and a way out.
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

func atLeastOne(what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usagef("%s needs %s; see %s --help", c.CommandPath(), what, c.CommandPath())
		}
		return nil
	}
}

// group is a command that only has subcommands.
func group(use, short string, children ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{
		Use: use, Short: short, Args: noSuchCommand,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(children...)
	return c
}

func noSuchCommand(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("%s has no command %q; see %s --help", c.CommandPath(), args[0], c.CommandPath())
	}
	return nil
}
