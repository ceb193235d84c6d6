package stack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
)

// LeastPostgres is the oldest major version that Rollcall runs on.
const LeastPostgres = 15

// Binaries are a Postgres server's programs.
type Binaries struct {
	Dir     string
	Version string // as the server says it: 15.14
	Major   int
	minor   int
}

func (b Binaries) path(program string) string { return filepath.Join(b.Dir, program) }

func (b Binaries) newer(than Binaries) bool {
	return b.Major > than.Major || b.Major == than.Major && b.minor > than.minor
}

// errNoPostgres is the answer of a machine without a server.
var errNoPostgres = errors.New("no PostgreSQL server found")

// FindPostgres finds the newest installed server, in PATH and where
// distributions put what they leave out of it, that acct can run.
func FindPostgres(ctx context.Context, acct Account) (Binaries, error) {
	return choose(installed(ctx, serverDirs(), acct), 0)
}

func serverDirs() []string {
	var dirs []string
	if p, err := exec.LookPath("postgres"); err == nil {
		if p, err = filepath.EvalSymlinks(p); err == nil { // initdb lies beside the program, not the link
			dirs = append(dirs, filepath.Dir(p))
		}
	}
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin",
		"/usr/pgsql-*/bin",
		"/opt/homebrew/opt/postgresql@*/bin",
		"/usr/local/opt/postgresql@*/bin",
		"/Applications/Postgres.app/Contents/Versions/*/bin",
	} {
		found, _ := filepath.Glob(pattern) // errs on a bad pattern only
		dirs = append(dirs, found...)
	}
	return dirs
}

// installed asks every server in dirs for its version. Those that acct can't run
// are left out.
func installed(ctx context.Context, dirs []string, acct Account) []Binaries {
	var found []Binaries
	for _, dir := range dirs {
		if b, err := binariesIn(ctx, dir, acct); err == nil {
			found = append(found, b)
		}
	}
	return found
}

var versionLine = regexp.MustCompile(`\(PostgreSQL\) ((\d+)(?:\.(\d+))?\S*)`)

func binariesIn(ctx context.Context, dir string, acct Account) (Binaries, error) {
	b := Binaries{Dir: dir}
	if _, err := os.Stat(b.path("initdb")); err != nil {
		return b, fmt.Errorf("not a Postgres server: %w", err)
	}
	out, err := runChild(ctx, exec.Command(b.path("postgres"), "--version"), acct)
	if err != nil {
		return b, err
	}
	m := versionLine.FindStringSubmatch(out)
	if m == nil {
		return b, fmt.Errorf("%s: no version in %q", b.path("postgres"), out)
	}
	b.Version = m[1]
	b.Major, _ = strconv.Atoi(m[2]) // digits
	b.minor, _ = strconv.Atoi(m[3]) // digits or nothing
	return b, nil
}

// choose takes the newest; with made, the major version of a data directory, the
// newest of that version.
func choose(found []Binaries, made int) (Binaries, error) {
	var best Binaries
	for _, b := range found {
		if b.Major >= LeastPostgres && (made == 0 || made == b.Major) && b.newer(best) {
			best = b
		}
	}
	if best.Major == 0 {
		return best, errNoPostgres
	}
	return best, nil
}

// binaries are the programs for a data directory that the major version made has
// written (0: none has): installed, or downloaded.
func binaries(ctx context.Context, data string, made int, acct Account, o PostgresOptions) (Binaries, error) {
	found := installed(ctx, serverDirs(), acct)
	b, err := choose(found, made)
	if err == nil {
		return b, nil
	}
	d := download{acct: acct, progress: o.Progress}
	if made == 0 || made == downloadMajor {
		o.Log.Info("no PostgreSQL server found on this machine, taking a downloaded one")
		b, err = d.binaries(ctx)
		if err == nil {
			return b, nil
		}
	}
	if newest, none := choose(found, 0); made != 0 && none == nil {
		return b, fmt.Errorf("%s was made by PostgreSQL %d, but this machine has %s: install PostgreSQL %d (%s), or remove that directory and let Rollcall fill it again from the log",
			data, made, newest.Version, made, installCommand(made))
	}
	return b, fmt.Errorf("no PostgreSQL %d or newer on this machine, and none could be downloaded (%w): run %s, or set DATABASE_URL",
		max(made, LeastPostgres), err, installCommand(made))
}

// installCommand is the one command that helps; major 0 means any.
func installCommand(major int) string {
	if runtime.GOOS == "darwin" {
		if major == 0 {
			major = downloadMajor
		}
		return fmt.Sprintf("`brew install postgresql@%d`", major)
	}
	for _, m := range []struct{ manager, any, versioned string }{
		{"apt-get", "apt-get install postgresql", "apt-get install postgresql-%d"},
		{"dnf", "dnf install postgresql-server", "dnf install postgresql%d-server"},
		{"apk", "apk add postgresql", "apk add postgresql%d"},
	} {
		if _, err := exec.LookPath(m.manager); err != nil {
			continue
		}
		if major == 0 {
			return "`" + m.any + "`"
		}
		return fmt.Sprintf("`"+m.versioned+"`", major)
	}
	return "`apt-get install postgresql`"
}
