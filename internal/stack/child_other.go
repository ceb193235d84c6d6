//go:build !linux

package stack

import "syscall"

// Only Linux tells a child of its parent's death. Elsewhere a Postgres left
// behind is found and stopped by the next start.
func childAttr(syscall.Signal) *syscall.SysProcAttr { return &syscall.SysProcAttr{} }
