package relay

import (
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/router/frame"
	"github.com/isthmus-project/isthmus/router/walk"
)

const (
	// maxNames bounds the topics that are remembered of a connection, for each direction.
	maxNames = 20
	// maxShown bounds a client id, a name of software and a principal in bytes, as they are remembered.
	maxShown = 256
)

// Seen is what one connection took, and what its client showed of itself. Its relay writes it, without locks; any goroutine may read it.
type Seen struct {
	// In and Out are bytes from and to the client.
	In, Out atomic.Int64
	// Requests is how many the client has made.
	Requests atomic.Int64
	// Full is for how many nanoseconds nothing was read because too many answers were due.
	Full atomic.Int64
	// Throttled is for how many nanoseconds it was told to wait because of a quota.
	Throttled atomic.Int64
	// Writes is how many requests that may change the home were let through to it and are not answered.
	Writes atomic.Int32
	// Waiting says that a request is held because the home is changing, or for want of a lease.
	Waiting atomic.Bool
	// Waited is for how many nanoseconds requests were held because the home was changing.
	Waited atomic.Int64
	// Held is how many bytes of the memory of all connections it holds.
	Held atomic.Int64
	// Pending is how many answers are due.
	Pending atomic.Int32

	who       atomic.Pointer[Who]
	principal atomic.Pointer[Principal]
}

// Who is the client of a connection by its own words. What clients send is cut to a bound, and may be no UTF-8.
type Who struct {
	// ClientID is that of its last request.
	ClientID string
	// Software and Version are what it says it is, from ApiVersions; empty if it says nothing.
	Software, Version string
	// Produces and Fetches are the first topics that it asked to write and to read, in this order.
	Produces, Fetches []string
	// More says that there were more than these.
	More bool
}

// Principal is a name that a client logged in with.
type Principal struct {
	// Name is the one that the client claimed; the broker took the login, or the door did, where logins end there. What the broker makes of the name, by its own rules, is not known here.
	Name string
	// Mechanism is that of SASL, such as PLAIN, or certificate where one told the door who the client is.
	Mechanism string
}

// Who returns what is known of the client.
func (s *Seen) Who() Who {
	if w := s.who.Load(); w != nil {
		return *w
	}
	return Who{}
}

// Principal returns whom the client logged in as; the zero value before it has, or where its mechanism does not tell.
func (s *Seen) Principal() Principal {
	if p := s.principal.Load(); p != nil {
		return *p
	}
	return Principal{}
}

// Keys counts requests, answers, and those of the answers that were made here, of all connections that have it, by the requests' keys.
type Keys struct {
	Requests, Answers, Local [kmsg.MaxKey + 1]atomic.Int64
}

func count(of *[kmsg.MaxKey + 1]atomic.Int64, key int16) {
	if key >= 0 && int(key) < len(of) {
		of[key].Add(1)
	}
}

// asker is what the requests goroutine knows of who asks. What others may know of it is in Seen.
type asker struct {
	who               Who // without its topics
	produces, fetches topics
	login             login
	entered           entered
	loggedIn          bool // it has sent a login, if not the right one
	spender           spender
	upPatch           walk.Patch
	naming            *topics // of the request that is walked
	named             func(topic []byte) error
	sets              Sets            // of the connection's home; nil: there is one set
	own               map[string]bool // topics that are of the connection's set
}

// names is the patch for a request of a key, which notes the topics that it names as long as there are some to be noted, and looks at them where there
// are several sets.
func (r *Relay) names(key int16) *walk.Patch {
	r.naming = &r.fetches
	if key == int16(kmsg.Produce) {
		r.naming = &r.produces
	}
	r.upPatch.Named = r.named
	if r.naming.more && r.sets == nil {
		r.upPatch.Named = nil
	}
	return &r.upPatch
}

// note is told of each topic of a request.
func (r *Relay) note(topic []byte) error {
	if !r.naming.more && r.naming.add(topic) {
		r.show()
	}
	if r.sets == nil || len(topic) == 0 {
		return nil
	}
	return r.ownTopic(topic)
}

// Seen is what this connection took, and whose it is.
func (r *Relay) Seen() *Seen { return &r.seen }

// asked counts a request.
func (r *Relay) asked(h frame.Request) {
	r.seen.Requests.Add(1)
	count(&r.cfg.Keys.Requests, h.Key)
	if id := h.ClientID[:min(len(h.ClientID), maxShown)]; string(id) != r.who.ClientID {
		r.who.ClientID = string(id)
		r.show()
	}
}

// show lets others see who the client is. Only the requests goroutine calls it.
func (r *Relay) show() {
	w := r.who
	w.Produces, w.Fetches, w.More = r.produces.names, r.fetches.names, r.produces.more || r.fetches.more
	r.seen.who.Store(&w)
}

// full counts the time since a moment from which on nothing was read.
func (s *Seen) full(since time.Time) { s.Full.Add(int64(time.Since(since))) }

// topics are the first names that were seen. Others may keep names; they only grow.
type topics struct {
	names []string
	next  int // the one that is likely to be next: clients name them in the same order again and again
	more  bool
}

// add notes a name, and reports whether that is news.
func (t *topics) add(name []byte) bool {
	if t.next < len(t.names) && t.names[t.next] == string(name) {
		t.next++
		return false
	}
	for i, known := range t.names {
		if known == string(name) {
			t.next = i + 1
			return false
		}
	}
	if len(t.names) == maxNames {
		news := !t.more
		t.more = true
		return news
	}
	t.names = append(t.names, string(name))
	return true
}
