package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/rollcall-dev/rollcall/internal/broker"
	"github.com/rollcall-dev/rollcall/internal/cli"
	"github.com/rollcall-dev/rollcall/internal/config"
	"github.com/rollcall-dev/rollcall/streams"
)

// askNATS is how long a command waits for the broker.
const askNATS = 5 * time.Second

func newStreams(o *options) *cobra.Command {
	var asJSON bool
	work := func(apply bool) func(*cobra.Command, []string) error {
		return func(c *cobra.Command, _ []string) error {
			return o.withJetStream(c.Context(), func(ctx context.Context, cfg *config.Config, js jetstream.JetStream) error {
				names := streams.Names{Prefix: cfg.NATS.Prefix}
				d := names.Definitions(streams.Options{Replicas: cfg.NATS.Replicas, MaxBytes: cfg.NATS.MaxBytes, Window: cfg.NATS.DedupeWindow})
				do := streams.Plan
				if apply && cfg.NATS.Create {
					do = streams.Apply
				}
				found, err := do(ctx, js, d)
				if err != nil {
					return err
				}
				return printDifferences(c.OutOrStdout(), found, asJSON, apply && !cfg.NATS.Create)
			})
		}
	}
	plan := &cobra.Command{
		Use: "plan", Short: "Show in what JetStream differs from what Rollcall needs; change nothing", Args: cli.NoArgs, RunE: work(false),
		Example: "  rollcall streams plan\n  NATS_URL=nats://admin:…@nats:4222 rollcall streams plan --json",
	}
	apply := &cobra.Command{
		Use: "apply", Short: "Make and change streams and buckets; never shrink or delete (with nats.create: false only check)", Args: cli.NoArgs, RunE: work(true),
		Example: "  NATS_URL=nats://admin:…@nats:4222 rollcall streams apply",
	}
	for _, c := range []*cobra.Command{plan, apply} {
		c.Flags().BoolVar(&asJSON, "json", false, "print a JSON array")
	}
	return cli.Group("streams", "Look after JetStream's streams and buckets", plan, apply)
}

func printDifferences(w io.Writer, found []streams.Difference, asJSON, checkOnly bool) error {
	refused := 0
	for _, d := range found {
		if d.Action == streams.Refuse || checkOnly && d.Action != streams.Keep {
			refused++
		}
	}
	switch {
	case asJSON:
		if found == nil {
			found = []streams.Difference{}
		}
		if err := json.NewEncoder(w).Encode(found); err != nil {
			return err
		}
	case len(found) == 0:
		fmt.Fprintln(w, "streams and buckets are as they should be")
	default:
		for _, d := range found {
			fmt.Fprintln(w, d)
		}
	}
	if refused > 0 && checkOnly {
		return fmt.Errorf("%d differences, and nats.create is false: have an admin run rollcall streams apply", refused)
	}
	if refused > 0 {
		return fmt.Errorf("%d differences can't be put right in place", refused)
	}
	return nil
}

// withJetStream runs a command's work, which asks little, on a connection of its own.
func (o *options) withJetStream(ctx context.Context, work func(context.Context, *config.Config, jetstream.JetStream) error) error {
	return o.withBroker(ctx, func(ctx context.Context, cfg *config.Config, conn *broker.Conn) error {
		ctx, cancel := context.WithTimeout(ctx, askNATS)
		defer cancel()
		js, err := conn.JetStream()
		if err != nil {
			return err
		}
		return work(ctx, cfg, js)
	})
}

// withBroker runs a command's work, which takes as long as it does, on a
// connection of its own.
func (o *options) withBroker(ctx context.Context, work func(context.Context, *config.Config, *broker.Conn) error) error {
	cfg, err := o.load()
	if err != nil {
		return err
	}
	conn, err := connectNATS(ctx, cfg)
	if err != nil {
		return err
	}
	defer conn.Close()
	return work(ctx, cfg, conn)
}

// connectNATS connects as a command does: now, or not at all.
func connectNATS(ctx context.Context, cfg *config.Config) (*broker.Conn, error) {
	if err := cfg.RequireNATS(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, askNATS)
	defer cancel()
	connected := make(chan struct{}, 1)
	var reason error
	conn, err := broker.Dial(broker.Options{
		Name: "rollcall command", URL: cfg.NATS.URL, Creds: cfg.NATS.Creds, TLSCA: cfg.NATS.TLSCA, Domain: cfg.NATS.Domain, Log: zap.NewNop(),
		State: func(err error) {
			if err == nil {
				select {
				case connected <- struct{}{}:
				default:
				}
			}
		},
	})
	if err != nil {
		return nil, cli.Usage(err)
	}
	select {
	case <-connected:
		return conn, nil
	case <-ctx.Done():
		if nc, err := conn.NATS(); err == nil {
			reason = nc.LastError()
		}
		conn.Close()
		return nil, fmt.Errorf("NATS can't be reached within %s (nats.url, NATS_URL): %v; is it running?", askNATS, reason)
	}
}
