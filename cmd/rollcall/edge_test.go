package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/internal/emulator/token"
	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
)

const gatewaysOfEdge = 3

// edge is what a request meets, each part a process of its own: an ingest, a revoke
// and three gateways before a service. The last gateway lets requests through
// while it doesn't know who is revoked.
type edge struct {
	t        *testing.T
	nats     *stacktest.NATSServer
	ingest   *proc
	revoke   *proc
	gateways [gatewaysOfEdge]*proc
	urls     [gatewaysOfEdge]string
	sender   *sender
	minter   *token.Minter
	client   *http.Client
	events   int
}

func newEdge(t *testing.T) *edge {
	t.Helper()
	keys, err := token.NewKeys("ins_1", time.Now)
	if err != nil {
		t.Fatal(err)
	}
	key, err := keys.PublicPEM()
	if err != nil {
		t.Fatal(err)
	}
	service := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(service.Close)
	e := &edge{
		t: t, nats: stacktest.NATS(t, stacktest.Sync()),
		minter: &token.Minter{Keys: keys, Issuer: token.IssuerOf("clerk.app.example"), Clock: time.Now},
		client: &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64}},
	}
	t.Cleanup(e.client.CloseIdleConnections)
	e.ingest = e.proc([]string{"run", "ingest"}, "CLERK_WEBHOOK_SIGNING_SECRET="+secret)
	e.ingest.env = append(e.ingest.env, "ROLLCALL_INGEST_ADDR="+e.ingest.addr)
	e.revoke = e.newRevoke()
	for i := range e.gateways {
		onStale := "closed"
		if i == gatewaysOfEdge-1 {
			onStale = "open"
		}
		file := filepath.Join(t.TempDir(), "rollcall.yaml")
		text := fmt.Sprintf("gateway:\n  revocation: {on_stale: %s}\n  routes:\n    - {path: /, upstream: %q}\n", onStale, service.URL)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		addr := fmt.Sprintf("127.0.0.1:%d", stacktest.FreePort(t))
		e.urls[i] = "http://" + addr + "/orders"
		e.gateways[i] = e.proc([]string{"run", "gateway", "--config", file}, "ROLLCALL_GATEWAY_ADDR="+addr, "ROLLCALL_IDENTITY_SEED="+strings.Repeat("s", 32),
			"CLERK_PUBLISHABLE_KEY="+token.PublishableKey("clerk.app.example"), "CLERK_JWT_KEY="+strings.ReplaceAll(key, "\n", `\n`))
	}
	all := append([]*proc{e.ingest, e.revoke}, e.gateways[:]...)
	for _, p := range all {
		p.start()
	}
	for _, p := range all {
		p.is("ok")
	}
	e.sender = newSender(t, e.ingest.addr, secret)
	t.Cleanup(e.sender.client.CloseIdleConnections)
	return e
}

func (e *edge) proc(args []string, env ...string) *proc {
	health := fmt.Sprintf("127.0.0.1:%d", stacktest.FreePort(e.t))
	return newProc(e.t, health, args, append(env, "NATS_URL="+e.nats.URL, "ROLLCALL_HEALTH_ADDR="+health)...)
}

func (e *edge) newRevoke() *proc { return e.proc([]string{"run", "revoke"}) }

// token of a user, made then; life is long, so that nothing but a revocation ends it.
func (e *edge) token(user string, made time.Time, org *token.Organization) string {
	e.t.Helper()
	text, err := e.minter.Session(token.SessionClaims{
		UserID: user, SessionID: "sess_" + user, Organization: org,
		Options: token.Options{IssuedAt: made, Lifetime: 10 * time.Minute},
	})
	if err != nil {
		e.t.Fatal(err)
	}
	return text
}

// event is made, not sent.
func (e *edge) event(eventType, id string, at time.Time, data map[string]any) *event {
	e.t.Helper()
	e.events++
	data["id"], data["updated_at"] = id, at.UnixMilli()
	body, err := json.Marshal(map[string]any{"type": eventType, "object": "event", "timestamp": at.UnixMilli(), "instance_id": "ins_1", "data": data})
	if err != nil {
		e.t.Fatal(err)
	}
	return &event{id: fmt.Sprintf("msg_edge%d", e.events), body: body}
}

func (e *edge) ban(user string, at time.Time) *event {
	return e.event("user.updated", user, at, map[string]any{"banned": true})
}

func (e *edge) send(events ...*event) { e.t.Helper(); e.sender.sendAll(events) }

// ask returns the status, and the code of a refusal.
func (e *edge) ask(gateway int, bearer string) (status int, code string, err error) {
	req, err := http.NewRequest(http.MethodGet, e.urls[gateway], nil)
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Authorization", "Bearer "+bearer)
	resp, err := e.client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	var told struct{ Errors []struct{ Code string } }
	if err == nil && resp.StatusCode != http.StatusOK {
		if err = json.Unmarshal(body, &told); err == nil && len(told.Errors) == 1 {
			code = told.Errors[0].Code
		}
	}
	return resp.StatusCode, code, err
}

const (
	passes  = "200 "
	revoked = "401 session-revoked"
	unknown = "503 revocations-unknown"
)

// now expects an answer of each gateway at once.
func (e *edge) now(what, bearer, want string) {
	e.t.Helper()
	for i := range e.gateways {
		if status, code, err := e.ask(i, bearer); fmt.Sprint(status, " ", code) != want || err != nil {
			e.t.Errorf("%s: gateway %d answers %d %s, %v; want %s", what, i, status, code, err, want)
		}
	}
}

// becomes waits for an answer of some gateways.
func (e *edge) becomes(what, bearer, want string, gateways ...int) {
	e.t.Helper()
	for _, i := range gateways {
		stacktest.Eventually(e.t, patience, func() error {
			if status, code, err := e.ask(i, bearer); fmt.Sprint(status, " ", code) != want || err != nil {
				return fmt.Errorf("%s: gateway %d answers %d %s, %w; want %s", what, i, status, code, err, want)
			}
			return nil
		})
	}
}

// settled waits until revoke has read all that has been sent.
func (e *edge) settled() {
	e.t.Helper()
	user := fmt.Sprintf("user_last%d", e.events)
	bearer := e.token(user, time.Now().Add(-time.Second), nil)
	e.send(e.ban(user, time.Now()))
	e.becomes("the last one banned", bearer, revoked, 0, 1, 2)
}

// person has a token that a ban ends.
type person struct {
	id, token string
	banned    atomic.Bool                 // it was sent
	out       [gatewaysOfEdge]atomic.Bool // it was refused
}

// crowd sends requests to all gateways, at a rate, until it is stopped.
type crowd struct {
	*edge
	people []*person
	quit   chan struct{}
	done   sync.WaitGroup

	passed, refused atomic.Int64
	mu              sync.Mutex
	wrong           []string
}

func (e *edge) crowd(n int, perSecond float64) *crowd {
	c := &crowd{edge: e, quit: make(chan struct{})}
	for i := range n {
		id := fmt.Sprintf("user_%d", i)
		c.people = append(c.people, &person{id: id, token: e.token(id, time.Now().Add(-5*time.Second), nil)})
	}
	const workersEach = 4
	every := time.Duration(float64(time.Second) * gatewaysOfEdge * workersEach / perSecond)
	for i := range gatewaysOfEdge * workersEach {
		c.done.Go(func() {
			tick := time.NewTicker(every)
			defer tick.Stop()
			for {
				select {
				case <-c.quit:
					return
				case <-tick.C:
					c.request(c.people[rand.IntN(n)], i%gatewaysOfEdge)
				}
			}
		})
	}
	return c
}

// request reports whether the person is refused, and notes an answer that is wrong: who was
// refused once doesn't pass again, and nobody is who isn't banned.
func (c *crowd) request(p *person, gateway int) (refused bool) {
	out := p.out[gateway].Load()
	status, code, err := c.ask(gateway, p.token)
	switch got := fmt.Sprint(status, " ", code); {
	case got == revoked && p.banned.Load():
		p.out[gateway].Store(true)
		c.refused.Add(1)
		return true
	case got == passes && !out:
		c.passed.Add(1)
	default:
		c.mu.Lock()
		c.wrong = append(c.wrong, fmt.Sprintf("%s at gateway %d: %s, %v; banned %t, refused before %t", p.id, gateway, got, err, p.banned.Load(), out))
		c.mu.Unlock()
	}
	return false
}

// ban returns how long after its 2xx each gateway refused the person.
func (c *crowd) ban(p *person) (took [gatewaysOfEdge]time.Duration) {
	c.t.Helper()
	p.banned.Store(true)
	event := c.edge.ban(p.id, time.Now())
	stacktest.Eventually(c.t, patience, func() error { return c.sender.attempt(event) })
	stored := time.Now()
	var all sync.WaitGroup
	for i := range c.gateways {
		all.Go(func() {
			for !c.request(p, i) {
				if time.Since(stored) > patience {
					c.t.Errorf("gateway %d lets %s pass %s after the ban", i, p.id, patience)
					return
				}
				time.Sleep(time.Millisecond)
			}
			took[i] = time.Since(stored)
		})
	}
	all.Wait()
	return took
}

// stop ends the requests, and expects that none was answered wrongly.
func (c *crowd) stop() {
	c.t.Helper()
	close(c.quit)
	c.done.Wait()
	c.t.Logf("%d requests passed, %d were refused", c.passed.Load(), c.refused.Load())
	if n := len(c.wrong); n > 0 {
		c.t.Errorf("%d answers are wrong, the first: %v", n, c.wrong[:min(n, 5)])
	}
}

// banUnderLoad bans people while all of them send requests, and returns how long after the
// webhook's 2xx each gateway refused each.
func banUnderLoad(e *edge, people, bans int, perSecond float64) (took []time.Duration) {
	e.t.Helper()
	c := e.crowd(people, perSecond)
	defer c.stop()
	for _, p := range c.people[:bans] {
		each := c.ban(p)
		took = append(took, each[:]...)
	}
	// All of them are asked again: who is out stays out, the others stay.
	for _, p := range c.people {
		for i := range e.gateways {
			if refused := c.request(p, i); refused != p.banned.Load() {
				e.t.Errorf("%s at gateway %d in the end: refused %t, banned %t", p.id, i, refused, p.banned.Load())
			}
		}
	}
	slices.Sort(took)
	e.t.Logf("from a webhook's 2xx to refusal: p50 %s, p99 %s, at most %s", took[len(took)/2], took[len(took)*99/100], took[len(took)-1])
	return took
}

// Under load nobody passes once refused, and whoever comes back does with the next token.
func TestBan(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	banUnderLoad(e, 12, 6, 60)

	// An un-ban lets the next token in, not the one before; and the ban, delivered again
	// as itself or as a late one that nobody remembers, changes nothing.
	at := time.Now()
	old := e.token("user_ada", at.Add(-time.Second), nil)
	ban := e.ban("user_ada", at)
	e.now("before the ban", old, passes)
	e.send(ban)
	e.becomes("banned", old, revoked, 0, 1, 2)
	e.now("of the second of the ban", e.token("user_ada", at, nil), revoked)
	e.send(e.event("user.updated", "user_ada", at.Add(time.Millisecond), map[string]any{"banned": false}))
	next := e.token("user_ada", at.Add(time.Second), nil)
	e.settled()
	e.now("after the un-ban", next, passes)
	e.now("from before the un-ban", old, revoked)
	forgotten := &event{id: "msg_forgotten", body: ban.body}
	halfAnHourOld := e.ban("user_bob", at.Add(-30*time.Minute))
	bob := e.token("user_bob", at.Add(-time.Minute), nil)
	e.send(ban, forgotten, halfAnHourOld, e.event("user.updated", "user_bob", at.Add(-29*time.Minute), map[string]any{"banned": false}), halfAnHourOld)
	e.settled()
	e.now("the ban came again", next, passes)
	e.now("a ban of half an hour ago came after its un-ban", bob, passes)

	e.comeBack(at)
}

// comeBack is whose membership ends, begins again and changes.
func (e *edge) comeBack(at time.Time) {
	member := func(action string, after time.Duration, role string) *event {
		return e.event("organizationMembership."+action, "orgmem_1", at.Add(after), map[string]any{
			"role": role, "organization": map[string]any{"id": "org_1"}, "public_user_data": map[string]any{"user_id": "user_eve"},
		})
	}
	in := func(after time.Duration, role string) string {
		return e.token("user_eve", at.Add(after), &token.Organization{ID: "org_1", Role: role})
	}
	at = at.Truncate(time.Second).Add(-time.Minute) // tokens' seconds
	alone := e.token("user_eve", at, nil)
	e.send(member("created", 0, "org:member"))
	e.settled()
	e.now("a member", in(0, "org:member"), passes)
	e.send(member("updated", 10*time.Second, "org:admin"))
	e.becomes("promoted", in(10*time.Second, "org:member"), revoked, 0, 1, 2)
	e.now("promoted, the next token", in(11*time.Second, "org:admin"), passes)
	e.send(member("deleted", 20*time.Second, "org:admin"))
	e.becomes("removed", in(20*time.Second, "org:admin"), revoked, 0, 1, 2)
	e.now("removed, outside of the organization", alone, passes)
	rejoined := member("created", 30*time.Second, "org:member")
	e.send(e.renamed(rejoined))
	e.settled()
	e.now("back, the next token", in(31*time.Second, "org:member"), passes)
	e.now("back, a token from before", in(20*time.Second, "org:admin"), revoked)
}

// renamed is the same of another membership: Clerk gives one that begins again a new id.
func (e *edge) renamed(from *event) *event {
	return &event{id: from.id, body: []byte(strings.Replace(string(from.body), "orgmem_1", "orgmem_2", 1))}
}

// A revoke that hangs or dies, and a NATS that is gone, show at each gateway, which
// refuses or goes by what it has; nothing that came meanwhile is missed.
func TestRevokeHangs(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	made := time.Now().Add(-time.Second)
	ada, bob, carl, dora := e.token("user_ada", made, nil), e.token("user_bob", made, nil), e.token("user_carl", made, nil), e.token("user_dora", made, nil)
	e.send(e.ban("user_ada", time.Now()))
	e.becomes("banned", ada, revoked, 0, 1, 2)

	hung := e.revoke
	hung.signal(syscall.SIGSTOP)
	e.shows("a revoke that hangs", dora, ada)
	e.send(e.ban("user_bob", time.Now()))
	e.revoke = e.newRevoke().start() // takes over
	e.knows()
	e.becomes("banned while it hung", bob, revoked, 0, 1, 2)
	hung.signal(syscall.SIGCONT)
	hung.is("ok")
	hung.kill()
	e.now("the old one went on", bob, revoked)

	e.revoke.kill()
	e.send(e.ban("user_carl", time.Now()))
	e.shows("a revoke that was killed", dora, ada)
	e.revoke.start()
	e.knows()
	e.becomes("banned while it was dead", carl, revoked, 0, 1, 2)

	e.nats.Stop()
	e.shows("a NATS that is gone", dora, ada)
	e.nats.Start()
	e.knows()
	for _, bearer := range []string{ada, bob, carl} {
		e.now("in the end", bearer, revoked)
	}
	e.now("in the end, somebody else", dora, passes)
}

// shows waits until gateways know that they don't know: two refuse whoever they would
// let pass, the third goes by what it has.
func (e *edge) shows(what, allowed, banned string) {
	e.t.Helper()
	began := time.Now()
	e.becomes(what, allowed, unknown, 0, 1)
	e.t.Logf("%s showed after %s", what, time.Since(began).Round(time.Millisecond))
	for _, p := range e.gateways {
		p.is("degraded")
		if age := p.metric("rollcall_revocation_watermark_age_seconds"); age < 5 {
			e.t.Errorf("%s: the last watermark is said to be %.1f s old", what, age)
		}
	}
	e.becomes(what+", somebody else", allowed, passes, 2)
	e.becomes(what+", somebody banned", banned, revoked, 2)
}

func (e *edge) knows() {
	e.t.Helper()
	for _, p := range e.gateways {
		p.is("ok")
	}
}
