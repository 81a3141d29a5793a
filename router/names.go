package router

import (
	"net"
	"strconv"
	"strings"

	"github.com/isthmus-project/isthmus/router/identity"
	"github.com/isthmus-project/isthmus/topology"
)

// bootstrap is the slot of a connection that may go to any broker.
const bootstrap = -1

// slotMark stands for a slot's number in the host name that tells slots apart.
const slotMark = "{slot}"

// room is how many slots an instance has.
func room(r topology.Router) int {
	if r.SNI != "" {
		return identity.MaxSlots
	}
	return count(r.Slots)
}

// address is where clients find a slot at an instance.
func address(r topology.Router, slot int) (host string, port int32) {
	if r.SNI == "" {
		return r.Advertise, int32(r.Slots.First) + int32(slot)
	}
	_, digits, _ := net.SplitHostPort(r.Listen) // topology has checked it
	n, _ := strconv.ParseUint(digits, 10, 16)
	return strings.Replace(r.SNI, slotMark, strconv.Itoa(slot), 1), int32(n)
}

// slotOf reads the slot in the name that a client gave in its handshake; bootstrap for any other name, and for none.
func slotOf(pattern, name string) int {
	head, tail, ok := strings.Cut(strings.ToLower(pattern), slotMark)
	name = strings.TrimSuffix(strings.ToLower(name), ".")
	if !ok || len(name) <= len(head)+len(tail) || !strings.HasPrefix(name, head) || !strings.HasSuffix(name, tail) {
		return bootstrap
	}
	digits := name[len(head) : len(name)-len(tail)]
	n, err := strconv.Atoi(digits)
	if err != nil || n < 0 || n >= identity.MaxSlots || strconv.Itoa(n) != digits {
		return bootstrap
	}
	return n
}
