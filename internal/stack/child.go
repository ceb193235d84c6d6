package stack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"runtime"
	"strconv"
	"syscall"
)

// Child is a process of ours that ends with this one.
type Child struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error // from Wait; read after done
}

// StartChild starts cmd as acct, in a process group of its own, so that an
// interrupt typed at the terminal reaches only us and we choose the order of the
// stops. On Linux the kernel sends it last when this process dies, even by kill -9.
func StartChild(cmd *exec.Cmd, acct Account, last syscall.Signal) (*Child, error) {
	cmd.SysProcAttr = childAttr(last)
	cmd.SysProcAttr.Setpgid = true
	if acct.switched {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: acct.UID, Gid: acct.GID}
	}
	if cmd.Dir == "" {
		cmd.Dir = "/" // ours may be closed to acct
	}
	c := &Child{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The kernel ties the parent death signal to the thread that started the
		// child, not to the process, and Go ends threads as it likes. This
		// goroutine keeps its thread until the child has ended.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			c.err = cmd.Wait()
			close(c.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	return c, nil
}

// PID is the child's process id.
func (c *Child) PID() int { return c.cmd.Process.Pid }

// Done is closed when the child has ended.
func (c *Child) Done() <-chan struct{} { return c.done }

// Err is how the child ended; nil while it runs or if its exit code is 0.
func (c *Child) Err() error {
	select {
	case <-c.done:
		return c.err
	default:
		return nil
	}
}

// Signal sends s. A child that has ended is no error.
func (c *Child) Signal(s syscall.Signal) error {
	select {
	case <-c.done:
		return nil
	default:
	}
	// Until done is closed the child may just have ended: the same.
	if err := c.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("send %s to process %d: %w", s, c.PID(), err)
	}
	return nil
}

// runChild runs cmd to its end and returns what it printed in an error.
func runChild(ctx context.Context, cmd *exec.Cmd, acct Account) (string, error) {
	var out output
	cmd.Stdout, cmd.Stderr = &out, &out
	c, err := StartChild(cmd, acct, syscall.SIGKILL)
	if err != nil {
		return "", err
	}
	select {
	case <-c.Done():
	case <-ctx.Done():
		err = c.Signal(syscall.SIGKILL)
		<-c.Done()
		if err == nil {
			err = ctx.Err()
		}
		return "", err
	}
	if c.err != nil {
		return "", fmt.Errorf("%s: %w: %s", cmd.Path, c.err, out.tail())
	}
	return out.String(), nil
}

// Account is the operating system's user that a child runs as.
type Account struct {
	Name     string
	UID, GID uint32
	switched bool // another than ours
}

// AccountFor is the user for a Postgres whose files lie in dir. Postgres refuses
// to run as root; so for root it is the owner of dir, who can then go on without
// root, else the user postgres, else nobody. For others it is themselves.
func AccountFor(dir string) (Account, error) {
	if os.Geteuid() != 0 {
		return Account{Name: strconv.Itoa(os.Geteuid()), UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())}, nil //nolint:gosec // ids fit
	}
	if uid, gid, err := owner(dir); err == nil && uid != 0 {
		return Account{Name: strconv.Itoa(int(uid)), UID: uid, GID: gid, switched: true}, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, errUID := strconv.ParseUint(u.Uid, 10, 32)
		gid, errGID := strconv.ParseUint(u.Gid, 10, 32)
		if errUID == nil && errGID == nil {
			return Account{Name: name, UID: uint32(uid), GID: uint32(gid), switched: true}, nil
		}
	}
	return Account{}, fmt.Errorf("Postgres does not run as root, and there is no user postgres or nobody to run it as: add one (useradd --system postgres)") //nolint:staticcheck // Postgres is a name
}

// own gives path to the account, if that is another than ours.
func (a Account) own(path string) error {
	if !a.switched {
		return nil
	}
	return os.Lchown(path, int(a.UID), int(a.GID))
}

func owner(path string) (uid, gid uint32, err error) {
	info, err := os.Lstat(path)
	if err != nil {
		return 0, 0, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0, fmt.Errorf("no owner known of %s", path)
	}
	return st.Uid, st.Gid, nil
}
