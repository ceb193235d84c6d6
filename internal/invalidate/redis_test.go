package invalidate

import (
	"fmt"
	"strings"
	"testing"

	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
)

// Whatever Redis's trouble, its keys wait, in order, and are seen to; nobody
// else waits with them.
func TestRedisInTrouble(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		breaks, mends func(*stacktest.RedisServer)
		says          string
	}{
		"down": {(*stacktest.RedisServer).Kill, (*stacktest.RedisServer).Start, "can't be reached"},
		"slow": {(*stacktest.RedisServer).Freeze, (*stacktest.RedisServer).Thaw, "can't be reached"},
		"read-only": {
			func(r *stacktest.RedisServer) { r.CLI("replicaof", "127.0.0.1", "1") },
			func(r *stacktest.RedisServer) { r.CLI("replicaof", "no", "one") }, "read-only replica",
		},
		"full": {
			func(r *stacktest.RedisServer) { r.CLI("config", "set", "maxmemory", "1") },
			func(r *stacktest.RedisServer) { r.CLI("config", "set", "maxmemory", "0") }, "raise maxmemory",
		},
		"refusing": {
			func(r *stacktest.RedisServer) { r.CLI("acl", "setuser", "default", "-unlink") },
			func(r *stacktest.RedisServer) { r.CLI("acl", "setuser", "default", "+unlink") }, "needs INCR, EXPIRE and UNLINK",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, server, other := newLog(t), stacktest.Redis(t), &recorder{name: "other"}
			p := l.run(Options{}, redisAt(t, server), other)
			l.passed("redis", l.user("user_1", "a@b.c"))
			server.CLI("mset", "user:user_1", "x", "user:email:a@b.c", "x", "user:email:d@e.f", "x")
			c.breaks(server)
			l.user("user_1", "d@e.f")
			last := l.deleted("user", "user_1")
			l.passed("other", last)
			stacktest.Eventually(t, patience, func() error {
				if got := p.status["redis"].now(); !strings.Contains(got, c.says) {
					return fmt.Errorf("redis is %q", got)
				}
				return nil
			})
			if reason := p.status["other"].now(); reason != "" {
				t.Errorf("the other target: %s", reason)
			}
			if age := p.age("redis"); age <= 0 {
				t.Errorf("the oldest waiting change is %v s old", age)
			}
			c.mends(server)
			l.passed("redis", last)
			if left := server.CLI("keys", "user:*"); left != "" {
				t.Errorf("left: %s", left)
			}
			if name == "down" { // it kept no key that could be left
				if n := server.CLI("exists", Generation("user:user_1"), Generation("user:email:a@b.c"), Generation("user:email:d@e.f")); n != "3" {
					t.Errorf("%s of 3 keys were invalidated", n)
				}
			}
			stacktest.Eventually(t, patience, func() error {
				if reason, age := p.status["redis"].now(), p.age("redis"); reason != "" || age != 0 {
					return fmt.Errorf("redis is %q, the oldest change waits for %v s", reason, age)
				}
				return nil
			})
		})
	}
}

// A replica that takes over may lack the last commands, although its predecessor
// had acknowledged them.
func TestRedisFailsOver(t *testing.T) {
	t.Parallel()
	l, server := newLog(t), stacktest.Redis(t)
	l.run(Options{}, redisAt(t, server))
	l.passed("redis", l.user("user_1", "a@b.c"))
	server.Kill()
	server.Start()
	server.CLI("mset", "user:user_1", "x", "user:email:a@b.c", "x")
	l.passed("redis", l.user("user_2", "x@y.z"))
	if left := server.CLI("keys", "user:*"); left != "" {
		t.Errorf("left: %s", left)
	}
}

func TestRedisCluster(t *testing.T) {
	t.Parallel()
	l, nodes := newLog(t), stacktest.RedisCluster(t)
	l.run(Options{}, redisAt(t, nodes[0]))
	l.passed("redis", l.user("user_0", "first@b.c")) // whatever node has it
	var last uint64
	for i := range 20 {
		nodes[i%3].CLI("-c", "set", fmt.Sprintf("user:user_%d", i), "x")
		last = l.user(fmt.Sprintf("user_%d", i), "a@b.c")
	}
	l.passed("redis", last)
	generations := 0
	for _, n := range nodes {
		if left := n.CLI("keys", "user:*"); left != "" {
			t.Errorf("left: %s", left)
		}
		here := len(words(n.CLI("keys", "*:generation")))
		if here == 0 {
			t.Error("a node has no generations")
		}
		generations += here
	}
	if generations != 22 {
		t.Errorf("%d generations, want 22", generations)
	}
}

func TestRedisTLS(t *testing.T) {
	t.Parallel()
	l, server := newLog(t), stacktest.RedisTLS(t)
	l.run(Options{}, redisAt(t, server))
	l.passed("redis", l.user("user_1", "a@b.c"))
	if got := server.CLI("get", Generation("user:user_1")); got != "1" {
		t.Errorf("the generation is %q", got)
	}
	stranger, err := NewRedis(server.URL, "x", "")
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close() //nolint:errcheck // never connected
	if err := stranger.Send(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("without the authority: %v", err)
	}
}

func TestRedisURL(t *testing.T) {
	t.Parallel()
	for address, right := range map[string]bool{
		"redis://a": true, "rediss://u:p@a:6380/2": true, "unix:///run/redis.sock": true,
		"redis://a:26379?master_name=main&addr=b:26379": true, "redis://a/x": false, "http://a": false,
	} {
		r, err := NewRedis(address, "c", "")
		if (err == nil) != right {
			t.Errorf("%s: %v", address, err)
		}
		if r != nil && r.Close() != nil {
			t.Errorf("%s: doesn't close", address)
		}
	}
}

func TestGeneration(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]string{
		"user:1": "{user:1}:generation", "{user:1}:x": "{user:1}:x:generation", "a}b": "{a}b}:generation",
	} {
		if got := Generation(key); got != want {
			t.Errorf("%s: %s, want %s", key, got, want)
		}
	}
}
