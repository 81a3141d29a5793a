package relay

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/router/frame"
	"github.com/isthmus-project/isthmus/router/quota"
)

// What a client takes beyond its quota it is told in answers to Produce and Fetch, and it is not read for so long, as brokers do since
// KIP-219: its requests wait where they are, and so does a client that does not obey.

// spender is the account that the requests of a connection are on. The requests goroutine keeps it; the answers goroutine gets it with what is owed.
type spender struct {
	account   *quota.Account
	wait      time.Duration // because of the last request
	known     bool          // whose account it is:
	clientID  string
	principal *Principal
}

// charge puts a request on the account of its client.
func (r *Relay) charge(h frame.Request) {
	if r.cfg.Quotas == nil {
		return
	}
	s := &r.spender
	now := time.Now()
	if p := r.seen.principal.Load(); !s.known || s.clientID != r.who.ClientID || s.principal != p || s.account.Gone() {
		name := r.cfg.Subject
		if p != nil {
			name = p.Name
		}
		*s = spender{account: r.cfg.Quotas.Of(now, r.who.ClientID, name), known: true, clientID: r.who.ClientID, principal: p}
	}
	s.wait = s.account.Asked(now)
	if h.Key == int16(kmsg.Produce) {
		s.wait = max(s.wait, s.account.Produced(now, h.Header+h.Body()))
	}
	r.mute(now, s.wait)
}

// chargeAnswer puts an answer on the account that its request was on, and returns how long the client is told to wait.
func (r *Relay) chargeAnswer(h frame.Answer, o owed) time.Duration {
	if o.account == nil || o.key != int16(kmsg.Fetch) {
		return o.wait
	}
	now := time.Now()
	wait := o.account.Fetched(now, frame.AnswerHeader+h.Body())
	r.mute(now, wait)
	return max(wait, o.wait)
}

// mute has nothing be read from the client for a while.
func (r *Relay) mute(now time.Time, wait time.Duration) {
	if wait <= 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	until, from := now.Add(wait), now
	if r.state.muted.After(from) {
		from = r.state.muted
	}
	if more := until.Sub(from); more > 0 {
		r.state.muted = until
		r.seen.Throttled.Add(int64(more))
	}
}

// waitMuted waits until the client may be read again. Who drains or has failed is told so by what comes next.
func (r *Relay) waitMuted() {
	for r.cfg.Quotas != nil {
		r.mu.Lock()
		wait, stop := time.Until(r.state.muted), r.state.draining || r.state.over
		r.mu.Unlock()
		if wait <= 0 || stop {
			return
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-r.changed:
		case <-r.over:
		}
		timer.Stop()
	}
}
