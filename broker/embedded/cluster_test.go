package embedded

import (
	"fmt"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

func TestCluster_StoresAndServes(t *testing.T) {
	for _, inMemory := range []bool{false, true} {
		t.Run(fmt.Sprintf("inMemory=%v", inMemory), func(t *testing.T) {
			c, _ := start(t, Config{Dir: t.TempDir(), InMemory: inMemory, Topics: []Topic{{"orders", 3}}})
			cl := client(t, c.Addr())
			for i := range 100 {
				r := &kgo.Record{Topic: "orders", Value: fmt.Appendf(nil, "v%d", i)}
				if err := cl.ProduceSync(within(t, 10*time.Second), r).FirstErr(); err != nil {
					t.Fatalf("produce: %v", err)
				}
			}
			seen := make(map[string]bool)
			for _, r := range readAll(t, c.Addr(), "orders", 100) {
				seen[string(r.Value)] = true
			}
			if len(seen) != 100 {
				t.Errorf("read %d different records, want 100", len(seen))
			}
			if s := c.Stats(); s.Requests == 0 || s.Connections == 0 || len(s.Rejected) != 0 {
				t.Errorf("stats = %+v", s)
			}
		})
	}
}

func TestCluster_KeepsRecordsOverRestart(t *testing.T) {
	dir := t.TempDir()
	for round := range 3 {
		c, stop := start(t, Config{Dir: dir, Topics: []Topic{{"orders", 1}}})
		cl := client(t, c.Addr())
		r := &kgo.Record{Topic: "orders", Value: fmt.Appendf(nil, "v%d", round)}
		if err := cl.ProduceSync(within(t, 10*time.Second), r).FirstErr(); err != nil {
			t.Fatalf("produce: %v", err)
		}
		got := readAll(t, c.Addr(), "orders", round+1)
		if last := got[len(got)-1]; string(last.Value) != fmt.Sprintf("v%d", round) || last.Offset != int64(round) {
			t.Errorf("round %d: last record = %q at %d", round, last.Value, last.Offset)
		}
		stop()
	}
}

func TestNew_RefusesBadConfig(t *testing.T) {
	good := Config{Name: "eu", InMemory: true, Listen: "127.0.0.1:0"}
	for name, change := range map[string]func(*Config){
		"no name":        func(c *Config) { c.Name = "" },
		"no dir":         func(c *Config) { c.InMemory = false },
		"any address":    func(c *Config) { c.Listen = ":9092" },
		"wildcard":       func(c *Config) { c.Listen = "0.0.0.0:9092" },
		"wildcard v6":    func(c *Config) { c.Listen = "[::]:9092" },
		"other host":     func(c *Config) { c.Listen = "192.0.2.1:9092" },
		"name of a host": func(c *Config) { c.Listen = "kafka-1:9092" },
		"no port":        func(c *Config) { c.Listen = "127.0.0.1" },
		"port too large": func(c *Config) { c.Listen = "127.0.0.1:70000" },
		"topic unnamed":  func(c *Config) { c.Topics = []Topic{{"", 1}} },
		"negative limit": func(c *Config) { c.MaxFrameBytes = -1 },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := good
			change(&cfg)
			if c, err := New(cfg, slog.New(slog.DiscardHandler)); err == nil {
				c.Close()
				t.Error("New accepted it")
			}
		})
	}
}

func TestNew_SaysThatThePortIsInUse(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	dir := t.TempDir()
	cfg := Config{Name: "eu", Dir: dir, Listen: ln.Addr().String()}
	if _, err := New(cfg, slog.New(slog.DiscardHandler)); !isErr(err, ErrListen) {
		t.Fatalf("New = %v, want ErrListen", err)
	}
	ln.Close()
	c, err := New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatalf("New after the port is free = %v", err)
	}
	c.Close()
}
