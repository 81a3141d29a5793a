// Package relay carries one client connection to one broker and back: one client connection is one upstream connection, so that order, quotas,
// principals and fetch sessions stay the broker's own.
//
//	          requests                         forward, patch
//	client ────────────▶ requests goroutine ────────────────────▶ broker
//	   ▲                     │ answered here        ┌───────────────┘
//	   │                     ▼                      ▼
//	   └──────────────── pending ◀──────── answers goroutine
//	       in the order of the requests
//
// Two goroutines at most, started by Run: one reads requests and one reads answers, from the moment on when something is to be forwarded. Whoever brings
// the head of what is pending to pass writes it to the client.
//
// # What a caller may rely on
//
// Bodies of Produce and Fetch and all that is only forwarded stream through one buffer of 64 kB, whatever their size; what is rewritten is
// collected first, bounded, in memory that grows with what arrived. When too much is pending nothing more is read. Each step of
// reading and writing has a deadline, so neither a silent nor a slow peer keeps anything for ever. Nothing that a client or a broker
// sends is believed before it is checked; what is wrong ends this connection and no other, with an [Error].
//
// A connection ends as a broker's does: what is answered is written, then FIN, then what the client still sends is thrown away for a
// while, so that no reset overtakes the answers. Only where the broker cannot be reached, or broke off before its first answer, is the client's
// connection reset: clients take a FIN in answer to their first request for a refused login or a wrong port, and some never try again.
package relay
