package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rollcall-dev/rollcall/internal/cli"
	"github.com/rollcall-dev/rollcall/internal/emulator"
)

const (
	devEmulatorAddr = "127.0.0.1:8090"
	// What a newcomer finds at once, and what goes on happening.
	emulatedChanges = 500
	emulatedTraffic = 1 // events a second
	emulatedSave    = 2 * time.Second
)

// emulated is the Clerk that `rollcall dev --emulate` starts beside the rest.
// All that it knows came as webhooks, so that the stores know it too.
type emulated struct {
	server *emulator.Server
	first  bool // nothing has happened in it yet
	env    []setting
}

// clerkSettings point at a Clerk; the emulator's and another one's don't mix.
var clerkSettings = []string{"CLERK_API_URL", "CLERK_SECRET_KEY", "CLERK_PUBLISHABLE_KEY", "CLERK_JWT_KEY"}

func refuseClerk() error {
	for _, name := range clerkSettings {
		for _, name := range []string{name, name + "_FILE"} {
			if os.Getenv(name) != "" {
				return cli.Usagef("--emulate starts a Clerk of its own, and %s names another: unset one of the two", name)
			}
		}
	}
	return nil
}

func (d *devStack) newEmulated(webhook, secret string) (*emulated, error) {
	file := filepath.Join(d.dir, "clerkemu.json")
	_, err := os.Stat(file)
	e := &emulated{first: os.IsNotExist(err)}
	addr := devEmulatorAddr
	if ln, err := net.Listen("tcp", addr); err != nil {
		addr = "127.0.0.1:0"
	} else if err := ln.Close(); err != nil {
		return nil, err
	}
	e.server, err = emulator.New(emulator.Options{
		Addr: addr, StateFile: file, SaveEvery: emulatedSave, DrainTimeout: stopWithin / 5,
		WebhookURLs: []string{webhook}, OnlyWebhookURLs: true, WebhookSecret: secret,
		Traffic: emulatedTraffic, Log: d.log.Named("clerkemu"),
	})
	if err != nil {
		return nil, fmt.Errorf("start the emulated Clerk: %w", err)
	}
	vars, err := e.server.Environment()
	if err != nil {
		return nil, fmt.Errorf("start the emulated Clerk: %w", err)
	}
	for _, v := range vars {
		if v.Name != "CLERK_WEBHOOK_SIGNING_SECRET" { // dev.env has it anyway
			e.env = append(e.env, setting{v.Name, v.Value})
		}
	}
	return e, nil
}

// run serves until either context ends; traffic begins once the stack is ready
// for it. Without an emulated Clerk it only waits.
func (e *emulated) run(stopped, failed context.Context, ready <-chan struct{}) error {
	ctx, cancel := context.WithCancel(failed)
	defer cancel()
	defer context.AfterFunc(stopped, cancel)()
	if e == nil {
		<-ctx.Done()
		return nil
	}
	select {
	case <-ready:
	case <-ctx.Done():
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return e.server.Run(ctx) })
	if e.first {
		g.Go(func() error { e.server.MakeChanges(ctx, emulatedChanges); return nil })
	}
	return g.Wait()
}
