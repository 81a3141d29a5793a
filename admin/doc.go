// Package admin lets people and programs ask a running node: over gRPC what its links do, where positions are on the other
// side and what is in the ledger; over HTTP its metrics and its health.
//
// A [Server] speaks for a [Node], which the caller provides; this package knows no mirror. [Dial] is the other end, used by
// the command line. The API itself is described in adminpb/admin.proto; reflection and the standard gRPC health service are
// served beside it, so that grpcurl and probes work without files.
//
//	GET /metrics   Prometheus text format
//	GET /livez     200 while the node's own loops run; clusters that cannot be reached do not matter
//	GET /startupz  200 once the node has started all that it runs
//	GET /readyz    200 while the node can do some of its work; not while it drains
//
// # What is open
//
// Neither listener has TLS or a login yet. So both listen on loopback addresses only, and any other address is refused
// unless [Config.Insecure] is set. Requests, connections and answers are bounded.
package admin
