package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/isthmus-project/isthmus/admin/adminpb"
)

const (
	// peerTimeout bounds what one other node is waited for. People wait for the slowest.
	peerTimeout = 2 * time.Second
	// peersAtOnce bounds the nodes that are asked at the same time, and with it the memory that their answers take.
	// It is for all calls together: a caller may make many.
	peersAtOnce = 16
)

// forward asks other nodes for what they know. It asks each for itself alone: what was forwarded is never forwarded again.
type forward struct {
	self  string
	keys  func() [][]byte
	certs *nodeCerts // nil without TLS
	now   func() time.Time
	dial  func(ctx context.Context, address string) (net.Conn, error) // nil: the network

	slots chan struct{} // one for each node that is being asked

	mu     sync.Mutex // not held while asking
	conns  map[string]*peerConn
	closed bool
}

// peerConn is the standing connection to one address.
type peerConn struct {
	conn *grpc.ClientConn
	api  adminpb.AdminClient
	skew time.Duration // of the other clock, as far as known
}

func newForward(self string, keys func() [][]byte, certs *nodeCerts, now func() time.Time, dial func(context.Context, string) (net.Conn, error)) *forward {
	return &forward{self: self, keys: keys, certs: certs, now: now, dial: dial, slots: make(chan struct{}, peersAtOnce)}
}

// close ends all connections.
func (f *forward) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.conns {
		c.conn.Close() //nolint:errcheck // nothing is left to be done with it
	}
	f.conns, f.closed = nil, true
}

// to returns the connection to an address.
func (f *forward) to(address string) (*peerConn, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c := f.conns[address]; c != nil {
		return c, nil
	}
	if f.closed {
		return nil, ErrNotReady
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("its address %.100q is not host:port", address)
	}
	secure := insecure.NewCredentials()
	if f.certs != nil {
		secure = credentials.NewTLS(f.certs.client(host))
	}
	opts := []grpc.DialOption{
		grpc.WithTransportCredentials(secure), grpc.WithNoProxy(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswerBytes)),
		grpc.WithKeepaliveParams(keptAlive),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 200 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: peerTimeout},
			MinConnectTimeout: peerTimeout,
		}),
	}
	if f.dial != nil {
		opts = append(opts, grpc.WithContextDialer(f.dial))
	}
	conn, err := grpc.NewClient("passthrough:///"+address, opts...)
	if err != nil {
		return nil, err
	}
	c := &peerConn{conn: conn, api: adminpb.NewAdminClient(conn)}
	if f.conns == nil {
		f.conns = make(map[string]*peerConn)
	}
	f.conns[address] = c
	return c, nil
}

// keep closes the connections to addresses that no node has any more.
func (f *forward) keep(peers []Peer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	maps.DeleteFunc(f.conns, func(address string, c *peerConn) bool {
		if slices.ContainsFunc(peers, func(p Peer) bool { return p.Address == address }) {
			return false
		}
		c.conn.Close() //nolint:errcheck // nothing is left to be done with it
		return true
	})
}

// askPeer makes one call of one node, and waits for it no longer than within; call gets a context with the credential.
func askPeer[Req proto.Message, Res any](ctx context.Context, f *forward, p Peer, within time.Duration, method string, req Req,
	call func(context.Context, adminpb.AdminClient, Req, ...grpc.CallOption) (Res, error)) (Res, error) {
	var none Res
	if p.Trouble != "" {
		return none, errors.New(p.Trouble)
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	conn, err := f.to(p.Address)
	if err != nil {
		return none, err
	}
	for again := false; ; again = true {
		var trailer metadata.MD
		res, err := call(f.sign(ctx, conn, p, method, req), conn.api, req, grpc.Trailer(&trailer))
		if err == nil || again || !f.correct(conn, err, trailer) {
			return res, err
		}
	}
}

// sign adds the credential of this call.
func (f *forward) sign(ctx context.Context, c *peerConn, p Peer, method string, req proto.Message) context.Context {
	f.mu.Lock()
	skew := c.skew
	f.mu.Unlock()
	s := seal{from: f.self, to: p.Name, asks: ascii(callerOf(ctx).name), method: method,
		at: f.now().Add(skew).UnixMilli(), digest: requestDigest(req)}
	return metadata.NewOutgoingContext(ctx, s.sign(f.keys()))
}

// correct takes over the time of a node that refused ours.
func (f *forward) correct(c *peerConn, err error, trailer metadata.MD) bool {
	if status.Code(err) != codes.Unauthenticated {
		return false
	}
	at, bad := strconv.ParseInt(single(trailer, peerTime), 10, 64)
	if bad != nil {
		return false
	}
	skew := time.UnixMilli(at).Sub(f.now())
	if skew.Abs() > maxSkew {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	c.skew = skew
	return true
}

// reply is what one node said.
type reply[T any] struct {
	node   string
	answer T
	err    error
}

// askAll asks all peers at once, and returns what they said by name.
func askAll[T any](ctx context.Context, f *forward, peers []Peer, askOne func(context.Context, Peer) (T, error)) []reply[T] {
	replies := make([]reply[T], len(peers))
	var all sync.WaitGroup
	for i, p := range peers {
		all.Go(func() {
			select {
			case f.slots <- struct{}{}:
				defer func() { <-f.slots }()
			case <-ctx.Done():
				replies[i] = reply[T]{node: p.Name, err: fmt.Errorf("it was not asked, because this node asks for too many callers at once: %w", ctx.Err())}
				return
			}
			answer, err := askOne(ctx, p)
			replies[i] = reply[T]{p.Name, answer, err}
		})
	}
	all.Wait()
	slices.SortFunc(replies, func(a, b reply[T]) int { return cmp.Compare(a.node, b.node) })
	return replies
}

// status asks one node what it does itself.
func (f *forward) status(ctx context.Context, p Peer, link string) (*adminpb.StatusResponse, error) {
	return askPeer(ctx, f, p, peerTimeout, adminpb.Admin_Status_FullMethodName, &adminpb.StatusRequest{Link: link, Partitions: true},
		func(ctx context.Context, api adminpb.AdminClient, req *adminpb.StatusRequest, opts ...grpc.CallOption) (*adminpb.StatusResponse, error) {
			return api.Status(ctx, req, opts...)
		})
}

// translate asks one node for a position.
func (f *forward) translate(ctx context.Context, p Peer, req *adminpb.TranslateRequest) (*adminpb.TranslateResponse, error) {
	return askPeer(ctx, f, p, peerTimeout, adminpb.Admin_Translate_FullMethodName, req,
		func(ctx context.Context, api adminpb.AdminClient, req *adminpb.TranslateRequest, opts ...grpc.CallOption) (*adminpb.TranslateResponse, error) {
			return api.Translate(ctx, req, opts...)
		})
}

// ledger asks one node for its ledger.
func (f *forward) ledger(ctx context.Context, p Peer, link string) ([]*adminpb.LedgerEntry, error) {
	return askPeer(ctx, f, p, peerTimeout, adminpb.Admin_Ledger_FullMethodName, &adminpb.LedgerRequest{Link: link},
		func(ctx context.Context, api adminpb.AdminClient, req *adminpb.LedgerRequest, opts ...grpc.CallOption) ([]*adminpb.LedgerEntry, error) {
			stream, err := api.Ledger(ctx, req, opts...)
			if err != nil {
				return nil, err
			}
			var entries []*adminpb.LedgerEntry
			for size := 0; ; {
				e, err := stream.Recv()
				if errors.Is(err, io.EOF) {
					return entries, nil
				}
				if err != nil {
					return nil, err
				}
				if size += proto.Size(e); size > maxAnswerBytes {
					return nil, fmt.Errorf("its ledger is larger than %d bytes", maxAnswerBytes)
				}
				entries = append(entries, e)
			}
		})
}

// unanswered names those that did not answer, and why.
func unanswered[T any](replies []reply[T]) []*adminpb.Unanswered {
	var out []*adminpb.Unanswered
	for _, r := range replies {
		if r.err != nil {
			out = append(out, &adminpb.Unanswered{Node: r.node, Trouble: plain(r.err)})
		}
	}
	return out
}

// plain is an error without the words of the transport.
func plain(err error) string {
	st, ok := status.FromError(err)
	switch {
	case !ok:
		return valid(err.Error())
	case st.Code() == codes.DeadlineExceeded:
		return "it did not answer in time"
	case st.Code() == codes.Unimplemented:
		return "it is of a version that does not know this call"
	}
	return valid(undialled(st.Message()))
}

// ascii is a name as metadata may have it.
func ascii(name string) string {
	text := []byte(name)
	for i, b := range text {
		if b < ' ' || b > '~' {
			text[i] = '?'
		}
	}
	return string(text)
}
