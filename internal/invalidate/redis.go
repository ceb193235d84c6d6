package invalidate

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/rollcall-dev/rollcall/streams"
)

// Redis is a target that removes keys, and counts their generations up, so that
// a reader who loaded a value before can tell that it must not store it.
type Redis struct {
	url, channel string
	roots        *x509.CertPool // nil: the system's

	mu     sync.Mutex            // a redrive may send beside the log
	client redis.UniversalClient // nil until the first Send
	// doubtful: there is a new connection, maybe to a replica that took over and
	// lacks what its predecessor had acknowledged.
	doubtful *atomic.Bool
	recent   []sent
}

// sent are keys, and when they went.
type sent struct {
	keys []string
	at   time.Time
}

const (
	// A generation outlives the longest load of a value by far.
	generationStays = time.Hour
	// What was sent in this time goes again to a server that took over.
	replicaLags = time.Minute
	maxRecent   = 200_000 // keys

	maxPipeline  = 1000 // keys that are sent before an answer is awaited
	maxPublished = 500  // keys in a message on the channel
	redisWait    = 3 * time.Second
)

// NewRedis makes one. ca is a PEM file with the authorities that sign the
// server's certificate; "" for the system's. It doesn't connect: a Redis that is
// away is trouble, a URL that can't be read a mistake.
func NewRedis(address, channel, ca string) (*Redis, error) {
	r := &Redis{url: address, channel: channel, doubtful: &atomic.Bool{}}
	if ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return nil, fmt.Errorf("invalidate.redis.tls_ca: %w", err)
		}
		r.roots = x509.NewCertPool()
		if !r.roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("invalidate.redis.tls_ca: %s holds no certificate in PEM", ca)
		}
	}
	client, err := r.single()
	if err != nil {
		return nil, fmt.Errorf("invalidate.redis.url: %w", err)
	}
	return r, client.Close()
}

// Name of the target.
func (r *Redis) Name() string { return "redis" }

// Close ends the connections.
func (r *Redis) Close() error {
	if r.client == nil {
		return nil
	}
	return r.client.Close()
}

// Generation is the key that counts how often a key was invalidated. It lies in
// the same slot of a cluster.
func Generation(key string) string {
	if strings.Contains(key, "{") { // has a hash tag of its own
		return key + ":generation"
	}
	return "{" + key + "}:generation"
}

// Send removes the keys.
func (r *Redis) Send(ctx context.Context, stale []streams.Invalidation) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.connect(ctx); err != nil {
		return redisError(err)
	}
	keys := distinct(stale)
	for {
		again := keys
		if r.doubtful.Swap(false) {
			again = r.withRecent(keys)
		}
		if err := r.send(ctx, again); err != nil {
			r.doubtful.Store(true)
			return redisError(err)
		}
		if len(r.recent) == 0 {
			r.doubtful.Store(false)
		}
		if !r.doubtful.Load() {
			break
		}
	}
	r.note(keys)
	return redisError(r.publish(ctx, keys))
}

func (r *Redis) send(ctx context.Context, keys []string) error {
	for part := range slices.Chunk(keys, maxPipeline) {
		// The generation first: who loads between the two stores nothing old.
		_, err := r.client.Pipelined(ctx, func(p redis.Pipeliner) error {
			for _, key := range part {
				p.Incr(ctx, Generation(key))
				p.Expire(ctx, Generation(key), generationStays)
				p.Unlink(ctx, key)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *Redis) publish(ctx context.Context, keys []string) error {
	for part := range slices.Chunk(keys, maxPublished) {
		body, err := json.Marshal(map[string][]string{"keys": part})
		if err != nil {
			return err
		}
		if err := r.client.Publish(ctx, r.channel, body).Err(); err != nil {
			return err
		}
	}
	return nil
}

// note keeps what was sent for a while.
func (r *Redis) note(keys []string) {
	r.recent = append(r.recent, sent{keys, time.Now()})
	n := 0
	for i := len(r.recent) - 1; i >= 0; i-- {
		n += len(r.recent[i].keys)
		if n > maxRecent || time.Since(r.recent[i].at) > replicaLags {
			r.recent = slices.Delete(r.recent, 0, i+1)
			return
		}
	}
}

func (r *Redis) withRecent(keys []string) []string {
	seen := map[string]bool{}
	var all []string
	for _, s := range append(slices.Clip(r.recent), sent{keys: keys}) {
		for _, k := range s.keys {
			if !seen[k] {
				seen[k], all = true, append(all, k)
			}
		}
	}
	return all
}

// connect makes the client: of a cluster, if the server says that it is part of
// one.
func (r *Redis) connect(ctx context.Context) error {
	if r.client != nil {
		return nil
	}
	client, err := r.single()
	if err != nil {
		return err
	}
	// A server that refuses the question is taken for a single one.
	info, err := client.Info(ctx, "cluster").Result()
	var refused redis.Error
	if err != nil && !errors.As(err, &refused) {
		return errors.Join(err, client.Close())
	}
	if !strings.Contains(info, "cluster_enabled:1") {
		r.client = client
		return nil
	}
	o, err := redis.ParseClusterURL(r.url)
	if err != nil {
		return errors.Join(err, client.Close())
	}
	o.OnConnect, o.TLSConfig = r.connected, r.trust(o.TLSConfig)
	o.ReadTimeout, o.WriteTimeout, o.ContextTimeoutEnabled = redisWait, redisWait, true
	r.client = redis.NewClusterClient(o)
	return client.Close()
}

// single is a client of one server, or of the one that sentinels name.
func (r *Redis) single() (redis.UniversalClient, error) {
	if u, err := url.Parse(r.url); err == nil && u.Query().Has("master_name") {
		o, err := redis.ParseFailoverURL(r.url)
		if err != nil {
			return nil, err
		}
		o.OnConnect, o.TLSConfig = r.connected, r.trust(o.TLSConfig)
		o.ReadTimeout, o.WriteTimeout, o.ContextTimeoutEnabled, o.MaxRetries = redisWait, redisWait, true, 1
		return redis.NewFailoverClient(o), nil
	}
	o, err := redis.ParseURL(r.url)
	if err != nil {
		return nil, err
	}
	o.OnConnect, o.TLSConfig = r.connected, r.trust(o.TLSConfig)
	o.ReadTimeout, o.WriteTimeout, o.ContextTimeoutEnabled, o.MaxRetries = redisWait, redisWait, true, 1
	return redis.NewClient(o), nil
}

// trust is a configuration of TLS that knows the authorities; nil without TLS.
func (r *Redis) trust(c *tls.Config) *tls.Config {
	if c != nil {
		c.RootCAs = r.roots
	}
	return c
}

func (r *Redis) connected(context.Context, *redis.Conn) error {
	r.doubtful.Store(true)
	return nil
}

// redisError says what to do where there is something to do.
func redisError(err error) error {
	var network net.Error
	switch {
	case err == nil:
		return nil
	case redis.IsOOMError(err):
		return fmt.Errorf("redis is full: %w; raise maxmemory, or choose a maxmemory-policy that evicts", err)
	case redis.IsReadOnlyError(err):
		return fmt.Errorf("redis is a read-only replica: %w; name the primary in invalidate.redis.url, or its sentinels (?master_name=…)", err)
	case redis.IsAuthError(err), redis.IsPermissionError(err):
		return fmt.Errorf("redis refuses: %w; the user needs INCR, EXPIRE and UNLINK on all keys, and PUBLISH", err)
	case errors.As(err, &network):
		return fmt.Errorf("redis can't be reached: %w", err)
	}
	return fmt.Errorf("redis: %w", err)
}
