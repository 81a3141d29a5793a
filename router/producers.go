package router

import (
	"errors"
	"sync"

	"github.com/isthmus-project/isthmus/router/identity"
)

// blockSize is how many producer ids an instance claims at a time: their number has 24 bits.
const blockSize = counters / identity.Blocks

// counters is how many numbers there are.
const counters = 1 << 24

// errNoIDs says that more producers came at once than there are ids claimed for.
var errNoIDs = errors.New("the producer ids that were claimed are used up; more are on their way")

// producers gives ids out of blocks that were claimed for this instance, each once. It never waits.
type producers struct {
	id func(counter uint32) int64

	mu     sync.Mutex
	blocks []int64 // the first is in use
	used   int     // of the first
}

// next gives an id.
func (p *producers) next() (int64, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.blocks) == 0 {
		return 0, errNoIDs
	}
	n := p.blocks[0]*blockSize + int64(p.used)
	if p.used++; p.used == blockSize {
		p.blocks, p.used = p.blocks[1:], 0
	}
	return p.id(uint32(n % counters)), nil
}

// left is how many ids can be given before another block is needed.
func (p *producers) left() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.blocks)*blockSize - p.used
}

// wants reports whether another block is to be claimed.
func (p *producers) wants() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.blocks) == 0 || len(p.blocks) == 1 && p.used > blockSize/2
}

func (p *producers) add(block int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.blocks = append(p.blocks, block)
}
