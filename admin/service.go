package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/isthmus-project/isthmus/admin/adminpb"
	"github.com/isthmus-project/isthmus/topology"
	"github.com/isthmus-project/isthmus/topology/gossip"
)

// service is the gRPC side of a node: it checks requests, asks this node and the others, shows each caller what is its matter,
// and gives errors their codes.
type service struct {
	adminpb.UnimplementedAdminServer
	self     string
	node     Node
	forward  *forward
	events   *Events
	audit    *audit
	keys     func() [][]byte
	drifts   places
	groups   places // of Groups and TranslateGroup
	checks   places // of Verify
	switches places
	log      *slog.Logger
	ending   <-chan struct{} // closed when the server stops: watches end
	now      func() time.Time
}

// Status implements the call of that name.
func (s *service) Status(ctx context.Context, req *adminpb.StatusRequest) (*adminpb.StatusResponse, error) {
	st, err := s.status(ctx, req.GetLink(), req.GetFabric())
	if err != nil {
		return nil, s.code("Status", err)
	}
	who := callerOf(ctx)
	for _, l := range st.GetLinks() {
		l.Flows = slices.DeleteFunc(l.GetFlows(), func(f *adminpb.Flow) bool { return !who.sees(f.GetTopic()) })
		for _, f := range l.GetFlows() {
			sum(f)
			if !req.GetPartitions() {
				f.Partitions = nil
			}
		}
	}
	return st, nil
}

// status is what one link does, or all do: here or, if the caller is no other node, in the whole fabric.
func (s *service) status(ctx context.Context, link string, fabric bool) (*adminpb.StatusResponse, error) {
	st, err := s.node.Status(ctx)
	if err != nil {
		return nil, err
	}
	if link != "" {
		st.Links = slices.DeleteFunc(st.GetLinks(), func(l *adminpb.Link) bool { return l.GetName() != link })
	}
	for _, l := range st.GetLinks() {
		for _, f := range l.GetFlows() {
			for _, p := range f.GetPartitions() {
				p.Node = s.self
			}
		}
	}
	if fabric && callerOf(ctx).peer == "" {
		all := []said{{s.self, st.GetLinks()}}
		replies := askAll(ctx, s.forward, s.peers(), func(ctx context.Context, p Peer) (*adminpb.StatusResponse, error) {
			return s.forward.status(ctx, p, link)
		})
		for i, r := range replies {
			if status.Code(r.err) == codes.NotFound {
				replies[i].err = nil // it does not know the link: it answered
			}
			if r.err == nil {
				all = append(all, said{r.node, r.answer.GetLinks()})
			}
		}
		st.Unanswered = unanswered(replies)
		if len(all) > 1 {
			st.Links = merge(all)
		}
	}
	if link != "" && len(st.GetLinks()) == 0 {
		return nil, fmt.Errorf("link %q: %w", link, ErrUnknown)
	}
	return st, nil
}

// peers are the other nodes.
func (s *service) peers() []Peer {
	peers := s.node.Peers()
	s.forward.keep(peers)
	return peers
}

// sum fills what a flow says about all its partitions.
func sum(f *adminpb.Flow) {
	f.PartitionCount = int32(len(f.GetPartitions()))
	f.Running, f.LagRecords, f.LagBytes, f.LagSeconds, f.Position = 0, 0, 0, 0, 0
	for _, p := range f.GetPartitions() {
		if p.GetState() == adminpb.State_STATE_RUNNING {
			f.Running++
		}
		f.LagRecords += max(0, p.GetLagRecords())
		f.LagBytes += max(0, p.GetLagBytes())
		f.LagSeconds = max(f.LagSeconds, p.GetLagSeconds())
		f.Position += max(0, p.GetSourceNext())
	}
}

// Translate implements the call of that name.
func (s *service) Translate(ctx context.Context, req *adminpb.TranslateRequest) (*adminpb.TranslateResponse, error) {
	err := fields(
		missing("link", req.GetLink(), "name a link of the topology"),
		missing("topic", req.GetTopic(), "name a topic that the link mirrors"),
		when(req.GetPartition() < 0, "partition", "%d is negative; partitions count from 0", req.GetPartition()),
		when(req.GetOffset() < 0, "offset", "%d is negative; give the offset of the next record to read", req.GetOffset()),
	)
	if who := callerOf(ctx); err == nil && !who.sees(req.GetTopic()) {
		err = fmt.Errorf("%w: %s is bound to %s, and topic %.300q is none of them", ErrDenied, who.name, list(who.topics.Strings()), req.GetTopic())
	}
	if err != nil {
		return nil, s.code("Translate", err)
	}
	res, err := s.translate(ctx, req)
	if err != nil {
		return nil, s.code("Translate", err)
	}
	return res, nil
}

// translate asks this node, and where that one does not know, the others.
func (s *service) translate(ctx context.Context, req *adminpb.TranslateRequest) (*adminpb.TranslateResponse, error) {
	res, err := s.node.Translate(ctx, req)
	if errors.Is(err, ErrElsewhere) && callerOf(ctx).peer == "" {
		return s.translateElsewhere(ctx, req)
	}
	return res, err
}

// translateElsewhere asks the owner, and if that one does not copy the partition (yet), everybody.
func (s *service) translateElsewhere(ctx context.Context, req *adminpb.TranslateRequest) (*adminpb.TranslateResponse, error) {
	owners, err := s.node.Owners(ctx)
	if err != nil {
		return nil, err
	}
	owner := ""
	for _, o := range owners {
		if o.GetLink() == req.GetLink() && o.GetTopic() == req.GetTopic() && o.GetPartition() == req.GetPartition() {
			owner = o.GetOwner()
		}
	}
	peers := s.peers()
	var trouble string
	if i := slices.IndexFunc(peers, func(p Peer) bool { return p.Name == owner }); i >= 0 {
		res, err := s.forward.translate(ctx, peers[i], req)
		if err == nil {
			return res, nil
		}
		trouble = fmt.Sprintf("; its owner is node %s: %s", owner, plain(err))
		peers = slices.Delete(slices.Clone(peers), i, i+1)
	}
	for _, r := range askAll(ctx, s.forward, peers, func(ctx context.Context, p Peer) (*adminpb.TranslateResponse, error) {
		return s.forward.translate(ctx, p, req)
	}) {
		if r.err == nil {
			return r.answer, nil
		}
	}
	return nil, fmt.Errorf("translate on link %s topic %s partition %d: no node that answers copies it%s: %w", req.GetLink(), req.GetTopic(),
		req.GetPartition(), trouble, ErrNotReady)
}

// Ledger implements the call of that name.
func (s *service) Ledger(req *adminpb.LedgerRequest, stream grpc.ServerStreamingServer[adminpb.LedgerEntry]) error {
	ctx, cancel := context.WithTimeout(stream.Context(), serveTimeout)
	defer cancel()
	entries, missing, err := s.ledger(ctx, req)
	if err != nil {
		return s.code("Ledger", err)
	}
	who := callerOf(ctx)
	for _, e := range entries {
		if !who.sees(e.GetTopic()) {
			continue
		}
		if err := stream.Send(e); err != nil {
			return err // of the stream, with its code
		}
	}
	if len(missing) > 0 {
		return stream.Send(&adminpb.LedgerEntry{Unanswered: missing})
	}
	return nil
}

func (s *service) ledger(ctx context.Context, req *adminpb.LedgerRequest) ([]*adminpb.LedgerEntry, []*adminpb.Unanswered, error) {
	entries, err := s.node.Ledger(ctx, req.GetLink())
	if !req.GetFabric() || callerOf(ctx).peer != "" {
		return entries, nil, err
	}
	known := err == nil
	if err != nil && !errors.Is(err, ErrUnknown) {
		return nil, nil, err
	}
	replies := askAll(ctx, s.forward, s.peers(), func(ctx context.Context, p Peer) ([]*adminpb.LedgerEntry, error) {
		return s.forward.ledger(ctx, p, req.GetLink())
	})
	for i, r := range replies {
		if status.Code(r.err) == codes.NotFound {
			replies[i].err = nil
			continue
		}
		known = known || r.err == nil
		entries = append(entries, r.answer...)
	}
	if !known {
		return nil, nil, err
	}
	return once(entries), unanswered(replies), nil
}

// once orders entries of several nodes, oldest first within a link, and leaves each once: an owner reads what the one before wrote.
func once(entries []*adminpb.LedgerEntry) []*adminpb.LedgerEntry {
	slices.SortStableFunc(entries, func(a, b *adminpb.LedgerEntry) int {
		return cmp.Or(cmp.Compare(a.GetLink(), b.GetLink()), a.GetAt().AsTime().Compare(b.GetAt().AsTime()), cmp.Compare(a.GetTopic(), b.GetTopic()),
			cmp.Compare(a.GetPartition(), b.GetPartition()), cmp.Compare(a.GetFirst(), b.GetFirst()), cmp.Compare(a.GetLast(), b.GetLast()),
			cmp.Compare(a.GetReason(), b.GetReason()), cmp.Compare(a.GetWriter(), b.GetWriter()))
	})
	return slices.CompactFunc(entries, func(a, b *adminpb.LedgerEntry) bool { return proto.Equal(a, b) })
}

// code gives an error its gRPC code. Errors that are nobody's request's fault are logged.
func (s *service) code(call string, err error) error {
	err = withCode(err)
	if status.Code(err) == codes.Internal {
		s.log.Error("admin call failed", "call", call, "error", err)
	}
	return err
}

// withCode gives an error its gRPC code.
func withCode(err error) error {
	var field *FieldError
	var faults topology.Errors
	c := codes.Internal
	switch {
	case errors.Is(err, ErrLogin):
		c = codes.Unauthenticated
	case errors.Is(err, ErrDenied):
		c = codes.PermissionDenied
	case errors.Is(err, gossip.ErrConflict):
		c = codes.Aborted
	case errors.Is(err, ErrConfirm):
		c = codes.FailedPrecondition
	case errors.Is(err, gossip.ErrFull), errors.Is(err, ErrBusy):
		c = codes.ResourceExhausted
	case errors.As(err, &field), errors.As(err, &faults), errors.Is(err, ErrInvalid):
		c = codes.InvalidArgument
	case errors.Is(err, ErrUnknown):
		c = codes.NotFound
	case errors.Is(err, ErrNotReady), errors.Is(err, ErrElsewhere):
		c = codes.Unavailable
	case errors.Is(err, context.Canceled):
		c = codes.Canceled
	case errors.Is(err, context.DeadlineExceeded):
		c = codes.DeadlineExceeded
	}
	return status.Error(c, shortened(valid(err.Error())))
}

// valid is a text that gRPC takes: else the client sees neither code nor message.
func valid(text string) string { return strings.ToValidUTF8(text, "?") }

// shortened keeps a message within what HTTP/2 headers of clients take.
func shortened(text string) string {
	const most = 6 << 10
	if len(text) > most {
		return strings.ToValidUTF8(text[:most], "") + "\n..."
	}
	return text
}

// fields joins the faults of a request.
func fields(faults ...*FieldError) error {
	var all error
	for _, f := range faults {
		if f != nil {
			all = errors.Join(all, f)
		}
	}
	return all
}

func missing(field, value, hint string) *FieldError {
	return when(value == "", field, "is empty; %s", hint)
}

func when(bad bool, field, format string, args ...any) *FieldError {
	if !bad {
		return nil
	}
	return &FieldError{field, fmt.Sprintf(format, args...)}
}
