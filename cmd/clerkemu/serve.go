package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/rollcall-dev/rollcall/internal/cli"
	"github.com/rollcall-dev/rollcall/internal/emulator"
	"github.com/rollcall-dev/rollcall/internal/emulator/backendapi"
)

// What 100,000 users need and no more; see package state.
const (
	memoryLimit = 260 << 20
	gcPercent   = 50
)

// drainWithin is how long requests, and then deliveries, may take at a stop.
const drainWithin = 4 * time.Second

// saveEvery bounds what a crash loses of --state.
const saveEvery = 5 * time.Second

type serveOptions struct {
	emulator.Options
	traffic, logLevel string
	rateLimit         int
}

func newServe() *cobra.Command {
	s := &serveOptions{}
	c := &cobra.Command{
		Use: "serve", Short: "Be a Clerk: Backend API, webhooks, tokens, control API", Args: cli.NoArgs,
		Long: `Be a Clerk until SIGTERM. Without flags it has a small population, the same for the
same --seed. What listens where, and the settings of an application that uses it,
are printed, and written to --env-file once it listens.

With --state the state is loaded from FILE if there is one, and saved when it
stops; then --users, --orgs and --memberships are for a FILE that isn't there.`,
		Example: `  clerkemu serve
  clerkemu serve --users 10000 --orgs 500 --memberships 30000 --seed 7
  clerkemu serve --webhook-url http://127.0.0.1:8080/webhooks/clerk --traffic 50/s --retry-scale 0.001
  clerkemu serve --addr 127.0.0.1:0 --env-file clerk.env --state clerk.json`,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := s.resolve(c); err != nil {
				return err
			}
			return s.serve(c.Context(), c.OutOrStdout())
		},
	}
	f := c.Flags()
	f.StringVar(&s.Addr, "addr", "127.0.0.1:8090", "address to listen on; port 0 for any")
	f.Uint64Var(&s.Seed, "seed", 1, "of the population, the traffic and the chaos")
	f.IntVar(&s.Population.Users, "users", 100, "users to make, in each instance")
	f.IntVar(&s.Population.Organizations, "orgs", 0, "organizations to make (default: one for ten users)")
	f.IntVar(&s.Population.Memberships, "memberships", 0, "memberships to make (default: twice the users, where there are organizations)")
	f.StringArrayVar(&s.Instances, "instance", nil, "name of an instance (repeatable; default: one, app)")
	f.StringVar(&s.StateFile, "state", "", "file to load the state from, and to save it to every few seconds and at the end")
	f.StringArrayVar(&s.WebhookURLs, "webhook-url", nil, "webhook endpoint of the first instance (repeatable)")
	f.StringVar(&s.WebhookSecret, "webhook-secret", os.Getenv("CLERK_WEBHOOK_SIGNING_SECRET"), "signing secret of those, whsec_… (default: CLERK_WEBHOOK_SIGNING_SECRET, else one of each one's own)")
	f.Lookup("webhook-secret").DefValue = "" // a help that shows it would tell it
	f.StringVar(&s.traffic, "traffic", "0/s", "believable changes, in events a second")
	f.Float64Var(&s.RetryScale, "retry-scale", 1, "multiplies the times of retries: 0.001 makes 5 minutes 0.3 s")
	f.IntVar(&s.rateLimit, "rate-limit", backendapi.DefaultRateLimit.Requests, "requests of an instance to the Backend API in 10 s, then 429; 0 for no limit")
	f.BoolVar(&s.EmitCascade, "emit-cascade", false, "deleting a user or an organization also sends the deletions of memberships and what else was theirs")
	f.StringVar(&s.EnvFile, "env-file", "", "file to write the environment of an application to, KEY=VALUE a line")
	f.StringVar(&s.logLevel, "log-level", "info", "debug, info, warn or error")
	return c
}

// resolve checks what was given and fills in the rest.
func (s *serveOptions) resolve(c *cobra.Command) error {
	var err error
	if s.Traffic, err = parseRate(s.traffic); err != nil {
		return err
	}
	p := &s.Population
	switch {
	case p.Users < 0 || p.Organizations < 0 || p.Memberships < 0 || s.rateLimit < 0:
		return cli.Usagef("--users, --orgs, --memberships and --rate-limit can't be negative")
	case !(s.RetryScale > 0):
		return cli.Usagef("--retry-scale must be above 0, such as 0.001")
	}
	if !c.Flags().Changed("orgs") {
		p.Organizations = p.Users / 10
	}
	if !c.Flags().Changed("memberships") && p.Organizations > 0 {
		p.Memberships = 2 * p.Users
	}
	s.RateLimit = &backendapi.RateLimit{Requests: s.rateLimit, Window: backendapi.DefaultRateLimit.Window}
	s.DrainTimeout, s.SaveEvery = drainWithin, saveEvery
	s.Log, err = newLogger(s.logLevel)
	return err
}

func (s *serveOptions) serve(ctx context.Context, out io.Writer) error {
	if _, set := os.LookupEnv("GOGC"); !set {
		debug.SetGCPercent(gcPercent)
	}
	if _, set := os.LookupEnv("GOMEMLIMIT"); !set {
		debug.SetMemoryLimit(memoryLimit)
	}
	server, err := emulator.New(s.Options)
	if err != nil {
		return cli.Usage(err)
	}
	if err := s.announce(out, server); err != nil {
		return err
	}
	return server.Run(ctx)
}

// announce prints what listens where, and the environment of who uses it.
func (s *serveOptions) announce(out io.Writer, server *emulator.Server) error {
	vars, err := server.Environment()
	if err != nil {
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\nclerkemu serves\n\n")
	for _, i := range server.Instances() {
		fmt.Fprintf(&b, "  instance     %s (%s): %d users, %d organizations, %d memberships\n", i.Name, i.ID, i.Users, i.Organizations, i.Memberships)
	}
	fmt.Fprintf(&b, "  Backend API  %[1]s/v1\n  key set      %[1]s/.well-known/jwks.json\n  control API  %[1]s/_emu\n", server.URL())
	for _, url := range s.WebhookURLs {
		fmt.Fprintf(&b, "  webhooks     to %s\n", url)
	}
	if len(s.WebhookURLs) == 0 {
		fmt.Fprintf(&b, "  webhooks     to nobody yet: clerkemu endpoint add URL\n")
	}
	fmt.Fprintf(&b, "\nFor an application, Clerk's SDKs and rollcall dev:\n\n")
	for _, v := range vars {
		fmt.Fprintf(&b, "  %s=%s\n", v.Name, v.Value)
	}
	if s.EnvFile != "" {
		fmt.Fprintf(&b, "\nThe same is in %s.\n", s.EnvFile)
	}
	fmt.Fprintf(&b, "\nCtrl-C stops it.\n")
	_, err = io.WriteString(out, b.String())
	return err
}

// newLogger logs for people, to standard error.
func newLogger(level string) (*zap.Logger, error) {
	least, err := zapcore.ParseLevel(level)
	if err != nil {
		return nil, cli.Usagef("--log-level %q is unknown; use debug, info, warn or error", level)
	}
	encoder := zapcore.NewConsoleEncoder(zapcore.EncoderConfig{
		TimeKey: "time", LevelKey: "level", MessageKey: "message", LineEnding: zapcore.DefaultLineEnding,
		EncodeTime: zapcore.TimeEncoderOfLayout(time.TimeOnly), EncodeLevel: zapcore.CapitalLevelEncoder,
		EncodeDuration: zapcore.StringDurationEncoder, ConsoleSeparator: "  ",
	})
	return zap.New(zapcore.NewCore(encoder, zapcore.Lock(os.Stderr), least)), nil
}
