package invalidate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"

	"github.com/rollcall-dev/rollcall/streams"
)

// Publisher publishes each entity's keys on a subject of its own.
type Publisher struct {
	broker Broker
	names  streams.Names
}

// NewPublisher makes one. The broker's connection stays the caller's.
func NewPublisher(b Broker, n streams.Names) *Publisher { return &Publisher{b, n} }

// Name of the target.
func (p *Publisher) Name() string { return "nats" }

// Close does nothing.
func (p *Publisher) Close() error { return nil }

// Send returns once the server has all of it.
func (p *Publisher) Send(ctx context.Context, stale []streams.Invalidation) error {
	js, err := p.broker.JetStream()
	if err != nil {
		return err
	}
	nc := js.Conn()
	before := nc.LastError()
	for _, i := range stale {
		body, err := json.Marshal(i)
		if err != nil {
			return fmt.Errorf("encode keys: %w", err)
		}
		if err := nc.Publish(p.names.InvalidateSubject(i.Resource, i.ID), body); err != nil {
			return fmt.Errorf("publish keys: %w", err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	if err := nc.FlushWithContext(ctx); err != nil {
		return fmt.Errorf("publish keys: %w", err)
	}
	// A refused publish has no answer of its own, but comes before the flush's.
	if err := nc.LastError(); err != before && errors.Is(err, nats.ErrPermissionViolation) { //nolint:errorlint // the very same, or a new one
		return fmt.Errorf("publish keys: %w; grant publishing on %s", err, p.names.InvalidateSubjects())
	}
	return nil
}
