package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rollcall-dev/rollcall/internal/broker"
	"github.com/rollcall-dev/rollcall/internal/clerk/backend"
	"github.com/rollcall-dev/rollcall/internal/cli"
	"github.com/rollcall-dev/rollcall/internal/config"
	"github.com/rollcall-dev/rollcall/streams"
)

// canaryKey is where in a user's private metadata the canary sits. It stays
// there, so that one more event isn't caused.
const canaryKey = "rollcall_canary"

// canary is a change that is made to see whether its webhook comes.
type canary struct {
	asked          bool
	user, instance string
	wait           time.Duration
}

// arrival is what became of one.
type arrival struct {
	UserID  string  `json:"user_id"`
	Arrived bool    `json:"arrived"`
	Seconds float64 `json:"seconds"` // until it was in the log, or the wait ended
	EventID string  `json:"event_id,omitempty"`
}

func (d *doctor) sendCanary(ctx context.Context, w io.Writer) error {
	if d.canary.user == "" {
		return cli.Usagef("--canary changes a user's metadata in Clerk: name one of your own with --user")
	}
	return d.withBroker(ctx, func(ctx context.Context, cfg *config.Config, conn *broker.Conn) error {
		in, err := cfg.RequireBackend(d.canary.instance)
		if err != nil {
			return err
		}
		a, err := d.canary.send(ctx, cfg, in, conn)
		if err != nil {
			return backendError(err)
		}
		if d.asJSON {
			err = json.NewEncoder(w).Encode(a)
		} else if a.Arrived {
			_, err = fmt.Fprintf(w, "canary: the webhook of %s was in the log after %s, as %s\n",
				a.UserID, time.Duration(a.Seconds*float64(time.Second)).Round(time.Millisecond), a.EventID)
		}
		if err == nil && !a.Arrived {
			err = found{fmt.Errorf("canary: Clerk changed %s, and no webhook of it came within %s: is the endpoint enabled in Clerk's dashboard, does it send user.updated, and is ingest running?", a.UserID, d.canary.wait)}
		}
		return err
	})
}

// send changes the user, and waits for the event that tells of it.
func (c *canary) send(ctx context.Context, cfg *config.Config, in config.Instance, conn *broker.Conn) (*arrival, error) {
	client := backend.New(backend.Options{URL: in.APIURL, SecretKey: in.SecretKey, Rate: backend.LimitOf(in.SecretKey), GiveUp: c.wait})
	id, _, err := client.Instance(ctx)
	if err != nil {
		return nil, err
	}
	js, err := conn.JetStream()
	if err != nil {
		return nil, err
	}
	names := streams.Names{Prefix: cfg.NATS.Prefix}
	subject := streams.Subject{InstanceID: id, Resource: "user", Action: "updated", EntityID: c.user}
	stream, err := js.Stream(ctx, names.Stream())
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", names.Stream(), err)
	}
	consumer, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{names.Subject(subject)},
		DeliverPolicy:  jetstream.DeliverByStartSequencePolicy, OptStartSeq: stream.CachedInfo().State.LastSeq + 1,
	})
	if err != nil {
		return nil, fmt.Errorf("read stream %s: %w", names.Stream(), err)
	}
	messages, err := consumer.Messages()
	if err != nil {
		return nil, fmt.Errorf("read stream %s: %w", names.Stream(), err)
	}
	defer messages.Stop()
	defer context.AfterFunc(ctx, messages.Stop)()
	began := time.Now()
	mark := began.UTC().Format(time.RFC3339Nano)
	if err := client.Note(ctx, c.user, canaryKey, mark); err != nil {
		return nil, err
	}
	a := &arrival{UserID: c.user}
	for left := c.wait; left > 0 && !a.Arrived; left = c.wait - time.Since(began) {
		m, err := messages.Next(jetstream.NextMaxWait(left))
		if errors.Is(err, jetstream.ErrMsgIteratorClosed) {
			break
		}
		if err == nil && carries(m.Data(), mark) { // an error is an end of the wait, or of a connection that comes back
			a.Arrived, a.EventID = true, m.Headers().Get(streams.HeaderMsgID)
		}
	}
	a.Seconds = time.Since(began).Seconds()
	return a, ctx.Err()
}

// carries tells the event of this canary.
func carries(body []byte, mark string) bool {
	var event struct {
		Data struct {
			PrivateMetadata map[string]any `json:"private_metadata"`
		} `json:"data"`
	}
	return json.Unmarshal(body, &event) == nil && event.Data.PrivateMetadata[canaryKey] == mark
}

// backendError has the exit code of a mistake where Clerk refuses what was asked.
func backendError(err error) error {
	var refused *backend.RefusedError
	if errors.Is(err, backend.ErrSecretKey) || errors.As(err, &refused) {
		return cli.Usage(err)
	}
	return err
}
