package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/isthmus-project/isthmus/admin/adminpb"
	"github.com/isthmus-project/isthmus/topology"
)

// verified runs a verification to its end: results by topic:partition, the last progress, and who did not answer.
func verified(t *testing.T, c *Client, req *adminpb.VerifyRequest) (map[string]*adminpb.VerifyResult, *adminpb.VerifyProgress, []*adminpb.Unanswered, error) {
	t.Helper()
	results := make(map[string]*adminpb.VerifyResult)
	var last *adminpb.VerifyProgress
	var missing []*adminpb.Unanswered
	err := c.Verify(t.Context(), req, func(m *adminpb.VerifyResponse) error {
		if missing != nil {
			t.Errorf("%v comes behind the end", m)
		}
		if m.Progress != nil {
			last = m.Progress
		}
		if r := m.Result; r != nil {
			at := fmt.Sprintf("%s:%d", r.Topic, r.Partition)
			if results[at] != nil {
				t.Errorf("%s has two results", at)
			}
			results[at] = r
		}
		missing = m.Unanswered
		return nil
	})
	return results, last, missing, err
}

func TestVerify_EveryNodeReadsWhatItCopies(t *testing.T) {
	town, nodes := fabric(t, nil, "a", "b", "c")
	nodes["b"].planted = map[string]*adminpb.Difference{"payments:1": {Kind: "missing", SourceOffset: 17, TargetOffset: -1, Detail: "not there"}}
	c := town.client(t, "a", Login{})
	results, last, missing, err := verified(t, c, &adminpb.VerifyRequest{Link: "eu-us", From: 10})
	if err != nil || len(results) != 6 || len(missing) != 0 {
		t.Fatalf("got %v, %v, %v, want six results", results, missing, err)
	}
	for at, r := range results {
		want, node := adminpb.VerifyVerdict_VERIFY_VERDICT_IDENTICAL, []string{"a", "b", "c"}[r.Partition]
		if at == "payments:1" {
			want = adminpb.VerifyVerdict_VERIFY_VERDICT_DIFFERENT
		}
		if r.Verdict != want || r.Node != node || r.From != 10 || (r.Difference.GetSourceOffset() == 17) != (at == "payments:1") {
			t.Errorf("%s: %v, want %v from %s", at, r, want, node)
		}
	}
	if last.Partitions != 6 || last.Done != 6 || last.Records != 6*fakeRecords || last.Bytes != 6000 || last.Fraction != 1 {
		t.Errorf("the last progress is %v", last)
	}
	// What is chosen is read, and nothing else: by a name, a pattern, numbers.
	for _, tc := range []struct {
		topic      string
		partitions []int32
		want       []string
	}{
		{"orders", nil, []string{"orders:0", "orders:1", "orders:2"}},
		{"pay*", []int32{2, 7}, []string{"payments:2"}},
		{"", []int32{0}, []string{"orders:0", "payments:0"}},
	} {
		results, _, _, err := verified(t, c, &adminpb.VerifyRequest{Link: "eu-us", Topic: tc.topic, Partitions: tc.partitions})
		var got []string
		for at := range results {
			got = append(got, at)
		}
		if slices.Sort(got); err != nil || !slices.Equal(got, tc.want) {
			t.Errorf("%q %v: %v, %v, want %v", tc.topic, tc.partitions, got, err, tc.want)
		}
	}
}

func TestVerify_EveryChosenPartitionHasAResult(t *testing.T) {
	town, nodes := fabric(t, nil, "a", "b", "c")
	nodes["b"].mu.Lock()
	nodes["b"].broken = errors.New("the disk is full")
	nodes["b"].mu.Unlock()
	gone := nodes["c"].owned
	nodes["c"].owned = func(topic string, p int32) bool { return topic == "orders" && gone(topic, p) }
	nodes["a"].unread = errors.New("us is away")
	nodes["a"].peers = append(nodes["a"].peers, Peer{Name: "dead", Trouble: "dead since noon"})
	results, _, missing, err := verified(t, town.client(t, "a", Login{}), &adminpb.VerifyRequest{Link: "eu-us"})
	if err != nil || len(results) != 6 {
		t.Fatalf("got %v, %v, want six results", results, err)
	}
	for at, want := range map[string]string{"orders:0": "", "orders:2": "", "orders:1": "no node that answers copies it", "payments:2": "no node that answers copies it",
		"payments:0": "us is away"} {
		if r := results[at]; r.Trouble != want || (r.Verdict == adminpb.VerifyVerdict_VERIFY_VERDICT_IDENTICAL) != (want == "") {
			t.Errorf("%s: %v, want trouble %q", at, r, want)
		}
	}
	if len(missing) != 2 || missing[0].Node != "b" || missing[1].Node != "dead" {
		t.Errorf("unanswered: %v, want b and dead", missing)
	}
}

func TestVerify_TellsWhatIsWrong(t *testing.T) {
	_, c, _ := one(t)
	for _, tc := range []struct {
		req  *adminpb.VerifyRequest
		is   error
		want []string
	}{
		{&adminpb.VerifyRequest{Topic: "~(", Partitions: []int32{-1}, From: -1, To: -1}, ErrInvalid, []string{"link: ", "topic: ", "partitions: ", "from: ", "to: "}},
		{&adminpb.VerifyRequest{Link: "eu-us", From: 9, To: 9}, ErrInvalid, []string{"to: 9 is not behind from"}},
		{&adminpb.VerifyRequest{Link: "eu-mars"}, ErrUnknown, []string{"eu-mars"}},
		{&adminpb.VerifyRequest{Link: "eu-us", Topic: "mars"}, ErrUnknown, []string{"mars"}},
		{&adminpb.VerifyRequest{Link: "eu-us", Topic: "orders", Partitions: []int32{3}}, ErrUnknown, []string{"orders", "[3]"}},
	} {
		_, _, _, err := verified(t, c, tc.req)
		if !errors.Is(err, tc.is) {
			t.Errorf("%v: got %v, want %v", tc.req, err, tc.is)
			continue
		}
		for _, want := range tc.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%v: %q does not name %q", tc.req, err, want)
			}
		}
	}
}

// Two runs a node, here and at nodes that are asked; who goes away makes room.
func TestVerify_IsBounded(t *testing.T) {
	town, nodes := fabric(t, nil, "a", "b")
	hold := make(chan struct{})
	for _, n := range nodes {
		n.hold = hold
	}
	b := town.client(t, "b", Login{})
	ctx, cancel := context.WithCancel(t.Context())
	ends := make(chan error, verifiesAtOnce)
	for range verifiesAtOnce {
		go func() {
			ends <- b.Verify(ctx, &adminpb.VerifyRequest{Link: "eu-us", Topic: "orders", Partitions: []int32{1}}, func(*adminpb.VerifyResponse) error { return nil })
		}()
		<-hold
	}
	for _, name := range []string{"a", "b"} {
		err := town.client(t, name, Login{}).Verify(t.Context(), &adminpb.VerifyRequest{Link: "eu-us", Topic: "orders", Partitions: []int32{1}},
			func(*adminpb.VerifyResponse) error { return nil })
		if !errors.Is(err, ErrBusy) || !strings.Contains(err.Error(), "node b verifies for 2 callers already") {
			t.Errorf("a third one, asked of %s: %v, want ErrBusy of b", name, err)
		}
	}
	cancel()
	for range verifiesAtOnce {
		if err := <-ends; !errors.Is(err, context.Canceled) {
			t.Errorf("who cancels gets %v, want context.Canceled", err)
		}
	}
	nodes["b"].mu.Lock()
	nodes["b"].hold = nil
	nodes["b"].mu.Unlock()
	waitFor(t, func() bool {
		_, _, _, err := verified(t, b, &adminpb.VerifyRequest{Link: "eu-us", Topic: "orders", Partitions: []int32{1}})
		return err == nil
	})
}

func TestVerify_EndsWithItsServerAndItsReader(t *testing.T) {
	town := newCity()
	ends := make(chan error, 1)
	t.Run("server", func(t *testing.T) {
		node := newFake("a")
		node.hold = make(chan struct{}, 10)
		town.add(t, "a", node, nil)
		c := town.client(t, "a", Login{})
		enough := errors.New("enough")
		if err := c.Verify(t.Context(), &adminpb.VerifyRequest{Link: "eu-us"}, func(*adminpb.VerifyResponse) error { return enough }); !errors.Is(err, enough) {
			t.Errorf("the reader's own error became %v", err)
		}
		begun := make(chan struct{}, 100)
		go func() {
			ends <- c.Verify(context.Background(), &adminpb.VerifyRequest{Link: "eu-us"}, func(*adminpb.VerifyResponse) error { begun <- struct{}{}; return nil })
		}()
		<-begun // and the server ends while it verifies
	})
	if err := <-ends; err == nil {
		t.Error("a run whose server ended has no error")
	}
}

// slowSink is a reader that stops reading.
type slowSink struct {
	sink
	reads chan struct{}
}

func (s *slowSink) SendMsg(m any) error {
	<-s.reads
	return s.sink.SendMsg(m)
}

// TestVerify_ASlowReaderHoldsNobodyUp: who does not read keeps neither the work nor its place.
func TestVerify_ASlowReaderHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := aService(newFake("a"))
		ctx, cancel := context.WithCancel(withCaller(t.Context(), caller{name: "ana", role: topology.Viewer}))
		defer cancel()
		to := &slowSink{sink{ctx: ctx, left: 100}, make(chan struct{})}
		ended := make(chan error)
		go func() {
			ended <- s.Verify(&adminpb.VerifyRequest{Link: "eu-us"}, &grpc.GenericServerStream[adminpb.VerifyRequest, adminpb.VerifyResponse]{ServerStream: to})
		}()
		synctest.Wait()
		if !s.checks.take() {
			t.Error("the place is taken by who does not read")
		}
		close(to.reads)
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// TestVerify_OfANodeMayTakeLong: the credential of a node is good once, so it is not asked for again; that of a person is.
func TestVerify_OfANodeMayTakeLong(t *testing.T) {
	for _, tc := range []struct {
		who  caller
		want codes.Code
	}{
		{caller{name: "ana", role: topology.Viewer, peer: "b"}, codes.Canceled},
		{caller{name: "ana", role: topology.Viewer}, codes.Unauthenticated},
	} {
		synctest.Test(t, func(t *testing.T) {
			node := newFake("a")
			node.hold = make(chan struct{}, 10)
			s := aService(node)
			gone := context.WithValue(withCaller(t.Context(), tc.who), againKey{}, func() error { return fmt.Errorf("%w: gone", ErrLogin) })
			ctx, cancel := context.WithTimeout(gone, time.Hour)
			defer cancel()
			time.AfterFunc(30*time.Minute, cancel)
			err := s.Verify(&adminpb.VerifyRequest{Link: "eu-us"}, &grpc.GenericServerStream[adminpb.VerifyRequest, adminpb.VerifyResponse]{
				ServerStream: &sink{ctx: ctx, left: 1 << 20}})
			if status.Code(err) != tc.want {
				t.Errorf("%v: got %v, want %v", tc.who, err, tc.want)
			}
		})
	}
}

// aService is the gRPC side of a node without a network.
func aService(node Node) *service {
	return &service{self: "a", node: node, events: &Events{}, log: slog.New(slog.DiscardHandler), now: time.Now,
		audit: &audit{log: slog.New(slog.DiscardHandler), now: time.Now}, keys: func() [][]byte { return [][]byte{fabricKey} },
		drifts: make(places, driftsAtOnce), groups: make(places, groupsAtOnce), checks: make(places, 1), switches: make(places, 1), ending: make(chan struct{}),
		forward: newForward("a", func() [][]byte { return nil }, nil, time.Now, nil)}
}

// TestVerification_CountsEachPartitionAlike: what has one partition does not weigh as much as what has ten.
func TestVerification_CountsEachPartitionAlike(t *testing.T) {
	v := &verification{wake: make(chan struct{}, 1), left: make(map[topicPartition]string), of: make(map[string]map[string][]int32),
		far: make(map[work]*adminpb.VerifyProgress)}
	add := func(topic, node string, n int32) {
		for p := range n {
			v.add(topic, &adminpb.Partition{Partition: p, Node: node, State: running})
		}
	}
	add("orders", "a", 1)
	add("audit", "a", 4)
	add("payments", "b", 5)
	v.note("a", "orders")(&adminpb.VerifyResponse{Progress: &adminpb.VerifyProgress{Records: 1, Fraction: 1}})
	v.note("b", "")(&adminpb.VerifyResponse{Progress: &adminpb.VerifyProgress{Records: 2, Fraction: 0.4}})
	if p := v.progress(); p.Partitions != 10 || p.Done != 0 || p.Records != 3 || math.Abs(p.Fraction-0.3) > 1e-9 {
		t.Errorf("got %v, want 0.3 of ten partitions", p)
	}
	v.note("a", "audit")(&adminpb.VerifyResponse{Result: &adminpb.VerifyResult{Topic: "audit", Partition: 2}})
	v.note("b", "")(&adminpb.VerifyResponse{Result: &adminpb.VerifyResult{Topic: "audit", Partition: 2}}) // a second one
	v.note("b", "")(&adminpb.VerifyResponse{Result: &adminpb.VerifyResult{Topic: "mars", Partition: 2}})  // not chosen
	if p := v.progress(); p.Done != 1 || len(v.take()) != 1 {
		t.Errorf("got %v, want one result", p)
	}
}
