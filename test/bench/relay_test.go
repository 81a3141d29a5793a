package bench

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"
)

// chunks are the sizes of a read and a write of the relay; the first is the one
// that others are compared with.
var chunks = []int{1 << 20, 64 << 10, 16 << 10}

// With relaySink the test binary is the relay: its value is the sink's address.
const (
	relaySink  = "ISTHMUS_BENCH_RELAY"
	relayChunk = "ISTHMUS_BENCH_RELAY_CHUNK"
)

func TestMain(m *testing.M) {
	if sink := os.Getenv(relaySink); sink != "" {
		if err := relay(sink, os.Getenv(relayChunk)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if os.Getenv(quickBroker) != "" {
		if err := beQuick(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// relay copies one connection to the sink, one chunk at a time: the least a
// process can do that moves bytes from one socket to another. Then it waits for
// the end of its input, so that its memory can be looked at.
func relay(sink, chunk string) error {
	size, err := strconv.Atoi(chunk)
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(ln.Addr())
	in, err := ln.Accept()
	if err != nil {
		return err
	}
	out, err := net.Dial("tcp", sink)
	if err != nil {
		return err
	}
	buf := make([]byte, size)
	for {
		n, err := io.ReadFull(in, buf)
		if n > 0 {
			if _, werr := out.Write(buf[:n]); werr != nil {
				return werr
			}
		}
		if err != nil {
			break
		}
	}
	if err := out.Close(); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// measureRelay sends bytes through a relay process.
func measureRelay(t *testing.T, chunk int, bytes int64) result {
	t.Helper()
	sink, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	received := make(chan int64, 1)
	go func() {
		c, err := sink.Accept()
		if err != nil {
			received <- -1
			return
		}
		defer c.Close()
		n, _ := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{c}, make([]byte, 1<<20))
		received <- n
	}()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), relaySink+"="+sink.Addr().String(), relayChunk+"="+strconv.Itoa(chunk))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stop, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p := start(t, cmd)
	var addr string
	if _, err := fmt.Fscan(out, &addr); err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	buf := make([]byte, 1<<20)
	for left := bytes; left > 0; left -= int64(len(buf)) {
		if _, err := c.Write(buf[:min(int64(len(buf)), left)]); err != nil {
			t.Fatal(err)
		}
	}
	c.Close()
	got := <-received
	took := time.Since(began)
	rss := p.rss()
	stop.Close()
	cpu := p.end(nil)
	if got != bytes {
		t.Fatalf("the relay passed on %d of %d bytes", got, bytes)
	}
	return result{name: fmt.Sprintf("relay, read + write of %d kB", chunk>>10), wire: bytes, took: took, cpu: cpu, rss: rss}
}
