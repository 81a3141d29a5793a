package admin

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/isthmus-project/isthmus/admin/adminpb"
)

// Bounds of RouterClients.
const (
	usualClients = 1000
	maxClients   = 10_000
)

// Porter is the part of a [Node] that knows the routers that it runs itself. Names of nodes are not its matter.
type Porter interface {
	// Routers tells how they are: the one of that name, or all if router is empty. None is no error.
	Routers(ctx context.Context, router string) ([]*adminpb.Router, error)
	// Hurry has the router of that name read what was decided about its homes, and links make durable what they have copied. It does not wait.
	Hurry(router string)
	// Written has the sets of a router that Routers has told of say how far the logs of their homes go.
	Written(of *adminpb.Router)
	// Flush has links make durable what they have copied. It does not wait, and disturbs nothing, however often.
	Flush()
	// RouterClients lists the connections that are open at them.
	RouterClients(ctx context.Context, router string) ([]*adminpb.RouterClient, error)
}

// Routers implements the call of that name.
func (s *service) Routers(ctx context.Context, req *adminpb.RoutersRequest) (*adminpb.RoutersResponse, error) {
	peer := callerOf(ctx).peer != ""
	ask := &adminpb.RoutersRequest{Router: req.GetRouter(), Look: peer && req.GetLook(), Flush: peer && req.GetFlush(), Ends: peer && req.GetEnds()}
	res, err := s.routers(ctx, ask)
	if err != nil {
		return nil, s.code("Routers", err)
	}
	return res, nil
}

// AskRouters asks all nodes how the instances of a router are, and has them look at what was decided meanwhile.
func (s *Server) AskRouters(ctx context.Context, router string) (*adminpb.RoutersResponse, error) {
	return s.service.routers(ctx, &adminpb.RoutersRequest{Router: router, Look: true})
}

// AskWritten asks all nodes how the instances of a router are, and how far the logs of homes go by what those acknowledged to their clients.
func (s *Server) AskWritten(ctx context.Context, router string) (*adminpb.RoutersResponse, error) {
	return s.service.routers(ctx, &adminpb.RoutersRequest{Router: router, Ends: true})
}

// FlushRouters asks all nodes how the instances of a router are, and has their links make durable what they have copied: for who only wants to know.
func (s *Server) FlushRouters(ctx context.Context, router string) (*adminpb.RoutersResponse, error) {
	return s.service.routers(ctx, &adminpb.RoutersRequest{Router: router, Flush: true})
}

func (s *service) routers(ctx context.Context, req *adminpb.RoutersRequest) (*adminpb.RoutersResponse, error) {
	if req.GetLook() {
		s.node.Hurry(req.GetRouter())
	}
	if req.GetFlush() {
		s.node.Flush()
	}
	st, err := s.node.Status(ctx)
	if err != nil {
		return nil, err
	}
	res := &adminpb.RoutersResponse{Node: st.GetNode()}
	if res.Routers, err = s.node.Routers(ctx, req.GetRouter()); err != nil {
		return nil, err
	}
	for _, r := range res.GetRouters() {
		if r.Node = s.self; req.GetEnds() {
			s.node.Written(r)
		}
	}
	if callerOf(ctx).peer == "" {
		replies := askAll(ctx, s.forward, s.peers(), func(ctx context.Context, p Peer) (*adminpb.RoutersResponse, error) {
			return s.forward.routers(ctx, p, req)
		})
		for _, r := range replies {
			for _, one := range r.answer.GetRouters() {
				one.Node = r.node
				res.Routers = append(res.Routers, one)
			}
		}
		res.Unanswered = unanswered(replies)
		if req.GetRouter() != "" && len(res.GetRouters())+len(res.GetUnanswered()) == 0 {
			return nil, fmt.Errorf("router %.300q: %w", req.GetRouter(), ErrUnknown)
		}
	}
	slices.SortFunc(res.GetRouters(), func(a, b *adminpb.Router) int {
		return cmp.Or(cmp.Compare(a.GetName(), b.GetName()), cmp.Compare(a.GetNode(), b.GetNode()))
	})
	return res, nil
}

// RouterClients implements the call of that name.
func (s *service) RouterClients(ctx context.Context, req *adminpb.RouterClientsRequest) (*adminpb.RouterClientsResponse, error) {
	limit := cmp.Or(int(req.GetLimit()), usualClients)
	if err := fields(when(limit < 0 || limit > maxClients, "limit", "%d is not between 0 and %d", limit, maxClients)); err != nil {
		return nil, s.code("RouterClients", err)
	}
	res, err := s.routerClients(ctx, req, limit)
	if err != nil {
		return nil, s.code("RouterClients", err)
	}
	return res, nil
}

func (s *service) routerClients(ctx context.Context, req *adminpb.RouterClientsRequest, limit int) (*adminpb.RouterClientsResponse, error) {
	st, err := s.node.Status(ctx)
	if err != nil {
		return nil, err
	}
	res := &adminpb.RouterClientsResponse{Node: st.GetNode()}
	if res.Clients, err = s.node.RouterClients(ctx, req.GetRouter()); err != nil {
		return nil, err
	}
	for _, c := range res.GetClients() {
		c.Node = s.self
	}
	res.Total = int64(len(res.GetClients()))
	who := callerOf(ctx)
	if who.peer == "" {
		ask := proto.CloneOf(req)
		if who.scoped() { // what the caller may see is among all
			ask.Limit = maxClients
		}
		replies := askAll(ctx, s.forward, s.peers(), func(ctx context.Context, p Peer) (*adminpb.RouterClientsResponse, error) {
			return s.forward.routerClients(ctx, p, ask)
		})
		for _, r := range replies {
			for _, c := range r.answer.GetClients() {
				c.Node = r.node
			}
			res.Clients, res.Total = append(res.Clients, r.answer.GetClients()...), res.Total+r.answer.GetTotal()
		}
		res.Unanswered = unanswered(replies)
	}
	who.bindClients(res)
	slices.SortFunc(res.GetClients(), func(a, b *adminpb.RouterClient) int {
		return cmp.Or(cmp.Compare(b.GetBytesIn()+b.GetBytesOut(), a.GetBytesIn()+a.GetBytesOut()), cmp.Compare(a.GetRouter(), b.GetRouter()),
			cmp.Compare(a.GetNode(), b.GetNode()), cmp.Compare(a.GetSlot(), b.GetSlot()), strings.Compare(a.GetAddress(), b.GetAddress()))
	})
	res.Clients = res.GetClients()[:min(limit, len(res.GetClients()))]
	return res, nil
}

// bindClients leaves of clients, and of their topics, what a caller may know.
func (c caller) bindClients(res *adminpb.RouterClientsResponse) {
	if !c.scoped() {
		return
	}
	res.Clients = slices.DeleteFunc(res.GetClients(), func(one *adminpb.RouterClient) bool {
		hidden := func(topic string) bool { return !c.sees(topic) }
		one.Produces, one.Fetches = slices.DeleteFunc(one.GetProduces(), hidden), slices.DeleteFunc(one.GetFetches(), hidden)
		return len(one.GetProduces())+len(one.GetFetches()) == 0
	})
	res.Total = int64(len(res.GetClients()))
}

// routers asks one node for the routers that it runs.
func (f *forward) routers(ctx context.Context, p Peer, req *adminpb.RoutersRequest) (*adminpb.RoutersResponse, error) {
	return askPeer(ctx, f, p, peerTimeout, adminpb.Admin_Routers_FullMethodName, req,
		func(ctx context.Context, api adminpb.AdminClient, req *adminpb.RoutersRequest, opts ...grpc.CallOption) (*adminpb.RoutersResponse, error) {
			return api.Routers(ctx, req, opts...)
		})
}

// routerClients asks one node for the clients at its routers.
func (f *forward) routerClients(ctx context.Context, p Peer, req *adminpb.RouterClientsRequest) (*adminpb.RouterClientsResponse, error) {
	return askPeer(ctx, f, p, peerTimeout, adminpb.Admin_RouterClients_FullMethodName, req,
		func(ctx context.Context, api adminpb.AdminClient, req *adminpb.RouterClientsRequest, opts ...grpc.CallOption) (*adminpb.RouterClientsResponse, error) {
			return api.RouterClients(ctx, req, opts...)
		})
}
