package publish

import (
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
)

// Headers of JetStream's atomic batches (server 2.12, ADR-50), and the error
// of a stream that has them switched off. The client library has no batches,
// and the extension that has them waits for an acknowledgement of the first
// message: a round trip that a commit doesn't need.
const (
	headerBatchID       = "Nats-Batch-Id"
	headerBatchSequence = "Nats-Batch-Sequence"
	headerBatchCommit   = "Nats-Batch-Commit"

	errBatchesDisabled jetstream.ErrorCode = 10174
)

// batch is an atomic batch that is being sent. With one replica the server
// stages it in files of its own, which it begins with the first message: so
// messages leave as they are added, all but the newest, which may have to carry
// the commit.
type batch struct {
	nc      *nats.Conn
	id      string
	entries []*entry // in the order of their numbers in the batch, from 1
	sent    int
	err     error
}

func newBatch(nc *nats.Conn) *batch { return &batch{nc: nc, id: nuid.Next()} }

func (b *batch) add(e *entry) {
	b.entries = append(b.entries, e)
	if n := len(b.entries); n > 1 {
		before := b.label(n-2, false)
		b.sent++
		if err := b.nc.PublishMsg(before.Msg); err != nil && b.err == nil {
			b.err = err
		}
	}
}

// label says which place of the batch a message has.
func (b *batch) label(i int, commit bool) *entry {
	e := b.entries[i]
	values := [...]string{b.id, strconv.Itoa(i + 1), "1"}
	e.Header[headerBatchID] = values[0:1:1]
	e.Header[headerBatchSequence] = values[1:2:2]
	if commit {
		e.Header[headerBatchCommit] = values[2:3:3]
	}
	return e
}

// commit returns the sequence of the batch's last message.
func (b *batch) commit() (uint64, error) {
	if b.err != nil {
		return 0, b.err // the server gives up what it has of it
	}
	ack, err := request(b.nc, b.label(len(b.entries)-1, true).Msg)
	if err == nil && ack.Count != len(b.entries) {
		err = fmt.Errorf("the server acknowledged %d of %d messages", ack.Count, len(b.entries))
	}
	return ack.Sequence, err
}

// disband makes the messages fit to go singly.
func (b *batch) disband() {
	for _, e := range b.entries {
		e.Header.Del(headerBatchID)
		e.Header.Del(headerBatchSequence)
		e.Header.Del(headerBatchCommit)
	}
}
