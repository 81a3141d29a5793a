package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/isthmus-project/isthmus/admin/adminpb"
)

// service is the gRPC side of a node: it checks requests, asks the node and gives errors their codes.
type service struct {
	adminpb.UnimplementedAdminServer
	node Node
	log  *slog.Logger
}

// Status implements the call of that name.
func (s *service) Status(ctx context.Context, req *adminpb.StatusRequest) (*adminpb.StatusResponse, error) {
	st, err := s.node.Status(ctx)
	if err != nil {
		return nil, s.code("Status", err)
	}
	if req.GetLink() != "" {
		if st.Links = choose(st.GetLinks(), req.GetLink()); st.Links == nil {
			return nil, s.code("Status", fmt.Errorf("link %q: %w", req.GetLink(), ErrUnknown))
		}
	}
	for _, l := range st.GetLinks() {
		for _, f := range l.GetFlows() {
			sum(f)
			if !req.GetPartitions() {
				f.Partitions = nil
			}
		}
	}
	return st, nil
}

// choose leaves the link of that name, or nothing.
func choose(links []*adminpb.Link, name string) []*adminpb.Link {
	for _, l := range links {
		if l.GetName() == name {
			return []*adminpb.Link{l}
		}
	}
	return nil
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
	var bad *FieldError
	switch {
	case req.GetLink() == "":
		bad = &FieldError{"link", "is empty; name a link of the topology"}
	case req.GetTopic() == "":
		bad = &FieldError{"topic", "is empty; name a topic that the link mirrors"}
	case req.GetPartition() < 0:
		bad = &FieldError{"partition", fmt.Sprintf("%d is negative; partitions count from 0", req.GetPartition())}
	case req.GetOffset() < 0:
		bad = &FieldError{"offset", fmt.Sprintf("%d is negative; give the offset of the next record to read", req.GetOffset())}
	}
	if bad != nil {
		return nil, s.code("Translate", bad)
	}
	res, err := s.node.Translate(ctx, req)
	if err != nil {
		return nil, s.code("Translate", err)
	}
	return res, nil
}

// Ledger implements the call of that name.
func (s *service) Ledger(req *adminpb.LedgerRequest, stream grpc.ServerStreamingServer[adminpb.LedgerEntry]) error {
	entries, err := s.node.Ledger(stream.Context(), req.GetLink())
	if err != nil {
		return s.code("Ledger", err)
	}
	for _, e := range entries {
		if err := stream.Send(e); err != nil {
			return err // of the stream, with its code
		}
	}
	return nil
}

// code gives an error its gRPC code. Errors that are nobody's request's fault are logged.
func (s *service) code(call string, err error) error {
	var field *FieldError
	c := codes.Internal
	switch {
	case errors.As(err, &field):
		c = codes.InvalidArgument
	case errors.Is(err, ErrUnknown):
		c = codes.NotFound
	case errors.Is(err, ErrNotReady):
		c = codes.Unavailable
	case errors.Is(err, context.Canceled):
		c = codes.Canceled
	case errors.Is(err, context.DeadlineExceeded):
		c = codes.DeadlineExceeded
	default:
		s.log.Error("admin call failed", "call", call, "error", err)
	}
	return status.Error(c, strings.ToValidUTF8(err.Error(), "?")) // else the client sees neither code nor message
}
