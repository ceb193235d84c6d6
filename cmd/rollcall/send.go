package main

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nuid"
	"github.com/spf13/cobra"
	svix "github.com/svix/svix-webhooks/go"
	"golang.org/x/sync/errgroup"

	"github.com/rollcall-dev/rollcall/internal/cli"
	"github.com/rollcall-dev/rollcall/internal/ingest"
)

// examples are Clerk's own, one for each event type.
//
//go:embed examples/*.json
var examples embed.FS

type sendOptions struct {
	url, secret, file, id string
	set                   []string
	count, connections    int
	rate                  float64
	asJSON                bool
}

func newSend(o *options) *cobra.Command {
	s := &sendOptions{}
	c := &cobra.Command{
		Use:   "send TYPE",
		Short: "Sign and post an event, as Clerk would: no account needed",
		Long: `Sign an event with the endpoint's secret and post it. Without --file the body is
Clerk's own example of the type, as of now: times are set to the present, and with
--count each event is about another entity.

Address and secret come from a dev stack that runs in --data, or from
ROLLCALL_WEBHOOK_URL and CLERK_WEBHOOK_SIGNING_SECRET.

Types: ` + strings.Join(eventTypes(), ", "),
		Example: `  rollcall send user.created
  rollcall send user.updated --set data.first_name=Ada --set data.banned=true
  rollcall send user.created --count 10000 --rate 500
  rollcall send --file body.json`,
		Args: func(c *cobra.Command, args []string) error {
			switch {
			case len(args) > 1:
				return cli.Usagef("send takes one event type; see %s --help", c.CommandPath())
			case len(args) == 0 && s.file == "":
				return cli.Usagef("send needs an event type, such as user.created, or --file; see %s --help", c.CommandPath())
			case len(args) == 1 && s.file != "":
				return cli.Usagef("send takes an event type or --file, not both")
			case s.count < 1 || s.connections < 1 || s.rate < 0:
				return cli.Usagef("--count and --connections must be at least 1, and --rate not negative")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			if err := s.resolve(o); err != nil {
				return err
			}
			maker, err := s.maker(args)
			if err != nil {
				return err
			}
			return s.run(c.Context(), maker, c.OutOrStdout())
		},
	}
	f := c.Flags()
	f.StringVar(&s.file, "file", "", "body to send, to the byte, instead of an example (- for standard input)")
	f.StringArrayVar(&s.set, "set", nil, "set a member of the body: PATH=VALUE, the value as JSON or else as text (repeatable)")
	f.IntVar(&s.count, "count", 1, "how many events to send")
	f.Float64Var(&s.rate, "rate", 0, "events a second; 0 for as fast as they are answered")
	f.IntVar(&s.connections, "connections", 16, "connections to send over")
	f.StringVar(&s.id, "id", "", "svix-id of the event (default: a new one); the same again is a duplicate")
	f.StringVar(&s.url, "url", "", "webhook endpoint")
	f.StringVar(&s.secret, "secret", "", "signing secret, whsec_… (better in CLERK_WEBHOOK_SIGNING_SECRET: arguments are seen by others)")
	f.BoolVar(&s.asJSON, "json", false, "print the summary as JSON")
	return c
}

func eventTypes() []string {
	entries, err := examples.ReadDir("examples")
	if err != nil {
		panic(err) // they are compiled in
	}
	var types []string
	for _, e := range entries {
		types = append(types, strings.TrimSuffix(e.Name(), ".json"))
	}
	return types
}

// resolve finds address and secret: flag, environment, dev stack.
func (s *sendOptions) resolve(o *options) error {
	dev, err := o.devEnv()
	if err != nil {
		return err
	}
	env := over(dev)
	if s.url == "" {
		s.url, _ = env("ROLLCALL_WEBHOOK_URL")
	}
	if s.url == "" {
		s.url = "http://127.0.0.1:8080" + ingest.Path
	}
	if s.secret == "" {
		cfg, err := o.load() // reads …_FILE and rollcall.yaml too
		if err != nil {
			return err
		}
		for _, i := range cfg.Instances {
			if len(i.WebhookSecrets) > 0 && (i.Name == "" || len(cfg.Instances) == 1 || strings.HasSuffix(s.url, "/"+i.Name)) {
				s.secret = i.WebhookSecrets[0]
				break
			}
		}
	}
	if s.secret == "" {
		return cli.Usagef("no signing secret: start rollcall dev, or set CLERK_WEBHOOK_SIGNING_SECRET")
	}
	return nil
}

// maker makes the body of event n.
type maker func(n int) ([]byte, error)

func (s *sendOptions) maker(args []string) (maker, error) {
	if s.file != "" {
		return s.fileMaker()
	}
	example, err := examples.ReadFile("examples/" + args[0] + ".json")
	if err != nil {
		return nil, cli.Usagef("there is no example of %q; rollcall send --help lists the types, --file sends anything", args[0])
	}
	return func(n int) ([]byte, error) {
		body, err := decode(example)
		if err != nil {
			return nil, err
		}
		s.freshen(body, n)
		if err := setAll(body, s.set); err != nil {
			return nil, err
		}
		return encode(body)
	}, nil
}

func (s *sendOptions) fileMaker() (maker, error) {
	var text []byte
	var err error
	if s.file == "-" {
		text, err = io.ReadAll(os.Stdin)
	} else {
		text, err = os.ReadFile(s.file)
	}
	if err != nil {
		return nil, cli.Usage(err)
	}
	if len(s.set) == 0 {
		return func(int) ([]byte, error) { return text, nil }, nil
	}
	return func(int) ([]byte, error) {
		body, err := decode(text)
		if err != nil {
			return nil, cli.Usagef("--set needs a JSON object in %s: %w", s.file, err)
		}
		if err := setAll(body, s.set); err != nil {
			return nil, err
		}
		return encode(body)
	}, nil
}

func decode(text []byte) (map[string]any, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber() // to the digit
	var body map[string]any
	return body, d.Decode(&body)
}

func encode(body map[string]any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(body)
	return bytes.TrimSpace(b.Bytes()), err
}

// freshen makes the example an event of now; of several, each is about an
// entity of its own.
func (s *sendOptions) freshen(body map[string]any, n int) {
	now := time.Now().UnixMilli()
	body["timestamp"] = now
	data, ok := body["data"].(map[string]any)
	if !ok {
		return
	}
	if _, ok := data["updated_at"]; ok {
		data["updated_at"] = now
	}
	if id, ok := data["id"].(string); ok && s.count > 1 {
		data["id"] = fmt.Sprintf("%s%08d", id, n)
	}
}

func setAll(body map[string]any, settings []string) error {
	for _, s := range settings {
		path, text, ok := strings.Cut(s, "=")
		if !ok || path == "" {
			return cli.Usagef("--set %q is not PATH=VALUE, such as data.first_name=Ada", s)
		}
		var value any
		d := json.NewDecoder(strings.NewReader(text))
		d.UseNumber()
		if err := d.Decode(&value); err != nil || d.More() {
			value = text
		}
		if err := set(body, path, value); err != nil {
			return err
		}
	}
	return nil
}

func set(object map[string]any, path string, value any) error {
	name, rest, nested := strings.Cut(path, ".")
	if !nested {
		object[name] = value
		return nil
	}
	if object[name] == nil {
		object[name] = map[string]any{}
	}
	inner, ok := object[name].(map[string]any)
	if !ok {
		return cli.Usagef("--set %s: %s is not an object", path, name)
	}
	return set(inner, rest, value)
}

// summary is what became of the events.
type summary struct {
	Sent     int            `json:"sent"`
	Statuses map[string]int `json:"statuses"`
	Seconds  float64        `json:"seconds"`
	P50      float64        `json:"p50_ms"`
	P90      float64        `json:"p90_ms"`
	P99      float64        `json:"p99_ms"`
	Max      float64        `json:"max_ms"`

	mu        sync.Mutex
	latencies []time.Duration
	firstBad  string // what the first refusal said
}

func (s *sendOptions) run(ctx context.Context, make maker, out io.Writer) error {
	signer, err := svix.NewWebhook(s.secret)
	if err != nil {
		return cli.Usagef("the signing secret is empty or not whsec_<base64>")
	}
	client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxConnsPerHost: s.connections, MaxIdleConnsPerHost: s.connections}}
	defer client.CloseIdleConnections()
	result := &summary{Statuses: map[string]int{}}
	bar := newBar(s.count, "sending", "events")
	start := time.Now()
	next := s.pace(ctx)
	g, work := errgroup.WithContext(ctx)
	for range min(s.connections, s.count) {
		g.Go(func() error {
			for n := range next {
				if work.Err() != nil {
					return nil
				}
				if err := s.one(work, client, signer, make, n, result); err != nil {
					return err
				}
				_ = bar.Add(1)
			}
			return nil
		})
	}
	err = g.Wait()
	_ = bar.Finish()
	result.finish(time.Since(start))
	if err != nil && ctx.Err() == nil {
		return err
	}
	return s.print(out, result)
}

// pace hands out event numbers, at the rate asked for, until the context ends.
func (s *sendOptions) pace(ctx context.Context) <-chan int {
	next := make(chan int)
	go func() {
		defer close(next)
		start := time.Now()
		for n := range s.count {
			if s.rate > 0 {
				due := start.Add(time.Duration(float64(n) / s.rate * float64(time.Second)))
				select {
				case <-ctx.Done():
					return
				case <-time.After(time.Until(due)):
				}
			}
			select {
			case <-ctx.Done():
				return
			case next <- n:
			}
		}
	}()
	return next
}

func (s *sendOptions) one(ctx context.Context, client *http.Client, signer *svix.Webhook, make maker, n int, result *summary) error {
	body, err := make(n)
	if err != nil {
		return err
	}
	id := s.id
	if id == "" {
		id = "msg_" + nuid.Next()
	}
	now := time.Now()
	signature, err := signer.Sign(id, now, body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(body))
	if err != nil {
		return cli.Usage(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("svix-id", id)
	req.Header.Set("svix-timestamp", strconv.FormatInt(now.Unix(), 10))
	req.Header.Set("svix-signature", signature)
	resp, err := client.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		result.add("no answer", time.Since(now), err.Error())
		return nil
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	if err != nil {
		return nil // the status has come; what it says besides is lost
	}
	result.add(resp.Status, time.Since(now), string(bytes.TrimSpace(answer)))
	return nil
}

func (r *summary) add(status string, took time.Duration, said string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Sent++
	r.Statuses[status]++
	r.latencies = append(r.latencies, took)
	if !strings.HasPrefix(status, "204") && r.firstBad == "" {
		r.firstBad = said
	}
}

func (r *summary) finish(took time.Duration) {
	r.Seconds = took.Seconds()
	if len(r.latencies) == 0 {
		return
	}
	slices.Sort(r.latencies)
	at := func(share float64) float64 {
		return float64(r.latencies[int(share*float64(len(r.latencies)-1))].Microseconds()) / 1000
	}
	r.P50, r.P90, r.P99, r.Max = at(0.5), at(0.9), at(0.99), at(1)
}

func (s *sendOptions) print(out io.Writer, r *summary) error {
	if s.asJSON {
		if err := json.NewEncoder(out).Encode(r); err != nil {
			return err
		}
	} else {
		for _, status := range slices.Sorted(maps.Keys(r.Statuses)) {
			fmt.Fprintf(out, "%d × %s\n", r.Statuses[status], status)
		}
		if r.firstBad != "" {
			fmt.Fprintln(out, r.firstBad)
		}
		fmt.Fprintf(out, "%d sent to %s in %.2f s (%.0f/s); answered in p50 %.1f ms, p90 %.1f ms, p99 %.1f ms, max %.1f ms\n",
			r.Sent, s.url, r.Seconds, float64(r.Sent)/r.Seconds, r.P50, r.P90, r.P99, r.Max)
	}
	accepted := 0
	for status, n := range r.Statuses {
		if strings.HasPrefix(status, "2") {
			accepted += n
		}
	}
	if accepted < s.count {
		return errors.New("not every event was accepted")
	}
	return nil
}
