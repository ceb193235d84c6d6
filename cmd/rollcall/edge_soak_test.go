//go:build soak

package main

import (
	"testing"
	"time"
)

func TestSoakBan(t *testing.T) {
	took := banUnderLoad(newEdge(t), 200, 150, 1000)
	if p99 := took[len(took)*99/100]; p99 > 100*time.Millisecond {
		t.Errorf("from a webhook's 2xx to refusal at a gateway: p99 %s, want 100 ms at most", p99)
	}
}
