// Package fullstack tests the example in a real browser.
package fullstack

import (
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/rollcall-dev/rollcall/internal/emulator/nodetest"
	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
)

var update = flag.Bool("update", false, "write the screenshots that the README shows")

func TestMain(m *testing.M) { stacktest.Main(m) }

func TestFullStack(t *testing.T) {
	t.Parallel()
	if os.Getenv("ROLLCALL_TEST_EXAMPLES") == "" {
		t.Skip("NOT TESTED: it builds a Next.js application; make examples runs it")
	}
	dir := t.TempDir()
	input := map[string]string{
		"browser": browser(t), "database": stacktest.Database(t).AdminURL,
		"rollcall": filepath.Join(dir, "rollcall"), "data": filepath.Join(dir, "data"), "shots": filepath.Join(dir, "shots"),
	}
	if *update {
		input["shots"] = "screenshots"
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", input["rollcall"], "../../../cmd/rollcall")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	text, err := json.Marshal(input)
	if err != nil {
		t.Fatal(err)
	}
	nodetest.RunIn(t, ".", "test.mjs", text)
}

func browser(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Skip("NOT TESTED: there is no Chromium here")
	return ""
}
