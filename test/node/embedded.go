package node

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Embedded is the cluster that is built into the binary, in a process of its own that runs no link.
type Embedded struct {
	node *Node
	addr string
	ask  *kgo.Client
}

// StartEmbedded starts an embedded cluster and returns it when it answers. It ends with the test.
func StartEmbedded(t testing.TB, name string) *Site {
	t.Helper()
	listen, grpc := net.JoinHostPort("127.0.0.1", strconv.Itoa(FreePort(t))), net.JoinHostPort("127.0.0.1", strconv.Itoa(FreePort(t)))
	file := filepath.Join(t.TempDir(), "isthmus.toml")
	text := fmt.Sprintf("[fabric]\nname = \"host\"\n[[cluster]]\nname = %q\nembedded = { dir = \"data\", listen = %q }\n[[node]]\nname = \"host\"\nhttp = \"127.0.0.1:%d\"\ngrpc = %q\n",
		name, listen, FreePort(t), grpc)
	if err := os.WriteFile(file, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(listen), kgo.MetadataMinAge(100*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	e := &Embedded{New(t, "host", file, grpc), listen, cl}
	e.Start(0)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := e.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	return &Site{e, name, kadm.NewClient(cl)}
}

// Bootstrap is the address of its one broker.
func (e *Embedded) Bootstrap() []string { return []string{e.addr} }

// Kill is kill -9 of the process; there is only broker 0.
func (e *Embedded) Kill(int) { e.node.Kill() }

// Start starts it again, with its data.
func (e *Embedded) Start(int) { e.node.Start() }

// WaitReady returns when it answers.
func (e *Embedded) WaitReady(ctx context.Context) error { return answers(ctx, e.ask) }

// answers returns when a broker of the client's answers.
func answers(ctx context.Context, cl *kgo.Client) error {
	for {
		try, cancel := context.WithTimeout(ctx, time.Second)
		err := cl.Ping(try)
		cancel()
		if err == nil || ctx.Err() != nil {
			return err
		}
	}
}
