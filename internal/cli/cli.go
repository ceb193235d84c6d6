// Package cli is what our commands have in common: mistakes in how one is called
// are told apart, and end with a way out; the first signal drains.
package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// usageError is a mistake in how a command was called or configured.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// Usage makes an error one of usage.
func Usage(err error) error { return usageError{err} }

// Usagef is an error of usage.
func Usagef(format string, args ...any) error { return Usage(fmt.Errorf(format, args...)) }

// IsUsage reports whether the error is a mistake in how the command was called.
func IsUsage(err error) bool {
	var usage usageError
	return errors.As(err, &usage)
}

// Signals ends the context at the first SIGINT or SIGTERM, which drains; a
// second one, however soon, ends the process at once with that code.
func Signals(code int) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		cancel()
		<-signals
		os.Exit(code)
	}()
	return ctx, cancel
}

// Root makes a command the program itself: silent of its own, with our errors.
func Root(root *cobra.Command) *cobra.Command {
	root.SilenceUsage, root.SilenceErrors = true, true
	root.Args, root.RunE = NoArgs, help
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return Usagef("%w; see %s --help", err, c.CommandPath())
	})
	return root
}

func help(c *cobra.Command, _ []string) error { return c.Help() }

// Version prints the program's version.
func Version(program, version string) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(c.OutOrStdout(), program, version)
			return err
		},
	}
}

// NoArgs, Exactly and AtLeastOne are cobra's checks with our exit code and a way out.
func NoArgs(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if c.HasParent() {
		return Usagef("%s takes no argument %q; see %s --help", c.CommandPath(), args[0], c.CommandPath())
	}
	hint := ""
	c.SuggestionsMinimumDistance = 2
	if similar := c.SuggestionsFor(args[0]); len(similar) > 0 {
		hint = fmt.Sprintf(" Did you mean %s?", similar[0])
	}
	return Usagef("there is no command %q.%s See %s --help", args[0], hint, c.CommandPath())
}

// Exactly wants n arguments, which what names.
func Exactly(n int, what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) != n {
			return Usagef("%s needs %s; see %s --help", c.CommandPath(), what, c.CommandPath())
		}
		return nil
	}
}

// AtLeastOne wants an argument or more, which what names.
func AtLeastOne(what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return Usagef("%s needs %s; see %s --help", c.CommandPath(), what, c.CommandPath())
		}
		return nil
	}
}

// Group is a command that only has subcommands.
func Group(use, short string, children ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Args: NoSuchCommand, RunE: help}
	c.AddCommand(children...)
	return c
}

// NoSuchCommand is the check of a group's arguments.
func NoSuchCommand(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return Usagef("%s has no command %q; see %s --help", c.CommandPath(), args[0], c.CommandPath())
	}
	return nil
}
