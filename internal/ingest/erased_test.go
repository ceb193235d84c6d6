package ingest_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/rollcall-dev/rollcall/internal/erased"
	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
	"github.com/rollcall-dev/rollcall/streams"
)

// people are who was erased, once they are known.
type people struct {
	*erased.IDs
	known atomic.Bool
}

func (p *people) Wait(context.Context) error {
	if p.known.Load() {
		return nil
	}
	return errors.New("not known")
}

// Nothing is stored while it isn't known who was erased; then what names one is
// stored cut.
func TestErased(t *testing.T) {
	t.Parallel()
	who := &people{IDs: erased.NewIDs("user_1")}
	r := newRig(t, stacktest.NATS(t), func(s *settings) { s.Erased = who })
	body := `{"type":"user.updated","timestamp":1790000000000,"instance_id":"ins_1","data":{"id":"user_1","first_name":"Ada"}}`
	if got := r.send("msg_1", body); got.status != 503 {
		t.Errorf("answered %d while nobody knows", got.status)
	}
	who.known.Store(true)
	if got := r.send("msg_1", body); got.status != 204 {
		t.Fatalf("answered %d", got.status)
	}
	m, _ := r.last(inLog)
	if strings.Contains(string(m.Data), "Ada") || !strings.Contains(string(m.Data), `"id":"user_1"`) || m.Header.Get(streams.HeaderRedacted) == "" {
		t.Errorf("stored %v %s", m.Header, m.Data)
	}
}
