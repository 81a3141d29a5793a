package real

import (
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/test/judge"
	"github.com/isthmus-project/isthmus/test/kafka"
	"github.com/isthmus-project/isthmus/test/node"
)

// TestOlder_ReleaseBeforeKRaft is a smoke test with 2.8, in both directions and both ways at once.
func TestOlder_ReleaseBeforeKRaft(t *testing.T) {
	kafka.Require(t)
	v28, v43 := node.StartOlder(t, "v28", "2.8.2"), node.StartSites(t, "v43")["v43"]
	for _, p := range [][2]*node.Site{{v28, v43}, {v43, v28}} {
		pair := p[0].Name + "-to-" + p[1].Name
		t.Run(pair, func(t *testing.T) {
			topics := []string{pair}
			p[0].Create(t, pair, 2)
			s := node.NewSetup(t, pair, p[:], []string{p[0].Name + ">" + p[1].Name}, topics, []string{"n1"})
			n := s.Node("n1")
			n.Start()
			log := judge.NewLog()
			write := func(l judge.Load) {
				l.Topic, l.Partitions, l.Size = pair, 2, 80
				if err := judge.Write(t.Context(), p[0].Client(), l, log); err != nil {
					t.Fatal(err)
				}
			}
			for i, codec := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
				write(judge.Load{Records: 1000, Compression: codec, Headers: true, Seed: uint64(i)})
			}
			write(judge.Load{Records: 300, Transaction: 23, Seed: 10})
			s.CaughtUp(time.Minute, topics, n)
			n.Kill()
			write(judge.Load{Records: 300, Seed: 11})
			n.Start()
			s.CaughtUp(time.Minute, topics, n)
			s.Judged(log, topics, p[1].Name)
		})
	}
	t.Run("both ways", func(t *testing.T) {
		everywhere(t, "both", []*node.Site{v28, v43}, []string{"v28>v43", "v43>v28"}, 2*time.Second, node.Seed(t))
	})
}
