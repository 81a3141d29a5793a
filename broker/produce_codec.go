package broker

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// errNoAnswer stands for a batch until the answer speaks of it.
var errNoAnswer = fmt.Errorf("%w: the answer does not speak of this partition", ErrProtocol)

// encode makes a request: the framing in p.out, and in p.pieces the framing and the batches in turn, for one vectored write.
func (p *ProduceConn) encode(batches []ProduceBatch) (version int16, err error) {
	limit := int16(math.MaxInt16)
	for i := range batches {
		if batches[i].TopicID == (TopicID{}) {
			limit = 12
			break
		}
	}
	if version, err = p.w.versions.pick(keyProduce, limit); err != nil {
		return 0, err
	}
	p.corr++
	w := &p.out
	w.flex = version >= 9
	w.header(keyProduce, version, p.corr, p.w.clientID)
	if w.flex {
		w.b = append(w.b, 0) // no transactional id
	} else {
		w.int16(-1)
	}
	w.int16(-1) // acks: all
	w.int32(int32(produceTimeout.Milliseconds()))

	topics := p.group(batches)
	w.count(topics)
	p.cuts = p.cuts[:0]
	extra := 0
	for rest := p.order; len(rest) > 0; {
		n := 1
		for n < len(rest) && sameTopic(&batches[rest[0]], &batches[rest[n]]) {
			n++
		}
		extra += p.encodeTopic(version, batches, rest[:n])
		rest = rest[n:]
	}
	w.noTags()
	w.finish(extra)
	p.cut(batches)
	return version, nil
}

func sameTopic(a, b *ProduceBatch) bool {
	return a.Topic == b.Topic && a.TopicID == b.TopicID
}

// group orders the indexes of the batches so that those of a topic are together, and counts the topics.
func (p *ProduceConn) group(batches []ProduceBatch) (topics int) {
	p.order = p.order[:0]
	for i := range batches {
		p.order = append(p.order, i)
	}
	slices.SortStableFunc(p.order, func(i, j int) int {
		a, b := &batches[i], &batches[j]
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), slices.Compare(a.TopicID[:], b.TopicID[:]))
	})
	for k, i := range p.order {
		if k == 0 || !sameTopic(&batches[p.order[k-1]], &batches[i]) {
			topics++
		}
	}
	return topics
}

// encodeTopic writes the framing of one topic, notes where the batches belong, and returns their length.
func (p *ProduceConn) encodeTopic(version int16, batches []ProduceBatch, indexes []int) (extra int) {
	w := &p.out
	first := &batches[indexes[0]]
	if version >= 13 {
		w.id(first.TopicID)
	} else {
		w.text(first.Topic)
	}
	w.count(len(indexes))
	for _, i := range indexes {
		b := &batches[i]
		w.int32(b.Partition)
		w.count(len(b.Bytes)) // a byte array has the length of an array: int32, or compact
		p.cuts = append(p.cuts, len(w.b))
		extra += len(b.Bytes)
		w.noTags()
	}
	w.noTags()
	return extra
}

// cut makes the pieces, once the framing has found its place in memory.
func (p *ProduceConn) cut(batches []ProduceBatch) {
	p.pieces = p.pieces[:0]
	from := 0
	for k, i := range p.order {
		to := p.cuts[k]
		p.pieces = append(p.pieces, p.out.b[from:to], batches[i].Bytes)
		from = to
	}
	p.pieces = append(p.pieces, p.out.b[from:])
}

// What a topic and a partition of an answer take at least, whatever the version: bounds for counts.
const (
	minProducedTopic     = 3
	minProducedPartition = 4 + 2 + 8 + 8
)

// decodeProduce reads an answer, from after the correlation id on, and fills in the results, which hold the batches of the request; those the answer does not speak of stay as
// they are. It returns the throttle time.
func decodeProduce(src []byte, version int16, results []ProduceResult) (throttleMillis int32, err error) {
	in := reader{src: src, flex: version >= 9}
	in.tags(nil) // of the header
	next := 0    // most brokers answer in the order of the request
	for range in.count(minProducedTopic) {
		var name []byte
		var id TopicID
		if version >= 13 {
			id = in.id()
		} else {
			name = in.text()
		}
		for range in.count(minProducedPartition) {
			var got ProduceResult
			partition, code, message := got.decode(&in, version)
			if in.bad {
				break
			}
			at := findResult(results, next, version, name, id, partition)
			if at < 0 {
				return 0, protocolErrorf("a produce answer has partition %d of topic %q (id %x), which was not sent, or twice", partition, name, id)
			}
			r := &results[at]
			got.Batch, got.Err = r.Batch, partitionError(r.Batch.Topic, partition, code, string(message), "WRITE")
			*r = got
			next = at + 1
		}
		in.tags(nil)
		if in.bad {
			break
		}
	}
	throttleMillis = in.int32()
	in.tags(nil) // the endpoints of new leaders: metadata tells those
	if in.bad || len(in.src) > 0 {
		return 0, fmt.Errorf("decode an answer of %d bytes to produce version %d: %w", len(src), version, ErrProtocol)
	}
	return throttleMillis, nil
}

// decode reads one partition of an answer.
func (r *ProduceResult) decode(in *reader, version int16) (partition int32, code int16, message []byte) {
	*r = ProduceResult{LogStart: -1, Leader: -1, LeaderEpoch: -1}
	partition = in.int32()
	code = in.int16()
	r.BaseOffset = in.int64()
	r.LogAppendTime = in.int64()
	if version >= 5 {
		r.LogStart = in.int64()
	}
	if version >= 8 {
		for range in.count(5) { // which records the broker refused, and why: the summary says enough
			in.int32()
			if m := in.text(); message == nil {
				message = m
			}
			in.tags(nil)
		}
		if m := in.text(); m != nil {
			message = m
		}
	}
	in.tags(func(tag int, t *reader) {
		if tag == 0 {
			r.Leader, r.LeaderEpoch = t.int32(), t.int32()
		}
	})
	return partition, code, message
}

// findResult looks for the batch that an answer speaks of, from the place after the last one on; -1 = none is left.
func findResult(results []ProduceResult, from int, version int16, name []byte, id TopicID, partition int32) int {
	for k := range results {
		i := (from + k) % len(results)
		b := &results[i].Batch
		if b.Partition != partition || results[i].Err != errNoAnswer {
			continue
		}
		if version >= 13 && b.TopicID == id || version < 13 && b.Topic == string(name) {
			return i
		}
	}
	return -1
}
