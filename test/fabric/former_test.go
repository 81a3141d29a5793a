package fabric

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/test/judge"
)

// TestTranslate_FormerLog: where two clusters have records of a third one's topic that was made anew since, nobody knows where they are, and a position
// before them is not translated: it could skip some. Behind them it is, and a node that knows by what is durable says the same.
func TestTranslate_FormerLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clusters := []string{"ap", "eu", "us"}
		f := New(t, Options{Clusters: clusters, Links: []string{"eu>us", "us>eu", "eu>ap", "ap>eu", "us>ap", "ap>us"}, Topics: []string{"orders"},
			On: clusters, Partitions: 1, Settings: `recreated = "new-incarnation"`, Verbose: testing.Verbose()})
		defer f.Close()
		log := judge.NewLog()
		for i, cluster := range clusters {
			write(t, f, log, cluster, judge.Load{Topic: "orders", Partitions: 1, Records: 10, Size: 100, Seed: uint64(i)})
		}
		n := f.Start("n1")
		defer func() { n.Stop() }()
		if err := CaughtUp(time.Minute, n); err != nil {
			t.Fatal(err)
		}
		us := f.Clusters["us"]
		if err := us.DeleteTopic("orders"); err != nil {
			t.Fatal(err)
		}
		if err := us.CreateTopic("orders", 1, nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		write(t, f, log, "us", judge.Load{Topic: "orders", Partitions: 1, Records: 10, Size: 100, Seed: 9})
		if err := CaughtUp(time.Minute, n); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			for _, at := range []int64{0, 29, 30, 35, 40} {
				got, err := n.Set.Translate(t.Context(), "eu-ap", "orders", 0, at, false)
				switch {
				case at < 30 && !(errors.Is(err, mirror.ErrFormerLog) && strings.Contains(err.Error(), "before offset 30 of eu are records that us has no longer")):
					t.Errorf("eu %d is ap %d, %v", at, got.Result, err)
				case at >= 30 && (err != nil || got.Result != at):
					t.Errorf("eu %d is ap %d, %v; want %d", at, got.Result, err, at)
				}
				// What us has itself now is known everywhere.
				if got, err := n.Set.Translate(t.Context(), "us-ap", "orders", 0, at, false); err != nil || got.Result > 40 {
					t.Errorf("us %d is ap %d, %v", at, got.Result, err)
				}
			}
			n.Stop()
			n = f.Start("n2")
			if err := CaughtUp(time.Minute, n); err != nil {
				t.Fatal(err)
			}
		}
	})
}
