package lock

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/admin/adminpb"
	"github.com/isthmus-project/isthmus/checker"
	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/test/judge"
	"github.com/isthmus-project/isthmus/test/node"
)

// TestOwners_OfRecordsThatABrokerForgets: two mirrors of one link that do not know each other, one of which is frozen for a while, copy
// records of 2017. The target forgets every producer id within a second, 600 times as often as a broker does by default: the
// sequence lock has a hole every second. Nothing may be lost or reordered; what is doubled must be in the ledger.
// ISTHMUS_SOAK=1 runs it in full size.
func TestOwners_OfRecordsThatABrokerForgets(t *testing.T) {
	together, frozen, rate, partitions := 8*time.Second, 5*time.Second, 4000, 8
	if os.Getenv("ISTHMUS_SOAK") == "1" {
		together, frozen, rate = time.Minute, 30*time.Second, 6000
	}
	s := newStage(t, stageOptions{partitions: partitions})
	n1, n2 := s.startNode("n1"), s.startNode("n2")
	log := judge.NewLog()
	stop := s.load(log, partitions, rate)

	s.lasts(together, n1, n2)
	stuck, other := n1, n2
	if running(t, s, n2) > running(t, s, n1) {
		stuck, other = n2, n1
	}
	t.Logf("freezing %s, which runs %d of %d partitions", stuck.Name, running(t, s, stuck), partitions)
	stuck.Freeze()
	s.lasts(frozen, other)
	s.passes(s.ends(), other)
	stuck.Thaw()
	s.lasts(together/4, n1, n2)
	stop()
	s.passes(s.ends(), n1, n2)

	ledger := s.nodeLedger(n1, n2)
	v, err := judge.Case{Clusters: []judge.Client{s.eu.client(), s.us.client()}, Topics: []string{s.topic}, Log: log,
		Targets: []string{"us"}, Ledger: map[string][]checker.Range{"us": ranges(ledger)}}.Check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r := v.Reports["us"]
	t.Logf("fenced: n1 %d, n2 %d; ledger: %d entries; %v", fenced(t, s, n1), fenced(t, s, n2), len(ledger), r)
	for _, e := range ledger {
		t.Logf("ledger: %s", e)
	}
	if !r.OK() || r.Pending > 0 {
		t.Errorf("the target is not what it should be: %v", r)
	}
	if fenced(t, s, n1)+fenced(t, s, n2) == 0 {
		t.Error("neither was ever fenced: they did not meet")
	}
}

func (s *site) client() judge.Client { return judge.Client{Name: s.name, Bootstrap: s.Bootstrap()} }

// load writes records of 2017 in all codecs until the returned function is called.
func (s *stage) load(log *judge.Log, partitions, rate int) (stop func()) {
	ctx, cancel := context.WithCancel(s.t.Context())
	var all sync.WaitGroup
	for i, codec := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		l := judge.Load{Topic: s.topic, Partitions: int32(partitions), Rate: rate / 5, Size: 60 + 40*i, Compression: codec, Headers: i%2 == 0,
			Linger: time.Duration(i*i) * 4 * time.Millisecond, Seed: uint64(i), Timestamp: time.Date(2017, 5, 1, 0, 0, 0, 0, time.UTC)}
		all.Go(func() {
			if err := judge.Write(ctx, s.eu.client(), l, log); err != nil {
				s.t.Errorf("producer %d: %v", i, err)
			}
		})
	}
	s.t.Cleanup(func() { cancel(); all.Wait() })
	return func() { cancel(); all.Wait() }
}

// lasts lets time pass while the nodes run.
func (s *stage) lasts(d time.Duration, nodes ...*node.Node) {
	s.t.Helper()
	began := time.Now()
	node.Until(s.t, d+time.Minute, "the time is over", func(context.Context) error {
		for _, n := range nodes {
			if err := n.Alive(); err != nil {
				return err
			}
		}
		if left := d - time.Since(began); left > 0 {
			return fmt.Errorf("%v left", left)
		}
		return nil
	})
}

// ends are the ends of the source, by partition.
func (s *stage) ends() map[int32]int64 {
	s.t.Helper()
	out := make(map[int32]int64)
	listed, err := s.eu.admin.ListEndOffsets(s.t.Context(), s.topic)
	if err != nil {
		s.t.Fatal(err)
	}
	for p, o := range listed[s.topic] {
		out[p] = o.Offset
	}
	return out
}

// passes waits until one of the nodes has passed these offsets of the source, for each partition.
func (s *stage) passes(ends map[int32]int64, nodes ...*node.Node) {
	s.t.Helper()
	node.Until(s.t, 2*time.Minute, "everything is mirrored", func(ctx context.Context) error {
		left := maps.Clone(ends)
		said := ""
		for _, n := range nodes {
			ps, err := s.partitions(ctx, n)
			if err != nil {
				return err
			}
			for _, p := range ps {
				if p.GetSourceNext() >= left[p.GetPartition()] {
					delete(left, p.GetPartition())
				}
				said += fmt.Sprintf("%s:%d %v at %d (%s); ", n.Name, p.GetPartition(), p.GetState(), p.GetSourceNext(), p.GetReason())
			}
		}
		if len(left) > 0 {
			return fmt.Errorf("partitions %v are behind: %s", left, said)
		}
		return nil
	})
}

func running(t testing.TB, s *stage, n *node.Node) (count int) {
	t.Helper()
	ps, err := s.partitions(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range ps {
		if p.GetState() == adminpb.State_STATE_RUNNING {
			count++
		}
	}
	return count
}

func fenced(t testing.TB, s *stage, n *node.Node) (count int64) {
	t.Helper()
	ps, err := s.partitions(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range ps {
		count += p.GetFenced()
	}
	return count
}

// nodeLedger is what the nodes' ledgers say of the stage's topic.
func (s *stage) nodeLedger(nodes ...*node.Node) (out []*adminpb.LedgerEntry) {
	s.t.Helper()
	for _, n := range nodes {
		err := n.API.Ledger(s.t.Context(), "", func(e *adminpb.LedgerEntry) error {
			if e.GetTopic() == s.topic {
				out = append(out, e)
			}
			return nil
		})
		if err != nil && !errors.Is(err, context.Canceled) {
			s.t.Fatal(err)
		}
	}
	return out
}

// ranges tells the checker what the ledger says.
func ranges(ledger []*adminpb.LedgerEntry) (out []checker.Range) {
	for _, e := range ledger {
		if strings.EqualFold(e.GetReason(), string(mirror.ReasonRepeated)) {
			out = append(out, checker.Range{Cluster: "eu", Topic: e.GetTopic(), Partition: e.GetPartition(), First: e.GetFirst(), Last: e.GetLast(), Kind: checker.Repeated})
		}
	}
	return out
}
