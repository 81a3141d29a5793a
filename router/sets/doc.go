// Package sets says what of a request is of another set of topics and groups than the connection that it came by, and what a client is answered
// then. A set has its own home and its own slots; one connection goes to one home.
//
// Clients find the slots of a set by themselves: Metadata and FindCoordinator name them. What still comes to the wrong slots comes from clients that
// have not heard that a topic or a group has moved, and they are told to look again. What only a connection to the right slots can do, such as making a topic of
// a set, is refused with POLICY_VIOLATION and words that say where to go.
package sets
