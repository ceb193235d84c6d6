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
	for b.Loop() {
		if c, err := d.Decode(m); err != nil || c == nil {
			b.Fatal(c, err)
		}
	}
}
