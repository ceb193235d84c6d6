package invalidate

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/rollcall-dev/rollcall/deploy/examples/caching"
	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
	"github.com/rollcall-dev/rollcall/streams"
)

// source is where values are loaded from: the number of each user's last change.
type source struct{ now [raceUsers]atomic.Int64 }

const (
	raceUsers   = 10
	raceReaders = 6
	raceChanges = 6000
	raceRate    = 2000 // changes a second
)

// checked is a target that notes, once a user's key is gone, what no reader may
// be older than from then on.
type checked struct {
	Target
	changed []int64 // the value that each event made, by the event's number
	floor   [raceUsers]atomic.Int64
}

func (c *checked) Send(ctx context.Context, stale []streams.Invalidation) error {
	if err := c.Target.Send(ctx, stale); err != nil {
		return err
	}
	for _, i := range stale {
		var user, event int
		if _, err := fmt.Sscanf(i.ID+" "+i.EventID, "user_%d msg_%d", &user, &event); err != nil {
			return err
		}
		c.floor[user].Store(c.changed[event])
	}
	return nil
}

// A reader by the recipe never serves a value older than the last invalidation
// before it asked; plain cache-aside does, which shows that the test can tell.
func TestReaders(t *testing.T) {
	t.Parallel()
	plain := func(ctx context.Context, r redis.UniversalClient, key string, life time.Duration, load func() (string, error)) (string, error) {
		value, err := r.Get(ctx, key).Result()
		if err == nil {
			return value, nil
		}
		if value, err = load(); err != nil {
			return "", err
		}
		return value, r.Set(ctx, key, value, life).Err()
	}
	if stale, served := race(t, caching.Cached); stale > 0 || served < 100 {
		t.Errorf("by the recipe %d of %d values were too old", stale, served)
	}
	if stale, served := race(t, plain); stale == 0 {
		t.Errorf("by plain cache-aside none of %d values was too old: this test finds nothing", served)
	}
}

type reader = func(context.Context, redis.UniversalClient, string, time.Duration, func() (string, error)) (string, error)

func race(t *testing.T, read reader) (stale, served int64) {
	t.Helper()
	l, server := newLog(t), stacktest.Redis(t)
	src, target := &source{}, &checked{Target: redisAt(t, server), changed: make([]int64, raceChanges+1)}
	for event := range target.changed {
		target.changed[event] = int64(event)
	}
	p := l.run(Options{Keys: map[string][]string{"users": {"user:{id}"}}}, target)
	defer p.stop()
	o, err := redis.ParseURL(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(o)
	defer client.Close() //nolint:errcheck // the server ends too
	ctx, stop := context.WithCancel(t.Context())
	// One load in three is held up until the value is out of date.
	load := func(user int) string {
		value := src.now[user].Load()
		for held := rand.IntN(3) == 0; held && ctx.Err() == nil && target.floor[user].Load() <= value; {
			time.Sleep(100 * time.Microsecond)
		}
		return strconv.FormatInt(value, 10)
	}
	var readers sync.WaitGroup
	var old, all atomic.Int64
	for range raceReaders {
		readers.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				user := n / 2 % raceUsers // twice: the second finds what the first has stored
				floor := target.floor[user].Load()
				value, err := read(context.Background(), client, fmt.Sprintf("user:user_%d", user), time.Minute, func() (string, error) { return load(user), nil })
				if err != nil {
					t.Error(err)
					return
				}
				got, _ := strconv.ParseInt(value, 10, 64)
				all.Add(1)
				if got < floor {
					old.Add(1)
				}
			}
		})
	}
	begin := time.Now()
	for n := 1; n <= raceChanges; n++ {
		user := n % raceUsers
		src.now[user].Store(int64(n)) // the store has it first
		if _, err := l.js.PublishMsgAsync(l.message("user.updated", fmt.Sprintf("user_%d", user), map[string]any{})); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Until(begin.Add(time.Duration(n) * time.Second / raceRate)))
	}
	<-l.js.PublishAsyncComplete()
	t.Logf("%.0f changes a second", raceChanges/time.Since(begin).Seconds())
	l.passed("redis", raceChanges)
	stop()
	readers.Wait()
	for user := range raceUsers { // and what is left in the end is right
		value, err := read(context.Background(), client, fmt.Sprintf("user:user_%d", user), time.Minute, func() (string, error) { return load(user), nil })
		if got, _ := strconv.ParseInt(value, 10, 64); err != nil || got < src.now[user].Load() {
			old.Add(1)
		}
	}
	return old.Load(), all.Load()
}
