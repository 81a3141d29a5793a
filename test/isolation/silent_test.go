package isolation

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/test/fabric"
)

// One broker of three takes connections and says nothing any more, or does not even take them, for a minute. What the partitions of the
// others get is copied before more comes, although they were idle and look at both ends before they write; its own flow when it is back.
func TestSilent_BrokerOfIdlePartitions(t *testing.T) {
	const partitions, away = 18, 1 // minutes
	for name, fault := range map[string]func(*fabric.Path){
		"silent":  (*fabric.Path).Mute,
		"stopped": (*fabric.Path).Hold,
	} {
		for _, cluster := range []string{"eu", "us"} {
			for id := range int32(2) {
				t.Run(fmt.Sprintf("%s broker %d of %s", name, id, cluster), func(t *testing.T) {
					in(t, setup{topics: []string{"orders"}, partitions: partitions, brokers: 3}, func(t *testing.T, l *lab) {
						l.begin(0, partitions, "orders")
						l.stateAwayFrom(id)
						time.Sleep(10 * time.Second)
						began := time.Now()
						fault(l.to(cluster, id))
						for range away * 6 {
							l.fill("orders", upTo(partitions), 1, 100)
							time.Sleep(10 * time.Second)
							late := slices.DeleteFunc(l.late("orders"), func(p int32) bool { return l.Clusters[cluster].LeaderFor("orders", p) == id })
							if len(late) > 0 {
								t.Errorf("%v after broker %d was silent the others' partitions %v are behind", time.Since(began), id, late)
							}
						}
						l.to(cluster, id).Heal()
						back := time.Now()
						l.until(time.Minute, "all partitions flow", func() bool { return len(l.late("orders")) == 0 })
						t.Logf("all flow %v after it is back", time.Since(back))
					})
				})
			}
		}
	}
}

// late are the partitions of a topic that are not copied to their ends.
func (l *lab) late(topic string) (late []int32) {
	for _, p := range l.Clusters["eu"].PartitionInfos(topic) {
		if l.Clusters["us"].PartitionInfo(topic, p.Partition).HighWatermark < p.HighWatermark {
			late = append(late, p.Partition)
		}
	}
	return late
}

// stateAwayFrom moves the state topics to other target brokers than one.
func (l *lab) stateAwayFrom(id int32) {
	l.t.Helper()
	us := l.Clusters["us"]
	for _, topic := range []string{"__isthmus.checkpoints", "__isthmus.map", "__isthmus.ledger"} {
		for _, p := range us.PartitionInfos(topic) {
			if err := us.MoveTopicPartition(topic, p.Partition, (id+1+p.Partition%2)%3); err != nil {
				l.t.Fatal(err)
			}
		}
	}
}
