// Package microservices tests the example: three services behind the gateway,
// and behind a stock nginx that asks it.
package microservices

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rollcall-dev/rollcall/deploy/examples/exampletest"
	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
)

const module = "github.com/rollcall-dev/rollcall/deploy/examples/microservices/"

func TestMain(m *testing.M) { stacktest.Main(m) }

type story struct {
	*testing.T
	*exampletest.Stack
	postgres      *stacktest.Server
	redis         *stacktest.RedisServer
	nats          *stacktest.NATSServer
	notifications *exampletest.Process
	ways          []string // the gateway and nginx
	users         string   // that service, past both
	ada, bob, mel string   // of acme: ada its admin, mel a member; bob is globex's admin
	acme, globex  string
}

func TestMicroservices(t *testing.T) {
	t.Parallel()
	if os.Getenv("ROLLCALL_TEST_EXAMPLES") == "" {
		t.Skip("NOT TESTED: one of its services needs node; make examples runs it")
	}
	s := start(t)
	for _, step := range []struct {
		name string
		run  func(*story)
	}{
		{"who may", (*story).whoMay},
		{"orders", (*story).orders},
		{"welcomed once", (*story).welcomedOnce},
		{"the cache is fresh", (*story).cacheIsFresh},
		{"no calls to Clerk", (*story).noCalls},
		{"banned", (*story).banned},
		{"Redis is down", (*story).redisDown},
		{"Postgres is down", (*story).postgresDown},
		{"Rollcall is down", (*story).rollcallDown},
	} {
		if !t.Run(step.name, func(t *testing.T) { s.T = t; step.run(s) }) {
			return // later steps build on it
		}
	}
}

func start(t *testing.T) *story {
	s := &story{T: t, postgres: stacktest.Postgres(t), redis: stacktest.Redis(t), nats: stacktest.NATS(t)}
	addr := func() string { return fmt.Sprintf("127.0.0.1:%d", stacktest.FreePort(t)) }
	gateway, nginx, users, orders, notifications := addr(), addr(), addr(), addr(), addr()
	instead := []string{
		"127.0.0.1:8082", gateway, "127.0.0.1:8000", nginx, "127.0.0.1:9001", users, "127.0.0.1:9002", orders, "127.0.0.1:9003", notifications,
		"/tmp/rollcall-microservices-nginx.pid", filepath.Join(t.TempDir(), "nginx.pid"),
	}
	s.Stack = exampletest.Dev(t, "rollcall.yaml", instead, "DATABASE_URL="+s.postgres.Database(t).AdminURL, "REDIS_URL="+s.redis.URL, "NATS_URL="+s.nats.URL, "ROLLCALL_GATEWAY_ADDR="+gateway)
	s.ways, s.users = []string{"http://" + gateway, "http://" + nginx}, "http://"+users
	env := []string{
		"DATABASE_URL=" + s.Env["DATABASE_URL"], "NATS_URL=" + s.Env["NATS_URL"], "REDIS_URL=" + s.redis.URL, "ROLLCALL_GATEWAY_URL=" + s.ways[0],
		"USERS_ADDR=" + users, "NOTIFICATIONS_ADDR=" + notifications, "ORDERS_PORT=" + strings.TrimPrefix(orders, "127.0.0.1:"),
	}
	exampletest.Start(t, ".", env, exampletest.Build(t, module+"users"))
	s.notifications = exampletest.Start(t, ".", env, exampletest.Build(t, module+"notifications"))
	exampletest.Start(t, ".", env, program(t, "node"), "orders/orders.mjs")
	text, err := os.ReadFile("nginx.conf")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "nginx.conf"), []byte(strings.NewReplacer(instead...).Replace(string(text))), 0o600); err != nil {
		t.Fatal(err)
	}
	// A master that is killed leaves its workers behind.
	exampletest.Start(t, dir, nil, program(t, "nginx"), "-p", dir, "-c", "nginx.conf", "-g", "master_process off;")

	s.ada, s.bob, s.mel = s.SignUp("Ada"), s.SignUp("Bob"), s.SignUp("Mel")
	s.acme, s.globex = s.organization("Acme", s.ada), s.organization("Globex", s.bob)
	s.Clerk("POST", "/v1/organizations/"+s.acme+"/memberships", map[string]any{"user_id": s.mel, "role": "org:member"}, nil)
	for _, way := range s.ways {
		s.recovers(way)
	}
	return s
}

func program(t *testing.T, name string) string {
	t.Helper()
	for _, name := range []string{name, "/usr/sbin/" + name} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Fatalf("there is no %s here", name)
	return ""
}

func (s *story) organization(name, admin string) string {
	s.Helper()
	var o struct{ ID string }
	s.Clerk("POST", "/v1/organizations", map[string]any{"name": name, "created_by": admin}, &o)
	return o.ID
}

// as asks by way of the gateway or nginx.
func (s *story) as(user, organization, method, url, body string, headers ...string) exampletest.Answer {
	s.Helper()
	return exampletest.Ask(s.T, method, url, body, append(headers, "Authorization", "Bearer "+s.Token(user, organization))...)
}

func (s *story) is(a exampletest.Answer, status int, says string) {
	s.Helper()
	if a.Status != status || !strings.Contains(a.Body, says) {
		s.Errorf("%v, want %d with %q", a, status, says)
	}
	for _, inside := range []string{"goroutine", "SQLSTATE", ".go:", ".mjs", "ECONN", "127.0.0.1:"} {
		if strings.Contains(a.Body, inside) {
			s.Errorf("the user sees %q: %v", inside, a)
		}
	}
}

func (s *story) eventually(status int, says string, ask func() exampletest.Answer) {
	s.Helper()
	stacktest.Eventually(s.T, exampletest.Patience, func() error {
		if a := ask(); a.Status != status || !strings.Contains(a.Body, says) {
			return errors.New(a.String())
		}
		return nil
	})
}

// recovers waits until each service answers.
func (s *story) recovers(way string) {
	s.Helper()
	s.eventually(200, `"Ada"`, func() exampletest.Answer { return s.as(s.ada, "", "GET", way+"/api/users/me", "") })
	s.eventually(200, "[", func() exampletest.Answer { return s.as(s.ada, s.acme, "GET", way+"/api/orders", "") })
	s.eventually(200, "Welcome, Ada!", func() exampletest.Answer { return s.as(s.ada, "", "GET", way+"/api/messages", "") })
}

func (s *story) whoMay() {
	for _, way := range s.ways {
		for _, path := range []string{"/api/users/me", "/api/orders", "/api/refunds", "/api/messages"} {
			s.is(exampletest.Ask(s.T, "GET", way+path, "", "X-Clerk-User-Id", s.ada), 401, `"errors"`)
		}
		s.is(s.as(s.ada, "", "GET", way+"/api/orders", ""), 403, `"errors"`)
		s.is(s.as(s.mel, s.acme, "POST", way+"/api/refunds", `{"order":1}`), 403, `"errors"`)
		// What a client says of itself doesn't count.
		s.eventually(200, "Welcome, Mel!", func() exampletest.Answer {
			return s.as(s.mel, s.acme, "GET", way+"/api/messages", "", "X-Clerk-User-Id", s.ada, "x_clerk_user_id", s.ada)
		})
	}
	s.is(exampletest.Ask(s.T, "GET", s.users+"/api/users/me", "", "X-Clerk-User-Id", s.ada), 401, `"errors"`)
}

func (s *story) orders() {
	for _, way := range s.ways {
		a := s.as(s.ada, s.acme, "POST", way+"/api/orders", `{"item":"rocket"}`)
		s.is(a, 200, `"item":"rocket"`)
		var made []struct{ ID string }
		if err := json.Unmarshal([]byte(a.Body), &made); err != nil || len(made) != 1 {
			s.Fatal(a, err)
		}
		refund := `{"order":` + made[0].ID + `}`
		s.is(s.as(s.mel, s.acme, "GET", way+"/api/orders", ""), 200, `"by":"Ada"`)
		s.is(s.as(s.bob, s.globex, "GET", way+"/api/orders", ""), 200, `[]`)
		s.is(s.as(s.bob, s.globex, "POST", way+"/api/refunds", refund), 200, `[]`)
		s.is(s.as(s.ada, s.acme, "POST", way+"/api/refunds", refund), 200, `"refunded":true`)
		s.is(s.as(s.ada, s.acme, "POST", way+"/api/orders", `{`), 422, `"errors"`)
		s.is(s.as(s.ada, s.acme, "POST", way+"/api/orders", `{}`), 422, `"errors"`)
	}
}

// welcomedOnce has the service read the whole log once more.
func (s *story) welcomedOnce() {
	s.notifications.Stop()
	js, err := jetstream.New(s.nats.Connect(s.T))
	if err == nil {
		err = js.DeleteConsumer(s.Context(), "CLERK", "notifications")
	}
	if err != nil {
		s.Fatal(err)
	}
	s.notifications.Start()
	var events uint64
	stacktest.Eventually(s.T, exampletest.Patience, func() error {
		consumer, err := js.Consumer(s.Context(), "CLERK", "notifications")
		if err != nil {
			return err
		}
		info, err := consumer.Info(s.Context())
		if err == nil && (info.NumPending > 0 || info.NumAckPending > 0 || info.AckFloor.Consumer < 3) {
			err = fmt.Errorf("%+v", info)
		}
		if err == nil {
			events = info.AckFloor.Consumer
		}
		return err
	})
	db, err := pgx.Connect(s.Context(), s.Env["DATABASE_URL"])
	if err != nil {
		s.Fatal(err)
	}
	defer db.Close(s.Context())
	var messages, people uint64
	if err := db.QueryRow(s.Context(), `select count(*), count(distinct user_id) from notifications.outbox`).Scan(&messages, &people); err != nil || messages != events || people != events {
		s.Errorf("%d messages to %d people for %d events (%v)", messages, people, events, err)
	}
}

func (s *story) cacheIsFresh() {
	if got := s.redis.CLI("get", "user:"+s.ada); !strings.Contains(got, `"Ada"`) {
		s.Errorf("Redis has %q", got)
	}
	for i, way := range s.ways {
		name := fmt.Sprint("Ada", i)
		s.Clerk("PATCH", "/v1/users/"+s.ada, map[string]any{"first_name": name}, nil)
		s.eventually(200, `"`+name+`"`, func() exampletest.Answer { return s.as(s.ada, "", "GET", way+"/api/users/me", "") })
	}
	s.Clerk("PATCH", "/v1/users/"+s.ada, map[string]any{"first_name": "Ada"}, nil)
	s.recovers(s.ways[0])
}

// noCalls counts what 1,000 requests ask of Clerk.
func (s *story) noCalls() {
	var before, after struct {
		API  int `json:"backend_api"`
		Keys int `json:"jwks"`
	}
	token := s.Token(s.ada, s.acme)
	s.Clerk("GET", "/_emu/requests", nil, &before)
	for i := range 1000 {
		url := s.ways[i%2] + []string{"/api/users/me", "/api/orders", "/api/messages"}[i%3]
		if a := exampletest.Ask(s.T, "GET", url, "", "Authorization", "Bearer "+token); a.Status != 200 {
			s.Fatal(url, a)
		}
	}
	if s.Clerk("GET", "/_emu/requests", nil, &after); after != before {
		s.Errorf("1,000 requests asked Clerk: %+v, then %+v", before, after)
	}
}

func (s *story) banned() {
	token := s.Token(s.mel, s.acme)
	s.Clerk("POST", "/v1/users/"+s.mel+"/ban", nil, nil)
	for _, way := range s.ways {
		for _, path := range []string{"/api/users/me", "/api/orders", "/api/messages"} {
			s.eventually(401, `"errors"`, func() exampletest.Answer {
				return exampletest.Ask(s.T, "GET", way+path, "", "Authorization", "Bearer "+token)
			})
		}
	}
}

func (s *story) redisDown() {
	s.redis.Stop()
	for _, way := range s.ways {
		s.is(s.as(s.ada, "", "GET", way+"/api/users/me", ""), 200, `"Ada"`)
	}
	s.redis.Start()
	s.eventually(200, `"Ada"`, func() exampletest.Answer {
		a := s.as(s.ada, "", "GET", s.ways[0]+"/api/users/me", "")
		if !strings.Contains(s.redis.CLI("get", "user:"+s.ada), `"Ada"`) {
			a.Status = 0
		}
		return a
	})
}

func (s *story) postgresDown() {
	s.postgres.Stop()
	for _, way := range s.ways {
		s.is(s.as(s.ada, "", "GET", way+"/api/users/me", ""), 200, `"Ada"`) // cached
		s.is(s.as(s.bob, "", "GET", way+"/api/users/me", ""), 503, "not just now")
		s.is(s.as(s.ada, s.acme, "GET", way+"/api/orders", ""), 503, "not just now")
		s.is(s.as(s.ada, "", "GET", way+"/api/messages", ""), 503, "not just now")
	}
	s.postgres.Start()
	for _, way := range s.ways {
		s.recovers(way)
	}
}

func (s *story) rollcallDown() {
	token := s.Token(s.ada, s.acme)
	s.Stop()
	for way, status := range map[string]int{s.ways[0]: 0, s.ways[1]: 503} {
		if a := exampletest.Ask(s.T, "GET", way+"/api/orders", "", "Authorization", "Bearer "+token); a.Status != status {
			s.Errorf("without Rollcall %v, want %d", a, status)
		}
	}
	s.Start()
	s.Ready()
	for _, way := range s.ways {
		s.recovers(way)
	}
	// The stream's reader is back too.
	eve := s.SignUp("Eve")
	s.eventually(200, "Welcome, Eve!", func() exampletest.Answer { return s.as(eve, "", "GET", s.ways[0]+"/api/messages", "") })
}
