package poison

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/isthmus-project/isthmus/broker/batch"
	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/test/fabric"
)

// seeds is how many seeds a suite runs: some, or as many as ISTHMUS_SEEDS says.
func seeds(some uint64) uint64 {
	if n, err := strconv.ParseUint(os.Getenv("ISTHMUS_SEEDS"), 10, 16); err == nil && n > 0 {
		return n
	}
	return some
}

// TestPoison_KilledInTheMiddle: processes are killed and begun anew at any moment, two of them copy the same partitions at times, and bad
// batches and records are everywhere. In the end the target has each of the others once and in order, and letters and ledger have exactly
// the bad ones.
func TestPoison_KilledInTheMiddle(t *testing.T) {
	for seed := range seeds(6) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { killedInTheMiddle(t, seed) })
		})
	}
}

func killedInTheMiddle(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 6))
	policy, reason := "dead-letter", mirror.ReasonDeadLetter
	if seed%3 == 2 {
		policy, reason = "skip", mirror.ReasonSkipped
	}
	s := newSite(t, fabric.Options{Settings: fmt.Sprintf("poison = %q", policy), Seed: seed}, nil, nil)
	batches, bad, broken := history(rng)
	s.forgers["eu"].set(func(f *forger) {
		f.serve = func(partition int32, raw []byte) []byte {
			for at, how := range broken {
				raw = damage(0, at, how)(partition, raw)
			}
			return raw
		}
	})
	s.forgers["us"].set(func(f *forger) {
		f.refuse = func(_ int32, raw []byte) int16 {
			records, err := batch.Decode(raw, 64<<20)
			if err == nil && slices.ContainsFunc(records, func(r batch.Record) bool { return strings.HasPrefix(string(r.Value), "bad") }) {
				return kerr.InvalidRecord.Code
			}
			return 0
		}
	})
	s.start()
	written := make(chan struct{})
	go func() {
		defer close(written)
		rng := rand.New(rand.NewPCG(seed, 7))
		for _, b := range batches {
			s.produce(0, b)
			time.Sleep(time.Duration(rng.IntN(200)) * time.Millisecond)
		}
	}()
	var other *running
	for alive := true; alive; {
		time.Sleep(time.Duration(1+rng.IntN(1500)) * time.Millisecond)
		select {
		case <-written:
			alive = false
		default:
		}
		switch rng.IntN(3) {
		case 0:
			s.kill()
			s.start()
		case 1:
			if other == nil {
				other = s.run()
				continue
			}
			other.kill()
			other = nil
		}
	}
	if other != nil {
		other.kill()
	}
	defer s.stop()
	end := int64(len(slices.Concat(batches...)))
	s.until("everything copied", 5*time.Minute, s.copied(0, end))
	s.check(bad)
	var out []int64
	for _, e := range s.ledger() {
		if e.Reason != reason {
			t.Errorf("entry %+v, want %s only", e, reason)
		}
		for at := e.First; at <= e.Last; at++ {
			out = append(out, at)
		}
	}
	slices.Sort(out)
	if out = slices.Compact(out); !slices.Equal(out, bad) { // two may have found the same, one more of it than the other
		t.Errorf("the ledger is about source offsets %v, want %v", out, bad)
	}
	if policy == "skip" {
		return
	}
	var letters []int64
	for _, d := range s.letters() {
		for at := d.First; at <= d.Last; at++ {
			letters = append(letters, at)
		}
	}
	if !slices.Equal(letters, bad) {
		t.Errorf("the letters hold source offsets %v, want %v", letters, bad)
	}
}

// history is what clients write: batches, which of their records are bad, and how the source damages some batches.
func history(rng *rand.Rand) (batches [][]*kgo.Record, bad []int64, broken map[int64]func([]byte)) {
	broken = make(map[int64]func([]byte))
	for at := 0; len(batches) < 60; {
		b := batchOf(at, 1+rng.IntN(12))
		switch rng.IntN(6) {
		case 0:
			for i, r := range b {
				if rng.IntN(3) == 0 {
					r.Value = fmt.Appendf(nil, "bad %d", at+i)
					bad = append(bad, int64(at+i))
				}
			}
		case 1:
			broken[int64(at)] = [...]func([]byte){kinds[0].serve, kinds[1].serve, kinds[2].serve, kinds[4].serve}[rng.IntN(4)]
			for i := range b {
				bad = append(bad, int64(at+i))
			}
		}
		batches = append(batches, b)
		at += len(b)
	}
	return batches, bad, broken
}
