// Package coordinator runs a switch: it does what the machine of router/switchover asks for, and tells it what came of it.
//
//	Run ──▶ switchover.Next (pure) ──▶ actions ──▶ Store (the logs), Instances (of the router), clusters, the mirror
//	 ▲                                                   │
//	 └───────────────────── events ◀─────────────────────┘
//
// Any node can run one, and several can run at once: the logs decide. Nothing is kept here that another one needs; whoever takes over
// begins at preflight with the order in the plan, and does all of it again.
package coordinator
