package lock

import (
	"context"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

// brokers sets a default of all brokers of a cluster until the test ends; nil takes it away.
func (s *site) brokers(t testing.TB, key, value string) {
	t.Helper()
	set := func(ctx context.Context, c kadm.AlterConfig) {
		res, err := s.admin.AlterBrokerConfigs(ctx, []kadm.AlterConfig{c})
		if err == nil {
			for _, r := range res {
				err = r.Err
			}
		}
		if err != nil {
			t.Errorf("set %s of the brokers of %s: %v", key, s.name, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	set(ctx, kadm.AlterConfig{Op: kadm.SetConfig, Name: key, Value: &value})
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		set(ctx, kadm.AlterConfig{Op: kadm.DeleteConfig, Name: key})
	})
}

// TestSettings_OfTheTarget: what belongs to the source's cluster, or would change what the mirror relies on, is not copied; what
// decides which records the source took is copied as it works there, also where the topic only inherits it. Without the first the
// target restamps or refuses; without the second it refuses large batches and times far ahead.
func TestSettings_OfTheTarget(t *testing.T) {
	eu, us := sites(t)
	eu.brokers(t, "message.max.bytes", "3000000")
	us.brokers(t, "log.message.timestamp.after.max.ms", "3600000")
	us.brokers(t, "log.message.timestamp.before.max.ms", "3600000")
	s := newStage(t, stageOptions{source: map[string]string{"unclean.leader.election.enable": "true",
		"compression.type": "uncompressed", "follower.replication.throttled.replicas": "*", "leader.replication.throttled.replicas": "*",
		"retention.ms": "86400000000"}})
	ahead, behind := rec("ahead"), old(rec("behind"))[0]
	ahead.Timestamp += (30 * 24 * time.Hour).Milliseconds()
	s.eu.write(t, s.topic, ahead)
	s.eu.write(t, s.topic, behind)
	s.eu.alter(t, s.topic, "message.timestamp.type", "LogAppendTime")
	stamped := behind
	stamped.Value = []byte("stamped")
	s.eu.write(t, s.topic, stamped, rec("stamped-2"))
	s.eu.write(t, s.topic, numbered("large", 1, 2_500_000)...)
	s.eu.alter(t, s.topic, "min.insync.replicas", "2") // more than there are: nothing more can be written

	o := s.owner()
	o.caughtUp()
	s.verdict() // visible times too
	for _, b := range s.us.readLog(t, s.topic, 0) {
		if b.LogAppendTime() {
			t.Errorf("the target restamps: %v", b)
		}
	}
	configs, err := s.us.c.TopicConfigs(t.Context(), s.topic)
	if err != nil {
		t.Fatal(err)
	}
	got := configs[s.topic]
	for key, want := range map[string]string{"message.timestamp.type": "CreateTime", "compression.type": "producer", "min.insync.replicas": "1",
		"unclean.leader.election.enable": "false", "follower.replication.throttled.replicas": "", "leader.replication.throttled.replicas": "",
		"max.message.bytes": "3000000", "message.timestamp.after.max.ms": "9223372036854775807",
		"message.timestamp.before.max.ms": "9223372036854775807", "retention.ms": "86400000000"} {
		if c := got[key]; c.Value != want {
			t.Errorf("%s is %q on the target, want %q", key, c.Value, want)
		}
	}
}
