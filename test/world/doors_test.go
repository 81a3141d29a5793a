package world

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/isthmus-project/isthmus/admin/adminpb"
	"github.com/isthmus-project/isthmus/cmd/isthmus/node"
	"github.com/isthmus-project/isthmus/test/fabric"
)

// entry is a [[router]] as a file has it, whose bootstrap is at a port and whose slots are behind it.
func entry(name, node string, port int) string {
	return fmt.Sprintf("[[router]]\nname = %q\nnode = %q\nlisten = \"127.0.0.1:%d\"\nadvertise = \"127.0.0.1\"\nslots = \"%d-%d\"\nhome = \"eu\"\n", name, node, port, port+1, port+4)
}

// doored is a fabric of three nodes, of which the two in frankfurt have a door to eu.
func doored(t *testing.T, run func(t *testing.T, w *World)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := New(t, fabric.Options{Clusters: []string{"eu", "us"}, Links: []string{"eu>us"}, Topics: []string{"orders"}, Partitions: 4, Brokers: 2, Seed: 1,
			More: entry("shop", "eu-1", 10100) + entry("shop", "eu-2", 10200)}, 1, "eu-1@frankfurt", "eu-2@frankfurt", "us-1@virginia")
		defer w.Close()
		w.StartAll()
		w.Until("both doors serve", 30*time.Second, func() error { return errors.Join(w.served("shop", 0), w.served("shop", 1)) })
		run(t, w)
	})
}

// served is an error while a router of a node does not tell clients of two brokers.
func (w *World) served(name string, n int) error {
	for _, d := range w.Nodes[n].Doors() {
		if d.Router.Name == name {
			if d.Trouble != "" {
				return fmt.Errorf("router %s on %s: %s", name, w.Nodes[n].Name, d.Trouble)
			}
			brokers, err := w.told(d.Router.Listen)
			if err == nil && len(brokers) != 2 {
				err = fmt.Errorf("router %s on %s tells of %v", name, w.Nodes[n].Name, brokers)
			}
			return err
		}
	}
	return fmt.Errorf("%s has no router %s", w.Nodes[n].Name, name)
}

// through is a client that knows the bootstrap of some doors, and reaches nothing but doors.
func (w *World) through(doors []string, opts ...kgo.Opt) *kgo.Client {
	w.t.Helper()
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		if !strings.HasPrefix(address, "127.0.0.1:10") {
			w.t.Errorf("a client went around the door, to %s", address)
		}
		return w.Dial(ctx, network, address)
	}
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(doors...), kgo.Dialer(dial), kgo.MetadataMinAge(100 * time.Millisecond)}, opts...)...)
	if err != nil {
		w.t.Fatal(err)
	}
	return cl
}

// told is where a door says that brokers are.
func (w *World) told(door string) (map[int32]string, error) {
	cl := w.through([]string{door}, kgo.RequestRetries(0))
	defer cl.Close()
	m, err := kadm.NewClient(cl).BrokerMetadata(w.t.Context())
	if err != nil {
		return nil, err
	}
	at := make(map[int32]string)
	for _, b := range m.Brokers {
		at[b.NodeID] = fmt.Sprintf("%s:%d", b.Host, b.Port)
	}
	return at, nil
}

// write writes the records from to to-1.
func write(t *testing.T, cl *kgo.Client, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		cl.Produce(t.Context(), &kgo.Record{Topic: "orders", Key: []byte(strconv.Itoa(i % 20)), Value: []byte(strconv.Itoa(i))}, func(_ *kgo.Record, err error) {
			if err != nil {
				t.Errorf("record %d: %v", i, err)
			}
		})
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := cl.Flush(ctx); err != nil {
		t.Fatal(err)
	}
}

// read wants the records 0 to n-1, each once.
func read(t *testing.T, cl *kgo.Client, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	seen := make(map[string]int)
	for total := 0; total < n; {
		fs := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("%d of %d records came", total, n)
		}
		fs.EachRecord(func(r *kgo.Record) {
			seen[string(r.Value)]++
			total++
		})
	}
	for i := range n {
		if seen[strconv.Itoa(i)] != 1 {
			t.Fatalf("record %d came %d times", i, seen[strconv.Itoa(i)])
		}
	}
}

var doors = []string{"127.0.0.1:10100", "127.0.0.1:10200"}

// TestWorld_DoorsOfANode: nodes have the doors of their file; clients go through them, and on through the other when one node stops in order or
// is killed, without a record lost or doubled.
func TestWorld_DoorsOfANode(t *testing.T) {
	doored(t, func(t *testing.T, w *World) {
		if at, err := w.told(doors[1]); err != nil || !maps.Equal(at, map[int32]string{0: "127.0.0.1:10101", 1: "127.0.0.1:10202"}) {
			t.Errorf("clients are told %v, %v", at, err)
		}
		out := w.through(doors)
		defer out.Close()
		write(t, out, 0, 500)
		id, _, err := out.ProducerID(t.Context())
		if kind := w.Topology.Provenance(id).Kind.String(); err != nil || kind != "router-client" {
			t.Errorf("the producer's id is one of a %s, %v", kind, err)
		}
		began := time.Now()
		w.Nodes[0].Stop()
		if took := time.Since(began); took > 15*time.Second {
			t.Errorf("the node stopped after %v", took)
		}
		write(t, out, 500, 1000)
		if at, err := w.told(doors[1]); err != nil || !maps.Equal(at, map[int32]string{0: "127.0.0.1:10201", 1: "127.0.0.1:10202"}) {
			t.Errorf("clients are told %v, %v", at, err)
		}
		w.Nodes[0].Start()
		w.Until("the door is there again", 30*time.Second, func() error { return w.served("shop", 0) })
		w.Nodes[1].Kill()
		write(t, out, 1000, 1500)
		in := w.through(doors, kgo.ConsumeTopics("orders"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(100*time.Millisecond))
		defer in.Close()
		read(t, in, 1500)
	})
}

// TestWorld_DoorsChangeLive: routers are added, changed and taken away while the nodes run; those that are not changed keep their connections.
func TestWorld_DoorsChangeLive(t *testing.T) {
	doored(t, func(t *testing.T, w *World) {
		stays, err := w.Dial(t.Context(), "tcp", doors[0])
		if err != nil {
			t.Fatal(err)
		}
		defer stays.Close()
		file := string(w.Source.Text)
		more := file + entry("other", "eu-1", 10300)
		w.apply(t, more)
		w.Until("the new router serves", 30*time.Second, func() error { return w.served("other", 0) })
		moved := strings.Replace(more, entry("shop", "eu-2", 10200), entry("shop", "eu-2", 10400), 1)
		w.apply(t, moved)
		w.Until("clients are told of the move by the other instance", 30*time.Second, func() error {
			at, err := w.told(doors[0])
			if err == nil && at[1] != "127.0.0.1:10402" {
				err = fmt.Errorf("they are told %v", at)
			}
			return err
		})
		w.Until("the changed router serves", 30*time.Second, func() error { return w.served("shop", 1) })
		w.apply(t, strings.Replace(moved, entry("other", "eu-1", 10300), "", 1))
		w.Until("the router is gone", 30*time.Second, func() error {
			if n := len(w.Nodes[0].Doors()); n != 1 {
				return fmt.Errorf("the node has %d routers", n)
			}
			if c, err := w.Dial(t.Context(), "tcp", "127.0.0.1:10300"); err == nil {
				return errors.Join(errors.New("somebody listens there"), c.Close())
			}
			return nil
		})
		time.Sleep(15 * time.Second) // a connection of a router that ended is gone by now
		ask(t, stays)
	})
}

// ask sends a Metadata request and reads the answer.
func ask(t *testing.T, c net.Conn) {
	t.Helper()
	if _, err := c.Write([]byte{0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 7, 0xff, 0xff, 0, 0, 0, 0}); err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	head := make([]byte, 8)
	if _, err := io.ReadFull(c, head); err != nil || head[7] != 7 {
		t.Fatalf("% x, %v", head, err)
	}
}

// apply makes a file what runs.
func (w *World) apply(t *testing.T, file string) {
	t.Helper()
	api := w.Nodes[2].API
	dry, err := api.Apply(t.Context(), &adminpb.ApplyRequest{File: file, DryRun: true})
	if err == nil {
		_, err = api.Apply(t.Context(), &adminpb.ApplyRequest{File: file, Confirm: dry.GetConfirm()})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestWorld_DoorInTrouble: a router that cannot listen says why, keeps nothing else from working, and serves when its address is free; one that
// cannot be served yet is refused before it is applied.
func TestWorld_DoorInTrouble(t *testing.T) {
	doored(t, func(t *testing.T, w *World) {
		taken, err := w.Listen("tcp", "127.0.0.1:10502")
		if err != nil {
			t.Fatal(err)
		}
		w.apply(t, string(w.Source.Text)+entry("late", "eu-2", 10500))
		late := func() node.DoorStatus { return w.Nodes[1].Doors()[0] }
		w.Until("it says why", 10*time.Second, func() error {
			if len(w.Nodes[1].Doors()) < 2 || !strings.Contains(late().Trouble, `router "late": slots: `) {
				return fmt.Errorf("it has %+v", w.Nodes[1].Doors())
			}
			return nil
		})
		w.Until("all else works", 30*time.Second, func() error { return errors.Join(w.served("shop", 1), w.Agreed()) })
		if err := taken.Close(); err != nil {
			t.Fatal(err)
		}
		w.Until("it serves", 30*time.Second, func() error { return w.served("late", 1) })
		refused := string(w.Source.Text) + entry("late", "eu-2", 10500) + "auth = \"terminate\"\n"
		if _, err := w.Nodes[2].API.Apply(t.Context(), &adminpb.ApplyRequest{File: refused, DryRun: true}); err == nil || !strings.Contains(err.Error(), `auth: with "terminate" users log in at the home`) {
			t.Errorf("apply of a router whose home takes no logins: %v", err)
		}
	})
}
