package caching

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
)

func TestMain(m *testing.M) { stacktest.Main(m) }

// want is what each language's check says: a value that went stale while it was
// loaded is returned and not stored; the next is stored, and not asked for again.
var want = []any{"old", nil, "new", "new", "old", nil}

func TestGo(t *testing.T) {
	t.Parallel()
	server := stacktest.Redis(t)
	o, err := redis.ParseURL(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	r := redis.NewClient(o)
	defer r.Close()
	var said []any
	cached := func(key string, load func() string) {
		t.Helper()
		value, err := Cached(t.Context(), r, key, time.Minute, func() (string, error) { return load(), nil })
		if err != nil {
			t.Fatal(err)
		}
		said = append(said, value)
	}
	stale := func(generation string) func() string {
		return func() string {
			server.CLI("incr", generation)
			return "old"
		}
	}
	get := func(key string) {
		if value, err := r.Get(t.Context(), key).Result(); err == nil {
			said = append(said, value)
		} else {
			said = append(said, nil)
		}
	}
	cached("user:1", stale("{user:1}:generation"))
	get("user:1")
	cached("user:1", func() string { return "new" })
	cached("user:1", func() string { return "not asked" })
	cached("{tag}:1", stale("{tag}:1:generation"))
	get("{tag}:1")
	if !reflect.DeepEqual(said, want) {
		t.Errorf("%v, want %v", said, want)
	}
}

func TestNode(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("npm"); err != nil {
		t.Skip("NOT TESTED: there is no npm here")
	}
	// A copy, so that nothing is installed into the checkout.
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(".")); err != nil {
		t.Fatal(err)
	}
	npm := exec.CommandContext(t.Context(), "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline")
	npm.Dir = dir
	if out, err := npm.CombinedOutput(); err != nil {
		if os.Getenv("ROLLCALL_TEST_NODE") != "" {
			t.Fatalf("npm ci: %v\n%s", err, out)
		}
		t.Skipf("NOT TESTED: npm ci: %v\n%s", err, out)
	}
	check(t, exec.CommandContext(t.Context(), "node", filepath.Join(dir, "testdata", "check.mjs"), stacktest.Redis(t).URL))
}

func TestPython(t *testing.T) {
	t.Parallel()
	for _, python := range []string{"python3", "/usr/bin/python3"} {
		if exec.CommandContext(t.Context(), python, "-c", "import redis").Run() == nil {
			check(t, exec.CommandContext(t.Context(), python, filepath.Join("testdata", "check.py"), stacktest.Redis(t).URL))
			return
		}
	}
	t.Skip("NOT TESTED: there is no Python with redis-py here (Debian: python3-redis)")
}

func check(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, out)
	}
	var said []any
	if err := json.Unmarshal(out, &said); err != nil || !reflect.DeepEqual(said, want) {
		t.Errorf("%s, want %v", out, want)
	}
}

// The page shows these very files.
func TestPage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/caching.md")
	if err != nil {
		t.Fatal(err)
	}
	for file, from := range map[string]string{"reader.go": "// store sets", "reader.mjs": "// Sets a key", "reader.py": "# Sets a key"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, code, found := strings.Cut(string(text), from)
		if !found || !strings.Contains(string(page), "\n"+from+code) {
			t.Errorf("deploy/docs/caching.md doesn't show %s", file)
		}
	}
}
