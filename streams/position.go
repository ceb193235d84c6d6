package streams

import (
	"time"

	"github.com/nats-io/nats.go"
)

// Message is one message as it lies in the log.
type Message struct {
	Subject  string
	Header   nats.Header
	Data     []byte
	Epoch    int64 // of the stream that gave it the sequence, as in Position
	Sequence uint64
	Time     time.Time // when JetStream stored it
	Pending  uint64    // messages that the reader's filter matches and that came after it, when it was read
}

// Position is how far a reader has come. A sequence alone isn't enough: a
// stream made anew counts from one again, and one restored from an older copy
// gives the same sequences to other messages.
type Position struct {
	Epoch    int64     // the stream's creation time in nanoseconds since 1970
	Sequence uint64    // of the last message done; 0 before the first
	Time     time.Time // when JetStream stored that message
}
