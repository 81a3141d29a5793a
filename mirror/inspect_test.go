package mirror

import (
	"testing"
	"time"
)

// poisonedBench has so many partitions that are halted before a batch that cannot be read, and due to be looked at.
func poisonedBench(t *testing.T, partitions int32) (*bench, []*pump) {
	b := newBench(t)
	f := b.pump.flow
	f.grow(int(partitions))
	b.link.flows["orders"] = f
	var pumps []*pump
	for i := range partitions {
		id := b.pump.id
		id.Partition = i
		p := b.link.newPump(f, Checkpoint{Pump: id, SourceEpoch: -1, TargetEpoch: -1, TargetLast: -1})
		p.led(b.pump.fetcher, b.pump.window, 0, 0, 0, b.now)
		f.put(p)
		p.mu.Lock()
		p.haltBeforeLocked(&poisoned{cause: CausePoison, last: -1, detail: "for a test"}, b.now)
		p.mu.Unlock()
		pumps = append(pumps, p)
	}
	b.now = b.now.Add(time.Minute)
	return b, pumps
}

// Looking at bad records means reading the source: partitions of a broker that does not answer must not keep all workers busy with it.
func TestInspection_LeavesWorkersForOtherBrokers(t *testing.T) {
	b, pumps := poisonedBench(t, 12)
	var looks []inspection
	for _, p := range pumps {
		if in, due, _ := p.beginInspection(b.now); due {
			looks = append(looks, in)
		}
	}
	if n := len(looks); n == 0 || n >= b.link.cfg.Workers {
		t.Fatalf("%d looks at one broker at a time, of %d workers", n, b.link.cfg.Workers)
	}
	b.link.agenda = newAgenda()
	looks[0].desks.leave(b.link.agenda)
	next, err := b.link.agenda.take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, due, _ := next.beginInspection(b.now); !due {
		t.Errorf("%s does not take the place that is free", next.id)
	}
}

// A broker that is known to be away is not asked for bad records either; with it they are looked at at once.
func TestInspection_WaitsForItsBroker(t *testing.T) {
	b, pumps := poisonedBench(t, 1)
	p := pumps[0]
	p.fetcher.down.Store(true)
	for range 10 {
		if _, due, mine := p.beginInspection(b.now); due || !mine {
			t.Fatalf("a look at a broker that is away: due %v, its own %v", due, mine)
		}
		b.now = b.now.Add(time.Minute)
	}
	if p.state != StateHalted || !p.fetcher.warmed {
		t.Errorf("it is %s, a connection is wanted: %v", p.state, p.fetcher.warmed)
	}
	p.laterLocked(time.Minute, b.now)
	p.fetcher.up()
	b.link.resume(nil, p.fetcher)
	if _, due, _ := p.beginInspection(b.now); !due || p.futile {
		t.Error("its broker is back, and it is not looked at")
	}
}
