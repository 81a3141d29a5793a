package bench

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"testing"
	"time"
)

// relayEnv makes the test binary the relay: its value is the sink's address.
const relayEnv = "ISTHMUS_BENCH_RELAY"

func TestMain(m *testing.M) {
	if sink := os.Getenv(relayEnv); sink != "" {
		if err := relay(sink); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// relay copies one connection to the sink, 1 MB at a time: the least a process
// can do that moves bytes from one socket to another.
func relay(sink string) error {
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
	defer out.Close()
	buf := make([]byte, 1<<20)
	for {
		n, err := io.ReadFull(in, buf)
		if n > 0 {
			if _, werr := out.Write(buf[:n]); werr != nil {
				return werr
			}
		}
		if err != nil {
			return nil
		}
	}
}

// measureRelay sends bytes through a relay process.
func measureRelay(t *testing.T, bytes int64) result {
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
		n, _ := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{c}, make([]byte, 1<<20))
		received <- n
	}()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), relayEnv+"="+sink.Addr().String())
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
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
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if got != bytes {
		t.Fatalf("the relay passed on %d of %d bytes", got, bytes)
	}
	return result{name: "relay, 1 MB read + write", wire: bytes, took: took, cpu: cpuOf(cmd), rss: rssOf(cmd)}
}
