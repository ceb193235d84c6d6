package consume

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rollcall-dev/rollcall/streams"
)

// sendLetter publishes a dead letter: the message as it was, with why, where
// from and how often.
func (s *session) sendLetter(ctx context.Context, m streams.Message, reason error) error {
	subject, err := s.Names.ParseSubject(m.Subject)
	if err != nil {
		subject = streams.Subject{Resource: "unknown", Action: "unknown"}
	}
	name, epoch, sequence := letterName(s.sink), strconv.FormatInt(s.at.Epoch, 10), strconv.FormatUint(m.Sequence, 10)
	header := withoutNATS(m.Header) // of the message in the log: batch, TTL, id
	header.Set(streams.HeaderReason, oneLine(reason.Error()))
	header.Set(streams.HeaderSink, name)
	header.Set(streams.HeaderEpoch, epoch)
	header.Set(streams.HeaderSequence, sequence)
	header.Set(streams.HeaderSubject, m.Subject)
	if id := m.Header.Get(streams.HeaderMsgID); id != "" {
		header.Set(streams.HeaderLogMsgID, id)
	}
	letter := &nats.Msg{Subject: s.Names.DeadSubject(name, subject), Header: header, Data: m.Data}
	id := name + ":" + epoch + ":" + sequence
	err = publishLetter(ctx, s.js, s.Names, letter, id, 1)
	if errors.Is(err, nats.ErrMaxPayload) {
		// The message just fitted, its letter doesn't. Waiting mends nothing.
		letter.Data = nil
		header.Set(streams.HeaderReason, oneLine(reason.Error())+bodyInLog)
		err = publishLetter(ctx, s.js, s.Names, letter, id, 1)
	}
	return err
}

// withoutNATS is a copy without the headers that are NATS's own. Some say how to
// store a message, others come with one that is read by its sequence.
func withoutNATS(h nats.Header) nats.Header {
	own := nats.Header{}
	for key, values := range h {
		if !strings.HasPrefix(key, "Nats-") {
			own[key] = values
		}
	}
	return own
}

const bodyInLog = " (the body leaves no room for a letter's headers: it is in the log only, at this sequence)"

// publishLetter stores a letter unless it is there already. Its id is about,
// which names sink, epoch and sequence, so that a repeated letter is one and two
// sinks' letters about one event are two; and the attempt. JetStream remembers
// the ids of deleted letters too: where a duplicate's original is gone, the
// event has failed again since it was redriven or dropped, and this is its next
// attempt.
func publishLetter(ctx context.Context, js jetstream.JetStream, names streams.Names, letter *nats.Msg, about string, attempt int) error {
	ctx, cancel := context.WithTimeout(ctx, ackWait)
	defer cancel()
	for ; ; attempt++ {
		letter.Header.Set(streams.HeaderMsgID, about+":"+strconv.Itoa(attempt))
		letter.Header.Set(streams.HeaderAttempts, strconv.Itoa(attempt))
		ack, err := js.PublishMsg(ctx, letter)
		if err != nil || !ack.Duplicate {
			return err
		}
		there, err := getLetter(ctx, js, names, ack.Sequence)
		if err != nil || there != nil {
			return err
		}
	}
}

// getLetter reads a letter by its sequence in the dead letters; nil if it is gone.
func getLetter(ctx context.Context, js jetstream.JetStream, names streams.Names, sequence uint64) (*jetstream.RawStreamMsg, error) {
	stream, err := js.Stream(ctx, names.DeadStream())
	if err != nil {
		return nil, err
	}
	m, err := stream.GetMsg(ctx, sequence)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil
	}
	return m, err
}

// letterName is the sink that the letters are of: several readers of the log
// may be one sink to them.
func letterName(s Sink) string {
	if named, ok := s.(interface{ LetterName() string }); ok {
		return named.LetterName()
	}
	return s.Name()
}

const maxReason = 1 << 10 // bytes

// oneLine makes a reason fit for a header.
func oneLine(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	return strings.ToValidUTF8(s[:min(len(s), maxReason)], "\uFFFD")
}

func typeOf(n streams.Names, m streams.Message) string {
	s, err := n.ParseSubject(m.Subject)
	if err != nil {
		return "unknown"
	}
	return s.Type()
}
