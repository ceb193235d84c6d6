package replay

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nats.go"

	"github.com/rollcall-dev/rollcall/internal/consume"
	"github.com/rollcall-dev/rollcall/streams"
)

// Sink is a store as a Target, or what else applies events beside the log.
type Sink struct{ *consume.Again }

// Put implements Target.
func (s Sink) Put(ctx context.Context, events []streams.Message) error { return s.Apply(ctx, events) }

// Line is an event in a file of JSON Lines.
type Line struct {
	Subject  string      `json:"subject"`
	Epoch    int64       `json:"epoch"`    // of the stream: its creation time in nanoseconds since 1970
	Sequence uint64      `json:"sequence"` // in the stream
	Time     time.Time   `json:"time"`     // when JetStream stored it
	Headers  nats.Header `json:"headers"`
	Body     string      `json:"body"`                  // as received; "" where Bytes has it
	Bytes    []byte      `json:"body_base64,omitempty"` // a body that isn't UTF-8
}

// File is a writer of JSON Lines as a Target.
type File struct{ W io.Writer }

// Put implements Target. Whole lines have left the process when it returns.
func (f File) Put(_ context.Context, events []streams.Message) error {
	w := bufio.NewWriterSize(f.W, 1<<20)
	lines := json.NewEncoder(w)
	lines.SetEscapeHTML(false)
	for _, m := range events {
		l := Line{Subject: m.Subject, Epoch: m.Epoch, Sequence: m.Sequence, Time: m.Time.UTC(), Headers: m.Header, Body: string(m.Data)}
		if !utf8.Valid(m.Data) {
			l.Body, l.Bytes = "", m.Data
		}
		if err := lines.Encode(l); err != nil {
			return fmt.Errorf("write events: %w", err)
		}
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("write events: %w", err)
	}
	return nil
}

// HeaderSubject says where in the log a replayed message comes from; its epoch
// and sequence are in streams.HeaderEpoch and streams.HeaderSequence.
const HeaderSubject = "Rollcall-Subject"

const flushLimit = 30 * time.Second

// Subject publishes events as plain NATS messages, which whoever listens gets.
// With To "x.>" the event's own subject takes the place of the ">".
type Subject struct {
	NATS *nats.Conn
	To   string
}

// Put implements Target. The server has the messages when it returns.
func (s Subject) Put(ctx context.Context, events []streams.Message) error {
	for _, m := range events {
		if err := s.NATS.PublishMsg(s.message(m)); err != nil {
			return fmt.Errorf("publish to %s: %w", s.To, err)
		}
	}
	flushing, cancel := context.WithTimeout(ctx, flushLimit)
	defer cancel()
	if err := s.NATS.FlushWithContext(flushing); err != nil {
		return fmt.Errorf("publish to %s: %w", s.To, err)
	}
	return nil
}

// message is an event without what would be an order to a stream that listens.
func (s Subject) message(m streams.Message) *nats.Msg {
	to := s.To
	if prefix, ok := strings.CutSuffix(to, ">"); ok {
		to = prefix + m.Subject
	}
	header := nats.Header{}
	for key, values := range m.Header {
		if !strings.HasPrefix(key, "Nats-") {
			header[key] = values
		}
	}
	header.Set(HeaderSubject, m.Subject)
	header.Set(streams.HeaderEpoch, strconv.FormatInt(m.Epoch, 10))
	header.Set(streams.HeaderSequence, strconv.FormatUint(m.Sequence, 10))
	return &nats.Msg{Subject: to, Header: header, Data: m.Data}
}
