// Package members takes consumer groups of the classic protocol to another home: what a member is told that the old home knew and the new one does not.
// It is pure, but for a lock.
//
// # A member's way
//
//	            Heartbeat, SyncGroup: rebalance in progress
//	            OffsetCommit: taken over, as of no member, while the group is empty there
//	            LeaveGroup: done
//	┌───────┐
//	│ stale │ ── JoinGroup ──▶ asks for an id at the new home ──▶ behind the barrier, ──▶ joins with it, and hears of it
//	└───────┘                                                     until all that were     when all others have
//	                                                              known are back                    │
//	                                                                                           joined: as ever
//
// All seven client libraries that were tried take that for an ordinary rebalance, commit before it, and keep the partitions that they keep in one (research:
// router-clients.md §2). Any other error makes one or another drop its positions or show an error; a first member that joins before the others have committed makes their commits
// refused.
package members
