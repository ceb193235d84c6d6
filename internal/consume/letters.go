package consume

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rollcall-dev/rollcall/streams"
)

// Letter is a dead letter.
type Letter struct {
	ID       string      `json:"id"` // its message id: the sink, where the event stands in the log, the attempt
	Time     time.Time   `json:"time"`
	Sink     string      `json:"sink"`
	Type     string      `json:"type"`
	EntityID string      `json:"entity_id"`
	Attempts string      `json:"attempts"`
	Reason   string      `json:"reason"`
	Header   nats.Header `json:"headers,omitempty"`
	Body     string      `json:"body,omitempty"` // as stored, which need not be JSON

	sequence   uint64 // in the dead letters
	size       int    // bytes of the body
	epoch      int64  // of the log's stream
	instanceID string
}

// Selection says which letters; its zero value means all.
type Selection struct {
	IDs      []string
	Sink     string    // "store-app"
	Resource string    // Clerk's name, "organizationMembership"
	Reason   string    // a part of it
	Since    time.Time // became letters then or later
	Whole    bool      // read headers and bodies too
}

// Empty reports whether nothing narrows the selection.
func (s Selection) Empty() bool {
	return len(s.IDs) == 0 && s.Sink == "" && s.Resource == "" && s.Reason == "" && s.Since.IsZero()
}

func (s Selection) has(l *Letter) bool {
	return (len(s.IDs) == 0 || slices.Contains(s.IDs, l.ID)) && strings.Contains(l.Reason, s.Reason)
}

func (s Selection) subjects(n streams.Names) string {
	token := func(value string) string {
		if value == "" {
			return "*"
		}
		return streams.Token(value)
	}
	return strings.TrimSuffix(n.DeadSubjects(), ">") + token(s.Sink) + "." + token(s.Resource) + ".*.*"
}

// ReadLetters reads the letters of a selection that there are now, oldest first. An
// id that isn't there is an error.
func ReadLetters(ctx context.Context, js jetstream.JetStream, n streams.Names, s Selection) (letters []Letter, err error) {
	err = eachLetter(ctx, js, n, s, func(l Letter) bool {
		if s.has(&l) {
			if !s.Whole {
				l.Header, l.Body = nil, ""
			}
			letters = append(letters, l)
		}
		return len(s.IDs) == 0 || len(letters) < len(s.IDs)
	})
	if err != nil {
		return nil, fmt.Errorf("dead letters: %w", err)
	}
	for _, id := range s.IDs {
		if !slices.ContainsFunc(letters, func(l Letter) bool { return l.ID == id }) {
			return nil, fmt.Errorf("there is no dead letter %s; rollcall dlq list shows those there are", id)
		}
	}
	return letters, nil
}

func eachLetter(ctx context.Context, js jetstream.JetStream, n streams.Names, s Selection, more func(Letter) bool) error {
	stream, err := js.Stream(ctx, n.DeadStream())
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return fmt.Errorf("there is no stream %s yet: rollcall streams apply makes it", n.DeadStream())
	}
	if err != nil {
		return err
	}
	config := jetstream.OrderedConsumerConfig{FilterSubjects: []string{s.subjects(n)}, HeadersOnly: !s.Whole}
	if !s.Since.IsZero() {
		config.DeliverPolicy, config.OptStartTime = jetstream.DeliverByStartTimePolicy, &s.Since
	}
	consumer, err := stream.OrderedConsumer(ctx, config)
	if err != nil {
		return err
	}
	defer func() { _ = stream.DeleteConsumer(context.WithoutCancel(ctx), consumer.CachedInfo().Name) }() // else it ends by itself
	if consumer.CachedInfo().NumPending == 0 {
		return nil
	}
	messages, err := consumer.Messages()
	if err != nil {
		return err
	}
	defer messages.Stop()
	last := stream.CachedInfo().State.LastSeq
	for {
		m, err := next(ctx, messages)
		if err != nil {
			return err
		}
		meta, err := m.Metadata()
		if err != nil {
			return err
		}
		if meta.Sequence.Stream > last || !more(newLetter(m, meta)) || meta.NumPending == 0 {
			return nil
		}
	}
}

// next is the next message; one that doesn't come is an error.
func next(ctx context.Context, messages jetstream.MessagesContext) (jetstream.Msg, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, ackWait, errors.New("NATS doesn't answer"))
	defer cancel()
	m, err := messages.Next(jetstream.NextContext(ctx))
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return m, err
}

// countLetters counts a sink's letters.
func countLetters(ctx context.Context, js jetstream.JetStream, n streams.Names, sink string) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, ackWait)
	defer cancel()
	consumer, err := js.OrderedConsumer(ctx, n.DeadStream(), jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{Selection{Sink: sink}.subjects(n)}, HeadersOnly: true,
	})
	if err != nil {
		return 0, fmt.Errorf("count dead letters: %w", err)
	}
	info := consumer.CachedInfo()
	_ = js.DeleteConsumer(ctx, n.DeadStream(), info.Name) // else it ends by itself
	return info.NumPending, nil
}

func newLetter(m jetstream.Msg, meta *jetstream.MsgMetadata) Letter {
	h := m.Headers()
	l := Letter{
		ID: h.Get(streams.HeaderMsgID), Time: meta.Timestamp, Sink: h.Get(streams.HeaderSink), Attempts: h.Get(streams.HeaderAttempts),
		Reason: h.Get(streams.HeaderReason), Header: h, Body: string(m.Data()), sequence: meta.Sequence.Stream,
	}
	l.size, _ = strconv.Atoi(h.Get(nats.MsgSize))
	l.epoch, _ = strconv.ParseInt(h.Get(streams.HeaderEpoch), 10, 64)
	// …rollcall.dead.<sink>.<resource>.<action>.<entity_id>
	if parts := strings.Split(m.Subject(), "."); len(parts) >= 3 {
		parts = parts[len(parts)-3:]
		for i := range parts {
			parts[i], _ = streams.ParseToken(parts[i])
		}
		l.Type, l.EntityID = strings.Trim(parts[0]+"."+parts[1], "."), parts[2]
	}
	if parts := strings.Split(h.Get(streams.HeaderSubject), "."); len(parts) >= 4 { // …clerk.<instance_id>.<resource>.<action>.<entity_id>
		l.instanceID, _ = streams.ParseToken(parts[len(parts)-4])
	}
	return l
}

// event is the message that a letter is about, as it was in the log, but for
// the time: that is when it became a letter.
func (l *Letter) event(m *jetstream.RawStreamMsg) (streams.Message, error) {
	h := withoutNATS(m.Header)
	for _, key := range []string{
		streams.HeaderReason, streams.HeaderSink, streams.HeaderEpoch, streams.HeaderSequence, streams.HeaderAttempts, streams.HeaderSubject, streams.HeaderLogMsgID,
	} {
		delete(h, key)
	}
	e := streams.Message{Subject: m.Header.Get(streams.HeaderSubject), Header: h, Data: m.Data, Epoch: l.epoch, Time: m.Time}
	if l.Sink == streams.SinkIngest { // it has never been in the log
		return e, nil
	}
	if id := m.Header.Get(streams.HeaderLogMsgID); id != "" {
		h.Set(streams.HeaderMsgID, id)
	}
	var err error
	e.Sequence, err = strconv.ParseUint(m.Header.Get(streams.HeaderSequence), 10, 64)
	if err != nil || e.Subject == "" || e.Epoch == 0 {
		return e, errors.New("the letter's headers don't say where the event stood in the log")
	}
	return e, nil
}

// attempt is how often the letter's event has been tried.
func (l *Letter) attempt() int {
	n, err := strconv.Atoi(l.Attempts)
	if err != nil || n < 1 {
		return 1
	}
	return n
}

// about is the letter's id without the attempt; the first of ingest's has none.
func (l *Letter) about() string {
	if l.Sink == streams.SinkIngest && l.attempt() == 1 {
		return l.ID
	}
	return strings.TrimSuffix(l.ID, ":"+l.Attempts)
}
