package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	svix "github.com/svix/svix-webhooks/go"

	"github.com/rollcall-dev/rollcall/internal/ingest"
	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
)

// event is one of Clerk's, with what it says in the model's words.
type event struct {
	id            string // svix-id
	body          []byte
	key           string // "users/user_1"
	deletes       bool
	updatedAt, at int64  // milliseconds
	plain         string // columns that outlive a deletion
	personal      string
	parents       []string // keys
}

// model is a second reading of the rules, kept apart from the store's: the
// newest content of each entity, gone with the first deletion of it or a parent.
func model(events []*event) map[string]string {
	newest, gone, rows := map[string]*event{}, map[string]int64{}, map[string]string{}
	for _, e := range events {
		old := newest[e.key]
		switch at, ok := gone[e.key]; {
		case e.deletes && (!ok || e.at < at):
			gone[e.key] = e.at
		case !e.deletes && (old == nil || e.updatedAt > old.updatedAt || e.updatedAt == old.updatedAt && e.at > old.at):
			newest[e.key] = e
		}
	}
	for key, at := range gone {
		rows[key] = fmt.Sprintf("deleted=%d", at)
	}
	for key, e := range newest {
		var ends []int64
		for _, k := range append([]string{key}, e.parents...) {
			if at, ok := gone[k]; ok {
				ends = append(ends, at)
			}
		}
		if len(ends) == 0 {
			rows[key] = fmt.Sprintf("%s%supdated=%d", e.plain, e.personal, e.updatedAt)
		} else {
			rows[key] = fmt.Sprintf("%supdated=%d deleted=%d", e.plain, e.updatedAt, slices.Min(ends))
		}
	}
	return rows
}

// world draws the lives of users, organizations and memberships, as Clerk tells
// of them: some events come late, some twice.
type world struct {
	*rand.Rand
	run   string // in every id: two worlds never meet
	clock int64  // milliseconds; no two events share one
	n     int
	users []string
	orgs  []string
	// members are the memberships, with whom they join.
	members []member
	last    map[string]int64 // updated_at by id
	late    []*event
	again   *event
}

type member struct{ id, user, org string }

func newWorld(seed uint64) *world {
	return &world{Rand: rand.New(rand.NewPCG(seed, 0)), run: fmt.Sprintf("%x", seed), clock: time.Now().UnixMilli(), last: map[string]int64{}}
}

func (w *world) next() *event {
	if e := w.again; e != nil {
		w.again = nil
		return e
	}
	if len(w.late) > 0 && w.IntN(100) < 4 {
		return w.overdue()
	}
	e := w.draw()
	switch r := w.IntN(100); {
	case r < 5:
		w.late = append(w.late, e)
		return w.next()
	case r < 8:
		w.again = e
	}
	return e
}

// overdue is one of the events held back, nil for none.
func (w *world) overdue() *event {
	if len(w.late) == 0 {
		return nil
	}
	i := w.IntN(len(w.late))
	e := w.late[i]
	w.late = slices.Delete(w.late, i, i+1)
	return e
}

func (w *world) draw() *event {
	r := w.IntN(100)
	switch {
	case r < 15 || len(w.users) == 0:
		w.users = append(w.users, w.id("user"))
		return w.user("created", w.users[len(w.users)-1])
	case r < 25 || len(w.orgs) == 0:
		w.orgs = append(w.orgs, w.id("org"))
		return w.organization("created", w.orgs[len(w.orgs)-1])
	case r < 45 || len(w.members) == 0:
		w.members = append(w.members, member{w.id("orgmem"), pickOf(w, w.users), pickOf(w, w.orgs)})
		return w.membership("created", w.members[len(w.members)-1])
	case r < 65:
		return w.user("updated", pickOf(w, w.users))
	case r < 75:
		return w.organization("updated", pickOf(w, w.orgs))
	case r < 85:
		return w.membership("updated", pickOf(w, w.members))
	case r < 91:
		return w.membership("deleted", removeOf(w, &w.members))
	case r < 98:
		return w.user("deleted", removeOf(w, &w.users))
	}
	return w.organization("deleted", removeOf(w, &w.orgs))
}

func (w *world) id(kind string) string {
	w.n++
	return fmt.Sprintf("%s_%s%06d", kind, w.run, w.n)
}

func pickOf[T any](w *world, list []T) T { return list[w.IntN(len(list))] }

func removeOf[T any](w *world, list *[]T) T {
	i := w.IntN(len(*list))
	x := (*list)[i]
	*list = slices.Delete(*list, i, i+1)
	return x
}

func (w *world) user(action, id string) *event {
	email := fmt.Sprintf("%s-%d@example.org", id, w.n)
	return w.event("users", "user", action, id, "", fmt.Sprintf("name=Ada %d email=%s ", w.n, email), map[string]any{
		"first_name": "Ada", "last_name": strconv.Itoa(w.n), "primary_email_address_id": "idn_1",
		"email_addresses": []any{map[string]any{"id": "idn_1", "email_address": email}},
	})
}

func (w *world) organization(action, id string) *event {
	return w.event("organizations", "organization", action, id, "", fmt.Sprintf("name=Acme %d ", w.n), map[string]any{"name": fmt.Sprintf("Acme %d", w.n)})
}

func (w *world) membership(action string, m member) *event {
	role := pickOf(w, []string{"org:admin", "org:member"})
	e := w.event("organization_memberships", "organizationMembership", action, m.id, fmt.Sprintf("user=%s org=%s role=%s ", m.user, m.org, role), "", map[string]any{
		"role": role, "organization": map[string]any{"id": m.org}, "public_user_data": map[string]any{"user_id": m.user},
	})
	e.parents = []string{"users/" + m.user, "organizations/" + m.org}
	return e
}

func (w *world) event(table, object, action, id, plain, personal string, data map[string]any) *event {
	w.n++
	w.clock += 1 + w.Int64N(50)
	// Some updates share their updated_at; the envelope's time tells them apart.
	if w.last[id] == 0 || w.IntN(10) > 0 {
		w.last[id] = w.clock
	}
	e := &event{
		id: fmt.Sprintf("msg_%s%06d", w.run, w.n), key: table + "/" + id, deletes: action == "deleted", updatedAt: w.last[id], at: w.clock,
		plain: plain, personal: fmt.Sprintf("%sn=%d ", personal, w.n),
	}
	data["id"], data["updated_at"], data["public_metadata"] = id, e.updatedAt, map[string]any{"n": w.n}
	if e.deletes && table != "organization_memberships" {
		data = map[string]any{"id": id, "deleted": true}
	}
	body, err := json.Marshal(map[string]any{"type": object + "." + action, "object": "event", "timestamp": e.at, "instance_id": "ins_1", "data": data})
	if err != nil {
		panic(err) // made of strings and numbers
	}
	e.body = body
	return e
}

// told is the answer to a post; code 0 is none.
type told struct {
	code  int
	retry string // Retry-After
}

// sender posts a world's events as Svix does: each until it is told 2xx. It
// remembers what was accepted.
type sender struct {
	t       testing.TB
	url     string
	webhook *svix.Webhook
	client  *http.Client
	pause   time.Duration // of a worker, between events

	events  chan *event
	quit    chan struct{} // no further events
	abandon chan struct{} // no further attempts
	working sync.WaitGroup

	mu       sync.Mutex
	accepted []*event // each once
	seen     map[string]bool
	tried    map[string]*event // by svix-id
	answers  map[int]int
	slowest  []time.Duration // of each answer, since the last look
	bad      string
}

const workers = 32

// newSender posts to a process's webhook endpoint.
func newSender(t testing.TB, addr, secret string) *sender {
	t.Helper()
	w, err := svix.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	return &sender{
		t: t, url: "http://" + addr + ingest.Path, webhook: w, pause: 50 * time.Millisecond,
		client: &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: workers}},
		events: make(chan *event), quit: make(chan struct{}), abandon: make(chan struct{}),
		seen: map[string]bool{}, tried: map[string]*event{}, answers: map[int]int{},
	}
}

// load sends until finish or leave.
func load(t testing.TB, p *proc, seed uint64) *sender {
	t.Helper()
	s := newSender(t, p.addr, secret)
	w := newWorld(seed)
	t.Logf("seed %d", seed)
	s.working.Go(func() {
		defer close(s.events)
		for e := w.next(); e != nil; {
			select {
			case s.events <- e:
				e = w.next()
			case <-s.quit:
				s.rest(e, w)
				return
			}
		}
	})
	for range workers {
		s.working.Go(s.work)
	}
	t.Cleanup(func() {
		s.leave()
		s.client.CloseIdleConnections()
	})
	return s
}

// rest hands out what is in hand and what was held back.
func (s *sender) rest(e *event, w *world) {
	for ; e != nil; e = w.overdue() {
		select {
		case s.events <- e:
		case <-s.abandon:
			return
		}
	}
}

func (s *sender) work() {
	for e := range s.events {
		for s.attempt(e) != nil {
			select {
			case <-s.abandon:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
		select {
		case <-s.abandon:
			return
		case <-time.After(s.pause):
		}
	}
}

// attempt signs and posts; nil is a 2xx.
func (s *sender) attempt(e *event) error {
	s.mu.Lock()
	s.tried[e.id] = e
	s.mu.Unlock()
	start := time.Now()
	a := s.post(e)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[a.code]++
	switch {
	case a.code/100 == 2:
		s.slowest = append(s.slowest, time.Since(start))
		if !s.seen[e.id] {
			s.seen[e.id] = true
			s.accepted = append(s.accepted, e)
		}
		return nil
	case a.code == http.StatusServiceUnavailable && a.retry == "":
		s.bad = "503 without Retry-After"
	case a.code != 0 && a.code != http.StatusServiceUnavailable:
		s.bad = fmt.Sprintf("answer %d", a.code)
	}
	return fmt.Errorf("answer %d", a.code)
}

func (s *sender) post(e *event) (a told) {
	now := time.Now()
	signature, err := s.webhook.Sign(e.id, now, e.body)
	if err != nil {
		return a
	}
	req, err := http.NewRequest(http.MethodPost, s.url, bytes.NewReader(e.body))
	if err != nil {
		return a
	}
	req.Header.Set("svix-id", e.id)
	req.Header.Set("svix-timestamp", strconv.FormatInt(now.Unix(), 10))
	req.Header.Set("svix-signature", signature)
	resp, err := s.client.Do(req)
	if err != nil {
		return a
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body) // the status is the answer
	return told{resp.StatusCode, resp.Header.Get("Retry-After")}
}

// sendAll posts events that a test has made itself, until each is accepted.
func (s *sender) sendAll(events []*event) {
	s.t.Helper()
	for _, e := range events {
		stacktest.Eventually(s.t, patience, func() error { return s.attempt(e) })
	}
}

// finish sends what is left, each event until it is accepted, and returns all.
func (s *sender) finish() []*event {
	s.t.Helper()
	close(s.quit)
	done := make(chan struct{})
	go func() {
		s.working.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(patience):
		s.leave()
		s.t.Fatalf("not every event was accepted within %s of the end; answers so far: %v", patience, s.answered())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bad != "" {
		s.t.Errorf("the sender was told: %s", s.bad)
	}
	s.t.Logf("%d events accepted; answers: %v", len(s.accepted), s.answers)
	return s.accepted
}

// leave gives up what was not accepted yet.
func (s *sender) leave() []*event {
	s.mu.Lock()
	select {
	case <-s.abandon:
	default:
		close(s.abandon)
	}
	select {
	case <-s.quit:
	default:
		close(s.quit)
	}
	s.mu.Unlock()
	s.working.Wait()
	return s.accepted
}

func (s *sender) answered() map[int]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := map[int]int{}
	for k, v := range s.answers {
		m[k] = v
	}
	return m
}

// more waits until n more events are accepted.
func (s *sender) more(n int) {
	s.t.Helper()
	want := s.count() + n
	stacktest.Eventually(s.t, patience, func() error {
		if now := s.count(); now < want {
			return fmt.Errorf("%d events accepted, want %d; answers: %v", now, want, s.answered())
		}
		return nil
	})
}

func (s *sender) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.accepted)
}

// p99 of the answers since it was last asked.
func (s *sender) p99() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	took := s.slowest
	s.slowest = nil
	if len(took) == 0 {
		return 0
	}
	slices.Sort(took)
	return took[len(took)*99/100]
}

// fresh are n events of a world of their own.
func fresh(seed uint64, n int) []*event {
	w := newWorld(seed)
	events := make([]*event, n)
	for i := range events {
		events[i] = w.draw()
	}
	return events
}

// sendAtOnce is sendAll over all connections.
func (s *sender) sendAtOnce(events []*event) {
	s.t.Helper()
	next := make(chan *event)
	var done sync.WaitGroup
	for range workers {
		done.Go(func() {
			for e := range next {
				for s.attempt(e) != nil {
					select {
					case <-s.t.Context().Done():
						return
					case <-time.After(5 * time.Millisecond):
					}
				}
			}
		})
	}
	for _, e := range events {
		select {
		case next <- e:
		case <-s.t.Context().Done():
		}
	}
	close(next)
	done.Wait()
}
