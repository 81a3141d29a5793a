package broker_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/isthmus-project/isthmus/broker"
)

// All members of a classic group are taken out, whether they have a name of their own or not; a group of another kind is left alone.
func TestEmptyGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := startVirtual(t, kfake.NumBrokers(3), kfake.Ports(9092, 9093, 9094), kfake.SeedTopics(4, "orders"))
		c := v.open(t)
		fill(t, c, "orders", 0, 3)
		slow := []kgo.Opt{kgo.SessionTimeout(5 * time.Minute), kgo.HeartbeatInterval(time.Minute), kgo.DisableAutoCommit()} // they do not hear of it before the test is over
		join(t, v, append(slow, kgo.ConsumerGroup("classic"), kgo.InstanceID("named"))...)
		join(t, v, kgo.ConsumerGroup("kip848"), kgo.DisableAutoCommit(), kgo.ServerSideBalancer())
		time.Sleep(2 * time.Minute)
		commit(t, c, "simple", at("orders", 0, 1, ""))
		for group, want := range map[string]int{"classic": 1, "simple": 0, "nobody": 0} {
			members, err := c.EmptyGroup(t.Context(), group)
			if err != nil || len(members) != want {
				t.Errorf("%s: %v, %v", group, members, err)
			}
			if g, err := c.DescribeGroups(t.Context(), group); err != nil || g[group].Active() {
				t.Errorf("%s is left as %+v, %v", group, g[group], err)
			}
		}
		if members, err := c.EmptyGroup(t.Context(), "kip848"); !errors.Is(err, broker.ErrGroupActive) || len(members) > 0 {
			t.Errorf("of KIP-848: %v, %v", members, err)
		}
	})
}
