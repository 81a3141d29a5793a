package fabric

import (
	"context"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/test/judge"
)

// What was copied is deleted on the target before anybody noted that it was, with the node that knew of it, and the target's broker tells nothing of
// the ids that it knows: it is copied again, and the ledger says so. It did not.
func TestScenario_DeletedOnTheTargetBeforeItWasNoted(t *testing.T) {
	for name, tc := range map[string]struct {
		every time.Duration // between checkpoints
		kill  func(*Node)
		want  int
	}{"noted by nobody": {100 * time.Hour, (*Node).Kill, 1}, "noted": {time.Second, (*Node).Stop, 0}} {
		t.Run(name, func(t *testing.T) {
			scenario(t, Options{Topics: []string{"orders"}, Partitions: 1, Mirror: mirror.Config{CheckpointEvery: tc.every}}, func(t *testing.T, f *Fabric, log *judge.Log) {
				n := f.Start("n1")
				write(t, f, log, "eu", judge.Load{Topic: "orders", Partitions: 1, Records: 20, Rate: 300, Size: 100, Seed: 1})
				arrives(t, f, "orders", 20, 5*time.Second)
				tc.kill(n)
				admin(t, f, "us", func(ctx context.Context, a *kadm.Client) error {
					var to kadm.Offsets
					to.AddOffset("orders", 0, 20, -1)
					_, err := a.DeleteRecords(ctx, to)
					return err
				})
				write(t, f, log, "eu", judge.Load{Topic: "orders", Partitions: 1, Records: 10, Rate: 300, Size: 100, Seed: 2})
				n = f.Start("n2")
				defer func() { n.Stop() }()
				if err := CaughtUp(5*time.Minute, n); err != nil {
					t.Fatal(err)
				}
				entries, err := n.Set.Ledger("")
				if err != nil || len(entries) != tc.want {
					t.Fatalf("ledger %+v, %v, want %d entries", entries, err, tc.want)
				}
				for _, e := range entries {
					if e.Reason != mirror.ReasonRepeated || e.First != 0 || e.Last != 19 || e.Records != -1 {
						t.Errorf("entry %+v, want that offsets 0 to 19 may be repeated", e)
					}
				}
				if got, want := holds(t, f, "us", "orders"), 10+20*tc.want; got != want {
					t.Errorf("%d records on the target, want %d", got, want)
				}
			})
		})
	}
}
