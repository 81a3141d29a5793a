//go:build !linux

package demo

import "syscall"

// apartFromUs keeps the interrupt of a terminal from a node, which is to work until the verdict. Here nothing ends it when we
// are killed.
func apartFromUs() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
