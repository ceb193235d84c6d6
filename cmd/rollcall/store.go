package main

import (
	"github.com/rollcall-dev/rollcall/internal/config"
	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/streams"
)

// storeOptions are what the configuration says of a store; Log and Metrics are
// the caller's.
func storeOptions(cfg *config.Config, c config.Store) store.Options {
	o := store.Options{
		Name: c.Name, DatabaseURL: c.DatabaseURL, MigrateDatabaseURL: c.MigrateDatabaseURL, Migrate: c.Migrate, Schema: c.Schema,
		Resources: c.Resources, Include: c.Include, Exclude: c.Exclude, OnDelete: c.OnDelete, Tenancy: c.Tenancy,
		Names: streams.Names{Prefix: cfg.NATS.Prefix},
	}
	for _, i := range cfg.Instances {
		if i.Name == c.Instance {
			o.InstanceID = i.ID
		}
	}
	return o
}
