package stack

import (
	"fmt"
	"os"
	"strings"
)

// isPostmaster tells whether pid is a Postgres whose home is data: it works in
// its data directory. A zombie is none.
func isPostmaster(pid int, data string) bool {
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil || !strings.HasPrefix(string(comm), "postgres") {
		return false
	}
	cwd, err := os.Stat(fmt.Sprintf("/proc/%d/cwd", pid))
	if err != nil {
		return false
	}
	home, err := os.Stat(data)
	return err == nil && os.SameFile(cwd, home)
}
