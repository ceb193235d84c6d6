package delivery

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// BenchmarkSend carries events of 2 KB to a receiver in the same process that
// only reads them; verifying and storing are not measured.
func BenchmarkSend(b *testing.B) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusNoContent)
	}))
	defer server.Close()
	s := newSender(b, Config{})
	add(b, s, Endpoint{URL: server.URL})
	body := bytes.Repeat([]byte("0123456789abcdef"), 128)
	begin := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Send(Message{Type: "user.updated", Body: body}); err != nil {
			b.Fatal(err)
		}
	}
	if err := s.Settled(context.Background()); err != nil {
		b.Fatal(err)
	}
	if c := s.Counts(); c.Delivered != c.Messages {
		b.Fatalf("%+v", c)
	}
	b.ReportMetric(float64(s.Counts().Messages)/time.Since(begin).Seconds(), "events/s")
}
