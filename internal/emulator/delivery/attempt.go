package delivery

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	userAgent   = "Svix-Webhooks/1.99.1 (clerkemu)"
	answerBytes = 64 << 10 // read of an answer's headers, and of its body
	quotedBytes = 256      // of a refusal, kept in the log
)

// Kind says why an attempt was made. The zero value: because the message had to
// be delivered, or was tried again.
type Kind string

// The other reasons of an attempt.
const (
	Duplicate    Kind = "duplicate"     // chaos: the same once more, not retried
	BadSignature Kind = "bad_signature" // chaos: signed with another secret
	Corrupt      Kind = "corrupt"       // chaos: a byte of the body changed, under the signature of the original
	Replay       Kind = "replay"
)

// Attempt is one request and what became of it.
type Attempt struct {
	Kind     Kind   `json:"kind,omitempty"`
	At       int64  `json:"at"`                 // unix ms
	Duration int64  `json:"duration_ms"`        //
	Status   int    `json:"status,omitempty"`   // of the answer; 0: there was none
	Error    string `json:"error,omitempty"`    // why there was none, or no whole one
	Response string `json:"response,omitempty"` // how a refusal's body begins
}

// outcome is an attempt with what decides about the next one.
type outcome struct {
	Attempt
	ok         bool
	abort      bool
	retryAfter string
}

// target is what an attempt needs of an endpoint, as it was when the attempt
// began.
type target struct {
	url    string
	family string
	keys   []key
	skew   time.Duration
	life   context.Context
}

func newClient(cfg Config) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DialContext:            cfg.Dial,
			ForceAttemptHTTP2:      true,
			DisableCompression:     true,
			MaxIdleConnsPerHost:    4 * cfg.Workers, // several endpoints may share a host
			MaxResponseHeaderBytes: answerBytes,
			TLSHandshakeTimeout:    10 * time.Second,
			// Below the 5 s after which a Node server closes: a request on a connection
			// that closes just then is lost, and would wait for its retry.
			IdleConnTimeout: 4 * time.Second,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// run makes a job's attempt, after the forgeries that are to precede it, and
// decides what comes next.
func (s *Sender) run(j *job) {
	for _, kind := range j.forge {
		s.note(j.d, s.post(s.target(j.d.e), j.d.m, kind))
	}
	j.forge = nil // a retry isn't preceded by them again
	s.conclude(j, s.post(s.target(j.d.e), j.d.m, j.kind))
}

func (s *Sender) target(e *endpoint) target {
	s.mu.Lock()
	defer s.mu.Unlock()
	return target{e.URL, e.HeaderFamily, e.signing(s.cfg.Clock()), s.chaos.skew(), e.life}
}

var errCut = errors.New("cut: the endpoint was deleted or the emulator stopped")

// post sends a message to a target and reads the answer. The status counts only
// if the answer can be read to its end, or as far as we care to.
func (s *Sender) post(t target, m *message, kind Kind) outcome {
	start, began := s.cfg.Clock(), time.Now()
	o := outcome{Attempt: Attempt{Kind: kind, At: start.UnixMilli()}}
	ctx, cancel := context.WithTimeout(t.life, s.cfg.Timeout)
	defer cancel()
	err := func() error {
		req, err := newRequest(ctx, t, m, kind, start.Add(t.skew))
		if err != nil {
			return err
		}
		resp, err := s.client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		o.Status = resp.StatusCode
		o.ok = o.Status/100 == 2
		o.abort = strings.EqualFold(strings.TrimSpace(resp.Header.Get("Webhook-Delivery")), "abort-message")
		o.retryAfter = resp.Header.Get("Retry-After")
		return o.read(resp.Body)
	}()
	if err != nil {
		o.ok = false
		o.Error = explain(err, t.life, s.cfg.Timeout)
	}
	o.Duration = time.Since(began).Milliseconds()
	return o
}

// read takes in an answer, so that its connection can be used again, but no
// endless one.
func (o *outcome) read(body io.Reader) error {
	if !o.ok {
		var quoted bytes.Buffer
		if _, err := io.CopyN(&quoted, body, quotedBytes); err != nil {
			o.Response = strings.ToValidUTF8(quoted.String(), "�")
			return ignoreEOF(err)
		}
		o.Response = strings.ToValidUTF8(quoted.String(), "�")
	}
	_, err := io.CopyN(io.Discard, body, answerBytes)
	return ignoreEOF(err)
}

func ignoreEOF(err error) error {
	if err == io.EOF { // io.ErrUnexpectedEOF is an answer that broke off
		return nil
	}
	return err
}

func newRequest(ctx context.Context, t target, m *message, kind Kind, at time.Time) (*http.Request, error) {
	body := m.Body
	if kind == Corrupt {
		body = corrupted(m)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	seconds := strconv.FormatInt(at.Unix(), 10)
	keys := t.keys
	if kind == BadSignature {
		keys = []key{stranger(keys)}
	}
	signature := sign(keys, m.id, seconds, m.Body)
	h := req.Header
	h["Content-Type"] = []string{"application/json"}
	h["User-Agent"] = []string{userAgent}
	if t.family != HeadersWebhook {
		h["Svix-Id"], h["Svix-Timestamp"], h["Svix-Signature"] = []string{m.id}, []string{seconds}, []string{signature}
	}
	if t.family != HeadersSvix {
		h["Webhook-Id"], h["Webhook-Timestamp"], h["Webhook-Signature"] = []string{m.id}, []string{seconds}, []string{signature}
	}
	return req, nil
}

// corrupted is a message's body with one byte changed, always the same one.
func corrupted(m *message) []byte {
	if len(m.Body) == 0 {
		return []byte{' '}
	}
	body := bytes.Clone(m.Body)
	body[m.sequence%uint64(len(body))] ^= 1
	return body
}

func explain(err error, life context.Context, timeout time.Duration) string {
	if life.Err() != nil {
		return errCut.Error()
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Sprintf("no whole answer within %v", timeout)
	}
	var wrapped *url.Error
	if errors.As(err, &wrapped) { // it repeats the URL
		err = wrapped.Err
	}
	return err.Error()
}

// note writes an attempt into the log.
func (s *Sender) note(d *delivery, o outcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.write(d, o)
}

func (s *Sender) write(d *delivery, o outcome) {
	s.counts.Attempts++
	if o.ok && (o.Kind == BadSignature || o.Kind == Corrupt) {
		s.counts.ForgedAccepted++
	}
	d.attempts = append(d.attempts, o.Attempt)
	s.kept.grew(d.m, attemptBytes+len(o.Error)+len(o.Response))
}

// conclude writes a job's attempt into the log and settles the delivery or
// parks it until its retry.
func (s *Sender) conclude(j *job, o outcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d, e := j.d, j.d.e
	s.write(d, o)
	s.passed(e, d.m.sequence)
	if j.kind == Duplicate {
		s.finished(d)
		return
	}
	disable := e.answered(o.ok, s.cfg.Clock(), s.cfg.RetryScale)
	wait, more := s.retryIn(j, o.retryAfter)
	switch {
	case o.ok:
		s.turn(d, Delivered, "")
		s.finished(d)
	case o.abort:
		s.turn(d, Aborted, "the receiver answered webhook-delivery: abort-message")
		s.finished(d)
	case s.closed:
		s.giveUp(j, reasonStopped)
	case e.life.Err() != nil:
		s.giveUp(j, reasonDeleted)
	case e.Disabled || disable:
		s.giveUp(j, reasonDisabled)
	case !more:
		s.giveUp(j, fmt.Sprintf("given up after %d attempts", j.try+1))
	default:
		j.try++
		d.due = s.cfg.Clock().Add(wait).UnixMilli()
		s.park(j, wait)
	}
	if disable {
		s.setDisabled(e, true, "it did nothing but fail for 5 days (scaled)")
	}
}
