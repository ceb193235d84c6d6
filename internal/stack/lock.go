package stack

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/gofrs/flock"
)

// DirLock is the hold on a data directory. The kernel drops it when the process
// ends, however it ends.
type DirLock struct {
	dir  string
	lock *flock.Flock
}

// holder is what dir/holder says about who has the lock. The lock itself is
// dir/lock; holder is only for the message to the next one who asks.
type holder struct {
	PID     int       `json:"pid"`
	Since   time.Time `json:"since"`
	Command string    `json:"command"`
}

// HeldError says that another process holds the directory.
type HeldError struct {
	Dir     string
	PID     int       // 0: not known
	Since   time.Time // zero: not known
	Command string    // as started; empty: not known
}

func (e *HeldError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("%s is in use by another process: stop it, or pass another directory with --data", e.Dir)
	}
	return fmt.Sprintf("%s is in use by process %d (%s) since %s: stop it (kill %d), or pass another directory with --data",
		e.Dir, e.PID, e.Command, e.Since.Local().Format(time.DateTime), e.PID)
}

// Lock makes dir (0700) and takes hold of it for this process. If another
// process holds it, the error is a [*HeldError].
func Lock(dir string) (*DirLock, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, unusable(dir, err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, unusable(dir, err)
	}
	l := &DirLock{dir: dir, lock: flock.New(filepath.Join(dir, "lock"))}
	taken, err := l.lock.TryLock()
	if err != nil {
		return nil, unusable(dir, err)
	}
	if !taken {
		return nil, l.heldBy()
	}
	if err := l.sign(); err != nil {
		return nil, errors.Join(unusable(dir, err), l.lock.Unlock())
	}
	return l, nil
}

func unusable(dir string, err error) error {
	return fmt.Errorf("cannot use %s as the data directory (%w): pass one that can be written with --data", dir, err)
}

// Dir is the directory's absolute path.
func (l *DirLock) Dir() string { return l.dir }

// Unlock gives the directory back. Whatever runs in it has to be stopped first.
func (l *DirLock) Unlock() error {
	// holder goes first: once unlocked, the file may be another's.
	err := os.Remove(filepath.Join(l.dir, "holder"))
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, l.lock.Unlock())
}

func (l *DirLock) sign() error {
	b, err := json.Marshal(holder{
		PID:     os.Getpid(),
		Since:   time.Now().UTC().Truncate(time.Second),
		Command: strings.Join(append([]string{filepath.Base(os.Args[0])}, os.Args[1:]...), " "),
	})
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(l.dir, "holder"), b)
}

// heldBy reads who holds the directory. A holder killed earlier leaves its file,
// and the one that has just taken the lock needs a moment to replace it, so a
// process that is gone is not named.
func (l *DirLock) heldBy() error {
	e := &HeldError{Dir: l.dir}
	for range 50 {
		b, err := os.ReadFile(filepath.Join(l.dir, "holder"))
		var h holder
		if err == nil && json.Unmarshal(b, &h) == nil && alive(h.PID) {
			e.PID, e.Since, e.Command = h.PID, h.Since, h.Command
			return e
		}
		time.Sleep(10 * time.Millisecond)
	}
	return e
}

func alive(pid int) bool {
	if pid <= 0 {
		return false
	}
	err := syscall.Kill(pid, 0)
	return err == nil || errors.Is(err, syscall.EPERM)
}

// writeFile replaces path (0600) as a whole: a reader, or the next start after a
// crash, finds the old content or the new, never half of it.
func writeFile(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
