// Command clerkemu is a Clerk to test against, offline, that can misbehave on
// demand. One file a command; this one is the entry and the exit codes.
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/rollcall-dev/rollcall/internal/cli"
)

// version is set by the linker.
var version = "devel"

// Exit codes.
const (
	exitFailed    = 1
	exitUsage     = 2 // wrong usage
	exitDifferent = 3 // a store isn't as Clerk is
)

// errDifferent is what verify has found.
var errDifferent = errors.New("the store isn't as Clerk is")

func main() { os.Exit(Main()) }

// Main runs the command line and returns the exit code.
func Main() int {
	ctx, cancel := cli.Signals(exitFailed)
	defer cancel()
	err := newRoot().ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, "clerkemu:", err)
	switch {
	case cli.IsUsage(err):
		return exitUsage
	case errors.Is(err, errDifferent):
		return exitDifferent
	}
	return exitFailed
}

func newRoot() *cobra.Command {
	root := cli.Root(&cobra.Command{
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
	})
	root.AddCommand(newServe(), newVerify(), newUser(), newOrganization(), newMembership(), newToken(), newKeys(), newChaos(), newTraffic(),
		newDeliveries(), newReplay(), newSettled(), newEndpoint(), newState(), newReset(), newInstance(), cli.Version("clerkemu", version))
	return root
}
