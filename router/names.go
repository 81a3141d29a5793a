package router

import (
	"cmp"
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

// way is what tells the slots of a set apart at an instance: ports, or names.
type way struct {
	ports topology.Ports
	sni   string
}

// wayOf is the way of a set at an instance; 0 is what no set names.
func wayOf(r topology.Router, set int) way {
	switch {
	case set == 0:
		return way{r.Slots, r.SNI}
	case set <= len(r.Sets):
		return way{r.Sets[set-1].Slots, r.Sets[set-1].SNI}
	}
	return way{}
}

// room is how many slots there may be.
func (w way) room() int {
	if w.sni != "" {
		return identity.MaxSlots
	}
	return count(w.ports)
}

// String is as files have it.
func (w way) String() string { return cmp.Or(w.sni, w.ports.String()) }

// address is where clients find a slot of a set at an instance.
func address(r topology.Router, set, slot int) (host string, port int32) {
	w := wayOf(r, set)
	if w.sni == "" {
		return r.Advertise, int32(w.ports.First) + int32(slot)
	}
	_, digits, _ := net.SplitHostPort(r.Listen) // topology has checked it
	n, _ := strconv.ParseUint(digits, 10, 16)
	return strings.Replace(w.sni, slotMark, strconv.Itoa(slot), 1), int32(n)
}

// slotNamed is the number of the slot, of any set, whose name a client gave in its handshake.
func slotNamed(r topology.Router, name string) int {
	for set := range len(r.Sets) + 1 {
		if sni := wayOf(r, set).sni; sni != "" {
			if slot := slotOf(sni, name); slot != bootstrap {
				return numberOf(set, slot)
			}
		}
	}
	return bootstrap
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
