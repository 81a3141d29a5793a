package gossip

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// joinsAtOnce is how many missing nodes are tried in one round.
	joinsAtOnce = 3
	// contestMemory is how long a conflict of names counts after it was last seen: the other node may just have died.
	contestMemory = 12 * time.Second
	// contestPatience is how long a node waits for the other one of its name to be gone: a process that came back elsewhere
	// meets what it was until the others missed that.
	contestPatience = 20 * time.Second
)

// rejoinLoop looks for the nodes that are missing: seeds and those that were there before. memberlist never does once both sides
// of a cut have declared each other dead.
func (p *Pool) rejoinLoop(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	start := p.deps.Now()
	busy := newBusy()
	for first := true; ; first = false {
		for _, addr := range p.missing(first) {
			if !busy.take(addr) {
				continue
			}
			wg.Go(func() {
				defer busy.give(addr)
				p.join(addr)
			})
		}
		if !pause(ctx, p.rand.around(p.cfg.Timings.Rejoin)) {
			return nil
		}
		if err := p.settleName(start); err != nil {
			return err
		}
	}
}

// busy are the addresses that are being tried.
type busy struct {
	mu sync.Mutex
	at map[string]bool
}

func newBusy() *busy { return &busy{at: make(map[string]bool)} }

func (b *busy) take(addr string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.at[addr] {
		return false
	}
	b.at[addr] = true
	return true
}

func (b *busy) give(addr string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.at, addr)
}

// missing picks addresses to try: some seeds that are no member, and some members that are gone.
func (p *Pool) missing(first bool) []string {
	self := p.Addr()
	p.mu.Lock()
	there, contested := map[string]bool{self: true}, p.contest.err != nil
	var gone []string
	for name, peer := range p.members.peers {
		switch {
		case name == p.cfg.Name || peer.address == "":
		case peer.joined && !contested:
			there[peer.address] = true
		case !peer.left:
			gone = append(gone, peer.address)
		}
	}
	p.mu.Unlock()
	var seeds []string
	for _, s := range p.cfg.Seeds {
		if s == p.cfg.Advertise || s == p.cfg.Bind || there[s] {
			continue
		}
		if host, _, err := net.SplitHostPort(s); err == nil && net.ParseIP(host) == nil {
			if ip, port, err := resolve(s); err == nil && there[net.JoinHostPort(ip, fmt.Sprint(port))] {
				continue
			}
		}
		seeds = append(seeds, s)
	}
	gone = slices.DeleteFunc(gone, func(a string) bool { return slices.Contains(seeds, a) })
	slices.Sort(gone)
	limit := joinsAtOnce
	if first {
		limit = 2 * joinsAtOnce
	}
	return append(p.some(seeds, limit-1), p.some(gone, 1)...)
}

// some picks n of a list at random.
func (p *Pool) some(list []string, n int) []string {
	list = slices.Clone(list)
	for i := range list {
		j := i + p.rand.n(len(list)-i)
		list[i], list[j] = list[j], list[i]
	}
	return list[:min(n, len(list))]
}

// join exchanges everything with one node.
func (p *Pool) join(addr string) {
	list := p.list.Load()
	_, err := list.Join([]string{addr})
	p.mu.Lock()
	defer p.mu.Unlock()
	alone := p.members.joined() <= 1
	switch {
	case err == nil || !alone:
		p.joinErr = nil
	default:
		p.joinErr = fmt.Errorf("no other node of the fabric reached, the last try: %w", hint(addr, err))
	}
	if err != nil && alone && p.limit.ok("join") {
		p.deps.Log.Warn("seed not reached", "address", addr, "err", hint(addr, err))
	}
}

// hint says what an answer without a word means: a node closes the stream of whom it does not know.
func hint(addr string, err error) error {
	text := strings.Join(strings.Fields(err.Error()), " ")
	if _, why, ok := strings.Cut(text, "failed to join "+addr+": "); ok {
		text = why
	}
	if strings.HasSuffix(text, "EOF") || strings.Contains(text, errRefused.Error()) {
		text += " (it hung up: the fabric's name or the gossip key may differ)"
	}
	return fmt.Errorf("%s: %s", addr, text)
}

// settleName decides who has this node's name.
func (p *Pool) settleName(start time.Time) error {
	p.mu.Lock()
	now, c := p.deps.Now(), &p.contest
	if c.err != nil && now.Sub(c.last) > contestMemory {
		c.err = nil
	}
	err := c.err
	late := err != nil && now.Sub(c.first) >= contestPatience
	settle := err == nil && !c.settled && now.Sub(start) >= p.cfg.Timings.Settle
	if settle {
		c.settled = true
	}
	p.mu.Unlock()
	if late {
		return err
	}
	if settle {
		p.announce()
	}
	return nil
}

// announce tells the others what membership carries of this node again.
func (p *Pool) announce() {
	// It waits until the first round of it went out; that takes longer only where nobody listens.
	if err := p.list.Load().UpdateNode(time.Second); err != nil {
		p.deps.Log.Debug("news of this node not out yet", "err", err)
	}
}
