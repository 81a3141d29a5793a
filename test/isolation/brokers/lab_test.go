package brokers

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/isthmus-project/isthmus/admin"
	"github.com/isthmus-project/isthmus/admin/adminpb"
	"github.com/isthmus-project/isthmus/checker"
	"github.com/isthmus-project/isthmus/test/judge"
	"github.com/isthmus-project/isthmus/test/kafka"
	"github.com/isthmus-project/isthmus/test/node"
)

func TestMain(m *testing.M) { node.Main(m) }

const (
	partitions = 9       // of each topic, three for each of us's brokers, which have no replicas
	full       = "full"  // eu>us: more than the target takes, which is held back by a quota of its own
	live       = "live"  // eu>us: a steady load
	quiet      = "quiet" // eu>us: idle
	back       = "back"  // us>eu: a steady load
	taken      = 300_000 // bytes that each broker of us takes in a second
	steady     = 10      // records a second and partition
)

// lab is a mirror process between eu, of one broker, and us, of three.
type lab struct {
	*node.Setup
	t      *testing.T
	eu, us *node.Site
	broker *kafka.Cluster // us
	node   *node.Node
	log    *judge.Log
	loads  []*node.Writing
	words  *int
	disk   string // of us's last broker, where it is one of its own
}

// flow is a partition of one of the topics; each topic is on one link only.
type flow struct {
	topic     string
	partition int32
}

// nobody is no broker.
const nobody = -1

// on reports whether the partition is on a broker of us, numbered from 0.
func (f flow) on(broker int) bool {
	return !strings.HasPrefix(f.topic, "sick-") && int(f.partition)%3 == broker
}

func newLab(t *testing.T) *lab {
	dir := t.TempDir()
	disk := filepath.Join(dir, "3") // of the last broker
	if !node.Soak() || !smallDisk(t, disk, 512<<20) {
		disk = ""
	}
	sites := node.StartSitesWith(t, kafka.Options{Name: "eu", HeapMB: 320},
		kafka.Options{Name: "us", Brokers: 3, HeapMB: 320, Dir: dir, Properties: map[string]string{"quota.window.num": "2"}})
	l := &lab{t: t, eu: sites["eu"], us: sites["us"], log: judge.NewLog(), words: new(int), disk: disk}
	l.broker = l.us.Server.(*kafka.Cluster)
	var spread [][]int32
	for p := range int32(partitions) {
		spread = append(spread, []int32{1 + p%3})
	}
	for _, topic := range []string{full, live, quiet, back} {
		l.eu.Create(t, topic, partitions)
		l.us.CreateOn(t, topic, spread, "min.insync.replicas=1")
	}
	l.makeSick()
	l.makeCut()
	l.Setup = node.NewFleet(t, node.Fleet{Name: "brokers", Sites: []*node.Site{l.eu, l.us}, Links: []string{"eu>us"}, Topics: []string{full, live, quiet, large, anew, late, shorn},
		Nodes: []string{"n1"}, DCs: map[string]string{"n1": "here"}, More: fmt.Sprintf("[[link]]\nname = \"us-eu\"\nfrom = \"us\"\nto = \"eu\"\ntopics = [%q, %q]\n", back, short)})
	l.limit(taken)
	l.node = l.Node("n1")
	l.node.Start()
	return l
}

// limit has each broker of us take so many bytes a second from a client that has no limit of its own; 0: as many as there are.
func (l *lab) limit(rate float64) {
	l.t.Helper()
	res, err := l.us.Admin.AlterClientQuotas(l.t.Context(), []kadm.AlterClientQuotaEntry{{
		Entity: kadm.ClientQuotaEntity{{Type: "client-id"}},
		Ops:    []kadm.AlterClientQuotaOp{{Key: "producer_byte_rate", Value: rate, Remove: rate == 0}},
	}})
	for _, r := range res {
		if err == nil {
			err = r.Err
		}
	}
	if err != nil {
		l.t.Fatalf("limit the clients of us: %v", err)
	}
}

// pour has eu be written half as much again as the target takes, until the returned function is called.
func (l *lab) pour() (stop func()) {
	const size = 8 << 10
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- judge.Write(ctx, l.eu.Client(), judge.Load{Topic: full, Partitions: partitions, Rate: 3 * taken * 3 / 2 / size, Size: size, BatchBytes: 32 << 10,
			Linger: 20 * time.Millisecond, Seed: 3}, l.log)
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			l.t.Error(err)
		}
	})
	l.t.Cleanup(stop)
	return stop
}

// begin has the steady loads flow.
func (l *lab) begin() {
	l.t.Helper()
	for site, topic := range map[*node.Site]string{l.eu: live, l.us: back} {
		l.loads = append(l.loads, node.Write(l.t, site.Client(), l.log, node.Mix{Topic: topic, Partitions: partitions, Rate: steady * partitions, Seed: 7, Plain: true, Light: true}))
	}
	l.all("everything flows", 3*time.Minute, func(f flow, p *adminpb.Partition) bool {
		return p.GetState() == adminpb.State_STATE_RUNNING && (f.topic != full && f.topic != live && f.topic != back || p.GetSourceNext() > 0)
	})
}

// look is what the node says of all partitions.
func (l *lab) look(ctx context.Context) (map[flow]*adminpb.Partition, error) {
	st, err := l.node.Status(ctx)
	if err != nil {
		return nil, err
	}
	out := make(map[flow]*adminpb.Partition)
	for _, link := range st.GetLinks() {
		for _, f := range link.GetFlows() {
			for _, p := range f.GetPartitions() {
				out[flow{f.GetTopic(), p.GetPartition()}] = p
			}
		}
	}
	if want := 4*partitions + len(sick) + len(cut); len(out) < want {
		err = fmt.Errorf("the node has %d partitions of %d", len(out), want)
	}
	return out, err
}

// all waits until all partitions are so.
func (l *lab) all(what string, most time.Duration, ok func(flow, *adminpb.Partition) bool) {
	l.t.Helper()
	node.Until(l.t, most, what, func(ctx context.Context) error {
		now, err := l.look(ctx)
		var not []string
		for f, p := range now {
			if !ok(f, p) {
				not = append(not, says(f, p))
			}
		}
		if slices.Sort(not); err == nil && len(not) > 0 {
			err = fmt.Errorf("%d are not; %s", len(not), not[0])
		}
		return err
	})
}

func says(f flow, p *adminpb.Partition) string {
	return fmt.Sprintf("%s:%d %s [%s] at %d of %d: %s", f.topic, f.partition, admin.Name(p.GetState()), p.GetCause(), p.GetSourceNext(), p.GetSourceEnd(), p.GetReason())
}

// word writes one record to each idle partition that is not on a broker, and returns where each ends then.
func (l *lab) word(not int) map[flow]int64 {
	l.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(l.eu.Bootstrap()...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		l.t.Fatal(err)
	}
	defer cl.Close()
	ends, all := make(map[flow]int64), []*kgo.Record{}
	for p := range int32(partitions) {
		if !(flow{quiet, p}).on(not) {
			all = append(all, &kgo.Record{Topic: quiet, Partition: p, Value: fmt.Appendf(nil, "eu/word/%d", *l.words)})
			*l.words++
		}
	}
	if err := cl.ProduceSync(l.t.Context(), all...).FirstErr(); err != nil {
		l.t.Fatal(err)
	}
	for _, r := range all {
		l.log.Add(l.eu.Client(), r, checker.Acked)
		ends[flow{quiet, r.Partition}] = r.Offset + 1
	}
	return ends
}

// metric is what the node's metrics say is wrong with each partition.
func (l *lab) metric(ctx context.Context) (map[flow]string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+l.HTTP("n1")+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	out := make(map[flow]string)
	for line := range strings.Lines(string(text)) {
		labels, ok := strings.CutPrefix(line, "isthmus_mirror_partition_cause{")
		if !ok {
			continue
		}
		var f flow
		var cause string
		for label := range strings.SplitSeq(labels[:strings.Index(labels, "}")], ",") {
			switch k, v, _ := strings.Cut(label, "="); k {
			case "cause":
				cause = strings.Trim(v, `"`)
			case "topic":
				f.topic = strings.Trim(v, `"`)
			case "partition":
				if _, err := fmt.Sscanf(strings.Trim(v, `"`), "%d", &f.partition); err != nil {
					return nil, err
				}
			}
		}
		out[f] = cause
	}
	return out, nil
}
