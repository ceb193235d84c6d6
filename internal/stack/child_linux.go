package stack

import "syscall"

func childAttr(last syscall.Signal) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: last}
}
