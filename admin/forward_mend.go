package admin

import (
	"context"
	"errors"
	"io"
	"math"
	"time"

	"google.golang.org/grpc"

	"github.com/isthmus-project/isthmus/admin/adminpb"
)

const (
	// anchorTimeout bounds what the node that copies a partition is waited for: it asks both clusters, and writes to one.
	anchorTimeout = 30 * time.Second
	// driftTimeout bounds what one other node is waited for: it asks both clusters for all that a link keeps alike.
	driftTimeout = 10 * time.Second
	// groupsTimeout is the same for the positions of a link's groups, of which there are many more.
	groupsTimeout = 30 * time.Second
)

// retry has one node make what it copies try.
func (f *forward) retry(ctx context.Context, p Peer, req *adminpb.RetryRequest) (*adminpb.RetryResponse, error) {
	return askPeer(ctx, f, p, peerTimeout, adminpb.Admin_Retry_FullMethodName, req,
		func(ctx context.Context, api adminpb.AdminClient, req *adminpb.RetryRequest, opts ...grpc.CallOption) (*adminpb.RetryResponse, error) {
			return api.Retry(ctx, req, opts...)
		})
}

// anchor has one node say where a partition goes on.
func (f *forward) anchor(ctx context.Context, p Peer, req *adminpb.AnchorRequest) (*adminpb.AnchorResponse, error) {
	return askPeer(ctx, f, p, anchorTimeout, adminpb.Admin_Anchor_FullMethodName, req,
		func(ctx context.Context, api adminpb.AdminClient, req *adminpb.AnchorRequest, opts ...grpc.CallOption) (*adminpb.AnchorResponse, error) {
			return api.Anchor(ctx, req, opts...)
		})
}

// drift has one node compare the ends of a link.
func (f *forward) drift(ctx context.Context, p Peer, req *adminpb.DriftRequest) (*adminpb.DriftResponse, error) {
	return askPeer(ctx, f, p, driftTimeout, adminpb.Admin_Drift_FullMethodName, req,
		func(ctx context.Context, api adminpb.AdminClient, req *adminpb.DriftRequest, opts ...grpc.CallOption) (*adminpb.DriftResponse, error) {
			return api.Drift(ctx, req, opts...)
		})
}

// groups has one node ask both ends of a link where groups stand.
func (f *forward) groups(ctx context.Context, p Peer, req *adminpb.GroupsRequest) (*adminpb.GroupsResponse, error) {
	return askPeer(ctx, f, p, groupsTimeout, adminpb.Admin_Groups_FullMethodName, req,
		func(ctx context.Context, api adminpb.AdminClient, req *adminpb.GroupsRequest, opts ...grpc.CallOption) (*adminpb.GroupsResponse, error) {
			return api.Groups(ctx, req, opts...)
		})
}

// verify has one node verify what it copies, and hands what it tells to each. It ends with ctx.
func (f *forward) verify(ctx context.Context, p Peer, req *adminpb.VerifyRequest, each func(*adminpb.VerifyResponse)) error {
	_, err := askPeer(ctx, f, p, math.MaxInt64, adminpb.Admin_Verify_FullMethodName, req,
		func(ctx context.Context, api adminpb.AdminClient, req *adminpb.VerifyRequest, opts ...grpc.CallOption) (struct{}, error) {
			stream, err := api.Verify(ctx, req, opts...)
			for err == nil {
				var m *adminpb.VerifyResponse
				if m, err = stream.Recv(); err == nil {
					each(m)
				}
			}
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return struct{}{}, err
		})
	return err
}
