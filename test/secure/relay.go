package secure

import (
	"io"
	"net"
	"sync"
	"testing"
)

// relay gives a listener one more address. A topology refuses two clusters with one bootstrap address, and the tests give
// one broker many names, each with other credentials. Only the first connection comes here: metadata names the broker's own.
func relay(t testing.TB, to string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		all.Wait()
	})
	all.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return // closed
			}
			all.Go(func() { pass(client, to) })
		}
	})
	return l.Addr().String()
}

// pass copies both ways until one side ends; a broker that is down ends the client's connection.
func pass(client net.Conn, to string) {
	defer client.Close()
	broker, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer broker.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(broker, client) // either end may go at any time
		_ = broker.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(client, broker)
	_ = client.Close()
	<-done
}
