// Package switchover moves a router's set to another home. A switch is one state machine, which is pure: a coordinator feeds it with what happens and does
// what it asks for. Any node can be the coordinator, and take over at any step by a higher ballot (see router/generation).
//
//	preflight ──▶ prepare ──▶ hold ──▶ drain ──▶ cut ──▶ mirror ──▶ commit ──▶ release ──▶ verify ──▶ idle
//	    │            │ │        └──────(unplanned)─▶ └─(unplanned)───▶ ▲ │                    ▲        ▲
//	    │ refused    │ └──────── a value that may be decided ──────────┘ │ unknown, beaten    │        │
//	    ▼            ▼                                                   ▼                    │        │
//	   idle    idle (unknown, beaten)                                   idle                  │
//	         prepare, hold, drain, cut, mirror ──(stop, too late)──▶ rollback ────────────────┘ or idle (unknown)
//
//	prepare    a round is opened: from now on nobody gets a lease
//	hold       until all instances say that they take no new writes, or all leases are over
//	drain      until what was sent to the old home is answered, or all leases are over, so that no answer is passed on any more
//	cut        where the old home ends, and the new generation begins, is written down
//	mirror     until the new home has all of it, and the groups' positions
//	commit     the round decides the switch: the only step that changes anything
//	rollback   the round decides to stay
//
// A coordinator that is lost leaves an open round. Who takes over begins at preflight with the order in the plan, and prepares: a value that it finds may be decided,
// and is committed without another look, since whoever proposed it had waited and mirrored before. Where it finds none, nothing was changed, and it does all of it
// again. So each action can be done any number of times, and nothing but the logs has to be known.
//
// The directory model has the same machine for spin, with routers, leases and logs; the tests compare their steps.
package switchover
