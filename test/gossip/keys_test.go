package gossip

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/topology/gossip"
)

// rings keeps what each node was told to keep.
type rings struct {
	mu   sync.Mutex
	keys map[string][][]byte
	fail map[string]bool
}

func (r *rings) of(c *gossip.Config, d *gossip.Deps) {
	name := c.Name
	r.mu.Lock()
	defer r.mu.Unlock()
	if keys := r.keys[name]; keys != nil {
		c.Keys = keys
	}
	d.KeysChanged = func(keys [][]byte) error {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.fail[name] {
			return errors.New("disk full")
		}
		r.keys[name] = slices.Clone(keys)
		return nil
	}
}

func withRings(f *Fleet) *rings {
	r := &rings{keys: make(map[string][][]byte), fail: make(map[string]bool)}
	f.Config = r.of
	for _, n := range f.Nodes {
		n.Kill()
	}
	time.Sleep(10 * time.Second)
	f.Start()
	f.Until("whole", time.Minute, f.Whole)
	time.Sleep(16 * time.Second)
	return r
}

func TestFleet_KeysRotateLive(t *testing.T) {
	eachSeed(t, 9, dcs, func(t *testing.T, f *Fleet) {
		r := withRings(f)
		f.Network.Loss(0) // so that every failed ping is the rotation's
		done := make(chan struct{})
		go func() {
			defer close(done)
			for _, key := range []byte{2, 3} {
				n := f.Nodes[int(key)]
				outcomes, err := n.Pool.RotateKey(context.Background(), Key(key))
				if err != nil {
					t.Errorf("rotate to key %d: %v", key, err)
				}
				for _, o := range outcomes {
					if !o.Installed || !o.Used || !o.Removed || o.Err != "" {
						t.Errorf("rotate to key %d: node %s: %+v", key, o.Node, o)
					}
				}
				if len(outcomes) != len(f.Nodes) {
					t.Errorf("rotate to key %d: %d nodes, want %d", key, len(outcomes), len(f.Nodes))
				}
			}
		}()
		for i := range 300 {
			time.Sleep(50 * time.Millisecond)
			if !f.Whole() {
				t.Fatal("a node was missing while keys rotated")
			}
			if i%20 == 0 {
				n := f.Nodes[i%9]
				f.Until("the node knows of the write before", 20*time.Second, func() bool {
					_, note, err := n.Pool.Propose(context.Background(), set(n, "log/level", "info"))
					if err != nil && !errors.Is(err, gossip.ErrConflict) || note != "" {
						t.Errorf("write while keys rotate: %v %s", err, note)
					}
					return !errors.Is(err, gossip.ErrConflict)
				})
			}
		}
		<-done
		for _, n := range f.Nodes {
			if keys := n.Pool.Keys(); len(keys) != 1 || !bytes.Equal(keys[0], Key(3)) || len(r.keys[n.Name]) != 1 {
				t.Errorf("%s has %d keys and kept %d, want the new one alone", n.Name, len(keys), len(r.keys[n.Name]))
			}
		}
		n := f.Nodes[4] // and a restart reads what was kept
		n.Kill()
		n.Start()
		f.Until("the restarted node is back", time.Minute, f.Whole)
	})
}

func TestFleet_RotationStopsAtWhoDoesNotFollow(t *testing.T) {
	eachSeed(t, 5, dcs, func(t *testing.T, f *Fleet) {
		r := withRings(f)
		bad := f.Nodes[3]
		r.fail[bad.Name] = true
		outcomes, err := f.Nodes[0].Pool.RotateKey(context.Background(), Key(2))
		if err == nil || !strings.Contains(err.Error(), bad.Name) {
			t.Fatalf("rotation with a node that cannot keep the key: %v, want an error that names %s", err, bad.Name)
		}
		for _, o := range outcomes {
			if o.Removed || o.Used {
				t.Errorf("%s went on: %+v", o.Node, o)
			}
			if (o.Err != "") != (o.Node == bad.Name) {
				t.Errorf("%s: error %q", o.Node, o.Err)
			}
		}
		time.Sleep(20 * time.Second)
		if !f.Whole() {
			t.Fatal("a rotation that stopped took a node out")
		}
		delete(r.fail, bad.Name)
		if _, err := f.Nodes[0].Pool.RotateKey(context.Background(), Key(2)); err != nil {
			t.Fatalf("the same rotation again: %v", err)
		}
		gone := f.Nodes[2]
		gone.Kill()
		f.Until("the dead node is known", time.Minute, f.Whole)
		outcomes, err = f.Nodes[0].Pool.RotateKey(context.Background(), Key(4))
		if err != nil {
			t.Fatalf("rotation without a dead node: %v", err)
		}
		if i := slices.IndexFunc(outcomes, func(o gossip.KeyOutcome) bool { return o.Node == gone.Name }); i < 0 || outcomes[i].Err == "" {
			t.Errorf("outcomes %+v, want the dead node named", outcomes)
		}
	})
}
