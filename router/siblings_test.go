package router

import (
	"context"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/topology"
)

// TestSiblings: a door that refuses is gone until it takes connections again; one that is slow is not; and nobody looks where no client asks.
func TestSiblings(t *testing.T) {
	refuse := map[string]error{"b:1": syscall.ECONNREFUSED, "c:1": context.DeadlineExceeded}
	s := &siblings{dial: func(_ context.Context, _, address string) (net.Conn, error) {
		if err := refuse[address]; err != nil {
			return nil, &net.OpError{Op: "dial", Err: err}
		}
		c, other := net.Pipe()
		_ = other.Close()
		return c, nil
	}}
	s.list.Store(&[]topology.Router{{Node: "a", Listen: "a:1"}, {Node: "b", Listen: "b:1"}, {Node: "c", Listen: "c:1"}, {Node: "d", Listen: "d:1"}})
	at := time.Unix(1000, 0)
	if s.due(at, 0) {
		t.Error("it is looked though no client asked")
	}
	if !s.due(at, 1) || s.due(at.Add(time.Hour), 2) {
		t.Error("it is not looked, or twice at once")
	}
	s.look(t.Context(), "a")
	for node, want := range map[string]bool{"a": false, "b": true, "c": false, "d": false} {
		if s.refuses(node) != want {
			t.Errorf("%s refuses: %v", node, !want)
		}
	}
	if s.due(at.Add(siblingEvery/2), 1) || !s.due(at.Add(siblingEvery), 1) {
		t.Error("one that is gone is not looked at again, or too often")
	}
	delete(refuse, "b:1")
	if s.look(t.Context(), "a"); s.refuses("b") || s.due(at.Add(time.Hour), 1) {
		t.Error("one that is back is still gone")
	}
	for listen, want := range map[string]string{"127.0.0.1:9": "127.0.0.1:9", "0.0.0.0:9": "kafka.example:9", "[::]:9": "kafka.example:9", ":9": "kafka.example:9", "nothing": "nothing"} {
		if got := doorOf(topology.Router{Listen: listen, Advertise: "kafka.example"}); got != want {
			t.Errorf("%s is reached at %s, want %s", listen, got, want)
		}
	}
}
