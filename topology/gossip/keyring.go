package gossip

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// Steps of a rotation. The numbers are of the wire.
const (
	keyInstall = 1 // decrypt with it
	keyUse     = 2 // encrypt with it
	keyRemove  = 3 // forget all others
)

// keyTimeout bounds how long one node may take for a step.
const keyTimeout = 5 * time.Second

// KeyOutcome is how far one node came in a rotation.
type KeyOutcome struct {
	Node                     string
	Installed, Used, Removed bool
	Err                      string // why not further; empty if all is well
}

// Keys is the key ring, the primary first; what peers prove themselves to each other with. Do not change it.
func (p *Pool) Keys() [][]byte {
	if p.ring == nil {
		return nil
	}
	return p.ring.GetKeys()
}

// RotateKey gives every live node a new key, then lets all encrypt with it, then takes away the others. A node that does not
// acknowledge a step ends the rotation before the next one: the outcomes name it, and the same call goes on when it is back.
func (p *Pool) RotateKey(ctx context.Context, newKey []byte) ([]KeyOutcome, error) {
	if p.ring == nil {
		return nil, errors.New("rotate the gossip key: this fabric has none; set fabric.gossip_key and restart the nodes")
	}
	if err := memberlist.ValidateKey(newKey); err != nil {
		return nil, fmt.Errorf("rotate the gossip key: it has %d bytes, want 16, 24 or 32", len(newKey))
	}
	v := p.View()
	var outcomes []KeyOutcome
	for _, m := range v.Members {
		switch m.Status {
		case Alive:
			outcomes = append(outcomes, KeyOutcome{Node: m.Name})
		case Dead:
			outcomes = append(outcomes, KeyOutcome{Node: m.Name, Err: "it is not there; copy the key file to it before it starts"})
		}
	}
	for _, step := range []byte{keyInstall, keyUse, keyRemove} {
		p.keyStep(ctx, step, newKey, outcomes)
		var late []string
		for _, o := range outcomes {
			if o.Err != "" && v.alive(o.Node) {
				late = append(late, o.Node)
			}
		}
		if len(late) > 0 {
			return outcomes, fmt.Errorf("rotate the gossip key: stopped, because of node %s: all nodes still read each other; repeat it with the same key", late)
		}
	}
	return outcomes, nil
}

func (v *View) alive(node string) bool {
	m, ok := v.Member(node)
	return ok && m.Status == Alive
}

// keyStep lets all nodes do one step, side by side.
func (p *Pool) keyStep(ctx context.Context, step byte, key []byte, outcomes []KeyOutcome) {
	var wg sync.WaitGroup
	for i := range outcomes {
		o := &outcomes[i]
		if o.Err != "" {
			continue
		}
		wg.Go(func() {
			if err := p.askKey(ctx, o.Node, step, key); err != nil {
				o.Err = err.Error()
				return
			}
			switch step {
			case keyInstall:
				o.Installed = true
			case keyUse:
				o.Used = true
			default:
				o.Removed = true
			}
		})
	}
	wg.Wait()
}

// askKey lets one node do a step.
func (p *Pool) askKey(ctx context.Context, node string, step byte, key []byte) error {
	if node == p.cfg.Name {
		return p.turnKey(step, key)
	}
	w := &packer{}
	w.byte(step)
	w.bytes(key)
	ctx, cancel := context.WithTimeout(ctx, 2*keyTimeout)
	defer cancel()
	b, err := p.mail.call(ctx, node, letterKey, w.b, keyTimeout)
	if err != nil {
		return err
	}
	r := &unpacker{b: b}
	text := r.string(maxTextBytes)
	switch {
	case r.done() != nil:
		return errNoAnswer
	case text != "":
		return errors.New(text)
	}
	return nil
}

// serveKey does a step for the node that rotates.
func (p *Pool) serveKey(from string, b []byte) []byte {
	r, w := &unpacker{b: b}, &packer{}
	step, key := r.byte(), slices.Clone(r.bytes(64))
	err := r.done()
	if err == nil {
		err = p.turnKey(step, key)
	}
	if err != nil {
		p.deps.Log.Error("gossip key not rotated", "by", from, "step", step, "err", err)
		w.string(cut(err.Error()))
		return w.b
	}
	p.deps.Log.Info("gossip key rotated", "by", from, "step", step)
	w.string("")
	return w.b
}

// turnKey does a step here, and keeps the ring.
func (p *Pool) turnKey(step byte, key []byte) error {
	p.turning.Lock()
	defer p.turning.Unlock()
	if p.ring == nil {
		return errors.New("this node has no gossip key")
	}
	switch step {
	case keyInstall:
		if err := p.ring.AddKey(key); err != nil {
			return fmt.Errorf("install the gossip key: %w", err)
		}
	case keyUse:
		if err := p.ring.UseKey(key); err != nil {
			return fmt.Errorf("use the gossip key: %w", err)
		}
	case keyRemove:
		keys := p.ring.GetKeys()
		if !bytes.Equal(keys[0], key) {
			return errors.New("remove the old gossip keys: this node does not use the new one yet")
		}
		// The last first: memberlist moves the keys behind a removed one in a slice that its readers may hold.
		for _, old := range slices.Backward(keys[1:]) {
			if err := p.ring.RemoveKey(old); err != nil {
				return fmt.Errorf("remove an old gossip key: %w", err)
			}
		}
	default:
		return fmt.Errorf("step %d of a rotation is not known", step)
	}
	if p.deps.KeysChanged == nil {
		return nil
	}
	if err := p.deps.KeysChanged(p.ring.GetKeys()); err != nil {
		return fmt.Errorf("keep the gossip keys: %w", err)
	}
	return nil
}
