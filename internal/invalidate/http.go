package invalidate

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nuid"
	svix "github.com/svix/svix-webhooks/go"

	"github.com/rollcall-dev/rollcall/streams"
)

// Purge is a target that takes a POST of the keys, signed as Svix signs:
//
//	POST {"keys":["user:user_1",…]}    Svix-Id, Svix-Timestamp, Svix-Signature
//
// Only 2xx will do. Whatever else it answers, 4xx and 410 too, is asked again
// until somebody mends it or takes it out of the configuration: who drops a
// purge leaves something stale in a cache for good.
type Purge struct {
	name, url string
	signer    *svix.Webhook
	client    *http.Client

	mu        sync.Mutex
	notBefore time.Time // as the server asked
}

const (
	maxPosted     = 500 // keys in a body
	postWait      = 10 * time.Second
	maxRetryAfter = 5 * time.Minute // a longer one is cut
)

// NewPurge makes one. The secret is whsec_ and base64.
func NewPurge(address, secret string) (*Purge, error) {
	signer, err := svix.NewWebhook(secret)
	if err != nil {
		return nil, errors.New("the secret isn't whsec_ and base64")
	}
	u, err := url.Parse(address)
	if err != nil {
		return nil, errors.New("the URL can't be parsed") // it may hold a password
	}
	sum := sha256.Sum256([]byte(address))
	transport := http.DefaultTransport.(*http.Transport).Clone() //nolint:forcetypeassert // it is documented
	return &Purge{
		name: "http-" + strings.Map(nameable, u.Hostname()) + "-" + hex.EncodeToString(sum[:3]), url: address, signer: signer,
		client: &http.Client{
			Transport: transport, Timeout: postWait,
			// A signed body goes to nobody but whom the operator named.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// nameable keeps what a consumer's name may have.
func nameable(c rune) rune {
	if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' {
		return c
	}
	return '-'
}

// Name of the target: its host, and a digest that tells one path from another.
func (p *Purge) Name() string { return p.name }

// Close ends idle connections.
func (p *Purge) Close() error {
	p.client.CloseIdleConnections()
	return nil
}

// Send posts the keys.
func (p *Purge) Send(ctx context.Context, stale []streams.Invalidation) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.waitUntilAsked(ctx); err != nil {
		return err
	}
	for part := range slices.Chunk(distinct(stale), maxPosted) {
		if err := p.post(ctx, part); err != nil {
			return err
		}
	}
	return nil
}

// waitUntilAsked waits as long as the last answer said, as far as the context
// allows; the rest is for the next try.
func (p *Purge) waitUntilAsked(ctx context.Context) error {
	wait := time.Until(p.notBefore)
	if wait <= 0 {
		return nil
	}
	if end, ok := ctx.Deadline(); ok && time.Until(end) < wait {
		wait = max(0, time.Until(end)-postWait)
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(wait):
	}
	if left := time.Until(p.notBefore); left > 0 {
		return fmt.Errorf("the server asked to wait another %s (Retry-After)", left.Round(time.Second))
	}
	return nil
}

func (p *Purge) post(ctx context.Context, keys []string) error {
	body, err := json.Marshal(map[string][]string{"keys": keys})
	if err != nil {
		return err
	}
	id, now := "inv_"+nuid.Next(), time.Now()
	signature, err := p.signer.Sign(id, now, body)
	if err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url, bytes.NewReader(body))
	if err != nil {
		return errors.New("the URL can't be requested")
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "rollcall")
	req.Header.Set("Svix-Id", id)
	req.Header.Set("Svix-Timestamp", strconv.FormatInt(now.Unix(), 10))
	req.Header.Set("Svix-Signature", signature)
	resp, err := p.client.Do(req)
	if err != nil {
		var whole *url.Error // quotes the URL
		if errors.As(err, &whole) {
			err = whole.Err
		}
		return fmt.Errorf("post the keys: %w", err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<16)) // so that the connection serves again
	return p.judge(resp)
}

func (p *Purge) judge(resp *http.Response) error {
	p.notBefore = time.Now().Add(min(retryAfter(resp.Header.Get("Retry-After")), maxRetryAfter))
	switch code := resp.StatusCode; {
	case code/100 == 2:
		p.notBefore = time.Time{}
		return nil
	case code/100 == 3:
		return fmt.Errorf("the server answers %s; write the URL that it redirects to into invalidate.http: redirects aren't followed", resp.Status)
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		return fmt.Errorf("the server answers %s; has it the same secret as invalidate.http, and the right time?", resp.Status)
	case code/100 == 4 && code != http.StatusTooManyRequests:
		return fmt.Errorf("the server answers %s, and will be asked again until it takes the keys; mend it, or take it out of invalidate.http", resp.Status)
	default:
		return fmt.Errorf("the server answers %s", resp.Status)
	}
}

// retryAfter reads seconds or a date; 0 for neither.
func retryAfter(value string) time.Duration {
	if seconds, err := strconv.Atoi(value); err == nil {
		return time.Duration(max(0, min(seconds, 86400))) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return time.Until(at)
	}
	return 0
}
