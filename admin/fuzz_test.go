package admin

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/isthmus-project/isthmus/admin/adminpb"
	"github.com/isthmus-project/isthmus/topology"
	"github.com/isthmus-project/isthmus/topology/gossip"
)

// sink takes what a stream sends, up to a number of messages.
type sink struct {
	grpc.ServerStream
	ctx  context.Context
	left int
}

func (s *sink) Context() context.Context     { return s.ctx }
func (s *sink) SendHeader(metadata.MD) error { return nil }
func (s *sink) SetTrailer(metadata.MD)       {}
func (s *sink) SendMsg(any) error            { s.left--; return s.full() }
func (s *sink) full() error {
	if s.left < 0 {
		return io.ErrShortWrite
	}
	return nil
}

// FuzzRequests gives every call of the API any bytes for a request, by callers of every sort. Nothing may panic; what comes back is an
// answer or an error with a code that is the request's fault; and nothing is written that gossip would refuse.
func FuzzRequests(f *testing.F) {
	text := func(fields ...string) (out []byte) {
		for i, v := range fields {
			out = protowire.AppendTag(out, protowire.Number(i+1), protowire.BytesType)
			out = protowire.AppendString(out, v)
		}
		return out
	}
	anchor, err := proto.Marshal(&adminpb.AnchorRequest{Link: "eu-us", Topic: "payments", Partition: 1, At: adminpb.AnchorAt_ANCHOR_AT_OFFSET, Offset: 7, Why: "w",
		Confirm: "0123456789@7"})
	if err != nil {
		f.Fatal(err)
	}
	calls := len(adminpb.Admin_ServiceDesc.Methods) + len(adminpb.Admin_ServiceDesc.Streams)
	for i := range calls {
		for _, who := range []byte{0, 1, 2} {
			f.Add(byte(i), who, text("eu-us", "orders"))
			f.Add(byte(i), who, text("link/eu-us/topics", "orders", "why"))
			f.Add(byte(i), who, text("pause/eu-us/orders/1,2", "{}"))
			f.Add(byte(i), who, text("1763751600000.0@eu-1"))
			f.Add(byte(i), who, text("eu-us", "~(a|b)*", "3"))
			f.Add(byte(i), who, anchor)
			f.Add(byte(i), who, append(text("shop", "fast", "us"), 32, 1))
			f.Add(byte(i), who, []byte{8, 1, 16, 1, 24, 255, 255, 255, 255, 15})
			f.Add(byte(i), who, []byte("\x0a\x05eu-us\x1a\x03\x01\x02\x03\x29\x00\x00\x00\x00\x00\x00\xf0\x7f"))
		}
	}
	orders, err := topology.ParsePattern("orders*")
	if err != nil {
		f.Fatal(err)
	}
	callers := []caller{{name: "ana", role: topology.Administrator}, {name: "bob", role: topology.Operator, topics: topology.Patterns{orders}}, {name: "b", role: topology.Viewer, peer: "b"}}
	f.Fuzz(func(t *testing.T, call, who byte, request []byte) {
		node := newFake("a")
		s := aService(node)
		ctx, cancel := context.WithCancel(withCaller(t.Context(), callers[int(who)%len(callers)]))
		defer cancel()
		answer, err := serveBytes(ctx, cancel, s, int(call)%calls, request)
		switch code := status.Code(err); code {
		case codes.OK, codes.InvalidArgument, codes.NotFound, codes.PermissionDenied, codes.FailedPrecondition, codes.Aborted, codes.Canceled:
		default:
			t.Errorf("got %v", err)
		}
		if len(status.Convert(err).Message()) > 16<<10 || proto.Size(answer) > 1<<20 {
			t.Errorf("the answer is too large: %v", err)
		}
		for _, done := range node.anchored {
			if who%3 == 1 && !strings.Contains(done, " orders:") {
				t.Errorf("bob, who is bound to orders, did %q", done)
			}
		}
		for _, v := range node.settings.All() {
			if err := (gossip.Change{Entries: []gossip.Entry{{Key: v.Key, Value: v.Value}}}).Check(); err != nil {
				t.Errorf("it wrote what no node takes: %v", err)
			}
			if who%3 == 1 && !strings.HasPrefix(v.Key, "pause/") && !strings.HasPrefix(v.Key, "link/us-eu") {
				t.Errorf("bob, who is bound to orders, wrote %q", v.Key)
			}
		}
	})
}

// serveBytes gives one call its request as gRPC does.
func serveBytes(ctx context.Context, cancel context.CancelFunc, s *service, call int, request []byte) (proto.Message, error) {
	unary := adminpb.Admin_ServiceDesc.Methods
	decode := func(m any) error {
		if err := proto.Unmarshal(request, m.(proto.Message)); err != nil {
			return status.Error(codes.InvalidArgument, "it does not parse")
		}
		return nil
	}
	if call < len(unary) {
		answer, err := unary[call].Handler(s, ctx, decode, nil)
		m, _ := answer.(proto.Message)
		return m, err
	}
	to := &sink{ctx: ctx, left: 1000}
	switch adminpb.Admin_ServiceDesc.Streams[call-len(unary)].StreamName {
	case "Ledger":
		var req adminpb.LedgerRequest
		if err := decode(&req); err != nil {
			return nil, err
		}
		return nil, s.Ledger(&req, &grpc.GenericServerStream[adminpb.LedgerRequest, adminpb.LedgerEntry]{ServerStream: to})
	case "Switch":
		var req adminpb.SwitchRequest
		if err := decode(&req); err != nil {
			return nil, err
		}
		return nil, s.Switch(&req, &grpc.GenericServerStream[adminpb.SwitchRequest, adminpb.SwitchProgress]{ServerStream: to})
	case "Verify":
		var req adminpb.VerifyRequest
		if err := decode(&req); err != nil {
			return nil, err
		}
		return nil, s.Verify(&req, &grpc.GenericServerStream[adminpb.VerifyRequest, adminpb.VerifyResponse]{ServerStream: to})
	case "Watch":
		var req adminpb.WatchRequest
		if err := decode(&req); err != nil {
			return nil, err
		}
		cancel() // it would watch for ever
		return nil, s.Watch(&req, &grpc.GenericServerStream[adminpb.WatchRequest, adminpb.Event]{ServerStream: to})
	}
	return nil, status.Error(codes.Internal, "the fuzzer does not know this stream")
}

// FuzzCredential gives the check of nodes' credentials any metadata: nobody gets in without the key.
func FuzzCredential(f *testing.F) {
	good := sealed("a", "b", "m").sign([][]byte{fabricKey})
	f.Add("a", "ana", single(good, peerTime), single(good, peerNonce), single(good, peerDigest), single(good, peerMAC))
	f.Add("", "", "", "", "", "")
	f.Add("a", "ana", "-9223372036854775808", strings.Repeat("0", 32), strings.Repeat("0", 64), strings.Repeat("0", 64))
	f.Fuzz(func(t *testing.T, from, asks, at, nonce, digest, mac string) {
		p := newPeerCheck("b", func() [][]byte { return [][]byte{[]byte("a key that the fuzzer does not have")} }, false, time.Now)
		md := metadata.Pairs(peerName, from, peerFor, asks, peerTime, at, peerNonce, nonce, peerDigest, digest, peerMAC, mac)
		if who, _, err := p.who(md, "m"); err == nil {
			t.Errorf("%v got in", who)
		}
	})
}
