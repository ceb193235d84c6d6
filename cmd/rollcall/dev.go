package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/rollcall-dev/rollcall/internal/broker"
	"github.com/rollcall-dev/rollcall/internal/cli"
	"github.com/rollcall-dev/rollcall/internal/config"
	"github.com/rollcall-dev/rollcall/internal/ingest"
	"github.com/rollcall-dev/rollcall/internal/reconcile"
	"github.com/rollcall-dev/rollcall/internal/stack"
	"github.com/rollcall-dev/rollcall/internal/telemetry"
)

const (
	devIngestAddr  = "127.0.0.1:8080"
	devGatewayAddr = "127.0.0.1:8082"
)

func newDev(o *options) *cobra.Command {
	var emulate, pull bool
	c := &cobra.Command{
		Use: "dev", Short: "Run everything on this machine, for development", Args: cli.NoArgs,
		Long: `Run all roles in one process, with an embedded NATS JetStream and a private
Postgres (DATABASE_URL and NATS_URL are used instead where set). What it listens
on is printed, and written to DIR/dev.env. State stays in DIR (--data).

With --emulate a Clerk for tests stands beside it (see clerkemu --help), already
wired: users sign up, join organizations and leave, about once a second.

With --pull no webhook has to reach this machine: every few seconds it asks the
Backend API of CLERK_SECRET_KEY's instance what has changed.`,
		Example: `  rollcall dev
  rollcall dev --emulate
  CLERK_SECRET_KEY=sk_test_… rollcall dev --pull
  rollcall dev --data /tmp/try
  DATABASE_URL=postgres://localhost/mine rollcall dev`,
		RunE: func(c *cobra.Command, _ []string) error {
			log, err := telemetry.NewLogger(true, o.logLevel)
			if err != nil {
				return cli.Usage(err)
			}
			defer func() { _ = log.Sync() }() // standard error can't always be synced
			endAfter(c.Context(), stopWithin, func() {
				log.Error("draining took too long")
				os.Exit(exitFailed)
			})
			d := &devStack{o: o, log: log, out: c.OutOrStdout(), emulate: emulate, pull: pull}
			return d.run(c.Context())
		},
	}
	c.Flags().BoolVar(&pull, "pull", false, "ask Clerk's Backend API what has changed, instead of waiting for webhooks")
	c.Flags().BoolVar(&emulate, "emulate", false, "start a Clerk for tests beside it, wired and with a little traffic")
	return c
}

// devStack is what `rollcall dev` starts, in this order; it ends in the other.
type devStack struct {
	o       *options
	log     *zap.Logger
	out     io.Writer
	emulate bool
	pull    bool

	dir      string
	nats     *stack.NATS
	postgres *stack.Postgres
	secret   string
	seed     string    // of identity tokens
	clerk    *emulated // nil without --emulate
	config   *config.Config
}

func (d *devStack) run(ctx context.Context) (err error) {
	// Mistakes in the configuration come before anything is started.
	if d.emulate {
		if err := refuseClerk(); err != nil {
			return err
		}
	}
	checked, err := d.load("postgres://127.0.0.1/checked", "nats://127.0.0.1")
	if err != nil {
		return err
	}
	if d.pull && !d.emulate {
		if _, err := checked.RequireBackend(""); err != nil {
			return err
		}
	}
	lock, err := stack.Lock(d.o.dataDir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	d.dir = lock.Dir()
	// One that a killed stack left speaks of ports that may be anybody's now.
	if err := removeIfThere(filepath.Join(d.dir, devEnvFile)); err != nil {
		return err
	}
	if d.secret, err = keptSecret(filepath.Join(d.dir, "webhook.secret"), newWebhookSecret); err != nil {
		return err
	}
	if d.seed, err = keptSecret(filepath.Join(d.dir, "identity.seed"), newSeed); err != nil {
		return err
	}
	natsURL, err := d.startNATS()
	if err != nil {
		return err
	}
	if d.nats != nil {
		defer d.nats.Shutdown()
	}
	databaseURL, err := d.startPostgres(ctx)
	if err != nil {
		return err
	}
	if d.postgres != nil {
		defer func() {
			stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWithin/2)
			defer cancel()
			err = errors.Join(err, d.postgres.Stop(stop))
		}()
	}
	if d.config, err = d.load(databaseURL, natsURL); err != nil {
		return err
	}
	return d.serve(ctx, databaseURL, natsURL)
}

// load reads the configuration with the stack's own addresses beneath it.
func (d *devStack) load(databaseURL, natsURL string) (*config.Config, error) {
	beneath := map[string]string{"DATABASE_URL": databaseURL, "NATS_URL": natsURL}
	if d.secret != "" {
		beneath["CLERK_WEBHOOK_SIGNING_SECRET"] = d.secret
	}
	if d.seed != "" {
		beneath["ROLLCALL_IDENTITY_SEED"] = d.seed
	}
	if d.clerk != nil {
		for _, s := range d.clerk.env {
			beneath[s.key] = s.value
		}
		beneath["ROLLCALL_INSTANCE_ISSUER"] = beneath["CLERK_ISSUER"]
	}
	c, err := config.Load(d.o.configFile, over(beneath))
	if err != nil || c.File() != "" || c.Audit.DatabaseURL != "" {
		return c, err
	}
	beneath["ROLLCALL_AUDIT_DATABASE_URL"] = databaseURL
	return config.Load(d.o.configFile, over(beneath))
}

func (d *devStack) startNATS() (url string, err error) {
	if url, ok := os.LookupEnv("NATS_URL"); ok && url != "" {
		nc, err := nats.Connect(url, nats.Timeout(askNATS/2))
		if err != nil {
			return "", fmt.Errorf("NATS_URL can't be reached: %w; start that server, or unset NATS_URL for an embedded one", err)
		}
		nc.Close()
		return url, nil
	}
	d.nats, err = stack.StartNATS(stack.NATSOptions{Dir: d.dir, Log: d.log})
	if err != nil {
		return "", err
	}
	return d.nats.URL(), nil
}

func (d *devStack) startPostgres(ctx context.Context) (url string, err error) {
	if url, ok := os.LookupEnv("DATABASE_URL"); ok && url != "" {
		return url, nil
	}
	d.postgres, err = stack.StartPostgres(ctx, stack.PostgresOptions{Dir: d.dir, Progress: os.Stderr, Log: d.log})
	if err != nil {
		return "", err
	}
	return d.postgres.URL(), nil
}

// serve runs the roles, and says so once all of it works.
func (d *devStack) serve(ctx context.Context, databaseURL, natsURL string) error {
	// What the gateway lacks of Clerk it says when it is asked.
	isGateway := func(role string) bool { return role == roleGateway }
	r, err := parseRoles(d.config, slices.DeleteFunc(configuredRoles(d.config), isGateway))
	if err != nil {
		return err
	}
	r.invalidate, r.revoke, r.gateway = d.config.RequireInvalidate() == nil, true, true
	ln, err := d.listen("ingest.addr", d.config.Ingest.Addr, devIngestAddr)
	if err != nil {
		return err
	}
	gatewayLn, err := d.listen("gateway.addr", d.config.Gateway.Addr, devGatewayAddr)
	if err != nil {
		return errors.Join(err, ln.Close())
	}
	base := "http://" + ln.Addr().String()
	if d.emulate {
		if d.clerk, err = d.newEmulated(d.webhook(base)); err != nil {
			return errors.Join(err, ln.Close(), gatewayLn.Close())
		}
		if d.config, err = d.load(databaseURL, natsURL); err != nil {
			return errors.Join(err, ln.Close(), gatewayLn.Close())
		}
	}
	p := newProcess(d.config, r, d.log)
	p.listener, p.gatewayListener = ln, gatewayLn
	if d.pull {
		p.beside = func(ctx context.Context, conn *broker.Conn) error { return d.pulls(ctx, p, conn) }
	}
	if d.nats != nil {
		p.embedded = d.nats.Healthy
		if p.maxBytes == 0 {
			p.maxBytes = d.nats.Limit() / 2 // room for dead letters and state
		}
	}
	// The emulated Clerk stops first: what it has to deliver, somebody takes.
	stopped := ctx
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	g, ctx := errgroup.WithContext(ctx)
	ready := make(chan struct{})
	g.Go(func() error { return p.run(ctx) })
	g.Go(func() error { return d.watchPostgres(ctx) })
	g.Go(func() error {
		defer stop()
		return d.clerk.run(stopped, ctx, ready)
	})
	g.Go(func() error {
		if err := d.waitReady(ctx, base); err != nil {
			return nil // stopped before it was ready
		}
		close(ready)
		return d.announce(base, "http://"+gatewayLn.Addr().String(), databaseURL, natsURL)
	})
	err = g.Wait()
	return errors.Join(err, removeIfThere(filepath.Join(d.dir, devEnvFile)))
}

// pullEvery is how often Clerk is asked: within a third of what a development
// instance allows.
const pullEvery = 3 * time.Second

// pulls mends the stores with what Clerk has changed, until the context ends.
func (d *devStack) pulls(ctx context.Context, p *process, conn *broker.Conn) error {
	r := &reconcileOptions{options: d.o, budget: "50%", repair: true}
	o, done, err := r.passOptions(d.config, func(error) {})
	if err != nil {
		return err
	}
	defer done()
	o.Pulling = true
	return p.reconciles(ctx, conn, o, map[string]time.Duration{reconcile.Recent: pullEvery})
}

// listen takes the default port, or a free one where it is taken; a port that
// was asked for is not given up.
func (d *devStack) listen(setting, addr, otherwise string) (net.Listener, error) {
	if asked := d.config.Origin(setting); asked != "" {
		ln, err := listen(addr, setting, asked)
		if err != nil {
			return nil, cli.Usage(err)
		}
		return ln, nil
	}
	ln, err := net.Listen("tcp", otherwise)
	if err != nil {
		ln, err = net.Listen("tcp", "127.0.0.1:0")
	}
	return ln, err
}

func (d *devStack) watchPostgres(ctx context.Context) error {
	if d.postgres == nil {
		return nil
	}
	select {
	case <-ctx.Done():
		return nil
	case <-d.postgres.Done():
	}
	if err := d.postgres.Err(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("the private Postgres ended by itself: %w; see %s", err, filepath.Join(d.dir, "postgres.log"))
	}
	return nil
}

// waitReady returns when every part of the process works. What waits for
// somebody's consent works meanwhile.
func (d *devStack) waitReady(ctx context.Context, base string) error {
	works := func(body []byte) bool {
		var answer struct {
			Taking bool `json:"taking"`
			Parts  map[string]struct {
				Status string `json:"status"`
			} `json:"parts"`
		}
		if json.Unmarshal(body, &answer) != nil || !answer.Taking {
			return false
		}
		for name, part := range answer.Parts {
			if part.Status != "ok" && !isReport(name) {
				return false
			}
		}
		return true
	}
	for {
		if _, body, err := readyz(ctx, base); err == nil && works(body) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// webhook is where the first instance's webhooks go, and what signs them.
func (d *devStack) webhook(base string) (url, secret string) {
	first := d.config.Instances[0] // there is always one
	url = base + ingest.Path
	if len(d.config.Instances) > 1 {
		url += "/" + first.Name
	}
	if len(first.WebhookSecrets) > 0 {
		secret = first.WebhookSecrets[0]
	}
	return url, secret
}

// announce writes dev.env, and prints what listens where and what to try.
func (d *devStack) announce(base, gateway, databaseURL, natsURL string) error {
	webhook, secret := d.webhook(base)
	settings := []setting{
		{"DATABASE_URL", databaseURL}, {"NATS_URL", natsURL}, {"ROLLCALL_WEBHOOK_URL", webhook}, {"CLERK_WEBHOOK_SIGNING_SECRET", secret},
		{"ROLLCALL_GATEWAY_URL", gateway},
	}
	clerk := ""
	if d.clerk != nil {
		settings = append(settings, d.clerk.env...)
		clerk = fmt.Sprintf("\n  Clerk     %s (emulated; its control API is under /_emu)", d.clerk.server.URL())
	}
	file := filepath.Join(d.dir, devEnvFile)
	err := writeDevEnv(file, settings)
	if err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	shown := file
	if wd, err := os.Getwd(); err == nil {
		if rel, err := filepath.Rel(wd, file); err == nil && !strings.HasPrefix(rel, "..") {
			shown = rel
		}
	}
	data := ""
	if d.o.dataDir != ".rollcall" {
		data = " --data " + d.o.dataDir
	}
	_, err = fmt.Fprintf(d.out, `
rollcall dev is ready; everything is in %s

  webhooks  %s
  health    %s/readyz, %[3]s/metrics
  gateway   %[11]s/auth/verify
  NATS      %[4]s
  Postgres  %[5]s%[10]s

Try, in a second terminal:

  %[9]s send user.created%[6]s
  psql "$(grep ^DATABASE_URL= %[7]s | cut -d= -f2-)" -c '%[8]s'
  curl -s %[3]s/readyz

Ctrl-C stops it.
`, d.dir, webhook, base, natsURL, withoutPassword(databaseURL), data, shown, d.query(databaseURL), os.Args[0], clerk, gateway)
	return err
}

// query shows rows of a store in that database.
func (d *devStack) query(databaseURL string) string {
	for _, s := range d.config.Stores {
		if s.DatabaseURL != databaseURL {
			continue
		}
		kept := s.Selection().Resources()
		if users := kept[0]; users.Table == "users" && users.Column("name") >= 0 && users.Column("email") >= 0 {
			return "select id, name, email from " + s.Schema + ".users"
		}
		return "select * from " + s.Schema + "." + kept[0].Table
	}
	return "select version()"
}

func withoutPassword(databaseURL string) string {
	scheme, rest, ok := strings.Cut(databaseURL, "://")
	if !ok {
		return "as DATABASE_URL says"
	}
	if at := strings.LastIndex(rest, "@"); at >= 0 {
		user, _, _ := strings.Cut(rest[:at], ":")
		rest = user + rest[at:]
	}
	return scheme + "://" + rest
}

// keptSecret is a secret of a dev stack that was given none: made once and kept.
func keptSecret(path string, make func() string) (string, error) {
	b, err := os.ReadFile(path)
	if err == nil {
		return strings.TrimSpace(string(b)), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read a kept secret: %w", err)
	}
	secret := make()
	if err := os.WriteFile(path, []byte(secret+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("keep a secret: %w", err)
	}
	return secret, nil
}

func newWebhookSecret() string {
	key := make([]byte, 24)
	_, _ = rand.Read(key) // never fails
	return "whsec_" + base64.StdEncoding.EncodeToString(key)
}

func newSeed() string { return rand.Text() + rand.Text() }

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
