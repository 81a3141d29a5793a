package fabric

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/test/judge"
	"github.com/isthmus-project/isthmus/test/sync"
)

// TestSync_LeavesTheMirrorAlone: nothing comes to the target that would keep the mirror out of it or slow it down, nothing that the target says
// about the mirror is taken away, and drift says so.
func TestSync_LeavesTheMirrorAlone(t *testing.T) {
	scenario(t, Options{Topics: []string{"orders"}, Settings: keepsAll}, func(t *testing.T, f *Fabric, _ *judge.Log) {
		eu, us := sync.Hand{TB: t, Cluster: f.cluster(t, "eu")}, sync.Hand{TB: t, Cluster: f.cluster(t, "us")}
		deny := sync.Reads("ANONYMOUS", "orders") // kfake's clusters ask for no login
		deny.Allow = false
		own := sync.Reads("ANONYMOUS", "orders")
		eu.Allow(deny, sync.Reads("a", "orders"))
		us.Allow(own)
		eu.Quota("ANONYMOUS", map[string]float64{"producer_byte_rate": 1})
		eu.Quota("a", map[string]float64{"producer_byte_rate": 2})
		all := broker.Quota{Entity: []broker.QuotaPart{{Type: "user", Default: true}}, Values: map[string]float64{"producer_byte_rate": 3}}
		if refused, err := eu.Cluster.AlterQuotas(t.Context(), false, []broker.Quota{all}); err != nil || len(refused) > 0 {
			t.Fatal(refused, err)
		}
		us.Quota("ANONYMOUS", map[string]float64{"consumer_byte_rate": 9})
		n := f.Start("n1")
		defer n.Stop()
		if err := CaughtUp(time.Minute, n); err != nil {
			t.Fatal(err)
		}
		quotas := map[string]float64{"user a producer_byte_rate": 2, "user ANONYMOUS consumer_byte_rate": 9}
		within5s(t, "what is others'", func() error { return sync.Same(us.QuotaValues(), quotas) })
		time.Sleep(time.Minute)
		if err := sync.Same(us.QuotaValues(), quotas); err != nil {
			t.Error(err)
		}
		if got := us.Rules(); len(got) != 2 || !slices.Contains(got, own) || !slices.Contains(got, sync.Reads("a", "orders")) {
			t.Errorf("the target has the rules %v; want its own about the mirror, and the source's about others", got)
		}
		want := []string{
			"acl deny User:ANONYMOUS from * to read topic literal orders left by policy",
			"quota user ANONYMOUS: producer_byte_rate left by policy",
			"quota user default: producer_byte_rate left by policy",
		}
		if got := drifts(t, n, "eu-us"); !slices.Equal(got, want) {
			t.Errorf("the drift is\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		us.Quota("ANONYMOUS", map[string]float64{"producer_byte_rate": 8})
		quotas["user ANONYMOUS producer_byte_rate"], quotas["user default producer_byte_rate"] = 8, 3
		within5s(t, "a quota for everybody, once the mirror has its own", func() error { return sync.Same(us.QuotaValues(), quotas) })
	})
}
