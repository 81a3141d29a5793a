package quota

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-project/isthmus/topology"
)

// maxAccounts bounds the clients that are told apart: their ids are their own choice. What is above it shares one account for each rule.
const maxAccounts = 10_000

// Rules are the quotas of a router. Any goroutine may use them.
type Rules struct {
	rules []topology.Quota

	mu      sync.Mutex
	all     map[who]*Account
	swept   time.Time
	atMost  int
	crowded []*Account // by rule: of those that there is no place for
}

// who is a client as a rule tells clients apart.
type who struct {
	rule                int
	clientID, principal string
}

// New makes rules, the first that fits first; nil for none.
func New(rules []topology.Quota) *Rules {
	if len(rules) == 0 {
		return nil
	}
	r := &Rules{rules: rules, all: make(map[who]*Account), atMost: maxAccounts}
	for _, q := range rules {
		r.crowded = append(r.crowded, &Account{rule: q})
	}
	return r
}

// Of is the account of a client; nil where no rule fits. One that is [Account.Gone] is to be asked for again.
func (r *Rules) Of(now time.Time, clientID, principal string) *Account {
	if r == nil {
		return nil
	}
	for i, q := range r.rules {
		if !q.Fits(clientID, principal) {
			continue
		}
		w := who{rule: i}
		if len(q.ClientIDs) > 0 {
			w.clientID = clientID
		}
		if len(q.Principals) > 0 {
			w.principal = principal
		}
		return r.account(now, w)
	}
	return nil
}

// account finds or makes one.
func (r *Rules) account(now time.Time, w who) *Account {
	r.mu.Lock()
	defer r.mu.Unlock()
	if a := r.all[w]; a != nil {
		return a
	}
	if len(r.all) >= r.atMost && now.Sub(r.swept) >= burst {
		r.swept = now
		maps.DeleteFunc(r.all, func(_ who, a *Account) bool { return a.leave(now) })
	}
	if len(r.all) >= r.atMost {
		return r.crowded[w.rule]
	}
	a := &Account{rule: r.rules[w.rule]}
	r.all[w] = a
	return a
}

// Account is what one client took. Any goroutine may use it; nil bounds nothing.
type Account struct {
	rule topology.Quota
	gone atomic.Bool

	mu                          sync.Mutex
	produced, fetched, requests bucket
}

// Produced takes bytes that were written, and returns how long the client has to wait.
func (a *Account) Produced(now time.Time, bytes int) time.Duration {
	return a.take(now, bytes, func() (*bucket, int64) { return &a.produced, a.rule.ProduceRate })
}

// Fetched takes bytes that are read, and returns how long the client has to wait.
func (a *Account) Fetched(now time.Time, bytes int) time.Duration {
	return a.take(now, bytes, func() (*bucket, int64) { return &a.fetched, a.rule.FetchRate })
}

// Asked takes one request, and returns how long the client has to wait.
func (a *Account) Asked(now time.Time) time.Duration {
	return a.take(now, 1, func() (*bucket, int64) { return &a.requests, a.rule.RequestRate })
}

func (a *Account) take(now time.Time, n int, of func() (*bucket, int64)) (wait time.Duration) {
	if a == nil {
		return 0
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	b, rate := of()
	*b, wait = b.take(now, rate, n)
	return wait
}

// Gone reports that the account was thrown away, because it was full and others needed the place.
func (a *Account) Gone() bool { return a != nil && a.gone.Load() }

// leave throws an account away if that makes no difference: all its buckets are full.
func (a *Account) leave(now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	full := func(b bucket, rate int64) bool { return b.fill(now, rate) >= float64(rate)*burst.Seconds() }
	gone := full(a.produced, a.rule.ProduceRate) && full(a.fetched, a.rule.FetchRate) && full(a.requests, a.rule.RequestRate)
	if gone {
		a.gone.Store(true)
	}
	return gone
}
