package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
)

// auditReplica makes `rollcall run audit` on the pipeline's database, not started.
func (p *pipeline) auditReplica() *proc {
	made := p.proc("audit")
	made.env = append(made.env, "ROLLCALL_AUDIT_DATABASE_URL="+p.db.URL)
	return made
}

// audited waits until the audit log has all that the log holds.
func (p *pipeline) audited() {
	p.t.Helper()
	stacktest.Eventually(p.t, 2*patience, func() error {
		info := p.stream()
		var epoch int64
		var sequence uint64
		err := p.query([]any{&epoch, &sequence}, `select epoch, position from rollcall_audit.sync_status`)
		if err == nil && (epoch != info.Created.UnixNano() || sequence != info.State.LastSeq) {
			err = fmt.Errorf("the audit log stands at %d, the log ends at %d", sequence, info.State.LastSeq)
		}
		return err
	})
}

// auditedOnce expects the log's events in the audit log, each once and in order.
func (p *pipeline) auditedOnce() {
	p.t.Helper()
	ids := p.logged()
	var rows, unordered, gaps int
	var first, last string
	err := p.query([]any{&rows, &unordered, &gaps, &first, &last}, `select count(*), count(*) filter (where stream_seq <= before), count(*) filter (where seq <> n), min(event_id) filter (where seq = 1), max(event_id) filter (where n = rows)
from (select event_id, seq, stream_seq, lag(stream_seq) over w as before, row_number() over w as n, count(*) over () as rows from rollcall_audit.events window w as (order by seq)) e`)
	if err != nil {
		p.t.Fatal(err)
	}
	if rows != len(ids) || unordered+gaps > 0 || first != ids[0] || last != ids[len(ids)-1] {
		p.t.Errorf("%d rows of %d events, %d out of order, %d numbers left out; from %s to %s, want %s to %s", rows, len(ids), unordered, gaps, first, last, ids[0], ids[len(ids)-1])
	}
}

// Whenever it is killed, and whoever takes over: every accepted event is there
// once, in the log's order.
func TestSoakAuditKilled(t *testing.T) {
	t.Parallel()
	p := newPipeline(t)
	ingest := p.run("ingest")
	r := &replicas{pipeline: p}
	for i := range r.procs {
		r.procs[i] = p.auditReplica().start()
		r.procs[i].is("ok")
	}
	const seed = 81
	s, random := load(t, ingest, seed), rand.New(rand.NewPCG(seed, 1))
	for range sized(3, 50) {
		s.more(100 + random.IntN(200))
		time.Sleep(time.Duration(random.IntN(150)) * time.Millisecond) // at no moment in particular
		worker, standby := r.working()
		worker.kill()
		stacktest.Eventually(t, patience, func() error {
			if standby.metric("rollcall_consume_working") != 1 {
				return fmt.Errorf("the standby doesn't work")
			}
			return nil
		})
		worker.start().is("ok")
	}
	s.more(100)
	all := s.finish()
	p.audited()
	p.once(all)
	p.auditedOnce()
	for _, replica := range r.procs {
		replica.stops()
	}
	p.verified()
}

// verified expects `rollcall audit verify` to find every row right, as signed,
// and the last one anchored.
func (p *pipeline) verified() {
	p.t.Helper()
	v := p.auditReplica()
	v.args = []string{"audit", "verify", "--json"}
	if code := v.start().exits(patience); code != 0 {
		p.t.Fatalf("verify exits %d: %s", code, v.said())
	}
	var report struct {
		Rows, Last, Anchors int64
		Signatures          struct{ Checked int64 }
	}
	if err := json.Unmarshal([]byte(v.said()), &report); err != nil {
		p.t.Fatalf("%v: %s", err, v.said())
	}
	if report.Rows == 0 || report.Signatures.Checked != report.Rows || report.Anchors == 0 {
		p.t.Errorf("verified %+v", report)
	}
}
