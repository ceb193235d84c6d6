package streams_test

import (
	"encoding/json"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rollcall-dev/rollcall/streams"
)

func TestDefinitions(t *testing.T) {
	t.Parallel()
	d := streams.Names{Prefix: "eu"}.Definitions(streams.Options{})
	log := d.Streams[0]
	if log.Name != "EU_CLERK" || log.Subjects[0] != "eu.clerk.>" || log.Replicas != 1 || log.MaxBytes != -1 || log.Duplicates != 28*time.Hour {
		t.Errorf("%+v", log)
	}
	for _, s := range d.Streams {
		if s.Retention != jetstream.LimitsPolicy || s.Discard != jetstream.DiscardNew || s.MaxAge != 0 || s.Storage != jetstream.FileStorage {
			t.Errorf("%s may forget: %+v", s.Name, s)
		}
	}
	d = streams.Names{}.Definitions(streams.Options{Replicas: 3, MaxBytes: 1 << 30, Window: time.Hour})
	if log = d.Streams[0]; log.Replicas != 3 || log.MaxBytes != 1<<30 || log.Duplicates != time.Hour {
		t.Errorf("%+v", log)
	}
	if b := d.Buckets[0]; b.Replicas != 3 || b.LimitMarkerTTL == 0 {
		t.Errorf("%+v", b)
	}
}

func FuzzKey(f *testing.F) {
	legal := regexp.MustCompile(`^([A-Za-z0-9_-]|=[0-9A-F]{2})*$`)
	for _, seed := range [][2]string{{"user_1", "user.1"}, {"a=2Eb", "a.b"}, {"=", "=3D"}, {"", " "}, {"é", "\xc3"}} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		if key := streams.Key(a); !legal.MatchString(key) {
			t.Fatalf("Key(%q) = %q", a, key)
		}
		if a != b && streams.Key(a) == streams.Key(b) {
			t.Fatalf("%q and %q share the key %q", a, b, streams.Key(a))
		}
	})
}

// Services import this package: what it imports, they do. nats.go and what
// nats.go itself needs is all.
func TestImportsNothingButNATS(t *testing.T) {
	t.Parallel()
	allowed := map[string]bool{"github.com/rollcall-dev/rollcall/streams": true}
	for path := range deps(t, "github.com/nats-io/nats.go", "github.com/nats-io/nats.go/jetstream") {
		allowed[path] = true
	}
	for path, standard := range deps(t, ".") {
		if !standard && !allowed[path] {
			t.Errorf("streams depends on %s, which services would have to take too", path)
		}
	}
}

// deps maps the import paths that packages depend on, outside tests, to whether
// they are the standard library's.
func deps(t *testing.T, packages ...string) map[string]bool {
	t.Helper()
	args := append([]string{"list", "-deps", "-json=ImportPath,Standard"}, packages...)
	out, err := exec.Command("go", args...).Output()
	if err != nil {
		t.Fatalf("go %s: %v", strings.Join(args, " "), err)
	}
	found := map[string]bool{}
	for decoder := json.NewDecoder(strings.NewReader(string(out))); decoder.More(); {
		var p struct {
			ImportPath string
			Standard   bool
		}
		if err := decoder.Decode(&p); err != nil {
			t.Fatal(err)
		}
		found[p.ImportPath] = p.Standard
	}
	return found
}
