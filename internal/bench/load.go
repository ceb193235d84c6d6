package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rollcall-dev/rollcall/internal/ingest"
)

// result of a load: all posts were answered with 204.
type result struct {
	rate     float64 // posts a second
	p50, p99 time.Duration
}

// sender sends, over persistent connections, and waits for each answer.
type sender interface {
	send(post) error // any answer but 204 is an error
	Close() error
}

// Kinds of senders.
const (
	clientHTTP = "http" // net/http's client, as the peers' load generator has it
	clientRaw  = "raw"  // see connection
)

func newSenders(kind, addr string, n int) ([]sender, error) {
	senders := make([]sender, n)
	shared := newClient(addr, n)
	for i := range senders {
		senders[i] = shared
		if kind == clientRaw {
			c, err := dial(addr)
			if err != nil {
				return nil, err
			}
			senders[i] = c
		}
	}
	return senders, nil
}

// errBusy: answered with 503.
var errBusy = errors.New("load: answered 503 Service Unavailable")

// sendUntilTaken sends again after a 503, as Svix would: a disk that others use
// may stall for seconds. The time that takes counts.
func sendUntilTaken(c sender, p post) error {
	for deadline := time.Now().Add(readyWait); ; time.Sleep(100 * time.Millisecond) {
		err := c.send(p)
		if !errors.Is(err, errBusy) || time.Now().After(deadline) {
			return err
		}
	}
}

// load sends posts over persistent connections, each waiting for its answer.
func load(kind, addr string, posts []post, connections int) (result, error) {
	conns, err := newSenders(kind, addr, connections)
	if err != nil {
		return result{}, err
	}
	for _, c := range conns {
		defer c.Close() //nolint:errcheck // every answer has been read
	}
	var next atomic.Int64
	took := make([]time.Duration, len(posts))
	failed := make(chan error, connections)
	var wg sync.WaitGroup
	start := time.Now()
	for _, c := range conns {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(posts) {
					return
				}
				sent := time.Now()
				if err := sendUntilTaken(c, posts[i]); err != nil {
					failed <- err
					return
				}
				took[i] = time.Since(sent)
			}
		})
	}
	wg.Wait()
	elapsed := time.Since(start)
	select {
	case err := <-failed:
		return result{}, err
	default:
	}
	p50, p99 := percentiles(took)
	return result{float64(len(posts)) / elapsed.Seconds(), p50, p99}, nil
}

func percentiles(took []time.Duration) (p50, p99 time.Duration) {
	slices.Sort(took)
	return took[len(took)/2], took[len(took)*99/100]
}

// client sends by net/http. All senders share it, as in a program that posts.
type client struct {
	http *http.Client
	url  string
}

func newClient(addr string, connections int) *client {
	return &client{
		http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: connections, MaxConnsPerHost: connections}, Timeout: readyWait},
		url:  "http://" + addr + ingest.Path,
	}
}

func (c *client) send(p post) error {
	req, err := http.NewRequest(http.MethodPost, c.url, bytes.NewReader(p.body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("svix-id", p.id)
	req.Header.Set("svix-timestamp", p.timestamp)
	req.Header.Set("svix-signature", p.signature)
	res, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	switch {
	case err != nil:
	case res.StatusCode == http.StatusServiceUnavailable:
		err = errBusy
	case res.StatusCode != http.StatusNoContent:
		err = fmt.Errorf("load: answered %q: %s", res.Status, body)
	}
	return err
}

func (c *client) Close() error {
	c.http.CloseIdleConnections()
	return nil
}

// connection writes bytes made beforehand and reads no more of an answer than
// it has to, so that the generator, which shares the processors with what it
// loads, is a small part of what is measured.
type connection struct {
	net.Conn
	answers *bufio.Reader
}

func dial(addr string) (*connection, error) {
	c, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	return &connection{c, bufio.NewReaderSize(c, 4<<10)}, nil
}

func (c *connection) send(p post) error {
	if _, err := c.Write(p.request); err != nil {
		return fmt.Errorf("load: send: %w", err)
	}
	status, err := c.answers.ReadSlice('\n')
	if err != nil {
		return fmt.Errorf("load: read the answer: %w", err)
	}
	if bytes.HasPrefix(status, []byte("HTTP/1.1 204 ")) {
		return c.skipHead()
	}
	refused := c.refused(string(bytes.TrimSpace(status)))
	if bytes.HasPrefix(status, []byte("HTTP/1.1 503 ")) {
		return errBusy
	}
	return refused
}

func (c *connection) skipHead() error {
	for {
		line, err := c.answers.ReadSlice('\n')
		if err != nil {
			return fmt.Errorf("load: read the answer: %w", err)
		}
		if len(line) <= len("\r\n") {
			return nil
		}
	}
}

// refused quotes an answer that should have been 204.
func (c *connection) refused(status string) error {
	length := 0
	for {
		line, err := c.answers.ReadSlice('\n')
		if err != nil || len(line) <= len("\r\n") {
			break
		}
		if name, value, ok := bytes.Cut(line, []byte(":")); ok && bytes.EqualFold(name, []byte("Content-Length")) {
			length, _ = strconv.Atoi(string(bytes.TrimSpace(value)))
		}
	}
	body := make([]byte, min(length, 1000))
	n, _ := io.ReadFull(c.answers, body) // the status says enough
	return fmt.Errorf("load: answered %q: %s", status, body[:n])
}
