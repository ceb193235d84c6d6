package broker_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/rollcall-dev/rollcall/internal/broker"
	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
	"github.com/rollcall-dev/rollcall/streams"
)

func TestMain(m *testing.M) { stacktest.MainNoLeaks(m) }

// state is what a connection said last.
type state struct {
	mu   sync.Mutex
	told []error
}

func (s *state) tell(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told = append(s.told, err)
}

func (s *state) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.told)
}

// is waits until the last word is nil (""), or an error that holds the text.
func (s *state) is(t testing.TB, want string) {
	t.Helper()
	stacktest.Eventually(t, 10*time.Second, func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.told) == 0 {
			return errors.New("nothing was said")
		}
		last := s.told[len(s.told)-1]
		if (last == nil) != (want == "") || last != nil && !strings.Contains(last.Error(), want) {
			return fmt.Errorf("it says %v, want %q", last, want)
		}
		return nil
	})
}

func dial(t testing.TB, o broker.Options) (*broker.Conn, *state) {
	t.Helper()
	s := &state{}
	o.State, o.Log = s.tell, zap.NewNop()
	c, err := broker.Dial(o)
	must(t, err)
	t.Cleanup(c.Close)
	return c, s
}

// works makes a round trip.
func works(t testing.TB, c *broker.Conn) {
	t.Helper()
	stacktest.Eventually(t, 10*time.Second, func() error {
		nc, err := c.NATS()
		if err != nil {
			return err
		}
		return nc.FlushTimeout(time.Second)
	})
}

func TestServerRestarts(t *testing.T) {
	t.Parallel()
	ns := stacktest.NATS(t)
	c, s := dial(t, broker.Options{URL: ns.URL})
	works(t, c)
	s.is(t, "")
	before := c.Generation()
	ns.Stop()
	s.is(t, "refused")
	lost := c.Generation()
	if lost <= before {
		t.Errorf("generation %d after a loss, %d before", lost, before)
	}
	nc, err := c.NATS()
	must(t, err)
	start := time.Now()
	if err := nc.Publish("x", nil); err == nil || time.Since(start) > 100*time.Millisecond {
		t.Errorf("offline, a publish: %v after %s", err, time.Since(start))
	}
	ns.Start()
	works(t, c)
	s.is(t, "")
	if now := c.Generation(); now <= lost {
		t.Errorf("generation %d after coming back, %d before", now, lost)
	}
}

func TestServerNotThereYet(t *testing.T) {
	t.Parallel()
	ns := stacktest.NATS(t)
	ns.Stop()
	address := strings.Replace(ns.URL, "nats://", "nats://u:pa55word@", 1)
	start := time.Now()
	c, s := dial(t, broker.Options{URL: address})
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("Dial waited %s", took)
	}
	s.is(t, "refused")
	ns.Start()
	works(t, c)
	s.is(t, "")
	for _, err := range s.told {
		if err != nil && strings.Contains(err.Error(), "pa55word") {
			t.Errorf("the password is told: %v", err)
		}
	}
}

// Close ends the news: nobody is told of an end that was meant.
func TestClose(t *testing.T) {
	t.Parallel()
	ns := stacktest.NATS(t)
	for range 20 {
		c, s := dial(t, broker.Options{URL: ns.URL})
		works(t, c)
		s.is(t, "")
		nc, err := c.NATS()
		must(t, err)
		ended := nc.StatusChanged(nats.CLOSED)
		c.Close()
		said := s.count()
		<-ended
		c.Close() // twice is no harm
		if _, err := c.NATS(); !errors.Is(err, broker.ErrClosed) {
			t.Errorf("NATS after Close: %v", err)
		}
		stays(t, func() error {
			if n := s.count(); n != said {
				return fmt.Errorf("told %v after Close", s.told[said:])
			}
			return nil
		})
	}
}

// stays asks for a short while whether it is still so.
func stays(t testing.TB, ask func() error) {
	t.Helper()
	for end := time.Now().Add(50 * time.Millisecond); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		must(t, ask())
	}
}

// The server closes a connection for a protocol error, from which the client
// library doesn't come back.
func TestClosedForGood(t *testing.T) {
	t.Parallel()
	ns := stacktest.NATS(t)
	c, s := dial(t, broker.Options{URL: ns.URL})
	works(t, c)
	before := c.Generation()
	nc, err := c.NATS()
	must(t, err)
	ended := nc.StatusChanged(nats.CLOSED)
	must(t, nc.Publish(strings.Repeat("x", 10_000), nil))
	_ = nc.Flush()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Fatal("the server left the connection open: this shows nothing")
	}
	works(t, c)
	s.is(t, "")
	if again, err := c.NATS(); err != nil || again == nc {
		t.Errorf("the connection was not dialled anew: %v", err)
	}
	if c.Generation() <= before {
		t.Error("the generation has not grown")
	}
	stays(t, func() error { // the closed one's news come late
		s.is(t, "")
		return nil
	})
}

// Credentials rotate: who is refused keeps trying, and says why.
func TestWrongCredentials(t *testing.T) {
	t.Parallel()
	user := &server.User{Username: "ingest", Password: "new"}
	ns := stacktest.NATS(t, stacktest.Configure(func(o *server.Options) { o.Users = []*server.User{user} }))
	address := func(password string) string {
		return strings.Replace(ns.URL, "nats://", "nats://ingest:"+password+"@", 1)
	}
	right, _ := dial(t, broker.Options{URL: address("new")})
	works(t, right)
	c, s := dial(t, broker.Options{URL: address("wr0ng")})
	s.is(t, "Authorization")
	stays(t, func() error {
		if nc, err := c.NATS(); err != nil || nc.IsConnected() {
			return fmt.Errorf("connected with a wrong password, or given up: %v", err)
		}
		return nil
	})
	ns.Stop()
	user.Password = "wr0ng"
	ns.Start()
	works(t, c)
	s.is(t, "")
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, err := range s.told {
		if err != nil && strings.Contains(err.Error(), "wr0ng") {
			t.Errorf("the password is told: %v", err)
		}
	}
}

// The user that deploy/ makes for ingest has the rights to publish and to look.
func TestIngestUser(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	users, err := filepath.Abs("../../deploy/nats/users.conf")
	must(t, err)
	text := regexp.MustCompile(`\$NATS_\w+_PASSWORD`).ReplaceAllString(string(read(t, users)), "p") // everybody's
	config := filepath.Join(dir, "users.conf")
	must(t, os.WriteFile(config, []byte(text), 0o600))
	ns := stacktest.NATS(t, stacktest.Configure(func(o *server.Options) {
		read, err := server.ProcessConfigFile(config)
		must(t, err)
		o.Users = read.Users
	}))
	as := func(user string) *broker.Conn {
		c, s := dial(t, broker.Options{URL: strings.Replace(ns.URL, "nats://", "nats://"+user+"@", 1)})
		s.is(t, "")
		return c
	}
	js, err := as("admin:p").JetStream()
	must(t, err)
	_, err = streams.Apply(t.Context(), js, streams.Names{}.Definitions(streams.Options{}))
	must(t, err)
	ingest, err := as("ingest:p").JetStream()
	must(t, err)
	for _, subject := range []string{"clerk.ins_1.user.updated.x", "rollcall.dead.ingest._._._"} {
		if _, err := ingest.Publish(t.Context(), subject, nil); err != nil {
			t.Errorf("publish %s: %v", subject, err)
		}
	}
	if _, err := ingest.Stream(t.Context(), "CLERK"); err != nil {
		t.Errorf("look at CLERK: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if _, err := ingest.Publish(ctx, "rollcall.dead.store-app.user.updated.x", nil, jetstream.WithRetryAttempts(0)); err == nil {
		t.Error("ingest may write another sink's letters")
	}
}

func TestSettingsThatNeverWork(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]broker.Options{
		"no address":     {URL: "nats://%zz"},
		"no CA file":     {URL: "tls://127.0.0.1:1", TLSCA: "/nowhere/ca.pem"},
		"no credentials": {URL: "nats://127.0.0.1:1", Creds: "/nowhere/user.creds"},
	} {
		o.Log = zap.NewNop()
		c, err := broker.Dial(o)
		if err == nil {
			c.Close()
			t.Errorf("%s: no error", name)
		}
	}
}

func read(t testing.TB, file string) []byte {
	t.Helper()
	text, err := os.ReadFile(file)
	must(t, err)
	return text
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
