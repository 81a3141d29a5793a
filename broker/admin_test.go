package broker_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/isthmus-project/isthmus/broker"
)

func TestCluster_Topics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := startVirtual(t, kfake.ClusterID("the-id"))
		c, ctx := v.open(t), within(t, time.Minute)
		if err := c.CreateTopic(ctx, "a", 3, 1, map[string]string{"cleanup.policy": "compact"}); err != nil {
			t.Fatal(err)
		}
		if err := c.CreateTopic(ctx, "a", 3, 1, nil); !errors.Is(err, kerr.TopicAlreadyExists) {
			t.Errorf("created twice: %v", err)
		}
		for to, want := range map[int]error{5: nil, 2: kerr.InvalidPartitions} {
			if err := c.GrowTopic(ctx, "a", to); !errors.Is(err, want) {
				t.Errorf("grown to %d: %v", to, err)
			}
		}
		if err := c.GrowTopic(ctx, "a", 5); err != nil {
			t.Errorf("grown to what it is: %v", err)
		}
		if err := c.GrowTopic(ctx, "none", 5); !errors.Is(err, kerr.UnknownTopicOrPartition) {
			t.Errorf("grown what is not there: %v", err)
		}
		m, err := c.Metadata(ctx)
		if err != nil || m.ClusterID != "the-id" || len(m.Brokers) != 2 || len(m.Topics["a"].Partitions) != 5 || m.Topics["a"].ID == (broker.TopicID{}) {
			t.Errorf("%+v, %v", m, err)
		}
		m, err = c.Metadata(ctx, "a", "none")
		if err != nil || len(m.Topics) != 2 || m.Topics["a"].Err != nil || !errors.Is(m.Topics["none"].Err, kerr.UnknownTopicOrPartition) {
			t.Errorf("%+v, %v", m, err)
		}
		configs, err := c.TopicConfigs(ctx, "a", "none")
		if !errors.Is(err, kerr.UnknownTopicOrPartition) || configs["a"]["cleanup.policy"] != (broker.Config{Value: "compact", Dynamic: true}) {
			t.Errorf("%+v, %v", configs, err)
		}
		if got := configs["a"]["max.message.bytes"]; got.Dynamic || got.Value == "" {
			t.Errorf("max.message.bytes %+v", got)
		}
	})
}

func TestCluster_Offsets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := startVirtual(t, kfake.SeedTopics(1, "a"))
		c, ctx := v.open(t), within(t, time.Minute)
		fill(t, c, "a", 0, 5) // at 1 000 000 ms and on
		open, err := c.Producer(broker.ProducerOptions{TransactionalID: "tx"})
		if err != nil {
			t.Fatal(err)
		}
		defer open.Close()
		if err := open.Begin(); err != nil {
			t.Fatal(err)
		}
		if _, err := open.Produce(ctx, broker.Record{Topic: "a", Value: []byte("x")}); err != nil {
			t.Fatal(err)
		}
		for _, tc := range []struct {
			at        int64
			committed bool
			want      int64
		}{
			{broker.Earliest, false, 0}, {broker.Latest, false, 6}, {broker.Latest, true, 5},
			{1_000_002, false, 2}, {1 << 60, false, -1},
		} {
			got, err := c.ListOffsets(ctx, "a", 0, tc.at, tc.committed)
			if err != nil || got.Offset != tc.want {
				t.Errorf("at %d, committed %v: %+v, %v; want %d", tc.at, tc.committed, got, err, tc.want)
			}
		}
		if _, err := c.ListOffsets(ctx, "a", 7, broker.Latest, false); !errors.Is(err, kerr.UnknownTopicOrPartition) {
			t.Error(err)
		}
		_, mt := leader(t, c, "a", 0)
		if epoch, end, err := c.EpochEnd(ctx, "a", 0, mt.Partitions[0].LeaderEpoch); err != nil || end != 6 {
			t.Errorf("epoch %d ends at %d, %v", epoch, end, err)
		}
		states, err := c.Producers(ctx, "a", 0)
		if err != nil || len(states) != 1 {
			t.Errorf("producers %+v, %v", states, err)
		}
		if err := open.Abort(ctx); err != nil {
			t.Fatal(err)
		}
	})
}

func TestCluster_ProducersUnsupported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := startVirtual(t, old(kversion.V2_2_0()), kfake.SeedTopics(1, "a"))
		if _, err := v.open(t).Producers(within(t, time.Minute), "a", 0); !errors.Is(err, broker.ErrUnsupported) {
			t.Error(err)
		}
	})
}

// refuseConfigs makes one broker answer every question for settings with an error.
func refuseConfigs(fake *kfake.Cluster, node int32, code int16) {
	fake.ControlKey(int16(kmsg.DescribeConfigs), func(req kmsg.Request) (kmsg.Response, error, bool) {
		fake.KeepControl()
		if fake.CurrentNode() != node {
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.DescribeConfigsResponse)
		for _, asked := range req.(*kmsg.DescribeConfigsRequest).Resources {
			r := kmsg.NewDescribeConfigsResponseResource()
			r.ResourceType, r.ResourceName, r.ErrorCode = asked.ResourceType, asked.ResourceName, code
			resp.Resources = append(resp.Resources, r)
		}
		return resp, nil, true
	})
}

// TestCluster_BrokerConfigsOfThoseThatAnswer: one that refuses, is gone or is silent hides no other.
func TestCluster_BrokerConfigsOfThoseThatAnswer(t *testing.T) {
	for _, tc := range []struct {
		name   string
		harm   func(*kfake.Cluster)
		ids    []int32
		says   string
		denied bool
	}{
		{"refuses", func(k *kfake.Cluster) { refuseConfigs(k, 1, kerr.ClusterAuthorizationFailed.Code) }, []int32{0, 1}, "no right DESCRIBE_CONFIGS on the cluster", true},
		{"has an accident", func(k *kfake.Cluster) { refuseConfigs(k, 1, kerr.UnknownServerError.Code) }, []int32{0, 1}, "broker 1 of cluster fake", false},
		{"is gone", func(*kfake.Cluster) {}, []int32{0, 7}, "broker 7", false},
		{"is silent", func(k *kfake.Cluster) {
			k.ControlKey(int16(kmsg.DescribeConfigs), func(kmsg.Request) (kmsg.Response, error, bool) {
				k.KeepControl()
				if k.CurrentNode() == 1 {
					k.SleepControl(func() { time.Sleep(time.Minute) })
				}
				return nil, nil, false
			})
		}, []int32{0, 1}, "broker 1", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := startVirtual(t)
				tc.harm(v.fake)
				all, err := v.open(t).BrokerConfigs(within(t, 3*time.Second), tc.ids...)
				if len(all) != 1 || all[0]["message.max.bytes"] == "" {
					t.Errorf("the settings of %d brokers, %d of broker 0; want those of broker 0 alone", len(all), len(all[0]))
				}
				if err == nil || !strings.Contains(err.Error(), tc.says) || errors.Is(err, kerr.ClusterAuthorizationFailed) != tc.denied {
					t.Errorf("%v, want something with %q", err, tc.says)
				}
				time.Sleep(time.Minute) // the silent one wakes
			})
		})
	}
}

// TestCluster_TopicConfigsInPieces: an answer about all topics of a large cluster is longer than what is read.
func TestCluster_TopicConfigsInPieces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := startVirtual(t, kfake.SeedTopics(1, "first", "last"))
		most := 0
		v.fake.ControlKey(int16(kmsg.DescribeConfigs), func(req kmsg.Request) (kmsg.Response, error, bool) {
			v.fake.KeepControl()
			most = max(most, len(req.(*kmsg.DescribeConfigsRequest).Resources))
			return nil, nil, false
		})
		topics := []string{"first"}
		for i := range 4500 {
			topics = append(topics, fmt.Sprintf("none-%d", i))
		}
		all, err := v.open(t).TopicConfigs(within(t, time.Minute), append(topics, "last")...)
		if !errors.Is(err, kerr.UnknownTopicOrPartition) || len(all) != 2 || len(all["first"]) == 0 || len(all["last"]) == 0 {
			t.Errorf("the settings of %d topics, want those of first and last", len(all))
		}
		if most > 2000 {
			t.Errorf("%d topics in one request: 1.4 kB of answer each, and 32 MB are read", most)
		}
	})
}

// TestReadRange_EndsOverHoles: the end of a range may be a marker or what was aborted, which no reader is shown.
func TestReadRange_EndsOverHoles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := startVirtual(t, kfake.SeedTopics(1, "a"))
		c, ctx := v.open(t), within(t, time.Minute)
		p, err := c.Producer(broker.ProducerOptions{TransactionalID: "tx", Compression: "zstd"})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		for i, end := range []func() error{
			func() error { return p.Commit(ctx) }, func() error { return p.Flush(ctx) },
		} {
			if err := p.Begin(); err != nil {
				t.Fatal(err)
			}
			recs := make([]broker.Record, 10)
			for k := range recs {
				recs[k] = broker.Record{Topic: "a", Key: []byte("k"), Value: fmt.Appendf(nil, "%d-%d", i, k), Headers: []broker.RecordHeader{{Key: "h", Value: []byte("x")}}}
			}
			got, err := p.Produce(ctx, recs...)
			if err != nil || got[9].Offset != int64(i*11+9) {
				t.Fatal(got, err)
			}
			if err := end(); err != nil {
				t.Fatal(err)
			}
		}
		if err := p.Abort(ctx); err != nil {
			t.Fatal(err)
		}
		for _, tc := range []struct {
			from, to  int64
			committed bool
			want      int
		}{{0, -1, true, 10}, {0, -1, false, 20}, {0, 11, true, 10}, {3, 5, true, 2}, {15, 20, true, 0}, {15, 20, false, 5}, {22, -1, true, 0}, {4, 4, true, 0}} {
			n := 0
			err := c.ReadRange(ctx, "a", 0, tc.from, tc.to, tc.committed, func(r broker.Record) error {
				if n++; string(r.Key) != "k" || len(r.Headers) != 1 || r.Offset < tc.from {
					t.Errorf("%+v", r)
				}
				return nil
			})
			if err != nil || n != tc.want {
				t.Errorf("%+v: %d records, %v", tc, n, err)
			}
		}
		stop := errors.New("stop")
		if err := c.ReadRange(ctx, "a", 0, 0, -1, false, func(broker.Record) error { return stop }); err != stop {
			t.Error(err)
		}
		if err := c.ReadRange(ctx, "a", 0, 99, 100, false, nil); !errors.Is(err, kerr.OffsetOutOfRange) {
			t.Error(err)
		}
		if err := c.ReadRange(ctx, "none", 0, 0, 1, false, nil); !errors.Is(err, kerr.UnknownTopicOrPartition) {
			t.Error(err)
		}
	})
}

// TestFetchOnce_FollowsTheLeader: connections are used again, and a leader that moved is found.
func TestFetchOnce_FollowsTheLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := startVirtual(t, kfake.SeedTopics(1, "a"))
		c, ctx := v.open(t), within(t, time.Minute)
		fill(t, c, "a", 0, 5)
		read := func(offset int64, want int) {
			t.Helper()
			f, err := c.FetchOnce(ctx, "a", 0, offset, 1<<20, true)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Release()
			if n, _ := count(t, f.Partitions[0].Batches); n != want || f.Partitions[0].HighWatermark != 5 {
				t.Errorf("%d records, want %d: %+v", n, want, f.Partitions[0])
			}
		}
		read(0, 5)
		read(3, 2)
		read(5, 0)
		b, _ := leader(t, c, "a", 0)
		if err := v.fake.MoveTopicPartition("a", 0, 1-b.ID); err != nil {
			t.Fatal(err)
		}
		read(2, 3)
		if _, err := c.FetchOnce(ctx, "a", 0, 9, 1<<20, true); !errors.Is(err, kerr.OffsetOutOfRange) {
			t.Error(err)
		}
		if _, err := c.FetchOnce(ctx, "a", 3, 0, 1<<20, true); !errors.Is(err, kerr.UnknownTopicOrPartition) {
			t.Error(err)
		}
		if _, err := c.FetchOnce(ctx, "none", 0, 0, 1<<20, true); !errors.Is(err, kerr.UnknownTopicOrPartition) {
			t.Error(err)
		}
		c.Close()
		if _, err := c.FetchOnce(ctx, "a", 0, 0, 1<<20, true); err == nil {
			t.Error("a closed cluster was read")
		}
	})
}

// TestCluster_Unreachable: the first answer says so, within the patience of a person.
func TestCluster_Unreachable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := startVirtual(t)
		p := v.profile()
		p.Bootstrap = []string{"127.0.0.1:1"}
		c := openProfile(t, p)
		if configs, err := c.TopicConfigs(within(t, time.Second), "a"); configs != nil || err == nil {
			t.Errorf("settings %v of a cluster that does not answer, %v; want nil, which is not the same as none", configs, err)
		}
		start := time.Now()
		_, err := c.Metadata(t.Context())
		if err == nil || broker.Classify(err) != broker.Retry || time.Since(start) > 30*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
	for _, p := range []broker.Profile{{Name: "x"}, {Name: "x", Bootstrap: []string{"no-port"}}} {
		if _, err := broker.Open(p, nil); err == nil {
			t.Errorf("%+v was opened", p)
		}
	}
}
