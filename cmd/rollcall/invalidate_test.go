package main

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"

	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
	"github.com/rollcall-dev/rollcall/streams"
)

// Of a dev stack with a Redis: keys go from it and to NATS, and not before the
// store has the rows, however slow it is.
func TestDevInvalidates(t *testing.T) {
	t.Parallel()
	cache := stacktest.Redis(t)
	dev, dir := devProc(t, "REDIS_URL="+cache.URL)
	env := dev.start().ready(dir)
	nc, err := nats.Connect(env["NATS_URL"])
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	heard, err := nc.SubscribeSync("rollcall.invalidate.users.*")
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	db, err := pgx.Connect(t.Context(), env["DATABASE_URL"])
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close(t.Context())
	slow, err := db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := slow.Exec(t.Context(), "lock table clerk.users in share mode"); err != nil { // reads go on
		t.Fatal(err)
	}
	cache.CLI("set", "user:user_slow", "cached")
	newSender(t, dev.addr, env["CLERK_WEBHOOK_SIGNING_SECRET"]).sendAtOnce([]*event{{
		id: "msg_slow", body: []byte(`{"type":"user.updated","object":"event","timestamp":1716883200000,"data":{"id":"user_slow","updated_at":1716883200000}}`),
	}})
	time.Sleep(2 * time.Second) // nothing tells that nothing happens
	if m, err := heard.NextMsg(time.Millisecond); err == nil {
		t.Errorf("before the store has it: %s", m.Data)
	}
	if got := cache.CLI("get", "user:user_slow"); got != "cached" {
		t.Errorf("before the store has it the key is gone: %q", got)
	}
	if err := slow.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	m, err := heard.NextMsg(patience)
	if err != nil {
		t.Fatal(err)
	}
	var rows int
	if err := db.QueryRow(t.Context(), "select count(*) from clerk.users where id = 'user_slow'").Scan(&rows); err != nil || rows != 1 {
		t.Errorf("told of %s while the store has %d rows, %v", m.Subject, rows, err)
	}
	var told streams.Invalidation
	if err := json.Unmarshal(m.Data, &told); err != nil || strings.Join(told.Keys, " ") != "user:user_slow" || told.EventID != "msg_slow" {
		t.Errorf("%s, %v", m.Data, err)
	}
	stacktest.Eventually(t, patience, func() error {
		if got := cache.CLI("exists", "user:user_slow"); got != "0" {
			return errors.New("the key is still there")
		}
		return nil
	})
	dev.stops()
}
