package ingest_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rollcall-dev/rollcall/internal/ingest"
	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
	"github.com/rollcall-dev/rollcall/streams"
)

func (r *rig) redriver(change func(*ingest.Options), instances ...ingest.Instance) *ingest.Redriver {
	o := ingest.Options{Instances: instances, Codes: ingest.CodesRedact, SessionTTL: time.Hour, MessageTTL: time.Hour}
	if change != nil {
		change(&o)
	}
	return ingest.NewRedriver(o, func() (jetstream.JetStream, error) { return r.js, nil })
}

func letter(id, body string) streams.Message {
	return streams.Message{Time: time.UnixMilli(5), Data: []byte(body), Header: nats.Header{
		streams.HeaderSvixID: {id}, streams.HeaderSvixTimestamp: {"1"}, streams.HeaderSvixSignature: {"v1,x"}, streams.HeaderReceivedAt: {"1234"}, streams.HeaderTraceparent: {"00-x"},
	}}
}

// about is the one message on a subject of the log, without what is JetStream's.
func (r *rig) about(subject string) *jetstream.RawStreamMsg {
	r.t.Helper()
	stream, err := r.js.Stream(r.t.Context(), "CLERK")
	must(r.t, err)
	m, err := stream.GetLastMsgForSubject(r.t.Context(), subject)
	must(r.t, err)
	for _, key := range []string{"Nats-Sequence", "Nats-Stream", "Nats-Subject", "Nats-Time-Stamp", "Nats-Last-Sequence"} {
		delete(m.Header, key)
	}
	return m
}

// A letter becomes the message that the endpoint would have made of it, once.
func TestRedriver(t *testing.T) {
	t.Parallel()
	r := newRig(t, stacktest.NATS(t))
	redriver := r.redriver(nil, ingest.Instance{ID: "ins_1"}, ingest.Instance{ID: "ins_2"})
	code := letter("msg_3", `{"type":"email.created","instance_id":"ins_1","data":{"id":"ema_1","body":"123456"}}`)
	code.Header.Set(streams.HeaderRedacted, "data.data.otp_code")
	letters := []streams.Message{
		letter("msg_1", `{"type":"user.created","instance_id":"ins_2","data":{"id":"user_1"}}`),
		letter("msg_2", `not JSON`), code,
		letter("msg_4", `{"type":"user.created","instance_id":"ins_3","data":{"id":"user_1"}}`),
		letter("msg_5", `{"type":"user.created","data":{"id":"user_1"}}`),
		letter("msg_6", `{"type":"session.ended","instance_id":"ins_1","data":{"id":"sess_1"}}`),
	}
	work, rejected := redriver.Prepare(letters)
	reasons := map[int]string{}
	for i, err := range rejected {
		reasons[i] = err.Error()
	}
	if diff := cmp.Diff(map[int]string{
		1: "the body is not JSON", 3: `the body is of instance "ins_3", which isn't among those configured`, 4: `the body is of instance "", which isn't among those configured`,
	}, reasons); diff != "" {
		t.Error(diff)
	}
	for range 2 { // once in effect
		must(t, redriver.Apply(t.Context(), work))
	}
	if _, n := r.last("CLERK"); n != 3 {
		t.Fatalf("%d messages in the log, want 3", n)
	}
	m := r.about("clerk.ins_2.user.created.user_1")
	if diff := cmp.Diff(nats.Header{
		"Nats-Msg-Id": {"msg_1"}, "Svix-Id": {"msg_1"}, "Svix-Timestamp": {"1"}, "Svix-Signature": {"v1,x"},
		"Rollcall-Source": {"webhook"}, "Rollcall-Received-At": {"1234"}, "traceparent": {"00-x"},
	}, m.Header); diff != "" {
		t.Error(diff)
	}
	if m := r.about("clerk.ins_1.email.created.ema_1"); strings.Contains(string(m.Data), "123456") || m.Header.Get(streams.HeaderRedacted) != "data.data.otp_code,data.body" {
		t.Errorf("%s, redacted %s", m.Data, m.Header.Get(streams.HeaderRedacted))
	}
	if m := r.about("clerk.ins_1.session.ended.sess_1"); m.Header.Get(streams.HeaderTTL) != "1h0m0s" {
		t.Errorf("TTL of a session's event: %v", m.Header)
	}
}

// One instance takes what names none, and, where it has no id, what names any.
func TestRedriverOfOneInstance(t *testing.T) {
	t.Parallel()
	r := newRig(t, stacktest.NATS(t))
	for _, c := range []struct{ id, body, subject string }{
		{"ins_1", `{"type":"user.created","data":{"id":"a"}}`, "clerk.ins_1.user.created.a"},
		{"ins_1", `{"type":"user.created","instance_id":"ins_2","data":{"id":"b"}}`, ""},
		{"", `{"type":"user.created","instance_id":"ins_2","data":{"id":"c"}}`, "clerk.ins_2.user.created.c"},
		{"", `{"type":"user.created","data":{"id":"d"}}`, "clerk._.user.created.d"},
	} {
		redriver := r.redriver(nil, ingest.Instance{ID: c.id})
		work, rejected := redriver.Prepare([]streams.Message{letter(c.body, c.body)})
		if (len(rejected) > 0) != (c.subject == "") {
			t.Errorf("%s for %q: rejected %v", c.body, c.id, rejected)
		}
		must(t, redriver.Apply(t.Context(), work))
		if c.subject != "" {
			r.about(c.subject)
		}
	}
	drop := r.redriver(func(o *ingest.Options) { o.Codes = ingest.CodesDrop }, ingest.Instance{})
	if work, rejected := drop.Prepare([]streams.Message{letter("msg_1", `{"type":"sms.created","data":{"id":"sms_1"}}`)}); len(rejected) > 0 || len(work.([]*nats.Msg)) > 0 {
		t.Errorf("a message that isn't kept: %v, %v", work, rejected)
	}
}

// A log that is full is no fault of the letter's; one that it can't hold is.
func TestRedriverFails(t *testing.T) {
	t.Parallel()
	ns := stacktest.NATS(t)
	r := newRig(t, ns)
	redriver := r.redriver(nil, ingest.Instance{})
	poison := func(err error) bool {
		var p interface{ Poison() bool }
		return errors.As(err, &p) && p.Poison()
	}
	huge, _ := redriver.Prepare([]streams.Message{letter("msg_1", `{"type":"user.created","data":{"id":"a","x":"`+strings.Repeat("x", int(r.js.Conn().MaxPayload()))+`"}}`)})
	if err := redriver.Apply(t.Context(), huge); !poison(err) {
		t.Errorf("larger than the broker takes: %v, want Poison", err)
	}
	small, _ := redriver.Prepare([]streams.Message{letter("msg_2", `{"type":"user.created","data":{"id":"a"}}`)})
	must(t, r.js.DeleteStream(t.Context(), "CLERK"))
	if err := redriver.Apply(t.Context(), small); err == nil || poison(err) {
		t.Errorf("without the log: %v, want trouble", err)
	}
}
