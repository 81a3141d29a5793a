package vigil

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

func TestJudge(t *testing.T) {
	lost, sees := func(dc string) Observer { return Observer{dc, true} }, func(dc string) Observer { return Observer{dc, false} }
	three := []string{"frankfurt", "virginia", "singapore"}
	for name, c := range map[string]struct {
		dcs  []string
		all  []Observer
		dead bool
		text string
	}{
		"all reach it":                       {three, []Observer{sees("frankfurt"), sees("virginia"), sees("singapore")}, false, "0 of 3 data centers do not reach it"},
		"its own is gone with it":            {three, []Observer{lost("virginia"), lost("singapore")}, true, "2 of 3 data centers do not reach it (singapore, virginia), and frankfurt is silent"},
		"its own reaches it":                 {three, []Observer{sees("frankfurt"), lost("virginia"), lost("singapore")}, true, "2 of 3 data centers do not reach it (singapore, virginia)"},
		"one only":                           {three, []Observer{sees("frankfurt"), lost("virginia"), sees("singapore")}, false, "1 of 3 data centers do not reach it (virginia)"},
		"a node of it does":                  {three, []Observer{lost("virginia"), lost("singapore"), sees("singapore")}, false, "1 of 3 data centers do not reach it (virginia), and frankfurt is silent"},
		"two, of which one is gone":          {[]string{"a", "b"}, []Observer{lost("b")}, false, "1 of 2 data centers do not reach it (b), and a is silent"},
		"others, and those of no dc":         {three, []Observer{lost("moon"), lost(""), lost("virginia")}, false, "1 of 3 data centers do not reach it (virginia), and frankfurt, singapore is silent"},
		"nobody":                             {nil, nil, false, "0 of 0 data centers do not reach it"},
		"many nodes of one are one observer": {three, []Observer{lost("virginia"), lost("virginia"), lost("virginia"), sees("frankfurt"), sees("singapore")}, false, "1 of 3 data centers do not reach it (virginia)"},
	} {
		if v := Judge(c.dcs, c.all); v.Dead != c.dead || v.String() != c.text {
			t.Errorf("%s: %t, %s", name, v.Dead, v)
		}
	}
}

// TestWatch: only who is dead for so long without a break is left.
func TestWatch(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 1))
		var w Watch
		home, since, now := "eu", time.Duration(-1), time.Duration(0)
		for range 300 {
			now += time.Duration(rng.IntN(1000)) * time.Millisecond
			if rng.IntN(40) == 0 {
				home, since = map[string]string{"eu": "us", "us": "eu"}[home], -1
			}
			dead := rng.IntN(10) > 0
			switch {
			case !dead:
				since = -1
			case since < 0:
				since = now
			}
			want := dead && now-since >= 5*time.Second
			if got := w.Due(home, dead, now, 5*time.Second); got != want {
				t.Fatalf("seed %d, at %v: due %t, dead since %v", seed, now, got, since)
			}
		}
	}
}

func TestRefused(t *testing.T) {
	now := time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC)
	ago := func(all ...time.Duration) (out []time.Time) {
		for _, d := range all {
			out = append(out, now.Add(-d))
		}
		return out
	}
	for _, c := range []struct {
		before []time.Time
		want   string
	}{
		{nil, ""},
		{ago(25*time.Hour, 26*time.Hour, 27*time.Hour, 11*time.Minute), ""},
		{ago(9 * time.Minute), "that was done 9m0s ago"},
		{ago(20*time.Hour, 3*time.Hour, 11*time.Minute), "that was done 3 times in 24h0m0s"},
	} {
		if got := Refused(c.before, now); !strings.HasPrefix(got, c.want) || (got == "") != (c.want == "") {
			t.Errorf("%v: %q, want %q", c.before, got, c.want)
		}
	}
}
