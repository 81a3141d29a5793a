package timeline

import "testing"

// TestMap_ReadersOverChanges: readers that begin anywhere and stop anywhere see every record once, over planned and unplanned changes of home, late tails, holes,
// and the way back. Only who has read of a tail sees that again, and only those records have more than one virtual offset.
func TestMap_ReadersOverChanges(t *testing.T) {
	var records, tails, twice, planned, lost, jumps int
	for seed := range uint64(400) {
		w := newWorld(t, seed, 2+int(seed%2))
		for range 300 {
			if w.step(); w.m.reach != nil {
				jumps++
			}
		}
		if w.finish(); t.Failed() {
			t.Fatalf("seed %d", seed)
		}
		records, tails, planned, lost = records+len(w.origin)-1, tails+len(w.tail), planned+w.planned, lost+w.lost
		for _, places := range w.places {
			if len(places) > 1 {
				twice++
			}
		}
	}
	t.Logf("%d records, %d in tails, %d with several virtual offsets, %d planned changes, %d unplanned; %d steps with places that jump", records, tails, twice, planned, lost, jumps)
	if planned < 500 || lost < 500 || twice == 0 || twice*5 > records || jumps < 1000 {
		t.Error("the worlds are too quiet, or too wild")
	}
}
