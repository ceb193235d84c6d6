// Command bench prints what Rollcall reaches, as ratios against what runs
// beside it in the same run: a handler that does nothing, a handler that
// upserts inside the request, and an upsert written by hand. Figures of one
// machine say little, and other processes share it; so what is compared runs
// in turns, several rounds of it, and medians of the rounds' ratios are shown.
//
// It starts a JetStream that syncs always and, unless DATABASE_URL is set, a
// private Postgres. In that database it uses the schema rollcall_bench.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"syscall"

	"github.com/rollcall-dev/rollcall/internal/stack"
)

type options struct {
	quick, json            bool
	peers, only, client    string
	cpuProfile, memProfile string
	ingestOnly             string // a NATS URL: this process is the one whose memory is measured
}

func main() {
	var o options
	flag.BoolVar(&o.quick, "quick", false, "smaller sizes and fewer rounds: under a minute")
	flag.BoolVar(&o.json, "json", false, "print JSON, one row a line")
	flag.StringVar(&o.peers, "peers", "", "directory of the peers' programs to run beside (null, direct, watermill)")
	flag.StringVar(&o.only, "only", "", "run the measurements whose name contains this")
	flag.StringVar(&o.client, "client", clientHTTP, "load generator: http (net/http's client, as the peers use it) or raw (bytes over a socket: costs less, so every server shows more)")
	flag.StringVar(&o.cpuProfile, "cpuprofile", "", "write a CPU profile to this file")
	flag.StringVar(&o.memProfile, "memprofile", "", "write an allocation profile to this file")
	flag.StringVar(&o.ingestOnly, "ingest-only", "", "")
	flag.Parse()
	if flag.NArg() > 0 || o.client != clientHTTP && o.client != clientRaw {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) (err error) {
	finish, err := profile(o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, finish()) }()
	if o.ingestOnly != "" {
		return ingestOnly(ctx, o.ingestOnly)
	}
	dir, err := os.MkdirTemp("", "rollcall-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	pg, err := stack.StartPostgres(ctx, stack.PostgresOptions{Dir: dir, DatabaseURL: os.Getenv("DATABASE_URL"), Progress: os.Stderr})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pg.Stop(context.WithoutCancel(ctx))) }()

	debug.SetGCPercent(150) // as rollcall run does for stores; what runs beside has it too
	b := &bench{options: o, databaseURL: pg.URL(), sizes: full}
	if o.quick {
		b.sizes = quick
	}
	if o.peers != "" {
		if b.peers, err = buildPeers(ctx, o.peers, dir); err != nil {
			return err
		}
	}
	if err := b.measure(ctx); err != nil {
		return err
	}
	if o.json {
		return printJSON(b.rows)
	}
	printTable(os.Stdout, b.rows)
	return nil
}

func printJSON(rows []row) error {
	out := json.NewEncoder(os.Stdout)
	for _, r := range rows {
		if err := out.Encode(r); err != nil {
			return err
		}
	}
	return nil
}

// profile starts what was asked for; finish writes it.
func profile(o options) (finish func() error, err error) {
	var cpu *os.File
	if o.cpuProfile != "" {
		if cpu, err = os.Create(o.cpuProfile); err != nil {
			return nil, err
		}
		if err := pprof.StartCPUProfile(cpu); err != nil {
			return nil, err
		}
	}
	return func() error {
		var err error
		if cpu != nil {
			pprof.StopCPUProfile()
			err = cpu.Close()
		}
		if o.memProfile == "" {
			return err
		}
		f, createErr := os.Create(o.memProfile)
		if createErr != nil {
			return errors.Join(err, createErr)
		}
		runtime.GC() // so that what is live is known too
		return errors.Join(err, pprof.Lookup("allocs").WriteTo(f, 0), f.Close())
	}, nil
}
