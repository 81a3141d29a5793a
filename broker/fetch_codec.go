package broker

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// encode makes the next request in s.out and reports whether it is a full one. What it tells the broker counts as told: if
// the request fails, so does the connection, and if the broker has lost the session, the next request is full.
func (s *FetchSession) encode(o FetchOptions) (full bool, err error) {
	limit := int16(math.MaxInt16)
	if s.noID > 0 {
		limit = 12
	}
	version, err := s.w.versions.pick(keyFetch, limit)
	if err != nil {
		return false, err
	}
	st := &s.session
	if version != st.version {
		st.version = version
		s.restart() // a session keeps to names or to ids
	}
	full = st.epoch == 0 || s.once || version < 7
	if full {
		s.touchAll()
	}
	st.corr++
	w := &s.out
	w.flex = version >= 12
	w.header(keyFetch, version, st.corr, s.w.clientID)
	if version <= 14 {
		w.int32(-1) // replica id: a consumer; from 15 on a tagged field
	}
	w.int32(int32(min(o.MaxWait.Milliseconds(), math.MaxInt32)))
	w.int32(o.MinBytes)
	w.int32(o.MaxBytes)
	w.int8(isolation(o.ReadCommitted))
	if version >= 7 {
		switch {
		case s.once:
			w.int32(0)
			w.int32(sessionOnce)
		default:
			w.int32(st.id)
			w.int32(st.epoch)
		}
	}
	s.encodeTopics(version)
	if version >= 7 {
		s.encodeForgotten(version, full)
	}
	if version >= 11 {
		w.text(o.Rack)
	}
	w.noTags()
	w.finish(0)
	return full, nil
}

func isolation(committed bool) int8 {
	if committed {
		return 1
	}
	return 0
}

// touchAll marks every partition, for a full request. The order of a map is random: where a broker without sessions fills
// its answer from the front, no partition starves.
func (s *FetchSession) touchAll() {
	s.clearDirty()
	for _, p := range s.parts {
		p.dirty, p.known = false, false
		s.touch(p)
	}
}

func (s *FetchSession) clearDirty() {
	for _, t := range s.dirty {
		clear(t.dirty)
		t.dirty = t.dirty[:0]
	}
	clear(s.dirty)
	s.dirty = s.dirty[:0]
}

// encodeTopics writes what changed.
func (s *FetchSession) encodeTopics(version int16) {
	for _, t := range s.dirty {
		t.dirty = slices.DeleteFunc(t.dirty, func(p *sessionPart) bool { return p.gone })
	}
	s.dirty = slices.DeleteFunc(s.dirty, func(t *sessionTopic) bool { return len(t.dirty) == 0 })
	w := &s.out
	w.count(len(s.dirty))
	for _, t := range s.dirty {
		s.encodeTopicName(version, t.name, t.id)
		w.count(len(t.dirty))
		for _, p := range t.dirty {
			encodePartition(w, version, p.want)
			p.dirty, p.known = false, true
		}
		w.noTags()
	}
	s.clearDirty()
}

func (s *FetchSession) encodeTopicName(version int16, name string, id TopicID) {
	if version >= 13 {
		s.out.id(id)
		return
	}
	s.out.text(name)
}

func encodePartition(w *writer, version int16, p FetchPartition) {
	w.int32(p.Partition)
	if version >= 9 {
		w.int32(p.LeaderEpoch)
	}
	w.int64(p.Offset)
	if version >= 12 {
		w.int32(p.LastFetchedEpoch)
	}
	if version >= 5 {
		w.int64(p.LogStart)
	}
	w.int32(p.MaxBytes)
	w.noTags()
}

// encodeForgotten writes what left the session; a full request replaces the session and needs none.
func (s *FetchSession) encodeForgotten(version int16, full bool) {
	w := &s.out
	gone := s.forgotten
	s.forgotten = s.forgotten[:0]
	if full {
		gone = nil
	}
	same := func(a, b FetchPartition) bool { return a.Topic == b.Topic && a.TopicID == b.TopicID }
	slices.SortFunc(gone, func(a, b FetchPartition) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), slices.Compare(a.TopicID[:], b.TopicID[:]), cmp.Compare(a.Partition, b.Partition))
	})
	topics := 0
	for i := range gone {
		if i == 0 || !same(gone[i-1], gone[i]) {
			topics++
		}
	}
	w.count(topics)
	for len(gone) > 0 {
		n := 1
		for n < len(gone) && same(gone[0], gone[n]) {
			n++
		}
		s.encodeTopicName(version, gone[0].Topic, gone[0].TopicID)
		w.count(n)
		for _, p := range gone[:n] {
			w.int32(p.Partition)
		}
		w.noTags()
		gone = gone[n:]
	}
}

// fetchAnswer is a decoded answer. parts and aborted are appended to; the batches alias the source.
type fetchAnswer struct {
	throttleMillis int32
	code           int16
	session        int32
	parts          []Fetched
	aborted        []Aborted
}

// What a topic and a partition of an answer take at least, whatever the version: bounds for counts.
const (
	minAnswerTopic     = 3
	minAnswerPartition = 4 + 2 + 8 + 8 + 1 + 1
)

// decode reads an answer, from after the correlation id on. find names the partition that was asked for; nil makes the answer an error.
func (a *fetchAnswer) decode(src []byte, version int16, find func(name []byte, id TopicID, partition int32) *sessionPart) error {
	in := reader{src: src, flex: version >= 12}
	in.tags(nil) // of the header
	a.throttleMillis = in.int32()
	if version >= 7 {
		a.code = in.int16()
		a.session = in.int32()
	}
	for range in.count(minAnswerTopic) {
		var name []byte
		var id TopicID
		if version >= 13 {
			id = in.id()
		} else {
			name = in.text()
		}
		for range in.count(minAnswerPartition) {
			f := a.partition(&in, version)
			if in.bad {
				break
			}
			p := find(name, id, f.Partition)
			if p == nil {
				return protocolErrorf("a fetch answer has partition %d of topic %q (id %x), which was not asked for, or twice", f.Partition, name, id)
			}
			f.Topic, f.TopicID = p.topic.name, id
			if e, ok := f.Err.(*PartitionError); ok {
				e.Topic = f.Topic
			}
			a.parts = append(a.parts, f)
		}
		in.tags(nil)
		if in.bad {
			break
		}
	}
	in.tags(nil) // the endpoints of new leaders: metadata tells those
	if in.bad || len(in.src) > 0 {
		return fmt.Errorf("decode an answer of %d bytes to fetch version %d: %w", len(src), version, ErrProtocol)
	}
	return nil
}

// partition reads one partition of an answer.
func (a *fetchAnswer) partition(in *reader, version int16) Fetched {
	f := Fetched{LogStart: -1, DivergingEpoch: -1, DivergingEnd: -1, Leader: -1, LeaderEpoch: -1, PreferredReplica: -1}
	f.Partition = in.int32()
	f.Err = partitionError("", f.Partition, in.int16(), "", "READ")
	f.HighWatermark = in.int64()
	f.LastStableOffset = in.int64()
	if version >= 5 {
		f.LogStart = in.int64()
	}
	first := len(a.aborted)
	for range in.count(16) {
		a.aborted = append(a.aborted, Aborted{in.int64(), in.int64()})
		in.tags(nil)
	}
	if len(a.aborted) > first { // a later append may move the array; what is cut off here stays as it is
		f.Aborted = a.aborted[first:len(a.aborted):len(a.aborted)]
	}
	if version >= 11 {
		f.PreferredReplica = in.int32()
	}
	f.Batches = in.bytes()
	in.tags(func(tag int, r *reader) {
		switch tag {
		case 0:
			f.DivergingEpoch, f.DivergingEnd = r.int32(), r.int64()
		case 1:
			f.Leader, f.LeaderEpoch = r.int32(), r.int32()
		}
	})
	return f
}
