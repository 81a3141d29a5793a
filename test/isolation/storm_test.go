package isolation

import (
	"testing"
	"time"
)

// The target leader of 1 000 partitions is gone for two minutes, while the source is written to. The log says at most one line for each
// partition and minute, and few beside; what idle neighbours get is copied before more comes, and all flow within seconds after it is back.
func TestStorm_ManyPartitionsOfADeadLeader(t *testing.T) {
	const held, partitions, away = many, many + 6, 2
	in(t, setup{topics: []string{"orders"}, partitions: partitions, brokers: 3}, func(t *testing.T, l *lab) {
		l.begin(0, partitions, "orders")
		l.concentrate(held)
		began := time.Now()
		l.to("us", 0).Cut()
		for range away * 6 {
			l.fill("orders", upTo(partitions), 1, 100)
			time.Sleep(10 * time.Second)
			if n := l.behind(); n != held {
				for _, p := range l.pumps("orders")[held:] {
					t.Logf("orders:%d %s %s (%s) since %v at %d of %d", p.Partition, p.State, p.Cause, p.Reason, p.Since, p.SourceNext, p.SourceEnd)
				}
				t.Errorf("%v after the leader is gone %d partitions are behind, want its own %d", time.Since(began), n, held)
			}
		}
		l.to("us", 0).Heal()
		back := time.Now()
		l.fill("orders", upTo(partitions), 1, 100)
		l.until(time.Minute, "all partitions flow", func() bool { return l.behind() == 0 })
		took := time.Since(back)
		t.Logf("all flow %v after the leader is back", took)
		if took >= 10*time.Second {
			t.Errorf("all flow %v after the leader is back, want less than 10s", took)
		}
		l.quiet(began)
	})
}

// concentrate moves the first partitions of the topic to one target broker, the others to others, as well as what a cluster has several
// replicas of: kfake has none.
func (l *lab) concentrate(held int32) {
	l.t.Helper()
	us := l.Clusters["us"]
	move := func(topic string, partition, leader int32) {
		if err := us.MoveTopicPartition(topic, partition, leader); err != nil {
			l.t.Fatal(err)
		}
	}
	for _, p := range us.PartitionInfos("orders") {
		if p.Partition < held {
			move("orders", p.Partition, 0)
		} else {
			move("orders", p.Partition, 1+p.Partition%2)
		}
	}
	for _, topic := range []string{"__isthmus.checkpoints", "__isthmus.map", "__isthmus.ledger"} {
		for _, p := range us.PartitionInfos(topic) {
			move(topic, p.Partition, 1+p.Partition%2)
		}
	}
	l.until(time.Minute, "all go on with their new leaders", func() bool {
		l.fill("orders", upTo(int32(len(us.PartitionInfos("orders")))), 1, 100)
		time.Sleep(5 * time.Second)
		return l.behind() == 0
	})
}

// behind is how many partitions are not copied to their ends.
func (l *lab) behind() (n int) {
	for _, p := range l.Clusters["eu"].PartitionInfos("orders") {
		if l.Clusters["us"].PartitionInfo("orders", p.Partition).HighWatermark < p.HighWatermark {
			n++
		}
	}
	return n
}

// quiet fails when a partition has more than a line in any minute, or there are many lines beside those of partitions.
func (l *lab) quiet(since time.Time) {
	l.t.Helper()
	const mostOthers = 60 // in a minute: of brokers and clusters
	l.lines.mu.Lock()
	defer l.lines.mu.Unlock()
	last, others, all := make(map[string]line), make(map[string]int), 0
	var times []time.Time
	for _, one := range l.lines.all {
		if one.at.Before(since) {
			continue
		}
		all++
		if one.pump == "" {
			others[one.message]++
			if times = append(times, one.at); len(times) > mostOthers && one.at.Sub(times[len(times)-1-mostOthers]) < time.Minute {
				l.t.Errorf("more than %d lines in a minute that are of no partition: %v", mostOthers, others)
			}
			continue
		}
		if before, ok := last[one.pump]; ok && one.at.Sub(before.at) < time.Minute {
			l.t.Errorf("%s: %q %v after %q", one.pump, one.message, one.at.Sub(before.at), before.message)
		}
		last[one.pump] = one
	}
	l.t.Logf("%d lines, of %d partitions; beside: %v", all, len(last), others)
}
