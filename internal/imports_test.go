// Package internal_test holds the arrows between packages.
package internal_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/rollcall-dev/rollcall/"

// allowed are the packages of ours that each may import. There are no circles,
// sinks know neither each other nor the runtime, and streams, which outsiders
// import, knows nobody. The emulator knows nothing of Rollcall: it reads Clerk's
// specification a second time.
var allowed = map[string]string{
	"streams":                      "",
	"streams/tenant":               "", // pgx only
	"streams/auth":                 "",
	"internal/identity":            "streams/auth",
	"internal/rawjson":             "",
	"internal/cli":                 "",
	"internal/telemetry":           "",
	"internal/stack":               "",
	"internal/config":              "streams streams/auth internal/projection",
	"internal/gateway":             "streams/auth",
	"internal/freshness":           "streams/auth internal/projection",
	"internal/broker":              "streams",
	"internal/publish":             "streams",
	"internal/lease":               "streams",
	"internal/consume":             "streams internal/lease",
	"internal/clerk":               "streams internal/rawjson",
	"internal/clerk/backend":       "internal/rawjson",
	"internal/backfill":            "streams internal/clerk/backend internal/lease internal/projection internal/publish internal/rawjson",
	"internal/clerk/clerktest":     "*", // imported by tests only
	"internal/projection":          "streams internal/rawjson",
	"internal/store":               "streams internal/projection",
	"internal/replay":              "streams internal/consume",
	"internal/reconcile":           "streams internal/backfill internal/bucket internal/clerk/backend internal/lease internal/projection internal/publish internal/rawjson internal/store",
	"internal/rebuild":             "streams internal/replay internal/store",
	"internal/orm":                 "internal/store",
	"internal/schema":              "",
	"internal/audit":               "streams internal/clerk internal/rawjson internal/projection internal/schema",
	"internal/bucket":              "",
	"internal/revocation":          "streams streams/auth internal/bucket",
	"internal/revoke":              "streams internal/bucket internal/revocation",
	"internal/invalidate":          "streams internal/projection internal/bucket",
	"internal/erased":              "streams internal/rawjson internal/bucket",
	"internal/erase":               "streams internal/erased internal/projection",
	"internal/ingest":              "streams internal/clerk internal/publish",
	"internal/stack/stacktest":     "internal/stack", // imported by tests only
	"internal/emulator/state":      "",
	"internal/emulator/delivery":   "",
	"internal/emulator/token":      "",
	"internal/emulator/truth":      "",
	"internal/emulator/nodetest":   "", // imported by tests only
	"internal/emulator/backendapi": "internal/emulator/state",
	"internal/emulator/traffic":    "internal/emulator/state",
	"internal/emulator":            "internal/emulator/state internal/emulator/delivery internal/emulator/token internal/emulator/backendapi internal/emulator/traffic",
	"cmd/clerkemu":                 "internal/cli internal/emulator internal/emulator/state internal/emulator/backendapi internal/emulator/truth",
	"internal/bench":               "*",
	"cmd/rollcall":                 "*",
}

func TestImports(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, module+"cmd/...", module+"internal/...", module+"streams/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line)
		name := strings.TrimPrefix(words[0], module)
		if name == "internal" {
			continue // this test's own
		}
		may, known := allowed[name]
		if !known {
			t.Errorf("%s is new: say in this test what it may import", name)
			continue
		}
		seen++
		for _, path := range words[1:] {
			imported, ours := strings.CutPrefix(path, module)
			if ours && may != "*" && !slices.Contains(strings.Fields(may), imported) {
				t.Errorf("%s imports %s, which it must not know", name, imported)
			}
		}
	}
	if seen != len(allowed) {
		t.Errorf("%d packages of the %d in this test exist", seen, len(allowed))
	}
}

// What is for tests stays out of the binary; a library of Postgres binaries
// imports testing, ours don't.
func TestBinaryHasNoTests(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "-deps", "-f", `{{.ImportPath}} {{join .Imports " "}}`, module+"cmd/rollcall").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line)
		if !strings.HasPrefix(words[0], module) {
			continue
		}
		if strings.HasSuffix(words[0], "test") || slices.Contains(words[1:], "testing") {
			t.Errorf("the binary holds what is for tests: %s", words[0])
		}
	}
}
