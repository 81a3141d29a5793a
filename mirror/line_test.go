package mirror

import (
	"context"
	"testing"
	"time"
)

// A pump that is called to a desk and does not enter, for its other broker keeps as many searches as it may, calls the next in line:
// who needs only brokers that are well does not stand behind it. Workers run as those of a link.
func TestDesk_CallsTheNextWhenWhoIsCalledCannotEnter(t *testing.T) {
	for name, change := range map[string]func(*pump){
		"the other desk is full":     func(*pump) {},
		"it has nothing to look for": func(p *pump) { p.state = StatePaused },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			source, dead := b.pump.fetcher, newWindow(b.link, 1)
			on := func(partition int32, w *window) *pump {
				id := b.pump.id
				id.Partition = partition
				p := b.link.newPump(b.pump.flow, Checkpoint{Pump: id, SourceEpoch: -1, TargetEpoch: -1, TargetLast: -1})
				p.led(source, w, 0, 0, 0, b.now)
				return p
			}
			stuck, well := on(1, dead), on(2, b.pump.window)
			b.link.agenda = newAgenda()
			source.desk.most, source.desk.busy = 2, 2
			for _, p := range []*pump{stuck, well} {
				if _, ok := p.beginSearch(b.now); ok {
					t.Fatalf("%s searches at a desk that is full", p.id)
				}
			}
			dead.desk.most, dead.desk.busy = 1, 1
			change(stuck)
			source.desk.leave(b.link.agenda)
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			for {
				p, err := b.link.agenda.take(ctx)
				if err != nil {
					t.Fatal("nobody else was called")
				}
				if p == well {
					break
				}
				ended, end := context.WithCancel(ctx)
				end() // no search begins that asks anybody
				b.link.look(ended, p)
			}
			if _, ok := well.beginSearch(b.now); !ok {
				t.Error("who was called does not enter")
			}
		})
	}
}
