package projection

import (
	"os"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/rollcall-dev/rollcall/streams"
)

// BenchmarkDecode reads a user of about 1.5 kB.
func BenchmarkDecode(b *testing.B) {
	body, err := os.ReadFile("../../cmd/rollcall/examples/user.created.json")
	if err != nil {
		b.Fatal(err)
	}
	d := NewDecoder(streams.Names{}, Resources())
	m := streams.Message{Subject: "clerk.ins_1.user.created.user_1", Header: nats.Header{streams.HeaderSvixID: {"msg_1"}}, Data: body}
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	var changes []*Change
	for b.Loop() {
		changes, _, err = d.Decode(m, changes[:0])
		if err != nil || len(changes) != 1 {
			b.Fatal(changes, err)
		}
	}
}
