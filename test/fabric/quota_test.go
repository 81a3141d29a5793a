package fabric

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/test/judge"
	"github.com/isthmus-project/isthmus/topology"
)

// TestQuota_LimitsALinkAndIsLifted: a link with a byte_rate takes its time for what is there, and none any more when the rate is gone.
func TestQuota_LimitsALinkAndIsLifted(t *testing.T) {
	const rate = 100_000
	scenario(t, Options{Topics: []string{"orders"}, Settings: "byte_rate = 100_000"}, func(t *testing.T, f *Fabric, log *judge.Log) {
		fill := func(seed uint64) {
			write(t, f, log, "eu", judge.Load{Topic: "orders", Partitions: 2, Records: 1000, Size: 1000, Compression: "none", Seed: seed})
		}
		fill(1)
		n := f.Start("n1")
		defer n.Stop()
		began := time.Now()
		if err := CaughtUp(time.Minute, n); err != nil {
			t.Fatal(err)
		}
		took := time.Since(began)
		// What the last answers held is not waited for: a batch may be more than a second's worth.
		if least, most := 6*time.Second, 20*time.Second; took < least || took > most {
			t.Errorf("1 MB at %d bytes/s took %v, want %v to %v", rate, took, least, most)
		}
		free, err := topology.Parse("free.toml", []byte(strings.ReplaceAll(string(f.Source.Text), "byte_rate = 100_000", "")))
		if err != nil {
			t.Fatal(err)
		}
		fill(2)
		if err := n.Set.Apply(context.Background(), free); err != nil {
			t.Fatal(err)
		}
		began = time.Now()
		if err := CaughtUp(time.Minute, n); err != nil {
			t.Fatal(err)
		}
		t.Logf("with the rate %v, without %v", took, time.Since(began))
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("without a rate it took %v", took)
		}
		verdict(t, f, judge.Case{Topics: []string{"orders"}, Log: log})
	})
}
