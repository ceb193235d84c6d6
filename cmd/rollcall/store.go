package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/rollcall-dev/rollcall/internal/cli"
	"github.com/rollcall-dev/rollcall/internal/config"
	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/streams"
)

func newStore(o *options) *cobra.Command {
	return cli.Group("store", "Look after a store's schema", newStorePlan(o), newStoreApply(o), newStoreGrant(o), newStoreSchema(o))
}

// oneStore is the check of a command about one store.
var oneStore = cli.Exactly(1, "the NAME of a store, as under stores: in rollcall.yaml (without a file: "+config.DefaultStore+")")

// withStore runs a command's work on a store.
func (o *options) withStore(ctx context.Context, name string, work func(context.Context, *store.Store) error) error {
	cfg, err := o.load()
	if err != nil {
		return err
	}
	s, err := openStore(cfg, name)
	if err != nil {
		return err
	}
	defer s.Close()
	return work(ctx, s)
}

// openStore opens a store for a command.
func openStore(cfg *config.Config, name string) (*store.Store, error) {
	if err := cfg.RequireStore(name); err != nil {
		return nil, err
	}
	c, _ := cfg.Store(name)
	return newStoreOf(cfg, c)
}

// newStoreOf makes a store for a command, of which the database may be unknown.
func newStoreOf(cfg *config.Config, c config.Store) (*store.Store, error) {
	o := storeOptions(cfg, c)
	o.Log, o.Metrics = zap.NewNop(), store.NewMetrics(prometheus.NewRegistry())
	s, err := store.New(o)
	if err != nil {
		return nil, cli.Usage(err)
	}
	return s, nil
}

// storeOptions are what the configuration says of a store; Log and Metrics are
// the caller's.
func storeOptions(cfg *config.Config, c config.Store) store.Options {
	o := store.Options{
		Name: c.Name, DatabaseURL: c.DatabaseURL, MigrateDatabaseURL: c.MigrateDatabaseURL, Migrate: c.Migrate, Schema: c.Schema,
		Resources: c.Resources, Include: c.Include, Exclude: c.Exclude, OnDelete: c.OnDelete, Tenancy: c.Tenancy, Notify: c.Notify,
		Names: streams.Names{Prefix: cfg.NATS.Prefix},
	}
	for _, i := range cfg.Instances {
		if i.Name == c.Instance {
			o.InstanceID = i.ID
		}
	}
	return o
}

// printPlan prints a plan as JSON, or as SQL for psql.
func printPlan(w io.Writer, s *store.Store, p store.Plan, asJSON bool) error {
	if asJSON {
		if p == nil {
			p = store.Plan{}
		}
		return json.NewEncoder(w).Encode(p)
	}
	text := s.Script(p)
	if len(p) == 0 {
		text = "the schema is as the configuration has it\n"
	}
	_, err := fmt.Fprint(w, text)
	return err
}
