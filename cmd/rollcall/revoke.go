package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/rollcall-dev/rollcall/internal/broker"
	"github.com/rollcall-dev/rollcall/internal/cli"
	"github.com/rollcall-dev/rollcall/internal/config"
	"github.com/rollcall-dev/rollcall/internal/revocation"
	"github.com/rollcall-dev/rollcall/internal/revoke"
	"github.com/rollcall-dev/rollcall/streams"
)

// startRevoke keeps the list of whose tokens are refused.
func (p *process) startRevoke(ctx context.Context, all sinks) error {
	conn, err := p.dial("nats/" + streams.SinkRevoke)
	if err != nil {
		return cli.Usage(err)
	}
	all.group.Go(func() error {
		defer conn.Close()
		return p.follow(ctx, all, newRevokeSink(p.config, conn), conn)
	})
	return nil
}

func newRevokeSink(c *config.Config, conn *broker.Conn) *revoke.Sink {
	return revoke.New(revoke.Options{
		Broker: conn, Names: streams.Names{Prefix: c.NATS.Prefix}, Life: c.Gateway.MaxTokenLife, OnLock: c.Revoke.OnLock,
	})
}

// startRevocations keeps the gateway's list.
func (p *process) startRevocations(ctx context.Context, g *errgroup.Group) (*revocation.List, error) {
	conn, err := p.dial("nats/" + roleGateway)
	if err != nil {
		return nil, cli.Usage(err)
	}
	list := revocation.NewList(revocation.ListOptions{
		Broker: conn, Names: p.names, Life: p.config.Gateway.MaxTokenLife, Log: p.log, Status: p.health.Part("gateway/revocations"),
	})
	p.metrics.MustRegister(list)
	g.Go(func() error {
		defer conn.Close()
		return list.Run(ctx)
	})
	return list, nil
}

func newRevoke(o *options) *cobra.Command {
	var r revoking
	c := &cobra.Command{
		Use: "revoke user|session|organization ID", Short: "Refuse somebody's session tokens at every gateway, for a while",
		Long: `Refuse all session tokens of a user, of a session, or with an organization active,
at every gateway and at once, until the time is over or it is lifted. Nothing
changes in Clerk: to ban a user for good, ban them there. The log, and so the
audit log, has a note of it. Run again, it sets another time.`,
		Example: `  rollcall revoke user user_2g7np7Hrk0SN6kj5EDMLDaKNL0S --for 1h --reason "stolen laptop"
  rollcall revoke user user_2g7np7Hrk0SN6kj5EDMLDaKNL0S --lift
  rollcall revoke --list`,
		RunE: func(c *cobra.Command, args []string) error { return r.run(c, o, args) },
	}
	c.Flags().DurationVar(&r.length, "for", 0, "how long, such as 30m or 12h")
	c.Flags().StringVar(&r.reason, "reason", "", "why, for the log; the refused aren't told")
	c.Flags().BoolVar(&r.lift, "lift", false, "end it")
	c.Flags().BoolVar(&r.list, "list", false, "list what is revoked by hand")
	c.Flags().BoolVar(&r.asJSON, "json", false, "print JSON")
	return c
}

// revoking is what was asked for.
type revoking struct {
	length             time.Duration
	reason             string
	lift, list, asJSON bool
}

func (r *revoking) run(c *cobra.Command, o *options, args []string) error {
	if r.list {
		if len(args) > 0 || r.lift || r.length != 0 {
			return cli.Usagef("--list goes alone; see %s --help", c.CommandPath())
		}
		return o.withDenier(c.Context(), func(ctx context.Context, d *revocation.Denier) error {
			list, err := d.List(ctx, true)
			if err != nil {
				return err
			}
			return printRevoked(c.OutOrStdout(), list, r.asJSON)
		})
	}
	if len(args) != 2 {
		return cli.Usagef("%s needs what and whose: user, session or organization, and an ID; see --help", c.CommandPath())
	}
	kind, err := revocation.KindOf(args[0])
	if err != nil {
		return cli.Usage(err)
	}
	if r.lift == (r.length > 0) || r.length < 0 || args[1] == "" || len(streams.Token(args[1])) > streams.MaxToken {
		return cli.Usagef("give an ID and either --for with a time, such as 1h, or --lift")
	}
	return o.withDenier(c.Context(), func(ctx context.Context, d *revocation.Denier) error {
		if r.lift {
			lifted, err := d.Lift(ctx, kind, args[1], r.reason)
			if err != nil {
				return err
			}
			return r.say(c.OutOrStdout(), args, map[string]any{"lifted": lifted}, map[bool]string{true: "lifted", false: "wasn't revoked by hand"}[lifted])
		}
		until := time.Now().Add(r.length).Truncate(time.Millisecond)
		if err := d.Deny(ctx, kind, args[1], until, r.reason); err != nil {
			return err
		}
		return r.say(c.OutOrStdout(), args, map[string]any{"deny_until": until.UnixMilli()}, "revoked until "+until.Local().Format(time.DateTime))
	})
}

func (r *revoking) say(w io.Writer, args []string, fields map[string]any, text string) error {
	if r.asJSON {
		fields["kind"], fields["id"] = args[0], args[1]
		return json.NewEncoder(w).Encode(fields)
	}
	_, err := fmt.Fprintln(w, args[0], args[1], text)
	return err
}

// withDenier runs a command's work.
func (o *options) withDenier(ctx context.Context, work func(context.Context, *revocation.Denier) error) error {
	return o.withBroker(ctx, func(ctx context.Context, cfg *config.Config, conn *broker.Conn) error {
		d := &revocation.Denier{Broker: conn, Names: streams.Names{Prefix: cfg.NATS.Prefix}, Life: cfg.Gateway.MaxTokenLife, By: operator()}
		if len(cfg.Instances) == 1 {
			d.InstanceID = cfg.Instances[0].ID
		}
		ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		return work(ctx, d)
	})
}

func printRevoked(w io.Writer, list []revocation.Listed, asJSON bool) error {
	if asJSON {
		if list == nil {
			list = []revocation.Listed{}
		}
		return json.NewEncoder(w).Encode(list)
	}
	if len(list) == 0 {
		_, err := fmt.Fprintln(w, "nobody is revoked by hand")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "KIND\tID\tUNTIL\tBY\tREASON")
	for _, e := range list {
		kind, ids, err := revocation.ParseKey(e.Key)
		if err != nil {
			return err
		}
		name := string(kind)
		if kind == revocation.Organization {
			name = "organization"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", name, ids[0], time.UnixMilli(e.DenyUntil).Local().Format(time.DateTime), e.DeniedBy, e.DenyReason)
	}
	return t.Flush()
}
