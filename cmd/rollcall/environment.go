package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/rollcall-dev/rollcall/internal/config"
)

// devEnvFile is where a dev stack says what it listens on.
const devEnvFile = "dev.env"

// load reads configuration for a command: from the environment and
// rollcall.yaml, else from a dev stack that runs in the data directory.
func (o *options) load() (*config.Config, error) {
	dev, err := o.devEnv()
	if err != nil {
		return nil, err
	}
	return config.Load(o.configFile, over(dev))
}

// devEnv is what the dev stack in the data directory says; nil without one.
func (o *options) devEnv() (map[string]string, error) {
	return readDevEnv(filepath.Join(o.dataDir, devEnvFile))
}

// over is the environment, with values beneath it for what it doesn't set.
func over(beneath map[string]string) config.Env {
	return func(name string) (string, bool) {
		if v, ok := os.LookupEnv(name); ok {
			return v, true
		}
		if _, ok := os.LookupEnv(name + "_FILE"); ok {
			return "", false // given as a file
		}
		v, ok := beneath[name]
		return v, ok
	}
}

// readDevEnv reads lines of KEY=VALUE; a file that isn't there has none.
func readDevEnv(path string) (map[string]string, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read what the dev stack listens on: %w", err)
	}
	values := map[string]string{}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		if key, value, ok := strings.Cut(lines.Text(), "="); ok {
			values[key] = value
		}
	}
	return values, lines.Err()
}

type setting struct{ key, value string }

// writeDevEnv writes the file whole: a reader sees all of it or none.
func writeDevEnv(path string, settings []setting) error {
	var b strings.Builder
	for _, s := range settings {
		fmt.Fprintf(&b, "%s=%s\n", s.key, s.value)
	}
	if err := os.WriteFile(path+".new", []byte(b.String()), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
