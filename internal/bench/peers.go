package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
)

// peers runs programs that users would run instead, kept outside the
// repository for what they depend on.
type peers struct{ program string }

func buildPeers(ctx context.Context, dir, into string) (*peers, error) {
	program := filepath.Join(into, "peers")
	build := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-o", program, ".")
	build.Dir = dir
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the peers in %s: %w\n%s", dir, err, out)
	}
	return &peers{program: program}, nil
}

// rates of a peer: posts answered a second, and rows in Postgres a second, from
// the first post to the last row.
type peerRates struct {
	Ingest struct {
		NotAccepted int     `json:"not_accepted"`
		PerSecond   float64 `json:"per_second"`
	} `json:"ingest"`
	EndToEnd float64 `json:"end_to_end_per_second"`
}

func (p *peers) run(ctx context.Context, databaseURL string, n, connections int, peer ...string) (peerRates, error) {
	args := append(peer, "-n", strconv.Itoa(n), "-conc", strconv.Itoa(connections), "-dsn", databaseURL)
	cmd := exec.CommandContext(ctx, p.program, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return peerRates{}, fmt.Errorf("peer %s: %w\n%s", peer[0], err, &stderr)
	}
	var r peerRates
	if err := json.Unmarshal(out, &r); err != nil {
		return r, fmt.Errorf("peer %s: %w", peer[0], err)
	}
	if r.Ingest.NotAccepted > 0 {
		return r, fmt.Errorf("peer %s refused %d posts", peer[0], r.Ingest.NotAccepted)
	}
	return r, nil
}
