package admin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"path"
	"strconv"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"

	"github.com/isthmus-project/isthmus/admin/adminpb"
)

// gate stands before every gRPC call: it lets nobody through who is not known, or has not the right.
type gate struct {
	guard *guard
	peers *peerCheck
	audit *audit
}

// admit returns the caller of a method, and the digest that the request of another node must have.
func (g *gate) admit(ctx context.Context, method string) (caller, string, error) {
	r, open := rightOf(method)
	if open {
		return caller{}, "", nil
	}
	md, _ := metadata.FromIncomingContext(ctx)
	var conn *tls.ConnectionState
	var from net.Addr
	if p, ok := peer.FromContext(ctx); ok {
		from = p.Addr
		if info, ok := p.AuthInfo.(credentials.TLSInfo); ok {
			conn = &info.State
		}
	}
	var who caller
	var want string
	var err error
	if len(md.Get(peerName)) > 0 {
		if who, want, err = g.peers.who(md, method); errors.Is(err, errClock) {
			_ = grpc.SetTrailer(ctx, metadata.Pairs(peerTime, strconv.FormatInt(g.peers.now().UnixMilli(), 10))) // without it the node asks no more
		}
	} else {
		who, err = g.guard.who(ctx, md.Get("authorization"), conn, from)
	}
	call := path.Base(method)
	if err == nil {
		err = who.may(call, r)
	}
	if err != nil {
		g.audit.refused(ctx, deed{who: who, from: hostOf(from), verb: call}, err)
		return caller{}, "", err
	}
	return who, want, nil
}

func (g *gate) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	who, want, err := g.admit(ctx, info.FullMethod)
	if err == nil {
		err = matches(req, want)
	}
	if err != nil {
		return nil, withCode(err)
	}
	most := serveTimeout
	switch info.FullMethod {
	case adminpb.Admin_RotateKey_FullMethodName, adminpb.Admin_Anchor_FullMethodName, adminpb.Admin_Groups_FullMethodName, adminpb.Admin_TranslateGroup_FullMethodName,
		adminpb.Admin_Ready_FullMethodName, adminpb.Admin_Rehearse_FullMethodName:
		most = patientTimeout
	}
	ctx, cancel := context.WithTimeout(withCaller(ctx, who), most)
	defer cancel()
	return handler(ctx, req)
}

func (g *gate) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	who, want, err := g.admit(ss.Context(), info.FullMethod)
	if err != nil {
		return withCode(err)
	}
	again := func() error {
		_, _, err := g.admit(ss.Context(), info.FullMethod)
		return err
	}
	ctx := context.WithValue(withCaller(ss.Context(), who), againKey{}, again)
	return handler(srv, &admitted{ServerStream: ss, ctx: ctx, want: want})
}

type againKey struct{}

// stillMay asks again for what let a stream in.
func stillMay(ctx context.Context) error {
	if again, ok := ctx.Value(againKey{}).(func() error); ok {
		return again()
	}
	return nil
}

// admitted is a stream whose caller is known.
type admitted struct {
	grpc.ServerStream
	ctx  context.Context //nolint:containedctx // that is how gRPC hands it on
	want string
}

// Context has the caller in it.
func (a *admitted) Context() context.Context { return a.ctx }

// RecvMsg takes only the request that the credential was made for.
func (a *admitted) RecvMsg(m any) error {
	if err := a.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	if err := matches(m, a.want); err != nil {
		return withCode(err)
	}
	return nil
}

// matches checks a request against the digest of another node's credential.
func matches(req any, want string) error {
	if m, ok := req.(proto.Message); want == "" || ok && requestDigest(m) == want {
		return nil
	}
	return fmt.Errorf("%w: the credential of the node is of another request", ErrLogin)
}
