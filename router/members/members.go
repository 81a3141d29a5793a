package members

import (
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	// Barrier is how long after a move a group waits for its members at most: longer than the three seconds between two heartbeats.
	Barrier = 4 * time.Second
	// Together is how long who joins first waits for the others' requests to be sent, too. Kafka itself waits for all members that have asked for an id; a home that does not would
	// give all partitions to the first.
	Together = time.Second
	// Window is how long after a move a member may come back that the old home knew. The longest session that brokers allow by default is half an hour; clients' own default is 45
	// seconds, and who did not ask anything for so long has lost its partitions anyway.
	Window = 5 * time.Minute
)

// Bounds of what is remembered, since clients may name any: groups that somebody joins, and members of each that are back.
const (
	mostGroups = 100_000
	mostBack   = 10_000
)

// Looks reports whether a book has anything to say about requests of a key.
func Looks(key int16) bool {
	switch kmsg.Key(key) {
	case kmsg.JoinGroup, kmsg.SyncGroup, kmsg.Heartbeat, kmsg.LeaveGroup, kmsg.OffsetCommit:
		return true
	}
	return false
}

// Book is what an instance knows of the groups of a set since a move. It is safe for concurrent use; the times that it is given are of one clock.
type Book struct {
	moved time.Time
	known map[string][]string

	mu     sync.Mutex
	groups map[string]*group
	counts Counts
}

// Counts are what was done for members of before a move.
type Counts struct {
	// Stale is answers to members that the new home does not know, Adopted commits that were taken over, Refused those that the new home did not take, Back members that came back.
	Stale, Adopted, Refused, Back int64
}

// group is one that somebody asked about.
type group struct {
	joined map[string]struct{} // members that the new home gave their ids, over this instance
	back   map[string]struct{} // of those before, who have come to the barrier
	open   chan struct{}       // closed when all that were known are back
	sent   map[string]struct{} // of those who are back, whose JoinGroup is at the home
	whole  chan struct{}       // closed when it is that of all of them
}

// New returns a book of a move at a time. known are the members of groups at the home that was left, by group; a group that is not in it may have had any.
func New(moved time.Time, known map[string][]string) *Book {
	return &Book{moved: moved, known: known, groups: make(map[string]*group)}
}

// Over reports whether the book is not needed any more.
func (b *Book) Over(now time.Time) bool { return now.Sub(b.moved) > Window }

// Counts returns what was done so far.
func (b *Book) Counts() Counts {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.counts
}

// of is a group that somebody joins, or leaves.
func (b *Book) of(name string) *group {
	g := b.groups[name]
	if g == nil {
		g = &group{joined: make(map[string]struct{}), back: make(map[string]struct{}), open: make(chan struct{}),
			sent: make(map[string]struct{}), whole: make(chan struct{})}
		if len(b.groups) < mostGroups {
			b.groups[name] = g
		}
	}
	return g
}

// stale reports whether a member has its id of a home before. mu is held.
func (b *Book) stale(name, member string) bool {
	if member == "" {
		return false
	}
	g := b.groups[name]
	if g == nil {
		return true
	}
	_, joined := g.joined[member]
	return !joined
}

// Joined notes that the new home gave a member its id.
func (b *Book) Joined(name, member string) {
	if member == "" {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.of(name).joined[member] = struct{}{}
}

// Deed is what is to be done with a request.
type Deed struct {
	// Answer is the answer, where there is one here.
	Answer kmsg.Response
	// Wait is closed when a JoinGroup may go on; nil for at once. It may also go on at Until.
	Wait  <-chan struct{}
	Until time.Time
	// Handshake says that a JoinGroup, which was given no member id here, needs one from the home, in a request of its own, before it is sent.
	Handshake bool
	// Sent is to be called when a JoinGroup has been sent, and its answer to be held back until Whole is closed, for [Together] at most; nil for nothing.
	Sent  func()
	Whole <-chan struct{}
	// Edit changes the home's answer; nil leaves it.
	Edit func(kmsg.Response)
}

// Request says what is to be done with a request, which it may change.
func (b *Book) Request(now time.Time, m kmsg.Request) Deed {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch m := m.(type) {
	case *kmsg.JoinGroupRequest:
		return b.join(now, m)
	case *kmsg.HeartbeatRequest:
		if b.stale(m.Group, m.MemberID) {
			resp := m.ResponseKind().(*kmsg.HeartbeatResponse)
			resp.ErrorCode = kerr.RebalanceInProgress.Code
			return b.answer(resp)
		}
	case *kmsg.SyncGroupRequest:
		if b.stale(m.Group, m.MemberID) {
			resp := m.ResponseKind().(*kmsg.SyncGroupResponse)
			resp.ErrorCode = kerr.RebalanceInProgress.Code
			return b.answer(resp)
		}
	case *kmsg.LeaveGroupRequest:
		return b.leave(m)
	case *kmsg.OffsetCommitRequest:
		if b.stale(m.Group, m.MemberID) {
			return b.adopt(m)
		}
	}
	return Deed{}
}

func (b *Book) answer(m kmsg.Response) Deed {
	b.counts.Stale++
	return Deed{Answer: m}
}

// join holds who was known before until all are back, and has a new id asked for.
func (b *Book) join(now time.Time, m *kmsg.JoinGroupRequest) Deed {
	name := m.Group
	d := Deed{Edit: func(resp kmsg.Response) {
		if r := resp.(*kmsg.JoinGroupResponse); r.ErrorCode == 0 || r.ErrorCode == kerr.MemberIDRequired.Code {
			b.Joined(name, r.MemberID)
		}
	}}
	g := b.of(name)
	if old := m.MemberID; b.stale(name, old) {
		d.Whole, d.Sent = g.whole, func() { b.sent(g, old) }
		if _, again := g.back[m.MemberID]; !again && len(g.back) < mostBack {
			g.back[m.MemberID] = struct{}{}
			b.counts.Back++
		}
		delete(g.sent, old) // again, if it had to connect anew
		m.MemberID = ""
		d.Handshake = m.Version >= 4 && m.InstanceID == nil // who has a name of its own gets an id at once, as do older clients
	}
	if until := b.moved.Add(Barrier); now.Before(until) && !b.whole(name, g) {
		d.Wait, d.Until = g.open, until
	}
	return d
}

// sent notes that a member's JoinGroup is at the home.
func (b *Book) sent(g *group, member string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	g.sent[member] = struct{}{}
	if len(g.sent) < len(g.back) {
		return
	}
	select {
	case <-g.whole:
	default:
		close(g.whole)
	}
}

// whole opens the barrier if all members that were known are back.
func (b *Book) whole(name string, g *group) bool {
	known, any := b.known[name]
	if b.known != nil && !any {
		return true // it had no members
	}
	if b.known == nil {
		return false
	}
	for _, id := range known {
		if _, back := g.back[id]; !back {
			return false
		}
	}
	select {
	case <-g.open:
	default:
		close(g.open)
	}
	return true
}

// leave answers who leaves a group that the new home does not know it in. One request may be about several members.
func (b *Book) leave(m *kmsg.LeaveGroupRequest) Deed {
	resp := m.ResponseKind().(*kmsg.LeaveGroupResponse)
	if m.Version < 3 {
		if b.stale(m.Group, m.MemberID) {
			b.gone(m.Group, m.MemberID)
			return b.answer(resp)
		}
		return Deed{}
	}
	for _, one := range m.Members {
		if !b.stale(m.Group, one.MemberID) {
			return Deed{} // the home knows at least one, and says of the others what it does
		}
	}
	for _, one := range m.Members {
		b.gone(m.Group, one.MemberID)
		left := kmsg.NewLeaveGroupResponseMember()
		left.MemberID, left.InstanceID = one.MemberID, one.InstanceID
		resp.Members = append(resp.Members, left)
	}
	return b.answer(resp)
}

// gone lets nobody wait for a member that has left.
func (b *Book) gone(name, member string) {
	g := b.of(name)
	if len(g.back) < mostBack {
		g.back[member] = struct{}{}
	}
	b.whole(name, g)
}

// adopt makes a commit of a member that the new home does not know one of nobody, which a home takes for a group without members.
func (b *Book) adopt(m *kmsg.OffsetCommitRequest) Deed {
	b.counts.Stale++
	m.Generation, m.MemberID, m.InstanceID = -1, "", nil
	return Deed{Edit: func(resp kmsg.Response) {
		b.mu.Lock()
		defer b.mu.Unlock()
		refused := false
		r := resp.(*kmsg.OffsetCommitResponse)
		for i := range r.Topics {
			for j := range r.Topics[i].Partitions {
				switch code := &r.Topics[i].Partitions[j].ErrorCode; *code {
				case kerr.UnknownMemberID.Code, kerr.IllegalGeneration.Code, kerr.FencedInstanceID.Code: // others have joined there
					*code, refused = kerr.RebalanceInProgress.Code, true
				}
			}
		}
		if refused {
			b.counts.Refused++
		} else {
			b.counts.Adopted++
		}
	}}
}
