package fabric

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/test/judge"
	"github.com/isthmus-project/isthmus/topology"
)

// text is the topology of a fabric with other links than it began with: each line is "NAME FROM>TO SETTINGS".
func (f *Fabric) text(t *testing.T, links ...string) *topology.Topology {
	t.Helper()
	var b strings.Builder
	b.WriteString("[fabric]\nname = \"test\"\n")
	for _, name := range f.opt.Clusters {
		fmt.Fprintf(&b, "[[cluster]]\nname = %q\nbootstrap = [\"127.0.0.1:%d\"]\n", name, f.ports[name])
	}
	for _, l := range links {
		name, rest, _ := strings.Cut(l, " ")
		ends, settings, _ := strings.Cut(rest, " ")
		from, to, _ := strings.Cut(ends, ">")
		fmt.Fprintf(&b, "[[link]]\nname = %q\nfrom = %q\nto = %q\n%s\n", name, from, to, strings.ReplaceAll(settings, ";", "\n"))
	}
	topo, err := topology.Parse("other.toml", []byte(b.String()))
	if err != nil {
		t.Fatal(err)
	}
	return topo
}

// since is when each running partition of each link began to run.
func since(n *Node) map[string]time.Time {
	out := make(map[string]time.Time)
	for _, l := range n.Set.Status() {
		for _, fl := range l.Flows {
			for _, p := range fl.Pumps {
				if p.State == mirror.StateRunning {
					out[fmt.Sprintf("%s %s:%d", l.Name, fl.Topic, p.Partition)] = p.Since
				}
			}
		}
	}
	return out
}

// Of 200 links one changes its topics, one goes, one comes: the others' pumps run on, and so do their connections.
func TestApply_OneOf200Links(t *testing.T) {
	const many = 200
	topics := make([]string, many)
	links := make([]string, many)
	for i := range many {
		topics[i] = fmt.Sprintf("t%03d", i)
		links[i] = fmt.Sprintf("l%03d eu>us topics = [%q]", i, topics[i])
	}
	scenario(t, Options{Topics: topics, Partitions: 1}, func(t *testing.T, f *Fabric, log *judge.Log) {
		began := f.text(t, links...)
		n := f.Run("n1", func(d *mirror.SetDeps) { d.Topology = began })
		defer n.Stop()
		for _, topic := range []string{"t000", "t001", "t007", "t199"} {
			write(t, f, log, "eu", judge.Load{Topic: topic, Partitions: 1, Records: 50, Size: 50, Seed: 1})
		}
		eventually(t, time.Minute, "all links run", func() bool { return len(since(n)) == many })
		time.Sleep(time.Second)
		var asked atomic.Int64
		f.Clusters["us"].ControlKey(int16(kmsg.Metadata), func(kmsg.Request) (kmsg.Response, error, bool) {
			f.Clusters["us"].KeepControl()
			asked.Add(1)
			return nil, nil, false
		})
		time.Sleep(10 * time.Second)
		if n := asked.Load(); n > 60 { // one question a second would do; the state of 200 links has clients of its own
			t.Errorf("a cluster was asked for its metadata %d times in ten quiet seconds", n)
		}
		before := since(n)
		dials := n.Paths["eu"].Dials() + n.Paths["us"].Dials()
		links[7] = `l007 eu>us topics = ["t007", "more"]`
		links[42] = `new eu>us topics = ["else"]`
		createTopic(t, f, "eu", "more", 1, nil)
		if err := n.Set.Apply(t.Context(), f.text(t, links...)); err != nil {
			t.Fatal(err)
		}
		write(t, f, log, "eu", judge.Load{Topic: "more", Partitions: 1, Records: 50, Size: 50, Seed: 2})
		arrives(t, f, "more", 50, 10*time.Second)
		time.Sleep(5 * time.Second)
		after := since(n)
		for pump, at := range before {
			switch now, ok := after[pump]; {
			case strings.HasPrefix(pump, "l042"):
				if ok {
					t.Errorf("%s still runs, though its link is gone", pump)
				}
			case !ok || !now.Equal(at):
				t.Errorf("%s was touched by a change that does not name it", pump)
			}
		}
		// The link that came has no topic, so that it needs its state alone; the one that changed has a topic more, on connections it has.
		if more := n.Paths["eu"].Dials() + n.Paths["us"].Dials() - dials; more > 30 {
			t.Errorf("%d connections were made by a change of one link", more)
		}
		verdict(t, f, judge.Case{Topics: []string{"t000", "t001", "t007", "t199", "more"}, Log: log})
	})
}

// A topic is taken out of a link under load and put back: its copy goes on where it was left.
func TestApply_TopicOutAndBack(t *testing.T) {
	scenario(t, Options{Topics: []string{"orders", "other"}, Partitions: 4}, func(t *testing.T, f *Fabric, log *judge.Log) {
		all, less := f.text(t, `l eu>us topics = ["*"]`), f.text(t, `l eu>us topics = ["*"];exclude = ["orders"]`)
		n := f.Run("n1", func(d *mirror.SetDeps) { d.Topology = all })
		defer n.Stop()
		stop := flowing(t, f, log, "orders", 4)
		other := flowing(t, f, log, "other", 4)
		time.Sleep(5 * time.Second)
		before := since(n)
		for range 3 {
			if err := n.Set.Apply(t.Context(), less); err != nil {
				t.Fatal(err)
			}
			eventually(t, 3*time.Second, "the topic is not copied any more", func() bool { return len(pumps(n, "orders")) == 0 })
			was := holds(t, f, "us", "orders")
			time.Sleep(3 * time.Second)
			if now := holds(t, f, "us", "orders"); now != was {
				t.Errorf("%d records of the excluded topic were copied", now-was)
			}
			if err := n.Set.Apply(t.Context(), all); err != nil {
				t.Fatal(err)
			}
			time.Sleep(3 * time.Second)
		}
		after := since(n)
		for p := range 4 {
			if key := fmt.Sprintf("l other:%d", p); !before[key].Equal(after[key]) || before[key].IsZero() {
				t.Errorf("%s was touched by changes that do not name it", key)
			}
		}
		stop()
		other()
		if err := CaughtUp(time.Minute, n); err != nil {
			t.Fatal(err)
		}
		verdict(t, f, judge.Case{Topics: []string{"orders", "other"}, Log: log})
		if l, err := n.Set.Ledger(""); err != nil || len(l) > 0 {
			t.Errorf("ledger %+v, %v", l, err)
		}
	})
}

// A changed cluster restarts its links and no others; a change that cannot be made changes nothing.
func TestApply_ChangedClusterAndFailure(t *testing.T) {
	scenario(t, Options{Topics: []string{"orders", "other"}, Brokers: 3}, func(t *testing.T, f *Fabric, log *judge.Log) {
		f.opt.Clusters = []string{"eu", "us", "ap"} // us under another name and address, which is another cluster to the links
		at := func(broker int) *topology.Topology {
			f.ports["ap"] = f.ports["us"] + broker
			return f.text(t, `a eu>us topics = ["orders"]`, `b eu>ap topics = ["other"]`)
		}
		broken := false
		n := f.Run("n1", func(d *mirror.SetDeps) {
			open := d.Open
			d.Topology = at(1)
			d.Open = func(c topology.Cluster) (*broker.Cluster, error) {
				if broken {
					return nil, errors.New("no such file: password")
				}
				return open(c)
			}
		})
		defer n.Stop()
		stop := flowing(t, f, log, "orders", 2)
		eventually(t, 20*time.Second, "both links run", func() bool { return len(since(n)) == 4 })
		time.Sleep(2 * time.Second)
		before := since(n)
		if err := n.Set.Apply(t.Context(), at(2)); err != nil {
			t.Fatal(err)
		}
		eventually(t, 20*time.Second, "both links run again", func() bool { return len(since(n)) == 4 })
		after := since(n)
		for key, at := range before {
			if same := after[key].Equal(at); same != strings.HasPrefix(key, "a ") {
				t.Errorf("%s: untouched %t", key, same)
			}
		}
		broken = true
		if err := n.Set.Apply(t.Context(), at(1)); err == nil || !strings.Contains(err.Error(), "password") {
			t.Errorf("a cluster that cannot be opened: %v", err)
		}
		renamed, err := topology.Parse("x.toml", []byte("[fabric]\nname = \"another\"\n[[cluster]]\nname = \"eu\"\nbootstrap = [\"127.0.0.1:1\"]\n[[cluster]]\nname = \"us\"\nbootstrap = [\"127.0.0.1:2\"]\n[[link]]\nfrom = \"eu\"\nto = \"us\"\ntopics = [\"*\"]\n"))
		if err != nil {
			t.Fatal(err)
		}
		if err := n.Set.Apply(t.Context(), renamed); err == nil || !strings.Contains(err.Error(), "another") {
			t.Errorf("another fabric's topology: %v", err)
		}
		if now := since(n); len(n.Set.Status()) != 2 || !now["a orders:0"].Equal(before["a orders:0"]) || !now["b other:0"].Equal(after["b other:0"]) {
			t.Error("a change that failed changed something")
		}
		stop()
		if err := CaughtUp(time.Minute, n); err != nil {
			t.Fatal(err)
		}
		f.opt.Clusters = []string{"eu", "us"}
		verdict(t, f, judge.Case{Topics: []string{"orders"}, Log: log, Targets: []string{"us"}})
	})
}
