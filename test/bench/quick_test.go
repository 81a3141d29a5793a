package bench

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
)

// With quickBroker the test binary is a broker that has hardly anything to do for an answer: a real one's own time, on cores that all share, hides what a proxy
// adds to it.
const quickBroker = "ISTHMUS_BENCH_QUICK"

// beQuick serves until its input ends.
func beQuick() error {
	debug.SetGCPercent(1000)
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "small"))
	if err != nil {
		return err
	}
	defer c.Close()
	fmt.Println(c.ListenAddrs()[0])
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// startQuick starts a quick broker in a process of its own, and returns its address.
func startQuick(t *testing.T) (address string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env, cmd.Stderr = append(os.Environ(), quickBroker+"=1"), os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cmd.StdinPipe(); err != nil { // open for as long as it runs
		t.Fatal(err)
	}
	start(t, cmd)
	if _, err := fmt.Fscan(out, &address); err != nil {
		t.Fatal(err)
	}
	return address
}

// added is how much later than directly answers come over a way: the medians, over all rounds, of what a quantile is more than it is directly in the same round.
func added(direct, w *way, q float64) time.Duration {
	rounds := make([]int, len(w.delays))
	for i := range rounds {
		rounds[i] = i
	}
	return middle(rounds, func(i int) time.Duration { return quantile(w.delays[i], q) - quantile(direct.delays[i], q) })
}

// quantile is of delays in order.
func quantile(d []time.Duration, q float64) time.Duration { return d[int(q*float64(len(d)-1))] }

// addedTable measures the ways to a quick broker, in turns.
func addedTable(t *testing.T, ways []*way) string {
	for range quickRuns {
		for _, w := range ways {
			w.delays = append(w.delays, hurry(t, w.address))
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\nThe same small requests to a broker that has hardly anything to do for an answer (kfake, a process of its own): how much later they are answered than directly, medians of\n"+
		"%d rounds.\n\n| | p50 | p99 | added p50 | added p99 |\n|---|--:|--:|--:|--:|\n", quickRuns)
	at := func(w *way, q float64) time.Duration {
		return middle(w.delays, func(d []time.Duration) time.Duration { return quantile(d, q) }).Round(10 * time.Microsecond)
	}
	for i, w := range ways {
		more := "| | "
		if i > 0 {
			more = fmt.Sprintf("| %v | %v ", added(ways[0], w, 0.5).Round(10*time.Microsecond), added(ways[0], w, 0.99).Round(10*time.Microsecond))
		}
		fmt.Fprintf(&b, "| %s | %v | %v %s|\n", w.name, at(w, 0.5), at(w, 0.99), more)
	}
	return b.String()
}
