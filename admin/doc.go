// Package admin lets people and programs ask a running node, and through it the whole fabric: over gRPC what its links do and
// which node does it, where positions are on the other side, what is in the ledger, how everything is set, and the verbs that change
// it; over HTTP its metrics and its health.
//
// A [Server] speaks for a [Node], which the caller provides; this package knows no mirror. [Dial] is the other end, used by
// the command line. The API itself is described in adminpb/admin.proto; reflection and the standard gRPC health service are
// served beside it, so that grpcurl and probes work without files.
//
//	GET /metrics       Prometheus text format; for viewers of all topics
//	GET /livez         200 while the node's own loops run; clusters that cannot be reached do not matter
//	GET /startupz      200 once the node has started all that it runs
//	GET /readyz        200 while the node can do some of its work; not while it drains
//	GET /debug/pprof/  profiles; for admins
//
// # Who may
//
// Without identities everybody who reaches a listener may everything, so both listen on loopback addresses only; any other address
// needs TLS and at least one identity, unless [Config.Insecure] is set. A guard finds out who asks, a gate before every call asks for
// the right of rights.go, and calls look at what a request touches where the caller is bound to topics. Requests, connections and
// answers are bounded. docs/security.md tells people about it.
//
// # Any node
//
// A node answers from its own view. What others know is asked of them, one hop far and with a bound for each, and merged by pure
// functions; a node that does not answer is named. Writes need no other node here: what a node writes, gossip brings to all.
//
// Every write goes the same way: the node plans it, the caller's right to each setting of the plan is checked, what stops work
// needs the token of a dry run, the change is made whole or not at all, and the audit has a line.
package admin
