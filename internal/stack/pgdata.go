package stack

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"go.uber.org/zap"
)

// dataDir is where Postgres keeps its files: dir/postgres, unless acct can't get
// there (a checkout below /root); then a directory of its own.
func dataDir(ctx context.Context, dir string, acct Account, log *zap.Logger) (string, error) {
	data := filepath.Join(dir, "postgres")
	if !acct.switched {
		return data, nil
	}
	if canEnter(ctx, filepath.Dir(dir), acct) {
		if err := letThrough(dir, acct); err != nil {
			return "", err
		}
		if canEnter(ctx, dir, acct) {
			return data, nil
		}
	}
	away := filepath.Join("/var/tmp", "rollcall-"+hash(dir))
	if err := privateDir(away, acct); err != nil {
		return "", err
	}
	log.Info("the user that Postgres runs as cannot reach the data directory, its files are elsewhere",
		zap.String("user", acct.Name), zap.String("dir", dir), zap.String("postgres", away))
	return filepath.Join(away, "postgres"), nil
}

// canEnter asks the kernel, which knows of access lists and mounts too.
func canEnter(ctx context.Context, dir string, acct Account) bool {
	cmd := exec.Command("/bin/sh", "-c", ":")
	cmd.Dir = dir
	_, err := runChild(ctx, cmd, acct)
	return err == nil
}

// letThrough lets acct's group pass through dir, which Lock has made 0700; it
// can't list it, and the secrets in it are 0600.
func letThrough(dir string, acct Account) error {
	info, err := os.Stat(dir)
	if err != nil {
		return unusable(dir, err)
	}
	if uid, _, err := owner(dir); err != nil || uid != 0 || info.Mode().Perm() != 0o700 {
		return err
	}
	if err := errors.Join(os.Chown(dir, 0, int(acct.GID)), os.Chmod(dir, 0o710)); err != nil { //nolint:gosec // see above
		return unusable(dir, err)
	}
	return nil
}

func hash(dir string) string {
	sum := sha256.Sum256([]byte(dir))
	return hex.EncodeToString(sum[:4])
}

// privateDir makes a directory of acct's alone where everybody may write. One
// that is there already must be just that: it could be a trap.
func privateDir(path string, acct Account) error {
	err := os.Mkdir(path, 0o700)
	if err == nil {
		return acct.own(path)
	}
	if !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make a directory for Postgres: %w", err)
	}
	info, err := os.Lstat(path)
	if err != nil {
		return fmt.Errorf("make a directory for Postgres: %w", err)
	}
	uid, _, err := owner(path)
	if err != nil || !info.IsDir() || uid != acct.UID || info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%s is not a private directory of user %s: remove it", path, acct.Name)
	}
	return nil
}

// majorOf is the version that wrote data; 0 if there is none.
func majorOf(data string) (int, error) {
	b, err := os.ReadFile(filepath.Join(data, "PG_VERSION"))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read what version made the database: %w", err)
	}
	major, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0, fmt.Errorf("read what version made the database: %s: %w", filepath.Join(data, "PG_VERSION"), err)
	}
	return major, nil
}

// password reads the superuser's password, or makes one for a database that is
// yet to be made.
func password(dir, data string, made int) (string, error) {
	path := filepath.Join(dir, "postgres.password")
	b, err := os.ReadFile(path)
	switch {
	case err == nil:
		return strings.TrimSpace(string(b)), nil
	case !errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("read Postgres's password: %w", err)
	case made != 0:
		return "", fmt.Errorf("%s is missing, but it belongs to the database in %s: bring it back, or remove that directory and let Rollcall fill it again from the log", path, data)
	}
	secret := rand.Text()
	if err := writeFile(path, []byte(secret+"\n")); err != nil {
		return "", fmt.Errorf("keep Postgres's password: %w", err)
	}
	return secret, nil
}

// initdb makes the database's files. They appear as a whole: a start that was
// killed half way is begun anew.
func initdb(ctx context.Context, b Binaries, data, secret, scratch string, acct Account) error {
	// The initdb of a start that was killed may still be writing: each has a
	// directory of its own, and one that loses it ends.
	removeHalves(data)
	defer removeHalves(data)
	pwfile := filepath.Join(scratch, "password")
	half, err := os.MkdirTemp(filepath.Dir(data), filepath.Base(data)+halfMade)
	if err == nil {
		err = errors.Join(acct.own(half), os.WriteFile(pwfile, []byte(secret), 0o600), acct.own(pwfile))
	}
	if err != nil {
		return fmt.Errorf("make room for the database: %w", err)
	}
	cmd := exec.Command(b.path("initdb"), "--pgdata", half, "--username", superuser, "--pwfile", pwfile,
		"--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C")
	cmd.Env = environment()
	_, err = runChild(ctx, cmd, acct)
	if err == nil {
		err = os.Rename(half, data)
	}
	if err = errors.Join(err, os.Remove(pwfile)); err != nil {
		return fmt.Errorf("make a database in %s: %w", data, err)
	}
	return nil
}

const halfMade = ".new-"

// removeHalves removes what starts that were killed have left, as far as nobody
// writes there any more.
func removeHalves(data string) {
	dir, name := filepath.Split(data)
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), name+halfMade) {
			_ = os.RemoveAll(filepath.Join(dir, e.Name()))
		}
	}
}

// handOver gives data to acct where it belongs to another, as after a copy made
// by root.
func handOver(data string, acct Account) error {
	if uid, _, err := owner(data); !acct.switched || err != nil || uid == acct.UID {
		return err
	}
	return filepath.WalkDir(data, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return acct.own(path)
	})
}

// environment is ours without what would steer Postgres's programs, and with
// messages in English, since we read them.
func environment() []string {
	var env []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "PG") && !strings.HasPrefix(kv, "LC_") {
			env = append(env, kv)
		}
	}
	return append(env, "LC_ALL=C")
}

// clearAway makes data free of whatever a killed process left. The directory is
// locked by us, so a server that still runs on it is an orphan.
func clearAway(ctx context.Context, data string, log *zap.Logger) error {
	pidFile := filepath.Join(data, "postmaster.pid")
	b, err := os.ReadFile(pidFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for a Postgres left behind: %w", err)
	}
	first, _, _ := strings.Cut(string(b), "\n")
	pid, _ := strconv.Atoi(strings.TrimSpace(first)) // cut short by a crash: 0
	if pid > 0 && isPostmaster(pid, data) {
		return stopOrphan(ctx, pid, data, log)
	}
	// The number may be another process's by now; Postgres would take that for a
	// server and refuse. A file with a dead number it handles itself, with care
	// for memory that is still shared.
	if pid <= 0 || alive(pid) {
		if err := os.Remove(pidFile); err != nil {
			return fmt.Errorf("clear away after a Postgres that was killed: %w", err)
		}
	}
	return nil
}

func stopOrphan(ctx context.Context, pid int, data string, log *zap.Logger) error {
	log.Info("stopping a Postgres left behind by a killed process", zap.Int("pid", pid))
	// Immediate shutdown: as after a crash, what was committed is recovered.
	if err := syscall.Kill(pid, syscall.SIGQUIT); err != nil {
		return fmt.Errorf("stop process %d, a Postgres left behind in %s: %w", pid, data, err)
	}
	ctx, cancel := context.WithTimeout(ctx, quitTime)
	defer cancel()
	for isPostmaster(pid, data) {
		select {
		case <-ctx.Done():
			return fmt.Errorf("process %d, a Postgres left behind in %s, does not stop: end it by hand (kill -QUIT %d)", pid, data, pid)
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil
}
