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
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/isthmus-project/isthmus/admin/adminpb"
	"github.com/isthmus-project/isthmus/topology/gossip"
)

// Errors of a [Client], wrapped by what its calls return, in the node's own words.
var (
	// ErrUnreachable: nothing listens there, or nothing that speaks this API, or it is not ready, or too slow.
	ErrUnreachable = errors.New("the node cannot be reached")
	// ErrLogin: the node does not know the caller.
	ErrLogin = errors.New("the node does not know who asks")
	// ErrDenied: the role or the topics of the caller do not suffice.
	ErrDenied = errors.New("not allowed")
	// ErrConfirm: the write needs the token of a dry run, or the one it has no longer fits.
	ErrConfirm = errors.New("a confirm token is needed")
	// ErrInvalid: fields of the request cannot be used.
	ErrInvalid = errors.New("the request is not valid")
)

// keptAlive finds out that the other end of a connection is gone without a word: a watch would wait for ever.
var keptAlive = keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}

// callTimeout bounds calls whose context has no deadline of its own.
const callTimeout = 10 * time.Second

// Client asks one node, which answers for the fabric. Its methods may be called by any goroutine.
type Client struct {
	address string
	conn    *grpc.ClientConn
	api     adminpb.AdminClient
}

// Dial makes a client of the node at host:port. Nothing is dialled before the first call. Proxies of the environment are not
// used: the node is on this machine or near. [Login.Options] are for nodes that want to know who asks.
func Dial(address string, opts ...grpc.DialOption) (*Client, error) {
	if _, port, err := net.SplitHostPort(address); err != nil || port == "" {
		return nil, fmt.Errorf("dial node: %q is not host:port", address)
	}
	opts = append([]grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithNoProxy(),
		grpc.WithKeepaliveParams(keptAlive),
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

// Status asks the whole fabric what a link does, or all links if link is empty.
func (c *Client) Status(ctx context.Context, link string, partitions bool) (*adminpb.StatusResponse, error) {
	return ask(ctx, c, c.api.Status, &adminpb.StatusRequest{Link: link, Partitions: partitions, Fabric: true})
}

// LocalStatus asks for what the node itself does.
func (c *Client) LocalStatus(ctx context.Context, link string, partitions bool) (*adminpb.StatusResponse, error) {
	return ask(ctx, c, c.api.Status, &adminpb.StatusRequest{Link: link, Partitions: partitions})
}

// Translate asks for a position at the other end of a link.
func (c *Client) Translate(ctx context.Context, req *adminpb.TranslateRequest) (*adminpb.TranslateResponse, error) {
	return ask(ctx, c, c.api.Translate, req)
}

// Nodes asks for the members of the fabric.
func (c *Client) Nodes(ctx context.Context) (*adminpb.NodesResponse, error) {
	return ask(ctx, c, c.api.Nodes, &adminpb.NodesRequest{})
}

// Owners asks who copies the partitions of a topic; of all topics if topic is empty, and of all links if link is.
func (c *Client) Owners(ctx context.Context, link, topic string) (*adminpb.OwnersResponse, error) {
	return ask(ctx, c, c.api.Owners, &adminpb.OwnersRequest{Link: link, Topic: topic})
}

// Settings asks for the settings whose keys begin with prefix.
func (c *Client) Settings(ctx context.Context, prefix string) (*adminpb.SettingsResponse, error) {
	return ask(ctx, c, c.api.Settings, &adminpb.SettingsRequest{Prefix: prefix})
}

// History asks for the newest changes; a limit of 0 is the node's own.
func (c *Client) History(ctx context.Context, limit int32) (*adminpb.HistoryResponse, error) {
	return ask(ctx, c, c.api.History, &adminpb.HistoryRequest{Limit: limit})
}

// Export asks for the running configuration.
func (c *Client) Export(ctx context.Context) (*adminpb.ExportResponse, error) {
	return ask(ctx, c, c.api.Export, &adminpb.ExportRequest{})
}

// Diff asks what Apply of a file would change.
func (c *Client) Diff(ctx context.Context, file string) (*adminpb.WriteResponse, error) {
	return ask(ctx, c, c.api.Diff, &adminpb.DiffRequest{File: file})
}

// Pause stops partitions.
func (c *Client) Pause(ctx context.Context, req *adminpb.PauseRequest) (*adminpb.WriteResponse, error) {
	return ask(ctx, c, c.api.Pause, req)
}

// Resume takes pauses back.
func (c *Client) Resume(ctx context.Context, req *adminpb.ResumeRequest) (*adminpb.WriteResponse, error) {
	return ask(ctx, c, c.api.Resume, req)
}

// Retry makes what waits for its next attempt try now.
func (c *Client) Retry(ctx context.Context, req *adminpb.RetryRequest) (*adminpb.RetryResponse, error) {
	return ask(ctx, c, c.api.Retry, req)
}

// Anchor says where a partition goes on.
func (c *Client) Anchor(ctx context.Context, req *adminpb.AnchorRequest) (*adminpb.AnchorResponse, error) {
	ctx, cancel := patient(ctx)
	defer cancel()
	return ask(ctx, c, c.api.Anchor, req)
}

// Drift asks what differs between the two ends of a link.
func (c *Client) Drift(ctx context.Context, link string) (*adminpb.DriftResponse, error) {
	ctx, cancel := patient(ctx)
	defer cancel()
	return ask(ctx, c, c.api.Drift, &adminpb.DriftRequest{Link: link})
}

// Groups asks where groups stand on both ends of a link, or of all that keep their positions if link is empty; one group, or all if group is.
func (c *Client) Groups(ctx context.Context, link, group string) (*adminpb.GroupsResponse, error) {
	ctx, cancel := patient(ctx)
	defer cancel()
	return ask(ctx, c, c.api.Groups, &adminpb.GroupsRequest{Link: link, Group: group})
}

// TranslateGroup asks where the positions of a group are at the other end of a link.
func (c *Client) TranslateGroup(ctx context.Context, req *adminpb.TranslateGroupRequest) (*adminpb.TranslateGroupResponse, error) {
	ctx, cancel := patient(ctx)
	defer cancel()
	return ask(ctx, c, c.api.TranslateGroup, req)
}

// Routers asks how the instances of a router are, or of all if router is empty.
func (c *Client) Routers(ctx context.Context, router string) (*adminpb.RoutersResponse, error) {
	return ask(ctx, c, c.api.Routers, &adminpb.RoutersRequest{Router: router})
}

// RouterClients asks for connections of clients at a router, or at all if router is empty; limit 0 is the server's.
func (c *Client) RouterClients(ctx context.Context, router string, limit int32) (*adminpb.RouterClientsResponse, error) {
	return ask(ctx, c, c.api.RouterClients, &adminpb.RouterClientsRequest{Router: router, Limit: limit})
}

// Verify compares both ends of a link, and hands what is found to each, until all is. An error of each ends it and is returned as it
// is. A run may take as long as ctx lets it.
func (c *Client) Verify(ctx context.Context, req *adminpb.VerifyRequest, each func(*adminpb.VerifyResponse) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.api.Verify(ctx, req)
	if err != nil {
		return c.explain(err)
	}
	return receive(c, stream.Recv, each)
}

// Switch takes clients to another home, and hands each how far it is; the last has the outcome. It may take as long as ctx lets it; a switch that has begun goes
// on when ctx ends. An error of each ends it and is returned as it is.
func (c *Client) Switch(ctx context.Context, req *adminpb.SwitchRequest, each func(*adminpb.SwitchProgress) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.api.Switch(ctx, req)
	if err != nil {
		return c.explain(err)
	}
	return receive(c, stream.Recv, each)
}

// Ready asks whether clients could go to a cluster now, and what it would cost.
func (c *Client) Ready(ctx context.Context, req *adminpb.ReadyRequest) (*adminpb.ReadyResponse, error) {
	ctx, cancel := patient(ctx)
	defer cancel()
	return ask(ctx, c, c.api.Ready, req)
}

// Rehearse tries what a switch does, with a shadow topic.
func (c *Client) Rehearse(ctx context.Context, req *adminpb.RehearseRequest) (*adminpb.RehearseResponse, error) {
	ctx, cancel := patient(ctx)
	defer cancel()
	return ask(ctx, c, c.api.Rehearse, req)
}

// NoteDrill keeps how a drill ended.
func (c *Client) NoteDrill(ctx context.Context, d *adminpb.Drill) (*adminpb.Drill, error) {
	ctx, cancel := patient(ctx)
	defer cancel()
	res, err := ask(ctx, c, c.api.NoteDrill, &adminpb.NoteDrillRequest{Drill: d})
	return res.GetDrill(), err
}

// Drills asks for the newest drills of a router; a limit of 0 is the node's own.
func (c *Client) Drills(ctx context.Context, router string, limit int32) (*adminpb.DrillsResponse, error) {
	ctx, cancel := patient(ctx)
	defer cancel()
	return ask(ctx, c, c.api.Drills, &adminpb.DrillsRequest{Router: router, Limit: limit})
}

// Drain moves all work away from a node, or lets it take work again.
func (c *Client) Drain(ctx context.Context, req *adminpb.DrainRequest) (*adminpb.WriteResponse, error) {
	return ask(ctx, c, c.api.Drain, req)
}

// Set gives a setting a value.
func (c *Client) Set(ctx context.Context, req *adminpb.SetRequest) (*adminpb.WriteResponse, error) {
	return ask(ctx, c, c.api.Set, req)
}

// Unset takes a setting back.
func (c *Client) Unset(ctx context.Context, req *adminpb.UnsetRequest) (*adminpb.WriteResponse, error) {
	return ask(ctx, c, c.api.Unset, req)
}

// Undo takes a change back.
func (c *Client) Undo(ctx context.Context, req *adminpb.UndoRequest) (*adminpb.WriteResponse, error) {
	return ask(ctx, c, c.api.Undo, req)
}

// Apply makes a topology file the running configuration.
func (c *Client) Apply(ctx context.Context, req *adminpb.ApplyRequest) (*adminpb.WriteResponse, error) {
	return ask(ctx, c, c.api.Apply, req)
}

// RotateKey gives all nodes a new gossip key.
func (c *Client) RotateKey(ctx context.Context, req *adminpb.RotateKeyRequest) (*adminpb.RotateKeyResponse, error) {
	ctx, cancel := patient(ctx)
	defer cancel()
	return ask(ctx, c, c.api.RotateKey, req)
}

// Ledger hands each entry of a link, or of all links if link is empty, to each: of the whole fabric. A last one may have
// nothing but the nodes that did not answer. An error of each ends it and is returned as it is.
func (c *Client) Ledger(ctx context.Context, link string, each func(*adminpb.LedgerEntry) error) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	stream, err := c.api.Ledger(ctx, &adminpb.LedgerRequest{Link: link, Fabric: true})
	if err != nil {
		return c.explain(err)
	}
	return receive(c, stream.Recv, each)
}

// Watch hands each event to each until ctx ends; then it returns context.Canceled, or ErrUnreachable for a deadline. An error
// of each ends it and is returned as it is.
func (c *Client) Watch(ctx context.Context, req *adminpb.WatchRequest, each func(*adminpb.Event) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.api.Watch(ctx, req)
	if err != nil {
		return c.explain(err)
	}
	return receive(c, stream.Recv, each)
}

func ask[Req, Res any](ctx context.Context, c *Client, call func(context.Context, Req, ...grpc.CallOption) (Res, error), req Req) (Res, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	res, err := call(ctx, req)
	return res, c.explain(err)
}

func receive[M any](c *Client, recv func() (M, error), each func(M) error) error {
	for {
		m, err := recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return c.explain(err)
		}
		if err := each(m); err != nil {
			return err
		}
	}
}

// patient is for calls that ask more than one node or cluster for more than words.
func patient(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, patientTimeout)
}

func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, callTimeout)
}

// explained are the errors that codes stand for; the rest are words alone.
var explained = map[codes.Code]error{
	codes.NotFound: ErrUnknown, codes.Unauthenticated: ErrLogin, codes.PermissionDenied: ErrDenied,
	codes.FailedPrecondition: ErrConfirm, codes.InvalidArgument: ErrInvalid, codes.Aborted: gossip.ErrConflict,
	codes.ResourceExhausted: ErrBusy,
}

// explain turns an error of gRPC into one for a person: the node's own words, without the wrapping of the transport.
func (c *Client) explain(err error) error {
	if err == nil {
		return nil
	}
	st := status.Convert(err)
	switch st.Code() {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Unimplemented:
		return fmt.Errorf("ask node %s: %w: %s", c.address, ErrUnreachable, undialled(st.Message()))
	case codes.Canceled:
		return context.Canceled
	}
	if is := explained[st.Code()]; is != nil {
		return &answer{st.Message(), is}
	}
	return errors.New(st.Message())
}

// undialled takes the words of the transport off an error: it only reads better without.
func undialled(msg string) string {
	return strings.TrimSuffix(strings.TrimPrefix(msg, `connection error: desc = "transport: Error while dialing: `), `"`)
}

// answer is an error in the node's words that is still one of ours.
type answer struct {
	text string
	is   error
}

func (a *answer) Error() string { return a.text }
func (a *answer) Unwrap() error { return a.is }
