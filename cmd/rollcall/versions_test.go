package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
)

// The pipeline works with each supported nats-server; atomic batches are used
// where the server has them.
func TestNATSReleases(t *testing.T) {
	t.Parallel()
	for _, binary := range natsServers(t) {
		version := filepath.Base(filepath.Dir(binary))
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			p := &pipeline{t, stacktest.Binary(t, binary), stacktest.Database(t)}
			all := p.run()
			events := fresh(51, 2000)
			newSender(t, all.addr, secret).sendAtOnce(events)
			p.caughtUp()
			p.once(events)
			p.right(events)

			batches := all.metric(`rollcall_publish_seconds_count{kind="batch"}`)
			if want := !strings.HasPrefix(version, "2.11."); batches > 0 != want {
				t.Errorf("%v batches, want any: %t", batches, want)
			}
			if refused := all.metric("rollcall_publish_batches_refused_total"); batches == 0 && refused > 0 {
				t.Errorf("%v batches tried on a server that has none", refused)
			}
		})
	}
}
