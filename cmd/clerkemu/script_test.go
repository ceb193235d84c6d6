package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rogpeppe/go-internal/testscript"
)

const patience = 30 * time.Second // for what has to come; a busy machine is slow

// The scripts' own commands:
//
//	exits CODE COMMAND...   runs the command and expects that exit code
//	ready FILE              waits for the environment file of a clerkemu that
//	                        was started in the background, and sets what it says;
//	                        ADDR too
//	keep NAME               sets NAME to the first word that was printed last
//	receiver NAME           starts a receiver of webhooks and sets NAME to its URL
//	received NAME COUNT     wants that it has had so many requests
//	sql FILE                runs the SQL in the database at STORE
func scriptCommands() map[string]func(*testscript.TestScript, bool, []string) {
	return map[string]func(*testscript.TestScript, bool, []string){
		"exits": cmdExits, "ready": cmdReady, "keep": cmdKeep, "receiver": cmdReceiver, "received": cmdReceived, "sql": cmdSQL,
	}
}

func cmdExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND...")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if fmt.Sprint(code) != args[0] {
		ts.Fatalf("exit code %d, want %s", code, args[0])
	}
}

func cmdReady(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: ready FILE")
	}
	var text []byte
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		var err error
		if text, err = os.ReadFile(ts.MkAbs(args[0])); err == nil {
			break
		}
		if time.Now().After(end) {
			ts.Fatalf("clerkemu isn't ready: %v", err)
		}
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		ts.Setenv(name, value)
	}
	u, err := url.Parse(ts.Getenv("CLERK_API_URL"))
	ts.Check(err)
	ts.Setenv("ADDR", u.Host)
}

func cmdKeep(ts *testscript.TestScript, neg bool, args []string) {
	words := strings.Fields(ts.ReadFile("stdout"))
	if neg || len(args) != 1 || len(words) == 0 {
		ts.Fatalf("usage: keep NAME, after a command that prints something")
	}
	ts.Setenv(args[0], words[0])
}

func cmdReceiver(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: receiver NAME")
	}
	count := new(atomic.Int64)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/count" {
			fmt.Fprint(w, count.Load())
			return
		}
		count.Add(1)
		w.WriteHeader(http.StatusNoContent)
	}))
	ts.Defer(s.Close)
	ts.Setenv(args[0], s.URL)
}

func cmdReceived(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: received NAME COUNT")
	}
	resp, err := http.Get(ts.Getenv(args[0]) + "/count")
	ts.Check(err)
	defer resp.Body.Close()
	count, err := io.ReadAll(resp.Body)
	ts.Check(err)
	if string(count) != args[1] {
		ts.Fatalf("%s has had %s requests, want %s", args[0], count, args[1])
	}
}

func cmdSQL(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: sql FILE")
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	db, err := pgx.Connect(ctx, ts.Getenv("STORE"))
	ts.Check(err)
	defer db.Close(context.Background())
	_, err = db.PgConn().Exec(ctx, ts.ReadFile(args[0])).ReadAll()
	ts.Check(err)
}
