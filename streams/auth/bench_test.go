package auth_test

import (
	"testing"

	"github.com/rollcall-dev/rollcall/internal/emulator/token"
	"github.com/rollcall-dev/rollcall/streams/auth"
)

// A remembered token costs little more than its hash.
func BenchmarkRemembered(b *testing.B) {
	m := newMinter(b, newWatch().now)
	v := verifier(b, m, func(o *auth.Options) { o.Revoked = func(*auth.Claims) error { return nil } })
	text := mint(b, m, nil)
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(ctx, text); err != nil {
			b.Fatal(err)
		}
	}
}

// What a token costs that is seen first; to be held against BareRS256.
func BenchmarkFirstSeen(b *testing.B) {
	m := newMinter(b, newWatch().now)
	v := verifier(b, m, func(o *auth.Options) { o.CacheSize = -1 })
	text := mint(b, m, func(c *token.SessionClaims) { c.Features = []string{"o:invoices", "o:teams", "u:search"} })
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(ctx, text); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBareRS256(b *testing.B) {
	m := newMinter(b, newWatch().now)
	key, text := public(b, m), mint(b, m, nil)
	for b.Loop() {
		if !signedBy(key, text) {
			b.Fatal("not signed")
		}
	}
}

func TestRememberedAllocatesNothing(t *testing.T) {
	m := newMinter(t, newWatch().now)
	v := verifier(t, m, nil)
	text := mint(t, m, nil)
	ctx := t.Context()
	if n := testing.AllocsPerRun(100, func() { _, _ = v.Verify(ctx, text) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
