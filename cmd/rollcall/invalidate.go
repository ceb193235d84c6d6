package main

import (
	"context"
	"fmt"
	"sync"

	"github.com/redis/go-redis/v9/logging"
	"go.uber.org/zap"

	"github.com/rollcall-dev/rollcall/internal/broker"
	"github.com/rollcall-dev/rollcall/internal/cli"
	"github.com/rollcall-dev/rollcall/internal/config"
	"github.com/rollcall-dev/rollcall/internal/consume"
	"github.com/rollcall-dev/rollcall/internal/invalidate"
	"github.com/rollcall-dev/rollcall/streams"
)

// startInvalidate follows the log for each target, on one connection.
func (p *process) startInvalidate(ctx context.Context, all sinks) error {
	conn, err := p.dial("nats/" + streams.SinkInvalidate)
	if err != nil {
		return cli.Usage(err)
	}
	logging.Disable() // what the client of Redis retries it also prints; the sink says it once
	v, targets, err := newInvalidator(p.config, conn, p.log, invalidate.NewMetrics(p.metrics))
	if err != nil {
		conn.Close()
		return err
	}
	var following sync.WaitGroup
	for _, s := range v.Sinks() {
		following.Add(1)
		all.group.Go(func() error {
			defer following.Done()
			return p.follow(ctx, all, s, conn)
		})
	}
	all.group.Go(func() error {
		defer conn.Close()
		following.Wait()
		for _, t := range targets {
			if err := t.Close(); err != nil {
				return fmt.Errorf("close %s: %w", t.Name(), err)
			}
		}
		return nil
	})
	return nil
}

func newInvalidator(c *config.Config, conn *broker.Conn, log *zap.Logger, metrics *invalidate.Metrics) (*invalidate.Invalidator, []invalidate.Target, error) {
	names := streams.Names{Prefix: c.NATS.Prefix}
	targets, err := targetsOf(c.Invalidate, conn, names)
	if err != nil {
		return nil, nil, cli.Usage(err)
	}
	v, err := invalidate.New(invalidate.Options{
		Broker: conn, Names: names, Keys: c.Invalidate.Keys, After: prerequisites(c.Invalidate.After),
		Targets: targets, Log: log, Metrics: metrics,
	})
	if err != nil {
		return nil, nil, cli.Usage(err)
	}
	return v, targets, nil
}

// targetsOf are those that the configuration names.
func targetsOf(c config.Invalidate, conn *broker.Conn, names streams.Names) (targets []invalidate.Target, err error) {
	if c.NATS {
		targets = append(targets, invalidate.NewPublisher(conn, names))
	}
	if c.Redis.URL != "" {
		t, err := invalidate.NewRedis(c.Redis.URL, c.Redis.Channel, c.Redis.TLSCA)
		if err != nil {
			return nil, err
		}
		targets = append(targets, t)
	}
	for i, h := range c.HTTP {
		t, err := invalidate.NewPurge(h.URL, h.Secret)
		if err != nil {
			return nil, fmt.Errorf("invalidate.http[%d]: %w", i, err)
		}
		targets = append(targets, t)
	}
	return targets, nil
}

func prerequisites(stores []string) (list []invalidate.Prerequisite) {
	for _, name := range stores {
		list = append(list, invalidate.Prerequisite{Name: "store " + name, Key: consume.PositionKey(streams.SinkStore(name))})
	}
	return list
}
