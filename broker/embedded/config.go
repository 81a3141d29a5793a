package embedded

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"
)

// Defaults of Config, each with its reason.
const (
	// DefaultMinFreeBytes leaves room for what kfake writes without being
	// asked (abort markers, group state, rewritten logs) after writes are
	// refused.
	DefaultMinFreeBytes = 64 << 20
	// DefaultMaxFrameBytes is Apache Kafka's socket.request.max.bytes.
	DefaultMaxFrameBytes = 100 << 20
	// DefaultMaxConnections is far above what a small site opens and far
	// below the usual limit of open files.
	DefaultMaxConnections = 1000
	// DefaultMaxBufferedBytes holds two of the largest frames.
	DefaultMaxBufferedBytes = 2 * DefaultMaxFrameBytes
	// DefaultFrameTimeout lets the largest frame through at 4 MB/s.
	DefaultFrameTimeout = 30 * time.Second
	// DefaultIdleTimeout is Apache Kafka's connections.max.idle.ms.
	DefaultIdleTimeout = 10 * time.Minute
)

// Config describes an embedded cluster. The zero value of a limit means its
// default; Name, Listen and one of Dir and InMemory must be given.
type Config struct {
	// Name becomes the cluster id that clients see.
	Name string
	// Dir is the data directory, created if it is missing. One process at a
	// time may use it.
	Dir string
	// InMemory keeps everything in memory and ignores Dir: for tests.
	InMemory bool
	// Listen is host:port on loopback; port 0 takes any free port, which a
	// restart will not find again.
	Listen string
	// Topics are created when the data directory is new.
	Topics []Topic
	// BrokerConfigs are kfake's broker settings, such as message.max.bytes.
	BrokerConfigs map[string]string
	// SyncWrites calls fsync after each batch and each commit. Without it an
	// acknowledged record survives kill -9 but not a crash of the machine,
	// as with Apache Kafka's defaults; with it a write costs a disk flush.
	SyncWrites bool
	// MinFreeBytes is the low-water mark: with less free space on the disk
	// of Dir, requests that must be stored are refused.
	MinFreeBytes int64
	// MaxFrameBytes bounds a Produce request; all others are bounded by
	// the smaller of it and 2 MiB.
	MaxFrameBytes int32
	// MaxConnections bounds open connections; more are closed at once.
	MaxConnections int
	// MaxBufferedBytes bounds the memory of all large frames being received.
	MaxBufferedBytes int64
	// FrameTimeout bounds the time from a frame's first byte to its last.
	FrameTimeout time.Duration
	// IdleTimeout closes a connection that sends nothing for so long.
	IdleTimeout time.Duration
	// NewListener replaces net.Listen: for tests on a virtual network.
	NewListener func(network, addr string) (net.Listener, error)
	// FreeBytes replaces the question to the file system: for tests.
	FreeBytes func(dir string) (int64, error)
}

// Topic is a topic that exists from the start.
type Topic struct {
	Name       string
	Partitions int32
}

func (c Config) withDefaults() Config {
	c.MinFreeBytes = cmp.Or(c.MinFreeBytes, DefaultMinFreeBytes)
	c.MaxFrameBytes = cmp.Or(c.MaxFrameBytes, DefaultMaxFrameBytes)
	c.MaxConnections = cmp.Or(c.MaxConnections, DefaultMaxConnections)
	c.MaxBufferedBytes = max(cmp.Or(c.MaxBufferedBytes, DefaultMaxBufferedBytes), int64(c.MaxFrameBytes))
	c.FrameTimeout = cmp.Or(c.FrameTimeout, DefaultFrameTimeout)
	c.IdleTimeout = cmp.Or(c.IdleTimeout, DefaultIdleTimeout)
	if c.NewListener == nil {
		c.NewListener = net.Listen
	}
	if c.FreeBytes == nil {
		c.FreeBytes = diskFree
	}
	return c
}

func (c Config) validate() error {
	var errs []error
	add := func(ok bool, text string) {
		if !ok {
			errs = append(errs, errors.New(text))
		}
	}
	add(c.Name != "", "name is empty")
	add(c.InMemory || c.Dir != "", "dir is empty")
	add(c.MinFreeBytes >= 0, "min free bytes is negative")
	add(c.MaxFrameBytes >= 0, "max frame bytes is negative")
	add(c.MaxConnections >= 0, "max connections is negative")
	add(c.MaxBufferedBytes >= 0, "max buffered bytes is negative")
	add(c.FrameTimeout >= 0 && c.IdleTimeout >= 0, "a timeout is negative")
	for _, t := range c.Topics {
		add(t.Name != "" && t.Partitions > 0, fmt.Sprintf("topic %q needs a name and at least one partition", t.Name))
	}
	if err := checkLoopback(c.Listen); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// checkLoopback refuses every address that another machine could reach: there
// is no authentication behind it.
func checkLoopback(listen string) error {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return fmt.Errorf("listen %q is not host:port", listen)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return fmt.Errorf("listen %q has no port between 0 and 65535", listen)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("listen %q is not a loopback address: an embedded cluster has no authentication, use 127.0.0.1", listen)
	}
	return nil
}
