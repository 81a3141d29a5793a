package world

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/isthmus-project/isthmus/test/fabric"
)

// TestWorld_LeavesADeadHome: with three data centers a home that two of them do not reach is left by itself; one that a single one does not reach is not.
func TestWorld_LeavesADeadHome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		auto := "failover_to = \"us\"\nfailover_after = \"3s\"\n"
		w := New(t, fabric.Options{Clusters: []string{"eu", "us", "ap"}, Links: []string{"eu>us", "us>eu", "eu>ap"}, Topics: []string{"orders"}, Partitions: 4, Brokers: 2, Seed: 1,
			More: entry("shop", "us-1", 10100) + auto + entry("shop", "ap-1", 10200) + auto}, 1, "us-1@virginia", "ap-1@singapore", "eu-1@frankfurt")
		defer w.Close()
		w.StartAll()
		w.Until("both doors serve", 30*time.Second, func() error { return errors.Join(w.served("shop", 0), w.served("shop", 1)) })
		out := w.through(doors, kgo.AlwaysRetryEOF(), kgo.RecordDeliveryTimeout(time.Minute))
		defer out.Close()
		write(t, out, 0, 100)
		w.Nodes[0].Paths["eu"].Cut()
		time.Sleep(30 * time.Second)
		if err := w.homeIs("eu", 0); err != nil {
			t.Errorf("behind a cut of one data center: %v", err)
		}
		w.Nodes[0].Paths["eu"].Heal()
		time.Sleep(time.Minute) // until it is believed
		w.lose("eu", true)
		w.Nodes[2].Kill()
		took := w.Until("the dead home is left", 15*time.Second, func() error { return w.homeOf(w.Nodes[0], "us", 1) })
		t.Logf("left after %v", took)
		write(t, out, 100, 200)
	})
}
