package mirror

import "testing"

// TestPump_ReadsTwoAnswersAhead: what is on the wire does not count, however
// long it stays there, and the fetcher hears when there is room again.
func TestPump_ReadsTwoAnswersAhead(t *testing.T) {
	b := newBench(t)
	b.prove()
	b.link.cfg.FetchPartitionBytes = mergeBelow
	at := b.pump.fetchAt
	for i := range int64(3) {
		if _, ok := b.pump.want(b.pump.fetcher); ok != (i < 2) {
			t.Fatalf("the pump wants more: %v with %d batches of %d bytes queued and answers of %d", ok, i, mergeBelow, mergeBelow)
		}
		b.offer(1, at+i, 1)
	}
	clear(b.pump.fetcher.dirty)
	if b.next() == nil {
		t.Fatal("nothing to send")
	}
	if len(b.pump.fetcher.dirty) != 0 {
		t.Error("the fetcher was told of room with two batches queued")
	}
	if b.next() == nil {
		t.Fatal("nothing to send")
	}
	if _, ok := b.pump.want(b.pump.fetcher); !ok || !b.pump.fetcher.dirty[b.pump] {
		t.Errorf("with one batch queued and two on the wire: wants more %v, fetcher told %v; want both", ok, b.pump.fetcher.dirty[b.pump])
	}
}
