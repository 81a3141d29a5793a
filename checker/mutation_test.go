package checker

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// mutation makes a clean history bad in one way, on the target's side only.
type mutation struct {
	name string
	rule Rule
	do   func(h *history)
}

// edit returns a mutation that changes one copy.
func edit(f func(h *history, r *Record)) func(*history) {
	return func(h *history) {
		i, _ := h.pick()
		f(h, &h.Target[i])
	}
}

var mutations = []mutation{
	{"record is not there", Lost, func(h *history) {
		i, _ := h.pick()
		h.Target = slices.Delete(h.Target, i, i+1)
	}},
	{"source's own duplicate is removed", Lost, func(h *history) {
		for i, r := range h.Target {
			if r.Origin == h.Config.Cluster {
				continue
			}
			for j := i + 1; j < len(h.Target); j++ {
				if h.Target[j].UID == r.UID {
					h.Target = slices.Delete(h.Target, j, j+1)
					h.Config.Complete = true
					return
				}
			}
		}
	}},
	{"ledger names the record beside the one that is missing", Dishonest, func(h *history) {
		i, next := h.pick()
		for _, at := range []int{i, next} {
			s := h.source(h.Target[at].UID, h.Target[at].Origin)
			h.Ledger = append(h.Ledger, missingOne(s))
		}
		h.Target = slices.Delete(h.Target, i, i+1)
	}},
	{"record is there twice", Duplicate, func(h *history) {
		i, _ := h.pick()
		h.insert(i, h.Target[i])
	}},
	{"record is there three times", Duplicate, func(h *history) {
		i, _ := h.pick()
		h.insert(i, h.Target[i])
		h.insert(i, h.Target[i])
	}},
	{"two records changed places", Reorder, func(h *history) {
		i, j := h.pick()
		h.Target[i], h.Target[j] = h.Target[j], h.Target[i]
	}},
	{"record that nobody produced", Phantom, func(h *history) {
		i, _ := h.pick()
		r := h.Target[i]
		r.UID = "made-up"
		h.insert(i, r)
	}},
	{"record of an aborted transaction", Phantom, func(h *history) {
		i, _ := h.pick()
		r := h.Target[i]
		r.UID = "aborted"
		h.Produced = append(h.Produced, Produced{r.Origin, r, Aborted})
		h.insert(i, r)
	}},
	{"record in doubt that the source does not have", Phantom, func(h *history) {
		i, _ := h.pick()
		r := h.Target[i]
		r.UID, r.Offset = "doubt", -1
		h.Produced = append(h.Produced, Produced{r.Origin, r, InDoubt})
		h.insert(i, r)
	}},
	{"record of a topic that is not mirrored here", Phantom, func(h *history) {
		i, _ := h.pick()
		one := h.Target[i]
		h.Config.Carries = func(origin, topic string) bool { return origin != one.Origin || topic != one.Topic }
		h.Target = slices.DeleteFunc(h.Target, func(r Record) bool {
			return r.Origin == one.Origin && r.Topic == one.Topic && r.UID != one.UID
		})
	}},
	{"contents", Corrupt, edit(func(_ *history, r *Record) { r.Hash[3] ^= 1 })},
	{"time", Corrupt, edit(func(_ *history, r *Record) { r.Timestamp++ })},
	{"time type", Corrupt, func(h *history) {
		for i := range h.Sources { // a source whose times are the producers'
			for j := range h.Sources[i].Records {
				h.Sources[i].Records[j].TimestampType = 0
			}
		}
		edit(func(_ *history, r *Record) { r.TimestampType = 1 })(h)
	}},
	{"partition", Corrupt, edit(func(_ *history, r *Record) { r.Partition = 1 - r.Partition })},
	{"copy in another partition", Corrupt, func(h *history) {
		i, _ := h.pick()
		r := h.Target[i]
		r.Partition = 1 - r.Partition
		h.insert(i, r)
	}},
	{"origin", Corrupt, edit(func(h *history, r *Record) { r.Origin = "elsewhere" })},
	{"topic", Misrouted, edit(func(_ *history, r *Record) { r.Topic = otherTopic(r.Topic) })},
	{"copy in another topic", Misrouted, func(h *history) {
		i, _ := h.pick()
		r := h.Target[i]
		r.Topic = otherTopic(r.Topic)
		h.insert(i, r)
	}},
	{"record of a transaction is not there", Torn, func(h *history) {
		h.Config.Complete = true
		h.tear()
	}},
	{"record of a transaction is not there, at quiescence", Torn, func(h *history) {
		h.Config.Idle, h.Config.StallAfter = time.Minute, time.Minute
		h.tear()
	}},
	{"the end of a log is not there", Stall, func(h *history) {
		h.Config.Idle, h.Config.StallAfter = time.Minute, time.Minute
		h.cutEnd()
	}},
	{"record that the source lost is kept, and not in the ledger", Dishonest, func(h *history) {
		i, _ := h.pick()
		h.lose(h.Target[i], 1)
	}},
	{"ledger says that a record outlived its source, which has it", Dishonest, func(h *history) {
		i, _ := h.pick()
		e := missingOne(h.source(h.Target[i].UID, h.Target[i].Origin))
		e.Kind = Survived
		h.Ledger = append(h.Ledger, e)
	}},
	{"ledger says that a record outlived its source, and it is nowhere", Dishonest, func(h *history) {
		i, _ := h.pick()
		e := h.lose(h.Target[i], 1)
		e.Kind = Survived
		h.Ledger = append(h.Ledger, e)
		h.Target = slices.Delete(h.Target, i, i+1)
	}},
	{"record of an earlier life comes late", Reorder, func(h *history) {
		i, _ := h.pick()
		last := h.lastOf(h.Target[i])
		for n := range h.Sources { // all but the first of the two are those of a log that began anew
			for m := range h.Sources[n].Records {
				if r := &h.Sources[n].Records[m]; r.UID == h.Target[last].UID && r.Origin == h.Target[last].Origin {
					r.Life = 1
				}
			}
		}
		r := h.Target[i]
		h.Target = slices.Insert(slices.Clone(h.Target), last+1, r)
		h.Target = slices.Delete(h.Target, i, i+1)
	}},
	{"offset has another record later", Unstable, func(h *history) {
		h.Target = renumber(h.Target)
		h.Reread = slices.Clone(h.Target)
		h.Reread[h.rnd.IntN(len(h.Reread))].UID = "another"
	}},
	{"offset has other contents later", Unstable, func(h *history) {
		h.Target = renumber(h.Target)
		h.Reread = slices.Clone(h.Target)
		h.Reread[h.rnd.IntN(len(h.Reread))].Hash[0] ^= 1
	}},
	{"hole has a record later", Unstable, func(h *history) {
		h.Target = renumber(h.Target)
		h.Reread = slices.Clone(h.Target)
		i, _ := h.pick()
		for !slices.ContainsFunc(h.Target[:i], func(r Record) bool { return r.Topic == h.Target[i].Topic && r.Partition == h.Target[i].Partition }) {
			i, _ = h.pick() // before the first of a log is no hole
		}
		h.Target = slices.Delete(h.Target, i, i+1)
		s := h.source(h.Reread[i].UID, h.Reread[i].Origin)
		h.Ledger = append(h.Ledger, missingOne(s))
	}},
	{"record came home", Loop, func(h *history) {
		i, _ := h.pick()
		r := h.Target[i]
		r.Origin, r.Via, r.UID = h.Config.Cluster, "a", "home"
		h.insert(i, r)
	}},
	{"record came home, link unknown", Loop, func(h *history) {
		i, _ := h.pick()
		r := h.Target[i]
		r.Origin, r.Via, r.UID = h.Config.Cluster, "", "home"
		h.Config.ClientsRepeat = false
		h.Target = slices.DeleteFunc(h.Target, func(r Record) bool { return r.Origin == h.Config.Cluster })
		h.insert(i%len(h.Target), r)
		h.insert(0, r)
	}},
	{"record came over two links", Loop, func(h *history) {
		i, _ := h.pick()
		r := h.Target[i]
		r.Via = "elsewhere"
		h.insert(i, r)
	}},
	{"group skips a record", Mistranslated, func(h *history) {
		p, around := h.between()
		p.Target = around[3].Offset
	}},
	{"group reads a record again", Mistranslated, func(h *history) {
		p, around := h.between()
		p.Target = around[1].Offset
	}},
	{"group beyond the end", Mistranslated, func(h *history) {
		h.stand("a")
		h.Positions[0].Target = h.Positions[0].End + 1
	}},
	{"group without a position", Mistranslated, func(h *history) {
		h.stand("a")
		h.Positions[0].Target = -1
	}},
	{"group goes back alone", Mistranslated, func(h *history) {
		p, around := h.between()
		later := *p // at the next record, and where nothing but others' records is before what it has not read
		h.Positions = []Position{later, *p}
		h.Positions[0].Target = around[2].Offset
		h.Positions[1].Target = around[1].Offset + 1
		if around[1].Offset+1 == around[2].Offset { // no hole to go back over
			h.Config.Rereads, h.Positions[1].Target = 1, around[1].Offset
		}
	}},
	{"group skips all copies of what was copied again", Mistranslated, func(h *history) {
		p, around := h.between()
		p.Target = h.again(around[2])
	}},
	{"group reads again what was not copied again", Mistranslated, func(h *history) {
		p, around := h.between()
		h.again(around[2])
		p.Target = around[1].Offset
	}},
	{"group reads again what is before all that came here twice", Mistranslated, func(h *history) {
		p, around := h.between()
		h.twice(around[1])
		p.Target = 0
	}},
	{"group skips what came here once and there twice", Mistranslated, func(h *history) {
		p, around := h.between()
		h.twice(around[2])
		p.Target = around[3].Offset
	}},
	{"group skips what its origin has no longer", Mistranslated, func(h *history) {
		p, around := h.between()
		h.anew(func(string) bool { return true })
		h.Hops, h.Apart = nil, h.Hops
		p.Target = around[3].Offset
	}},
	{"group without a position where nothing is of a former log", Mistranslated, func(h *history) {
		p, _ := h.between()
		h.Hops, h.Apart = nil, h.Hops
		p.Target = -1
	}},
	{"group without a position where all passed on its way here", Mistranslated, func(h *history) {
		p, _ := h.between()
		h.anew(func(string) bool { return true })
		p.Target = -1
	}},
	{"group without a position that has read all of the former log", Mistranslated, func(h *history) {
		p, around := h.between()
		h.former(around[1])
		h.Positions = []Position{*p}
		h.Positions[0].Source, h.Positions[0].Target = h.next(around[1]), -1
		h.Hops, h.Apart = nil, h.Hops
	}},
	{"group skips what the log begins with", Mistranslated, func(h *history) {
		p, around := h.between()
		p.Start, p.Target = around[2].Offset, around[3].Offset
	}},
	{"group before the beginning of the log reads again what it begins with", Mistranslated, func(h *history) {
		p, around := h.between()
		p.Start, p.Target = around[1].Offset, 0
	}},
	{"group of active members is moved", Mistranslated, func(h *history) {
		p, around := h.between()
		p.Active, p.Own, p.Target = true, around[3].Offset, around[2].Offset
	}},
}

func otherTopic(topic string) string {
	if topic == topics[0] {
		return topics[1]
	}
	return topics[0]
}

var histories = []struct {
	name string
	make func(seed uint64) history
}{{"one way", oneWay}, {"both ways", bothWays}, {"mesh", mesh}}

// Every mutation of every clean history is found, by its own rule and by no other. Its
// offsets in the target are given anew, as what is judged is what the log holds.
func TestCheck_MutationScore(t *testing.T) {
	caught := map[Rule]bool{}
	for _, hist := range histories {
		for _, m := range mutations {
			t.Run(fmt.Sprintf("%s/%s", hist.name, m.name), func(t *testing.T) {
				for seed := range uint64(10) {
					h := hist.make(seed)
					m.do(&h)
					if h.Reread == nil {
						h.Target = renumber(h.Target)
					}
					r, err := Check(h.Input)
					if err != nil {
						t.Fatal(err)
					}
					if got := r.Violated(); !slices.Equal(got, []Rule{m.rule}) {
						t.Fatalf("seed %d: violated %v, want %v\n%v", seed, got, m.rule, r)
					}
					for _, e := range r.Findings[m.rule].Examples {
						if e.UID == "" || e.Topic == "" || e.Detail == "" {
							t.Errorf("example %+v", e)
						}
					}
					caught[m.rule] = true
				}
			})
		}
	}
	for rule := range rules {
		if !caught[rule] {
			t.Errorf("no mutation for %v", rule)
		}
	}
}

func TestCheck_CleanHistories(t *testing.T) {
	for _, hist := range histories {
		for _, mode := range []Mode{ExactlyOnce, AtLeastOnce} {
			for seed := range uint64(20) {
				h := hist.make(seed)
				h.Config.Mode, h.Config.Complete = mode, true
				h.Reread = h.Target
				h.stand("a")
				moved := h.Positions[0]
				moved.Active, moved.Own, moved.Target = true, 3, 3 // wherever that is
				h.Positions = append(h.Positions, moved)
				r, err := Check(h.Input)
				if err != nil {
					t.Fatal(err)
				}
				if !r.OK() || r.Expected == 0 || r.Copied != r.Expected || r.Pending != 0 || r.Positions != 4*8+1 {
					t.Errorf("%s, seed %d: %v", hist.name, seed, r)
				}
			}
		}
	}
}

// What repeats, deletions and topics that were made anew leave open is no fault: a group may stand at any copy of what was copied again, where the
// first unread record was before it was deleted, and nowhere before what came on a way of its own from a log that is no more.
func TestCheck_PositionsOfDamagedLogs(t *testing.T) {
	for name, do := range map[string]func(h *history, p *Position, around []Record){
		"at the first copy": func(h *history, _ *Position, around []Record) { h.again(around[2]) },
		"behind the first copy": func(h *history, p *Position, around []Record) {
			h.again(around[2])
			p.Target = around[2].Offset + 1
		},
		"at the copy of what came there twice": func(h *history, p *Position, around []Record) {
			h.twice(around[1])
			p.Target = around[1].Offset
		},
		"behind the copy of what came there twice": func(h *history, _ *Position, around []Record) { h.twice(around[1]) },
		"at what was deleted": func(_ *history, p *Position, around []Record) {
			p.Start = around[2].Offset + 1
		},
		"behind what was deleted": func(_ *history, p *Position, around []Record) {
			p.Start, p.Target = around[2].Offset+1, around[2].Offset+1
		},
		"nowhere, all being of former logs": func(h *history, p *Position, _ []Record) {
			h.anew(func(string) bool { return true })
			h.Hops, h.Apart = nil, h.Hops
			p.Target = -1
		},
		"nowhere before what is of a former log": func(h *history, p *Position, around []Record) {
			h.former(around[2])
			h.Hops, h.Apart = nil, h.Hops
			p.Target = -1
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, hist := range histories {
				for seed := range uint64(10) {
					h := hist.make(seed)
					p, around := h.between()
					h.Positions = []Position{*p}
					do(&h, &h.Positions[0], around)
					if r, err := Check(h.Input); err != nil || !r.OK() || r.Positions == 0 {
						t.Errorf("%s, seed %d: %v, %v", hist.name, seed, r, err)
					}
				}
			}
		})
	}
}

// A mesh of which every cluster is judged with one truth.
func TestTarget_SeveralShareOneTruth(t *testing.T) {
	h := mesh(1)
	src := NewSources()
	for _, l := range h.Sources {
		for _, r := range l.Records {
			if err := src.Add(l.Cluster, r); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, l := range h.Sources {
		target := src.Target(Config{Cluster: l.Cluster, Complete: true, ClientsRepeat: true,
			Carries: func(origin, _ string) bool { return origin != "d" }})
		for _, r := range l.Records {
			if err := target.Add(r); err != nil {
				t.Fatal(err)
			}
		}
		if r := target.Report(); !r.OK() || r.Copied == 0 || r.Own == 0 {
			t.Errorf("%s: %v", l.Cluster, r)
		}
	}
}
