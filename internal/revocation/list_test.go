package revocation

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/rollcall-dev/rollcall/streams/auth"
)

type anyStatus struct{}

func (anyStatus) OK()             {}
func (anyStatus) Degraded(string) {}

// entry is a key as a watch gives it.
type entry struct {
	jetstream.KeyValueEntry
	key, value string
}

func (e entry) Key() string                     { return e.key }
func (e entry) Value() []byte                   { return []byte(e.value) }
func (e entry) Operation() jetstream.KeyValueOp { return jetstream.KeyValuePut }

// A list that takes long to read is read to its end; only silence begins it anew.
func TestLongReading(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := NewList(ListOptions{Life: 10 * time.Minute, Log: zap.NewNop(), Status: anyStatus{}})
		r := l.Reader()
		cut := entry{key: "user.user_1", value: fmt.Sprintf(`{"not_before":%d}`, time.Now().UnixMilli())}
		made := &auth.Claims{UserID: "user_1", IssuedAt: time.Now()}
		for range 60 {
			r.Take(cut)
			if err := r.Tick(); err != nil {
				t.Fatalf("while it is read: %v", err)
			}
			if _, refused := l.Refuse(made); refused {
				t.Fatal("a list that isn't complete has taken effect")
			}
			time.Sleep(time.Second)
		}
		r.Take(nil)
		if _, refused := l.Refuse(made); !refused || l.Fresh() == nil {
			t.Errorf("complete: refused %t, fresh %v", refused, l.Fresh())
		}
		r.Take(entry{key: WatermarkKey})
		if err := l.Fresh(); err != nil {
			t.Errorf("with a watermark: %v", err)
		}
		time.Sleep(staleAfter)
		if l.Fresh() == nil || r.Tick() != nil {
			t.Error("5 seconds without a watermark: fresh, or begun anew already")
		}
		time.Sleep(watchAgain)
		if r.Tick() == nil {
			t.Error("15 seconds of silence: not begun anew")
		}
	})
}
