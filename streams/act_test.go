package streams_test

import (
	"strings"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/streams"
)

func TestAct(t *testing.T) {
	t.Parallel()
	at := time.UnixMilli(1_700_000_000_123)
	m, err := streams.Names{Prefix: "staging"}.Act("ins_1", streams.ActionLetterDropped, "store-app:1:2:1", at, streams.LetterDropped{ID: "store-app:1:2:1", By: "ada@host"})
	if err != nil || m.Subject != "staging.clerk.ins_1.rollcall.letter_dropped.store-app:1:2:1" || m.Header.Get(streams.HeaderMsgID) != "rollcall.letter_dropped:store-app:1:2:1" {
		t.Fatalf("%s %v, %v", m.Subject, m.Header, err)
	}
	e, err := streams.ParseEvent(m.Header, m.Data)
	if err != nil || e.Type != "rollcall.letter_dropped" || e.InstanceID != "ins_1" || !e.Timestamp.Equal(at) || !e.ReceivedAt.Equal(at) || e.Source != streams.SourceOperator {
		t.Errorf("%+v, %v", e, err)
	}
	p, err := e.Payload()
	if dropped, ok := p.(*streams.LetterDropped); !ok || dropped.By != "ada@host" {
		t.Errorf("%+v, %v", p, err)
	}
	m, err = streams.Names{}.Act("", "letter_dropped", strings.Repeat("x", 300), at, nil)
	if err != nil || m.Subject != "clerk._.rollcall.letter_dropped._" {
		t.Errorf("%s, %v", m.Subject, err)
	}
	if p, err := (streams.Event{Type: "rollcall.something_new", Data: []byte("{}")}).Payload(); err != nil {
		t.Error(err)
	} else if _, ok := p.(*streams.Unknown); !ok {
		t.Errorf("an act that this version doesn't know is %T", p)
	}
}
