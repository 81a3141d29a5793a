package admin

import (
	"context"
	"errors"
	"fmt"

	"github.com/isthmus-project/isthmus/admin/adminpb"
	"github.com/isthmus-project/isthmus/topology/gossip"
)

// Errors that a [Node] returns, wrapped, so that clients get the right gRPC code. Any other error is Internal. An error that
// wraps [gossip.ErrConflict] is Aborted; one that is a [FieldError], or joins several, is InvalidArgument.
var (
	// ErrUnknown: no such link, partition, node, setting or version. NotFound.
	ErrUnknown = errors.New("not known to this node")
	// ErrNotReady: the node cannot answer yet, or no more. Unavailable.
	ErrNotReady = errors.New("the node is not ready")
	// ErrElsewhere: another node copies that partition and would know. The server asks that one.
	ErrElsewhere = errors.New("another node copies that partition")
	// ErrBusy: the node does as much of that as it takes on at a time. ResourceExhausted.
	ErrBusy = errors.New("the node is busy with others of these")
)

// FieldError names a field of a request that cannot be used. InvalidArgument.
type FieldError struct {
	Field string // as in the .proto
	Msg   string // what is wrong with it, and what to do
}

// Error gives the field and what is wrong with it.
func (e *FieldError) Error() string { return fmt.Sprintf("%s: %s", e.Field, e.Msg) }

// Node is what a [Server] speaks for. It answers for itself and from its own view; the server asks the other nodes. Its
// methods may be called by any goroutine, at any time, and answer within the context. Messages that they return are the
// caller's, who changes them.
type Node interface {
	Settler
	Mender
	Porter
	Switcher
	// Status describes the node and all its links with all partitions, also those that are elsewhere; the sums of the
	// flows and what only the whole fabric knows (node, also) may be left out.
	Status(ctx context.Context) (*adminpb.StatusResponse, error)
	// Translate answers a request whose fields were checked; ErrUnknown for a link or partition that is not there,
	// ErrElsewhere for one whose offset map another node has.
	Translate(ctx context.Context, req *adminpb.TranslateRequest) (*adminpb.TranslateResponse, error)
	// KeepsGroups names the links that keep positions of groups alike, by the running configuration. It answers at once.
	KeepsGroups() []string
	// Groups tells where the groups of a link stand on both of its clusters, by asking both: one group, or all if group is empty. What
	// could not be learnt is its trouble; node and at are not its matter. ErrUnknown for a link that is not there. Where this node
	// cannot, such as for not reaching both, another one is asked.
	Groups(ctx context.Context, link, group string) (*adminpb.LinkGroups, error)
	// Ledger lists the entries of one link, or of all if link is empty; ErrUnknown for a link that is not there.
	Ledger(ctx context.Context, link string) ([]*adminpb.LedgerEntry, error)
	// Health is asked by probes, so it must answer at once and without I/O.
	Health() Health
	// Nodes describes the members of the fabric; divergent and owned too.
	Nodes(ctx context.Context) (*adminpb.NodesResponse, error)
	// Owners tells who should copy each partition of all links, and why, by this node's view. Copies, state and reason may
	// be left out.
	Owners(ctx context.Context) ([]*adminpb.Owner, error)
	// RotateKey gives all nodes a new gossip key, or goes on with the one before it, and tells how far each came. Its error is
	// for a rotation that could not begin; a node that kept it from its end is in the outcomes.
	RotateKey(ctx context.Context, resume bool) ([]*adminpb.KeyOutcome, error)
	// Peers are the other nodes of the fabric, without those that left. It answers at once.
	Peers() []Peer
}

// Mender is the part of a [Node] that looks into single partitions and ends their troubles. It acts for what the node copies itself.
type Mender interface {
	// Retry makes the partitions that the request chooses, that this node copies and that wait for their next attempt try now, and
	// returns their number. The topic is a pattern; empty is all. ErrUnknown for a link that is not there.
	Retry(ctx context.Context, req *adminpb.RetryRequest) (int, error)
	// Anchor tells what the request would do, and does it unless it is a dry run. Its fields were checked; confirm is not the
	// node's matter. Author is who wants it. The answer needs neither confirm nor node. ErrUnknown for a partition that is
	// not there, ErrElsewhere for one that another node copies; a [FieldError] for a place that cannot be.
	Anchor(ctx context.Context, req *adminpb.AnchorRequest, author string) (*adminpb.AnchorResponse, error)
	// Drift compares the two ends of a link. ErrUnknown for a link that is not there. Where this node cannot, such as for not reaching
	// both, another one is asked.
	Drift(ctx context.Context, link string) ([]*adminpb.Drift, error)
	// Verify compares partitions of one topic that this node copies: topic is a name, and partitions are not empty. It tells each
	// how far it is, by records, bytes and fraction, and the result of each partition when that is known; it may be called by
	// several goroutines and never blocks. A partition without a result was not verified. The error is for all that have none.
	Verify(ctx context.Context, req *adminpb.VerifyRequest, each func(*adminpb.VerifyResponse)) error
}

// Settler is the part of a [Node] that knows the settings.
type Settler interface {
	// Settings lists all settings that count, by key.
	Settings(ctx context.Context) (*adminpb.SettingsResponse, error)
	// History lists changes, the newest first, at most limit. The server numbers them.
	History(ctx context.Context, limit int) ([]*adminpb.PastChange, error)
	// Export writes the running configuration.
	Export(ctx context.Context) (*adminpb.ExportResponse, error)
	// Plan works out what a proposal would do and writes nothing. Its errors are all that is wrong, joined: FieldErrors
	// where a field of the request is to blame (key, value, file, version), ErrUnknown, or gossip.ErrConflict for an entry
	// whose base is no longer current.
	Plan(ctx context.Context, p Proposal) (*Plan, error)
	// Write makes a planned change the fabric's: all entries or none, or gossip.ErrConflict with who was faster.
	Write(ctx context.Context, change gossip.Change) (Written, error)
}

// Proposal is what somebody wants to change; exactly one of its fields is set.
type Proposal struct {
	// Entries are new values of settings: of set, unset, pause, resume and drain. An entry whose Base is zero stands for
	// the value that is there: the plan fills its base in.
	Entries []gossip.Entry
	// File is the text of a topology file to be run: of apply and diff.
	File string
	// Undo is the version of a change to take back.
	Undo gossip.Time
}

// Plan is what a proposal would do.
type Plan struct {
	// Change is to be written. Its entries have their bases; author, reason and version are not its matter. No entries:
	// everything is like that already.
	Change gossip.Change
	// Lines tell people what changes. The same change of the same state gives the same lines.
	Lines []string
	// Stops says what work ends by it, such as that of a link that is removed; empty: none. Such a plan needs a confirm token.
	Stops string
	// Touches are the parts of the fabric that change, now or later. Pauses need none: the server reads them from the entries.
	Touches []Touch
}

// Touch is a part of what one link mirrors. What is bound to no link, such as the log level, has none.
type Touch struct {
	Link string
	// Topics are patterns, as in a topology file. Without any, all topics of the link.
	Topics []string
	// Partitions by number; without any, all.
	Partitions []int32
}

// Written is the outcome of a write.
type Written struct {
	// Version of the change.
	Version gossip.Time
	// Note is for people: such as that the change was written without the node that orders them. Empty for nothing.
	Note string
}

// Peer is another node of the fabric.
type Peer struct {
	Name string
	// Address of its gRPC API, host:port.
	Address string
	// Trouble says why it need not be asked, such as since when it is dead; empty: ask it.
	Trouble string
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
