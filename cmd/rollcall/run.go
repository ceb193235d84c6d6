package main

import (
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/rollcall-dev/rollcall/internal/cli"
	"github.com/rollcall-dev/rollcall/internal/telemetry"
)

// stopWithin is how long a stop may take.
const stopWithin = 10 * time.Second

func newRun(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "run [ROLE...]",
		Short: "Run in production: one role, several, or all that are configured",
		Long: `Run roles until SIGTERM, then drain: stop accepting, answer what is in flight,
commit, and exit 0 within 10 seconds.

Roles:
  ingest        take Clerk's webhooks and put them into the log
  store         keep all configured stores
  store/NAME    keep one
  audit         keep the audit log
  invalidate    tell caches which keys went stale: Redis, NATS, HTTP
  revoke        keep the list of whose tokens are refused: the banned, the removed,
                those whose role has changed; gateways need it
  gateway       let requests through that a session token entitles, and tell the
                services behind it who they are from (gateway in rollcall.yaml)

NATS and the databases may come and go: a role that can't reach them is degraded,
says so in /readyz, and goes on when they are back.`,
		Example: `  CLERK_WEBHOOK_SIGNING_SECRET=whsec_… NATS_URL=nats://nats:4222 rollcall run ingest
  DATABASE_URL=postgres://… NATS_URL=nats://nats:4222 rollcall run store
  rollcall run store/orders --config /etc/rollcall/rollcall.yaml`,
		RunE: func(c *cobra.Command, args []string) error {
			cfg, err := o.loadOwn()
			if err != nil {
				return err
			}
			r, err := parseRoles(cfg, args)
			if err != nil {
				return err
			}
			log, err := telemetry.NewLogger(false, o.logLevel)
			if err != nil {
				return cli.Usage(err)
			}
			defer func() { _ = log.Sync() }() // standard error can't always be synced
			p := newProcess(cfg, r, log)
			if r.ingest {
				if p.listener, err = listen(cfg.Ingest.Addr, "ingest.addr", "ingest.addr"); err != nil {
					return cli.Usage(err)
				}
			}
			if r.gateway {
				if p.gatewayListener, err = listen(cfg.Gateway.Addr, "gateway.addr", "gateway.addr"); err != nil {
					return cli.Usage(err)
				}
			}
			endAfter(c.Context(), stopWithin, func() {
				log.Error("draining took too long")
				os.Exit(exitFailed)
			})
			return p.run(c.Context())
		},
	}
}
