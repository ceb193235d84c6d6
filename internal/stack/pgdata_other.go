//go:build !linux

package stack

import (
	"os/exec"
	"strconv"
	"strings"
)

// isPostmaster tells whether pid is a Postgres started on data, by its command.
func isPostmaster(pid int, data string) bool {
	out, err := exec.Command("ps", "-p", strconv.Itoa(pid), "-o", "command=").Output()
	return err == nil && strings.Contains(string(out), "postgres") && strings.Contains(string(out), data)
}
