package lock

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestStage_CopiesOverPaths: without an attack the target is the source, batch for batch; the path sees the link's batches.
func TestStage_CopiesOverPaths(t *testing.T) {
	s := newStage(t, stageOptions{})
	s.eu.write(t, s.topic, numbered("first", 3, 5000)...)
	s.eu.write(t, s.topic, numbered("second", 2, 5000)...)
	o := s.prepare()
	seen := make(chan int32, 10)
	o.to.rule(func(c call) fate {
		if c.key == int16(kmsg.Produce) && !c.answer {
			for _, h := range c.batches(s.id) {
				seen <- h.BaseSequence
			}
		}
		return pass
	})
	o.start()
	o.caughtUp()
	s.verdict()
	for _, want := range []int32{0, 3} {
		if got := <-seen; got != want {
			t.Errorf("a batch with sequence %d was sent, want %d", got, want)
		}
	}
	o.stop()
	log := s.us.readLog(t, s.topic, 0)
	if len(log) != 2 || log[0].ProducerID != s.id || log[1].BaseSequence != 3 {
		t.Errorf("the target holds %v, want two batches under id %#x", log, s.id)
	}
}
