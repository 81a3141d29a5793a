package broker

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// Who is silent costs a moment; what a cluster says slowly is not asked for again and again.
func TestAnyBroker_AsksAnotherBesideOneThatIsSilent(t *testing.T) {
	broken, fatal := errors.New("reset"), kerr.SaslAuthenticationFailed
	silent := func(ctx context.Context) (string, error) { <-ctx.Done(); return "", ctx.Err() }
	says := func(after time.Duration, what string, err error) func(context.Context) (string, error) {
		return func(context.Context) (string, error) { time.Sleep(after); return what, err }
	}
	type asks = []func(context.Context) (string, error)
	for name, c := range map[string]struct {
		brokers asks
		last    time.Duration // of the answer before
		want    string
		err     error
		after   time.Duration
		asked   int32
	}{
		"all well":                {brokers: asks{says(time.Second/2, "a", nil)}, want: "a", after: time.Second / 2, asked: 1},
		"one silent":              {brokers: asks{silent, says(time.Second/2, "b", nil)}, want: "b", after: 1500 * time.Millisecond, asked: 2},
		"two silent":              {brokers: asks{silent, silent, says(0, "c", nil)}, want: "c", after: 2 * time.Second, asked: 3},
		"the first is only slow":  {brokers: asks{says(1500*time.Millisecond, "a", nil), silent}, want: "a", after: 1500 * time.Millisecond, asked: 2},
		"a cluster that is slow":  {brokers: asks{says(5*time.Second, "a", nil)}, last: 2 * time.Second, want: "a", after: 5 * time.Second, asked: 1},
		"broken":                  {brokers: asks{says(time.Second/2, "", broken)}, err: broken, after: time.Second / 2, asked: 1},
		"one silent, one broken":  {brokers: asks{silent, says(0, "", broken), says(0, "c", nil)}, want: "c", after: 2 * time.Second, asked: 3},
		"one refuses us for good": {brokers: asks{silent, says(0, "", fatal)}, err: fatal, after: time.Second, asked: 2},
		"all silent":              {brokers: asks{silent, silent, silent, silent}, err: context.DeadlineExceeded, after: time.Minute, asked: 4},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				var p pace
				p.last.Store(int64(c.last))
				var asked atomic.Int32
				began := time.Now()
				got, err := anyBroker(ctx, &p, func(ctx context.Context) (string, error) { return c.brokers[asked.Add(1)-1](ctx) })
				if got != c.want || !errors.Is(err, c.err) || time.Since(began) != c.after || asked.Load() != c.asked {
					t.Errorf("%q, %v after %v from %d brokers, want %q, %v after %v from %d", got, err, time.Since(began), asked.Load(), c.want, c.err, c.after, c.asked)
				}
			})
		})
	}
}
