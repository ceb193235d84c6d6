// Package backend reads Clerk's Backend API: lists, page by page, as the JSON that
// Clerk sent, within a budget of requests that leaves the rest to the application.
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
	Path    string
	Status  int
	Code    string // "resource_not_found"; "" where Clerk gives none
	Message string
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("Clerk answers GET /v1%s with %d %s: %s", e.Path, e.Status, e.Code, e.Message)
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
	var failing time.Time // since when
	for pause := firstPause; ; {
		if err := c.pace.wait(ctx); err != nil {
			return answer{}, err
		}
		a, err := c.attempt(ctx, path, query)
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
			return answer{}, fmt.Errorf("GET /v1%s has failed for %s: %w", path, time.Since(failing).Round(time.Second), retry.error)
		}
		c.o.Trouble(fmt.Errorf("GET /v1%s: %w", path, retry.error))
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

func (c *Client) attempt(ctx context.Context, path string, query url.Values) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, c.o.Timeout)
	defer cancel()
	to := strings.TrimRight(c.o.URL, "/") + "/v1" + path
	if len(query) > 0 {
		to += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, to, nil)
	if err != nil {
		return answer{}, fmt.Errorf("the Backend API's address (CLERK_API_URL): %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+c.o.SecretKey)
	req.Header.Set("Clerk-API-Version", Version)
	req.Header.Set("User-Agent", "rollcall")
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
	if resp.StatusCode != http.StatusOK {
		return answer{}, refusal(path, resp, body)
	}
	if err != nil {
		return answer{}, again{error: fmt.Errorf("the answer broke off: %w", err)}
	}
	if rawjson.Check(body, maxDepth) != nil {
		return answer{}, again{error: errors.New("the answer is not JSON")}
	}
	date, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		return answer{}, again{error: errors.New("the answer has no Date, which says how new it is: is there a proxy that takes it away?")}
	}
	// A server may write Date before its work or after.
	return answer{body, date.Add(-took).UTC()}, nil
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
func refusal(path string, resp *http.Response, body []byte) error {
	var said struct {
		Errors []struct {
			Code        string `json:"code"`
			Message     string `json:"message"`
			LongMessage string `json:"long_message"`
		} `json:"errors"`
	}
	_ = json.Unmarshal(body, &said) // a proxy's answer says nothing that we'd know
	e := &RefusedError{Path: path, Status: resp.StatusCode, Message: http.StatusText(resp.StatusCode)}
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
