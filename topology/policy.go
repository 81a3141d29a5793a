package topology

import "time"

// Policy is what a link does where a log went wrong, and what it warns of. Of a parsed file none of its fields is empty.
type Policy struct {
	// TruncatedSource is for a source that lost records which are on the target.
	TruncatedSource OnTruncatedSource
	// Recreated is for a topic that was deleted and created again, on either side.
	Recreated OnRecreated
	// Deleted is for a topic that is no longer on the source. DeletedAfter is how long it has to be gone before FollowDelete deletes
	// it on the target.
	Deleted      OnDeleted
	DeletedAfter time.Duration
	// GroupsDeleted is for a consumer group that has no positions on the source any more, by hand or because they expired. FollowDelete takes
	// those away that the link has set on the target and nobody has moved, after DeletedAfter too.
	GroupsDeleted OnDeleted
	// Poison is for records that the target cannot take, or nobody can read.
	Poison OnPoison
	// Headroom: less time than this until the source's retention reaches what is not copied yet is warned of.
	Headroom time.Duration
	// StuckAfter is how long the last stable offset may stand still under a growing log before that is called a stuck transaction.
	StuckAfter time.Duration
}

// The defaults of a policy's times.
const (
	DefaultDeletedAfter = 24 * time.Hour
	DefaultHeadroom     = time.Hour
	DefaultStuckAfter   = time.Minute
)

// OnTruncatedSource is what a link does where the source lost records that were copied.
type OnTruncatedSource string

// What a link may do there.
const (
	// FreezeTruncated halts the partition until somebody decides.
	FreezeTruncated OnTruncatedSource = "freeze"
	// KeepTruncated keeps what the target has, notes it in the ledger and goes on with the source's new records.
	KeepTruncated OnTruncatedSource = "keep"
)

// OnRecreated is what a link does with a topic that was deleted and created again.
type OnRecreated string

// What a link may do there.
const (
	// HaltRecreated halts the topic's partitions until somebody decides.
	HaltRecreated OnRecreated = "halt"
	// NewIncarnation copies the new topic behind the old one's records, with an entry of the ledger between them.
	NewIncarnation OnRecreated = "new-incarnation"
)

// OnDeleted is what a link does with what the target has of a topic, or of a group, that is gone from the source.
type OnDeleted string

// What a link may do there.
const (
	// KeepDeleted leaves the target's as it is.
	KeepDeleted OnDeleted = "keep"
	// FollowDelete deletes it after a time of grace.
	FollowDelete OnDeleted = "follow"
)

// OnPoison is what a link does with records that cannot be copied.
type OnPoison string

// What a link may do there.
const (
	// HaltPoison halts the partition before them.
	HaltPoison OnPoison = "halt"
	// DeadLetter writes them, as they are, to the target's dead-letter topic with where they come from and why, and goes on.
	DeadLetter OnPoison = "dead-letter"
	// SkipPoison notes them in the ledger and goes on.
	SkipPoison OnPoison = "skip"
)

// Keeps is what a link keeps alike on both sides, beside the records.
type Keeps struct {
	// Configs and ConfigsExclude choose the settings of topics by name; Exclude wins. None: settings are copied only when a
	// topic is made.
	Configs, ConfigsExclude Patterns
	// ACLs: rights on the link's topics and its groups. Quotas: of clients.
	ACLs, Quotas bool
}

// Rates are bounds of what a link reads, in bytes per second as they are on the wire, all nodes together; 0 is no limit. They are shared
// by the partitions that each node copies.
type Rates struct {
	// Flows bounds topics, each by itself: see Flow. By pattern.
	Flows []FlowRate
	// Cold bounds, for each source broker, the reads of pumps that are far behind: they evict its page cache.
	Cold int64
}

// FlowRate bounds each topic that matches.
type FlowRate struct {
	Topics Pattern
	Bytes  int64
}
