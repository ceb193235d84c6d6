package ingest_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/rollcall-dev/rollcall/internal/ingest"
	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
	"github.com/rollcall-dev/rollcall/streams"
)

// open connects and sends text as it is.
func (r *rig) open(text string) net.Conn {
	r.t.Helper()
	c, err := net.Dial("tcp", r.addr)
	must(r.t, err)
	r.t.Cleanup(func() { _ = c.Close() })
	_, err = io.WriteString(c, text)
	must(r.t, err)
	return c
}

func answer(t testing.TB, c net.Conn) reply {
	t.Helper()
	must(t, c.SetReadDeadline(time.Now().Add(15*time.Second)))
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	must(t, err)
	got, err := readReply(resp)
	must(t, err)
	return got
}

// raw is a request whose body is announced with length, be it true or not;
// below 0 it is chunked.
func raw(h http.Header, length int) string {
	var b strings.Builder
	b.WriteString("POST " + ingest.Path + " HTTP/1.1\r\nHost: x\r\n")
	if length < 0 {
		b.WriteString("Transfer-Encoding: chunked\r\n")
	} else {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", length)
	}
	_ = h.Write(&b)
	return b.String() + "\r\n"
}

func chunk(s string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(s), s) }

func TestLengths(t *testing.T) {
	t.Parallel()
	r := newRig(t, stacktest.NATS(t))
	fill := func(n int) string {
		return event("user_1", `,"x":"`+strings.Repeat("x", n-len(event("user_1", `,"x":""`)))+`"`)
	}
	whole, over := fill(mebi), fill(mebi+1)
	for _, c := range []struct {
		name, text string
		status     int
		code       string
	}{
		{"1 MiB in chunks", raw(signed(t, secretA, "msg_1", whole), -1) + chunk(whole[:7]) + chunk(whole[7:]) + "0\r\n\r\n", 204, ""},
		{"1 MiB + 1 byte in chunks", raw(signed(t, secretA, "msg_2", over), -1) + chunk(over[:7]) + chunk(over[7:]) + "0\r\n\r\n", 413, "body_too_large"},
		{"1 MiB + 1 byte announced only", raw(http.Header{}, mebi+1), 413, "body_too_large"},
		{"9 EB announced", raw(http.Header{}, 1<<63-1), 413, "body_too_large"},
		{"no chunk", raw(signed(t, secretA, "msg_3", whole), -1) + "hello\r\n", 400, "body_incomplete"},
	} {
		// It may be answered, and closed, before all has been sent.
		if got := answer(t, r.open(c.text)); got.status != c.status || got.code != c.code {
			t.Errorf("%s: %d %s %s, want %d %s", c.name, got.status, got.code, got.message, c.status, c.code)
		}
	}
	r.stored(inLog, "", "msg_1", whole)

	half := r.open(raw(signed(t, secretA, "msg_half", whole), mebi) + whole[:mebi/2])
	must(t, half.(*net.TCPConn).CloseWrite()) //nolint:forcetypeassert // TCP
	if got := answer(t, half); got.status != 400 || got.code != "body_incomplete" {
		t.Errorf("half a body: %d %s", got.status, got.code)
	}
	gone := r.open(raw(signed(t, secretA, "msg_gone", whole), mebi) + whole[:mebi/2])
	must(t, gone.Close())
	if got := r.send("msg_next", event("user_1", "")); got.status != 204 {
		t.Errorf("the next: %d %s", got.status, got.message)
	}
	if _, n := r.last(inLog); n != 2 {
		t.Errorf("%d stored, want 2", n)
	}
}

// Slow senders are cut off; others don't notice them.
func TestSlowSenders(t *testing.T) {
	t.Parallel()
	const limit = 400 * time.Millisecond
	r := newRig(t, stacktest.NATS(t), func(s *settings) { s.readTimeout = limit })
	body := event("user_1", "")
	start := time.Now()
	var slow []net.Conn
	for i := range 50 {
		slow = append(slow, r.open(raw(signed(t, secretA, "msg_slow", body), len(body))+body[:i]))
	}
	header := r.open("POST " + ingest.Path + " HTTP/1.1\r\nHost: x\r\nSvix-Id: ms")
	if got := r.send("msg_1", body); got.status != 204 {
		t.Errorf("beside them: %d %s", got.status, got.message)
	}
	if time.Since(start) > limit {
		t.Skip("this machine is slower than they are")
	}
	for _, c := range slow {
		if got := answer(t, c); got.status != 400 || got.code != "body_too_slow" {
			t.Fatalf("slow body: %d %s", got.status, got.code)
		}
	}
	must(t, header.SetReadDeadline(time.Now().Add(10*time.Second)))
	if _, err := io.ReadAll(header); errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a header that never ends holds its connection: %v", err)
	}
	if _, n := r.last(inLog); n != 1 {
		t.Errorf("%d stored, want 1", n)
	}
}

// Requests beyond the memory for them are shed with 503, and the process says
// so until a while after the last.
func TestShedding(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var told []bool
	r := newRig(t, stacktest.NATS(t), func(s *settings) {
		s.MaxMemory = 128 << 10
		s.Shedding = func(on bool) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, on)
		}
	})
	body := event("user_1", "")
	var holding []net.Conn
	var got reply
	for range 32 {
		holding = append(holding, r.open(raw(signed(t, secretA, "msg_1", body), len(body))+body[:9]))
		got = r.send("msg_new", body)
		if got.status != 204 {
			break
		}
	}
	if got.status != 503 || got.code != "overloaded" || got.message == "" {
		t.Fatalf("not shed: %d %s", got.status, got.code)
	}
	if s, err := strconv.Atoi(got.header.Get("Retry-After")); err != nil || s < 1 {
		t.Errorf("Retry-After %q", got.header.Get("Retry-After"))
	}
	for _, c := range holding { // who holds the memory is served, not shed
		_, err := io.WriteString(c, body[9:])
		must(t, err)
		if got := answer(t, c); got.status != 204 && got.status != 503 {
			t.Errorf("who came first: %d %s", got.status, got.code)
		}
	}
	if got := r.send("msg_after", body); got.status != 204 {
		t.Errorf("afterwards: %d %s", got.status, got.code)
	}
	stacktest.Eventually(t, 10*time.Second, func() error {
		mu.Lock()
		defer mu.Unlock()
		if len(told) != 2 || !told[0] || told[1] {
			return fmt.Errorf("told %v, want on and off once", told)
		}
		return nil
	})
}

// A body as large as max_body is taken, however tight max_memory: the
// configuration allows them to be equal.
func TestLargestBodyInTightMemory(t *testing.T) {
	t.Parallel()
	r := newRig(t, stacktest.NATS(t), func(s *settings) { s.MaxMemory = mebi })
	body := event("user_1", `,"x":"`+strings.Repeat("x", mebi-300)+`"`)
	if got := r.send("msg_1", body); got.status != 204 {
		t.Errorf("%d %s", got.status, got.message)
	}
}

// waitForBody waits until a request's head has been read and its body is awaited.
func (r *rig) waitForBody() {
	r.t.Helper()
	stacktest.Eventually(r.t, 10*time.Second, func() error {
		families, err := r.metrics.Gather()
		if err != nil {
			return err
		}
		for _, f := range families {
			if f.GetName() == "rollcall_ingest_body_bytes" && f.GetMetric()[0].GetGauge().GetValue() > 0 {
				return nil
			}
		}
		return errors.New("no request is being received")
	})
}

// When the process stops, what is in flight is answered, and new senders are
// refused.
func TestDrain(t *testing.T) {
	t.Parallel()
	r := newRig(t, stacktest.NATS(t))
	body := event("user_1", "")
	inFlight := r.open(raw(signed(t, secretA, "msg_1", body), len(body)) + body[:20])
	r.waitForBody()
	idle := r.open("")
	if got := r.send("msg_0", body); got.status != 204 { // so the server has taken the idle one too
		t.Fatalf("%d %s", got.status, got.message)
	}
	r.stop()
	stacktest.Eventually(t, 5*time.Second, func() error {
		c, err := net.Dial("tcp", r.addr)
		if err == nil {
			_ = c.Close()
			return errors.New("new connections are taken")
		}
		return nil
	})
	select {
	case <-r.served:
		t.Fatal("Serve returned before its request was answered")
	default:
	}
	_, err := io.WriteString(inFlight, body[20:])
	must(t, err)
	if got := answer(t, inFlight); got.status != 204 {
		t.Errorf("in flight: %d %s", got.status, got.message)
	}
	r.stored(inLog, "", "msg_1", body)
	_ = idle.Close()
	select {
	case err := <-r.served:
		must(t, err)
	case <-time.After(10 * time.Second):
		t.Fatal("Serve does not return")
	}
	r.served <- nil
}

func TestBrokerGoneAndBack(t *testing.T) {
	t.Parallel()
	ns := stacktest.NATS(t)
	r := newRig(t, ns)
	body := event("user_1", "")
	if got := r.send("msg_1", body); got.status != 204 {
		t.Fatalf("%d %s", got.status, got.message)
	}
	ns.Stop()
	for i, id := range []string{"msg_2", "msg_1", "msg_2"} { // msg_1 too: is it still stored? Nobody can say
		start := time.Now()
		got := r.send(id, body)
		if got.status != 503 || got.code != "unavailable" || got.header.Get("Retry-After") == "" {
			t.Errorf("broker gone, %s: %d %s, Retry-After %q", id, got.status, got.code, got.header.Get("Retry-After"))
		}
		if took := time.Since(start); i > 0 && took > time.Second || took > 10*time.Second { // the first may meet the end
			t.Errorf("broker gone, %s: refused after %s", id, took)
		}
	}
	ns.Start()
	stacktest.Eventually(t, 10*time.Second, func() error {
		if got := r.send("msg_2", body); got.status != 204 {
			return fmt.Errorf("%d %s", got.status, got.message)
		}
		return nil
	})
	if _, n := r.last(inLog); n != 2 {
		t.Errorf("%d stored, want 2", n)
	}
}

func TestLogFull(t *testing.T) {
	t.Parallel()
	r := newRig(t, stacktest.NATS(t), func(s *settings) { s.streams = streams.Options{MaxBytes: 64 << 10} })
	body := event("user_1", `,"x":"`+strings.Repeat("x", 10<<10)+`"`)
	var got reply
	sent := 0
	for ; sent < 20; sent++ {
		if got = r.send("msg_"+strconv.Itoa(sent), body); got.status != 204 {
			break
		}
	}
	if got.status != 503 || got.code != "log_full" || got.header.Get("Retry-After") == "" {
		t.Fatalf("event %d: %d %s", sent, got.status, got.code)
	}
	if got := r.send("msg_0", body); got.status != 204 {
		t.Errorf("one that is stored, again: %d %s", got.status, got.code)
	}
	if got := r.send("msg_letter", "not JSON"); got.status != 202 {
		t.Errorf("a letter: %d %s", got.status, got.code)
	}
	r.streams.MaxBytes = mebi
	r.makeStreams()
	if got := r.send("msg_"+strconv.Itoa(sent), body); got.status != 204 {
		t.Errorf("with room again: %d %s", got.status, got.code)
	}
}

// The letters' stream is missing: good events don't wait for it.
func TestLettersUnstorable(t *testing.T) {
	t.Parallel()
	r := newRig(t, stacktest.NATS(t))
	must(t, r.js.DeleteStream(context.Background(), inDead))
	refused := make(chan reply, 1)
	go func() { refused <- r.send("msg_letter", "not JSON") }()
	var slowest time.Duration
	for i := 0; ; i++ {
		start := time.Now()
		if got := r.send("msg_"+strconv.Itoa(i), event("user_1", "")); got.status != 204 {
			t.Fatalf("a good event: %d %s", got.status, got.message)
		}
		slowest = max(slowest, time.Since(start))
		select {
		case got := <-refused:
			if got.status != 503 {
				t.Errorf("the letter: %d %s", got.status, got.code)
			}
			if slowest > 1500*time.Millisecond {
				t.Errorf("a good event waited %s for a letter", slowest)
			}
			return
		default:
		}
	}
}

// Where the broker takes no messages of that size, the sender is asked to keep
// the event, and the error names the setting.
func TestBrokerTakesLess(t *testing.T) {
	t.Parallel()
	r := newRig(t, stacktest.NATS(t, stacktest.Configure(func(o *server.Options) { o.MaxPayload = mebi })))
	body := event("user_1", `,"x":"`+strings.Repeat("x", mebi-200)+`"`)
	got := r.send("msg_1", body)
	if got.status != 503 || got.header.Get("Retry-After") == "" || !strings.Contains(got.message, "max_payload") {
		t.Errorf("%d %s %q", got.status, got.code, got.message)
	}
	if got := r.send("msg_2", event("user_1", "")); got.status != 204 {
		t.Errorf("the next: %d %s", got.status, got.message)
	}
}

// The value that the error names fits, to the byte.
func TestCheckPayload(t *testing.T) {
	t.Parallel()
	const payload = mebi
	err := ingest.CheckPayload(payload, mebi)
	if err == nil || !strings.Contains(err.Error(), "ingest.max_body to 983040") || !strings.Contains(err.Error(), "max_payload to 1114112") {
		t.Fatalf("1 MiB into 1 MiB: %v", err)
	}
	const fits = 983040
	if err := ingest.CheckPayload(payload, fits); err != nil {
		t.Error(err)
	}
	r := newRig(t, stacktest.NATS(t, stacktest.Configure(func(o *server.Options) { o.MaxPayload = payload })), func(s *settings) { s.MaxBody = fits })
	body := event("user_1", `,"x":"`)
	body = strings.Replace(body, `"x":"`, `"x":"`+strings.Repeat("x", fits-len(body)-1)+`"`, 1)
	long := "msg_" + strings.Repeat("m", 14<<10) // as long as headers may be
	if got := r.send(long, body); len(body) != fits || got.status != 204 {
		t.Errorf("a body of %d: %d %s", len(body), got.status, got.message)
	}
}
