package relay

import (
	"errors"
	"testing"
)

func TestPending(t *testing.T) {
	type step struct {
		do          string // push, settle, answered, take, done
		kind        kind
		correlation int32  // what is pushed, answered or taken
		ticket      uint64 // settle
		err         error
		none        bool // take
	}
	push := func(k kind, c int32) step { return step{do: "push", kind: k, correlation: c} }
	answered := func(c int32) step { return step{do: "answered", correlation: c} }
	take := func(c int32) step { return step{do: "take", correlation: c} }
	settle := func(ticket uint64, k kind) step { return step{do: "settle", ticket: ticket, kind: k} }
	done, nothing := step{do: "done"}, step{do: "take", none: true}
	fails := func(s step, err error) step { s.err = err; return s }
	for name, steps := range map[string][]step{
		"one after the other":         {push(forward, 7), answered(7), done, push(forward, 8), answered(8), done},
		"pipelined":                   {push(forward, 7), push(forward, 8), answered(7), done, answered(8), done},
		"equal correlation ids":       {push(forward, 0), push(forward, 0), answered(0), done, answered(0), done},
		"local at once":               {push(local, 7), take(7), done, nothing},
		"local waits its turn":        {push(forward, 7), push(local, 8), nothing, answered(7), nothing, done, take(8), done},
		"two locals":                  {push(local, 7), push(local, 8), take(7), nothing, done, take(8), done},
		"forward behind a local":      {push(local, 7), take(7), push(forward, 8), done, answered(8), done},
		"answer to nothing":           {fails(answered(7), errUnasked)},
		"wrong correlation id":        {push(forward, 7), push(forward, 8), fails(answered(8), errUnasked)},
		"answer twice":                {push(forward, 7), answered(7), fails(answered(7), errUnasked)},
		"answer to a local":           {push(local, 7), fails(answered(7), errUnasked)},
		"held, then forwarded":        {push(held, 7), fails(answered(7), errUnasked), settle(1, forward), answered(7), done},
		"held, then answered here":    {push(held, 7), nothing, settle(1, local), take(7), done},
		"none overtakes a held one":   {push(held, 7), fails(push(forward, 8), errOrder), push(held, 8), fails(settle(2, forward), errOrder), settle(1, forward), settle(2, forward), answered(7), done, answered(8), done},
		"behind a held one, held too": {push(held, 7), push(held, 8), settle(2, local), nothing, settle(1, local), take(7), done, take(8), done},
		"full":                        {push(forward, 1), push(forward, 2), push(forward, 3), push(forward, 4), fails(push(forward, 5), errFull), answered(1), done, push(forward, 5)},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPending(4, 100)
			for i, s := range steps {
				var o owed
				var err error
				ok := true
				switch s.do {
				case "push":
					_, err = p.push(owed{kind: s.kind, correlation: s.correlation})
				case "settle":
					err = p.settle(s.ticket, s.kind, nil)
				case "answered":
					o, err = p.answered(s.correlation)
				case "take":
					o, ok = p.take()
				case "done":
					p.done()
				}
				if !errors.Is(err, s.err) || ok == s.none && s.do == "take" {
					t.Fatalf("step %d (%s): %v, %v", i, s.do, ok, err)
				}
				if s.err == nil && !s.none && (s.do == "take" || s.do == "answered") && o.correlation != s.correlation {
					t.Fatalf("step %d (%s): passes %d", i, s.do, o.correlation)
				}
			}
		})
	}
}

func TestPending_BytesOfLocalAnswers(t *testing.T) {
	p := newPending(4, 100)
	if _, err := p.push(owed{kind: local, answer: make([]byte, 100)}); err != nil {
		t.Fatal(err)
	}
	if _, err := p.push(owed{kind: forward}); !errors.Is(err, errFull) {
		t.Errorf("behind 100 bytes: %v", err)
	}
	p.take()
	p.done()
	if !p.room() || p.bytes != 0 {
		t.Errorf("%d bytes are left", p.bytes)
	}
	if err := p.settle(9, local, nil); err == nil {
		t.Error("settled what is not there")
	}
	p.done() // nothing passes: no harm
}

// FuzzPending plays any steps against a plain list: what passes does so once, in the order in which it became due, and never before its
// answer is there.
func FuzzPending(f *testing.F) {
	f.Add([]byte{0, 1, 3, 4, 5, 3})
	f.Add([]byte{2, 2, 6, 7, 3, 5, 3, 5})
	f.Fuzz(func(t *testing.T, steps []byte) {
		p := newPending(5, 1000)
		var due []owed // the model
		next, passed := int32(0), int32(-1)
		pass := func(o owed) {
			if o.correlation != passed+1 {
				t.Fatalf("%d passes after %d", o.correlation, passed)
			}
			passed = o.correlation
		}
		for _, s := range steps {
			switch s % 8 {
			case 0, 1, 2:
				k := kind(s % 8)
				ticket, err := p.push(owed{kind: k, correlation: next, answer: make([]byte, s/8)})
				holds := false
				for _, o := range due {
					holds = holds || o.kind == held
				}
				if wrong := len(due) == 5 || k == forward && holds; wrong && err == nil {
					t.Fatalf("took one more behind %+v", due)
				}
				if err == nil {
					due = append(due, owed{kind: k, correlation: next, ticket: ticket})
					next++
				}
			case 3:
				p.done()
				if len(due) > 0 && due[0].correlation <= passed {
					due = due[1:]
				}
			case 4, 5:
				var o owed
				ok := false
				if s%8 == 4 {
					o, ok = p.take()
				} else if len(due) > 0 {
					var err error
					o, err = p.answered(due[0].correlation)
					ok = err == nil
				}
				if want := len(due) > 0 && due[0].correlation > passed && (s%8 == 4 && due[0].kind == local || s%8 == 5 && due[0].kind == forward); ok != want {
					t.Fatalf("passes %v, want %v of %+v", ok, want, due)
				}
				if ok {
					pass(o)
				}
			default:
				k := kind(s % 2)
				for i := range due {
					if due[i].kind == held {
						if err := p.settle(due[i].ticket, k, nil); err != nil {
							t.Fatalf("settle the oldest: %v", err)
						}
						due[i].kind = k
						break
					}
				}
			}
			bytes := 0
			for _, o := range p.queue {
				bytes += len(o.answer)
			}
			if len(p.queue) != len(due) || bytes != p.bytes {
				t.Fatalf("%d are due, the model has %d; %d bytes of %d", len(p.queue), len(due), p.bytes, bytes)
			}
		}
	})
}

func BenchmarkPending(b *testing.B) {
	p := newPending(64, 1<<20)
	b.ReportAllocs()
	for b.Loop() {
		for c := range int32(5) {
			_, _ = p.push(owed{correlation: c})
		}
		for c := range int32(5) {
			if _, err := p.answered(c); err != nil {
				b.Fatal(err)
			}
			p.done()
		}
	}
}
