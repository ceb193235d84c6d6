// Package exampletest runs an example as its README says: rollcall dev
// --emulate with the example's rollcall.yaml, and its programs beside it. For
// tests only.
package exampletest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/internal/stack"
	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
)

// Patience is for what has to come; a busy machine is slow.
const Patience = time.Minute

// Build compiles a package of this module and returns the program.
func Build(t testing.TB, pkg string) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), filepath.Base(pkg))
	out, err := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", program, pkg).CombinedOutput()
	if err != nil {
		t.Fatalf("go build %s: %v\n%s", pkg, err, out)
	}
	return program
}

// Process is a program of an example. It ends with its test.
type Process struct {
	t     testing.TB
	cmd   func() *exec.Cmd
	child *stack.Child
	log   string
}

// Start runs a program in dir with env beside what every program needs.
func Start(t testing.TB, dir string, env []string, program string, args ...string) *Process {
	t.Helper()
	env = append(env, "PATH="+os.Getenv("PATH"), "HOME="+os.Getenv("HOME"), "TMPDIR="+os.TempDir())
	p := &Process{t: t, log: filepath.Join(t.TempDir(), "log"), cmd: func() *exec.Cmd {
		c := exec.Command(program, args...)
		c.Dir, c.Env = dir, env
		return c
	}}
	t.Cleanup(func() {
		p.end(syscall.SIGKILL)
		if t.Failed() {
			t.Logf("the end of what %s said:\n%s", filepath.Base(program), p.Said()[max(0, len(p.Said())-6000):])
		}
	})
	p.Start()
	return p
}

// Start starts it again.
func (p *Process) Start() {
	p.t.Helper()
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		p.t.Fatal(err)
	}
	defer log.Close()
	cmd := p.cmd()
	cmd.Stdout, cmd.Stderr = log, log
	if p.child, err = stack.StartChild(cmd, stack.Account{}, syscall.SIGKILL); err != nil {
		p.t.Fatal(err)
	}
}

// Stop ends it by SIGTERM and waits.
func (p *Process) Stop() { p.end(syscall.SIGTERM) }

// Said is what it has written, to standard output and error.
func (p *Process) Said() string {
	text, _ := os.ReadFile(p.log) // nothing yet
	return string(text)
}

func (p *Process) end(s syscall.Signal) {
	if p.child == nil {
		return // it couldn't be started
	}
	select {
	case <-p.child.Done():
		return
	default:
	}
	_ = p.child.Signal(s) // it may have ended by now
	<-p.child.Done()
}

// Stack is rollcall dev --emulate.
type Stack struct {
	*Process
	Data string            // its directory
	Env  map[string]string // what its dev.env has
}

// Dev starts one, without traffic, and returns when it is ready. instead are
// strings of the configuration, addresses mostly, and what stands there for this
// test. env needs DATABASE_URL.
func Dev(t testing.TB, config string, instead []string, env ...string) *Stack {
	t.Helper()
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	config = filepath.Join(t.TempDir(), "rollcall.yaml")
	if err = os.WriteFile(config, []byte(strings.NewReplacer(instead...).Replace(string(text))), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &Stack{Data: filepath.Join(t.TempDir(), "data")}
	program := Build(t, "github.com/rollcall-dev/rollcall/cmd/rollcall")
	s.Process = Start(t, t.TempDir(), env, program, "dev", "--emulate", "--data", s.Data, "--config", config)
	// At its first start it makes people come and go, the test's too.
	s.Ready()
	s.Stop()
	s.Process.Start()
	s.Ready()
	s.Clerk("PUT", "/_emu/traffic", map[string]any{"rate": 0}, nil)
	return s
}

// Ready waits until it has written dev.env.
func (s *Stack) Ready() {
	s.t.Helper()
	stacktest.Eventually(s.t, Patience, func() error {
		select {
		case <-s.child.Done():
			s.t.Fatalf("rollcall dev ended: %v\n%s", s.child.Err(), s.Said())
		default:
		}
		text, err := os.ReadFile(filepath.Join(s.Data, "dev.env"))
		if err != nil {
			return err
		}
		s.Env = map[string]string{}
		for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
			key, value, _ := strings.Cut(lines.Text(), "=")
			s.Env[key] = value
		}
		return nil
	})
}

// Clerk asks the emulated Clerk and reads its answer into result, unless nil.
// It waits where Clerk's rate limit does.
func (s *Stack) Clerk(method, path string, body, result any) {
	s.t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		s.t.Fatal(err)
	}
	stacktest.Eventually(s.t, Patience, func() error {
		answer := Ask(s.t, method, s.Env["CLERK_API_URL"]+path, string(text), "Authorization", "Bearer "+s.Env["CLERK_SECRET_KEY"], "Content-Type", "application/json")
		if answer.Status == http.StatusTooManyRequests {
			return errors.New("still too many requests")
		}
		if answer.Status >= 300 {
			s.t.Fatalf("%s %s: %v", method, path, answer)
		}
		if result == nil {
			return nil
		}
		return json.Unmarshal([]byte(answer.Body), result)
	})
}

// SignUp makes a user and returns its id.
func (s *Stack) SignUp(name string) string {
	s.t.Helper()
	var user struct{ ID string }
	s.Clerk("POST", "/v1/users", map[string]any{"first_name": name, "email_address": []string{strings.ToLower(name) + "@example.com"}, "skip_password_requirement": true}, &user)
	return user.ID
}

// Token is a session token of a user, in an organization unless that is "".
func (s *Stack) Token(user, organization string) string {
	s.t.Helper()
	var answer struct{ JWT string }
	body := map[string]any{"user_id": user, "organization_id": organization}
	s.Clerk("POST", "/_emu/tokens", body, &answer)
	return answer.JWT
}

// Answer is what a server said; Status is 0 where none could be asked.
type Answer struct {
	Status int
	Body   string
	Header http.Header
}

func (a Answer) String() string { return fmt.Sprintf("%d %s", a.Status, a.Body) }

// Ask sends a request with headers, name and value in turn. It follows no redirect.
func Ask(t testing.TB, method, url, body string, headers ...string) Answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	return Do(&http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, req)
}

// Do sends a request as client does.
func Do(client *http.Client, req *http.Request) Answer {
	resp, err := client.Do(req)
	if err != nil {
		return Answer{Body: err.Error()}
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return Answer{Body: err.Error()}
	}
	return Answer{resp.StatusCode, string(text), resp.Header}
}
