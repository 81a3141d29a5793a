package broker

import (
	"encoding/binary"
	"fmt"

	"github.com/isthmus-project/isthmus/broker/batch"
)

// What is in __consumer_offsets. A key begins with the type of the record (before Kafka 4 called the key's version), a value with the
// version of its encoding; all is big endian. Read here:
//
//	0, 1   key    group string, topic string, partition int32
//	       value  0      offset int64, metadata string, commit time int64
//	              1      and expire time int64
//	              2      as 0
//	              3      offset int64, leader epoch int32, metadata string, commit time int64
//	              4      the same with compact strings, and tags: 0 is the topic's id
//	2 …    key    group string, and for some what it is of the group; values are not read
//
// No value is a tombstone: what the key names is gone. (OffsetCommitKey.json, OffsetCommitValue.json and their neighbours in the
// group-coordinator of Kafka 4.3.)

// CommitKind is what a record of the log of commits says.
type CommitKind uint8

const (
	// Committed is a group's position in a partition, which is in Offset and what follows it.
	Committed CommitKind = iota + 1
	// Uncommitted is the end of one: it was deleted, expired, or went with its group.
	Uncommitted
	// GroupChanged is anything else about a group: members, assignments, its state, or a position in an encoding that is not known here.
	GroupChanged
	// GroupEnded is the end of a group of Type. One of another type may go on under the same name.
	GroupEnded
)

// String is the kind in lower case.
func (k CommitKind) String() string {
	switch k {
	case Committed:
		return "committed"
	case Uncommitted:
		return "uncommitted"
	case GroupChanged:
		return "group changed"
	case GroupEnded:
		return "group ended"
	}
	return "unknown"
}

// Commit is one record of the log of commits.
type Commit struct {
	Kind        CommitKind
	Group       string
	Type        GroupType // of GroupChanged and GroupEnded; empty where only an offset changed
	At          int64     // the record's own offset in the log of commits
	Topic       string    // of Committed and Uncommitted, as the rest
	Partition   int32
	Offset      int64
	LeaderEpoch int32   // -1 unknown
	TopicID     TopicID // zero: written before Kafka 4.1, or by a client that does not know ids
	Metadata    string
	Time        int64 // of the commit, ms
}

// The types of records that decide something. What is between and behind them is of a group, too.
const (
	recordLegacyCommit  = 0
	recordCommit        = 1
	recordClassicGroup  = 2
	recordConsumerGroup = 3
	recordShareGroup    = 11
	recordStreamsGroup  = 17
	lastCommitRecord    = 24 // StreamsGroupTargetAssignmentResolvedTopicIds
)

// recordTypes has the type of group that each type of record is about. All but the first two have the group's name at the front.
var recordTypes = [lastCommitRecord + 1]GroupType{
	2: GroupClassic,
	3: GroupConsumer, 4: GroupConsumer, 5: GroupConsumer, 6: GroupConsumer, 7: GroupConsumer, 8: GroupConsumer,
	9: GroupShare, 10: GroupShare, 11: GroupShare, 12: GroupShare, 13: GroupShare, 14: GroupShare, 15: GroupShare,
	16: GroupConsumer,
	17: GroupStreams, 18: GroupStreams, 19: GroupStreams, 20: GroupStreams, 21: GroupStreams, 22: GroupStreams, 23: GroupStreams, 24: GroupStreams,
}

// maxNames bounds the names that a decoder keeps.
const maxNames = 1 << 16

// commitDecoder decodes records. It keeps the names of groups and topics, of which many records have the same.
type commitDecoder struct {
	names map[string]string
}

func newCommitDecoder() *commitDecoder { return &commitDecoder{names: make(map[string]string)} }

// decode reads one record. strange names what cannot be read of it, by kind and not by content, so that it can be counted; ok says
// whether there is something to tell of it nevertheless.
func (d *commitDecoder) decode(rec *batch.Record) (c Commit, strange string, ok bool) {
	key := reader{src: rec.Key}
	kind := key.int16()
	switch {
	case key.bad:
		return Commit{}, "a key without a type", false
	case kind < 0 || kind > lastCommitRecord:
		return Commit{}, fmt.Sprintf("key type %d", kind), false
	}
	c = Commit{At: rec.Offset, Group: d.name(key.text()), LeaderEpoch: -1, Type: recordTypes[kind]}
	if kind > recordCommit {
		if key.bad {
			return Commit{}, fmt.Sprintf("a broken key of type %d", kind), false
		}
		c.Kind = GroupChanged
		if rec.Value == nil {
			switch kind {
			case recordClassicGroup, recordConsumerGroup, recordShareGroup, recordStreamsGroup:
				c.Kind = GroupEnded
			}
		}
		return c, "", true
	}
	c.Topic, c.Partition = d.name(key.text()), key.int32()
	if key.bad || len(key.src) > 0 {
		return Commit{}, fmt.Sprintf("a broken key of type %d", kind), false
	}
	if rec.Value == nil {
		c.Kind = Uncommitted
		return c, "", true
	}
	c.Kind = Committed
	if strange = c.value(rec.Value); strange != "" {
		return Commit{Kind: GroupChanged, Group: c.Group, At: c.At, LeaderEpoch: -1}, strange, true
	}
	return c, "", true
}

// lastCommitValue is the newest encoding of a commit that is known here.
const lastCommitValue = 4

// value reads a position; it returns what is wrong with it.
func (c *Commit) value(b []byte) (strange string) {
	version := int16(-1)
	if len(b) >= 2 {
		version = int16(binary.BigEndian.Uint16(b))
	}
	if version < 0 || version > lastCommitValue {
		return fmt.Sprintf("offset value version %d", version)
	}
	in := reader{src: b[2:], flex: version >= 4}
	c.Offset = in.int64()
	if version >= 3 {
		c.LeaderEpoch = in.int32()
	}
	c.Metadata = string(in.text())
	c.Time = in.int64()
	if version == 1 {
		in.int64() // when it expires, by a rule that is gone
	}
	in.tags(func(tag int, r *reader) {
		if tag == 0 {
			c.TopicID = r.id()
		}
	})
	if in.bad || len(in.src) > 0 {
		return fmt.Sprintf("a broken offset value of version %d", version)
	}
	return ""
}

// name is a name as a string, the same one for each record that has it.
func (d *commitDecoder) name(b []byte) string {
	if s, known := d.names[string(b)]; known {
		return s
	}
	if len(d.names) >= maxNames {
		clear(d.names)
	}
	s := string(b)
	d.names[s] = s
	return s
}
