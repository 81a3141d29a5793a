package process

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// Ports of what is killed and started again are taken from below the range that Linux gives to outgoing connections (32768 and up). In that range
// a client that retries a killed broker's port may be given that very port as its own and then talk to itself. Well-known ones are left out.
const (
	firstPort = 12000
	lastPort  = 31999
)

// ReservePorts finds n free loopback ports and keeps other users of this package, in any process, away from them until the
// returned files are closed; the kernel lets go of them when the process ends. The port of what was killed stays its own.
func ReservePorts(n int) ([]int, []*os.File, error) {
	var ports []int
	var locks []*os.File
	for try := 0; try < 1000 && len(ports) < n; try++ {
		port := firstPort + rand.IntN(lastPort-firstPort+1)
		lock, err := reservePort(port)
		if err != nil {
			continue // taken; the next number is as good
		}
		ports = append(ports, port)
		locks = append(locks, lock)
	}
	if len(ports) < n {
		return nil, nil, errors.Join(fmt.Errorf("reserve %d ports between %d and %d: none free", n, firstPort, lastPort), CloseAll(locks))
	}
	return ports, locks, nil
}

// ReserveRange is ReservePorts for n ports in a row, of which it returns the first.
func ReserveRange(n int) (int, []*os.File, error) {
	for range 1000 {
		first := firstPort + rand.IntN(lastPort-firstPort+2-n)
		var locks []*os.File
		for len(locks) < n {
			lock, err := reservePort(first + len(locks))
			if err != nil {
				break // taken; other numbers are as good
			}
			locks = append(locks, lock)
		}
		if len(locks) == n {
			return first, locks, nil
		}
		if err := CloseAll(locks); err != nil {
			return 0, nil, err
		}
	}
	return 0, nil, fmt.Errorf("reserve %d ports in a row between %d and %d: none free", n, firstPort, lastPort)
}

// reservePort locks one port's file and sees whether the port can be listened on.
func reservePort(port int) (*os.File, error) {
	path := filepath.Join(os.TempDir(), "isthmus-port-"+strconv.Itoa(port))
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o666)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, l.Close()
}

// CloseAll closes the files and returns what went wrong.
func CloseAll(files []*os.File) error {
	var errs []error
	for _, f := range files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}
