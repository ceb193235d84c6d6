package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rollcall-dev/rollcall/internal/config"
)

// Each is a configuration without a mistake, and has stores.
func TestArchitecturesLoad(t *testing.T) {
	t.Parallel()
	for _, name := range architectures {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "rollcall.yaml")
			if err := begin(path, name, false); err != nil {
				t.Fatal(err)
			}
			cfg, err := config.Load(path, over(map[string]string{"DATABASE_URL": "postgres://127.0.0.1/app"}))
			if err != nil {
				t.Fatal(err)
			}
			if len(cfg.Stores) == 0 {
				t.Error("no store")
			}
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if first, _, _ := strings.Cut(string(text), "\n"); !strings.HasPrefix(first, "# "+name+": ") {
				t.Errorf("it begins with %q", first)
			}
			if err := begin(path, name, false); err == nil {
				t.Error("written over without being told to")
			}
			if err := begin(path, architectures[0], true); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestAskForArchitecture(t *testing.T) {
	t.Parallel()
	for answers, want := range map[string]string{
		"\n": "full-stack", "3\n": "saas", "mobile\n": "mobile", "9\nsass\nenterprise\n": "enterprise",
		"": "", "9\n": "",
	} {
		var out bytes.Buffer
		got, err := ask(t.Context(), strings.NewReader(answers), &out)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v; want %q", answers, got, err, want)
		}
		for _, name := range architectures {
			if !strings.Contains(out.String(), name) {
				t.Errorf("%q: %s isn't offered", answers, name)
			}
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r, w, err := os.Pipe() // nobody answers
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if got, err := ask(ctx, r, &bytes.Buffer{}); err == nil {
		t.Errorf("interrupted, and %q is the answer", got)
	}
	files, err := architectureFiles.ReadDir("architectures")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != len(architectures)+1 || slices.Contains(architectures, "head") {
		t.Errorf("%d files for %d architectures and a head", len(files), len(architectures))
	}
}
