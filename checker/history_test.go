package checker

import (
	"fmt"
	"math/rand/v2"
	"slices"
)

// history is a whole run, as an Input, that mutations can be made to.
type history struct {
	Input
	rnd *rand.Rand
}

// partitionsOf is the number of partitions of every topic in the histories.
const partitionsOf = 2

var topics = []string{"orders", "payments"}

// produce makes the log of an origin: its own records with holes between the offsets, and
// now and then a record that its producer wrote twice.
func produce(r *rand.Rand, origin string, n int) Log {
	l := Log{Cluster: origin}
	next := map[place]int64{}
	add := func(rec Record) {
		at := place{topic: rec.Topic, partition: rec.Partition}
		rec.Offset = next[at]
		next[at] += 1 + r.Int64N(2)
		l.Records = append(l.Records, rec)
	}
	for i := range n {
		uid := fmt.Sprintf("%s-%06d", origin, i)
		rec := Record{
			Topic: topics[r.IntN(len(topics))], Partition: r.Int32N(partitionsOf),
			Timestamp: 1_700_000_000_000 + int64(i), UID: uid, Origin: origin,
		}
		rec.Hash = Hash([]byte(uid), []byte("value"), nil, rec.Timestamp)
		if n := i / 5; n%7 == 0 && n > 0 { // transactions of five, over all topics and partitions
			rec.Txn = fmt.Sprintf("%s-txn-%d", origin, n)
			add(rec)
			continue
		}
		add(rec)
		if r.IntN(20) == 0 {
			add(rec)
		}
	}
	return l
}

// interleave merges logs into one at random, keeping the order of each, as a target log
// of cluster with the copies marked by the link they came over.
func interleave(r *rand.Rand, cluster string, via map[string]string, logs ...Log) []Record {
	var out []Record
	rest := make([][]Record, len(logs))
	for i, l := range logs {
		rest[i] = l.Records
	}
	for {
		rest = slices.DeleteFunc(rest, func(r []Record) bool { return len(r) == 0 })
		if len(rest) == 0 {
			return renumber(out)
		}
		i := r.IntN(len(rest))
		rec := rest[i][0]
		rest[i] = rest[i][1:]
		if rec.Origin != cluster {
			rec.Via = via[rec.Origin]
		}
		out = append(out, rec)
	}
}

// renumber gives the records of each partition offsets in their order, with holes.
func renumber(recs []Record) []Record {
	next := map[place]int64{}
	out := slices.Clone(recs)
	for i := range out {
		at := place{topic: out[i].Topic, partition: out[i].Partition}
		out[i].Offset = next[at]
		next[at] += 1 + int64(len(out[i].UID))%2
	}
	return out
}

// oneWay is a link a to b.
func oneWay(seed uint64) history {
	r := rand.New(rand.NewPCG(seed, 1))
	a := produce(r, "a", 300)
	for i := range a.Records {
		a.Records[i].TimestampType = 1 // kept as the producer's time on the target
	}
	h := history{rnd: r}
	h.Config = Config{Cluster: "b", Reread: true}
	h.Sources = []Log{a}
	h.Target = interleave(r, "b", map[string]string{"a": "a"}, a)
	for i := range h.Target {
		h.Target[i].TimestampType = 0
	}
	return h
}

// bothWays is a and b with links both ways and writes to the same topics on both sides.
func bothWays(seed uint64) history {
	r := rand.New(rand.NewPCG(seed, 2))
	a, b := produce(r, "a", 200), produce(r, "b", 200)
	atA := interleave(r, "a", map[string]string{"b": "b"}, a, b)
	atB := interleave(r, "b", map[string]string{"a": "a"}, a, b)
	h := history{rnd: r}
	h.Config = Config{Cluster: "b", Reread: true, ClientsRepeat: true}
	h.Sources = []Log{{"a", atA}, {"b", atB}}
	h.Target = slices.Clone(atB)
	return h
}

// mesh is a, b, c and d; a comes to d by way of b.
func mesh(seed uint64) history {
	r := rand.New(rand.NewPCG(seed, 3))
	a, b, c, d := produce(r, "a", 100), produce(r, "b", 100), produce(r, "c", 100), produce(r, "d", 100)
	direct := map[string]string{"a": "a", "b": "b", "c": "c", "d": "d"}
	hub := map[string]string{"a": "b", "b": "b", "c": "c"}
	atD := interleave(r, "d", hub, a, b, c, d)
	h := history{rnd: r}
	h.Config = Config{Cluster: "d", Reread: true, ClientsRepeat: true}
	h.Sources = []Log{
		{"a", interleave(r, "a", direct, a, b, c)},
		{"b", interleave(r, "b", direct, a, b, c)},
		{"c", interleave(r, "c", direct, a, b, c)},
		{"d", atD},
	}
	h.Target = slices.Clone(atD)
	return h
}

// source returns the truth's record of a copy: its own origin's, not a copy there.
func (h *history) source(uid, origin string) Record {
	for _, l := range h.Sources {
		if l.Cluster != origin {
			continue
		}
		for _, r := range l.Records {
			if r.UID == uid && r.Origin == origin {
				return r
			}
		}
	}
	panic("no source record " + uid)
}

// pick returns the index in the target of a copy that occurs once and whose partition has
// another of its origin, that occurs once too, right behind it; and the index of that.
func (h *history) pick() (i, next int) {
	count := map[string]int{}
	for _, r := range h.Target {
		count[r.UID]++
	}
	for {
		i := h.rnd.IntN(len(h.Target))
		r := h.Target[i]
		if r.Origin == h.Config.Cluster || r.Txn != "" || count[r.UID] > 1 {
			continue
		}
		for j := i + 1; j < len(h.Target); j++ {
			n := h.Target[j]
			if n.Origin != r.Origin || n.Topic != r.Topic || n.Partition != r.Partition {
				continue
			}
			if count[n.UID] == 1 {
				return i, j
			}
			break
		}
	}
}

// insert puts a record into the target somewhere behind i.
func (h *history) insert(i int, r Record) {
	h.Target = slices.Insert(slices.Clone(h.Target), i+1+h.rnd.IntN(len(h.Target)-i), r)
}

// missingOne says that one record of a source is missing.
func missingOne(s Record) Range {
	return Range{Cluster: s.Origin, Topic: s.Topic, Partition: s.Partition, Life: s.Life, First: s.Offset, Last: s.Offset}
}

// tear removes a copy whose transaction has others.
func (h *history) tear() {
	others := map[string]int{}
	for _, r := range h.Target {
		others[r.Txn]++
	}
	for {
		i := h.rnd.IntN(len(h.Target))
		if r := h.Target[i]; r.Origin != h.Config.Cluster && r.Txn != "" && others[r.Txn] > 1 {
			h.Target = slices.Delete(h.Target, i, i+1)
			return
		}
	}
}

// lastOf is the index of the last copy in the partition of r that is of its origin.
func (h *history) lastOf(r Record) int {
	for i := len(h.Target) - 1; ; i-- {
		if n := h.Target[i]; n.Origin == r.Origin && n.Topic == r.Topic && n.Partition == r.Partition {
			return i
		}
	}
}

// cutEnd removes the last copy of a partition, whose transaction is not torn by that.
func (h *history) cutEnd() {
	for {
		i, _ := h.pick()
		last := h.lastOf(h.Target[i])
		if h.Target[last].Txn != "" {
			continue
		}
		uid := h.Target[last].UID
		h.Target = slices.DeleteFunc(h.Target, func(r Record) bool { return r.UID == uid })
		return
	}
}

// lose makes a source forget a record that its producer knows as acknowledged, and all that is behind it there, and returns its range. What was
// behind it is taken from the target as well.
func (h *history) lose(r Record, life int32) Range {
	s := h.source(r.UID, r.Origin)
	behind := func(n Record) bool {
		return n.Origin == s.Origin && n.Topic == s.Topic && n.Partition == s.Partition && n.UID != s.UID && h.source(n.UID, n.Origin).Offset > s.Offset
	}
	h.Target = slices.DeleteFunc(slices.Clone(h.Target), behind)
	for i := range h.Sources {
		h.Sources[i].Records = slices.DeleteFunc(slices.Clone(h.Sources[i].Records), func(n Record) bool {
			at := n.Origin == s.Origin && n.Topic == s.Topic && n.Partition == s.Partition
			return h.Sources[i].Cluster == s.Origin && at && n.Offset >= s.Offset
		})
	}
	h.Produced = append(h.Produced, Produced{s.Origin, s, Acked})
	h.Truncated = append(h.Truncated, Truncation{Cluster: s.Origin, Topic: s.Topic, Partition: s.Partition, Life: life - 1, From: s.Offset})
	return missingOne(s)
}

// stand has groups at some offsets of the log of a cluster, and each at the target where all is before it that it has read, and nothing else
// that could come later.
func (h *history) stand(cluster string) {
	var log []Record
	for _, l := range h.Sources {
		if l.Cluster == cluster {
			log = l.Records
		}
	}
	h.Hops = append(h.Hops, Log{cluster, log})
	for _, topic := range topics {
		for partition := range int32(partitionsOf) {
			var ends int64
			for _, r := range log {
				if r.Topic == topic && r.Partition == partition {
					ends = r.Offset + 1
				}
			}
			for i := range 8 {
				p := Position{Group: fmt.Sprintf("g%d", i), Cluster: cluster, Topic: topic, Partition: partition, Source: h.rnd.Int64N(ends + 1)}
				p.Target, p.End = h.stands(log, p)
				h.Positions = append(h.Positions, p)
			}
		}
	}
}

// stands says by looking at every record where a position is at the target, and where the log there ends.
func (h *history) stands(log []Record, p Position) (at, end int64) {
	unread := map[string]int{} // the times that records which are read more than once are not
	total := map[string]int{}
	for _, r := range log {
		if r.Topic == p.Topic && r.Partition == p.Partition {
			total[r.UID]++
			if r.Offset >= p.Source {
				unread[r.UID]++
			}
		}
	}
	at = -1
	seen := map[string]int{}
	for _, r := range h.Target {
		if r.Topic != p.Topic || r.Partition != p.Partition {
			continue
		}
		end = r.Offset + 1
		seen[r.UID]++
		if at < 0 && unread[r.UID] > 0 && seen[r.UID] > total[r.UID]-unread[r.UID] {
			at = r.Offset
		}
	}
	if at < 0 {
		at = end
	}
	return at, end
}

// between is a position at the target, and two records before and two behind it; those beside it are in the log of a, and not repeated.
func (h *history) between() (*Position, []Record) {
	h.stand("a")
	count, read := map[string]int{}, map[string]bool{}
	for _, r := range h.Target {
		count[r.UID]++
	}
	for _, r := range h.Hops[0].Records {
		read[r.UID] = true
	}
	for i := range h.Positions {
		p := &h.Positions[i]
		var around []Record
		for _, r := range h.Target {
			if r.Topic == p.Topic && r.Partition == p.Partition {
				around = append(around, r)
			}
		}
		at := slices.IndexFunc(around, func(r Record) bool { return r.Offset >= p.Target })
		if at > 2 && at+2 < len(around) && !slices.ContainsFunc(around[at-1:at+1], func(r Record) bool { return count[r.UID] > 1 || !read[r.UID] }) {
			return p, around[at-2 : at+2]
		}
	}
	panic("no such position")
}

// again copies a record once more, to the end of the target's log, as its ledger says. It returns where that ends then.
func (h *history) again(r Record) (end int64) {
	repeated := missingOne(h.source(r.UID, r.Origin))
	repeated.Kind = Repeated
	h.Ledger = append(h.Ledger, repeated)
	h.Target = renumber(append(slices.Clone(h.Target), r))
	end = h.Target[len(h.Target)-1].Offset + 1
	for i := range h.Positions {
		h.Positions[i].End = max(h.Positions[i].End, end)
	}
	return end
}

// twice has the log that groups have read hold a record once more, at its end.
func (h *history) twice(r Record) {
	log := &h.Hops[0]
	log.Records = slices.Clone(log.Records)
	r.Offset = 0
	for _, n := range log.Records {
		if n.Topic == r.Topic && n.Partition == r.Partition {
			r.Offset = max(r.Offset, n.Offset+1)
		}
	}
	log.Records = append(log.Records, r)
}

// anew says that the topics of some origins were made anew since.
func (h *history) anew(which func(origin string) bool) {
	for _, l := range h.Sources {
		for _, topic := range topics {
			if which(l.Cluster) {
				h.Remade = append(h.Remade, Remaking{Cluster: l.Cluster, Topic: topic, Life: 1})
			}
		}
	}
}

// former says that the topic of a record was made anew at its origin after it: what is behind it there is of the next life.
func (h *history) former(last Record) {
	at := h.source(last.UID, last.Origin).Offset
	for i := range h.Sources {
		h.Sources[i].Records = slices.Clone(h.Sources[i].Records) // others read the log as it is
		for j := range h.Sources[i].Records {
			r := &h.Sources[i].Records[j]
			if h.Sources[i].Cluster == last.Origin && r.Topic == last.Topic && (r.Partition != last.Partition || r.Offset > at) {
				r.Life = 1
			}
		}
	}
	h.Remade = append(h.Remade, Remaking{Cluster: last.Origin, Topic: last.Topic, Life: 1})
	h.Ledger = append(h.Ledger, Range{Cluster: last.Origin, Topic: last.Topic, Partition: last.Partition, First: at + 1, Last: at + 1, Kind: Recreated})
}

// next is where the record of the same origin that is behind one lies in the log that groups have read, or the end of all.
func (h *history) next(after Record) int64 {
	behind := false
	for _, r := range h.Hops[0].Records {
		if r.Topic != after.Topic || r.Partition != after.Partition || r.Origin != after.Origin {
			continue
		}
		if behind {
			return r.Offset
		}
		behind = r.UID == after.UID
	}
	return 1 << 40
}
