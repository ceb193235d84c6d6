package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"
)

// bareBatches publishes events from memory in atomic batches of that size, one
// after the other, and returns events a second: what the server and the disk
// leave to any ingest that waits for so many senders, were it free itself.
func bareBatches(ctx context.Context, n, size int) (rate float64, err error) {
	j, err := newJournal(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, j.close()) }()
	nc, err := nats.Connect(j.URL())
	if err != nil {
		return 0, fmt.Errorf("connect: %w", err)
	}
	defer nc.Close()
	n = max(n/size, 1) * size
	messages := make([]*nats.Msg, n)
	for i := range messages {
		messages[i] = message(i, 0).Msg
	}
	start := time.Now()
	for from := 0; from < n; from += size {
		if err := bareBatch(nc, messages[from:from+size]); err != nil {
			return 0, err
		}
	}
	return float64(n) / time.Since(start).Seconds(), nil
}

func bareBatch(nc *nats.Conn, messages []*nats.Msg) error {
	id := nuid.Next()
	for i, m := range messages {
		m.Header.Set("Nats-Batch-Id", id)
		m.Header.Set("Nats-Batch-Sequence", strconv.Itoa(i+1))
		if i < len(messages)-1 {
			if err := nc.PublishMsg(m); err != nil {
				return fmt.Errorf("publish: %w", err)
			}
		}
	}
	last := messages[len(messages)-1]
	last.Header.Set("Nats-Batch-Commit", "1")
	ack, err := nc.RequestMsg(last, readyWait)
	if err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	var stored struct {
		Count int `json:"count"`
	}
	if err := json.Unmarshal(ack.Data, &stored); err != nil || stored.Count != len(messages) {
		return fmt.Errorf("commit: %s", ack.Data)
	}
	return nil
}
