package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/isthmus-project/isthmus/admin/adminpb"
)

// progressEvery is how often who verifies is told how far it is.
const progressEvery = 500 * time.Millisecond

// Verify implements the call of that name.
func (s *service) Verify(req *adminpb.VerifyRequest, stream grpc.ServerStreamingServer[adminpb.VerifyResponse]) error {
	ctx, cancel := context.WithCancel(stream.Context())
	var work sync.WaitGroup
	defer work.Wait()
	defer cancel()
	v, err := s.choose(ctx, req)
	if err != nil {
		return s.code("Verify", err)
	}
	if !s.checks.take() {
		return s.code("Verify", fmt.Errorf("node %s verifies for %d callers already, and each of them reads both clusters; ask again when they are done: %w",
			s.self, cap(s.checks), ErrBusy))
	}
	ended := make(chan error, 1)
	work.Go(func() {
		defer s.checks.leave()
		ended <- s.verify(ctx, req, v)
	})
	return s.tellVerify(ctx, v, ended, stream)
}

// tellVerify sends what is known until there is no more. A reader that is slow keeps nobody else from verifying.
func (s *service) tellVerify(ctx context.Context, v *verification, ended <-chan error, stream grpc.ServerStreamingServer[adminpb.VerifyResponse]) error {
	told, checked := time.NewTicker(progressEvery), time.NewTicker(recheckEvery)
	defer told.Stop()
	defer checked.Stop()
	if err := stream.Send(&adminpb.VerifyResponse{Progress: v.progress()}); err != nil {
		return err // of the stream, with its code
	}
	for {
		progress, last := false, false
		select {
		case err := <-ended:
			if last = true; err != nil {
				return s.code("Verify", err)
			}
		case <-v.wake:
		case <-told.C:
			progress = true
		case <-checked.C:
			if callerOf(ctx).peer != "" {
				continue // its credential was good once; who it asks for, it looks after
			}
			if err := stillMay(ctx); err != nil {
				return withCode(err)
			}
		case <-ctx.Done():
			return s.code("Verify", ctx.Err())
		case <-s.ending:
			return s.code("Verify", ErrNotReady)
		}
		for _, r := range v.take() {
			if err := stream.Send(&adminpb.VerifyResponse{Result: r}); err != nil {
				return err
			}
		}
		if progress || last {
			if err := stream.Send(&adminpb.VerifyResponse{Progress: v.progress()}); err != nil {
				return err
			}
		}
		if last {
			if len(v.unanswered) > 0 {
				return stream.Send(&adminpb.VerifyResponse{Unanswered: v.unanswered})
			}
			return nil
		}
	}
}

// choose finds what a request is about, and which node copies it: for another node what this one copies itself, for anybody else all
// that any node knows of.
func (s *service) choose(ctx context.Context, req *adminpb.VerifyRequest) (*verification, error) {
	p, err := pauseOf(ctx, req.GetLink(), req.GetTopic(), req.GetPartitions(), time.Time{})
	err = errors.Join(err, fields(
		when(req.GetFrom() < 0, "from", "%d is negative; give a source offset", req.GetFrom()),
		when(req.GetTo() < 0, "to", "%d is negative; give the source offset to stop before", req.GetTo()),
		when(req.GetTo() > 0 && req.GetTo() <= req.GetFrom(), "to", "%d is not behind from, %d: there is nothing between them", req.GetTo(), req.GetFrom()),
	))
	if err != nil {
		return nil, err
	}
	st, err := s.status(ctx, req.GetLink(), true)
	if err != nil {
		return nil, err
	}
	v := &verification{wake: make(chan struct{}, 1), left: make(map[topicPartition]string), of: make(map[string]map[string][]int32),
		far: make(map[work]*adminpb.VerifyProgress), unanswered: st.GetUnanswered()}
	m := newMatcher(touchOf(p))
	peer := callerOf(ctx).peer != ""
	for _, l := range st.GetLinks() {
		for _, f := range l.GetFlows() {
			for _, p := range f.GetPartitions() {
				if !m.match(f.GetTopic(), p.GetPartition()) || peer && !owns(p.GetState()) {
					continue
				}
				v.add(f.GetTopic(), p)
			}
		}
	}
	if len(v.left) == 0 && !peer {
		return nil, noneOf(touchOf(p))
	}
	return v, nil
}

// verify has every node verify what it copies, and returns when all results are there. Its error is for the whole.
func (s *service) verify(ctx context.Context, req *adminpb.VerifyRequest, v *verification) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var all sync.WaitGroup
	peers := s.peers()
	for node := range v.of {
		i := slices.IndexFunc(peers, func(p Peer) bool { return p.Name == node })
		switch {
		case node == s.self:
			all.Go(func() { s.verifyHere(ctx, req, v) })
		case i >= 0:
			all.Go(func() {
				err := s.forward.verify(ctx, peers[i], req, v.note(node, ""))
				if err = ofPeer(node, err); errors.Is(err, ErrBusy) {
					cancel(err)
				}
				v.gaveUp(node, err)
			})
		}
	}
	all.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	v.end()
	return nil
}

// verifyHere verifies what this node copies, one topic after the other.
func (s *service) verifyHere(ctx context.Context, req *adminpb.VerifyRequest, v *verification) {
	topics := slices.Sorted(maps.Keys(v.of[s.self]))
	for _, topic := range topics {
		err := s.node.Verify(ctx, &adminpb.VerifyRequest{Link: req.GetLink(), Topic: topic, Partitions: v.of[s.self][topic], From: req.GetFrom(), To: req.GetTo()},
			v.note(s.self, topic))
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			v.failed(topic, v.of[s.self][topic], err)
		}
	}
}

// work is a part of a run that tells how far it is: what another node does, or one topic of this one.
type work struct{ node, topic string }

type topicPartition struct {
	topic     string
	partition int32
}

// verification is what is known of a run of Verify. Who verifies never waits for who reads of it.
type verification struct {
	of         map[string]map[string][]int32 // node, topic: what it copies; not changed any more
	parts      int32
	unanswered []*adminpb.Unanswered // read when all has ended
	wake       chan struct{}         // has one in it when there are results

	mu      sync.Mutex
	left    map[topicPartition]string // what has no result yet, and why it may get none
	results []*adminpb.VerifyResult   // not taken yet
	far     map[work]*adminpb.VerifyProgress
}

// add chooses a partition, as the node that copies it says.
func (v *verification) add(topic string, p *adminpb.Partition) {
	v.parts++
	if !owns(p.GetState()) {
		v.left[topicPartition{topic, p.GetPartition()}] = "no node that answers copies it"
		return
	}
	v.left[topicPartition{topic, p.GetPartition()}] = "it has got another owner meanwhile"
	if v.of[p.GetNode()] == nil {
		v.of[p.GetNode()] = make(map[string][]int32)
	}
	v.of[p.GetNode()][topic] = append(v.of[p.GetNode()][topic], p.GetPartition())
}

// note takes what a node tells of a topic, or of all that it verifies if topic is empty.
func (v *verification) note(node, topic string) func(*adminpb.VerifyResponse) {
	return func(m *adminpb.VerifyResponse) {
		v.mu.Lock()
		defer v.mu.Unlock()
		if p := m.GetProgress(); p != nil {
			v.far[work{node, topic}] = p
		}
		r := m.GetResult()
		if r == nil {
			return
		}
		at := topicPartition{r.GetTopic(), r.GetPartition()}
		if _, waits := v.left[at]; !waits {
			return
		}
		delete(v.left, at)
		r.Node = node
		v.results = append(v.results, r)
		v.wakeUp()
	}
}

// wakeUp tells that there are results. The caller holds mu.
func (v *verification) wakeUp() {
	select {
	case v.wake <- struct{}{}:
	default:
	}
}

// failed notes why partitions of a topic get no result.
func (v *verification) failed(topic string, partitions []int32, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, p := range partitions {
		if _, waits := v.left[topicPartition{topic, p}]; waits {
			v.left[topicPartition{topic, p}] = valid(err.Error())
		}
	}
}

// gaveUp notes that another node did not come to its end.
func (v *verification) gaveUp(node string, err error) {
	if err == nil {
		return
	}
	for topic, partitions := range v.of[node] {
		v.failed(topic, partitions, err)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.unanswered = append(v.unanswered, &adminpb.Unanswered{Node: node, Trouble: valid(err.Error())})
}

// end makes what has no result one that was not verified.
func (v *verification) end() {
	v.mu.Lock()
	defer v.mu.Unlock()
	for at, why := range v.left {
		v.results = append(v.results, &adminpb.VerifyResult{Topic: at.topic, Partition: at.partition,
			Verdict: adminpb.VerifyVerdict_VERIFY_VERDICT_NOT_VERIFIED, Trouble: why})
	}
	clear(v.left)
	slices.SortFunc(v.unanswered, func(a, b *adminpb.Unanswered) int { return cmp.Compare(a.GetNode(), b.GetNode()) })
}

// take returns the results since the last call, in order.
func (v *verification) take() []*adminpb.VerifyResult {
	v.mu.Lock()
	defer v.mu.Unlock()
	taken := v.results
	v.results = nil
	slices.SortFunc(taken, func(a, b *adminpb.VerifyResult) int {
		return cmp.Or(cmp.Compare(a.GetTopic(), b.GetTopic()), cmp.Compare(a.GetPartition(), b.GetPartition()))
	})
	return taken
}

// progress is how far all is.
func (v *verification) progress() *adminpb.VerifyProgress {
	v.mu.Lock()
	defer v.mu.Unlock()
	p := &adminpb.VerifyProgress{Partitions: v.parts, Done: v.parts - int32(len(v.left))}
	parts := float64(max(1, v.parts))
	for at, one := range v.far {
		p.Records += one.GetRecords()
		p.Bytes += one.GetBytes()
		weight := 0
		for topic, partitions := range v.of[at.node] {
			if at.topic == "" || at.topic == topic {
				weight += len(partitions)
			}
		}
		p.Fraction += one.GetFraction() * float64(weight) / parts
	}
	p.Fraction = min(1, max(p.GetFraction(), float64(p.GetDone())/parts))
	return p
}
