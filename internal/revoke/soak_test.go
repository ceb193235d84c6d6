//go:build soak

package revoke

import (
	"fmt"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/internal/bucket"
	"github.com/rollcall-dev/rollcall/internal/revocation"
	"github.com/rollcall-dev/rollcall/streams/auth"
)

// A gateway that starts reads a million entries, and is fresh soon after.
func TestSoakLongList(t *testing.T) {
	r := newRig(t)
	r.sink(Options{})
	r.fresh()
	conn := r.dial()
	t.Cleanup(conn.Close)
	entries, now := bucket.Bucket{Broker: conn, Name: r.names.RevocationBucket()}, time.Now()
	const n = 1_000_000
	began := time.Now()
	for from := 0; from < n; from += 1000 {
		var puts []bucket.Put
		for i := from; i < from+1000; i++ {
			puts = append(puts, bucket.Put{
				Key: revocation.Key(revocation.User, fmt.Sprintf("user_%027d", i)), Over: bucket.Any, TTL: life.String(),
				Value: fmt.Appendf(nil, `{"not_before":%d,"reason":"user.banned","event_id":"msg_2g7"}`, now.UnixMilli()),
			})
		}
		if _, err := entries.Write(t.Context(), puts); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d entries written in %s", n, time.Since(began).Round(time.Millisecond))
	began = time.Now()
	r.list = r.newList()
	r.fresh()
	t.Logf("read, and fresh, after %s", time.Since(began).Round(time.Millisecond))
	for i := 0; i < n; i += 999 {
		if !r.refused(&auth.Claims{UserID: fmt.Sprintf("user_%027d", i), IssuedAt: now}) {
			t.Fatalf("number %d isn't refused", i)
		}
	}
}
