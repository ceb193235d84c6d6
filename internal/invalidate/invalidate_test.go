package invalidate

import (
	"encoding/json"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
	"github.com/rollcall-dev/rollcall/streams"
)

// A user's life, as a Redis and a NATS client see it.
func TestUser(t *testing.T) {
	t.Parallel()
	l, server := newLog(t), stacktest.Redis(t)
	redis := redisAt(t, server)
	heard := make(chan *nats.Msg, 100)
	sub, err := l.nc.ChanSubscribe("rollcall.invalidate.>", heard)
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Unsubscribe() //nolint:errcheck // the connection ends
	l.run(Options{}, redis, nil)
	cache := func() {
		server.CLI("mset", "user:user_1", "x", "user:email:a@b.c", "x", "user:email:d@e.f", "x", "user:user_2", "x")
	}
	step := func(sequence uint64, left, subject string, want streams.Invalidation) {
		t.Helper()
		l.passed("redis", sequence)
		l.passed("nats", sequence)
		same(t, "left in Redis", words(server.CLI("keys", "user:*")), words(left)...)
		m := <-heard
		var got streams.Invalidation
		if err := json.Unmarshal(m.Data, &got); err != nil {
			t.Fatal(err)
		}
		same(t, "published", got.Keys, want.Keys...)
		if m.Subject != subject || got.Action != want.Action || got.EventID != want.EventID || got.ID != "user_1" || got.Resource != "users" || (got.Version == "") != (want.Action == "deleted") {
			t.Errorf("%s: %s, want %+v", m.Subject, m.Data, want)
		}
	}
	cache()
	const subject = "rollcall.invalidate.users.user_1"
	step(l.user("user_1", "a@b.c"), "user:email:d@e.f user:user_2", subject,
		streams.Invalidation{Keys: []string{"user:user_1", "user:email:a@b.c"}, Action: "updated", EventID: "msg_1"})
	cache()
	step(l.user("user_1", "d@e.f"), "user:user_2", subject,
		streams.Invalidation{Keys: []string{"user:user_1", "user:email:a@b.c", "user:email:d@e.f"}, Action: "updated", EventID: "msg_2"})
	cache()
	step(l.deleted("user", "user_1"), "user:user_2", subject,
		streams.Invalidation{Keys: []string{"user:user_1", "user:user_1:orgs", "user:email:a@b.c", "user:email:d@e.f"}, Action: "deleted", EventID: "msg_3"})
	if got := server.CLI("get", "{user:user_1}:generation"); got < "3" {
		t.Errorf("the generation is %s", got)
	}
	if got, err := l.value("invalidate.keys.users.user_1"); got != `{"deleted":true}` {
		t.Errorf("remembered of the deleted: %s, %v", got, err)
	}
	// What comes late is invalidated, and not remembered again.
	cache()
	l.passed("redis", l.user("user_1", "d@e.f"))
	same(t, "left in Redis", words(server.CLI("keys", "user:*")), "user:email:a@b.c", "user:user_2")
	if got, err := l.value("invalidate.keys.users.user_1"); got != `{"deleted":true}` {
		t.Errorf("remembered of the deleted: %s, %v", got, err)
	}
}

func TestDeletedParents(t *testing.T) {
	t.Parallel()
	l, target := newLog(t), &recorder{name: "redis"}
	l.run(Options{}, target)
	l.member("m1", "org_1", "user_1")
	l.member("m2", "org_2", "user_1")
	l.passed("redis", l.member("m3", "org_1", "user_2"))
	target.reset()
	l.passed("redis", l.deleted("user", "user_1"))
	same(t, "of a deleted user", target.keys(), "user:user_1", "user:user_1:orgs", "org:org_1:members", "org:org_2:members")
	same(t, "remembered", l.remembered(), "invalidate.keys.organization_memberships.m1", "invalidate.keys.organization_memberships.m2",
		"invalidate.keys.organization_memberships.m3", "invalidate.keys.users.user_1",
		"invalidate.of.organizations.org_1.organization_memberships.m3", "invalidate.of.users.user_2.organization_memberships.m3")
	target.reset()
	l.passed("redis", l.deleted("organization", "org_1"))
	same(t, "of a deleted organization", target.keys(), "org:org_1", "org:org_1:members", "user:user_2:orgs")
	target.reset()
	l.passed("redis", l.deleted("organization", "org_2"))
	same(t, "of one without members left", target.keys(), "org:org_2", "org:org_2:members")
}
