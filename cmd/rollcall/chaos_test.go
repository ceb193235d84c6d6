package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
)

// Whatever is killed, and whenever: what got a 2xx is in the log once and its
// row is right, and so is what got none and was sent again.
func TestSoakKilledInTurn(t *testing.T) {
	t.Parallel()
	p := newPipeline(t)
	ingest, store := p.run("ingest"), p.run("store")
	p.watch()
	const seed = 1
	s, random := load(t, ingest, seed), rand.New(rand.NewPCG(seed, 1))
	for range sized(4, 60) {
		for _, victim := range random.Perm(3) {
			s.more(50 + random.IntN(200))
			time.Sleep(time.Duration(random.IntN(100)) * time.Millisecond) // at no moment in particular
			switch victim {
			case 0:
				ingest.kill()
				time.Sleep(time.Duration(random.IntN(200)) * time.Millisecond)
				ingest.start()
			case 1:
				store.kill()
				time.Sleep(time.Duration(random.IntN(200)) * time.Millisecond)
				store.start()
			case 2:
				p.nats.Kill()
				time.Sleep(time.Duration(random.IntN(200)) * time.Millisecond)
				p.nats.Start()
			}
		}
	}
	s.more(100)
	all := s.finish()
	if unanswered := s.answered()[0]; unanswered == 0 {
		t.Error("nothing was in flight when ingest was killed")
	}
	p.caughtUp()
	p.once(all)
	p.right(all)
	p.appliedOnce()
}

// replicas are two processes on one store.
type replicas struct {
	*pipeline
	procs [2]*proc
}

// working finds the replica that holds the lease.
func (r *replicas) working() (worker, standby *proc) {
	r.t.Helper()
	stacktest.Eventually(r.t, patience, func() error {
		for i, p := range r.procs {
			if p.metric("rollcall_consume_working") == 1 {
				worker, standby = p, r.procs[1-i]
				return nil
			}
		}
		return errors.New("no replica works")
	})
	return worker, standby
}

func newReplicas(t testing.TB) *replicas {
	p := newPipeline(t)
	r := &replicas{p, [2]*proc{p.run("store"), p.run("store")}}
	p.watch()
	return r
}

// How long a standby may take: the lease's 3 seconds, and what a busy machine
// adds; where the worker froze with the writer lock held, also the 10 seconds
// after which Postgres ends its transaction.
const (
	takeover       = 10 * time.Second
	takeoverFrozen = 20 * time.Second
)

func TestSoakWorkerKilledOrFrozen(t *testing.T) {
	t.Parallel()
	r := newReplicas(t)
	ingest := r.run("ingest")
	const seed = 2
	s, random := load(t, ingest, seed), rand.New(rand.NewPCG(seed, 1))
	for round := range sized(3, 40) {
		s.more(100)
		time.Sleep(time.Duration(random.IntN(100)) * time.Millisecond)
		worker, standby := r.working()
		frozen := round%2 == 1
		if frozen {
			worker.signal(syscall.SIGSTOP)
		} else {
			worker.kill()
		}
		_, at, err := r.position()
		if err != nil {
			t.Fatal(err)
		}
		// What it had sent may still come through; then the standby goes on.
		took := r.passes(at + 200)
		stacktest.Eventually(t, patience, func() error {
			if standby.metric("rollcall_consume_working") != 1 {
				return errors.New("the standby doesn't work")
			}
			return nil
		})
		t.Logf("frozen %t: the standby took over within %s", frozen, took)
		limit := takeover
		if frozen { // at no moment in particular
			limit = takeoverFrozen
		}
		if took > limit {
			t.Errorf("the standby took over after %s", took)
		}
		if frozen {
			s.more(200)
			worker.signal(syscall.SIGCONT) // a zombie: it believes that it holds the lease
		} else {
			worker.start()
		}
		worker.is("ok")
	}
	s.more(100)
	all := s.finish()
	r.caughtUp()
	r.once(all)
	r.right(all)
	r.appliedOnce()
}

// A worker that freezes with the writer lock held: Postgres ends its
// transaction, and a standby goes on.
func TestFrozenInTransaction(t *testing.T) {
	t.Parallel()
	r := newReplicas(t)
	ingest := r.run("ingest")
	s := load(t, ingest, 3)
	r.exec(`create function watched.slow() returns trigger language plpgsql as $$ begin perform pg_sleep(0.2); return new; end $$;
create trigger slow before update on clerk.sync_status for each row execute function watched.slow()`)
	var worker *proc
	stacktest.Eventually(t, patience, func() error {
		if worker != nil {
			worker.signal(syscall.SIGCONT)
		}
		s.more(1)
		worker, _ = r.working()
		stacktest.Eventually(t, patience, func() error { return r.holding(`state = 'active'`) })
		worker.signal(syscall.SIGSTOP)
		time.Sleep(500 * time.Millisecond) // what Postgres is at ends, and the client is to speak
		return r.holding(`state = 'idle in transaction'`)
	})
	r.takesOver(t, s, worker, takeoverFrozen)
}

// holding reports that no session in that state holds the writer lock.
func (r *replicas) holding(state string) error {
	var n int
	err := r.query([]any{&n}, `select count(*) from pg_locks l join pg_stat_activity a using (pid)
where l.locktype = 'advisory' and l.granted and a.datname = current_database() and `+state)
	if err == nil && n == 0 {
		err = fmt.Errorf("no session with %s holds the writer lock", state)
	}
	return err
}

// takesOver expects the standby to go on while the worker is frozen, and the
// same end when it wakes.
func (r *replicas) takesOver(t *testing.T, s *sender, worker *proc, limit time.Duration) {
	t.Helper()
	_, at, err := r.position()
	if err != nil {
		t.Fatal(err)
	}
	took := r.passes(at)
	t.Logf("a standby took over within %s", took)
	if took > limit {
		t.Errorf("a standby took over after %s, want %s at the most", took, limit)
	}
	s.more(50)
	worker.signal(syscall.SIGCONT)
	worker.is("ok")
	all := s.finish()
	r.caughtUp()
	r.once(all)
	r.right(all)
	r.appliedOnce()
}

// A worker that freezes while it sends a statement is beyond Postgres's
// time-outs: the standby ends its session.
func TestFrozenInStatement(t *testing.T) {
	t.Parallel()
	p := newPipeline(t)
	line := newLine(t, p.db.URL)
	r := &replicas{pipeline: p}
	direct := p.db.URL
	p.db.URL = line.url
	r.procs[0] = p.run("store")
	p.db.URL = direct
	r.procs[1] = p.run("store")
	p.watch()
	ingest := r.run("ingest")
	worker, _ := r.working()
	if worker != r.procs[0] {
		t.Fatal("the first replica doesn't work")
	}
	s := load(t, ingest, 4)
	s.more(50)
	r.passes(0)
	line.cut.Store(true)
	select {
	case <-line.held:
	case <-time.After(patience):
		t.Fatal("the worker sends no statement")
	}
	worker.signal(syscall.SIGSTOP)
	if err := r.holding(`state = 'active' and wait_event = 'ClientRead'`); err != nil {
		t.Fatal(err)
	}
	r.takesOver(t, s, worker, 45*time.Second)
}

// line leads to Postgres, and can go dead in the middle of a transaction.
type line struct {
	url  string
	cut  atomic.Bool   // the next row's statement is the last thing that gets through
	held chan struct{} // closed when it has
}

func newLine(t testing.TB, databaseURL string) *line {
	t.Helper()
	u, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l, server := &line{held: make(chan struct{})}, u.Host
	u.Host = ln.Addr().String()
	l.url = u.String()
	var open sync.WaitGroup
	t.Cleanup(func() {
		ln.Close()
		open.Wait()
	})
	open.Go(func() {
		for {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			open.Go(func() { l.connect(t.Context(), client, server) })
		}
	})
	return l
}

func (l *line) connect(ctx context.Context, client net.Conn, address string) {
	defer client.Close()
	server, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	defer server.Close()
	defer context.AfterFunc(ctx, func() { client.Close(); server.Close() })()
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(client, server) // either side may end it
		client.Close()
	})
	if !l.forward(client, server) {
		server.Close()
	}
	back.Wait()
}

// forward passes on what the client says, message by message. It is true where
// the line went dead: the server then hears nothing more, not even an end.
func (l *line) forward(client io.Reader, server io.Writer) (dead bool) {
	started := false // the messages before have no type
	for {
		head := make([]byte, 5)
		if !started {
			head = head[1:]
		}
		if _, err := io.ReadFull(client, head); err != nil {
			return false
		}
		body := make([]byte, binary.BigEndian.Uint32(head[len(head)-4:])-4)
		if _, err := io.ReadFull(client, body); err != nil {
			return false
		}
		if _, err := server.Write(append(head, body...)); err != nil {
			return false
		}
		if !started {
			const protocol3 = 3 << 16
			started = binary.BigEndian.Uint32(body) == protocol3
			continue
		}
		if head[0] == 'P' && bytes.Contains(body, []byte("insert into")) && l.cut.CompareAndSwap(true, false) {
			close(l.held)
			return true
		}
	}
}
