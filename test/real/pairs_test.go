package real

import (
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/test/judge"
	"github.com/isthmus-project/isthmus/test/kafka"
	"github.com/isthmus-project/isthmus/test/node"
)

// TestPairs_OtherBrokersPassTheSame runs what the other tests of this package run between brokers of one release between
// brokers of several, and the embedded cluster.
func TestPairs_OtherBrokersPassTheSame(t *testing.T) {
	kafka.Require(t)
	seed := node.Seed(t)
	sites := node.StartSitesWith(t, kafka.Options{Name: "v39", Version: "3.9.1"}, kafka.Options{Name: "v43"})
	sites["kfake"] = node.StartEmbedded(t, "kfake")
	// Topic settings that the others do not have.
	own := map[string][]string{"v39": {"message.format.version=2.8", "message.downconversion.enable=false", "message.timestamp.difference.max.ms=9223372036854775807",
		"message.timestamp.after.max.ms=9223372036854775807"}, "v43": {"message.timestamp.after.max.ms=9223372036854775807"}}
	for _, tc := range []struct{ from, to string }{{"v39", "v43"}, {"v43", "v39"}, {"kfake", "v43"}, {"v43", "kfake"}} {
		pair := tc.from + "-to-" + tc.to
		from, to := sites[tc.from], sites[tc.to]
		t.Run(pair, func(t *testing.T) {
			t.Run("faults", func(t *testing.T) {
				faults(t, from, to, pair+"-faults", node.Pick(6_000, 2_000_000), node.Pick(map[string]int{"mirror": 1, "disk": 1, "source": 1, "target": 1},
					map[string]int{"mirror": 8, "disk": 2, "source": 3, "target": 3}))
			})
			if node.Soak() || tc.to != "v43" { // owners meet at the target; another test has them at this one
				t.Run("owners", func(t *testing.T) {
					owners(t, from, to, pair+"-owners", node.Pick(5*time.Second, time.Minute), node.Pick(3*time.Second, 30*time.Second))
				})
			}
			t.Run("settings", func(t *testing.T) { settings(t, from, to, pair+"-settings", own[tc.from]...) })
			if tc.to == "v43" {
				t.Run("names", func(t *testing.T) { names(t, from, to, pair+"-names") })
			}
			if tc.from < tc.to { // both ways is the same for both
				t.Run("both ways", func(t *testing.T) {
					everywhere(t, pair, []*node.Site{from, to}, []string{tc.from + ">" + tc.to, tc.to + ">" + tc.from}, node.Pick(3*time.Second, time.Minute), seed)
				})
			}
		})
	}
}

// settings: a topic is made on the target whatever its source has set, and takes what the source takes: also records of tomorrow.
func settings(t *testing.T, from, to *node.Site, topic string, set ...string) {
	from.Create(t, topic, 2, set...)
	s := node.NewSetup(t, topic, []*node.Site{from, to}, []string{from.Name + ">" + to.Name}, []string{topic}, []string{"n1"})
	n := s.Node("n1")
	n.Start()
	log := judge.NewLog()
	load := judge.Load{Topic: topic, Partitions: 2, Records: 200, Size: 80, Compression: "zstd", Headers: true, Timestamp: time.Now().Add(24 * time.Hour), Seed: 1}
	if err := judge.Write(t.Context(), from.Client(), load, log); err != nil {
		t.Fatal(err)
	}
	s.CaughtUp(time.Minute, []string{topic}, n)
	s.Judged(log, []string{topic}, to.Name)
}
