package audit

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go/jetstream"
	svix "github.com/svix/svix-webhooks/go"
	"go.uber.org/zap"

	"github.com/rollcall-dev/rollcall/internal/clerk"
	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
	"github.com/rollcall-dev/rollcall/streams"
)

const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// broker is where anchors go.
type broker struct{ js jetstream.JetStream }

func (b broker) JetStream() (jetstream.JetStream, error) { return b.js, nil }

func newBroker(t testing.TB) broker {
	t.Helper()
	js, err := jetstream.New(stacktest.NATS(t).Connect(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := streams.Apply(t.Context(), js, streams.Names{}.Definitions(streams.Options{})); err != nil {
		t.Fatal(err)
	}
	return broker{js}
}

// sign signs a message as Svix does.
func sign(t testing.TB, m *streams.Message) {
	t.Helper()
	w, err := svix.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	signature, err := w.Sign(m.Header.Get(streams.HeaderSvixID), m.Time, m.Data)
	if err != nil {
		t.Fatal(err)
	}
	m.Header.Set(streams.HeaderSvixSignature, signature)
}

// anchored is a log of n signed events, its end anchored after each ten.
func anchored(t testing.TB, n int) (*rig, broker) {
	t.Helper()
	r, b := newRig(t), newBroker(t)
	for r.n < n {
		var batch []streams.Message
		for range 10 {
			m := r.user("updated", r.n%7, "")
			sign(t, &m)
			batch = append(batch, m)
		}
		r.append(batch...)
		r.anchor(b)
	}
	return r, b
}

func (r *rig) anchor(b Broker) {
	r.t.Helper()
	a := NewAnchors(b, streams.Names{}, r.log.o.Metrics, zap.NewNop())
	a.Committed(r.head)
	a.write(r.t.Context())
}

func (r *rig) verify(b Broker) Report {
	r.t.Helper()
	v, err := clerk.NewVerifier([]string{secret})
	if err != nil {
		r.t.Fatal(err)
	}
	o := VerifyOptions{Verifier: v}
	if b != nil {
		o.Anchors = b
	}
	report, err := r.log.Verify(context.WithoutCancel(r.t.Context()), o)
	if err != nil {
		r.t.Fatal(err)
	}
	return report
}

func TestVerifyWhole(t *testing.T) {
	t.Parallel()
	r, b := anchored(t, 3000)
	own := r.event("rollcall.backfill", "run_1", `{"id":"run_1"}`)
	own.Header.Del(streams.HeaderSvixTimestamp)
	code := r.event("sms.created", "sms_1", `{"message":null}`)
	code.Header.Set(streams.HeaderRedacted, "data.message")
	r.append(own, code)
	got := r.verify(b)
	want := Report{OK: true, Rows: 3002, First: 1, Last: 3002, Anchors: 300, Signatures: Signatures{Checked: 3000, Redacted: 1, None: 1}}
	if got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	from, err := r.log.Verify(t.Context(), VerifyOptions{From: 2995, Anchors: b})
	if err != nil || !from.OK || from.Rows != 8 || from.First != 2995 || from.Anchors != 1 {
		t.Errorf("from row 2995: %+v, %v", from, err)
	}
	if empty := newRig(t).verify(b); empty.OK || empty.Broken.Kind != BrokenEnd {
		t.Errorf("an empty log beside anchors: %+v", empty)
	}
	if empty := newRig(t).verify(nil); !empty.OK || empty.Rows != 0 {
		t.Errorf("an empty log: %+v", empty)
	}
}

// doc is a block of deploy/docs/audit.md.
func doc(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile("../../deploy/docs/audit.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, there := strings.Cut(string(text), "<!-- "+name)
	_, block, fenced := strings.Cut(block, "```sql\n")
	block, _, ends := strings.Cut(block, "```")
	if !there || !fenced || !ends {
		t.Fatalf("deploy/docs/audit.md has no block %s", name)
	}
	return block
}

// attack does as a superuser does who may switch triggers off.
func (r *rig) attack(sql string) {
	r.t.Helper()
	if err := r.as(r.db.AdminURL, `set session_replication_role = replica; `+sql); err != nil {
		r.t.Fatal(err)
	}
}

// rewrite computes digests and hashes anew from a row on, by the documentation.
func (r *rig) rewrite(from int) {
	r.t.Helper()
	functions, _, _ := strings.Cut(doc(r.t, "verifier"), "select e.seq from")
	r.attack(functions + fmt.Sprintf(`do $$
declare
    e rollcall_audit.events;
    before bytea := coalesce((select hash from rollcall_audit.events where seq < %[1]d order by seq desc limit 1), decode(repeat('00', 32), 'hex'));
    n bigint := %[1]d - 1;
    old bigint;
begin
    for e in select * from rollcall_audit.events where seq >= %[1]d order by seq, event_id loop
        old := e.seq; n := n + 1; e.seq := n;
        e.prev_hash := before;
        e.digests[2] := sha256(e.salts[2] || convert_to(e.client_ip, 'utf8'));
        e.digests[5] := sha256(e.salts[5] || e.payload);
        e.hash := pg_temp.row_hash(e);
        update rollcall_audit.events set seq = e.seq, prev_hash = e.prev_hash, digests = e.digests, hash = e.hash where seq = old and event_id = e.event_id;
        before := e.hash;
    end loop;
    update rollcall_audit.sync_status set seq = n, hash = before;
end $$`, from))
}

// Whatever a superuser does to rows, verify finds the place; also where every
// hash from there on was computed anew.
func TestVerifyFindsTheEdit(t *testing.T) {
	t.Parallel()
	const swap = `create temp table two as select * from rollcall_audit.events where seq in (25, 26);
delete from rollcall_audit.events where seq in (25, 26); update two set seq = 51 - seq; insert into rollcall_audit.events select * from two`
	const insert = `create temp table one as select * from rollcall_audit.events where seq = 25;
update one set seq = %d, event_id = 'msg_forged', svix_signature = null; insert into rollcall_audit.events select * from one`
	const lastRow = `update rollcall_audit.sync_status s set seq = e.seq, hash = e.hash from (select seq, hash from rollcall_audit.events order by seq desc limit 1) e`
	for name, c := range map[string]struct {
		sql     string
		rewrite int // from this row; 0: hashes stay as they are
		kind    string
		seq     int64
	}{
		"type changed":                      {`update rollcall_audit.events set type = 'user.banned' where seq = 25`, 0, BrokenRow, 25},
		"address changed":                   {`update rollcall_audit.events set client_ip = '10.0.0.1' where seq = 25`, 0, BrokenValue, 25},
		"payload taken out":                 {`update rollcall_audit.events set payload = null, salts[5] = null where seq = 25`, 0, BrokenValue, 25},
		"payload taken out, digest and all": {`update rollcall_audit.events set payload = null, salts[5] = null, digests[5] = null where seq = 25`, 0, BrokenRow, 25},
		"first changed":                     {`update rollcall_audit.events set type = 'x' where seq = 1`, 0, BrokenRow, 1},
		"last changed":                      {`update rollcall_audit.events set type = 'x' where seq = 60`, 0, BrokenRow, 60},
		"deleted":                           {`delete from rollcall_audit.events where seq = 25`, 0, BrokenMissing, 25},
		"swapped":                           {swap, 0, BrokenRow, 25},
		"inserted":                          {fmt.Sprintf(insert, 61), 0, BrokenEnd, 61},
		"inserted twice":                    {`create temp table one as select * from rollcall_audit.events where seq = 25; update one set received_at = received_at + interval '1 s'; insert into rollcall_audit.events select * from one`, 0, BrokenLink, 25},
		"cut off":                           {`delete from rollcall_audit.events where seq > 25`, 0, BrokenMissing, 26},
		"truncated":                         {`truncate rollcall_audit.events`, 0, BrokenMissing, 1},
		"beginning cut off":                 {`delete from rollcall_audit.events where seq < 25`, 0, BrokenMissing, 1},
		"end forged":                        {`update rollcall_audit.sync_status set hash = decode(repeat('11', 32), 'hex')`, 0, BrokenEnd, 60},

		"type changed, rewritten":      {`update rollcall_audit.events set type = 'user.banned' where seq = 25`, 25, BrokenAnchor, 30},
		"payload changed, rewritten":   {`update rollcall_audit.events set payload = 'forged' where seq = 25`, 25, BrokenSignature, 25},
		"address changed, rewritten":   {`update rollcall_audit.events set client_ip = '10.0.0.1' where seq = 25`, 25, BrokenAnchor, 30},
		"deleted, rewritten":           {`delete from rollcall_audit.events where seq = 25`, 25, BrokenAnchor, 30},
		"swapped, rewritten":           {swap, 25, BrokenAnchor, 30},
		"inserted, rewritten":          {fmt.Sprintf(insert, 26), 25, BrokenAnchor, 30},
		"cut off, end moved":           {`delete from rollcall_audit.events where seq > 25; ` + lastRow, 0, BrokenEnd, 26},
		"cut off at an anchor":         {`delete from rollcall_audit.events where seq > 30; ` + lastRow, 0, BrokenEnd, 31},
		"all of it rewritten":          {`update rollcall_audit.events set source = 'operator'`, 1, BrokenAnchor, 10},
		"last changed, rewritten":      {`update rollcall_audit.events set type = 'x' where seq = 60`, 60, BrokenAnchor, 60},
		"beginning cut off, as pruned": {`insert into rollcall_audit.prunes (before, last_seq, last_hash) select now(), seq, hash from rollcall_audit.events where seq = 24; delete from rollcall_audit.events where seq < 25`, 0, BrokenPrune, 25},
		"deleted, as pruned":           {`insert into rollcall_audit.pruned select seq, hash from rollcall_audit.events where seq = 25; insert into rollcall_audit.prunes (before, last_seq, last_hash) values (now(), 0, decode(repeat('00', 32), 'hex')); delete from rollcall_audit.events where seq = 25`, 0, BrokenPrune, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, b := anchored(t, 60)
			if got := r.verify(b); !got.OK {
				t.Fatalf("before: %+v", got.Broken)
			}
			r.attack(c.sql)
			if c.rewrite > 0 {
				r.rewrite(c.rewrite)
			}
			got := r.verify(b)
			if got.OK || got.Broken == nil || got.Broken.Kind != c.kind || got.Broken.Seq != c.seq {
				t.Fatalf("%+v, %+v; want %s at %d", got, got.Broken, c.kind, c.seq)
			}
			if c.kind == BrokenAnchor && (got.Broken.After >= c.seq || got.Broken.After < c.seq-10) {
				t.Errorf("the place lies between %d and %d", got.Broken.After, got.Broken.Seq)
			}
		})
	}
}

// The documentation is enough to verify the chain by.
func TestOutsidersVerifier(t *testing.T) {
	t.Parallel()
	r, _ := anchored(t, 50)
	odd := r.event("organization.updated", "org_1", `{"id":"org_1","name":"Ünï\u0000"}`)
	odd.Header.Del(streams.HeaderSvixSignature)
	odd.Data = []byte(`no JSON`)
	r.append(odd)
	broken := func() (rows []int64) {
		conn, err := pgx.Connect(t.Context(), r.db.OwnerURL)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(context.Background())
		functions, query, _ := strings.Cut(doc(t, "verifier"), "select e.seq from")
		if _, err := conn.PgConn().Exec(t.Context(), functions).ReadAll(); err != nil {
			t.Fatal(err)
		}
		found, err := conn.Query(t.Context(), "select e.seq from"+query)
		if err != nil {
			t.Fatal(err)
		}
		rows, err = pgx.CollectRows(found, pgx.RowTo[int64])
		if err != nil {
			t.Fatal(err)
		}
		return rows
	}
	if rows := broken(); len(rows) > 0 {
		t.Errorf("broken at %v", rows)
	}
	r.attack(`update rollcall_audit.events set user_agent = 'x' where seq = 7; update rollcall_audit.events set instance_id = 'x' where seq = 9`)
	if rows := broken(); fmt.Sprint(rows) != "[7 9]" {
		t.Errorf("edits of 7 and 9 are found at %v", rows)
	}
}

// Anchors come after at most so many rows, or in time, and once more at the end;
// one that can't be written is made up for.
func TestAnchors(t *testing.T) {
	t.Parallel()
	r, b := newRig(t), newBroker(t)
	a := NewAnchors(b, streams.Names{}, r.log.o.Metrics, zap.NewNop())
	a.every = time.Hour
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { a.Run(ctx); close(ended) }()
	count := func() uint64 {
		s, err := b.js.Stream(t.Context(), "CLERK_ANCHORS")
		if err != nil {
			t.Fatal(err)
		}
		return s.CachedInfo().State.Msgs
	}
	written := func(want uint64) {
		t.Helper()
		stacktest.Eventually(t, 10*time.Second, func() error {
			if n := count(); n != want {
				return fmt.Errorf("%d anchors, want %d", n, want)
			}
			return nil
		})
	}
	a.Committed(Head{Seq: 1, Hash: [32]byte{3}}) // after so long
	written(1)
	stacktest.Eventually(t, 10*time.Second, func() error {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.written != 1 {
			return errors.New("the writer hasn't noted the anchor")
		}
		return nil
	})
	a.Committed(Head{Seq: 999})
	a.Committed(Head{Seq: 1001, Hash: [32]byte{1}})
	written(2)
	a.Committed(Head{Seq: 1002, Hash: [32]byte{2}, Position: streams.Position{Epoch: epoch, Sequence: 1005}})
	stop()
	<-ended
	reader, err := readAnchors(t.Context(), b, streams.Names{})
	if err != nil {
		t.Fatal(err)
	}
	defer reader.stop()
	var got []string
	for v, err := reader.peek(); v != nil || err != nil; v, err = reader.peek() {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprint(v.Kind, v.Seq, v.Hash[:4], v.StreamSeq))
		reader.drop()
	}
	if want := "[head1 " + hex.EncodeToString([]byte{3, 0}) + "0 head1001 " + hex.EncodeToString([]byte{1, 0}) + "0 head1002 " + hex.EncodeToString([]byte{2, 0}) + "1005]"; strings.ReplaceAll(fmt.Sprint(got), " ", "") != strings.ReplaceAll(want, " ", "") {
		t.Errorf("anchors %v, want %s", got, want)
	}
}
