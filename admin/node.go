package admin

import (
	"context"
	"errors"
	"fmt"

	"github.com/isthmus-project/isthmus/admin/adminpb"
)

// Errors that a [Node] returns, wrapped, so that clients get the right gRPC code. Any other error is Internal.
var (
	// ErrUnknown: no such link or partition on this node. NotFound.
	ErrUnknown = errors.New("not known to this node")
	// ErrNotReady: the node cannot answer yet, or no more. Unavailable.
	ErrNotReady = errors.New("the node is not ready")
)

// FieldError names a field of a request that cannot be used. InvalidArgument.
type FieldError struct {
	Field string // as in the .proto
	Msg   string // what is wrong with it, and what to do
}

// Error gives the field and what is wrong with it.
func (e *FieldError) Error() string { return fmt.Sprintf("%s: %s", e.Field, e.Msg) }

// Node is what a [Server] speaks for. Its methods may be called by any goroutine, at any time.
type Node interface {
	// Status describes the node and all its links with all partitions; the sums of the flows may be left out. The message
	// is the caller's, who changes it.
	Status(ctx context.Context) (*adminpb.StatusResponse, error)
	// Translate answers a request whose fields were checked; ErrUnknown for a link or partition that is not there.
	Translate(ctx context.Context, req *adminpb.TranslateRequest) (*adminpb.TranslateResponse, error)
	// Ledger lists the entries of one link, or of all if link is empty; ErrUnknown for a link that is not there.
	Ledger(ctx context.Context, link string) ([]*adminpb.LedgerEntry, error)
	// Health is asked by probes, so it must answer at once and without I/O.
	Health() Health
}

// Health is the state of a node as probes see it. nil is yes; an error is no, and why, in words for a person.
type Health struct {
	// Live: the node's own loops run. A process that is not live should be restarted.
	Live error
	// Started: all that the node runs was started.
	Started error
	// Ready: the node can do some of its work.
	Ready error
}
