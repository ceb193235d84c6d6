// Command rollcall keeps every service of a company in step with its Clerk
// users, organizations, roles and sessions. One file a command; this one is the
// entry and the exit codes.
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/rollcall-dev/rollcall/internal/cli"
	"github.com/rollcall-dev/rollcall/internal/config"
)

// version is set by the linker.
var version = "devel"

// Exit codes.
const (
	exitFailed = 1
	exitUsage  = 2 // wrong usage or configuration
	exitFound  = 3 // drift, a broken chain, or what doctor looks for
)

// found is what a command was to look for: it did its work, and the answer is bad.
type found struct{ error }

func main() { os.Exit(Main()) }

// Main runs the command line and returns the exit code.
func Main() int {
	ctx, cancel := cli.Signals(exitFailed)
	defer cancel()
	err := newRoot().ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, "rollcall:", err)
	var mistakes *config.Error
	if cli.IsUsage(err) || errors.As(err, &mistakes) {
		return exitUsage
	}
	if errors.As(err, &found{}) {
		return exitFound
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
	root := cli.Root(&cobra.Command{
		Use:   "rollcall",
		Short: "Keep your services in step with their Clerk users, organizations, roles and sessions",
		Example: `  rollcall dev                      # everything on this machine, no account needed
  rollcall send user.created        # in a second terminal: an event, as Clerk sends it
  rollcall run ingest store         # production, configured by rollcall.yaml and the environment`,
	})
	flags := root.PersistentFlags()
	flags.StringVar(&o.configFile, "config", "", "configuration file (default: rollcall.yaml, if there is one)")
	flags.StringVar(&o.dataDir, "data", ".rollcall", "directory of the dev stack")
	flags.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
	root.AddCommand(newInit(o), newDev(o), newRun(o), newSend(o), newStore(o), newStreams(o), newBackfill(o), newReconcile(o), newReplay(o), newRebuild(o), newDLQ(o), newErase(o), newRevoke(o), newAudit(o), newDoctor(o), newConfig(o), newHealth(o), cli.Version("rollcall", version))
	return root
}
