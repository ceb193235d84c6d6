// Package backend reads Clerk's Backend API: lists, page by page, as the JSON that
// Clerk sent, within a budget of requests that leaves the rest to the application.
// It writes one thing: a note in a test user's metadata.
//
//	List ─▶ pace ─▶ request ─┬▶ a page, and Clerk's clock when it was asked for
//	          ▲              ├▶ 429: all wait for Retry-After, then go on slower
//	          └── try again ─┴▶ 5xx, time-out, half an answer: a pause, with jitter
package backend

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rollcall-dev/rollcall/internal/rawjson"
)

// Version of the Backend API whose answers are read here.
const Version = "2026-05-12"

// MaxPage is the most rows that Clerk puts on a page. Asked for more it gives 10.
const MaxPage = 500

const (
	maxBody      = 64 << 20 // bytes of an answer: a page of users with as much metadata as Clerk takes is half of it
	maxDepth     = 1000
	firstPause   = 200 * time.Millisecond
	longestPause = 10 * time.Second
	maxRetry     = 5 * time.Minute // of a Retry-After that is believed
)

var (
	// ErrSecretKey: Clerk doesn't know the secret key.
	ErrSecretKey = errors.New("the secret key (CLERK_SECRET_KEY) is not one that Clerk knows: is it whole, and not revoked?")
	// ErrTooLarge: an answer passes all bounds.
	ErrTooLarge = fmt.Errorf("the answer is larger than %d MiB", maxBody>>20)
)

// RefusedError is Clerk's no to a request, which asking again doesn't change.
type RefusedError struct {
	Method, Path string
	Status       int
	Code         string // "resource_not_found"; "" where Clerk gives none
	Message      string
	At           time.Time // Clerk's clock, at the latest when the request was made; zero where it gave none
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("Clerk answers %s /v1%s with %d %s: %s", e.Method, e.Path, e.Status, e.Code, e.Message)
}

// LimitOf is what Clerk lets all clients of the key's instance do together,
// requests a second: 1000 in 10 s in production, 100 in development.
func LimitOf(secretKey string) float64 {
	if strings.HasPrefix(secretKey, "sk_test_") {
		return 10
	}
	return 100
}

// Options of a Client.
type Options struct {
	URL       string // without /v1
	SecretKey string
	Rate      float64           // most requests a second
	Timeout   time.Duration     // of one attempt; 0 is 30 s
	GiveUp    time.Duration     // how long one request may go on failing; 0 is 10 minutes
	Transport http.RoundTripper // nil: http.DefaultTransport
	// Trouble is told what is being retried, again and again; nil tells nobody.
	Trouble func(error)
}

// Counts are of all that a client did.
type Counts struct {
	Requests int64 `json:"requests"` // answered or not
	Limited  int64 `json:"limited"`  // answered 429
	Failed   int64 `json:"failed"`   // other attempts that were made again
	Bytes    int64 `json:"bytes"`    // of answers
}

// Since are those after some earlier ones.
func (c Counts) Since(before Counts) Counts {
	return Counts{c.Requests - before.Requests, c.Limited - before.Limited, c.Failed - before.Failed, c.Bytes - before.Bytes}
}

// Client asks for lists. It may be used by several at a time.
type Client struct {
	o    Options
	http http.Client
	pace *pace

	requests, limited, failed, bytes atomic.Int64
}

// New makes a client.
func New(o Options) *Client {
	if o.Timeout == 0 {
		o.Timeout = 30 * time.Second
	}
	if o.GiveUp == 0 {
		o.GiveUp = 10 * time.Minute
	}
	if o.Trouble == nil {
		o.Trouble = func(error) {}
	}
	return &Client{o: o, pace: newPace(o.Rate), http: http.Client{
		Transport: o.Transport,
		// The key goes nowhere else.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Counts so far.
func (c *Client) Counts() Counts {
	return Counts{c.requests.Load(), c.limited.Load(), c.failed.Load(), c.bytes.Load()}
}

// Rate is how many requests a second the budget allows just now: fewer than
// Options.Rate after a 429.
func (c *Client) Rate() float64 { return c.pace.now() }

// Page is a part of a list.
type Page struct {
	Rows  []json.RawMessage
	Total int64 // of the whole list; -1 where the answer doesn't say
	// At is Clerk's clock, at the latest when the request was made; ours has no
	// part in it. What the page shows is at least as new.
	At time.Time
}

// List reads a page. It tries again until it is there, Clerk refuses, it has
// failed for too long, or the context ends.
func (c *Client) List(ctx context.Context, path string, query url.Values) (Page, error) {
	a, err := c.get(ctx, path, query, func(body []byte) error {
		if rawjson.Kind(body) != '[' && rawjson.Kind(rawjson.Member(body, "data")) != '[' {
			return errors.New("the answer is no list")
		}
		return nil
	})
	if err != nil {
		return Page{}, err
	}
	p := Page{Total: -1, At: a.at}
	list := a.body
	if rawjson.Kind(list) == '{' {
		if n, ok := rawjson.Int(rawjson.Member(a.body, "total_count")); ok {
			p.Total = n
		}
		list = rawjson.Member(a.body, "data")
	}
	rawjson.Elements(list, func(row []byte) { p.Rows = append(p.Rows, row) })
	return p, nil
}

// Count reads a total, as /users/count has it.
func (c *Client) Count(ctx context.Context, path string) (n int64, err error) {
	_, err = c.get(ctx, path, nil, func(body []byte) error {
		var ok bool
		if n, ok = rawjson.Int(rawjson.Member(body, "total_count")); !ok {
			return errors.New("the answer has no total_count")
		}
		return nil
	})
	return n, err
}

// Instance reads the id of the key's instance, and Clerk's clock.
func (c *Client) Instance(ctx context.Context) (id string, at time.Time, err error) {
	a, err := c.get(ctx, "/instance", nil, func(body []byte) error {
		if id, _ = rawjson.Text(rawjson.Member(body, "id")); id == "" {
			return errors.New("the answer has no id")
		}
		return nil
	})
	return id, a.at, err
}

// Gone reports whether Clerk says that it has no such object, and when by its own
// clock. Another 404, such as a proxy's, is an error.
func (c *Client) Gone(ctx context.Context, path string) (gone bool, at time.Time, err error) {
	_, err = c.get(ctx, path, nil, func([]byte) error { return nil })
	var refused *RefusedError
	if errors.As(err, &refused) && refused.Status == http.StatusNotFound && refused.Code == "resource_not_found" && !refused.At.IsZero() {
		return true, refused.At, nil
	}
	return false, at, err
}

// Note merges a value into a user's private metadata, which only servers see.
func (c *Client) Note(ctx context.Context, userID, key string, value any) error {
	body, err := json.Marshal(map[string]any{"private_metadata": map[string]any{key: value}})
	if err != nil {
		return err
	}
	_, err = c.send(ctx, request{method: http.MethodPatch, path: "/users/" + url.PathEscape(userID) + "/metadata", body: body}, func([]byte) error { return nil })
	return err
}

// request is one that may be made again.
type request struct {
	method, path string
	query        url.Values
	body         []byte
}

func (r request) String() string { return r.method + " /v1" + r.path }

// answer is a whole one of status 200.
type answer struct {
	body []byte
	at   time.Time
}

// again is an attempt that failed in a way that the next may not.
type again struct {
	error
	after time.Duration // of Retry-After; 0: none
}

func (c *Client) get(ctx context.Context, path string, query url.Values, check func([]byte) error) (answer, error) {
	return c.send(ctx, request{method: http.MethodGet, path: path, query: query}, check)
}

func (c *Client) send(ctx context.Context, r request, check func([]byte) error) (answer, error) {
	var failing time.Time // since when
	for pause := firstPause; ; {
		if err := c.pace.wait(ctx); err != nil {
			return answer{}, err
		}
		a, err := c.attempt(ctx, r)
		if err == nil {
			if err = check(a.body); err == nil {
				return a, nil
			}
			err = again{error: err}
		}
		if failing.IsZero() {
			failing = time.Now()
		}
		var retry again
		switch {
		case ctx.Err() != nil:
			return answer{}, ctx.Err()
		case !errors.As(err, &retry):
			return answer{}, err
		case time.Since(failing) > c.o.GiveUp:
			return answer{}, fmt.Errorf("%s has failed for %s: %w", r, time.Since(failing).Round(time.Second), retry.error)
		}
		c.o.Trouble(fmt.Errorf("%s: %w", r, retry.error))
		if retry.after > 0 {
			c.limited.Add(1)
			c.pace.limited(retry.after)
			continue
		}
		c.failed.Add(1)
		select {
		case <-ctx.Done():
		case <-time.After(pause/2 + rand.N(pause)):
		}
		pause = min(2*pause, longestPause)
	}
}

func (c *Client) attempt(ctx context.Context, r request) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, c.o.Timeout)
	defer cancel()
	to := strings.TrimRight(c.o.URL, "/") + "/v1" + r.path
	if len(r.query) > 0 {
		to += "?" + r.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, r.method, to, bytes.NewReader(r.body))
	if err != nil {
		return answer{}, fmt.Errorf("the Backend API's address (CLERK_API_URL): %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+c.o.SecretKey)
	req.Header.Set("Clerk-API-Version", Version)
	req.Header.Set("User-Agent", "rollcall")
	if r.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	c.requests.Add(1)
	began := time.Now()
	resp, err := c.http.Do(req)
	if err != nil {
		return answer{}, again{error: err}
	}
	defer resp.Body.Close()
	took := time.Since(began) // the rest of the body has no say in when it was made
	body, err := c.read(resp.Body)
	if errors.Is(err, ErrTooLarge) {
		return answer{}, err
	}
	// A server may write Date before its work or after.
	date, dateErr := http.ParseTime(resp.Header.Get("Date"))
	at := date.Add(-took).UTC()
	if resp.StatusCode != http.StatusOK && (err == nil || resp.StatusCode == http.StatusTooManyRequests) {
		if dateErr != nil {
			at = time.Time{}
		}
		return answer{}, refusal(r, resp, body, at)
	}
	if err != nil {
		return answer{}, again{error: fmt.Errorf("the answer broke off: %w", err)}
	}
	if rawjson.Check(body, maxDepth) != nil {
		return answer{}, again{error: errors.New("the answer is not JSON")}
	}
	if dateErr != nil {
		return answer{}, again{error: errors.New("the answer has no Date, which says how new it is: is there a proxy that takes it away?")}
	}
	return answer{body, at}, nil
}

func (c *Client) read(r io.Reader) ([]byte, error) {
	var body bytes.Buffer
	n, err := body.ReadFrom(io.LimitReader(r, maxBody+1))
	c.bytes.Add(n)
	if n > maxBody {
		return nil, ErrTooLarge
	}
	return body.Bytes(), err
}

// refusal is the error of an answer that isn't 200.
func refusal(r request, resp *http.Response, body []byte, at time.Time) error {
	var said struct {
		Errors []struct {
			Code        string `json:"code"`
			Message     string `json:"message"`
			LongMessage string `json:"long_message"`
		} `json:"errors"`
	}
	_ = json.Unmarshal(body, &said) // a proxy's answer says nothing that we'd know
	e := &RefusedError{Method: r.method, Path: r.path, At: at, Status: resp.StatusCode, Message: http.StatusText(resp.StatusCode)}
	if len(said.Errors) > 0 {
		e.Code, e.Message = said.Errors[0].Code, said.Errors[0].Message
		if said.Errors[0].LongMessage != "" {
			e.Message = said.Errors[0].LongMessage
		}
	}
	switch {
	case resp.StatusCode == http.StatusTooManyRequests:
		return again{e, retryAfter(resp.Header.Get("Retry-After"))}
	case resp.StatusCode >= 500, resp.StatusCode == http.StatusRequestTimeout:
		return again{error: e}
	case resp.StatusCode == http.StatusUnauthorized:
		return ErrSecretKey
	}
	return e
}

// retryAfter is in seconds with Clerk; a proxy's time is by a clock that isn't ours.
func retryAfter(value string) time.Duration {
	seconds, err := strconv.Atoi(strings.TrimSpace(value))
	if err != nil || seconds < 1 {
		seconds = 1
	}
	return min(time.Duration(seconds)*time.Second, maxRetry)
}
