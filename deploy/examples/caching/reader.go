// Package caching is the reader's side of the cache invalidations, to copy:
// deploy/docs/caching.md says why it is as it is.
package caching

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// store sets a key if no invalidation has come since its generation was read.
var store = redis.NewScript(`
if (redis.call('GET', KEYS[2]) or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
return 1`)

func generation(key string) string {
	if strings.Contains(key, "{") { // has a hash tag of its own
		return key + ":generation"
	}
	return "{" + key + "}:generation"
}

// Cached is the value under a key, or what load returns.
func Cached(ctx context.Context, r redis.UniversalClient, key string, life time.Duration, load func() (string, error)) (string, error) {
	value, err := r.Get(ctx, key).Result()
	if err == nil || !errors.Is(err, redis.Nil) {
		return value, err
	}
	before, err := r.Get(ctx, generation(key)).Result() // before the value is loaded
	if err != nil && !errors.Is(err, redis.Nil) {
		return "", err
	}
	if value, err = load(); err != nil {
		return "", err
	}
	return value, store.Run(ctx, r, []string{key, generation(key)}, before, value, int(life.Seconds())).Err()
}
