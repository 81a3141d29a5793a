package apis

import (
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Deed is what the router does with a request and its answer.
type Deed uint8

// The deeds.
const (
	// Hide keeps a request from clients: they are not told of it, and who sends it anyway is hung up on, as brokers do.
	Hide Deed = iota
	// Forward passes request and answer on as they are.
	Forward
	// Patch passes them on with what the letters say written over.
	Patch
	// Answer answers at the router.
	Answer
)

// String gives the deed as the page names it.
func (d Deed) String() string { return [...]string{"hide", "forward", "patch", "answer here"}[d] }

// Letters say what a message has in it that belongs to one cluster and not to the virtual one.
type Letters uint8

// The letters, in the order in which they are written.
const (
	// Address is ids, hosts and ports of brokers.
	Address Letters = 1 << iota
	// Cluster is the cluster's id.
	Cluster
	// Topic is topics' ids.
	Topic
	// Epoch is epochs of leaders.
	Epoch
	// Offset is offsets of records.
	Offset
	// Producer is ids, epochs and sequences of producers.
	Producer
	// Group is members and generations of groups.
	Group
	// Version is versions of requests and features.
	Version
)

const letters = "ACTEOPGV"

// asAtHome are letters that have the home's real values until the first switch: who forwards them today leaks nothing.
const asAtHome = Offset | Producer | Group

// String writes the letters, "" for none.
func (l Letters) String() string {
	var b strings.Builder
	for i := range len(letters) {
		if l&(1<<i) != 0 {
			b.WriteByte(letters[i])
		}
	}
	return b.String()
}

// Row is what the router does with versions From to To of a request.
type Row struct {
	// Key is the request's.
	Key kmsg.Key
	// From and To are the first and the last version.
	From, To int16
	// Does is what is done.
	Does Deed
	// Request and Answer say what each of the two has in it.
	Request, Answer Letters
	// Why is a remark for the page; why it is hidden, if it is.
	Why string
}
