package consume

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/rollcall-dev/rollcall/streams"
)

// sendLetter publishes a dead letter: the message as it was, with why, where
// from and how often. Its id names sink, epoch, sequence and attempt, so that
// a repeated letter is one, and two sinks' letters about one event are two.
func (s *session) sendLetter(ctx context.Context, m streams.Message, reason error) error {
	subject, err := s.Names.ParseSubject(m.Subject)
	if err != nil {
		subject = streams.Subject{Resource: "unknown", Action: "unknown"}
	}
	name, epoch, sequence := s.sink.Name(), strconv.FormatInt(s.at.Epoch, 10), strconv.FormatUint(m.Sequence, 10)
	header := maps.Clone(m.Header)
	if header == nil {
		header = nats.Header{}
	}
	for h := range header {
		if strings.HasPrefix(h, "Nats-") { // of the message in the log: batch, TTL, id
			delete(header, h)
		}
	}
	header.Set(streams.HeaderMsgID, fmt.Sprintf("%s:%s:%s:1", name, epoch, sequence))
	header.Set(streams.HeaderReason, oneLine(reason.Error()))
	header.Set(streams.HeaderSink, name)
	header.Set(streams.HeaderEpoch, epoch)
	header.Set(streams.HeaderSequence, sequence)
	header.Set(streams.HeaderAttempts, "1")
	ctx, cancel := context.WithTimeout(ctx, ackWait)
	defer cancel()
	letter := &nats.Msg{Subject: s.Names.DeadSubject(name, subject), Header: header, Data: m.Data}
	_, err = s.js.PublishMsg(ctx, letter)
	if errors.Is(err, nats.ErrMaxPayload) {
		// The message just fitted, its letter doesn't. Waiting mends nothing.
		letter.Data = nil
		header.Set(streams.HeaderReason, oneLine(reason.Error())+" (the body leaves no room for a letter's headers: it is in the log only, at this sequence)")
		_, err = s.js.PublishMsg(ctx, letter)
	}
	return err
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
