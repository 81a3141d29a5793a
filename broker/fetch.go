package broker

import (
	"context"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// FetchPartition is one partition of a fetch session and the place to read it from.
type FetchPartition struct {
	Topic            string
	TopicID          TopicID // zero = by name; then the whole session speaks by name
	Partition        int32
	Offset           int64
	LeaderEpoch      int32 // the epoch the caller believes in; the broker refuses others; -1 = any
	LastFetchedEpoch int32 // of the batch before Offset: the broker tells where logs diverge; -1 = do not ask
	LogStart         int64 // of the reader's own log, for followers; a mirror says -1
	MaxBytes         int32 // of this partition in one answer; one batch is returned even if it is larger
}

// FetchOptions are those of one fetch.
type FetchOptions struct {
	MaxWait       time.Duration // how long the broker may wait for MinBytes
	MinBytes      int32         // 0 = answer at once, also with nothing
	MaxBytes      int32         // of the answer; 0 = 16 MiB; one batch is returned even if it is larger
	ReadCommitted bool          // up to the last stable offset, with the list of what was aborted
	Rack          string        // where we are: the broker may name a nearer replica, and then returns no records
}

const defaultFetchBytes = 16 << 20

// sessionOnce is the session epoch of a fetch that wants no session (KIP-227).
const sessionOnce = int32(-1)

type partitionKey struct {
	topic     string
	partition int32
}

// sessionTopic is a topic under one id. A recreated topic is another one.
type sessionTopic struct {
	name  string
	id    TopicID
	parts int            // how many partitions of it the session has
	dirty []*sessionPart // to be sent with the next request
}

type sessionPart struct {
	want  FetchPartition
	topic *sessionTopic
	dirty bool
	known bool   // the broker has it in its session
	gone  bool   // forgotten while it was dirty
	seen  uint64 // the last answer it was in
}

// FetchSession reads any number of partitions of one broker over one connection. One goroutine uses it; Close may be
// called by any.
type FetchSession struct {
	c      *Cluster
	w      *wire
	broker Broker
	once   bool // no session: each request is a full one

	parts  map[partitionKey]*sessionPart
	topics map[topicKey]*sessionTopic
	byID   map[TopicID]*sessionTopic
	noID   int // topics without an id

	dirty     []*sessionTopic
	forgotten []FetchPartition
	session   fetchState
	out       writer
	throttle  throttle
}

// fetchState is where the broker and we are in the session.
type fetchState struct {
	id      int32
	epoch   int32 // of the next request; 0 opens a session
	version int16 // of the session's requests
	answers uint64
	corr    int32
}

type topicKey struct {
	name string
	id   TopicID
}

// FetchSession connects to b. The context bounds the connecting only.
func (c *Cluster) FetchSession(ctx context.Context, b Broker) (*FetchSession, error) {
	w, err := c.dialWire(ctx, b)
	if err != nil {
		return nil, err
	}
	if _, err := w.versions.pick(keyFetch, ours[keyFetch].max); err != nil {
		return nil, w.fail(fmt.Errorf("open a fetch session: %w", err))
	}
	return &FetchSession{
		c: c, w: w, broker: b,
		parts:  map[partitionKey]*sessionPart{},
		topics: map[topicKey]*sessionTopic{},
		byID:   map[TopicID]*sessionTopic{},
	}, nil
}

// Broker is the broker the session reads from.
func (s *FetchSession) Broker() Broker { return s.broker }

// Len is the number of partitions in the session.
func (s *FetchSession) Len() int { return len(s.parts) }

// Close ends the session and wakes a Fetch that waits.
func (s *FetchSession) Close() error { return s.w.close() }

// Set adds a partition to the session or moves it. The next Fetch tells the broker, and nothing is sent for a partition that
// stays as it is: the broker then goes on from the offset it was last told, so whoever got records must set the next one.
func (s *FetchSession) Set(p FetchPartition) {
	key := partitionKey{p.Topic, p.Partition}
	part := s.parts[key]
	if part != nil && part.topic.id != p.TopicID {
		s.Forget(p.Topic, part.topic.id, p.Partition) // the topic was recreated
		part = nil
	}
	if part == nil {
		part = &sessionPart{topic: s.topic(p.Topic, p.TopicID)}
		part.topic.parts++
		s.parts[key] = part
	} else if part.want == p {
		return
	}
	part.want = p
	s.touch(part)
	// A broker adds first and removes then: what is in both lists of a request
	// would be gone.
	s.forgotten = slices.DeleteFunc(s.forgotten, func(f FetchPartition) bool {
		same := f.Topic == p.Topic && f.Partition == p.Partition && (f.TopicID == p.TopicID || s.session.version < 13)
		part.known = part.known || same
		return same
	})
}

// topic returns the session's topic of that name and id, a new one if need be.
func (s *FetchSession) topic(name string, id TopicID) *sessionTopic {
	key := topicKey{name, id}
	t := s.topics[key]
	if t == nil {
		t = &sessionTopic{name: name, id: id}
		s.topics[key] = t
		if id == (TopicID{}) {
			s.noID++
		} else {
			s.byID[id] = t
		}
	}
	return t
}

// touch puts the partition on the list of what the next request tells.
func (s *FetchSession) touch(p *sessionPart) {
	if p.dirty {
		return
	}
	p.dirty = true
	if len(p.topic.dirty) == 0 {
		s.dirty = append(s.dirty, p.topic)
	}
	p.topic.dirty = append(p.topic.dirty, p)
}

// Forget takes a partition out of the session. It does nothing if the session has it not, or under another topic id.
func (s *FetchSession) Forget(topic string, id TopicID, partition int32) {
	key := partitionKey{topic, partition}
	p := s.parts[key]
	if p == nil || p.topic.id != id {
		return
	}
	delete(s.parts, key)
	p.gone = true
	if p.known {
		s.forgotten = append(s.forgotten, p.want)
	}
	t := p.topic
	if t.parts--; t.parts > 0 {
		return
	}
	delete(s.topics, topicKey{t.name, t.id})
	if id == (TopicID{}) {
		s.noID--
	} else {
		delete(s.byID, id)
	}
}

// restart begins a new session with the next request. The id is kept, so that the broker drops the old session.
func (s *FetchSession) restart() {
	s.session.epoch = 0
}

// Fetch asks the broker once and waits for its answer, which the caller releases. A session that the broker has lost is
// begun anew without a word. Errors of partitions are in the frame; an error returned here has ended the connection.
func (s *FetchSession) Fetch(ctx context.Context, o FetchOptions) (*Frame, error) {
	if o.MaxBytes <= 0 {
		o.MaxBytes = defaultFetchBytes
	}
	if len(s.parts) == 0 { // nothing to ask for; the broker would answer at once, and the caller spin
		if err := pause(ctx, o.MaxWait); err != nil {
			return nil, err
		}
		return newFrame(&s.c.pool, s.c.pool.get(0)), nil
	}
	const attempts = 3
	for range attempts {
		if err := s.ready(ctx); err != nil {
			return nil, err
		}
		frame, code, err := s.fetch(ctx, o)
		if err != nil {
			return nil, s.w.fail(fmt.Errorf("fetch from %s: %w", s.w.name, err))
		}
		if frame != nil {
			return frame, nil
		}
		if !lostSession(code) {
			return nil, s.w.fail(fmt.Errorf("fetch from %s: %w", s.w.name, codeError(code)))
		}
		s.restart()
	}
	return nil, s.w.fail(fmt.Errorf("fetch from %s: the broker refused %d sessions in a row: %w",
		s.w.name, attempts, kerr.InvalidFetchSessionEpoch))
}

// ready waits out a throttle time and renews a SASL session that is about to end.
func (s *FetchSession) ready(ctx context.Context) error {
	if err := s.w.err(); err != nil {
		return err
	}
	if err := s.throttle.wait(ctx); err != nil {
		return err
	}
	if s.w.expired() {
		ctx, cancel := context.WithTimeoutCause(ctx, dialTimeout, errNotReady)
		defer cancel()
		if err := s.w.authenticate(ctx, s.c.profile, s.broker.address()); err != nil {
			return s.w.fail(fmt.Errorf("authenticate again to %s: %w", s.w.name, err))
		}
	}
	return nil
}

// lostSession reports the errors that a new session cures.
func lostSession(code int16) bool {
	switch code {
	case kerr.FetchSessionIDNotFound.Code, kerr.InvalidFetchSessionEpoch.Code, kerr.FetchSessionTopicIDError.Code:
		return true
	}
	return false
}

// fetch is one request and its answer: a frame, or the error code of the answer as a whole.
func (s *FetchSession) fetch(ctx context.Context, o FetchOptions) (*Frame, int16, error) {
	full, err := s.encode(o)
	if err != nil {
		return nil, 0, err
	}
	if err := s.w.write(ctx, net.Buffers{s.out.b}); err != nil {
		return nil, 0, err
	}
	patience := ioTimeout
	if s.once {
		patience = leaderPatience
	}
	buf, err := s.w.readAnswer(ctx, &s.c.pool, s.session.corr, MaxFrameBytes, o.MaxWait+patience)
	if err != nil {
		return nil, 0, err
	}
	s.session.answers++
	answer := fetchAnswer{parts: buf.parts, aborted: buf.aborted}
	err = answer.decode(buf.b, s.session.version, s.find)
	buf.parts, buf.aborted = answer.parts, answer.aborted
	for i := range answer.parts {
		atCluster(answer.parts[i].Err, s.c.profile.Name)
	}
	if err == nil {
		s.throttle.ask(answer.throttleMillis)
		if answer.code == 0 {
			err = s.advance(full, answer.session)
		}
	}
	if err != nil || answer.code != 0 {
		s.c.pool.put(buf)
		return nil, answer.code, err
	}
	return newFrame(&s.c.pool, buf), 0, nil
}

// advance moves the session on after an answer without an error.
func (s *FetchSession) advance(full bool, id int32) error {
	st := &s.session
	switch {
	case s.once || st.version < 7:
		return nil
	case full:
		st.id = id
		if id != 0 { // 0: the broker has no room for another session; ask in full again
			st.epoch = 1
		}
	case id == 0: // the broker closed the session, for want of partitions or room
		s.restart()
	case id != st.id:
		return protocolErrorf("fetch session %d instead of %d", id, st.id)
	default:
		if st.epoch++; st.epoch <= 0 {
			st.epoch = 1 // wraps, and 0 would open a session
		}
	}
	return nil
}

// find returns the session's partition that an answer speaks of, nil if it was not asked for or was there already.
func (s *FetchSession) find(name []byte, id TopicID, partition int32) *sessionPart {
	var p *sessionPart
	if s.session.version >= 13 {
		t := s.byID[id]
		if t == nil {
			return nil
		}
		p = s.parts[partitionKey{t.name, partition}]
		if p == nil || p.topic != t {
			return nil
		}
	} else if p = s.parts[partitionKey{string(name), partition}]; p == nil {
		return nil
	}
	if p.seen == s.session.answers {
		return nil
	}
	p.seen = s.session.answers
	return p
}
