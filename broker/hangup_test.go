package broker

import (
	"net"
	"testing"
)

// socket is one end of a connection over loopback, whose other end is closed with the test.
func socket(t testing.TB, ear net.Listener) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", ear.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	other, err := ear.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = c.Close(), other.Close() })
	return c
}

func ear(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// TestLines: connections that come and go leave nothing behind, those that are open stay known however many there are, and all are ended at once.
func TestLines(t *testing.T) {
	at, l := ear(t), newLines()
	for range 5 * fewLines {
		_ = l.add(socket(t, at)).Close()
	}
	if n := len(l.open); n > 2*fewLines {
		t.Errorf("%d connections are known, all of which are closed", n)
	}
	open := make([]net.Conn, 3*fewLines)
	for i := range open {
		open[i] = l.add(socket(t, at))
	}
	l.end()
	for i, c := range open {
		if !isClosed(c) {
			t.Fatalf("connection %d is open", i)
		}
	}
}

// BenchmarkLines is one more connection where a thousand are open.
func BenchmarkLines(b *testing.B) {
	at, l := ear(b), newLines()
	for range 1000 {
		l.add(socket(b, at))
	}
	c := socket(b, at)
	b.ReportAllocs()
	for b.Loop() {
		delete(l.open, c)
		l.add(c)
	}
}
