package mirror

import (
	"context"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/broker"
)

// sessionDouble is a fetch session of which only its partitions count.
type sessionDouble map[int32]bool

func (s sessionDouble) Set(p broker.FetchPartition)                 { s[p.Partition] = true }
func (s sessionDouble) Forget(_ string, _ broker.TopicID, at int32) { delete(s, at) }

// fullBench is a pump with a full queue beside an idle one at the same source broker.
func fullBench(t *testing.T) (*bench, sessionDouble) {
	t.Helper()
	b := newBench(t)
	b.link.cfg.FetchPartitionBytes = mergeBelow
	b.pump.fetcher.begin()
	id := somePump
	id.Partition++
	idle := b.link.newPump(b.pump.flow, Checkpoint{Pump: id, SourceEpoch: -1, TargetEpoch: -1, TargetLast: -1})
	idle.led(b.pump.fetcher, b.pump.window, 0, 0, 0, b.now)
	if s, ok := idle.beginSearch(b.now); !ok {
		t.Fatal("no search")
	} else {
		idle.endSearch(s, found{place: s.base.clone()}, nil, b.now)
	}
	b.prove()
	b.offer(1, 1, 1, 1, 1)
	return b, make(sessionDouble)
}

// soon is what the fetcher does before each request.
func (b *bench) soon(s sessionDouble) bool {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), time.Minute)
	defer cancel()
	soon, err := b.pump.fetcher.adjust(ctx, s)
	if err != nil {
		b.t.Fatalf("nothing is asked for: %v", err)
	}
	return soon
}

// On a long way the answer of the target takes more than one request to the source: until then each of them must be
// short, for the mark that says that there is room does not wake one.
func TestFetcher_AsksInShortWhileAQueueIsFull(t *testing.T) {
	b, s := fullBench(t)
	for i := range 5 {
		if !b.soon(s) {
			t.Fatalf("request %d may wait for an idle partition as long as it likes while a full queue drains", i+1)
		}
		if s[somePump.Partition] {
			t.Fatal("a full pump is asked for")
		}
	}
	for range 2 {
		if b.next() == nil {
			t.Fatal("nothing to send")
		}
	}
	if b.soon(s) || !s[somePump.Partition] {
		t.Errorf("with room again: in the session %v; want it there and requests that wait", s[somePump.Partition])
	}
}

// What is not on its way back does not make requests short.
func TestFetcher_WaitsWhenNobodyDrains(t *testing.T) {
	for name, then := range map[string]func(*bench){
		"halted":             func(b *bench) { b.pump.haltLocked("poison", "for a test", b.now) },
		"no leader":          func(b *bench) { b.pump.wait(CauseLeader, "no leader", b.now) },
		"another leader":     func(b *bench) { b.pump.led(newFetcher(b.link, 1), b.pump.window, 1, 1, 0, b.now) },
		"an error":           func(b *bench) { b.pump.drainLocked(CauseTarget, "refused", b.now) },
		"it reads elsewhere": func(b *bench) { b.pump.sight.replica = 2 },
	} {
		b, s := fullBench(t)
		f := b.pump.fetcher
		b.soon(s)
		then(b)
		soon := func() bool {
			got, err := f.adjust(t.Context(), s)
			if err != nil {
				t.Fatal(err)
			}
			return got
		}
		soon() // takes notice
		if soon() || len(f.parked) > 0 {
			t.Errorf("%s: every request is short for ever", name)
		}
	}
}

// A pump that has gone and the one that begins after it stand for one partition. Both may have news before one request, in any
// order: the partition stays in the session, and its answers are the new one's.
func TestFetcher_KeepsAPartitionWhosePumpIsAnother(t *testing.T) {
	for range 20 { // marks have no order
		b, s := fullBench(t)
		f := b.pump.fetcher
		for range 2 {
			if b.next() == nil {
				t.Fatal("nothing to send")
			}
		}
		b.soon(s)
		old := b.pump
		old.mu.Lock()
		f.drop(old)
		old.gone = true
		old.becomeLocked(StateElsewhere, "", "", b.now)
		old.mu.Unlock()
		next := b.link.newPump(old.flow, old.safe)
		next.led(f, old.window, 0, 0, 0, b.now)
		place, ok := next.beginSearch(b.now)
		if !ok {
			t.Fatal("no search")
		}
		next.endSearch(place, found{place: place.base.clone()}, nil, b.now)
		b.soon(s)
		f.mark(old) // an answer came for it that was on its way
		b.soon(s)
		if key := (topicPartition{old.id.Topic, old.id.Partition}); !s[old.id.Partition] || f.byKey[key] != next {
			t.Fatalf("in the session: %t, its pump is the new one: %t; want both", s[old.id.Partition], f.byKey[key] == next)
		}
	}
}
