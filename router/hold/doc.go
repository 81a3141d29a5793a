// Package hold says what becomes of a client's request while the home of its set moves. It is a table, and knows nothing of connections.
//
// # Stages
//
//	Serving ──▶ Draining ──▶ Held ──▶ Serving, one generation on
//	   ▲           │           │
//	   └───────────┴───────────┘ the switch is given up
//
// An unplanned switch begins at Held with a home that is lost. Who is held longer than [Patience] is hung up on, in order, and comes back: no
// client's own deadline is as short (research with seven client libraries; the shortest is a request's ten seconds).
package hold
