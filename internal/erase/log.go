package erase

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/rollcall-dev/rollcall/internal/erased"
	"github.com/rollcall-dev/rollcall/internal/projection"
	"github.com/rollcall-dev/rollcall/streams"
)

// bury publishes the deletes that stay for ever: of the user, and of what a
// user's deletion doesn't reach. end is the position of the last.
func (r *run) bury(ctx context.Context, found *findings) (messages []streams.Message, end streams.Position, err error) {
	if len(r.instances) == 0 {
		r.instances = []string{r.InstanceID}
	}
	var all []entity
	for _, instance := range r.instances {
		all = append(all, entity{instanceID: instance, resource: "user", id: r.UserID})
	}
	for _, e := range found.entities {
		if kept := ofObject(e.resource); kept != nil && !kept.HasParent("users") {
			all = append(all, e)
		}
	}
	for _, e := range all {
		m, err := r.delete(ctx, e)
		if err != nil {
			return nil, end, err
		}
		messages = append(messages, m)
		if m.Sequence > end.Sequence {
			end = streams.Position{Epoch: m.Epoch, Sequence: m.Sequence, Time: m.Time}
		}
	}
	return messages, end, nil
}

func ofObject(object string) *projection.Resource {
	for _, r := range projection.Resources() {
		if r.Object == object {
			return r
		}
	}
	return nil
}

// delete publishes a bodyless delete, unless it is there. Its time is the
// earliest that the log knows.
func (r *run) delete(ctx context.Context, e entity) (m streams.Message, err error) {
	subject := r.Names.Subject(streams.Subject{InstanceID: e.instanceID, Resource: e.resource, Action: "deleted", EntityID: e.id})
	at := time.Now()
	err = r.read(ctx, r.Names.Stream(), subject, func(there jetstream.Msg, sequence uint64) {
		if known, err := streams.ParseEvent(there.Headers(), there.Data()); err == nil && !known.Timestamp.IsZero() && known.Timestamp.Before(at) {
			at = known.Timestamp
		}
		if there.Headers().Get(streams.HeaderSource) == string(streams.SourceErase) {
			m = streams.Message{Subject: subject, Header: there.Headers(), Data: there.Data(), Sequence: sequence}
		}
	})
	if err != nil {
		return m, err
	}
	if m.Sequence == 0 {
		msg := &nats.Msg{Subject: subject, Header: nats.Header{
			streams.HeaderMsgID:      {"erase:" + e.resource + ":" + e.id},
			streams.HeaderSource:     {string(streams.SourceErase)},
			streams.HeaderReceivedAt: {strconv.FormatInt(time.Now().UnixMilli(), 10)},
		}}
		msg.Data, err = json.Marshal(map[string]any{
			"type": e.resource + ".deleted", "object": "event", "timestamp": at.UnixMilli(), "instance_id": e.instanceID, "data": map[string]any{"id": e.id, "deleted": true},
		})
		if err != nil {
			return m, err
		}
		ack, err := r.JetStream.PublishMsg(ctx, msg)
		if err != nil {
			return m, fmt.Errorf("publish %s.deleted of %s: %w", e.resource, e.id, err)
		}
		m = streams.Message{Subject: subject, Header: msg.Header, Data: msg.Data, Sequence: ack.Sequence}
	}
	stream, err := r.JetStream.Stream(ctx, r.Names.Stream())
	if err != nil {
		return m, err
	}
	stored, err := stream.GetMsg(ctx, m.Sequence)
	if err != nil {
		return m, fmt.Errorf("read %s.deleted of %s: %w", e.resource, e.id, err)
	}
	m.Epoch, m.Time = stream.CachedInfo().Created.UnixNano(), stored.Time
	return m, nil
}

// overwrite takes what was found out of the streams, so that what is left at any
// moment can still be found.
func (r *run) overwrite(ctx context.Context, found *findings) error {
	total := 0
	for _, places := range found.places {
		total += len(places)
	}
	var done atomic.Int64
	for c, places := range found.places {
		g, work := errgroup.WithContext(ctx)
		g.SetLimit(atOnce)
		for _, p := range places {
			g.Go(func() error {
				if work.Err() != nil {
					return work.Err()
				}
				if err := r.overwriteOne(work, p, class(c) == mention && !found.copies[p.stream]); err != nil {
					return fmt.Errorf("message %d of %s: %w", p.sequence, p.stream, err)
				}
				r.Progress("overwriting messages", int(done.Add(1)), total)
				return nil
			})
		}
		if err := g.Wait(); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) overwriteOne(ctx context.Context, p place, again bool) error {
	stream, err := r.JetStream.Stream(ctx, p.stream)
	if err != nil {
		return err
	}
	if again {
		m, err := stream.GetMsg(ctx, p.sequence)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := r.publishCut(ctx, p, m); err != nil {
			return err
		}
	}
	err = stream.SecureDeleteMsg(ctx, p.sequence)
	if err != nil {
		if _, look := stream.GetMsg(ctx, p.sequence); errors.Is(look, jetstream.ErrMsgNotFound) {
			return nil
		}
	}
	return err
}

// publishCut publishes another's event again, without the person. It keeps its
// Svix-Id, by which audit knows it, and its version.
func (r *run) publishCut(ctx context.Context, p place, m *jetstream.RawStreamMsg) error {
	e, ok := erased.Read(m.Data)
	if !ok {
		return nil // found by its text: it goes whole
	}
	var holds func(string) bool
	if e.Owner == "" {
		f := &findings{spellings: map[string]bool{}}
		holds = func(text string) bool { return r.in(f, text) }
	}
	body, paths := e.Without(r.ids, holds)
	h := nats.Header{}
	for key, values := range m.Header {
		if !strings.HasPrefix(key, "Nats-") || key == streams.HeaderTTL {
			h[key] = values
		}
	}
	if before := h.Get(streams.HeaderRedacted); before != "" {
		paths = append(strings.Split(before, ","), paths...)
	}
	h.Set(streams.HeaderRedacted, strings.Join(paths, ","))
	h.Set(streams.HeaderMsgID, newID(p, m))
	if h.Get(streams.HeaderSink) != "" {
		h.Set(streams.HeaderAttempts, strconv.Itoa(attempt(m.Header)+1))
	}
	_, err := r.JetStream.PublishMsg(ctx, &nats.Msg{Subject: m.Subject, Header: h, Data: body})
	return err
}

func attempt(h nats.Header) int {
	n, err := strconv.Atoi(h.Get(streams.HeaderAttempts))
	if err != nil || n < 1 {
		return 1
	}
	return n
}

// newID is the same for each attempt to cut a message. A letter's says which one
// of the event it is: it counts as another attempt.
func newID(p place, m *jetstream.RawStreamMsg) string {
	id := m.Header.Get(streams.HeaderMsgID)
	if m.Header.Get(streams.HeaderSink) == "" {
		return "cut:" + strconv.FormatUint(p.sequence, 10) + ":" + id
	}
	n := attempt(m.Header)
	return strings.TrimSuffix(id, ":"+strconv.Itoa(n)) + ":" + strconv.Itoa(n+1)
}
