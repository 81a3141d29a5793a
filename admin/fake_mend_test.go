package admin

import (
	"context"
	"fmt"
	"slices"

	"github.com/isthmus-project/isthmus/admin/adminpb"
	"github.com/isthmus-project/isthmus/topology"
)

// fakeRecords are the records of each partition of the source.
const fakeRecords = 100

// Retry makes everything that it owns try.
func (n *fakeNode) Retry(_ context.Context, req *adminpb.RetryRequest) (int, error) {
	if fakeLinks[req.Link] == nil || req.Link == n.missing {
		return 0, fmt.Errorf("link %q: %w", req.Link, ErrUnknown)
	}
	tried := 0
	for _, topic := range fakeLinks[req.Link] {
		p, err := topology.ParsePattern(req.Topic)
		if req.Topic != "" && (err != nil || !p.Match(topic)) {
			continue
		}
		for i := range int32(fakePartitions) {
			if n.owned(topic, i) && (len(req.Partitions) == 0 || slices.Contains(req.Partitions, i)) {
				tried++
			}
		}
	}
	return tried, n.fails()
}

// Anchor moves a partition whose next record is the fake's position.
func (n *fakeNode) Anchor(_ context.Context, req *adminpb.AnchorRequest, author string) (*adminpb.AnchorResponse, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.broken != nil:
		return nil, n.broken
	case !slices.Contains(fakeLinks[req.Link], req.Topic) || req.Partition >= fakePartitions:
		return nil, fmt.Errorf("topic %q: %w", req.Topic, ErrUnknown)
	case !n.owned(req.Topic, req.Partition):
		return nil, ErrElsewhere
	}
	res := &adminpb.AnchorResponse{Before: n.position, After: req.Offset}
	switch req.At {
	case adminpb.AnchorAt_ANCHOR_AT_START:
		res.After = 5
	case adminpb.AnchorAt_ANCHOR_AT_END:
		res.After = n.end
	}
	if res.After > n.end {
		return nil, &FieldError{"offset", fmt.Sprintf("%d is behind the end of the source's log, %d", res.After, n.end)}
	}
	res.Lost, res.Doubled = max(0, res.After-res.Before), max(0, res.Before-res.After)
	res.Plan = []string{fmt.Sprintf("goes on at %d of %d", res.After, n.end)}
	if res.Lost > 0 {
		res.Entries = append(res.Entries, &adminpb.LedgerEntry{Link: req.Link, Topic: req.Topic, Partition: req.Partition, First: res.Before, Last: res.After - 1,
			Records: res.Lost, Reason: "anchored", Detail: author + ": " + req.Why})
	}
	if !req.DryRun {
		n.position = res.After
		n.anchored = append(n.anchored, fmt.Sprintf("%s %s:%d at %d by %s: %s", req.Link, req.Topic, req.Partition, res.After, author, req.Why))
	}
	return res, nil
}

// Drift has one difference of each of two topics, and one right.
func (n *fakeNode) Drift(_ context.Context, link string) ([]*adminpb.Drift, error) {
	if fakeLinks[link] == nil {
		return nil, fmt.Errorf("link %q: %w", link, ErrUnknown)
	}
	return []*adminpb.Drift{
		{Link: link, Kind: "topic-config", Topic: "payments", Name: "retention.ms", Source: "1", Target: "2", Verdict: "will be set"},
		{Link: link, Kind: "topic-config", Topic: "orders", Name: "retention.ms", Source: "1", Target: "2", Verdict: "left by policy"},
		{Link: link, Kind: "acl", Name: "User:anna", Source: "read", Verdict: "not authorised"},
	}, n.fails()
}

// KeepsGroups is both links.
func (n *fakeNode) KeepsGroups() []string { return []string{"us-eu", "eu-us"} }

// Groups has two groups on eu-us, of which shop reads both topics, and one on us-eu.
func (n *fakeNode) Groups(_ context.Context, link, group string) (*adminpb.LinkGroups, error) {
	if fakeLinks[link] == nil || link == n.missing {
		return nil, fmt.Errorf("link %q: %w", link, ErrUnknown)
	}
	at := func(name, topic string, partition int32, source, target int64) *adminpb.GroupPosition {
		return &adminpb.GroupPosition{Group: name, Topic: topic, Partition: partition, Source: &adminpb.GroupPlace{Offset: source}, Target: &adminpb.GroupPlace{Offset: target}}
	}
	res := &adminpb.LinkGroups{Link: link, From: link[:2], To: link[3:], Keeps: true, Positions: []*adminpb.GroupPosition{at("shop", "orders", 0, 10, 17)}}
	if link == "eu-us" {
		res.Positions = append(res.Positions, at("billing", "payments", 0, -1, 40), at("shop", "payments", 1, 20, 27), at("shop", "orders", 2, 30, -1))
	}
	res.Positions = slices.DeleteFunc(res.Positions, func(p *adminpb.GroupPosition) bool { return group != "" && p.Group != group })
	return res, n.fails()
}

// otherGroups is a fake that tells other things of groups.
type otherGroups struct {
	*fakeNode
	change func(*adminpb.LinkGroups)
}

func (n otherGroups) Groups(ctx context.Context, link, group string) (*adminpb.LinkGroups, error) {
	res, err := n.fakeNode.Groups(ctx, link, group)
	if err == nil {
		n.change(res)
	}
	return res, err
}

// Verify finds everything identical, but for partitions that the test planted something in.
func (n *fakeNode) Verify(ctx context.Context, req *adminpb.VerifyRequest, each func(*adminpb.VerifyResponse)) error {
	n.mu.Lock()
	hold, planted, unread := n.hold, n.planted, n.unread
	n.mu.Unlock()
	far := func(done int) {
		each(&adminpb.VerifyResponse{Progress: &adminpb.VerifyProgress{Records: fakeRecords * int64(done), Bytes: 1000 * int64(done),
			Fraction: float64(done) / float64(len(req.Partitions))}})
	}
	far(0)
	if hold != nil {
		select {
		case hold <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		<-ctx.Done()
		return ctx.Err()
	}
	if unread != nil && req.Topic == "payments" {
		return unread
	}
	for i, p := range req.Partitions {
		if !n.owned(req.Topic, p) {
			continue
		}
		r := &adminpb.VerifyResult{Topic: req.Topic, Partition: p, Verdict: adminpb.VerifyVerdict_VERIFY_VERDICT_IDENTICAL,
			From: req.From, To: fakeRecords, TargetFrom: req.From, TargetTo: fakeRecords, Records: fakeRecords - req.From, Digest: "abcd"}
		if d := planted[fmt.Sprintf("%s:%d", req.Topic, p)]; d != nil {
			r.Verdict, r.Difference = adminpb.VerifyVerdict_VERIFY_VERDICT_DIFFERENT, d
		}
		far(i + 1)
		each(&adminpb.VerifyResponse{Result: r})
	}
	return n.fails()
}
