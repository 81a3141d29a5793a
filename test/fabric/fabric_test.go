package fabric

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-project/isthmus/test/judge"
)

// write runs the loads of a cluster side by side until they are done.
func write(t *testing.T, f *Fabric, log *judge.Log, cluster string, loads ...judge.Load) {
	t.Helper()
	done := make(chan error, len(loads))
	for _, l := range loads {
		go func() { done <- judge.Write(context.Background(), f.Client(cluster), l, log) }()
	}
	for range loads {
		if err := <-done; err != nil {
			t.Fatalf("write to %s: %v", cluster, err)
		}
	}
}

// verdict judges all clusters and fails the test on any finding.
func verdict(t *testing.T, f *Fabric, c judge.Case) judge.Verdict {
	t.Helper()
	c.Clusters = f.Clients()
	if c.Ways == nil {
		nodes := f.Running()
		if len(nodes) == 0 { // then one that has nothing but what the clusters keep
			n := f.Start("cold")
			defer n.Stop()
			nodes = append(nodes, n)
		}
		time.Sleep(10 * time.Second) // what is elsewhere is known from what is durable
		c.Ways = Ways(nodes...)
	}
	v, err := c.Check(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if !v.OK() {
		t.Errorf("seed %d: %s", f.opt.Seed, v)
	}
	return v
}

func TestLink_CopiesEverythingOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := New(t, Options{Clusters: []string{"eu", "us"}, Links: []string{"eu>us"}, Topics: []string{"orders"}, On: []string{"eu"}, Partitions: 4, Verbose: testing.Verbose()})
		defer f.Close()
		n := f.Start("n1")
		defer n.Stop()
		log := judge.NewLog()
		write(t, f, log, "eu", judge.Load{Topic: "orders", Partitions: 4, Records: 5000, Size: 200, Compression: "snappy", Headers: true, Rate: 2000})
		if err := CaughtUp(time.Minute, n); err != nil {
			t.Fatal(err)
		}
		v := verdict(t, f, judge.Case{Topics: []string{"orders"}, Log: log})
		if v.Records["us"] != 5000 {
			t.Errorf("us holds %d records", v.Records["us"])
		}
	})
}
