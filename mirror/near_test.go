package mirror

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/isthmus-project/isthmus/broker"
)

// nearBench is a pump that its leader, broker 0, has just sent to broker 2.
func nearBench(t *testing.T) *bench {
	t.Helper()
	b := newBench(t)
	b.link.cfg.Rack = "b"
	b.pump.offer(&broker.Fetched{PreferredReplica: 2, HighWatermark: 10, DivergingEnd: -1}, 0, nil, b.now)
	if !b.pump.movesLocked() || b.pump.wantsLocked() {
		t.Fatal("the pump still asks its leader, which gives no records")
	}
	return b
}

// assign is what the next pass over the metadata does.
func (b *bench) assign(alive ...int32) int32 {
	brokers := make(map[int32]broker.Broker)
	for _, id := range alive {
		brokers[id] = broker.Broker{ID: id}
	}
	from := b.pump.reader(0, brokers, b.now)
	b.pump.led(newFetcher(b.link, from), b.pump.window, 0, 0, 0, b.now)
	return from
}

func TestNear_FollowsTheLeadersAdvice(t *testing.T) {
	b := nearBench(t)
	if from := b.assign(0, 1, 2); from != 2 {
		t.Fatalf("reads from broker %d, not from the one in its rack", from)
	}
	b.state(StateRunning) // no look at the place: nothing has changed but the reader
	b.offer(1, 0, 2)
	if o := b.next(); o == nil {
		t.Fatal("records of the replica are not taken")
	}
	b.now = b.now.Add(nearFor)
	if from := b.assign(0, 1, 2); from != 0 {
		t.Errorf("reads from broker %d after %v, without asking the leader again", from, nearFor)
	}
}

func TestNear_GoesBackToTheLeader(t *testing.T) {
	for name, change := range map[string]func(*bench){
		"the replica is gone":   func(b *bench) {},
		"another broker leads":  func(b *bench) { b.pump.sight.leader = 1 },
		"the replica is behind": func(b *bench) { b.sourceError(kerr.OffsetOutOfRange) },
		"it is no replica":      func(b *bench) { b.sourceError(kerr.NotLeaderForPartition) },
		"it cannot be reached": func(b *bench) {
			b.pump.fetcher.asked = map[*pump]broker.FetchPartition{b.pump: {}}
			b.pump.fetcher.unreachable(b.now)
		},
		"its log goes otherwise": func(b *bench) {
			b.pump.offer(&broker.Fetched{DivergingEnd: 0, DivergingEpoch: 0, PreferredReplica: -1}, 0, nil, b.now)
		},
	} {
		b := nearBench(t)
		b.assign(0, 1, 2)
		change(b)
		alive := []int32{0, 1, 2}
		if name == "the replica is gone" {
			alive = alive[:2]
		}
		if from := b.assign(alive...); from != 0 {
			t.Errorf("%s: reads from broker %d, want the leader", name, from)
		}
		if asksAnew := name == "the replica is gone" || name == "another broker leads" || name == "its log goes otherwise"; !asksAnew && (b.link.rack(b.now) != "" || b.link.rack(b.now.Add(nearPause)) != "b") {
			t.Errorf("%s: the leader is still told the rack, and will give no records", name)
		}
	}
}

// sourceError is an answer of the source broker that is read from.
func (b *bench) sourceError(err error) {
	b.pump.offer(&broker.Fetched{Err: err, PreferredReplica: -1, DivergingEnd: -1}, 0, nil, b.now)
	b.state(StateRunning)
}

func TestNear_WithoutRackNothingMoves(t *testing.T) {
	b := newBench(t)
	b.pump.offer(&broker.Fetched{PreferredReplica: 2, DivergingEnd: -1}, 0, nil, b.now)
	if b.pump.movesLocked() {
		t.Error("a node without a rack was sent to another replica")
	}
}

// A pump that was sent away leaves its fetcher's session at once. If it goes back before a pass over the metadata gave it another
// fetcher, nothing but a mark brings it into the session again.
func TestNear_BackAtTheSameFetcherItIsAskedForAgain(t *testing.T) {
	for name, then := range map[string]func(*bench, map[int32]broker.Broker){
		"the replica is gone":      func(b *bench, brokers map[int32]broker.Broker) { delete(brokers, 2) },
		"the advice is out of age": func(b *bench, brokers map[int32]broker.Broker) { b.now = b.now.Add(nearFor) },
	} {
		b := nearBench(t)
		f, brokers := b.pump.fetcher, map[int32]broker.Broker{0: {ID: 0}, 2: {ID: 2}}
		clear(f.dirty) // it has left the session
		then(b, brokers)
		if from := b.pump.reader(0, brokers, b.now); from != f.broker {
			t.Fatalf("%s: reads from broker %d", name, from)
		}
		b.pump.led(f, b.pump.window, 0, 0, 0, b.now)
		if _, wants := b.pump.want(f); !wants || !f.dirty[b.pump] {
			t.Errorf("%s: wants %v, looked at before the next request: %v; it stays out of the session for ever", name, wants, f.dirty[b.pump])
		}
		clear(f.dirty)
		b.pump.reader(0, brokers, b.now)
		if len(f.dirty) > 0 {
			t.Errorf("%s: it is marked in every pass", name)
		}
	}
}
