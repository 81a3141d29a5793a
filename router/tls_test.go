package router

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sync/semaphore"
)

// TestFront_Turns: one address has a part of the places only; who waits too long is told, and nothing is left of anybody.
func TestFront_Turns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &front{within: 10 * time.Second, share: 2, all: semaphore.NewWeighted(3), of: make(map[string]*turns)}
		enter := func(address string) func() {
			leave, err := f.enter(t.Context(), address)
			if err != nil {
				t.Fatalf("%s: %v", address, err)
			}
			return leave
		}
		a1, a2 := enter("a"), enter("a")
		began := time.Now()
		if _, err := f.enter(t.Context(), "a"); !errors.Is(err, ErrHandshake) || time.Since(began) != 10*time.Second {
			t.Errorf("a third of one address: %v after %v", err, time.Since(began))
		}
		b := enter("b")
		if _, err := f.enter(t.Context(), "c"); !errors.Is(err, ErrHandshake) {
			t.Errorf("a fourth of all: %v", err)
		}
		time.AfterFunc(time.Second, a1)
		began = time.Now()
		enter("c")()
		if took := time.Since(began); took != time.Second {
			t.Errorf("the next had its turn after %v", took)
		}
		ended, end := context.WithCancel(t.Context())
		end()
		d := enter("d")
		if _, err := f.enter(ended, "b"); err == nil {
			t.Error("somebody enters a router that ends")
		}
		a2()
		b()
		d()
		if len(f.of) != 0 || !f.all.TryAcquire(3) {
			t.Errorf("left over: %v", f.of)
		}
	})
}

// at is a connection to an address.
type at struct {
	net.Conn
	local string
}

func (c at) LocalAddr() net.Addr { return &net.UnixAddr{Name: c.local} }

// TestPrivate: a client that is not listened to comes through TLS, or does not leave the machine.
func TestPrivate(t *testing.T) {
	for _, tc := range []struct {
		c      net.Conn
		listen string
		want   bool
	}{
		{at{local: "10.0.0.1:9092"}, "10.0.0.1:9092", false}, {at{local: "10.0.0.1:9092"}, "0.0.0.0:9092", false}, {at{local: "127.0.0.1:9092"}, "0.0.0.0:9092", true},
		{at{local: "[::1]:9092"}, "[::]:9092", true}, {at{local: "[::ffff:127.0.0.1]:9092"}, "[::]:9092", true}, {at{local: "pipe"}, "localhost:9092", true},
		{at{local: "pipe"}, "kafka.example:9092", false}, {tls.Server(at{local: "10.0.0.1:9092"}, nil), "10.0.0.1:9092", true},
	} {
		if got := private(tc.c, tc.listen); got != tc.want {
			t.Errorf("%v at %s: %v", tc.c, tc.listen, got)
		}
	}
}
