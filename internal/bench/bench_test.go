package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	svix "github.com/svix/svix-webhooks/go"

	"github.com/rollcall-dev/rollcall/internal/projection"
	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
)

// TestMain also is the process that the memory measurement starts: it runs the
// test binary as it would run the bench.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "-ingest-only" {
		main()
		return
	}
	stacktest.Main(m)
}

// recorder is a server that counts what arrives under each svix-id.
type recorder struct {
	mu     sync.Mutex
	seen   map[string]int
	answer int
	busy   bool // answer the next post with 503, and forget it
}

func (r *recorder) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	verified := false
	for _, s := range []string{secret, rotated} {
		webhook, newErr := svix.NewWebhook(s)
		verified = verified || newErr == nil && webhook.Verify(body, req.Header) == nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.busy {
		r.busy = false
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	if err == nil && verified {
		r.seen[req.Header.Get("svix-id")]++
	}
	w.WriteHeader(r.answer)
}

func TestLoadSendsEachPostUntilTaken(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{clientHTTP, clientRaw} {
		r := &recorder{seen: map[string]int{}, answer: http.StatusNoContent, busy: true}
		addr, stop, err := serve(t.Context(), r.ServeHTTP)
		if err != nil {
			t.Fatal(err)
		}
		s, err := newSigner("test")
		if err != nil {
			t.Fatal(err)
		}
		posts, err := s.twice(50)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := load(kind, addr, posts, 8); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		for id, n := range r.seen {
			if n != 2 {
				t.Errorf("%s: %s arrived %d times, want 2", kind, id, n)
			}
		}
		if len(r.seen) != 50 {
			t.Errorf("%s: %d events arrived with a signature that holds, want 50", kind, len(r.seen))
		}
		r.answer = http.StatusUnauthorized
		if _, err := load(kind, addr, posts, 2); err == nil || !strings.Contains(err.Error(), "401") {
			t.Errorf("%s: a refused post is %v", kind, err)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	}
}

func TestLatePostsRepeatStoredEvents(t *testing.T) {
	t.Parallel()
	s, err := newSigner("test")
	if err != nil {
		t.Fatal(err)
	}
	posts, err := s.late(200, 11)
	if err != nil {
		t.Fatal(err)
	}
	repeated, ids := 0, map[string]bool{}
	for _, p := range posts {
		var n int
		if _, err := fmt.Sscanf(p.id, "msg_test_%d", &n); err != nil {
			t.Fatal(err)
		}
		if n < 11 {
			repeated++
		}
		ids[p.id] = true
	}
	if repeated != 10 || len(ids) != 200 {
		t.Errorf("%d of 200 repeat a stored event, want 10; %d ids", repeated, len(ids))
	}
}

func TestVerdicts(t *testing.T) {
	t.Parallel()
	rounds := []pair{{10, 20}, {30, 30}, {90, 100}}
	for _, c := range []struct {
		row  row
		want string
	}{
		{compare("", "/s", rounds, "x", 0.9), "ok"}, // the median of 0.5, 1 and 0.9
		{compare("", "/s", rounds, "x", 0.91), "short"},
		{compare("", "/s", rounds, "x", 0), ""},
		{row{BesideIs: "x", Ratio: 1.3, Ours: 9, Target: 1.3, AtMost: true}, "ok"},
		{row{Ours: 3, Target: 3, AtMost: true}, "ok"},
		{row{Ours: 3.1, Target: 3, AtMost: true}, "short"},
	} {
		if got := c.row.verdict(); got != c.want {
			t.Errorf("%+v: %q, want %q", c.row, got, c.want)
		}
	}
}

// TestMeasure runs every measurement at a size that shows nothing but that all
// of them work.
func TestMeasure(t *testing.T) {
	t.Parallel()
	b := &bench{
		options: options{client: clientRaw}, databaseURL: stacktest.Database(t).AdminURL, // it makes a role
		sizes: sizes{rounds: 1, posts: 400, alone: 10, endToEnd: 400, backlog: 3000, backlogRounds: 1, curve: []int{500, 1000}, curveEvents: 2000, organizations: 10, rowsOfEach: 60, revocations: 200_000},
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	if err := b.measure(ctx); err != nil {
		t.Fatal(err)
	}
	for _, r := range b.rows {
		if !(r.Ours > 0) || r.BesideIs != "" && !(r.Ratio > 0) {
			t.Errorf("%+v has no figure", r)
		}
	}
	var table strings.Builder
	printTable(&table, b.rows)
	if n := strings.Count(table.String(), "\n"); n != len(b.rows)+1 || n < 16 {
		t.Errorf("%d lines:\n%s", n, &table)
	}
}

// What is written by hand is what the store writes.
func TestByHandHasTheColumns(t *testing.T) {
	t.Parallel()
	byHand := map[string]bool{}
	for _, c := range upsertColumns {
		byHand[c.name] = true
	}
	for _, c := range projection.ByTable("users").Columns {
		if !byHand[c.Name] {
			t.Errorf("the upsert by hand lacks %s", c.Name)
		}
	}
	if rows := newUserRows([]int{0, 1}, 1); len(rows) != len(upsertColumns) {
		t.Errorf("%d columns have values, of %d", len(rows), len(upsertColumns))
	}
}
