package main

import (
	"fmt"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
)

// SIGTERM under load: what got a 2xx is in the log, and the rows are those of
// the log up to the position.
func TestStopUnderLoad(t *testing.T) {
	t.Parallel()
	p := newPipeline(t)
	all := p.proc()
	sent := map[string]*event{}
	for round := range sized(3, 30) {
		all.start().is("ok")
		s := load(t, all, uint64(61+round))
		s.pause = 0
		s.more(300 + 100*round)
		all.stops()
		accepted := s.leave()
		for id, e := range s.tried {
			sent[id] = e
		}

		logged := p.logged()
		there := map[string]bool{}
		for _, id := range logged {
			if there[id] {
				t.Errorf("%s is in the log twice", id)
			}
			there[id] = true
		}
		for _, e := range accepted {
			if !there[e.id] {
				t.Errorf("%s got a 2xx and isn't in the log", e.id)
			}
		}
		_, position, err := p.position()
		if err != nil {
			t.Fatal(err)
		}
		var applied []*event
		for _, id := range logged[:position] {
			applied = append(applied, sent[id])
		}
		t.Logf("%d accepted, %d in the log, %d applied", len(accepted), len(logged), position)
		p.right(applied)
	}
}

// A process that can't drain, since somebody is in the middle of a request,
// ends at the second signal.
func TestSecondSignal(t *testing.T) {
	t.Parallel()
	p := newPipeline(t)
	ingest := p.run("ingest")
	slow, err := net.Dial("tcp", ingest.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	fmt.Fprintf(slow, "POST /webhooks/clerk HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf")
	if code, _ := ingest.health(); code != http.StatusOK { // by then the request has begun, too
		t.Fatalf("readyz answers %d", code)
	}
	ingest.signal(syscall.SIGTERM)
	stacktest.Eventually(t, patience, func() error {
		c, err := net.Dial("tcp", ingest.addr)
		if err != nil {
			return nil
		}
		defer c.Close()
		return fmt.Errorf("it still accepts connections")
	})
	if err := ingest.running(); err != nil {
		t.Fatalf("it doesn't wait for the request: %v", err)
	}
	ingest.signal(syscall.SIGTERM)
	if code := ingest.exits(2 * time.Second); code == 0 {
		t.Error("exit code 0, though a request was cut off")
	}
}
