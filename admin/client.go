package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/isthmus-project/isthmus/admin/adminpb"
)

// ErrUnreachable is wrapped by the errors of a [Client] whose node does not answer: nothing listens, or nothing that speaks
// this API, or it is not ready, or too slow.
var ErrUnreachable = errors.New("the node cannot be reached")

// callTimeout bounds calls whose context has no deadline of its own.
const callTimeout = 10 * time.Second

// Client asks one node. Its methods may be called by any goroutine.
type Client struct {
	address string
	conn    *grpc.ClientConn
	api     adminpb.AdminClient
}

// Dial makes a client of the node at host:port. Nothing is dialled before the first call. Proxies of the environment are not
// used: the node is on this machine or near.
func Dial(address string, opts ...grpc.DialOption) (*Client, error) {
	if _, port, err := net.SplitHostPort(address); err != nil || port == "" {
		return nil, fmt.Errorf("dial node: %q is not host:port", address)
	}
	opts = append([]grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithNoProxy(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswerBytes)),
	}, opts...)
	conn, err := grpc.NewClient("passthrough:///"+address, opts...)
	if err != nil {
		return nil, fmt.Errorf("dial node %s: %w", address, err)
	}
	return &Client{address: address, conn: conn, api: adminpb.NewAdminClient(conn)}, nil
}

// Close ends the connection.
func (c *Client) Close() error { return c.conn.Close() }

// Status asks what a link does, or all links if link is empty.
func (c *Client) Status(ctx context.Context, link string, partitions bool) (*adminpb.StatusResponse, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	res, err := c.api.Status(ctx, &adminpb.StatusRequest{Link: link, Partitions: partitions})
	return res, c.explain(err)
}

// Translate asks for a position at the other end of a link.
func (c *Client) Translate(ctx context.Context, req *adminpb.TranslateRequest) (*adminpb.TranslateResponse, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	res, err := c.api.Translate(ctx, req)
	return res, c.explain(err)
}

// Ledger hands each entry of a link, or of all links if link is empty, to each. An error of each ends it and is returned as
// it is.
func (c *Client) Ledger(ctx context.Context, link string, each func(*adminpb.LedgerEntry) error) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	stream, err := c.api.Ledger(ctx, &adminpb.LedgerRequest{Link: link})
	if err != nil {
		return c.explain(err)
	}
	for {
		e, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return c.explain(err)
		}
		if err := each(e); err != nil {
			return err
		}
	}
}

func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, callTimeout)
}

// explain turns an error of gRPC into one for a person: the node's own words, without the wrapping of the transport.
func (c *Client) explain(err error) error {
	if err == nil {
		return nil
	}
	st := status.Convert(err)
	switch st.Code() {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Unimplemented:
		msg := strings.TrimPrefix(st.Message(), `connection error: desc = "transport: Error while dialing: `) // only to read better
		return fmt.Errorf("ask node %s: %w: %s", c.address, ErrUnreachable, strings.TrimSuffix(msg, `"`))
	case codes.Canceled:
		return context.Canceled
	case codes.NotFound:
		return &answer{st.Message(), ErrUnknown}
	}
	return errors.New(st.Message())
}

// answer is an error in the node's words that is still one of ours.
type answer struct {
	text string
	is   error
}

func (a *answer) Error() string { return a.text }
func (a *answer) Unwrap() error { return a.is }
