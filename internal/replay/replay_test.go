package replay

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
	"github.com/rollcall-dev/rollcall/streams"
)

func TestMain(m *testing.M) { stacktest.Main(m) }

// journal is a log of a test's own.
type journal struct {
	t      *testing.T
	ns     *stacktest.NATSServer
	js     jetstream.JetStream
	events []event
}

type event struct {
	typ, entity string
	sequence    uint64
	names       []string // ids that it is about
}

func newJournal(t *testing.T) *journal {
	t.Helper()
	ns := stacktest.NATS(t)
	js, err := jetstream.New(ns.Connect(t))
	if err != nil {
		t.Fatal(err)
	}
	_, err = js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "CLERK", Subjects: []string{"clerk.>"}, DenyDelete: false, AllowDirect: true})
	if err != nil {
		t.Fatal(err)
	}
	return &journal{t: t, ns: ns, js: js}
}

func (j *journal) add(typ, entity, data string, names ...string) {
	j.t.Helper()
	resource, action, _ := streams.SplitType(typ)
	ack, err := j.js.PublishMsg(j.t.Context(), &nats.Msg{
		Subject: streams.Names{}.Subject(streams.Subject{InstanceID: "ins_1", Resource: resource, Action: action, EntityID: entity}),
		Header:  nats.Header{streams.HeaderSvixID: {fmt.Sprintf("msg_%d", len(j.events))}, "Nats-Msg-Id": {fmt.Sprintf("msg_%d", len(j.events))}},
		Data:    fmt.Appendf(nil, `{"type":%q,"data":%s}`, typ, data),
	})
	if err != nil {
		j.t.Fatal(err)
	}
	j.events = append(j.events, event{typ, entity, ack.Sequence, append(names, entity)})
}

// fill adds events of two users, two organizations and what is between them.
func (j *journal) fill(n int) {
	for i := range n {
		u, o := fmt.Sprintf("user_%d", i%3), fmt.Sprintf("org_%d", i%2)
		switch i % 5 {
		case 0:
			j.add("user.updated", u, fmt.Sprintf(`{"id":%q}`, u))
		case 1:
			j.add("organization.updated", o, fmt.Sprintf(`{"id":%q}`, o))
		case 2:
			m := fmt.Sprintf("mem_%d", i)
			j.add("organizationMembership.created", m, fmt.Sprintf(`{"id":%q,"organization":{"id":%q},"public_user_data":{"user_id":%q}}`, m, o, u), u, o)
		case 3:
			s := fmt.Sprintf("sess_%d", i)
			j.add("session.created", s, fmt.Sprintf(`{"id":%q,"user_id":%q,"organization_id":7}`, s, u), u)
		case 4:
			s := fmt.Sprintf("sub_%d", i)
			j.add("subscription.created", s, fmt.Sprintf(`{"id":%q,"payer":{"organization_id":%q}}`, s, o), o)
		}
	}
}

func (j *journal) run(s Selection, target Target) *Result {
	j.t.Helper()
	r, err := Run(j.t.Context(), Options{JetStream: j.js, Selection: s, Target: target})
	if err != nil {
		j.t.Fatal(err)
	}
	return r
}

// collect keeps what it is given.
type collect struct {
	sequences []uint64
	put       func() error
}

func (c *collect) Put(_ context.Context, events []streams.Message) error {
	for _, m := range events {
		c.sequences = append(c.sequences, m.Sequence)
	}
	if c.put != nil {
		return c.put()
	}
	return nil
}

// Each selection hands over what reading all events by hand finds, in order.
func TestSelections(t *testing.T) {
	t.Parallel()
	j := newJournal(t)
	j.fill(150)
	middle, err := j.js.Stream(t.Context(), "CLERK")
	if err != nil {
		t.Fatal(err)
	}
	at := func(sequence uint64) time.Time {
		m, err := middle.GetMsg(t.Context(), sequence)
		if err != nil {
			t.Fatal(err)
		}
		return m.Time
	}
	about := func(id string) func(event) bool {
		return func(e event) bool { return slices.Contains(e.names, id) }
	}
	for name, c := range map[string]struct {
		Selection
		want func(event) bool
	}{
		"all":      {Selection{}, func(event) bool { return true }},
		"range":    {Selection{From: Point{Sequence: 20}, To: Point{Sequence: 40}}, func(e event) bool { return e.sequence >= 20 && e.sequence <= 40 }},
		"times":    {Selection{From: Point{Time: at(30)}, To: Point{Time: at(60)}}, func(e event) bool { return e.sequence >= 30 && e.sequence <= 60 }},
		"resource": {Selection{Resource: "session"}, func(e event) bool { return strings.HasPrefix(e.typ, "session.") }},
		"type":     {Selection{Resource: "user", Action: "updated"}, func(e event) bool { return e.typ == "user.updated" }},
		"no type":  {Selection{Resource: "user", Action: "created"}, func(event) bool { return false }},
		"user":     {Selection{UserID: "user_1"}, about("user_1")},
		"org":      {Selection{OrganizationID: "org_1"}, about("org_1")},
		"both":     {Selection{UserID: "user_1", OrganizationID: "org_1"}, func(e event) bool { return about("user_1")(e) && about("org_1")(e) }},
		"subjects": {Selection{Subjects: []string{"clerk.*.user.>", "clerk.*.session.*.*"}, UserID: "user_2"}, func(e event) bool {
			return about("user_2")(e) && (e.typ == "user.updated" || e.typ == "session.created")
		}},
		"resource of subjects": {Selection{Subjects: []string{"clerk.*.user.>"}, Resource: "session"}, func(event) bool { return false }},
		"behind the end":       {Selection{From: Point{Sequence: 1000}}, func(event) bool { return false }},
	} {
		t.Run(name, func(t *testing.T) {
			var want []uint64
			types := map[string]int64{}
			for _, e := range j.events {
				if c.want(e) {
					want = append(want, e.sequence)
					types[e.typ]++
				}
			}
			got := &collect{}
			r := j.run(c.Selection, got)
			if !slices.Equal(got.sequences, want) {
				t.Errorf("got %v\nwant %v", got.sequences, want)
			}
			counted := j.run(c.Selection, nil)
			for _, r := range []*Result{r, counted} {
				if int(r.Events) != len(want) || fmt.Sprint(r.Types) != fmt.Sprint(types) || len(want) > 0 && (r.First != want[0] || r.Last != want[len(want)-1]) {
					t.Errorf("%+v", r)
				}
			}
		})
	}
	consumers := middle.ListConsumers(t.Context())
	for c := range consumers.Info() {
		t.Errorf("consumer %s is left", c.Name)
	}
}

// A replay that ends early says where to go on, and the two halves are the whole.
func TestGoesOn(t *testing.T) {
	t.Parallel()
	j := newJournal(t)
	j.fill(5000)
	ctx, cancel := context.WithCancel(t.Context())
	got := &collect{put: func() error { cancel(); return nil }}
	r, err := Run(ctx, Options{JetStream: j.js, Target: got})
	if !errors.Is(err, context.Canceled) || r.Events == 0 || r.Events == 5000 {
		t.Fatalf("%+v, %v", r, err)
	}
	got.put = nil
	rest := j.run(Selection{From: Point{Sequence: r.Next}}, got)
	if rest.Events+r.Events != 5000 || rest.Next != 5001 || !slices.IsSorted(got.sequences) || len(got.sequences) != 5000 {
		t.Errorf("%d and %d events, %d in all; next %d", r.Events, rest.Events, len(got.sequences), rest.Next)
	}
}

// What goes while it is read is passed over, and the end is found all the same.
func TestPurgedMeanwhile(t *testing.T) {
	t.Parallel()
	j := newJournal(t)
	for i := range 3000 {
		j.add("user.updated", fmt.Sprintf("user_%d", i), `{"filler":"`+strings.Repeat("x", 10<<10)+`"}`) // more than is read ahead
	}
	stream, err := j.js.Stream(t.Context(), "CLERK")
	if err != nil {
		t.Fatal(err)
	}
	got := &collect{}
	got.put = func() error { got.put = nil; return stream.Purge(t.Context()) }
	if r := j.run(Selection{}, got); r.Events == 0 || r.Events == 3000 || r.Next != 3001 {
		t.Errorf("%d events, next %d", r.Events, r.Next)
	}
}

// A file has what the log has, also a body that isn't text.
func TestFile(t *testing.T) {
	t.Parallel()
	j := newJournal(t)
	j.fill(4)
	if _, err := j.js.Publish(t.Context(), "clerk.ins_1.user.updated.user_9", []byte("\xff<>&")); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	j.run(Selection{}, File{&b})
	var lines []Line
	text := bufio.NewScanner(&b)
	for text.Scan() {
		var l Line
		if err := json.Unmarshal(text.Bytes(), &l); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, l)
	}
	if len(lines) != 5 || lines[0].Body != `{"type":"user.updated","data":{"id":"user_0"}}` || lines[0].Sequence != 1 || lines[0].Headers.Get(streams.HeaderSvixID) != "msg_0" ||
		lines[0].Time.IsZero() || lines[0].Epoch == 0 || lines[4].Body != "" || string(lines[4].Bytes) != "\xff<>&" {
		t.Errorf("%+v", lines)
	}
	if _, err := Run(t.Context(), Options{JetStream: j.js, Target: File{broken{}}}); err == nil {
		t.Error("a file that can't be written is no trouble")
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, io.ErrShortWrite }

// A subject gets each event, and nothing in it that a stream would obey.
func TestSubject(t *testing.T) {
	t.Parallel()
	j := newJournal(t)
	j.fill(20)
	nc := j.ns.Connect(t)
	for to, where := range map[string]string{"mine": "mine", "copies.>": "copies.clerk.ins_1.user.updated.user_0"} {
		listening, err := nc.SubscribeSync(to)
		if err != nil {
			t.Fatal(err)
		}
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
		j.run(Selection{}, Subject{NATS: nc, To: to})
		for i := range 20 {
			m, err := listening.NextMsg(30 * time.Second)
			if err != nil {
				t.Fatal(err)
			}
			if i == 0 && m.Subject != where || m.Header.Get(streams.HeaderSequence) != strconv.Itoa(i+1) || m.Header.Get(streams.HeaderSvixID) == "" ||
				m.Header.Get(HeaderSubject) == "" || m.Header.Get(streams.HeaderEpoch) == "" || m.Header.Get("Nats-Msg-Id") != "" {
				t.Errorf("%s: %+v", m.Subject, m.Header)
			}
		}
	}
}
