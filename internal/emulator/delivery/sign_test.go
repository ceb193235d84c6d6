package delivery

import (
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/internal/emulator/nodetest"
)

func TestSignature(t *testing.T) {
	t.Parallel()
	for _, family := range []string{HeadersSvix, HeadersWebhook, HeadersBoth} {
		rc := newReceiver(t, nil)
		s := newSender(t, Config{})
		add(t, s, Endpoint{URL: rc.url, Secrets: []string{secretA}, HeaderFamily: family})
		ids := send(t, s, 1, "user.created")
		settle(t, s)
		r := rc.requests()[0]
		if !r.verifies(t, secretA) || r.verifies(t, secretB) {
			t.Errorf("%s: not signed with the endpoint's secret: %v", family, r.header)
		}
		for name, want := range map[string]bool{"svix-id": family != HeadersWebhook, "webhook-id": family != HeadersSvix} {
			if has := r.header.Get(name) == ids[0]; has != want {
				t.Errorf("%s: %s: %q", family, name, r.header.Get(name))
			}
		}
		if !strings.HasPrefix(r.header.Get("User-Agent"), "Svix-Webhooks/") || r.header.Get("Content-Type") != "application/json" {
			t.Errorf("headers: %v", r.header)
		}
	}
}

// A rotated-out secret signs beside the new one for 24 hours.
func TestRotation(t *testing.T) {
	t.Parallel()
	var ahead atomic.Int64
	now := time.Now()
	rc := newReceiver(t, nil)
	s := newSender(t, Config{Clock: func() time.Time { return now.Add(time.Duration(ahead.Load())) }})
	ep := add(t, s, Endpoint{URL: rc.url, Secrets: []string{secretA}})
	if _, err := s.Rotate(ep.ID, "whsec_"); err == nil {
		t.Error("took an empty secret")
	}
	rotated, err := s.Rotate(ep.ID, secretB)
	if err != nil || !slices.Equal(rotated.Secrets, []string{secretB, secretA}) {
		t.Fatalf("after the rotation: %v, %v", rotated.Secrets, err)
	}

	send(t, s, 1, "user.created")
	settle(t, s)
	both := rc.requests()[0]
	if n := len(strings.Fields(both.header.Get("svix-signature"))); n != 2 || !both.verifies(t, secretA) || !both.verifies(t, secretB) {
		t.Errorf("%d signatures, want two that verify: %v", n, both.header)
	}

	ahead.Store(int64(rotatedFor))
	send(t, s, 1, "user.created")
	settle(t, s)
	last := rc.requests()[1].header
	if n := len(strings.Fields(last.Get("svix-signature"))); n != 1 {
		t.Errorf("%d signatures a day later", n)
	}
	if left := s.Endpoints()[0].Secrets; !slices.Equal(left, []string{secretB}) {
		t.Errorf("secrets a day later: %v", left)
	}
}

// Two endpoints on one URL: Clerk's documented way to rotate.
func TestTwoEndpointsOneURL(t *testing.T) {
	t.Parallel()
	rc := newReceiver(t, nil)
	s := newSender(t, Config{})
	add(t, s, Endpoint{URL: rc.url, Secrets: []string{secretA}})
	add(t, s, Endpoint{URL: rc.url, Secrets: []string{secretB}})
	id := send(t, s, 1, "user.created")[0]
	settle(t, s)
	got := rc.requests()
	if len(got) != 2 || got[0].id != id || got[1].id != id {
		t.Fatalf("got %v, want %s twice", rc.ids(), id)
	}
	if got[0].verifies(t, secretA) == got[1].verifies(t, secretA) || got[0].verifies(t, secretB) == got[1].verifies(t, secretB) {
		t.Error("not each with its own secret")
	}
}

func TestClockSkew(t *testing.T) {
	t.Parallel()
	rc := newReceiver(t, nil)
	s := newSender(t, Config{Chaos: Chaos{ClockSkewMS: -400_000}})
	add(t, s, Endpoint{URL: rc.url, Secrets: []string{secretA}})
	send(t, s, 1, "user.created")
	settle(t, s)
	if rc.requests()[0].verifies(t, secretA) {
		t.Error("the library took a timestamp 400 s old")
	}
	if err := s.SetChaos(Chaos{}); err != nil {
		t.Fatal(err)
	}
	send(t, s, 1, "user.created")
	settle(t, s)
	if !rc.requests()[1].verifies(t, secretA) {
		t.Error("refused with the clock right again")
	}
}

// The vector is KSUID's own.
func TestKSUID(t *testing.T) {
	t.Parallel()
	raw, err := hex.DecodeString("0669F7EFB5A1CD34B5F99D1154FB6853345C9735")
	if err != nil {
		t.Fatal(err)
	}
	if got := encode([20]byte(raw)); got != "0ujtsYcgvSTl8PAuAdqWYSMnLOv" {
		t.Errorf("got %s", got)
	}
	seen := map[string]bool{}
	for n := range uint64(1000) {
		seen[ksuid(1_700_000_000_000, randomFor(7, n))] = true
	}
	if again := ksuid(1_700_000_000_000, randomFor(7, 0)); len(seen) != 1000 || !seen[again] || seen[ksuid(1_700_000_000_001, randomFor(7, 0))] {
		t.Errorf("%d different ids of 1000, all by seed, number and millisecond", len(seen))
	}
}

// TestJavaScript lets Svix's own JavaScript library judge what is sent.
func TestJavaScript(t *testing.T) {
	t.Parallel()
	rc := newReceiver(t, nil)
	s := newSender(t, Config{Chaos: Chaos{BadSignature: 1, Corrupt: 1}})
	ep := add(t, s, Endpoint{URL: rc.url, Secrets: []string{secretA}, HeaderFamily: HeadersBoth})
	if _, err := s.Rotate(ep.ID, secretB); err != nil {
		t.Fatal(err)
	}
	send(t, s, 1, "user.created")
	settle(t, s)

	var lines strings.Builder
	var want []string
	for i, r := range rc.requests() {
		for _, secret := range []string{secretA, secretB} {
			line, err := json.Marshal(map[string]any{"secret": secret, "body": string(r.body), "headers": map[string]string{
				"svix-id": r.header.Get("svix-id"), "svix-timestamp": r.header.Get("svix-timestamp"), "svix-signature": r.header.Get("svix-signature"),
			}})
			if err != nil {
				t.Fatal(err)
			}
			lines.Write(append(line, '\n'))
			want = append(want, []string{"refused: No matching signature found", "refused: No matching signature found", "accepted"}[i])
		}
	}
	out := nodetest.Run(t, "deliveries.mjs", []byte(lines.String()))
	if got := strings.Split(strings.TrimSpace(string(out)), "\n"); !slices.Equal(got, want) {
		t.Errorf("a wrong signature, a changed body and the message, each by both secrets: %q, want %q", got, want)
	}
}
