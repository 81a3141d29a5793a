package hold

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Patience is how long a request is held at most.
const Patience = 7 * time.Second

// Phase is where the home of a set stands.
type Phase uint8

// The phases.
const (
	// Serving is all the time but at a switch: everything goes to the home.
	Serving Phase = iota
	// Draining lets what has begun come to its end at the home that will be left: no transaction begins any more.
	Draining
	// Held lets nothing through that changes the home that is left, or that would be told something which is different behind the switch.
	Held
	// Lost is Held where the home cannot be asked.
	Lost
)

// String gives the phase as status and metrics name it.
func (p Phase) String() string { return [...]string{"serving", "draining", "held", "lost"}[p] }

// Deed is what becomes of a request.
type Deed uint8

// The deeds.
const (
	// Forward sends it to the home.
	Forward Deed = iota
	// Wait holds it, and with it what the connection sends behind it, until another phase begins.
	Wait
	// Answer answers it at the router, see [Answered].
	Answer
)

// Of says what becomes of a request. open tells of one that belongs to a transaction whether that has begun; it is asked in the phase Draining only.
//
// What is done here, and why (router.md §4, and router-clients.md §6 where they differ):
//   - Produce waits: an error for it would have to go on for all that the client has in flight, and what is behind a lost one must not overtake it.
//   - Fetch and Metadata go to the home while it is there. They change nothing, and what they tell stays right until the connection is moved.
//   - Heartbeats are answered: a member that waits for one takes itself for dead, and the home must not take it for alive, because its group is to be empty there.
//   - Of groups all else waits. A commit that came behind the last look at the positions would be lost; whoever asked for a position would be told the old one.
//   - Transactions that have begun go on while they drain; those that have not wait, which is what a coordinator that is busy makes them do.
func Of(key int16, phase Phase, open func() bool) Deed {
	if phase == Serving {
		return Forward
	}
	switch kmsg.Key(key) {
	case kmsg.SASLHandshake, kmsg.SASLAuthenticate, kmsg.Metadata, kmsg.Fetch, kmsg.FindCoordinator, kmsg.DescribeCluster, kmsg.DescribeConfigs, kmsg.DescribeGroups,
		kmsg.ListGroups, kmsg.DescribeACLs, kmsg.DescribeProducers, kmsg.DescribeTransactions, kmsg.ListTransactions:
		if phase == Lost {
			return Wait
		}
		return Forward
	case kmsg.Heartbeat:
		if phase == Draining {
			return Forward
		}
		return Answer
	case kmsg.InitProducerID:
		return Wait // of a transaction; others never come here
	case kmsg.AddPartitionsToTxn, kmsg.AddOffsetsToTxn:
		if phase == Draining && open() {
			return Forward
		}
		return Wait
	}
	if phase == Draining {
		return Forward
	}
	return Wait
}

// Answered is the answer to a request for which [Of] says [Answer].
func Answered(key, version int16) kmsg.Response {
	m := kmsg.ResponseForKey(key)
	m.SetVersion(version)
	return m
}

// Writes reports whether a request changes something at the home: only when all of those that went there are answered is it known what the home has.
func Writes(key int16) bool {
	switch kmsg.Key(key) {
	case kmsg.Metadata, kmsg.Fetch, kmsg.ListOffsets, kmsg.OffsetFetch, kmsg.FindCoordinator, kmsg.Heartbeat, kmsg.JoinGroup, kmsg.SyncGroup, kmsg.DescribeCluster,
		kmsg.DescribeConfigs, kmsg.DescribeGroups, kmsg.ListGroups, kmsg.DescribeACLs, kmsg.DescribeProducers, kmsg.DescribeTransactions, kmsg.ListTransactions,
		kmsg.SASLHandshake, kmsg.SASLAuthenticate, kmsg.ApiVersions, kmsg.DescribeLogDirs, kmsg.ListPartitionReassignments, kmsg.DescribeClientQuotas,
		kmsg.DescribeUserSCRAMCredentials, kmsg.GetTelemetrySubscriptions, kmsg.PushTelemetry, kmsg.ListConfigResources:
		return false
	}
	return true
}
