package ingest

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/rollcall-dev/rollcall/internal/clerk"
	"github.com/rollcall-dev/rollcall/streams"
)

// atOnce is how many letters are on their way to the log at one time.
const atOnce = 32

// Redriver puts ingest's dead letters into the log, under their svix-id and as
// the endpoint would today.
type Redriver struct {
	h  *Handler
	js func() (jetstream.JetStream, error)
}

// NewRedriver makes one. Of the options it needs Instances, without their
// secrets, Names, Codes and the TTLs.
func NewRedriver(o Options, js func() (jetstream.JetStream, error)) *Redriver {
	return &Redriver{&Handler{o: o}, js}
}

// Name of the sink whose letters they are.
func (r *Redriver) Name() string { return streams.SinkIngest }

// Prepare makes messages of the log of letters; one whose body is unusable
// still is rejected.
func (r *Redriver) Prepare(letters []streams.Message) (any, map[int]error) {
	var work []*nats.Msg
	rejected := map[int]error{}
	for i, l := range letters {
		m, err := r.message(l)
		switch {
		case err != nil:
			rejected[i] = err
		case m != nil:
			work = append(work, m)
		}
	}
	return work, rejected
}

// message is nil where the event isn't kept.
func (r *Redriver) message(l streams.Message) (*nats.Msg, error) {
	d := clerk.Delivery{ID: l.Header.Get(streams.HeaderSvixID), Timestamp: l.Header.Get(streams.HeaderSvixTimestamp), Signature: l.Header.Get(streams.HeaderSvixSignature)}
	if d.ID == "" {
		return nil, errors.New("the letter has no svix-id")
	}
	head, err := clerk.ParseHead(l.Data)
	if err != nil {
		return nil, err
	}
	if head.InstanceID, err = r.instance(head.InstanceID); err != nil {
		return nil, err
	}
	body, redacted := l.Data, []string(nil)
	if clerk.CarriesCode(head.Resource) {
		switch r.h.o.Codes {
		case CodesDrop:
			return nil, nil
		case CodesRedact:
			body, redacted = clerk.Redact(body)
		}
	}
	if before := l.Header.Get(streams.HeaderRedacted); before != "" {
		redacted = append([]string{before}, redacted...)
	}
	ms, err := strconv.ParseInt(l.Header.Get(streams.HeaderReceivedAt), 10, 64)
	if err != nil {
		ms = l.Time.UnixMilli()
	}
	return r.h.message(d, head, l.Header.Get(streams.HeaderTraceparent), body, redacted, time.UnixMilli(ms)).Msg, nil
}

// instance is the one that a body belongs to. Which endpoint took a letter isn't
// known: where there are several, the body has to name an instance that is
// configured.
func (r *Redriver) instance(id string) (string, error) {
	if all := r.h.o.Instances; len(all) == 1 && (id == "" || all[0].ID == "") {
		return id + all[0].ID, nil
	}
	for _, i := range r.h.o.Instances {
		if id != "" && i.ID == id {
			return id, nil
		}
	}
	return "", &clerk.Unusable{Reason: fmt.Sprintf("the body is of instance %.64q, which isn't among those configured", id)}
}

// Apply publishes. What the log has already under its svix-id stays as it is.
func (r *Redriver) Apply(ctx context.Context, work any) error {
	messages, _ := work.([]*nats.Msg)
	js, err := r.js()
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for _, m := range messages {
		g.Go(func() error {
			_, err := js.PublishMsg(ctx, m)
			return unpublished(err)
		})
	}
	return g.Wait()
}

func unpublished(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, nats.ErrMaxPayload):
		return tooLarge{err}
	}
	return fmt.Errorf("put into the log: %w", err)
}

// tooLarge is an event that the broker doesn't take.
type tooLarge struct{ error }

func (tooLarge) Poison() bool { return true }
