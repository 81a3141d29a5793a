// Package gossip runs fleets of gossiping nodes in one testing/synctest bubble, on a network of its own: packets and streams with
// a delay for each pair of data centers, loss, cuts of one direction and splits. A minute of fifty nodes takes seconds, and no
// node knows that its network is none. What a seed decides is delay and loss; memberlist's own choices are random.
package gossip
