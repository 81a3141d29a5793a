package quota

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/topology"
)

var begin = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

// TestBucket: what was overdrawn is paid back at the rate, and nothing is saved for longer than a burst.
func TestBucket(t *testing.T) {
	type step struct {
		at   time.Duration // since the step before
		n    int
		wait time.Duration
	}
	for name, tc := range map[string]struct {
		rate  int64
		steps []step
	}{
		"no bound":               {0, []step{{0, 1 << 30, 0}, {0, 1 << 30, 0}}},
		"a burst":                {1000, []step{{0, 1000, 0}, {0, 1, time.Millisecond}}},
		"at the rate":            {1000, []step{{0, 1000, 0}, {time.Second, 1000, 0}, {time.Second, 1000, 0}}},
		"above it":               {1000, []step{{0, 3000, 2 * time.Second}, {2 * time.Second, 500, 500 * time.Millisecond}, {500 * time.Millisecond, 0, 0}}},
		"who does not wait":      {1000, []step{{0, 2000, time.Second}, {0, 1000, 2 * time.Second}, {time.Second, 1000, 2 * time.Second}}},
		"nothing is saved":       {1000, []step{{0, 1, 0}, {time.Hour, 2000, time.Second}}},
		"far too much":           {1000, []step{{0, 1 << 30, Longest}, {Longest, 0, 0}}},
		"a clock that goes back": {1000, []step{{0, 1000, 0}, {-time.Hour, 1000, time.Second}}},
	} {
		var b bucket
		now := begin
		for i, s := range tc.steps {
			now = now.Add(s.at)
			var wait time.Duration
			if b, wait = b.take(now, tc.rate, s.n); (wait - s.wait).Abs() > time.Microsecond {
				t.Errorf("%s: step %d: wait %v, want %v", name, i, wait, s.wait)
			}
		}
	}
}

// TestBucket_HoldsTheRate: whoever waits as long as it is told gets its rate and a burst, whatever the sizes.
func TestBucket_HoldsTheRate(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 200 {
		rate := 1000 + r.Int64N(1_000_000)
		var b bucket
		now, sum := begin, 0
		for now.Sub(begin) < 10*time.Minute {
			n := r.IntN(int(5 * rate))
			var wait time.Duration
			b, wait = b.take(now, rate, n)
			sum += n
			now = now.Add(wait + time.Duration(r.Int64N(int64(time.Millisecond))))
		}
		if got, want := float64(sum)/now.Sub(begin).Seconds(), float64(rate); got > 1.01*want || got < 0.97*want {
			t.Errorf("a rate of %.0f, want %.0f", got, want)
		}
	}
}

func rules(t *testing.T, text string) *Rules {
	t.Helper()
	top, err := topology.Parse("x.toml", []byte(`
[fabric]
name = "shop"
[[cluster]]
name = "eu"
bootstrap = ["eu:9092"]
[[node]]
name = "eu-1"
[[router]]
name = "shop"
node = "eu-1"
listen = "127.0.0.1:9092"
advertise = "127.0.0.1"
slots = "9093-9095"
home = "eu"
`+text))
	if err != nil {
		t.Fatal(err)
	}
	return New(top.Routers[0].Quotas)
}

// TestRules: the first that fits counts; who is told apart by it has an account of its own, and all others share none.
func TestRules(t *testing.T) {
	r := rules(t, `
[[router.quota]]
client_id = ["batch-*"]
produce_rate = 1000
[[router.quota]]
principal = ["anna", "ben"]
fetch_rate = 1000
[[router.quota]]
client_id = ["app"]
principal = ["*"]
request_rate = 10
`)
	of := func(client, principal string) *Account { return r.Of(begin, client, principal) }
	if of("x", "") != nil || of("app", "") != nil || New(nil).Of(begin, "x", "y") != nil {
		t.Error("who no rule names has an account")
	}
	again := of("app", "carl")
	for name, same := range map[string]bool{
		"one client id":            of("batch-1", "anna") == of("batch-1", "ben"),
		"one principal":            of("x", "anna") == of("y", "anna"),
		"both":                     of("app", "carl") == again,
		"not two client ids":       of("batch-1", "") != of("batch-2", ""),
		"not two principals":       of("x", "anna") != of("x", "ben"),
		"not a principal of an id": of("app", "carl") != of("app", "dora"),
		"the first rule":           of("batch-1", "anna") != of("x", "anna"),
	} {
		if !same {
			t.Error(name)
		}
	}
	a := of("batch-1", "")
	if wait := a.Produced(begin, 2000); wait != time.Second {
		t.Errorf("wait %v, want 1s", wait)
	}
	if a.Fetched(begin, 1<<30)+a.Asked(begin) != 0 || of("batch-2", "").Produced(begin, 1000) != 0 {
		t.Error("what is not bounded is, or one pays for another")
	}
	var none *Account
	if none.Produced(begin, 1)+none.Fetched(begin, 1)+none.Asked(begin) != 0 || none.Gone() {
		t.Error("no account bounds")
	}
}

// TestRules_AreBounded: many ids take bounded memory; accounts that make no difference go first, and those of whom no place is left pay together.
func TestRules_AreBounded(t *testing.T) {
	r := rules(t, "[[router.quota]]\nclient_id = [\"*\"]\nproduce_rate = 1000\n")
	r.atMost = 10
	var first []*Account
	for i := range 10 {
		a := r.Of(begin, fmt.Sprint(i), "")
		if i < 5 {
			a.Produced(begin, 60_000)
		}
		first = append(first, a)
	}
	later := begin.Add(burst)
	a := r.Of(later, "new", "")
	for i, one := range first {
		if one.Gone() != (i >= 5) {
			t.Errorf("account %d: gone is %v", i, one.Gone())
		}
	}
	for i := range 100 {
		r.Of(later, fmt.Sprint("more", i), "").Produced(later, 1000)
	}
	if len(r.all) > r.atMost {
		t.Errorf("%d accounts", len(r.all))
	}
	if r.Of(later, "new", "") != a || r.Of(later, "0", "") != first[0] {
		t.Error("an account changed while it was in use")
	}
	if x, y := r.Of(later, "u", ""), r.Of(later, "v", ""); x != y || x.Gone() || x.Produced(later, 1) == 0 {
		t.Error("those of whom no place is left do not pay together")
	}
}

func BenchmarkAccount(b *testing.B) {
	a := &Account{rule: topology.Quota{ProduceRate: 1 << 40, RequestRate: 1 << 30}}
	b.ReportAllocs()
	for b.Loop() {
		a.Produced(begin, 1000)
		a.Asked(begin)
	}
}
