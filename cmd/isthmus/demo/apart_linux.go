package demo

import "syscall"

// apartFromUs keeps the interrupt of a terminal from a node, which is to work until the verdict, and ends it when we end.
func apartFromUs() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
